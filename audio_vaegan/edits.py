"""The verbs `edit`, `morph` and `transfer`: sound files through a model, changed or mixed."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from audio_vaegan.audio import MAX_SECONDS, write
from audio_vaegan.descriptors import DESCRIPTORS
from audio_vaegan.errors import UserError
from audio_vaegan.files import check_out_folder, check_out_sound, new_folder
from audio_vaegan.sound_model import BATCH, Edited, Sound, SoundModel
from audio_vaegan.sound_model.editing import least_brightness
from audio_vaegan.sound_model.mixing import envelope_control, join, morph, transfer
from audio_vaegan.sound_model.writing import encode_file, gain_within, row, turned_down, unlimited, write_sound

MAX_STEPS = 1000
FADE, SLIDE = 0.05, 0.01  # seconds of a sweep's cross-fades, and by which a step may begin later to fit


def edit_file(
    path: Path,
    sound_path: Path,
    out: Path,
    *,
    shift: Mapping[str, float] | None = None,
    to: Mapping[str, float] | None = None,
    move: Mapping[str, float] | None = None,
    closed_loop: bool = False,
    input_pitch: float | None = None,
    overwrite: bool = False,
    vocoder: str = "auto",
) -> str:
    """Write `sound_path` with controls moved by `shift` or `to` values in their units, and moved along directions.

    Returns what was asked and what was achieved, in lines.
    """
    if input_pitch is not None and not 0 <= input_pitch <= 127:
        raise UserError(f"--input-pitch must lie in 0 ... 127 (MIDI), got {input_pitch:g}")
    check_out_sound(out, sound_path, overwrite)
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    sound, notes = encode_file(model, sound_path, **({} if input_pitch is None else {"pitch": input_pitch}))
    if not (shift or to or move):
        notes.append("note: no change was asked; this is the plain reconstruction")
    lowest = too_dark(model, sound, shift or {}, to or {})
    if lowest is not None:
        notes.append(f"note: {raised(lowest)}")
        shift = {n: v for n, v in (shift or {}).items() if n != "brightness"}
        to = {**(to or {}), "brightness": lowest}
    result = model.edit(sound, shift=shift, set=to, move=move, closed_loop=closed_loop)
    result = unlimited(model, result)
    gain = gain_within(result.audio)
    if gain:
        found = model.measure(result.audio * 10 ** (gain / 20), sound.samples)
        result = replace(result, achieved=found)
    notes += [f"note: {line}" for line in turned_down(gain)]
    write_sound(out, model, result, gain=gain)
    moved = [f"{name}: moved by {amount:g}" for name, amount in (move or {}).items()]
    return "\n".join([*notes, *_said(model, sound, result), *moved, _written(out, model)])


def too_dark(model: SoundModel, sound: Sound, shift: Mapping[str, float], to: Mapping[str, float]) -> float | None:
    """The least brightness of a note of the pitch that is asked, where less is asked and the model knows it."""
    asked = {n: to.get(n, float(v[0]) + shift.get(n, 0.0)) for n, v in sound.controls.items()}
    lowest = least_brightness(sound, torch.tensor([asked.get("pitch", math.nan)]))
    if lowest is None or not asked["brightness"] < float(lowest) - 0.01:  # never where one is undefined
        return None
    control = model.controls["brightness"]
    return float(lowest) if control.low <= float(lowest) <= control.high else None


def raised(lowest: float) -> str:
    """What is to be known where less brightness was asked than a note can have."""
    return f"at that pitch the fundamental alone is brighter than what is asked; brightness set to {lowest:.2f}"


def _said(model: SoundModel, sound: Sound, result: Edited) -> list[str]:
    """A line for each control of an edit."""
    lines = []
    for name, control in model.controls.items():
        if control.classes:
            lines.append(f"{name}: {control.show(float(result.requested[name]))} (the model's own guess)")
            continue
        own, asked, found = (_shown(v[name]) for v in (sound.controls, result.requested, result.achieved))
        off = abs(float(result.requested[name]) - float(result.achieved[name]))
        missed = "" if math.isnan(float(result.requested[name])) or off <= _tolerance(name) else " (missed)"
        lines.append(f"{name}: input {own}, requested {asked}, measured {found} {control.unit}{missed}")
    return lines


def _tolerance(name: str) -> float:
    """How far from what was asked a control may be found, in its unit."""
    return 0.5 if name == "pitch" else DESCRIPTORS[name].tolerance


def _shown(value: Tensor) -> str:
    return "undefined" if math.isnan(float(value)) else f"{float(value):.2f}"


def _written(out: Path, model: SoundModel) -> str:
    return f"written: {out} (AI-generated, vocoder: {model.vocoder_title})"


def transfer_file(
    path: Path, timbre: Path, envelope: Path, out: Path, *, overwrite: bool = False, vocoder: str = "auto"
) -> str:
    """Write the timbre of one sound file under the pitch and envelope of another. Returns what was asked and
    achieved, in lines."""
    for file in (timbre, envelope):
        check_out_sound(out, file, overwrite)
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    controls = list(model.controls.values())
    (a, notes), (b, more) = encode_file(model, timbre), encode_file(model, envelope)
    sound = transfer(a, b, controls)
    clip = model.decode(sound, limit=False)
    gain = gain_within(clip.audio)
    notes += [f"note: {line}" for line in turned_down(gain)]
    found = model.measure(clip.audio * 10 ** (gain / 20), sound.samples)
    write_sound(out, model, clip, gain=gain)
    lines = []
    for c in controls:
        source = envelope if envelope_control(c) else timbre
        asked = c.show(float(sound.controls[c.name])) if c.classes else _shown(sound.controls[c.name])
        heard = "" if c.classes else f", measured {_shown(found[c.name])} {c.unit}"
        lines.append(f"{c.name}: {asked} of {source.name}{heard}")
    return "\n".join([*dict.fromkeys([*notes, *more]), *lines, _written(out, model)])


def morph_files(
    path: Path,
    first: Path,
    second: Path,
    out: Path,
    *,
    steps: int = 9,
    sweep: bool = False,
    overwrite: bool = False,
    vocoder: str = "auto",
) -> list[str]:
    """Write a folder of `steps` sounds on the way from one sound file to another, and `metadata.jsonl`; with `sweep`
    also all of them as one sound, `sweep.wav`. Returns lines of what should be known."""
    if not 2 <= steps <= MAX_STEPS:
        raise UserError(f"--steps must lie in 2 ... {MAX_STEPS}, got {steps}")
    check_out_folder(out, "sounds", overwrite)
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    (a, notes), (b, more) = encode_file(model, first), encode_file(model, second)
    with new_folder(out, "sounds", overwrite) as folder:
        write_path(model, a, b, steps, folder, sweep)
    return list(dict.fromkeys([*notes, *more]))


def write_path(model: SoundModel, a: Sound, b: Sound, steps: int, folder: Path, sweep: bool = False) -> list[Path]:
    """Write `steps` sounds on the way from one sound to another into `folder`, and `metadata.jsonl`; with `sweep` also
    all of them as one sound, `sweep.wav`. Returns the sounds' files. Raises UserError for a sweep of over an hour."""
    shares = torch.linspace(0, 1, steps, dtype=torch.float64)
    sound = morph(a, b, shares, list(model.controls.values()))
    seconds = int(sound.samples.sum()) / model.sample_rate
    if sweep and seconds > MAX_SECONDS:
        raise UserError(f"--sweep: {seconds:.0f} s of sound, more than {MAX_SECONDS:.0f} s; ask for fewer --steps")
    digits = max(2, len(str(steps - 1)))
    files, pieces = [folder / f"{i:0{digits}d}.wav" for i in range(steps)], []
    with (
        (folder / "metadata.jsonl").open("w") as rows,
        tqdm(total=steps, desc="morph", unit="sound", delay=1) as bar,
    ):
        for index in torch.arange(steps).split(BATCH):
            part = sound.rows(index)
            clip = model.decode(part, limit=False)
            for k, i in enumerate(index.tolist()):
                gain = gain_within(clip.audio[k])
                address = write_sound(files[i], model, clip, k, gain)
                share = round(float(shares[i]), 6)
                rows.write(row(model, clip, k, files[i].name, share=share, item=i, address=address))
                if sweep:
                    pieces.append(clip.audio[k, : int(part.samples[k])] * 10 ** (gain / 20))
            bar.update(len(index))
        if sweep:
            whole = join(pieces, round(FADE * model.sample_rate), round(SLIDE * model.sample_rate)).clamp(-1, 1)
            write(folder / "sweep.wav", whole.numpy(), model.sample_rate, f"model {model.hash[:12]} morph 0 to 1")
            rows.write(row(model, None, 0, "sweep.wav", share=None, item=None, address=None))
    return files
