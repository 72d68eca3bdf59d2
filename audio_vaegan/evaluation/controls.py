"""The figures of every control: how true it is, and what else it moves.

A request counts when the second meters, which have no part in training or correction, find the clip's label on its
*copy* through the vocoder; an output without a measurable value is a failure. Errors, correlations and changes are in
standardised coordinates (1 is a standard deviation of the training data), and are never rescaled.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.control_table import targets
from audio_vaegan.evaluation.held import Held, pick
from audio_vaegan.evaluation.pitch import WITHIN, mean_interval, score
from audio_vaegan.evaluation.sweep import (
    BATCH,
    SEMITONES,
    STEPS,
    Floats,
    Heard,
    Meter,
    Sweep,
    judged,
    listen,
    standard,
    sweep,
    unit,
)
from audio_vaegan.models.controls import Control
from audio_vaegan.sound_model import SoundModel

FAILURE = 2.0  # deviations, or the largest error if that is more: what an unmeasurable output counts as
POINTS = 1000  # requests of a control that are kept for the plots


def control_figures(made: Sweep, name: str) -> dict[str, Any]:
    """The figures of one control from the confirmed requests. Intervals: 95 %, by bootstrap over instruments."""
    heard, all_of = made.heard, made.requests[name]
    control = heard.controls[name]
    counts = heard.confirmed(name)[all_of.clip]
    clip, groups = all_of.clip[counts], heard.groups[all_of.clip[counts]]
    asked, found = standard(control, all_of.asked[counts]), standard(control, all_of.found[name][counts])
    wanted = asked - standard(control, heard.own[name])[clip]
    change = found - standard(control, heard.plain[name])[clip]
    next_to = np.flatnonzero(clip[1:] == clip[:-1])
    first, last = np.unique(clip, return_index=True)[1], len(clip) - 1 - np.unique(clip[::-1], return_index=True)[1]
    first, last = first[last > first], last[last > first]
    reached = (found[last] - found[first]) / (asked[last] - asked[first])
    return {
        "outside": all_of.outside,
        "rejected": float(100 * (1 - counts.mean())) if len(counts) else None,
        **errors(control, all_of.asked[counts], all_of.found[name][counts], groups),
        "r": linear(asked, found, groups)["r"],
        "rho": linear(asked, found, groups, ranks=True)["r"],
        "change_r": linear(wanted, change, groups)["r"],
        "slope": linear(wanted, change, groups)["slope"],
        "monotone": _mean((found[next_to + 1] > found[next_to]).astype(float), groups[next_to]),
        "range": _mean(reached, groups[first]),
        "leakage": {
            other: _leak(made, name, other, clip, counts, wanted, groups) for other in heard.controls if other != name
        },
    }


def errors(control: Control, asked: Floats, found: Floats, groups: NDArray[np.str_]) -> dict[str, Any]:
    """How far `found` is from `asked` (`[R]`, in the unit): in deviations with an interval, and in the unit."""
    known = np.isfinite(found)
    far = unit(control, standard(control, asked) + FAILURE) - asked

    def size(error: Floats, failure: Floats) -> Floats:
        return np.where(known, error, np.maximum(failure, error[known].max(initial=0)))

    in_unit = size(np.abs(found - asked), far)
    in_deviations = size(np.abs(standard(control, found) - standard(control, asked)), np.full(len(asked), FAILURE))
    figures = {
        "n": len(asked),
        "unmeasurable": float(100 * (1 - known.mean())) if len(asked) else None,
        "error": _mean(in_deviations, groups),
        "median": float(np.median(in_unit)) if len(asked) else None,
        "p95": float(np.percentile(in_unit, 95)) if len(asked) else None,
    }
    if control.name == "pitch":
        cents = 100 * in_unit
        figures["within"] = _mean(np.where(known & (cents <= WITHIN), 100.0, 0.0), groups)
        figures["median_cents"] = float(np.median(cents)) if len(asked) else None
        figures["p90_cents"] = float(np.percentile(cents, 90)) if len(asked) else None
    return figures


def _mean(values: Floats, groups: NDArray[np.str_]) -> dict[str, Any]:
    """The mean of the finite values, and its interval."""
    known = np.isfinite(values)
    if not known.any():
        return {"value": None, "low": None, "high": None}
    found = mean_interval(values[known], groups[known])
    return {"value": found["mean"], "low": found["low"], "high": found["high"]}


def _sums(columns: Sequence[Floats], groups: NDArray[np.str_], resamples: int = 1000) -> Floats:
    """Sums of columns `[R]` over all rows, and over rows of groups drawn with replacement: `[1 + resamples, columns]`.
    The draws are those of `mean_interval`."""
    names, index = np.unique(groups, return_inverse=True)
    sums = np.stack([np.bincount(index, c) for c in columns], axis=1)
    draws = np.random.default_rng(0).integers(0, len(names), (resamples, len(names)))
    weights = np.zeros((1 + resamples, len(names)))
    weights[0] = 1
    np.add.at(weights, (np.arange(1, 1 + resamples)[:, None], draws), 1)
    return weights @ sums


def _interval(values: Floats) -> dict[str, Any]:
    """The first value, with the interval of the others."""
    if not np.isfinite(values[0]):
        return {"value": None, "low": None, "high": None}
    low, high = np.nanpercentile(values[1:], (2.5, 97.5))
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def linear(x: Floats, y: Floats, groups: NDArray[np.str_], ranks: bool = False) -> dict[str, dict[str, Any]]:
    """Pearson's `r` of y on x and the regression `slope`, over the pairs that are finite; with `ranks` of their ranks
    (Spearman). What answers always the same has r = 0."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y, groups = x[known], y[known], groups[known]
    if len(x) < 3 or np.ptp(x) < 1e-9:
        return {key: {"value": None, "low": None, "high": None} for key in ("r", "slope")}
    if ranks:
        x, y = rankdata(x), rankdata(y)
    x, y = x - x.mean(), y - y.mean()
    n, sx, sy, xx, yy, xy = _sums([np.ones(len(x)), x, y, x * x, y * y, x * y], groups).T
    xx, yy, xy = xx - sx * sx / n, yy - sy * sy / n, xy - sx * sy / n
    tiny = 1e-12 * n
    xx = np.where(xx > tiny, xx, np.nan)  # a draw of one value has no slope
    return {
        "r": _interval(np.where(yy > tiny, xy / np.sqrt(xx * np.maximum(yy, tiny)), 0 * xx)),
        "slope": _interval(xy / xx),
    }


