"""What the verbs that make sounds share: requests as the command line gives them, and sounds as files and rows."""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from audio_vaegan.audio import Stream, write
from audio_vaegan.errors import UserError
from audio_vaegan.models.controls import Between
from audio_vaegan.sound_model.address import address_of, after
from audio_vaegan.sound_model.model import SoundModel
from audio_vaegan.sound_model.sounds import Clip, Sound

Asked = Mapping[str, Sequence[Any]]  # control -> numbers, names of classes, or one pair (low, high)
PEAK, SILENT = -1.0, 1e-4  # dBFS, to which a sound is brought; a peak (linear) below which it is only raised so far
ClipT = TypeVar("ClipT", bound=Clip)
Wanted = dict[str, Any]  # control -> a list of numbers or names, or one Between


def wanted(model: SoundModel, asked: Asked) -> Wanted:
    """Requests of the command line, checked against the model; "class" stands for the model's class label.

    Raises UserError for an unknown control, values outside the trained range, a range among other values.
    """
    found: Wanted = {}
    for flag, values in asked.items():
        name = _control_name(model, flag)
        pairs = [v for v in values if isinstance(v, tuple)]
        if pairs and len(values) > 1:
            raise UserError(f"--{flag}: give numbers, or one range LOW:HIGH, not several")
        found[name] = Between(*pairs[0]) if pairs else list(values)
    model.check(**found)
    return found


def _control_name(model: SoundModel, name: str) -> str:
    if name != "class":
        return name
    found = [c.name for c in model.controls.values() if c.classes]
    if not found:
        raise UserError("--class: this model was trained without classes (model.class_label)")
    return found[0]


def check_draw(seed: int, truncation: float) -> None:
    """Refuse what no draw can be made with, before anything is written."""
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed must lie in 0 ... 2^63 - 1, got {seed}")
    if not 0 <= truncation <= 2:
        raise UserError(f"--truncation must lie in 0 ... 2, got {truncation:g}")


def told(model: SoundModel) -> list[str]:
    """What a model is, and what it can be asked, in lines."""
    about = {k.replace("_", " "): v for k, v in model.bundle.about.items() if isinstance(v, str | int)}
    lines = [
        f"{model.clip_samples / model.sample_rate:.3f} s at {model.sample_rate} Hz, mono",
        f"vocoder: {model.vocoder_title}",
        f"model hash: {model.hash}",
        *(f"{name}: {value}" for name, value in about.items()),
        f"samples come from {model.prior_title}",
    ]
    for name, c in model.controls.items():
        flag = f"--class ({name})" if c.classes else f"--{name.replace('_', '-')}"
        lines.append(f"{flag}: {', '.join(c.classes) or f'{c.low:.2f} to {c.high:.2f} {c.unit}'}")
    moves = [f"{n} ({d.low:.2f} to {d.high:.2f})" for n, d in model.directions.items()]
    return [*lines, *(["edit --move: " + ", ".join(moves)] if moves else [])]


def encode_file(model: SoundModel, path: Path, **known: float) -> tuple[Sound, list[str]]:
    """The latents of a sound file, and lines of what should be known of them. Raises UserError for a silent one."""
    audio, most = model.heard(path), model.clip_samples
    if audio[:most].abs().max() < SILENT:
        first = f" in its first {most / model.sample_rate:.3f} s, which are used" if len(audio) > most else ""
        raise UserError(f"{path}: silent{first}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        sound = model.encode(audio, **known)
    notes = [*other_form(path, model), *(f"note: {w.message}" for w in caught)]
    undefined = [name for name in model.controls if sound.controls[name].isnan().any()]
    if undefined:
        notes.append(f"note: undefined for {path.name}: {', '.join(undefined)}")
    for name, control in model.controls.items():
        value, slack = float(sound.controls[name][0]), 0.01 * (control.high - control.low)
        if not control.classes and (value < control.low - slack or value > control.high + slack):  # not for NaN
            notes.append(
                f"note: {name} of {path.name} ({value:.2f}) lies outside the trained range "
                f"{control.low:g} ... {control.high:g} {control.unit}"
            )
    return sound, notes


def other_form(path: Path, model: SoundModel) -> list[str]:
    """What is to be known of a file of another sample rate or number of channels than a model's sounds; a line or
    none."""
    file = Stream(path)
    if (file.source_rate, file.channels) == (model.sample_rate, 1):
        return []
    was = f"{file.source_rate} Hz, {file.channels} channel{'s' * (file.channels > 1)}"
    return [f"note: {path.name} has {was}; the result is at the model's {model.sample_rate} Hz, mono"]


def gain_to_peak(peak: float) -> float:
    """dB that bring a peak (linear) to `PEAK`."""
    return round(PEAK - 20 * math.log10(max(peak, SILENT)), 4)


def unlimited(model: SoundModel, clip: ClipT) -> ClipT:
    """A clip that full scale has cut off, as it is without; any other as it is."""
    if clip.audio.abs().max() < 1:
        return clip
    return replace(clip, audio=model.decode(clip.sound(), limit=False).audio)


def gain_within(audio: Tensor) -> float:
    """dB, 0 or less, by which audio fits into a file."""
    peak = float(audio.abs().max())
    return gain_to_peak(peak) if peak > 1 else 0.0


def turned_down(gain: float) -> list[str]:
    """What is to be known of a sound that was turned down by a gain in dB; a line or none."""
    return [f"too loud for a file: turned down by {-gain:.1f} dB to a peak of {PEAK:g} dBFS"] if gain else []


def write_sound(file: Path, model: SoundModel, clip: Clip, k: int = 0, gain: float = 0.0) -> str:
    """Write sound `k` of a clip by a gain in dB, tagged as AI-generated with its address, which is returned."""
    sound = clip.sound()
    address = address_of(model, sound, k, gain)
    audio = after(clip.audio[k], model.sample_rate, int(sound.samples[k]), gain, None)
    write(file, audio.numpy(), model.sample_rate, address)
    return address


def row(model: SoundModel, clip: Clip | None, k: int, file: str, **made: Any) -> str:
    """The line of `metadata.jsonl` for sound `k` of a clip: what was asked with its unit (null: undefined, or a sound
    without one request), `made`, and the model."""
    requested = {name: shown(model, name, float(clip.controls[name][k])) if clip else None for name in model.controls}
    line = {
        "file_name": file,
        **{f"{name}_requested": value for name, value in requested.items()},
        **{f"{name}_unit": control.unit for name, control in model.controls.items()},
        **made,
        "model_hash": model.hash,
        "vocoder": model.vocoder_title,
        "synthetic": True,
    }
    return json.dumps(line, allow_nan=False) + "\n"


def shown(model: SoundModel, name: str, value: float) -> str | float | None:
    """A value of a control for a file: a class by its name, a number to four digits, None where it is undefined."""
    return None if math.isnan(value) else model.controls[name].show(round(value, 4))
