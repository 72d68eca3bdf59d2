"""How the level of a clip runs in time: attack, decay, duration.

After Peeters et al. 2011, "The Timbre Toolbox: Extracting audio descriptors from musical signals", section III-C.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from audio_vaegan.compiled import arrays, compiled

WINDOW_S = 0.02  # of the envelope: two periods of 100 Hz
SHORTEST_ATTACK_S = 0.011  # in which the window itself rises, and so what a sound that starts at once reads


@dataclass(frozen=True)
class Envelope:
    """Amplitude `[B, T]` every `step` seconds (a block of about 1 ms): the root of the mean square in a Hann window
    of 20 ms, over the part of it that lies within the clip. `power` `[B, T]` is the mean square of the block alone,
    silence after the clip counted, and `share` `[B, T]` how much of the block lies within the clip (0..1)."""

    amplitude: Tensor
    power: Tensor
    share: Tensor
    step: float


def envelope(audio: Tensor, sample_rate: int, length: Tensor) -> Envelope:
    """Envelope of `[B, samples]`, of which the first `length` `[B]` are the clip; the rest is zero."""
    block = max(1, round(sample_rate / 1000))
    audio = pad(audio, (0, -audio.shape[1] % block))
    half = max(1, round(WINDOW_S * sample_rate / block / 2))
    hann = torch.cos(torch.pi * torch.arange(1 - half, half) / (2 * half)).square()
    amplitude, power, share = (torch.empty(len(audio), audio.shape[1] // block) for _ in range(3))
    _follow(*arrays(audio, length, hann), block, *arrays(amplitude, power, share))
    return Envelope(amplitude, power, share, block / sample_rate)


def log_attack_time(of: Envelope) -> Tensor:
    """log10 of the seconds from 10 % to 90 % of the envelope's maximum `[B]`; at least log10(0.011), in which
    the 20 ms window itself rises."""
    top = of.amplitude.amax(1, keepdim=True)
    index = torch.arange(of.amplitude.shape[1], device=top.device)
    end = (of.amplitude >= 0.9 * top).int().argmax(1, keepdim=True)
    below = (of.amplitude < 0.1 * top) & (index < end)
    start = torch.where(below, index, -1).amax(1, keepdim=True)  # the last time below: a knock before is no attack
    rise = _crossing(of.amplitude, end - 1, 0.9 * top) - _crossing(of.amplitude, start, 0.1 * top)
    return torch.log10((rise.squeeze(1) * of.step).clamp_min(SHORTEST_ATTACK_S))


def onset_time(audio: Tensor, sample_rate: int) -> Tensor:
    """Seconds at which the envelope of each clip `[B, samples]` first reaches a tenth of its maximum `[B]`; NaN for a
    silent one. The 20 ms window makes it early by some ms, alike for all sounds that rise alike."""
    block = max(1, round(sample_rate / 1000))
    before = round(2 * WINDOW_S * 1000) * block  # silence: at the edge of a clip the window would see less
    audio = pad(audio.detach().to("cpu", torch.float32), (before, 0))
    level = envelope(audio, sample_rate, torch.full((len(audio),), audio.shape[1])).amplitude
    top = level.amax(1, keepdim=True)
    first = (level >= 0.1 * top).int().argmax(1)
    time = (first * block - before) / sample_rate
    return torch.where(top.squeeze(1) > 1e-5, time, torch.nan)


def _crossing(amplitude: Tensor, before: Tensor, value: Tensor) -> Tensor:
    """Where, between index `before` and the next, the amplitude reaches `value` (linear); 0 if `before` is none."""
    a, b = amplitude.gather(1, before.clamp_min(0)), amplitude.gather(1, before + 1)
    part = ((value - a) / (b - a).clamp_min(1e-20)).clamp(0, 1)
    return torch.where(before < 0, 0, before + part)


def decay(of: Envelope) -> Tensor:
    """Fall of the level in dB per second `[B]`, positive when falling: the least-squares line through the envelope in
    dB from the end of the attack (90 % of its maximum) until it has fallen 40 dB or the clip ends. NaN when the
    clip ends within 50 ms.

    Where it does fall 40 dB, the last 20 ms are left out (but never the first 20): a sound cut off falls within the
    window, and that fall is the window's.
    """
    level = 20 * torch.log10(of.amplitude.clamp_min(1e-20)).double()
    top = level.amax(1, keepdim=True)
    start = (of.amplitude >= 0.9 * of.amplitude.amax(1, keepdim=True)).int().argmax(1, keepdim=True)
    index = torch.arange(level.shape[1], device=level.device)
    fallen = (index > start) & (level < top - 40) & (of.share > 0)
    window = round(WINDOW_S / of.step)
    end = torch.where(fallen, index, level.shape[1] + window).amin(1, keepdim=True) - window
    fit = (index >= start) & (index <= end.maximum(start + window)) & (of.share == 1) & (level >= top - 40)
    count = fit.sum(1, keepdim=True)
    time = (index * of.step).double().expand_as(level)
    time = time - (time * fit).sum(1, keepdim=True) / count
    slope = (time * level * fit).sum(1) / (time.square() * fit).sum(1)
    enough = fallen.any(1) | (count.squeeze(1) * of.step > 0.05)
    return torch.where(enough, -slope, torch.nan)


def duration(of: Envelope) -> Tensor:
    """Seconds the envelope spends above 40 % of its maximum `[B]` (Peeters et al.: effective duration)."""
    return ((of.amplitude > 0.4 * of.amplitude.amax(1, keepdim=True)) * of.share).sum(1) * of.step


@compiled
def _follow(audio, length, window, block, amplitude, power, share):  # type: ignore[no-untyped-def]
    """Fills the last three: see `Envelope`."""
    blocks, half = power.shape[1], len(window) // 2
    for b in range(len(audio)):
        for t in range(blocks):
            samples = audio[b, t * block : (t + 1) * block]
            square = np.float32(0)
            for i in range(block):
                square += samples[i] * samples[i]
            power[b, t] = square / np.float32(block)
            share[b, t] = min(max((length[b] - t * block) / block, 0.0), 1.0)
        for t in range(blocks):
            first, end = max(0, t - half), min(blocks, t + half + 1)
            near, there, weight = power[b, first:end], share[b, first:end], window[first - t + half :]
            smooth, whole = np.float32(0), np.float32(0)
            for k in range(end - first):
                smooth += weight[k] * near[k]
                whole += weight[k] * there[k]
            amplitude[b, t] = np.sqrt(smooth / max(whole, np.float32(1e-9))) if share[b, t] > 0 else 0
