"""Phases that follow from frequencies: integrated from frame to frame, and locked to the peaks of the spectrum."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TAU = 2 * math.pi


def wrap(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi]."""
    return angle - TAU * torch.round(angle / TAU)


def bin_advance(n_fft: int, hop: int) -> Tensor:
    """How far the phase of a sinusoid at the centre of each bin moves from frame to frame `[n_fft / 2 + 1]`."""
    return TAU * (torch.arange(n_fft // 2 + 1) * hop % n_fft) / n_fft


class Peaks(NamedTuple):
    """The spectral peaks of frames `[B, T, K]`: where each is among all bins, and which of them every bin follows."""

    place: Tensor  # [P] into B * T * K, ascending
    owner: Tensor  # [B * T * K] into P


def nearest_peaks(magnitude: Tensor, radius: int) -> Peaks:
    """The peaks, bins that no other within `radius` exceeds, and for every bin the nearest of its own frame.

    Shape: `[B, T, K]`. A frame of NaN has no peak; its bins follow one of another frame.
    """
    bins = magnitude.shape[-1]
    peak = magnitude >= F.max_pool1d(magnitude, 2 * radius + 1, 1, radius)
    place = peak.flatten().nonzero().squeeze(1)
    if not len(place):  # NaN throughout: it must reach the loss, where it is reported
        place = place.new_zeros(1)
    # Each reigns from its frame's start, or halfway from the peak before, to where the next one's reign begins.
    frame = place // bins
    begins = (place[1:] + place[:-1]) // 2 + 1
    begins = torch.where(frame[1:] == frame[:-1], begins, frame[1:] * bins)
    reigns = torch.diff(begins, prepend=begins.new_zeros(1), append=begins.new_full((1,), peak.numel()))
    return Peaks(place, torch.repeat_interleave(reigns, output_size=peak.numel()))


def lock_phases(advance: Tensor, peaks: Peaks) -> Tensor:
    """Integrate the advance of each peak's phase over time; every bin takes the phase of its peak.

    With p the peak that owns bin k of frame t, phase[t, k] = phase[t - 1, p] + advance[t, p], and phase 0 before the
    first frame: the phase vocoder with identity phase locking (Laroche & Dolson 1999, section III). So each peak goes
    on from one peak of the frame before, and all of these chains are summed in log2(T) rounds of doubling (Hillis &
    Steele 1986) instead of frame after frame. There are several times fewer peaks than bins.

    Shape: `[B, T, K]` -> `[B, T, K]` in radians.
    """
    _, frames, bins = advance.shape
    place, owner = peaks
    first = place // bins % frames == 0
    # The peak before; one more, whose phase is 0, before the first frame.
    before = owner.index_select(0, (place - bins).clamp_min(0)).masked_fill(first, len(place))
    before = F.pad(before, (0, 1), value=len(place))
    phase = F.pad(wrap(advance.flatten().index_select(0, place)), (0, 1))
    rounds = (frames - 1).bit_length()
    for turn in range(rounds):
        phase = phase + phase.index_select(0, before)
        if turn % 2:  # often enough that no angle grows so large as to lose precision
            phase = wrap(phase)
        if turn < rounds - 1:
            before = before.index_select(0, before)
    return phase.index_select(0, owner).view_as(advance)
