"""Where codes of real sounds lie: a Gaussian mixture over [controls | timbre], conditional on what is asked.

The encoder's codes do not fill N(0, I) evenly (the KL cost only pulls towards it), and which timbres go with which
pitch the plain prior does not know. Sampling from the aggregate posterior (Makhzani et al. 2016; ex-post density
estimation: Ghosh et al. 2020) stays where the generator was trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

Floats = NDArray[np.floating[Any]]
RIDGE = 0.01  # added to variances: no component collapses on a few codes
COMPONENTS = (1, 2, 4, 8, 16, 32)
LEAST = 40  # codes to fit a mixture to


@dataclass(frozen=True)
class Prior:
    """Mixture of K Gaussians over z `[Z]` of which the first C coordinates are controls.

    `defined` `[K, C]`: how often a control is defined in a component. `radius`: 99 % of the timbre codes are no
    longer.
    """

    weight: NDArray[np.float64]  # [K]
    mean: NDArray[np.float64]  # [K, Z]
    covariance: NDArray[np.float64]  # [K, Z, Z]
    defined: NDArray[np.float64]  # [K, C]
    radius: float

    def sample(self, normal: Floats, even: Floats, asked: Floats, truncation: float = 1.0) -> NDArray[np.float64]:
        """Codes `[N, Z]` of the mixture given controls `asked` `[N, C]` (standardised; NaN: to be drawn, too).

        `normal` `[N, Z]` and `even` `[N, 1 + C]` in [0, 1) are the random numbers; `truncation` scales the deviation
        from the component's mean. A control that is drawn may come out undefined (NaN), as often as in the data.
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
        nearest = np.full(len(z), np.inf)
        for mean, covariance in zip(self.mean, self.covariance, strict=True):
            away = np.where(np.isfinite(z), z - mean, 0.0)
            square = (away * np.linalg.solve(covariance, away.T).T).sum(axis=1)
            nearest = np.minimum(nearest, np.sqrt(np.maximum(square, 0) / z.shape[1]))
        return nearest

    def _conditional(
        self, pattern: NDArray[np.bool_], normal: Floats, even: Floats, asked: Floats, truncation: float
    ) -> NDArray[np.float64]:
        """The rows whose given controls are those of `pattern` `[C]`."""
        size = self.mean.shape[1]
        known = np.flatnonzero(pattern)
        free = np.setdiff1d(np.arange(size), known)
        log = np.tile(np.log(np.maximum(self.weight, 1e-300)), (len(normal), 1))
        if len(known):
            away = asked[:, None, known] - self.mean[None, :, known]  # [N, K, G]
            inner = self.covariance[:, known][:, :, known]
            solved = np.stack([np.linalg.solve(inner[k], away[:, k].T).T for k in range(len(self.weight))], axis=1)
            log += -0.5 * (away * solved).sum(-1) - 0.5 * np.linalg.slogdet(inner)[1]
        share = np.exp(log - log.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        which = np.minimum((share.cumsum(axis=1) < even[:, :1]).sum(axis=1), len(self.weight) - 1)
        out = np.empty((len(normal), size))
        out[:, known] = asked[:, known]
        for k in np.unique(which):
            rows = np.flatnonzero(which == k)
            mean = np.broadcast_to(self.mean[k, free], (len(rows), len(free)))
            covariance = self.covariance[k][np.ix_(free, free)]
            if len(known):
                across = self.covariance[k][np.ix_(free, known)]
                mean = mean + solved[rows, k] @ across.T
                covariance = covariance - across @ np.linalg.solve(inner[k], across.T)
            root = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(free)))
            out[np.ix_(rows, free)] = mean + truncation * normal[np.ix_(rows, free)] @ root.T
        undefined = ~pattern & (even[:, 1:] >= self.defined[which])
        out[:, : len(pattern)][undefined] = np.nan
        return out


def fit_prior(z: Floats, controls: int, groups: Sequence[str], seed: int = 0) -> Prior:
    """The mixture of codes `[N, Z]` whose first `controls` coordinates may be NaN (undefined).

    The number of components, and whether they share one covariance, are those under which left-out groups (instruments)
    are most likely, by 3-fold cross-validation.
    """
    z = np.asarray(z, dtype=np.float64)
    defined = np.isfinite(z[:, :controls])
    fill = np.where(defined.any(axis=0), np.nanmean(np.where(defined, z[:, :controls], np.nan), axis=0), 0.0)
    full = z.copy()
    full[:, :controls] = np.where(defined, z[:, :controls], fill)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    best, gain = _mixture(1, "full", seed), float("-inf")
    kinds = [(n, kind) for kind in ("full", "tied") for n in COMPONENTS if len(full) >= n * LEAST and len(names) > 2]
    for count, kind in tqdm(kinds, desc="prior", unit="mixture", leave=False, delay=1):
        found = [
            _mixture(count, kind, seed).fit(full[fit]).score(full[rest])
            for fit, rest in GroupKFold(3).split(full, groups=group)
        ]
        if np.mean(found) > gain:
            best, gain = _mixture(count, kind, seed), float(np.mean(found))
    best.fit(full)
    share = best.predict_proba(full)
    size = full.shape[1]
    covariance = np.broadcast_to(best.covariances_, (best.n_components, size, size))
    return Prior(
        weight=best.weights_,
        mean=best.means_,
        covariance=np.array(covariance),
        defined=(share.T @ defined) / np.maximum(share.sum(axis=0), 1e-9)[:, None],
        radius=float(np.quantile(np.linalg.norm(full[:, controls:], axis=1), 0.99)),
    )


def _mixture(count: int, kind: str, seed: int) -> GaussianMixture:
    return GaussianMixture(count, covariance_type=kind, reg_covar=RIDGE, random_state=seed, max_iter=60)
