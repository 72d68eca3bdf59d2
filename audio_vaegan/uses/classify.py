"""The verb `classify`: sort sound files into classes, of which a few sounds each are known."""

import csv
import io
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from audio_vaegan.audio import SUFFIXES, sound_files
from audio_vaegan.errors import UserError
from audio_vaegan.files import new_folder, printable, write_atomic
from audio_vaegan.sound_model import BATCH, SoundModel
from audio_vaegan.sound_model.probing import features, fit_probe
from audio_vaegan.sound_model.writing import SILENT

UNSURE = 0.5  # probability of the likeliest class below which a sound is called unsure


def classify_files(
    path: Path,
    labelled: Path,
    sounds: Sequence[Path],
    out: Path,
    *,
    copy: bool = False,
    overwrite: bool = False,
) -> list[str]:
    """Learn classes from the sub-folders of `labelled`, and write the folder `out` with `classes.csv`: the class of
    every sound file, how sure, and the second guess; with `copy` also the files, sorted into folders. Returns lines."""
    if not labelled.is_dir():
        raise UserError(f"{labelled}: there is no such folder; it has a sub-folder of sounds for each class")
    known = [(file, sub.name) for sub in sorted(labelled.iterdir()) if sub.is_dir() for file in _sounds(sub)]
    names = sorted({name for _, name in known})
    if len(names) < 2:
        raise UserError(f"{labelled}: {len(names)} sub-folders with sounds; there must be two classes at least")
    inside = {file.resolve() for file, _ in known}
    files = [f for f in sound_files(sounds) if f.resolve() not in inside]
    if not files:
        raise UserError("all of these sounds are labelled already")
    model = SoundModel.from_pretrained(path)
    if not model.encodes:
        raise UserError(f"{path}: a GAN, which has no encoder: it cannot classify")
    heard, bad, long_known = _features(model, [file for file, _ in known], "labelled")
    read = [name for file, name in known if file not in bad]
    if len(set(read)) < 2:
        raise UserError(f"{labelled}: only one class can be read; {next(iter(bad.values()))}")
    probe = fit_probe(heard, read)
    found, missed, longer = _features(model, files, "sounds")
    share = probe.probabilities(found)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["file", "class", "probability", "second", "second_probability"])
    there = [f for f in files if f not in missed]
    order = np.argsort(-share, axis=1)
    with new_folder(out, "classes", overwrite) as folder:
        for file, row, (first, second) in zip(there, share, order[:, :2], strict=True):
            name = probe.classes[first]
            table.writerow(
                [
                    printable(file),
                    printable(name),
                    f"{row[first]:.4f}",
                    printable(probe.classes[second]),
                    f"{row[second]:.4f}",
                ]
            )
            if copy:
                into = folder / name
                into.mkdir(exist_ok=True)
                shutil.copyfile(file, _free(into / file.name))
        write_atomic(folder / "classes.csv", text.getvalue().encode())
    best = share.max(axis=1)
    counts = {name: int((order[:, 0] == k).sum()) for k, name in enumerate(probe.classes)}
    seconds = model.clip_samples / model.sample_rate
    cut = f"note: of {longer + long_known} files longer than {seconds:.3f} s the beginning was heard"
    return [
        *([cut] if longer + long_known else []),
        *(f"left out: {reason}" for reason in [*bad.values(), *missed.values()]),
        f"{len(known) - len(bad)} labelled sounds of {len(names)} classes; {len(there)} sorted: "
        + ", ".join(f"{printable(name)} {count}" for name, count in counts.items()),
        f"{int((best < UNSURE).sum())} are unsure (below {100 * UNSURE:.0f} %); see {out / 'classes.csv'}",
    ]


def _sounds(folder: Path) -> Iterable[Path]:
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())


def _free(path: Path) -> Path:
    """A name that no other file has."""
    found, k = path, 2
    while found.exists():
        found, k = path.with_name(f"{path.stem} ({k}){path.suffix}"), k + 1
    return found


def _features(model: SoundModel, files: Sequence[Path], name: str) -> tuple[NDArray[np.float64], dict[Path, str], int]:
    """Features of the first clip of each file, the reasons why some could not be read, and how many are longer."""
    found, bad, longer = [], {}, 0
    with tqdm(total=len(files), desc=name, unit="file", delay=1) as bar:
        for i in range(0, len(files), BATCH):
            clips = []
            for file in files[i : i + BATCH]:
                try:
                    audio = model.heard(file)
                    if audio.abs().max() < SILENT:
                        raise UserError(f"{file}: silent")
                    longer += len(audio) > model.clip_samples
                    audio = audio[: model.clip_samples]
                    clips.append(torch.nn.functional.pad(audio, (0, model.clip_samples - len(audio))))
                except UserError as e:
                    bad[file] = str(e)
                bar.update()
            if clips:
                found.append(features(model, torch.stack(clips)))
    if not found:
        raise UserError("; ".join(list(bad.values())[:3]))
    return np.concatenate(found), bad, longer
