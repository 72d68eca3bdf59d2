"""From what is asked of a control to the coordinate that makes it sound so, and back: a monotone map."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KNOTS = 9
STEEPEST = 4.0  # of the map: where the sound hardly follows the coordinate, pushing harder breaks it
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Map:
    """Piecewise linear and strictly rising: at the standardised coordinate `coordinate[k]` a sound measures
    `measured[k]`, in standardised values of the control; beyond the ends it goes on with slope 1."""

    measured: tuple[float, ...]
    coordinate: tuple[float, ...]

    def __call__(self, wanted: Floats) -> Floats:
        """The coordinate for a wanted value. NaN stays NaN."""
        x, y = np.asarray(self.measured), np.asarray(self.coordinate)
        wanted = np.asarray(wanted, dtype=np.float64)
        beyond = np.minimum(wanted - x[0], 0) + np.maximum(wanted - x[-1], 0)
        return np.interp(wanted, x, y) + beyond


IDENTITY = Map((-1.0, 1.0), (-1.0, 1.0))


def fit_map(coordinate: Floats, measured: Floats, knots: int = KNOTS) -> Map:
    """The map of pairs `[N]`: coordinates that were set, and what was then measured (NaN: nothing; left out).

    The least-squares rising curve (isotonic regression, Barlow et al. 1972), read at a few quantiles of the coordinate,
    and turned round. Where it is so flat that its inverse would be steeper than `STEEPEST`, it is made less flat.
    Fewer than 30 pairs, or all at one coordinate: the identity.
    """
    from sklearn.isotonic import IsotonicRegression

    fine = np.isfinite(coordinate) & np.isfinite(measured)
    x, y = coordinate[fine], measured[fine]
    if len(x) < 30 or np.ptp(x) < 1e-6:
        return IDENTITY
    curve = IsotonicRegression(out_of_bounds="clip").fit(x, y)
    at = np.unique(np.quantile(x, np.linspace(0.02, 0.98, knots)))
    window = max(np.ptp(at) / (2 * len(at)), 1e-6)  # averaged around each knot: isotonic curves are staircases
    found = np.array([curve.predict(np.linspace(a - window, a + window, 17)).mean() for a in at])
    middle = len(at) // 2
    steps = np.maximum(np.diff(found), np.diff(at) / STEEPEST)
    rising = np.concatenate([[0.0], np.cumsum(steps)])
    rising += found[middle] - rising[middle]
    return Map(tuple(rising.round(5).tolist()), tuple(at.round(5).tolist()))
