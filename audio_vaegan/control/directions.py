"""Latent directions found after training: steps of z that give a sound more of an attribute.

Three methods from labels, to stand in one table, and principal components from none. A direction is exact where its
attribute is a linear function of z; whether the *sounds* follow must be measured on sounds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_vaegan.errors import UserError, did_you_mean

METHODS = ("joint", "svm", "mean")  # joint regression + pseudo-inverse; SVM normal, projected; difference of means
STRENGTHS = np.logspace(-6, 1, 15)[:, None]  # of the ridge, in variances of a (standardised) coordinate
LEAST = 8  # sounds on either side of an attribute
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Direction:
    """z + a * vector should sound of a units more of the attribute."""

    name: str  # of the attribute
    method: str  # one of METHODS
    vector: NDArray[np.float64]  # [Z], latent step for one unit of the attribute (a class: from 0 to 1)
    low: float  # 1st and 99th percentile of the attribute in the data; 0 and 1 for a class
    high: float
    binary: bool  # a class
    score: float  # how readable the attribute is on groups that were not fitted: AUC for a class, else Pearson's r
    count: int  # sounds that define it


def find_direction(
    z: Floats,
    attribute: Floats,
    name: str,
    others: Mapping[str, Floats],
    method: str = "joint",
    groups: Sequence[str] | NDArray[Any] | None = None,
    free: NDArray[np.bool_] | None = None,
) -> Direction:
    """The direction of `attribute` `[N]` (NaN = unknown; nothing but 0 and 1 = a class) in latents `z` `[N, Z]`.

    `others` (each `[N]`, NaN = unknown; one that never varies is passed over) shall not change. `groups` `[N]`, say
    instruments, stay whole in cross-validation (default: each sound its own). `free` `[Z]`: the coordinates that may
    move (default all). The methods:

    - `joint`: ridge read-outs W `[A, Z]` of all attributes, the pseudo-inverse's column: the smallest step that changes
      the attribute by 1 and no other, in units of the data's spread: the error of a least-squares read-out along a step
      v has variance s^2 v' C^-1 v / N, so of all steps that look free of leakage this one leaks least.
    - `svm`: normal of a linear SVM between the two sides, the others' read-outs projected out (InterFaceGAN, Shen et
      al. 2020, conditional manipulation). Sides: has and has not; of numbers the top and bottom quarter.
    - `mean`: mean of one side minus mean of the other (Larsen et al. 2016). Leaks what goes with the attribute.

    Each is scaled so that the ridge read-out changes by 1. The score reads from the free coordinates, whatever the
    method; NaN if one side of a class is one group. Raises `UserError`: unknown method, shapes that differ, z not
    finite, constant attribute, too few sounds or groups, nothing left to move.
    """
    from sklearn.svm import LinearSVC

    where = f"direction {name!r}: "
    if method not in METHODS:
        raise UserError(f"{where}no method {method!r}.{did_you_mean(method, METHODS)}")
    _check(z, where)
    count, size = z.shape
    groups = np.arange(count) if groups is None else np.asarray(groups)
    free = np.ones(size, dtype=bool) if free is None else np.asarray(free, dtype=bool)
    for what, column in {
        "attribute": attribute,
        "groups": groups,
        **{f"other {k!r}": v for k, v in others.items()},
    }.items():
        if np.shape(column) != (count,):
            raise UserError(f"{where}{what} has shape {np.shape(column)}, z {z.shape}: give one value for each sound")
    if free.shape != (size,) or not free.any():
        raise UserError(f"{where}free has shape {free.shape}: give {size} booleans, at least one of them true")
    known = np.isfinite(attribute)
    y, grouped = np.asarray(attribute, dtype=np.float64)[known], groups[known]
    binary = bool(np.isin(y, (0, 1)).all())
    below, above = _sides(y, where)
    if len(np.unique(grouped)) < 3:
        raise UserError(f"{where}its {len(y)} sounds are of fewer than 3 groups; label more groups, or give none")

    scale = z.std(0, dtype=np.float64)
    scale[scale == 0] = 1
    x = (z - z.mean(0, dtype=np.float64)) / scale
    known_x, sided = x[known], below | above
    gradient = readout = _readout(known_x, y, grouped)
    if method == "mean":
        step = np.where(free, known_x[above].mean(0) - known_x[below].mean(0), 0)
    else:
        if method == "svm":
            machine = LinearSVC(dual=False, class_weight="balanced", random_state=0)
            gradient = machine.fit(known_x[sided], above[sided]).coef_[0]
        # Each other is read from all sounds that have it: from the 40 labelled of 1,000 alone, the step leaks 5 times
        # as much; with the mean for what is unknown it leaks 0.3 sd where that is unknown because of the attribute.
        level = [_readout(x[k], v[k], groups[k]) for v in others.values() if _varies(v[k := np.isfinite(v)], groups[k])]
        step = _smallest_step(x, gradient, np.reshape(level, (-1, size)), free)
    if (gain := readout @ step) <= 0:
        raise UserError(f"{where}no free coordinate moves it while the others stay; free more, or hold fewer")
    low, high = (0, 1) if binary else np.quantile(y, (0.01, 0.99))
    score = _score(known_x[:, free], y, grouped, binary)
    used = len(y) if method == "joint" else int(sided.sum())
    return Direction(name, method, step * scale / gain, float(low), float(high), binary, score, used)


def principal_directions(z: Floats, count: int = 8) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PCA of `z` `[N, Z]`: steps `[count, Z]` of one standard deviation, largest entry positive; shares of variance.

    `count` is at most the smaller of N and Z. Raises `UserError`: z not finite.
    """
    from sklearn.decomposition import PCA

    _check(z, "principal directions: ")
    pca = PCA(min(count, *z.shape), svd_solver="full").fit(z.astype(np.float64))
    steps = pca.components_ * np.sqrt(pca.explained_variance_)[:, None]
    largest = np.take_along_axis(steps, np.abs(steps).argmax(1)[:, None], 1)
    return np.where(largest < 0, -steps, steps), pca.explained_variance_ratio_


