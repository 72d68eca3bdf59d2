"""Pitch, its confidence, and noisiness: what the periods of a clip's frames say about the clip."""

from dataclasses import dataclass

import torch
from torch import Tensor

from audio_vaegan.descriptors.periods import Periods, find_periods, periods_window

A4_MIDI, A4_HZ = 69, 440.0
QUIETEST_NOISE, LOUDEST_NOISE = -30.0, 20.0  # dB, the range of noisiness; no copy of a sound keeps fainter noise


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
    return pitch_of(find_periods(audio, sample_rate, f_min, f_max, threshold), sample_rate)


def pitch_track(audio: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """The course of the pitch of a clip `[samples]`, by YIN: the middles of its frames in seconds `[F]`, and their
    pitches in semitones (MIDI) `[F]`, NaN where a frame is silent or not voiced."""
    periods = find_periods(audio.unsqueeze(0), sample_rate)
    midi = hz_to_midi(sample_rate / periods.period).masked_fill(~_voiced(periods), torch.nan)[0]
    window = periods_window(sample_rate)
    return (torch.arange(len(midi)) * (window // 2) + window / 2) / sample_rate, midi


def pitch_of(periods: Periods, sample_rate: int) -> Pitch:
    voiced = _voiced(periods)
    share = voiced.sum(1) / periods.sounding.sum(1).clamp_min(1)
    only = hz_to_midi(sample_rate / periods.period).masked_fill(~voiced, torch.nan)
    median = only.nanmedian(dim=1).values
    spread = (only - median.unsqueeze(1)).abs().nanmedian(dim=1).values
    return Pitch(torch.where((share > 0.5) & (spread < 1.0), median, torch.nan), share)


def confidence(periods: Periods) -> Tensor:
    """1 - YIN's normalised difference at the period, median over the voiced frames `[B]`; NaN without any."""
    return 1 - periods.depth.masked_fill(~_voiced(periods), torch.nan).nanmedian(dim=1).values


def noisiness(periods: Periods) -> Tensor:
    """Noise-to-harmonics ratio in dB, median over the sounding frames `[B]`: minus the HNR of Boersma (1993, eq. 4),
    10 log10((1 - r) / r) with r the correlation of neighbouring periods; limited to -30..20 dB."""
    lowest, highest = (1 / (1 + 10 ** (db / 10)) for db in (LOUDEST_NOISE, QUIETEST_NOISE))
    r = periods.likeness.clamp(lowest, highest)
    return (10 * torch.log10((1 - r) / r)).masked_fill(~periods.sounding, torch.nan).nanmedian(dim=1).values


def noise_of(audio: Tensor, sample_rate: int, length: Tensor | None = None) -> Tensor:
    """`noisiness` in dB of clips `[B, samples]`, of which the first `length` `[B]` are the sound, `[B]`; NaN of
    silence."""
    return noisiness(find_periods(audio, sample_rate, length=length))


def _voiced(periods: Periods) -> Tensor:
    return periods.sounding & (periods.depth < 0.25)
