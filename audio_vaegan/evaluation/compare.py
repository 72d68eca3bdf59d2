"""Several models on the same clips, side by side: what `audio-vaegan compare` writes."""

import json
import re
from pathlib import Path
from typing import Any

import torch

from audio_vaegan.audio import write, write_recording
from audio_vaegan.data.store import Store, check_mel
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.held import Held, spread
from audio_vaegan.evaluation.pictures import mel_grid
from audio_vaegan.files import new_folder, printable, write_atomic, write_json
from audio_vaegan.sound_model import SoundModel

Row = dict[str, Any]


def compare(
    paths: list[Path], store: Store, out: Path, clips: int = 4, overwrite: bool = False, vocoder: str = "auto"
) -> list[Row]:
    """Write `reconstructed.png`, `sampled.png`, `audio/` and `compare.json` into `out`. Returns one row a model.

    Reconstructions are of clips held out from training; samples share seed and, where there is one, pitch. The figures
    are those of each run's last validation.
    """
    names = names_of(paths)
    models = {name: SoundModel.from_pretrained(path, vocoder=vocoder) for name, path in zip(names, paths, strict=True)}
    for name, model in models.items():
        check_mel(store, model.recipe.mel, name)
    rows = spread(store, "test_instrument", clips, fallback=True)
    real = {name: Held(model, store, rows) for name, model in models.items() if model.encodes}
    first = next(iter(models.values()))
    with new_folder(out, "comparison", overwrite) as folder:
        (folder / "audio").mkdir()
        if real:
            held = next(iter(real.values()))
            columns = {"real": held.mel} | {n: models[n].decode_mel(h.sound).cpu() for n, h in real.items()}
            _picture(folder / "reconstructed.png", columns, held.names, first)
            for i, audio in enumerate(held.audio):
                write_recording(folder / "audio" / f"{i}-real.wav", audio.numpy(), first.sample_rate)
            for name, h in real.items():
                _sounds(folder, f"{name}-reconstructed", models[name].decode(h.sound).audio, models[name])
        samples = {name: model.sample(clips, seed=0, **_pitches(model, clips)) for name, model in models.items()}
        _picture(
            folder / "sampled.png",
            {n: c.mel for n, c in samples.items()},
            [f"sample {i}" for i in range(clips)],
            first,
        )
        for name, clip in samples.items():
            _sounds(folder, f"{name}-sampled", clip.audio, models[name])
        table = [_row(name, path, models[name]) for name, path in zip(names, paths, strict=True)]
        write_json(folder / "compare.json", table)
    return table


def names_of(paths: list[Path]) -> list[str]:
    """The models' folder names, with as much of the path before them as tells them apart."""
    parts = [tuple(re.sub(r"[^\w.-]", "_", printable(p)) for p in path.resolve().parts[1:]) or ("_",) for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["-".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names) and "real" not in names:
            return names
    raise UserError(f"{paths[0]}: the same model twice")


def read_metrics(run: Path) -> list[Row]:
    """The records of RUN/metrics.jsonl, none if there is no such file. A line that a kill cut off is left out."""
    path, records = run / "metrics.jsonl", []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def _pitches(model: SoundModel, count: int) -> dict[str, Any]:
    control = model.controls.get("pitch")
    return {"pitch": torch.linspace(control.low, control.high, count + 2)[1:-1]} if control else {}


def _picture(path: Path, columns: dict[str, torch.Tensor], names: list[str], model: SoundModel) -> None:
    grid = [[mel[i].numpy() for mel in columns.values()] for i in range(len(names))]
    write_atomic(path, mel_grid(grid, list(columns), names, model.recipe.mel))


def _sounds(folder: Path, name: str, audio: torch.Tensor, model: SoundModel) -> None:
    for i, clip in enumerate(audio):
        write(folder / "audio" / f"{i}-{name}.wav", clip.numpy(), model.sample_rate, f"model {model.hash[:12]}")


def _row(name: str, path: Path, model: SoundModel) -> Row:
    """What a run says of itself: objective, steps, and the figures of its last validation."""
    row: Row = {"name": name, "objective": model.recipe.objective, "steps": model.bundle.about.get("steps")}
    last: Row = next((r for r in reversed(read_metrics(path)) if "val_samples" in r), {})
    return row | {k: v for k, v in last.items() if k.startswith("val_")}


def table(rows: list[Row]) -> str:
    """The rows as text; `-` where an objective has no such figure."""
    figures = ("val_mel", "val_active", "val_samples", "val_duplicates", "val_silent")
    lines = ["".join(f"{h:>15}" for h in ("", "objective", "steps", *figures))]
    for row in rows:
        cells = [row.get(k) for k in ("name", "objective", "steps", *figures)]
        texts = ["-" if c is None else f"{c:.4f}" if isinstance(c, float) else str(c) for c in cells]
        lines.append("".join(f"{text:>15}" for text in texts))
    return "\n".join(lines)
