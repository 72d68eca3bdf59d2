"""A row of the table of uses: a figure of the model, and of the obvious baseline on the same sounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchaudio.functional as AF
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.evaluation.pitch import mean_draws
from audio_vaegan.sound_model import BATCH, SoundModel

COEFFICIENTS = 20
RESAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """`ours` and `theirs` hold `value`, and the ends of the 95 % interval `low` and `high`."""

    use: str
    what: str
    measure: str
    ours: dict[str, float]
    baseline: str
    theirs: dict[str, float] | None
    n: int
    better: str = "more"  # less | more
    difference: dict[str, float] | None = None  # ours less theirs, sound by sound
    note: str = ""


def interval(values: NDArray[Any], groups: Sequence[Any] | NDArray[Any]) -> dict[str, float]:
    """The mean, and its 95 % interval by bootstrap over groups."""
    low, high = np.percentile(mean_draws(values, np.asarray(groups).astype(str), RESAMPLES), (2.5, 97.5))
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def mfcc(model: SoundModel, audio: Tensor) -> NDArray[np.float64]:
    """Mel-frequency cepstral coefficients of clips `[B, samples]`, mean and deviation over time `[B, 40]`: the features
    that the baselines use (Davis & Mermelstein 1980)."""
    turn = AF.create_dct(COEFFICIENTS, model.recipe.mel.n_mels, "ortho")
    parts = []
    for some in audio.split(BATCH):
        found = model.log_mel(some).transpose(1, 2) @ turn
        parts.append(torch.cat([found.mean(dim=1), found.std(dim=1)], dim=1))
    return torch.cat(parts).double().numpy()


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    heads = ("use", "of what", "measure", "ours", "baseline", "its figure", "n", "wins", "beside it")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for r in rows:
        cells = (r.use, r.what, r.measure, _shown(r.ours), r.baseline, _shown(r.theirs), str(r.n), winner(r), r.note)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def winner(row: Row) -> str:
    """Who is better: where the interval of the difference, or else both intervals, leave it open, nobody."""
    if row.theirs is None:
        return "-"
    sign = 1 if row.better == "more" else -1
    if row.difference is not None:
        ends = sorted(sign * row.difference[k] for k in ("low", "high"))
    else:
        a, b = ([sign * v[k] for k in ("low", "high")] for v in (row.ours, row.theirs))
        ends = [min(a) - max(b), max(a) - min(b)]
    return "ours" if ends[0] > 0 else "baseline" if ends[1] < 0 else "open"


def _shown(value: dict[str, float] | None) -> str:
    return "-" if value is None else f"{value['value']:.2f} ({value['low']:.2f}-{value['high']:.2f})"