def _leak(
    made: Sweep,
    name: str,
    other: str,
    clip: NDArray[np.int64],
    counts: NDArray[np.bool_],
    wanted: Floats,
    groups: NDArray[np.str_],
) -> dict[str, Any]:
    """How `other` changed against the plain reconstruction: mean |change| in its deviations, for each deviation asked
    of `name` (pitch: octave). `lost`: % of the outputs in which it can no longer be measured. Of pitch also `median`
    and `p95` in cents for 2 deviations, from the widest steps alone, which magnify the meter's own error least."""
    heard, control = made.heard, made.heard.controls[other]
    before = standard(control, heard.plain[other])[clip]
    change = np.abs(standard(control, made.requests[name].found[other][counts]) - before)
    step = np.abs(wanted) * (heard.controls[name].deviation / 12 if name == "pitch" else 1)
    known, had = np.isfinite(change) & np.isfinite(step), np.isfinite(before)
    leak: dict[str, Any] = {"value": None, "low": None, "high": None, "n": int(known.sum())}
    leak["lost"] = float(100 * (1 - known[had].mean())) if had.any() else None
    if known.any():
        total, asked = _sums([change[known], step[known]], groups[known]).T
        leak |= _interval(total / asked)
        if other == "pitch":
            wide = known & (step >= 0.99 * step[known].max())
            cents = 100 * control.deviation * change[wide] * 2 / step[wide]
            leak |= {"median": float(np.median(cents)), "p95": float(np.percentile(cents, 95))}
    return leak


def covariation(store: Store, controls: dict[str, Control]) -> dict[str, dict[str, float | None]]:
    """What the training clips themselves do: |slope| of each control on each other one, units as in the leakage."""
    train = store.split("train")
    values = {n: standard(c, store.values(n, c.classes)[train]) for n, c in controls.items()}
    found: dict[str, dict[str, float | None]] = {}
    for i, x in values.items():
        unit = 12 / controls[i].deviation if i == "pitch" else 1
        found[i] = {}
        for j in (j for j in values if j != i):
            known = np.isfinite(x) & np.isfinite(values[j])
            varies = known.sum() > 2 and np.ptp(x[known]) > 1e-9
            found[i][j] = float(abs(np.polyfit(x[known], values[j][known], 1)[0]) * unit) if varies else None
    return found


