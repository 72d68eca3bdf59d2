"""What a model does with sounds of yours, as a dozen short files and a picture: the verb `showcase`."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audio_vaegan.audio import write, write_recording
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.pictures import spectrogram_grid
from audio_vaegan.files import check_out_folder, new_folder, write_atomic
from audio_vaegan.sound_model import Sound, SoundModel
from audio_vaegan.sound_model.writing import encode_file

CHANGES = {"pitch": 7.0, "brightness": 8.0, "decay": 60.0}  # in the controls' units: the first two that a sound has
STEPS, SAMPLES = 5, 2
COLUMNS = 4  # of the picture


def showcase(
    path: Path, first: Path, second: Path, out: Path, *, seed: int = 0, overwrite: bool = False, vocoder: str = "auto"
) -> list[str]:
    """Write a folder of short OGG files and `sounds.png`: the first sound as it is, through the vocoder alone,
    reconstructed, changed by controls, on its way to the second one, and new sounds of the same pitch, if it has one.
    Returns a line for each, and what should be known."""
    check_out_folder(out, "sounds", overwrite)
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    if not model.encodes:
        raise UserError(
            f"{path}: a GAN, which has no encoder: it has nothing to show of a sound; audio-vaegan generate"
        )
    (a, notes), (b, more) = encode_file(model, first), encode_file(model, second)
    real = model.heard(first)[: model.clip_samples]
    lines, shown = [], {"real": real}
    with new_folder(out, "sounds", overwrite) as folder:
        write_recording(folder / "real.ogg", real, model.sample_rate)
        for name, audio, text in _made(model, a, b, real, seed):
            write(folder / f"{name}.ogg", audio, model.sample_rate, f"model {model.hash[:12]}")
            shown[name] = audio
            lines.append(f"{name}.ogg: {text}")
        picture = _picture(shown, model)
        write_atomic(folder / "sounds.png", picture)
    return [*dict.fromkeys([*notes, *more]), f"real.ogg: {first.name}", *lines]


def _picture(sounds: dict[str, Tensor], model: SoundModel) -> bytes:
    """All of them, each under its name, as long as a clip of the model."""
    names = [*sounds, *[""] * (-len(sounds) % COLUMNS)]
    whole = torch.zeros(len(names), model.clip_samples)
    for into, audio in zip(whole, sounds.values(), strict=False):
        into[: len(audio)] = audio
    rows = range(0, len(names), COLUMNS)
    cells = [list(whole[i : i + COLUMNS].numpy()) for i in rows]
    return spectrogram_grid(cells, [names[i : i + COLUMNS] for i in rows], [""] * len(cells), model.sample_rate)


def _made(model: SoundModel, a: Sound, b: Sound, real: Tensor, seed: int) -> Iterator[tuple[str, Tensor, str]]:
    """The sounds that are made, each with its file's name and what it is in words."""
    n = int(a.samples)
    padded = torch.zeros(1, model.clip_samples)
    padded[0, : len(real)] = real
    yield (
        "copy",
        model.vocode(model.log_mel(padded))[0, :n],
        "its mel through the vocoder: as good as any model could be",
    )
    yield "reconstructed", model.decode(a).audio[0, :n], "encoded and decoded"
    for name, amount in _changes(model, a):
        edited = model.edit(a, shift={name: amount}, closed_loop=True)
        unit = model.controls[name].unit
        text = f"asked {float(edited.requested[name]):.2f}, measured {float(edited.achieved[name]):.2f} {unit}"
        yield f"{name}{amount:+.0f}", edited.audio[0, :n], f"{name} {amount:+g}: {text}"
    way = model.morph(a, b, torch.linspace(0, 1, STEPS, dtype=torch.float64))
    for k, audio in enumerate(model.decode(way).audio):
        share = 100 * k // (STEPS - 1)
        yield f"morph-{k + 1}", audio[: int(way.samples[k])], f"{share} % of the way to the second sound"
    pitch = model.controls.get("pitch")
    asked: dict[str, Any] = (
        {} if pitch is None or a.controls["pitch"].isnan().any() else {"pitch": float(a.controls["pitch"])}
    )
    if pitch is not None and asked:
        asked["pitch"] = min(max(asked["pitch"], pitch.low), pitch.high)
    for k, audio in enumerate(model.sample(SAMPLES, seed=seed, closed_loop=bool(asked), **asked).audio):
        yield f"sample-{k + 1}", audio, f"new, from {model.prior_title}" + (", at its pitch" if asked else "")


def _changes(model: SoundModel, sound: Sound) -> Iterator[tuple[str, float]]:
    """Two controls that the sound has, and how far each moves: the other way where the range ends before."""
    left = 2
    for name, amount in CHANGES.items():
        value = float(sound.controls[name]) if name in model.controls else math.nan
        if math.isnan(value) or not left:
            continue
        control = model.controls[name]
        amounts = [x for x in (amount, -amount) if control.low <= value + x <= control.high]
        if amounts:
            left -= 1
            yield name, amounts[0]
