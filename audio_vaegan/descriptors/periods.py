"""The period of every frame of a batch of clips, and how alike neighbouring periods are.

YIN (de Cheveigne & Kawahara 2002, "YIN, a fundamental frequency estimator for speech and music") steps 2-5; the
likeness is the normalised cross-correlation of Boersma (1993), "Accurate short-term analysis of the fundamental
frequency and the harmonics-to-noise ratio of a sampled sound", section 3.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from audio_vaegan.compiled import arrays, compiled
from audio_vaegan.descriptors.spectrum import fft_size

TAPS = 44  # lags either side that interpolate the correlation; the shortest span measured, 48 lags, has as many
F_MIN = 32.0  # Hz
SHORT = 64  # lags: the depth of dips among these is read between samples; half a sample is little of a longer period
STEPS = 8  # fractional lags a sample


@dataclass(frozen=True)
class Periods:
    """Frames `[B, F]`: `period` in samples, `depth` of YIN's normalised difference there (0 = periodic),
    `likeness` (correlation -1..1 of the frame and itself a whole number of periods later, at the best fractional
    lag), and `sounding`: within 40 dB of the clip's loudest frame, and above -100 dBFS."""

    period: Tensor
    depth: Tensor
    likeness: Tensor
    sounding: Tensor


def find_periods(
    audio: Tensor,
    sample_rate: int,
    f_min: float = F_MIN,
    f_max: float | None = None,
    threshold: float = 0.15,
    length: Tensor | None = None,
) -> Periods:
    """Periods of `[B, samples]` between `f_max` (default a quarter of the sample rate) and `f_min`, in Hz.

    Frames are at least 1024 samples and the longest period long, half overlapped; those that do not lie within the
    true `length` `[B]` are not sounding.
    """
    device, audio = audio.device, audio.detach().to("cpu", torch.float32)
    lag_max = _longest(sample_rate, f_min)
    lag_min = max(2, int(sample_rate / (f_max or sample_rate / 4)))
    window = periods_window(sample_rate, f_min)
    hop = window // 2
    count = max(0, audio.shape[1] - window - lag_max) // hop + 1
    audio = pad(audio, (0, max(0, (count + 1) * hop + lag_max + TAPS - audio.shape[1])))
    halves = _correlate(audio, hop, count, lag_max + TAPS)
    period, depth, likeness, level = found = [torch.empty(len(audio), count) for _ in range(4)]
    _measure_frames(*arrays(audio, halves, _sinc()), window, lag_min, threshold, *arrays(*found))
    sounding = level > 1e-4 * level.amax(dim=1, keepdim=True)
    sounding &= level > window * 1e-10
    if length is not None:
        start = torch.arange(count) * hop
        sounding &= (start == 0) | (start + window + lag_max <= length.cpu().unsqueeze(1))
    return Periods(*(x.to(device) for x in (period, depth, likeness, sounding)))


def periods_window(sample_rate: int, f_min: float = F_MIN) -> int:
    """Samples of a frame: at least 1024, a power of two no shorter than the longest period."""
    return max(1024, 1 << (_longest(sample_rate, f_min) - 1).bit_length())


def _longest(sample_rate: int, f_min: float) -> int:
    return int(sample_rate / f_min) + 1


def _correlate(audio: Tensor, hop: int, count: int, lag_max: int) -> Tensor:
    """Correlation of stretches of a hop with the samples 0..lag_max later, `[B, count + 1, lag_max + 1]`.

    That of a frame, two hops, is the sum of its two halves', and each half serves two frames: half the transform size.
    """
    blocks = audio.unfold(1, hop + lag_max, hop)[:, : count + 1]
    size = fft_size(hop + lag_max)
    spectrum = torch.fft.rfft(blocks[..., :hop], size).conj() * torch.fft.rfft(blocks, size)
    return torch.fft.irfft(spectrum, size)[..., : lag_max + 1]


@cache
def _sinc() -> Tensor:
    """Values at -TAPS..TAPS -> values at -1..1 in steps of 1 / STEPS, `[2 TAPS + 1, 2 STEPS + 1]`."""
    offset = torch.arange(-STEPS, STEPS + 1) / STEPS
    away = torch.arange(-TAPS, TAPS + 1).unsqueeze(1) - offset
    return torch.sinc(away) * torch.cos(torch.pi * away / (2 * TAPS + 4)).square()