def rungs(heard: Heard, name: str) -> dict[str, Any]:
    """Errors against the label before any edit: of the real clip and its copy, which are the meter's and the
    vocoder's own, and of the reconstruction of the clips that are confirmed."""
    control, own, confirmed = heard.controls[name], heard.own[name], heard.confirmed(name)
    has = np.isfinite(own)
    sets = {"real": (heard.real, has), "copy": (heard.copy, has), "reconstructed": (heard.plain, confirmed)}
    return {k: errors(control, own[w], v[name][w], heard.groups[w]) for k, (v, w) in sets.items()}


def sampled(model: SoundModel, judge: Meter, count: int = 128) -> dict[str, Any]:
    """Pitch of samples at pitches spread over the trained range, timbre from N(0, I) and from the prior fitted to the
    codes of training clips, if the model has one."""
    control = model.controls["pitch"]
    asked, found = np.linspace(control.low, control.high, count), {}
    for prior in ("normal", *(["fitted"] if model.prior is not None else [])):
        parts = []
        for first in range(0, count, BATCH):
            some = asked[first : first + BATCH]
            audio = model.sample(len(some), first=first, seed=0, prior=prior, pitch=some).audio.numpy()
            parts.append(judge.measure_controls(audio, model.sample_rate, ["pitch"], name="", fine=True)["pitch"])
        found[prior] = score(np.concatenate(parts), asked, [str(i) for i in range(count)]).to_json()
    return found


def evaluate_controls(
    model: SoundModel,
    store: Store,
    split: str = "test_instrument",
    clips: int | None = None,
    closed: Sequence[bool] = (False, True),
    *,
    judge: Meter,
    samples: int = 128,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Every figure of the controls on at most `clips` clips of a split, as JSON; `table` shows them. Raises UserError
    when there is nothing to measure."""
    began, names = time.monotonic(), judged(model)
    if not names or not model.encodes:
        raise UserError("this model has no control that a meter can judge, or no encoder: no edits to measure")
    rows = pick(store, split, clips)
    if not len(rows):
        raise UserError(f"--store {store.path}: no clip in its split {split}")
    say(f"controls: {len(rows)} clips of {split}, {', '.join(names)} ...")
    held = Held(model, store, rows)
    heard = listen(model, held, names, judge)
    figures: dict[str, Any] = {
        "split": split,
        "clips": len(rows),
        "instruments": len(set(held.groups)),
        "steps": {"deviations": STEPS, "semitones": SEMITONES},
        "controls": {n: c.to_json() for n, c in heard.controls.items()},
        "rungs": {n: rungs(heard, n) for n in names},
        "loops": {},
        "points": {},
        "covariation": covariation(store, heard.controls),
    }
    sweeps = {}
    for loop in closed:
        key = "closed" if loop else "open"
        say(f"controls: asking each for other values, {key} loop ...")
        made = sweeps[key] = sweep(model, held, names, judge, closed_loop=loop, heard=heard)
        figures["loops"][key] = {n: control_figures(made, n) for n in names}
        figures["points"][key] = {n: _points(made, n) for n in names}
    if len(sweeps) == 2:
        figures["worse"] = {n: worse(sweeps["open"], sweeps["closed"], n) for n in names}
    figures["samples"] = sampled(model, judge, samples) if "pitch" in names else {}
    figures["targets"] = targets(figures)
    return clean(figures | {"seconds": time.monotonic() - began})


def worse(one: Sweep, other: Sweep, name: str) -> float | None:
    """% of the confirmed requests of a control that `other` misses by more than `one` does, by over a hundredth of a
    deviation, as the judge hears them. Both made the same requests."""
    control, asked = one.heard.controls[name], one.requests[name]
    rows = one.heard.confirmed(name)[asked.clip]
    target = standard(control, asked.asked[rows])
    misses = [np.abs(standard(control, s.requests[name].found[name][rows]) - target) for s in (one, other)]
    first, second = (np.nan_to_num(m, nan=FAILURE) for m in misses)
    return float(100 * (second > first + 0.01).mean()) if len(target) else None


def _points(made: Sweep, name: str) -> list[list[float]]:
    """Asked and found values of the confirmed requests, at most POINTS of them, for the plots."""
    asked = made.requests[name]
    rows = np.flatnonzero(made.heard.confirmed(name)[asked.clip])
    rows = rows[np.linspace(0, len(rows) - 1, min(POINTS, len(rows))).astype(int)]
    return np.stack([asked.asked[rows], asked.found[name][rows]], axis=1).tolist()


def clean(value: Any) -> Any:
    """What JSON can hold: no NaN, six digits."""
    if isinstance(value, dict):
        return {k: clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
