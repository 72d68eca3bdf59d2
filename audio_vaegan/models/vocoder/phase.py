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
    index = torch.arange(bins, device=magnitude.device)
    peak = magnitude >= F.max_pool1d(magnitude, 2 * radius + 1, 1, radius)
    peak[..., 0] |= ~peak.any(dim=-1)  # NaN has no peaks: it must reach the loss, where it is reported
    # All peaks in one ascending list, frame after frame; the last one at or below a bin is the so many-th of them.
    places = peak.flatten().nonzero().squeeze(1)
    last = peak.flatten().cumsum(0).view(peak.shape) - 1
    first = torch.arange(0, peak.numel(), bins, device=index.device).view(*peak.shape[:-1], 1)
    below = places[last.clamp_min(0)] - first
    above = places[(last + 1).clamp_max(len(places) - 1)] - first
    # Beyond the ends of the frame lie the peaks of other frames.
    nearer = (index - below <= above - index) | (above >= bins) | (above < index)
    return torch.where(nearer & (below >= 0) & (below <= index), below, above)


def lock_phases(advance: Tensor, peaks: Tensor) -> Tensor:
    """Integrate the advance of each peak's phase over time; every bin takes the phase of its peak.

    With p = peaks[t, k], phase[t, k] = phase[t - 1, p] + advance[t, p], and phase 0 before the first frame: the phase
    vocoder with identity phase locking (Laroche & Dolson 1999, section III). Such steps compose to steps of the same
    kind, so that all frames are found in log2(T) rounds (Hillis & Steele 1986) instead of one after the other.

    Shape: `[B, T, K]` and indices `[B, T, K]` -> `[B, T, K]` in radians.
    """
    phase, came_from = wrap(advance).gather(-1, peaks), peaks
    distance = 1
    while distance < phase.shape[1]:
        start = came_from[:, distance:]
        later = phase[:, distance:] + phase[:, :-distance].gather(-1, start)
        if distance % 3 == 2:  # every second round: no angle grows so large that it loses precision
            later = wrap(later)
        phase = torch.cat([phase[:, :distance], later], dim=1)
        came_from = torch.cat([came_from[:, :distance], came_from[:, :-distance].gather(-1, start)], dim=1)
        distance *= 2
    return phase
