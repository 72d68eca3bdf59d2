"""Counting what a data set holds, one row at a time, in memory that does not grow with it."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from audio_vaegan.dataset.facts import Measured, Row

BINS = 40  # of the histograms of a control, over the model's range
OCTAVES = range(-1, 10)  # that hold the MIDI keys 0 ... 127; C4 is the octave from key 60
CENTS = (50, 10)  # a pitch is counted as within these of its request
_ROUNDING = 1.01e-4  # what the four digits of two values in a row can add to their distance
# Errors in tolerances: a hundredth apart from one another, over seven orders of magnitude.
_ERRORS = [0.0, *(1e-4 * 1.01**k for k in range(1621))]


def number(value: Any) -> float | None:
    """A finite number, or None for all else: null, a class's name, NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def spaced(low: float, high: float, bins: int) -> list[float]:
    """The `bins + 1` ends of equal bins."""
    return [low + (high - low) * k / bins for k in range(bins + 1)]


def octave(pitch: float) -> int:
    """The octave of the MIDI key nearest to a pitch: 4 from 59.5 to 71.5."""
    return min(max(math.floor((pitch + 0.5) / 12) - 1, OCTAVES[0]), OCTAVES[-1])


class Histogram:
    """Counts of numbers between ascending `edges`; what lies outside counts in the outermost bins."""

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = list(edges)
        self.counts = [0] * (len(edges) - 1)
        self.n, self.total, self.low, self.high = 0, 0.0, math.inf, -math.inf

    def add(self, value: float) -> None:
        self.counts[min(max(bisect_right(self.edges, value) - 1, 0), len(self.counts) - 1)] += 1
        self.n, self.total = self.n + 1, self.total + value
        self.low, self.high = min(self.low, value), max(self.high, value)

    def below(self) -> list[int]:
        """How many lie below the upper end of each bin."""
        return list(accumulate(self.counts))

    def quantile(self, share: float) -> float | None:
        """The value that a share of all lies below, to a bin's width; None when there is none."""
        if not self.n:
            return None
        if share in (0, 1):
            return self.high if share else self.low
        below = self.below()
        k = next(k for k, count in enumerate(below) if count and count >= share * self.n)
        inside = (share * self.n - (below[k] - self.counts[k])) / self.counts[k]
        value = self.edges[k] + (self.edges[k + 1] - self.edges[k]) * inside
        return min(max(value, self.low), self.high)

    def summary(self) -> dict[str, float | int | None]:
        """Count, lowest, median, P95, highest and mean; None without any."""
        some = self.n > 0
        return {
            "n": self.n,
            "min": self.low if some else None,
            "median": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "max": self.high if some else None,
            "mean": self.total / self.n if some else None,
        }

    def to_json(self) -> dict[str, Any]:
        return {"low": self.edges[0], "high": self.edges[-1], "counts": self.counts}


class ControlTally:
    """What was asked of a control, what came, and how far the one is from the other."""

    def __init__(self, name: str, measured: Measured) -> None:
        self.name, self.unit, self.tolerance = name, measured.unit, measured.tolerance
        # Without a tolerance errors are still told apart: by hundredths of the range.
        self.scale = measured.tolerance or (measured.high - measured.low) / 100 or 1.0
        edges = spaced(measured.low, measured.high, BINS)
        self.asked, self.achieved = Histogram(edges), Histogram(edges)  # asked: at first, and of missing sounds, too
        self.error = Histogram(_ERRORS)  # distance in tolerances, of sounds with a request and a value
        self.bias = 0.0  # sum of the errors, with their sign, in the unit
        self.requested = self.undefined = self.lost = self.within = 0  # lost: undefined in spite of a request
        self.cents = dict.fromkeys(CENTS, 0)

    def add(self, requested: float | None, achieved: float | None, first: float | None) -> None:
        """A delivered sound; `first` is what was asked of it at first."""
        if first is not None:
            self.asked.add(first)
        self.requested += requested is not None
        if achieved is None:
            self.undefined += 1
            self.lost += requested is not None
            return
        self.achieved.add(achieved)
        if requested is None:
            return
        error = achieved - requested
        self.error.add(abs(error) / self.scale)
        self.bias += error
        self.within += abs(error) <= self.scale + _ROUNDING
        for cents in CENTS:
            self.cents[cents] += abs(error) <= cents / 100 + _ROUNDING

    def quantile(self, share: float) -> float | None:
        """The distance from the request that a share of the sounds stays below, in the control's unit."""
        distance = self.error.quantile(share)
        return None if distance is None else distance * self.scale

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; errors in the control's unit, of the sounds that have a request and a value."""
        n = self.error.n
        return {
            "unit": self.unit,
            "tolerance": self.tolerance,
            "asked": self.asked.n,
            "requested": self.requested,
            "undefined": self.undefined,
            "undefined_though_requested": self.lost,
            "error": {
                "n": n,
                "mean": self.bias / n if n else None,
                "median": self.quantile(0.5),
                "p95": self.quantile(0.95),
                "max": self.error.high * self.scale if n else None,
            },
            "within_tolerance": self.within if self.tolerance is not None else None,
            **({f"within_{c}_cents": k for c, k in self.cents.items()} if self.name == "pitch" else {}),
            "achieved": self.achieved.summary() if self.achieved.n else None,
            "asked_histogram": self.asked.to_json(),
            "achieved_histogram": self.achieved.to_json(),
        }