@compiled
def _measure_frames(  # type: ignore[no-untyped-def]
    audio, halves, sinc, window, lag_min, threshold, periods, depths, likenesses, levels
):
    """Period, depth and likeness of each frame (see `Periods`), and its energy without its mean."""
    batch, count = periods.shape
    samples, lags = audio.shape[1], halves.shape[2]
    longest, hop = lags - 1 - TAPS, window // 2
    total, energy = np.zeros(samples + 1), np.zeros(samples + 1)
    correlation, difference = np.empty(lags), np.empty(longest + 1)
    coefficients, values = np.empty(2 * TAPS + 1), np.empty(2 * STEPS + 1)
    for b in range(batch):
        for i in range(samples):
            x = np.float64(audio[b, i])
            total[i + 1] = total[i] + x
            energy[i + 1] = energy[i] + x * x
        for f in range(count):
            first, then = total[f * hop :], energy[f * hop :]
            for lag in range(lags):
                correlation[lag] = halves[b, f, lag] + halves[b, f + 1, lag]
            for lag in range(longest + 1):  # eq. 7
                both = then[window] - then[0] + (then[lag + window] - then[lag])
                difference[lag] = max(both - 2 * correlation[lag], 0.0)
            lag, depth = _first_dip(difference, lag_min, threshold)
            period = _dip_near(difference, lag)
            # A short period is a coarse ruler: measure several at once, where they still fit.
            several = min(max(math.ceil(48 / period), 1), max(int((longest - 2) / period), 1))
            span = _dip_near(difference, np.rint(period * several))
            whole = _whole_lag(difference, span, several)

            # The likeness. The coefficients at whole lags are interpolated by a windowed sinc (Boersma's eq. 22): a
            # period of 7.6 samples fits no whole lag, and the missing 0.4 would read as noise.
            own = first[window] - first[0]
            power = max(then[window] - then[0] - own * own / window, 0.0)
            for step in range(2 * STEPS + 1):
                values[step] = 0
            for tap in range(2 * TAPS + 1):
                lag = min(max(whole + tap - TAPS, 0), lags - 1)
                later = first[lag + window] - first[lag]
                there = max(then[lag + window] - then[lag] - later * later / window, 0.0)
                # Where the later stretch is all but silent, what is left of the product is rounding.
                scale = max(math.sqrt(power * max(there, 1e-4 * power)), 1e-20)
                coefficients[tap] = (correlation[lag] - own * later / window) / scale
            for tap in range(2 * TAPS + 1):
                for step in range(2 * STEPS + 1):
                    values[step] += coefficients[tap] * sinc[tap, step]
            best = min(max(int(np.argmax(values)), 1), 2 * STEPS - 1)
            left, middle, right = values[best - 1], values[best], values[best + 1]
            above = (left - right) ** 2 / (8 * max(2 * middle - left - right, 1e-9))
            periods[b, f], depths[b, f], levels[b, f] = span / several, depth, power
            likenesses[b, f] = middle + min(above, 1e-2)


@compiled
def _first_dip(difference, lag_min, threshold):  # type: ignore[no-untyped-def]
    """The lag of the first dip of the normalised difference below the threshold, or else of its lowest value, and its
    depth."""
    running = 0.0
    before, here, lowest, chosen = 1.0, 1.0, np.inf, lag_min
    for lag in range(len(difference) - 1):
        running += difference[lag + 1]
        after = difference[lag + 1] * (lag + 1) / max(running, 1e-12 * (lag + 1))  # eq. 8
        if lag >= lag_min:
            depth = here
            dip = here <= after and here < before
            if dip and lag <= SHORT:  # step 5: the vertex of a parabola
                depth -= (before - after) ** 2 / max(8 * (before - 2 * here + after), 1e-12)
                depth = max(depth, 0.0)
            if dip and depth < threshold:
                return lag, depth
            if depth < lowest:
                lowest, chosen = depth, lag
        before, here = here, after
    return chosen, lowest


@compiled
def _dip_near(difference, near):  # type: ignore[no-untyped-def]
    """The minimum of the difference function near an integer lag, by a parabola through three points."""
    lag = min(max(int(near), 2), len(difference) - 3)
    lag += int(np.argmin(difference[lag - 1 : lag + 2])) - 1
    a, b, c = difference[lag - 1], difference[lag], difference[lag + 1]
    bend = a - 2 * b + c
    if not 0 < bend < np.inf:  # flat, or not finite: nothing checks an index made of NaN
        return float(lag)
    return lag + min(max(0.5 * (a - c) / max(bend, 1e-20), -1.0), 1.0)


@compiled
def _whole_lag(difference, span, several):  # type: ignore[no-untyped-def]
    """The whole lag nearest to a number of periods: to as many as `span` holds, or up to seven more within 96 lags if
    that lag differs less. A partial at the very edge of the band cannot be interpolated, so the nearer the better."""
    chosen = int(np.rint(span))
    least = difference[chosen]
    for more in range(1, 8):
        lag = int(np.rint(span * (1 + more / several)))
        if lag <= min(96, len(difference) - 1) and difference[lag] < least:
            chosen, least = lag, difference[lag]
    return chosen
