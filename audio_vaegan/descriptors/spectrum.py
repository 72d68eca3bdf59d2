"""The spectrum of a batch of clips, frame by frame, and its centroid."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from audio_vaegan.compiled import arrays, compiled

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
    # Half a sample off centre: no weight is zero, so that not even a clip of one sample vanishes.
    hann = torch.sin(torch.pi * (torch.arange(window) + 0.5) / window).square()
    size = fft_size(window)
    frames, power = torch.empty(len(audio), count, size), torch.empty(len(audio), count, size // 2 + 1)
    _cut_frames(*arrays(audio, hann), lead, hop, *arrays(frames))
    _square(*arrays(torch.view_as_real(torch.fft.rfft(frames)), power))
    start = torch.arange(count) * hop - lead
    legal = (start <= 0) | (start + window <= length.unsqueeze(1))
    return Spectrum(
        power=power,
        seconds=start / sample_rate,
        hertz=torch.arange(size // 2 + 1) * (sample_rate / size),
        inside=legal & (start >= 0),
        legal=legal,
    )


def centroid(of: Spectrum) -> Tensor:
    """Spectral centroid in Hz `[B]`: the mean frequency weighted by magnitude (as librosa's), mean over the frames
    within 40 dB of the clip's loudest.

    Bins 60 dB below their frame's highest are left out: there are thousands of them, and the rounding noise of a
    quiet 16-bit sound in them would draw the centroid to the middle of the band. So is the lowest, an offset.
    """
    level, frames = (torch.empty(of.power.shape[:2]) for _ in range(2))
    _centres(*arrays(of.power, of.hertz, level, frames))
    level = level.masked_fill(~of.inside, 0)
    sounding = level > 1e-4 * level.amax(1, keepdim=True)
    return frames.masked_fill(~sounding, torch.nan).nanmean(1)


@compiled
def _cut_frames(audio, window, lead, hop, frames):  # type: ignore[no-untyped-def]
    """Frames, windowed, of which the first begins `lead` samples before the audio; zeros beyond its ends and after."""
    for b in range(len(frames)):
        for f in range(frames.shape[1]):
            first = f * hop - lead
            begin, end = max(0, -first), min(len(window), audio.shape[1] - first)
            near, weight, to = audio[b, first + begin : first + end], window[begin:end], frames[b, f, begin:end]
            for i in range(end - begin):
                to[i] = near[i] * weight[i]
            frames[b, f, :begin] = 0
            frames[b, f, end:] = 0


@compiled
def _square(bins, power):  # type: ignore[no-untyped-def]
    """Real part squared and imaginary part squared."""
    for b in range(len(power)):
        for f in range(power.shape[1]):
            for k in range(power.shape[2]):
                power[b, f, k] = bins[b, f, k, 0] * bins[b, f, k, 0] + bins[b, f, k, 1] * bins[b, f, k, 1]


@compiled
def _centres(power, hertz, levels, centres):  # type: ignore[no-untyped-def]
    """Power and centroid of each frame, of the bins that count."""
    for b in range(len(power)):
        for f in range(power.shape[1]):
            bins = power[b, f]
            top = np.float32(0)
            for k in range(1, len(hertz)):
                top = max(top, bins[k])
            least = np.float32(1e-6) * top
            level, total, along = np.float32(0), np.float32(0), np.float32(0)
            for k in range(1, len(hertz)):
                here = bins[k] if bins[k] > least else np.float32(0)
                magnitude = np.sqrt(here)
                level += here
                total += magnitude
                along += magnitude * hertz[k]
            levels[b, f], centres[b, f] = level, along / total
