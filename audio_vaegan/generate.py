"""The verbs `generate` and `edit`: sounds of a model, as files."""

import json
import warnings
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audio_vaegan.audio import write
from audio_vaegan.errors import UserError
from audio_vaegan.files import check_out_sound, new_folder
from audio_vaegan.sound_model import BATCH, Clip, SoundModel


def generate(
    path: Path,
    out: Path,
    count: int,
    asked: dict[str, list[float] | list[str]],
    seed: int,
    truncation: float,
    overwrite: bool,
    vocoder: str = "auto",
) -> int:
    """Write `count` sounds and `metadata.jsonl` (AudioFolder layout: `file_name`, what was asked, seed, model).

    `asked` holds the values of each control, repeated over the sounds; "class" stands for the model's class label.
    """
    if not 1 <= count <= 1_000_000:
        raise UserError(f"--count must lie in 1 ... 1000000, got {count}")
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed must lie in 0 ... 2^63 - 1, got {seed}")
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    asked = {_control_name(model, name): values for name, values in asked.items()}
    model.check(**asked)
    with (
        new_folder(out, "sounds", overwrite) as folder,
        (folder / "metadata.jsonl").open("w") as rows,
        tqdm(total=count, desc="generate", unit="sound", delay=1) as bar,
    ):
        for first in range(0, count, BATCH):
            items = range(first, min(first + BATCH, count))
            now: Any = {name: [values[i % len(values)] for i in items] for name, values in asked.items()}
            clip = model.sample(len(items), seed=seed, first=first, truncation=truncation, **now)
            for k, i in enumerate(items):
                rows.write(json.dumps(_write(folder, model, clip, k, i, seed, truncation)) + "\n")
            bar.update(len(items))
    return count


def _control_name(model: SoundModel, name: str) -> str:
    if name != "class":
        return name
    found = [c.name for c in model.controls.values() if c.classes]
    if not found:
        raise UserError("--class: this model was trained without classes (model.class_label)")
    return found[0]


def _write(
    folder: Path, model: SoundModel, clip: Clip, k: int, item: int, seed: int, truncation: float
) -> dict[str, Any]:
    """Write one sound of a batch. Returns its row."""
    values = {name: model.controls[name].show(round(float(v[k]), 4)) for name, v in clip.controls.items()}
    numbers = {name: value for name, value in values.items() if not isinstance(value, str)}
    file = f"{item:05d}" + "".join(f"-{name}{value:g}" for name, value in numbers.items()) + ".wav"
    write(folder / file, clip.audio[k].numpy(), model.sample_rate, f"model {model.hash[:12]} seed {seed} item {item}")
    return {
        "file_name": file,
        **{f"{name}_requested": v for name, v in values.items()},
        **{f"{name}_unit": c.unit for name, c in model.controls.items()},
        "seed": seed,
        "item": item,
        "truncation": truncation,
        "model_hash": model.hash,
        "vocoder": model.vocoder_title,
        "synthetic": True,
    }


def edit_file(
    path: Path,
    sound_path: Path,
    out: Path,
    shift: float | None,
    target: float | None,
    input_pitch: float | None,
    overwrite: bool,
    vocoder: str = "auto",
) -> str:
    """Write `sound_path` with its pitch moved by `shift` or to `target` (semitones). Returns what was achieved."""
    if input_pitch is not None and not 0 <= input_pitch <= 127:
        raise UserError(f"--input-pitch must lie in 0 ... 127 (MIDI), got {input_pitch:g}")
    check_out_sound(out, sound_path, overwrite)
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    known = {} if input_pitch is None else {"pitch": input_pitch}
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        sound = model.encode(sound_path, **known)
    result = model.edit(
        sound,
        shift={} if shift is None else {"pitch": shift},
        set={} if target is None else {"pitch": target},
    )
    write(out, result.audio[0, : int(sound.samples[0])].numpy(), model.sample_rate, f"model {model.hash[:12]}")
    lines = [
        f"{name}: input {float(sound.controls[name]):.2f}, requested {float(result.requested[name]):.2f}, "
        f"measured {float(result.achieved[name]):.2f} {control.unit}"
        if not control.classes
        else f"{name}: {control.show(float(result.requested[name]))} (the model's own guess)"
        for name, control in model.controls.items()
    ]
    return "\n".join(
        [
            *(f"note: {n.message}" for n in notes),
            *(["note: no change was asked; this is the plain reconstruction"] if shift is target is None else []),
            *lines,
            f"written: {out} (AI-generated, vocoder: {model.vocoder_title})",
        ]
    )
