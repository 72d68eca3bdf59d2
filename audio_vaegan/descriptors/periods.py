"""The period of every frame of a batch of clips, and how alike neighbouring periods are.

YIN (de Cheveigne & Kawahara 2002, "YIN, a fundamental frequency estimator for speech and music") steps 2-5; the
likeness is the normalised cross-correlation of Boersma (1993), "Accurate short-term analysis of the fundamental
frequency and the harmonics-to-noise ratio of a sampled sound", section 3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

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
    lag_max = _longest(sample_rate, f_min)
    lag_min = max(2, int(sample_rate / (f_max or sample_rate / 4)))
    window = periods_window(sample_rate, f_min)
    hop = window // 2
    count = max(0, audio.shape[1] - window - lag_max) // hop + 1
    audio = pad(audio, (0, max(0, (count + 1) * hop + lag_max + TAPS - audio.shape[1])))

    correlation = _correlate(audio, hop, count, lag_max + TAPS)
    energy = pad(audio.double().square().cumsum(1), (1, 0))
    shifted = energy[:, window:].unfold(1, lag_max + 1, hop)[:, :count] - energy.unfold(1, lag_max + 1, hop)[:, :count]
    shifted = shifted.to(audio.dtype)
    level = shifted[..., 0]
    difference = shifted.add_(level.unsqueeze(-1).clone()).sub_(correlation[..., : lag_max + 1], alpha=2)  # eq. 7
    difference.clamp_min_(0)
    lags = torch.arange(1.0, lag_max + 1, device=audio.device)
    mean = difference[..., 1:].cumsum(-1).div_(lags).clamp_min_(1e-12)
    normalised = pad(difference[..., 1:] / mean, (1, 0), value=1.0)  # eq. 8

    middle = normalised[..., 1:-1]
    dip = (middle <= normalised[..., 2:]) & (middle < normalised[..., :-2])
    short = normalised[..., : SHORT + 2]
    a, b, c = short[..., :-2], short[..., 1:-1], short[..., 2:]
    lower = (a - c).square() / (8 * (a - 2 * b + c)).clamp_min(1e-12)  # step 5: the vertex of a parabola
    middle[..., :SHORT] = (b - lower * dip[..., :SHORT]).clamp_min(0)
    dip &= middle < threshold
    # The first dip, where there is one (the lower the earlier), or else the lowest value.
    choice = torch.where(dip, lags[:-1] - 1e6, middle)
    lag = choice[..., lag_min - 1 :].argmin(-1) + lag_min
    depth = normalised.gather(-1, lag.unsqueeze(-1)).squeeze(-1)
    period = _dip_near(difference, lag)
    # A short period is a coarse ruler: measure several at once, where they still fit.
    several = (48 / period).ceil().clamp(1, None).minimum(((lag_max - 2) / period).floor().clamp_min(1))
    span = _dip_near(difference, (period * several).round().long())

    likeness, level = _likeness(audio, energy, correlation, _whole_lag(difference, span, several), window, hop)
    sounding = level > 1e-4 * level.amax(dim=1, keepdim=True)
    sounding &= level > window * 1e-10
    if length is not None:
        start = torch.arange(count, device=audio.device) * hop
        sounding &= (start == 0) | (start + window + lag_max <= length.unsqueeze(1))
    return Periods(span / several, depth, likeness, sounding)


def periods_window(sample_rate: int, f_min: float = F_MIN) -> int:
    """Samples of a frame: at least 1024, a power of two no shorter than the longest period."""
    return max(1024, 1 << (_longest(sample_rate, f_min) - 1).bit_length())


def _longest(sample_rate: int, f_min: float) -> int:
    return int(sample_rate / f_min) + 1


def _correlate(audio: Tensor, hop: int, count: int, lag_max: int) -> Tensor:
    """Correlation of frames of two hops with the samples 0..lag_max later, `[B, count, lag_max + 1]`.

    A frame's correlation is the sum of its two halves', and each half serves two frames: half the transform size.
    """
    blocks = audio.unfold(1, hop + lag_max, hop)[:, : count + 1]
    size = fft_size(hop + lag_max)
    spectrum = torch.fft.rfft(blocks[..., :hop], size).conj() * torch.fft.rfft(blocks, size)
    halves = torch.fft.irfft(spectrum, size)[..., : lag_max + 1]
    return halves[:, :-1] + halves[:, 1:]


def _dip_near(difference: Tensor, lag: Tensor) -> Tensor:
    """The minimum of the difference function near an integer lag, by a parabola through three points."""
    lag = lag.clamp(2, difference.shape[-1] - 3)
    around = torch.stack([difference.gather(-1, (lag + k).unsqueeze(-1)).squeeze(-1) for k in (-1, 0, 1)])
    lag = lag + around.argmin(dim=0) - 1
    a, b, c = (difference.gather(-1, (lag + k).unsqueeze(-1)).squeeze(-1) for k in (-1, 0, 1))
    bend = a - 2 * b + c
    offset = torch.where(bend > 0, 0.5 * (a - c) / bend.clamp_min(1e-20), torch.zeros_like(bend))
    return lag + offset.clamp(-1, 1)


def _whole_lag(difference: Tensor, span: Tensor, several: Tensor) -> Tensor:
    """The whole lag nearest to a number of periods: to as many as `span` holds, or up to seven more within 96 lags if
    that lag differs less. A partial at the very edge of the band cannot be interpolated, so the nearer the better."""
    more = torch.arange(8, device=span.device)
    lags = (span.unsqueeze(-1) * (1 + more / several.unsqueeze(-1))).round().long()
    outside = (more > 0) & (lags > min(96, difference.shape[-1] - 1))
    differs = difference.gather(-1, lags.clamp_max(difference.shape[-1] - 1)).masked_fill(outside, torch.inf)
    return lags.gather(-1, differs.argmin(-1, keepdim=True)).squeeze(-1)


def _likeness(
    audio: Tensor, energy: Tensor, correlation: Tensor, lag: Tensor, window: int, hop: int
) -> tuple[Tensor, Tensor]:
    """Largest correlation coefficient within a sample of `lag` `[B, F]`, and the frames' energy without their mean.

    The coefficients at whole lags are interpolated by a windowed sinc (Boersma's eq. 22): a period of 7.6 samples
    fits no whole lag, and the missing 0.4 would read as noise.
    """
    total = pad(audio.double().cumsum(1), (1, 0))
    near = torch.arange(-TAPS, TAPS + 1, device=audio.device)
    lags = (lag.unsqueeze(-1) + near).clamp(0, correlation.shape[-1] - 1)  # [B, F, 2 TAPS + 1]
    start = (torch.arange(lag.shape[1], device=audio.device) * hop).unsqueeze(-1)

    def moments(at: Tensor) -> tuple[Tensor, Tensor]:  # sum, and sum of squares about the mean, of windows at samples
        flat = at.expand(*lag.shape, -1).flatten(1)
        first = (total.gather(1, flat + window) - total.gather(1, flat)).view(*lag.shape, -1)
        second = (energy.gather(1, flat + window) - energy.gather(1, flat)).view(*lag.shape, -1)
        return first, (second - first.square() / window).clamp_min(0)

    sum_0, power_0 = moments(start)
    sum_lag, power_lag = moments(start + lags)
    shared = correlation.gather(-1, lags) - sum_0 * sum_lag / window
    # Where the later stretch is all but silent, what is left of the product is rounding.
    scale = (power_0 * power_lag.maximum(1e-4 * power_0)).sqrt().clamp_min(1e-20)
    coefficient = (shared / scale).to(audio.dtype)
    values = coefficient @ _sinc(audio.device)  # [B, F, 2 STEPS + 1]
    best = values.argmax(-1, keepdim=True).clamp(1, 2 * STEPS - 1)
    a, b, c = (values.gather(-1, best + k).squeeze(-1) for k in (-1, 0, 1))
    bend = (2 * b - a - c).clamp_min(1e-9)
    return b + ((a - c).square() / (8 * bend)).clamp_max(1e-2), power_0.squeeze(-1).to(audio.dtype)


def _sinc(device: torch.device) -> Tensor:
    """Values at -TAPS..TAPS -> values at -1..1 in steps of 1 / STEPS, `[2 TAPS + 1, 2 STEPS + 1]`."""
    offset = torch.arange(-STEPS, STEPS + 1, device=device) / STEPS
    away = torch.arange(-TAPS, TAPS + 1, device=device).unsqueeze(1) - offset
    return torch.sinc(away) * torch.cos(torch.pi * away / (2 * TAPS + 4)).square()
