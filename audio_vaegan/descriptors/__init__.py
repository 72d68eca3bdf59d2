"""Physical descriptors of a clip, each with its unit. They label data, and check what a model made of it.

`measure` takes them all of a batch of clips. Two pitch meters live here that share no code: `yin` (batched, fast;
labels what has no label) and `pyin` (librosa's; slower, and the judge of every published figure). `judge_controls` has
second meters of the other controls. The only user of librosa.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from audio_vaegan.descriptors.envelope import decay, duration, envelope, log_attack_time, onset_time
from audio_vaegan.descriptors.judge import load_librosa, pyin, sounding_middle
from audio_vaegan.descriptors.loudness import loudness, peak
from audio_vaegan.descriptors.notes import note_number
from audio_vaegan.descriptors.onsets import onset_rate, onsets
from audio_vaegan.descriptors.periods import find_periods
from audio_vaegan.descriptors.pitch import (
    A4_HZ,
    A4_MIDI,
    Pitch,
    confidence,
    hz_to_midi,
    midi_to_hz,
    noise_of,
    noisiness,
    pitch_of,
    pitch_track,
    yin,
)
from audio_vaegan.descriptors.spectrum import centroid, spectrum

__all__ = [
    "A4_HZ",
    "A4_MIDI",
    "DESCRIPTORS",
    "Descriptor",
    "Pitch",
    "hz_to_midi",
    "load_librosa",
    "measure",
    "midi_to_hz",
    "noise_of",
    "note_number",
    "onset_time",
    "onsets",
    "pitch_track",
    "pyin",
    "sounding_middle",
    "yin",
]


@dataclass(frozen=True)
class Descriptor:
    """What a column of numbers means. A label that differs from the measured value by more than `tolerance` (in
    `unit`) is doubted."""

    name: str
    unit: str
    text: str
    tolerance: float


DESCRIPTORS = {
    d.name: d
    for d in (
        Descriptor("pitch", "semitones (MIDI)", "Median fundamental of the voiced frames, by YIN; 69 is A4.", 0.5),
        Descriptor("pitch_hz", "Hz", "The same as a frequency.", 13.0),  # half a semitone at A4
        Descriptor("voicing", "share", "Share of the sounding frames that are periodic.", 0.2),
        Descriptor("confidence", "0..1", "1 - YIN's normalised difference, median over the voiced frames.", 0.1),
        Descriptor("loudness", "LUFS", "Integrated loudness by ITU-R BS.1770-4, gated, mono.", 1.0),
        Descriptor("peak", "dBFS", "Largest absolute sample.", 0.5),
        Descriptor("centroid", "Hz", "Mean frequency weighted by magnitude, over the sounding frames.", 100.0),
        Descriptor("brightness", "semitones re 440 Hz", "The spectral centroid as a pitch; 12 is 880 Hz.", 1.0),
        Descriptor("noisiness", "dB", "Noise-to-harmonics ratio (minus Boersma's HNR), -30 to 20.", 3.0),
        Descriptor("attack", "log10 s", "Log time from 10 % to 90 % of the envelope's maximum, at least 11 ms.", 0.15),
        Descriptor("decay", "dB/s", "Fall of the level from its maximum until 40 dB below or the end.", 6.0),
        Descriptor("effective_duration", "s", "Time with the envelope above 40 % of its maximum.", 0.05),
        Descriptor("onset_rate", "1/s", "Onsets per second of sounding length, taken as at least a second.", 1.0),
    )
}

_AT_A_TIME = 1 << 18  # samples: less costs time, more costs memory and time (the processor's cache)
_LOUDEST = 1e6  # beyond, squares overflow; no sound is there


@torch.no_grad()
def measure(
    audio: Tensor, sample_rate: int, length: Tensor | None = None, names: Collection[str] = tuple(DESCRIPTORS)
) -> dict[str, Tensor]:
    """Every one of DESCRIPTORS, or those of `names`, of the clips `[B, samples]`: name -> `[B]` float32 on the CPU, NaN
    where undefined.

    `length` `[B]` is each clip's true number of samples; what follows is padding, and changes nothing. A clip that
    is silent (below -100 dBFS, or constant) has a peak, if any, and nothing else; one that holds NaN, infinity
    or values beyond a million has nothing.
    """
    audio = audio.detach().to("cpu", torch.float32)
    batch, samples = audio.shape
    length = torch.full((batch,), samples) if length is None else length.to("cpu").long().clamp(0, samples)
    if not batch:
        return {name: torch.zeros(0) for name in names}
    size = max(1, _AT_A_TIME // max(1, samples))
    parts = [_measure(a, n, sample_rate, names) for a, n in zip(audio.split(size), length.split(size), strict=True)]
    return {name: torch.cat([part[name] for part in parts]).float() for name in DESCRIPTORS if name in names}


def _measure(audio: Tensor, length: Tensor, sample_rate: int, names: Collection[str]) -> dict[str, Tensor]:
    audio = pad(audio, (0, max(1, int(length.max())) - audio.shape[1]))  # to the longest clip: mostly cuts
    audio = audio.masked_fill(torch.arange(audio.shape[1]) >= length.unsqueeze(1), 0)
    usable = audio.abs().amax(1, keepdim=True) <= _LOUDEST  # false for NaN
    audio = torch.where(usable, audio, 0)

    periods = find_periods(audio, sample_rate, length=length)
    pitch = cache(lambda: pitch_of(periods, sample_rate))
    frames = cache(lambda: spectrum(audio, sample_rate, length))
    level = cache(lambda: envelope(audio, sample_rate, length))
    centre = cache(lambda: centroid(frames()))
    of_sound: dict[str, Callable[[], Tensor]] = {
        "pitch": lambda: pitch().midi,
        "pitch_hz": lambda: midi_to_hz(pitch().midi),
        "voicing": lambda: pitch().voiced,
        "confidence": lambda: torch.where(pitch().midi.isnan(), torch.nan, confidence(periods)),
        "centroid": centre,
        "brightness": lambda: hz_to_midi(centre()) - A4_MIDI,
        "noisiness": lambda: noisiness(periods),
        "attack": lambda: log_attack_time(level()),
        "decay": lambda: decay(level()),
        "effective_duration": lambda: duration(level()),
        "onset_rate": lambda: onset_rate(frames(), level()),
    }
    of_any = {"loudness": lambda: loudness(audio, sample_rate, length), "peak": lambda: peak(audio)}
    sounds = periods.sounding.any(1)
    values = {name: torch.where(sounds, read(), torch.nan) for name, read in of_sound.items() if name in names}
    return values | {name: read() for name, read in of_any.items() if name in names}
