"""The judge of pitch: one protocol for every published figure.

From the output *audio*: librosa's pYIN, 32 Hz to a quarter of the sample rate, median over the sounding middle; on a
sample of the clips a second, unrelated meter (swift-f0, a small network) is asked too. Requests are counted when the
*real* clip, passed through the same copy (vocoder or Griffin-Lim), is found within 50 cents of its pitch; an output
without a measurable pitch is a failure. Nothing that labels data or corrects sounds inside the product is used here.
"""

import signal
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from audio_vaegan.descriptors import pyin

WITHIN = 50.0  # cents


def _one(job: tuple[NDArray[np.float32], int]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pyin(*job)


def _quiet() -> None:
    """Ctrl-C is for the process that asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Judge:
    """A pool of processes that measure pitch. Use as a context manager."""

    def __init__(self, workers: int = 2) -> None:
        self.pool = ProcessPoolExecutor(workers, get_context("spawn"), _quiet)  # no fork beside torch's threads

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def measure(
        self, audio: Sequence[NDArray[np.float32]] | NDArray[np.float32], sample_rate: int, name: str = "judge"
    ) -> NDArray[np.float64]:
        """Pitch in MIDI semitones of each clip; NaN where there is none. `name` is what the progress bar says."""
        jobs = [(np.asarray(a, dtype=np.float32), sample_rate) for a in audio]
        found = self.pool.map(_one, jobs, chunksize=4)
        return np.array(list(tqdm(found, total=len(jobs), desc=name, unit="clip", leave=False)))


@dataclass(frozen=True)
class PitchScore:
    """How far a set of sounds is from the pitches asked of it. Errors in cents, shares in percent.

    `n` requests are judged; `excluded` is the share of requests left out because the real clip failed the copy.
    `low` and `high` bound `within` with 95 % confidence, by bootstrap over instruments.
    """

    n: int
    excluded: float
    within: float
    low: float
    high: float
    median: float
    p90: float
    unmeasurable: float

    def to_json(self) -> dict[str, Any]:
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}


def score(
    measured: NDArray[np.float64],
    asked: NDArray[np.float64],
    groups: Sequence[str],
    allowed: NDArray[np.bool_] | None = None,
    resamples: int = 1000,
) -> PitchScore:
    """Score measured against asked pitches (MIDI semitones).

    `allowed` marks the requests whose real clip passed the copy; `groups` names the instrument of each request.
    """
    allowed = np.ones(len(asked), dtype=bool) if allowed is None else allowed
    error = 100 * np.abs(measured - asked)[allowed]
    n = len(error)
    if not n:
        return PitchScore(0, 100.0, *([float("nan")] * 6))
    hit = np.nan_to_num(error, nan=np.inf) <= WITHIN
    names, index = np.unique(np.asarray(groups)[allowed], return_inverse=True)
    hits, counts = np.bincount(index, hit), np.bincount(index)
    draws = np.random.default_rng(0).integers(0, len(names), (resamples, len(names)))
    shares = 100 * hits[draws].sum(axis=1) / counts[draws].sum(axis=1)
    full = np.nan_to_num(error, nan=np.inf)
    return PitchScore(
        n=n,
        excluded=float(100 * (1 - allowed.mean())),
        within=float(100 * hit.mean()),
        low=float(np.percentile(shares, 2.5)),
        high=float(np.percentile(shares, 97.5)),
        median=float(np.median(full)),
        p90=float(np.percentile(full, 90, method="lower")),
        unmeasurable=float(100 * np.isnan(error).mean()),
    )


def second_meter(audio: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64] | None:
    """Pitch by swift-f0 (a network that ships in its wheel), median over its voiced frames,
    47 to 2,093 Hz. None if not installed."""
    try:
        from swift_f0 import SwiftF0
    except ImportError:
        return None
    detector = SwiftF0()
    found = []
    for clip in audio:
        result = detector.detect(np.asarray(clip, dtype=np.float32), sample_rate)
        f0 = result.pitch_hz[result.confidence >= 0.5]
        found.append(69 + 12 * np.log2(np.median(f0) / 440) if len(f0) >= 3 else np.nan)
    return np.array(found)
