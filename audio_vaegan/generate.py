"""The verb `generate`: new sounds of a model, as files."""

import re
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audio_vaegan.audio import write
from audio_vaegan.errors import UserError
from audio_vaegan.files import check_out_folder, new_folder
from audio_vaegan.sound_model import BATCH, Clip, SoundModel
from audio_vaegan.sound_model.writing import (
    PEAK,
    Asked,
    Wanted,
    check_draw,
    gain_to_peak,
    gain_within,
    row,
    shown,
    wanted,
    write_sound,
)


def write_sounds(
    path: Path,
    out: Path,
    asked: Asked,
    *,
    count: int = 16,
    seed: int = 0,
    truncation: float = 1.0,
    prior: str = "auto",
    closed_loop: bool = False,
    normalize: bool = False,
    overwrite: bool = False,
    vocoder: str = "auto",
) -> list[str]:
    """Write `count` sounds and `metadata.jsonl` (AudioFolder layout: `file_name`, what was asked, seed, model).

    `asked` holds the values of each control, repeated over the sounds, or a pair (low, high) to draw evenly between;
    "class" stands for the model's class label. Peaks that a file could not hold are turned down; with `normalize` all
    are brought to `PEAK`. Returns lines.
    """
    if not 1 <= count <= 1_000_000:
        raise UserError(f"--count must lie in 1 ... 1000000, got {count}")
    check_draw(seed, truncation)
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    values, loud = wanted(model, asked), 0
    with (
        new_folder(out, "sounds", overwrite) as folder,
        (folder / "metadata.jsonl").open("w") as rows,
        tqdm(total=count, desc="generate", unit="sound", delay=1) as bar,
    ):
        for first in range(0, count, BATCH):
            items = range(first, min(first + BATCH, count))
            now: Wanted = {
                name: [value[i % len(value)] for i in items] if isinstance(value, list) else value
                for name, value in values.items()
            }
            how: dict[str, Any] = {"truncation": truncation, "prior": prior}
            clip = model.sample(len(items), seed=seed, first=first, closed_loop=closed_loop, limit=False, **how, **now)
            peak = clip.audio.abs().amax(dim=1)
            loud += int((peak > 1).sum())
            for k, i in enumerate(items):
                file = f"{i:05d}{_told(model, clip, k)}.wav"
                gain = gain_to_peak(float(peak[k])) if normalize else gain_within(clip.audio[k])
                address = write_sound(folder / file, model, clip, k, gain=gain)
                rows.write(row(model, clip, k, file, seed=seed, item=i, **how, gain_db=gain, address=address))
            bar.update(len(items))
    note = f"note: {loud} of them would have clipped, and were turned down to a peak of {PEAK:g} dBFS"
    return [*([note] if loud and not normalize else []), f"{count} sounds in {out}"]


def _told(model: SoundModel, clip: Clip, k: int) -> str:
    """What the name of a file tells of sound `k`: its class, its pitch."""
    words = ""
    for name, control in model.controls.items():
        value = shown(model, name, float(clip.controls[name][k]))
        if control.classes and value is not None:
            words += "-" + re.sub(r"[^\w]+", "_", str(value))[:40]
        elif name == "pitch" and value is not None:
            words += f"-pitch{value:g}"
    return words


def recall_file(path: Path, out: Path, address: str, overwrite: bool = False, vocoder: str = "auto") -> None:
    """Write the sound at an address into the folder `out`; the same samples on the same machine and versions."""
    check_out_folder(out, "sounds", overwrite)
    clip = SoundModel.from_pretrained(path, vocoder=vocoder).recall(address)
    with new_folder(out, "sounds", overwrite) as folder:
        write(folder / "00000.wav", clip.audio[0].numpy(), clip.sample_rate, address)
    print(f"1 sound in {out}")
