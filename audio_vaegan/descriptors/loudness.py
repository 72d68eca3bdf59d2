"""Loudness in LUFS by Recommendation ITU-R BS.1770-4, mono, and peak level."""

from math import pi, tan

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.compiled import arrays, compiled

OFFSET = -0.691  # eq. 2: a 997 Hz sine of full scale reads -3.01
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0
BLOCK_S, STEP_S = 0.4, 0.1


def k_weighting(sample_rate: int) -> NDArray[np.float64]:
    """The two biquads of annex 1 for any sample rate, `[2, 6]`.

    The recommendation tables them for 48 kHz; these are the analogue filters that the bilinear transform takes to
    that table (as libebur128 found them), taken to another rate.
    """
    k = tan(pi * 1681.974450955533 / sample_rate)
    q, gain = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    mid = gain**0.4996667741545416
    shelf = [gain + mid * k / q + k * k, 2 * (k * k - gain), gain - mid * k / q + k * k]
    shelf += [1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k]
    q = 0.5003270373238773

    def lower(rate: int) -> list[float]:
        k = tan(pi * 38.13547087602444 / rate)
        return [1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k]

    # The table's numerator is 1, -2, 1: half a tenth of a dB above one at high frequencies. Keep that at any rate.
    gain = lower(48000)[0]
    high = [gain, -2 * gain, gain, *lower(sample_rate)]
    return np.array([np.divide(shelf, shelf[3]), np.divide(high, high[3])])


def loudness(audio: Tensor, sample_rate: int, length: Tensor) -> Tensor:
    """Integrated loudness in LUFS `[B]` of `[B, samples]`, of which the first `length` `[B]` are the clip.

    Mean over the blocks of 400 ms (every 100 ms, wholly within the clip) above -70 LUFS and within 10 LU of the
    mean of those. A clip shorter than 400 ms is one block of its own length. NaN when nothing reaches -70.
    """
    clips = audio.double().T.contiguous()  # side by side: they go through the filter together
    energy = clips.new_empty(len(clips) + 1, len(audio))
    _weighted_energy(*arrays(clips), k_weighting(sample_rate), *arrays(energy))
    energy = energy.T
    block = round(BLOCK_S * sample_rate)
    start = torch.arange(0, max(audio.shape[1] - block, 0) + 1, STEP_S * sample_rate).round().long()
    end = torch.minimum(start + block, length.unsqueeze(1))
    power = (energy.gather(1, end) - energy[:, start]) / (end - start).clamp_min(1)
    used = (start == 0) | (start + block <= length.unsqueeze(1))
    gate = torch.full_like(power[:, :1], 10 ** ((ABSOLUTE_GATE - OFFSET) / 10))
    used &= power > gate
    gate = _mean(power, used).unsqueeze(1) * 10 ** (RELATIVE_GATE / 10)
    return OFFSET + 10 * torch.log10(_mean(power, used & (power > gate)))


def _mean(values: Tensor, used: Tensor) -> Tensor:
    return (values * used).sum(1) / used.sum(1)  # 0 / 0 = NaN


def peak(audio: Tensor) -> Tensor:
    """Largest sample in dB re full scale `[B]`; NaN for digital silence."""
    top = audio.abs().amax(1)
    return (20 * torch.log10(top)).masked_fill(top == 0, torch.nan)


@compiled
def _weighted_energy(clips, filters, energy):  # type: ignore[no-untyped-def]
    """The sum of squares of clips `[samples, B]`, filtered by two biquads, before each sample and at the end."""
    samples, batch = clips.shape
    state, total = np.zeros((2, 2, batch)), np.zeros(batch)
    (b0, b1, b2, _, a1, a2), (c0, c1, c2, _, d1, d2) = filters
    for n in range(samples):
        clip, before = clips[n], energy[n]
        for i in range(batch):
            x = clip[i]
            y = b0 * x + state[0, 0, i]
            state[0, 0, i] = b1 * x - a1 * y + state[0, 1, i]
            state[0, 1, i] = b2 * x - a2 * y
            z = c0 * y + state[1, 0, i]
            state[1, 0, i] = c1 * y - d1 * z + state[1, 1, i]
            state[1, 1, i] = c2 * y - d2 * z
            before[i] = total[i]
            total[i] += z * z
    energy[samples] = total
