"""Where codes of real sounds lie: a kernel density over [controls | timbre], conditional on what is asked.

The encoder's codes do not fill N(0, I) evenly (the KL cost only pulls towards it), and which timbres go with which
pitch the plain prior does not know. Sampling from the aggregate posterior (Makhzani et al. 2016; ex-post density
estimation: Ghosh et al. 2020) stays where the generator was trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
KERNELS = 3000  # codes that a prior keeps
CROWD = 5  # the neighbour whose distance says how rare a code is
WIDEST = 0.95  # of the codes' own variance, in any direction: the most that a kernel takes
POINT = 1e-4  # variance of a class in its kernel
LEAST = 40  # codes to fit a prior to
FEW = 5  # codes that those of all classes count for beside a class's own, where its widths are told


@dataclass(frozen=True)
class Prior:
    """Mixture of K Gaussians over z `[Z]` of which the first C coordinates are controls; those of a kind, one of M,
    have one covariance.

    `defined` `[K, C]`: how often a control is defined in a component. `radius`: 99 % of the timbre codes are no
    longer.
    """

    weight: NDArray[np.float64]  # [K]
    mean: NDArray[np.float64]  # [K, Z]
    covariance: NDArray[np.float64]  # [M, Z, Z]
    kind: NDArray[np.int64]  # [K]
    defined: NDArray[np.float64]  # [K, C]
    radius: float

    def sample(self, normal: Floats, even: Floats, asked: Floats, truncation: float = 1.0) -> NDArray[np.float64]:
        """Codes `[N, Z]` of the mixture given controls `asked` `[N, C]` (standardised; NaN: to be drawn, too).

        `normal` `[N, Z]` and `even` `[N, 1 + C]` in [0, 1) are the random numbers. `truncation` scales the deviation
        from the mean of all that is as asked (Karras et al. 2019, appendix B), below 1 by its root; and below 1 its
        cube is the share of what is as asked that is drawn from: codes with few others near them are left out (DeVries
        et al. 2020, "Instance selection for GANs"). recipes/LOG.md has what other powers gave. A control that is drawn
        may come out undefined (NaN), as often as in the data.
        """
        out = np.empty((len(asked), self.mean.shape[1]))
        given = np.isfinite(asked)
        for pattern in np.unique(given, axis=0):
            rows = np.flatnonzero((given == pattern).all(axis=1))
            out[rows] = self._conditional(pattern, normal[rows], even[rows], asked[rows], truncation)
        return out

    def distance(self, z: Floats) -> NDArray[np.float64]:
        """Mahalanobis distance of codes `[N, Z]` to the nearest component, per coordinate (about 1 for a real sound);
        a control that is undefined (NaN) stands at the component's mean."""
        from scipy.spatial.distance import cdist

        nearest = np.full(len(z), np.inf)
        there = np.isfinite(z)
        for kind, covariance in enumerate(self.covariance):
            precision = np.linalg.inv(covariance)
            for pattern in np.unique(there, axis=0):
                rows = np.flatnonzero((there == pattern).all(axis=1))
                root = np.linalg.cholesky(precision[np.ix_(pattern, pattern)])
                away = cdist(z[rows][:, pattern] @ root, self.mean[self.kind == kind][:, pattern] @ root).min(axis=1)
                nearest[rows] = np.minimum(nearest[rows], away / np.sqrt(z.shape[1]))
        return nearest

    @cached_property
    def _crowded(self) -> NDArray[np.int64]:
        """The components `[K]`, first the one that has its CROWD nearest ones nearest, in deviations of each
        coordinate."""
        away = _square_distances(self.mean / self.mean.std(axis=0).clip(1e-9))
        neighbour = min(CROWD, len(away) - 1)
        return np.argsort(np.partition(away, neighbour)[:, neighbour], kind="stable")

    def _conditional(
        self, pattern: NDArray[np.bool_], normal: Floats, even: Floats, asked: Floats, truncation: float
    ) -> NDArray[np.float64]:
        """The rows whose given controls are those of `pattern` `[C]`."""
        known = np.flatnonzero(pattern)
        free = np.setdiff1d(np.arange(self.mean.shape[1]), known)
        log = np.tile(np.log(np.maximum(self.weight, 1e-300)), (len(normal), 1))
        gains = []
        if len(known):
            log += np.log(np.maximum(self.defined[:, known], 1e-9)).sum(axis=1)
            away = asked[:, None, known] - self.mean[None, :, known]  # [N, K, G]
            for kind, covariance in enumerate(self.covariance):
                inner = covariance[np.ix_(known, known)]
                gains.append(np.linalg.solve(inner, covariance[np.ix_(known, free)]).T)
                mine = self.kind == kind
                square = np.einsum("nkg,gh,nkh->nk", away[:, mine], np.linalg.inv(inner), away[:, mine])
                log[:, mine] += -0.5 * square - 0.5 * np.linalg.slogdet(inner)[1]
        share = np.exp(log - log.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        drawn = share
        if truncation < 1:
            ordered = share[:, self._crowded]
            drawn = np.zeros_like(share)
            drawn[:, self._crowded] = ordered * (ordered.cumsum(axis=1) - ordered <= truncation**3)
            drawn /= drawn.sum(axis=1, keepdims=True)
        which = np.minimum((drawn.cumsum(axis=1) < even[:, :1]).sum(axis=1), len(self.weight) - 1)
        out = np.empty((len(normal), self.mean.shape[1]))
        out[:, known] = asked[:, known]
        for kind in np.unique(self.kind[which]):
            rows = np.flatnonzero(self.kind[which] == kind)
            mean = self.mean[np.ix_(which[rows], free)]
            covariance = self.covariance[kind][np.ix_(free, free)]
            if len(known):
                mean = mean + away[rows, which[rows]] @ gains[kind].T
                covariance = covariance - gains[kind] @ self.covariance[kind][np.ix_(known, free)]
            root = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(free)))
            out[np.ix_(rows, free)] = mean + normal[np.ix_(rows, free)] @ root.T
        if truncation != 1:
            middle = share @ self.mean[:, free]
            for kind, gain in enumerate(gains):
                mine = self.kind == kind
                middle += np.einsum("nk,nkg->ng", share[:, mine], away[:, mine]) @ gain.T
            out[:, free] = middle + (truncation if truncation > 1 else truncation**0.5) * (out[:, free] - middle)
        undefined = ~pattern & (even[:, 1:] >= self.defined[which])
        out[:, : len(pattern)][undefined] = np.nan
        return out


