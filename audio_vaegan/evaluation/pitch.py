"""The judge of pitch: one protocol for every published figure.

From the output *audio*: librosa's pYIN, 32 Hz to a quarter of the sample rate, median over the sounding middle; on a
sample of the clips a second, unrelated meter (swift-f0, a small network) is asked too. Requests are counted when the
*real* clip, passed through the same copy (vocoder or Griffin-Lim), is found within 50 cents of its pitch; an output
without a measurable pitch is a failure. Nothing that labels data or corrects sounds inside the product is used here.
pYIN answers on a grid of 10 cents; where that is too coarse, its answer is refined from the peaks of the spectrum.
"""

import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from audio_vaegan.data.pool import processes, start_worker
from audio_vaegan.descriptors import load_librosa, pyin, sounding_middle
from audio_vaegan.descriptors.judge_controls import judge_control

WITHIN = 50.0  # cents
REACH = 60.0  # cents by which refining may move an estimate
HARMONICS = 6  # that refining looks at
WEAK = 0.05  # of the largest magnitude around the harmonics: below, a peak may be noise, or the window's side lobe


def _one(job: tuple[NDArray[np.float32], int, bool]) -> float:
    audio, sample_rate, fine = job
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pyin(audio, sample_rate)
    return refine(audio, sample_rate, found) if fine else found


def _each(job: tuple[NDArray[np.float32], int, tuple[str, ...], bool]) -> list[float]:
    audio, sample_rate, names, fine = job
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            _one((audio, sample_rate, fine)) if name == "pitch" else judge_control(name, audio, sample_rate)
            for name in names
        ]


def refine(audio: NDArray[np.float32], sample_rate: int, midi: float) -> float:
    """The pitch of a clip `[samples]` near the estimate `midi`, to about a cent, in MIDI semitones.

    From the spectrum of the sounding middle (Hann window, padded with zeros to four times its length or more) the
    highest peak within `REACH` cents of each of the first harmonics, between bins by the parabola through three log
    magnitudes (Smith & Serra 1987, PARSHL, section 5); the fundamentals that they imply are averaged by their
    magnitudes. So it never moves by more than `REACH`, and stays where it is if there is no peak; NaN stays NaN.
    """
    if not np.isfinite(midi):
        return float("nan")
    middle = sounding_middle(audio, sample_rate).astype(np.float64)
    size = 1 << int(np.ceil(np.log2(4 * len(middle))))
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), size))
    hz = 440 * 2 ** ((midi - 69) / 12) * np.arange(1, HARMONICS + 1)
    centre = hz * size / sample_rate  # in bins
    centre = centre[(centre > 4) & (centre * 2 ** (REACH / 1200) < size / 2 - 2)]
    away, weight = np.zeros(len(centre)), np.zeros(len(centre))
    for k, bin in enumerate(centre):
        first, last = (int(np.rint(bin * 2 ** (c / 1200))) for c in (-REACH, REACH))
        near = spectrum[first - 1 : last + 2]
        top = int(near[1:-1].argmax()) + 1
        a, b, c = np.log(near[top - 1 : top + 2] + 1e-30)
        if b > max(a, c):  # else it is the flank of what lies further off
            away[k] = 1200 * np.log2((first - 1 + top + 0.5 * (a - c) / (a - 2 * b + c)) / bin)
            weight[k] = near[top]
    low, high = (int(b * size / sample_rate) for b in (hz[0] / 2, hz[-1] + hz[0] / 2))
    weight[weight < WEAK * spectrum[low : high + 1].max(initial=0)] = 0
    if not weight.any():
        return midi
    return midi + float(np.clip(away @ weight / weight.sum(), -REACH, REACH)) / 100


class Judge:
    """A pool of processes that measure pitch. Use as a context manager."""

    def __init__(self, workers: int = 2) -> None:
        load_librosa()
        self.pool = ProcessPoolExecutor(workers, processes("audio_vaegan.evaluation.judging"), start_worker)

    def __enter__(self) -> "Judge":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def measure(
        self,
        audio: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        sample_rate: int,
        name: str = "judge",
        fine: bool = False,
    ) -> NDArray[np.float64]:
        """Pitch in MIDI semitones of each clip; NaN where there is none. `name` is what the progress bar says, without
        one there is no bar; `fine` refines each answer (`refine`)."""
        jobs = [(np.asarray(a, dtype=np.float32), sample_rate, fine) for a in audio]
        found = self.pool.map(_one, jobs, chunksize=4)
        return np.array(list(tqdm(found, total=len(jobs), desc=name, unit="clip", leave=False, disable=not name)))

    def measure_controls(
        self,
        audio: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        sample_rate: int,
        names: Sequence[str],
        lengths: Sequence[int] | NDArray[np.int64] | None = None,
        name: str = "judge",
        fine: bool = False,
    ) -> dict[str, NDArray[np.float64]]:
        """Each named control `[B]` of the clips in its unit, NaN where undefined: pitch as `measure` finds it, any
        other by `judge_control`, which raises KeyError for a name it has no meter for. Of a clip only the first
        `lengths` `[B]` samples are heard (default all). `name` and `fine` as in `measure`."""
        size = [len(a) for a in audio] if lengths is None else [int(n) for n in lengths]
        clips = [np.asarray(a, dtype=np.float32)[:n] for a, n in zip(audio, size, strict=True)]
        jobs = [(a, sample_rate, tuple(names), fine) for a in clips]
        found = self.pool.map(_each, jobs, chunksize=max(1, min(4, len(jobs) // 4)))  # a few clips to each process
        rows = list(tqdm(found, total=len(jobs), desc=name, unit="clip", leave=False, disable=not name))
        columns = np.array(rows, dtype=np.float64).reshape(len(jobs), len(names)).T
        return dict(zip(names, columns, strict=True))


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
    interval = mean_interval(100.0 * hit, np.asarray(groups)[allowed], resamples)
    full = np.nan_to_num(error, nan=np.inf)
    return PitchScore(
        n=n,
        excluded=float(100 * (1 - allowed.mean())),
        within=interval["mean"],
        low=interval["low"],
        high=interval["high"],
        median=float(np.median(full)),
        p90=float(np.percentile(full, 90, method="lower")),
        unmeasurable=float(100 * np.isnan(error).mean()),
    )


def mean_interval(
    values: NDArray[np.float64], groups: Sequence[str] | NDArray[np.str_], resamples: int = 1000
) -> dict[str, float]:
    """The mean over values, and its 95 % interval (`low`, `high`) by bootstrap over the groups they belong to."""
    low, high = np.percentile(mean_draws(values, groups, resamples), (2.5, 97.5))
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def mean_draws(
    values: NDArray[np.float64], groups: Sequence[str] | NDArray[Any], resamples: int = 1000
) -> NDArray[np.float64]:
    """Means `[resamples]` of values `[N]` whose groups were drawn with replacement, with a fixed seed: two lists of
    values of the same groups are drawn alike."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    draws = np.random.default_rng(0).integers(0, len(names), (resamples, len(names)))
    found: NDArray[np.float64] = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    return found


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
