"""The verb `generate`: new sounds of a model, as files."""

from pathlib import Path

from tqdm import tqdm

from audio_vaegan.audio import write
from audio_vaegan.errors import UserError
from audio_vaegan.files import check_out_folder, new_folder
from audio_vaegan.sound_model import BATCH, SoundModel
from audio_vaegan.sound_model.writing import Asked, Wanted, check_draw, row, shown, wanted, write_sound


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
    overwrite: bool = False,
    vocoder: str = "auto",
) -> int:
    """Write `count` sounds and `metadata.jsonl` (AudioFolder layout: `file_name`, what was asked, seed, model).

    `asked` holds the values of each control, repeated over the sounds, or a pair (low, high) to draw evenly between;
    "class" stands for the model's class label.
    """
    if not 1 <= count <= 1_000_000:
        raise UserError(f"--count must lie in 1 ... 1000000, got {count}")
    check_draw(seed, truncation)
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    values = wanted(model, asked)
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
            clip = model.sample(
                len(items), seed=seed, first=first, truncation=truncation, prior=prior, closed_loop=closed_loop, **now
            )
            for k, i in enumerate(items):
                pitch = shown(model, "pitch", float(clip.controls["pitch"][k])) if "pitch" in clip.controls else None
                file = f"{i:05d}.wav" if pitch is None else f"{i:05d}-pitch{pitch:g}.wav"
                write_sound(folder / file, model, clip, k, f"seed {seed} item {i}")
                rows.write(row(model, clip, k, file, seed=seed, item=i, truncation=truncation, prior=prior))
            bar.update(len(items))
    return count


def recall_file(path: Path, out: Path, address: str, overwrite: bool = False, vocoder: str = "auto") -> None:
    """Write the sound at an address into the folder `out`; the same samples on the same machine and versions."""
    check_out_folder(out, "sounds", overwrite)
    clip = SoundModel.from_pretrained(path, vocoder=vocoder).recall(address)
    with new_folder(out, "sounds", overwrite) as folder:
        write(folder / "00000.wav", clip.audio[0].numpy(), clip.sample_rate, address)
    print(f"1 sound in {out}")
