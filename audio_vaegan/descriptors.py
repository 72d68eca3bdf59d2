"""Physical descriptors of a clip, each with its unit. They label data, and check what a model made of it.

Two pitch meters live here that share no code: `yin` (batched, fast; labels what has no label) and `pyin`
(librosa's; slower, and the judge of every published figure). The only user of librosa.
"""

from dataclasses import dataclass

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

A4_MIDI, A4_HZ = 69, 440.0


def hz_to_midi(hz: Tensor) -> Tensor:
    """Frequency in Hz -> MIDI note number (69 = A4 = 440 Hz), a semitone a unit."""
    return A4_MIDI + 12 * torch.log2(hz / A4_HZ)


def midi_to_hz(midi: Tensor) -> Tensor:
    """MIDI note number -> frequency in Hz."""
    return A4_HZ * torch.exp2((midi - A4_MIDI) / 12)


@dataclass(frozen=True)
class Pitch:
    """Pitch of a batch of clips: `midi` `[B]` in semitones, NaN where undefined, and `voiced` `[B]`, the share of
    the sounding frames that are periodic."""

    midi: Tensor
    voiced: Tensor


def yin(
    audio: Tensor, sample_rate: int, f_min: float = 32.0, f_max: float | None = None, threshold: float = 0.15
) -> Pitch:
    """Pitch by YIN (de Cheveigne & Kawahara 2002, steps 2-5), for a batch at once.

    Shape: `[B, samples]` -> Pitch of `[B]`. A frame counts when it lies within 40 dB of the clip's loudest; it is
    voiced when its normalised difference falls below 0.25. A clip has a pitch when more than half of its sounding
    frames are voiced and agree within a semitone (median deviation).
    """
    f_max = f_max or sample_rate / 4
    lag_max = int(sample_rate / f_min) + 1
    lag_min = max(2, int(sample_rate / f_max))
    window = max(1024, 1 << (lag_max - 1).bit_length())
    hop = window // 2
    short = window + lag_max - audio.shape[1]
    if short > 0:
        audio = torch.nn.functional.pad(audio, (0, short))
    frames = audio.unfold(1, window + lag_max, hop)  # [B, F, window + lag_max]
    size = 1 << (window + 2 * lag_max - 1).bit_length()
    head = torch.fft.rfft(frames[..., :window], size)
    whole = torch.fft.rfft(frames, size)
    correlation = torch.fft.irfft(head.conj() * whole, size)[..., : lag_max + 1]
    energy = torch.nn.functional.pad(frames.double().square().cumsum(-1), (1, 0))
    shifted = (energy[..., window : window + lag_max + 1] - energy[..., : lag_max + 1]).to(audio.dtype)
    level = shifted[..., 0]
    difference = (level.unsqueeze(-1) + shifted - 2 * correlation).clamp_min(0)  # eq. 7
    lags = torch.arange(1, lag_max + 1, device=audio.device)
    mean = difference[..., 1:].cumsum(-1) / lags
    normalised = torch.ones_like(difference)
    normalised[..., 1:] = difference[..., 1:] / mean.clamp_min(1e-12)  # eq. 8

    middle = normalised[..., 1:-1]
    dip = (middle < threshold) & (middle <= normalised[..., 2:]) & (middle < normalised[..., :-2])
    dip[..., : lag_min - 1] = False
    allowed = middle.clone()
    allowed[..., : lag_min - 1] = torch.inf
    lag = torch.where(dip.any(-1), dip.int().argmax(-1), allowed.argmin(-1)) + 1
    depth = normalised.gather(-1, lag.unsqueeze(-1)).squeeze(-1)
    period = _dip_near(difference, lag)
    # A short period is a coarse ruler: measure several at once, where they still fit.
    several = (48 / period).ceil().clamp(1, None).minimum(((lag_max - 2) / period).floor().clamp_min(1))
    period = _dip_near(difference, (period * several).round().long()) / several
    midi = hz_to_midi(sample_rate / period)

    sounding = level > 1e-4 * level.amax(dim=1, keepdim=True)
    sounding &= level > window * 1e-10
    voiced = sounding & (depth < 0.25)
    share = voiced.sum(1) / sounding.sum(1).clamp_min(1)
    only = midi.masked_fill(~voiced, torch.nan)
    median = only.nanmedian(dim=1).values
    spread = (only - median.unsqueeze(1)).abs().nanmedian(dim=1).values
    return Pitch(torch.where((share > 0.5) & (spread < 1.0), median, torch.nan), share)


def _dip_near(difference: Tensor, lag: Tensor) -> Tensor:
    """The minimum of the difference function near an integer lag, by a parabola through three points."""
    lag = lag.clamp(2, difference.shape[-1] - 3)
    around = torch.stack([difference.gather(-1, (lag + k).unsqueeze(-1)).squeeze(-1) for k in (-1, 0, 1)])
    lag = lag + around.argmin(dim=0) - 1
    a, b, c = (difference.gather(-1, (lag + k).unsqueeze(-1)).squeeze(-1) for k in (-1, 0, 1))
    bend = a - 2 * b + c
    offset = torch.where(bend > 0, 0.5 * (a - c) / bend.clamp_min(1e-20), torch.zeros_like(bend))
    return lag + offset.clamp(-1, 1)


def sounding_middle(audio: NDArray[np.float32], sample_rate: int, seconds: float = 0.5) -> NDArray[np.float32]:
    """At most `seconds` from the middle of what sounds: frames of 16 ms within 40 dB of the loudest, attack skipped."""
    hop = max(1, round(0.016 * sample_rate))
    n = len(audio) // hop
    if n < 4:
        return audio
    level = np.square(audio[: n * hop].reshape(n, hop)).mean(axis=1)
    loud = np.flatnonzero(level > 1e-4 * level.max())
    if not len(loud) or level.max() <= 0:
        return audio
    first, last = loud[0] * hop, (loud[-1] + 1) * hop
    first += (last - first) // 8
    size = min(last - first, round(seconds * sample_rate))
    start = first + (last - first - size) // 2
    return audio[start : start + size]


def pyin(audio: NDArray[np.float32], sample_rate: int, f_min: float = 32.0, f_max: float | None = None) -> float:
    """Pitch of one clip by probabilistic YIN (Mauch & Dixon 2014; librosa): median over the voiced frames of the
    sounding middle, in MIDI semitones. NaN where fewer than a third of the frames are voiced.

    Searched from `f_min` to `f_max`, by default a quarter of the sample rate (4 kHz at 16 kHz).
    """
    middle = sounding_middle(audio, sample_rate)
    if not np.any(middle):
        return float("nan")
    window = 1 << int(np.ceil(np.log2(3.8 * sample_rate / f_min)))
    f0, voiced, _ = librosa.pyin(
        middle,
        fmin=f_min,
        fmax=f_max or sample_rate / 4,
        sr=sample_rate,
        frame_length=window,
        hop_length=window // 4,
    )
    f0 = f0[voiced & np.isfinite(f0)]
    if 3 * len(f0) < len(voiced):
        return float("nan")
    return float(librosa.hz_to_midi(np.median(f0)))