def _check(z: Floats, where: str) -> None:
    if z.ndim != 2 or len(z) < 2:
        raise UserError(f"{where}z has shape {z.shape}; give [N, Z], N of 2 or more")
    if bad := int((~np.isfinite(z)).any(1).sum()):
        raise UserError(f"{where}z is not finite for {bad} of {len(z)} sounds; leave them out, or encode them again")


def _sides(y: Floats, where: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    if len(y) and y.min() == y.max():
        raise UserError(f"{where}all {len(y)} known values are {y[0]:g}; label sounds that differ in it")
    bottom, top = np.quantile(y, (0.25, 0.75)) if len(y) else (0, 0)
    below, above = y <= bottom, y >= top
    if (below & above).any():  # half of the values or more are equal, as in a class
        below, above = y < y.mean(), y > y.mean()
    if min(below.sum(), above.sum()) < LEAST:
        raise UserError(f"{where}{below.sum()} known sounds with little, {above.sum()} with much; give {LEAST} of each")
    return below, above


def _varies(y: Floats, groups: NDArray[Any]) -> bool:
    return len(np.unique(y)) > 1 and len(np.unique(groups)) > 1


def _folds(groups: NDArray[Any]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    from sklearn.model_selection import GroupKFold

    return GroupKFold(min(5, len(np.unique(groups)))).split(groups, groups=groups)


def _ridge(x: Floats, y: Floats) -> Floats:
    """Slopes `[STRENGTHS, Z]` of `y` `[n]` on `x` `[n, Z]`."""
    x = x - x.mean(0)
    values, basis = np.linalg.eigh(x.T @ x)
    return (y - y.mean()) @ x @ basis / (values + STRENGTHS * len(x)) @ basis.T


def _readout(x: Floats, y: Floats, groups: NDArray[Any]) -> Floats:
    """Slopes `[Z]` of `y` `[n]` on `x` `[n, Z]`, of the strength that predicts best on groups not fitted."""
    loss = np.zeros(len(STRENGTHS))
    for fit, test in _folds(groups):
        guess = _ridge(x[fit], y[fit]) @ (x[test] - x[fit].mean(0)).T
        loss += ((guess - (y[test] - y[fit].mean())) ** 2).sum(1)
    return _ridge(x, y)[loss.argmin()]


def _smallest_step(x: Floats, gradient: Floats, others: Floats, free: NDArray[np.bool_]) -> Floats:
    """The step `[Z]` up `gradient` `[Z]` and level in `others` `[A, Z]`, 0 where not `free`, all 0 if nothing is left.

    With the read-out as gradient it is, but for length, the first column of the pseudo-inverse of both, stacked.
    """
    from sklearn.covariance import ledoit_wolf

    covariance = ledoit_wolf(x)[0] + 1e-6 * np.eye(len(free))  # regular even if a coordinate never varies
    precision = np.linalg.inv(covariance)[np.ix_(free, free)]
    basis = np.linalg.inv(np.linalg.cholesky(precision)).T  # steps of one standard deviation, what is not free held
    up, level = gradient[free] @ basis, others[:, free] @ basis
    level = level / np.maximum(np.linalg.norm(level, axis=1, keepdims=True), 1e-12)
    rest = up - np.linalg.lstsq(level.T, up, rcond=None)[0] @ level
    step = np.zeros(len(free))
    step[free] = basis @ rest if np.linalg.norm(rest) > 0.01 * np.linalg.norm(up) else 0
    return step


def _score(x: Floats, y: Floats, groups: NDArray[Any], binary: bool) -> float:
    """AUC or r of guesses for groups that neither slopes nor strength have seen.

    Without intercepts: the mean of the other folds runs against the fold left out, and pushes chance below chance.
    """
    from sklearn.metrics import roc_auc_score

    guess = np.full(len(y), np.nan)
    for fit, test in _folds(groups):
        if np.ptp(y[fit]):
            guess[test] = (x[test] - x[fit].mean(0)) @ _readout(x[fit], y[fit], groups[fit])
    y, guess = y[np.isfinite(guess)], guess[np.isfinite(guess)]
    if not len(y) or not np.ptp(y):
        return float("nan")
    return float(roc_auc_score(y, guess) if binary else np.corrcoef(y, guess)[0, 1])
