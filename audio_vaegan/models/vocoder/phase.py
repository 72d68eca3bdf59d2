"""Phases that follow from frequencies: integrated from frame to frame, and locked to the peaks of the spectrum."""

import math

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


def nearest_peaks(magnitude: Tensor, radius: int) -> Tensor:
    """For every bin the nearest spectral peak: a bin that no other within `radius` exceeds.

    Shape: `[B, T, K]` -> indices `[B, T, K]` into the last axis.
    """
    bins = magnitude.shape[-1]
    peak = magnitude >= F.max_pool1d(magnitude, 2 * radius + 1, 1, radius)
    # All peaks in one ascending list, frame after frame. Each reigns from its frame's start, or halfway from the peak
    # before, to where the next one's reign begins.
    places = peak.flatten().nonzero().squeeze(1)
    if not len(places):  # NaN has no peaks: it must reach the loss, where it is reported
        return torch.zeros_like(peak, dtype=torch.long)
    frame, place = places // bins, places % bins
    begins = (places[1:] + places[:-1]) // 2 + 1
    begins = torch.where(frame[1:] == frame[:-1], begins, frame[1:] * bins)
    ends = F.pad(begins, (0, 1), value=peak.numel())
    return place.repeat_interleave(torch.diff(ends, prepend=ends.new_zeros(1)), output_size=peak.numel()).view_as(peak)


def lock_phases(advance: Tensor, peaks: Tensor) -> Tensor:
    """Integrate the advance of each peak's phase over time; every bin takes the phase of its peak.

    With p = peaks[t, k], phase[t, k] = phase[t - 1, p] + advance[t, p], and phase 0 before the first frame: the phase
    vocoder with identity phase locking (Laroche & Dolson 1999, section III). Such steps compose to steps of the same
    kind, so that all frames are found in log2(T) rounds (Hillis & Steele 1986) instead of one after the other.

    Shape: `[B, T, K]` and indices `[B, T, K]` -> `[B, T, K]` in radians.
    """
    phase, came_from = wrap(advance).gather(-1, peaks), peaks
    rounds = (phase.shape[1] - 1).bit_length()
    for turn in range(rounds):
        distance = 2**turn
        start = came_from[:, distance:]
        later = phase[:, distance:] + phase[:, :-distance].gather(-1, start)
        if turn % 2:  # often enough that no angle grows so large as to lose precision
            later = wrap(later)
        phase = torch.cat([phase[:, :distance], later], dim=1)
        if turn < rounds - 1:
            came_from = torch.cat([came_from[:, :distance], came_from[:, :-distance].gather(-1, start)], dim=1)
    return phase
