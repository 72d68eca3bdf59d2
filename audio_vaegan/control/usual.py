"""What real sounds of the training kind score, so that an odd one can be told: features, and how scores are spread."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COMPONENTS = 48
FEWEST = 20  # held-out sounds that scores are calibrated on
QUANTILES = np.linspace(0, 1, 201)


@dataclass(frozen=True)
class Features:
    """A Gaussian of features `[F]` on their first K principal components, each of unit deviation."""

    mean: Floats  # [F]
    axes: Floats  # [K, F]: projections have unit deviation over the training sounds

    def distance(self, features: Floats) -> Floats:
        """Mahalanobis distance `[N]` of features `[N, F]`, per component (about 1 for a usual sound)."""
        return np.sqrt(np.square((features - self.mean) @ self.axes.T).mean(axis=1))


def fit_features(features: Floats) -> Features:
    """The Gaussian of features `[N, F]` of training sounds."""
    from sklearn.decomposition import PCA

    count = min(COMPONENTS, len(features) - 1, features.shape[1])
    pca = PCA(count, svd_solver="covariance_eigh").fit(features)
    deviation = np.sqrt(pca.explained_variance_.clip(1e-12))
    return Features(pca.mean_, pca.components_ / deviation[:, None])


@dataclass(frozen=True)
class Usual:
    """How scores are spread over real sounds that training never heard: of each of S scores the median and the spread
    of its logarithm, and quantiles of their mean, which is the whole score."""

    names: tuple[str, ...]
    median: Floats  # [S]
    spread: Floats  # [S]
    quantiles: Floats  # [201]
    features: Features | None = None

    def whole(self, scores: Floats) -> Floats:
        """`[N, S]` -> `[N]`: by how many spreads a sound is odder than the median real one, a mean over scores."""
        return ((np.log(scores.clip(1e-9)) - self.median) / self.spread).mean(axis=1)

    def rarity(self, whole: Floats) -> Floats:
        """The share of real sounds that score as high `[N]`: calling these odd gives as many false alarms."""
        return 1 - np.interp(whole, self.quantiles, QUANTILES, left=0.0, right=1.0)


def fit_usual(names: tuple[str, ...], scores: Floats, features: Features | None) -> Usual:
    """From scores `[N, S]` of real sounds that were held out."""
    log = np.log(scores.clip(1e-9))
    median = np.median(log, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(log - median), axis=0), 1e-3)
    usual = Usual(names, median, spread, np.zeros(len(QUANTILES)), features)
    return Usual(names, median, spread, np.quantile(usual.whole(scores), QUANTILES), features)
