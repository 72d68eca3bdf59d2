"""The spectrum of a batch of clips, frame by frame, and its centroid."""

from dataclasses import dataclass

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import pad

WINDOW_S, HOP_S = 0.05, 0.01


def fft_size(samples: int) -> int:
    """The next length that is quick to transform: 128 times a product of 2, 3 and 5 (others take up to eight times
    as long)."""
    return 128 * int(next_fast_len(-(-samples // 128), real=True))


@dataclass(frozen=True)
class Spectrum:
    """Power `[B, F, bins]` of frames of 50 ms every 10 ms, the same stretches of time at any sample rate; the
    frames' starts in seconds `[F]` and the bins' frequencies in Hz `[bins]`.

    The first frames start before the clip, so that a sound that begins with the clip is seen to begin.
    `inside` `[B, F]` marks those that hold nothing but the clip; `legal` also the ones before, but none that runs
    over the end, where a cut would look like a click.
    """

    power: Tensor
    seconds: Tensor
    hertz: Tensor
    inside: Tensor
    legal: Tensor


def spectrum(audio: Tensor, sample_rate: int, length: Tensor) -> Spectrum:
    """Hann-windowed frames of `[B, samples]`, of which the first `length` `[B]` are the clip; the rest is zero."""
    window, hop = round(WINDOW_S * sample_rate), round(HOP_S * sample_rate)
    lead = window // hop * hop
    count = max(0, audio.shape[1] - window) // hop + 1 + lead // hop
    audio = pad(audio, (lead, max(0, window - audio.shape[1])))
    # Half a sample off centre: no weight is zero, so that not even a clip of one sample vanishes.
    hann = torch.sin(torch.pi * (torch.arange(window, device=audio.device) + 0.5) / window).square()
    size = fft_size(window)
    bins = torch.fft.rfft(audio.unfold(1, window, hop)[:, :count] * hann, size)
    power = bins.real.square().add_(bins.imag.square())  # abs() takes a careful root, and five times as long
    start = torch.arange(count, device=audio.device) * hop - lead
    legal = (start <= 0) | (start + window <= length.unsqueeze(1))
    return Spectrum(
        power=power,
        seconds=start / sample_rate,
        hertz=torch.arange(size // 2 + 1, device=audio.device) * (sample_rate / size),
        inside=legal & (start >= 0),
        legal=legal,
    )


def centroid(of: Spectrum) -> Tensor:
    """Spectral centroid in Hz `[B]`: the mean frequency weighted by magnitude (as librosa's), mean over the frames
    within 40 dB of the clip's loudest.

    Bins 60 dB below their frame's highest are left out: there are thousands of them, and the rounding noise of a
    quiet 16-bit sound in them would draw the centroid to the middle of the band. So is the lowest, an offset.
    """
    power = of.power[..., 1:]
    power = power * (power > 1e-6 * power.amax(-1, keepdim=True))
    level = power.sum(-1).masked_fill(~of.inside, 0)
    magnitude = power.sqrt_()
    frames = (magnitude @ of.hertz[1:]) / magnitude.sum(-1)
    sounding = level > 1e-4 * level.amax(1, keepdim=True)
    return frames.masked_fill(~sounding, torch.nan).nanmean(1)