def fit_prior(z: Floats, controls: int, classes: Sequence[int] = ()) -> Prior:
    """The density of codes `[N, Z]` whose first `controls` coordinates may be NaN (undefined): a Gaussian kernel on
    each of at most KERNELS of them, as wide as nearest neighbours are apart.

    Kernels stand nearer to the mean than their codes, so that the mixture has mean and covariance of the codes (West
    1993, "Approximating posterior distributions by mixtures", section 2.2, here in each direction by its own share):
    a direction in which even neighbours differ as much as all codes do is all kernel. The coordinates `classes` are
    classes: neighbours share them, kernels do not reach from one to the next, and all of this holds within a class,
    whose kernels are as much wider or narrower in a coordinate as its codes are.
    """
    z = np.asarray(z, dtype=np.float64)
    z = z[np.linspace(0, len(z) - 1, min(len(z), KERNELS)).round().astype(np.int64)]
    defined = np.isfinite(z[:, :controls])
    fill = np.nan_to_num(z[:, :controls]).sum(axis=0) / defined.sum(axis=0).clip(1)
    mean: NDArray[np.float64] = np.array(z)
    mean[:, :controls] = np.where(defined, z[:, :controls], fill)
    radius = float(np.quantile(np.linalg.norm(mean[:, controls:], axis=1), 0.99))
    free = np.setdiff1d(np.arange(z.shape[1]), classes)
    kind = np.unique(mean[:, list(classes)], axis=0, return_inverse=True)[1].ravel()
    member = kind == np.arange(kind.max() + 1)[:, None]  # [M, N]
    count, full = member.sum(axis=1, keepdims=True), mean[:, free]
    middle = member @ full / count
    full = full - middle[kind]
    square = np.square(full)
    usual = square.mean(axis=0).clip(1e-12)
    width = np.sqrt((member @ square + FEW * usual) / ((count + FEW) * usual))
    full = full / width[kind]
    spread = np.cov(full.T) + 1e-4 * np.eye(full.shape[1])
    size, axes = np.linalg.eigh(spread)
    root, back = (axes * size**power @ axes.T for power in (0.5, -0.5))
    between = full[_nearest(full @ back, kind)] - full
    share, turn = np.linalg.eigh(back @ (between.T @ between / (2 * len(full))) @ back)
    share = share.clip(1e-3, WIDEST)
    shrink = root @ (turn * np.sqrt(1 - share) @ turn.T) @ back
    mean[:, free] = middle[kind] + width[kind] * (full @ shrink.T)
    covariance = np.tile(POINT * np.eye(z.shape[1]), (len(middle), 1, 1))
    covariance[np.ix_(np.arange(len(middle)), free, free)] = (
        root @ (turn * share @ turn.T) @ root * width[:, :, None] * width[:, None]
    )
    return Prior(np.full(len(full), 1 / len(full)), mean, covariance, kind, defined.astype(np.float64), radius)


def _square_distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of all pairs of points `[N, Z]`, `[N, N]`; several times as fast as cdist."""
    square = np.square(points).sum(axis=1)
    return square[:, None] + square - 2 * points @ points.T


def _nearest(points: NDArray[np.float64], kind: NDArray[np.int64]) -> NDArray[np.int64]:
    """The nearest other point of each `[N, Z]`, of the same kind `[N]`; of a kind of its own, the point itself."""
    away = _square_distances(points)
    away[kind[:, None] != kind] = np.inf
    np.fill_diagonal(away, 1e300)
    return away.argmin(axis=1)
