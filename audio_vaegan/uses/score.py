"""The verb `score`: how unlike the training sounds each of some files is."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audio_vaegan.audio import sound_files
from audio_vaegan.errors import UserError
from audio_vaegan.files import printable, write_atomic
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.writing import SILENT

SHOWN = 20


def score_files(
    path: Path,
    sounds: Sequence[Path],
    *,
    false_alarms: float = 0.05,
    out: Path | None = None,
    overwrite: bool = False,
    vocoder: str = "auto",
) -> list[str]:
    """Score sound files, and those in folders, the oddest first; as a table of all in the CSV file `out`. A file counts
    as odd where at most the share `false_alarms` of real sounds score as high. Returns lines."""
    if not 0 < false_alarms < 1:
        raise UserError(f"--false-alarms is a share between 0 and 1, got {false_alarms:g}")
    if out is not None and out.exists() and not overwrite:
        raise UserError(f"--out {out}: exists; choose another name, or add --overwrite")
    if out is not None and not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")
    files = sound_files(sounds)
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    rows: list[dict[str, Any]] = []
    failed = []
    for file in tqdm(files, desc="score", unit="file", delay=1):
        try:
            odd = model.score(audio := model.heard(file))
            if audio.abs().max() < SILENT:
                raise UserError(f"{file}: silent")
        except UserError as e:
            if model.fitted.usual is None:
                raise
            failed.append(f"left out: {e}")
            continue
        whole, rarity = float(odd.whole[0]), float(odd.rarity[0])
        parts = {name: float(v[0]) for name, v in odd.parts.items()}
        rows.append({"file": printable(file), "odd": rarity <= false_alarms, "score": whole, "rarity": rarity} | parts)
    if not rows:
        raise UserError("; ".join(failed[:3]))
    rows.sort(key=lambda row: -row["score"])
    if out is not None:
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]))
        table.writeheader()
        table.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
        write_atomic(out, text.getvalue().encode())
    count = sum(bool(row["odd"]) for row in rows)
    lines = [
        f"{row['score']:7.2f}  {'odd' if row['odd'] else '   '}  {100 * row['rarity']:5.1f} %  {row['file']}"
        for row in rows[:SHOWN]
    ]
    more = [f"... and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    heads = "  score       real sounds that score as high"
    told = f"{count} of {len(rows)} files are odd: at most {100 * false_alarms:g} % of real sounds score as high"
    return [heads, *lines, *more, *failed, told]