class Balance:
    """How many sounds of each kind were asked for at first, and how many of them were delivered."""

    def __init__(self) -> None:
        self.asked: Counter[Any] = Counter()
        self.delivered: Counter[Any] = Counter()

    def add(self, kind: Any, delivered: bool) -> None:
        if kind is not None:
            self.asked[kind] += 1
            self.delivered[kind] += delivered

    def to_json(self) -> dict[str, dict[str, int]]:
        kinds = sorted({*self.asked, *self.delivered})
        return {str(k): {"asked": self.asked[k], "delivered": self.delivered[k]} for k in kinds}


class Tally:
    """What the rows of a data set come to. Its memory depends on controls, classes and splits, not on rows."""

    def __init__(self, controls: Mapping[str, Measured]) -> None:
        self.controls = {name: ControlTally(name, m) for name, m in controls.items() if m.unit != "class"}
        self.delivered = self.missing = self.no_pitch = 0
        self.anew = 0  # delivered under another request than the first
        self.splits, self.classes, self.octaves = Balance(), Balance(), Balance()
        self.attempts: Counter[int] = Counter()  # the attempt that was good, from 0
        self.nearest = Histogram(spaced(0, 1, 1000))
        self.peak = Histogram(spaced(-120, 12, 1320))  # dBFS
        self.loudness = Histogram(spaced(-120, 12, 1320))  # LUFS

    def add(self, row: Row, first: Row | None = None) -> None:
        """A sound that was delivered; `first`: NAME_requested as it was at first, where it was drawn anew later."""
        self.delivered += 1
        first = row | (first or {})
        self.anew += any(first[key] != row[key] for key in row if key.endswith("_requested"))
        for name, control in self.controls.items():
            key = f"{name}_requested"
            control.add(number(row.get(key)), number(row.get(f"{name}_achieved")), number(first.get(key)))
        self._balance(row, True, first)
        self.attempts[int(row.get("attempt") or 0)] += 1
        for histogram, key in (
            (self.nearest, "nearest_training"),
            (self.peak, "peak_dbfs"),
            (self.loudness, "loudness_lufs"),
        ):
            value = number(row.get(key))
            if value is not None:
                histogram.add(value)

    def add_missing(self, row: Row) -> None:
        """A sound that was asked for and never delivered: only its requests and its split count."""
        self.missing += 1
        for name, control in self.controls.items():
            value = number(row.get(f"{name}_requested"))
            if value is not None:
                control.asked.add(value)
        self._balance(row, False, row)

    def _balance(self, row: Row, delivered: bool, first: Row) -> None:
        self.splits.add(row.get("split"), delivered)
        # Of a missing sound only the request is known; a class is the only one that is a word.
        asked = (value for key, value in row.items() if key.endswith("_requested") and isinstance(value, str))
        self.classes.add(row.get("label") or next(asked, None), delivered)
        if "pitch" not in self.controls:
            return
        requested, achieved = number(first.get("pitch_requested")), number(row.get("pitch_achieved"))
        if requested is not None:
            self.octaves.asked[octave(requested)] += 1
        if delivered and achieved is not None:
            self.octaves.delivered[octave(achieved)] += 1  # where it is heard, not where it was asked
        self.no_pitch += delivered and achieved is None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers without NaN, for `json.dumps(..., allow_nan=False)`."""
        return {
            "delivered": self.delivered,
            "missing": self.missing,
            "requested_anew": self.anew,
            "splits": self.splits.to_json(),
            "classes": self.classes.to_json(),
            "octaves": {f"C{k}": counts for k, counts in self.octaves.to_json().items()},
            "no_pitch": self.no_pitch,
            "attempts": {str(k): self.attempts[k] for k in sorted(self.attempts)},
            "nearest_training": self.nearest.summary() | {"p99": self.nearest.quantile(0.99)},
            "peak_dbfs": self.peak.summary(),
            "loudness_lufs": self.loudness.summary(),
            "controls": {name: control.to_json() for name, control in self.controls.items()},
        }
