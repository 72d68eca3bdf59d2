"""How noisy a sound is, set in the audio: noise of its own colour is added, or what lies between its harmonics taken.

The noise part of a harmonic-plus-noise model (Serra & Smith 1990, "Spectral modeling synthesis"): a generator gives
each sound its kind of noise, and misses the amount by a few decibels, which can be measured and mended.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from audio_vaegan.config import MelConfig
from audio_vaegan.descriptors import midi_to_hz, noise_of
from audio_vaegan.mel import Mel
from audio_vaegan.models.vocoder.istft import full_window, inverse_stft

SMOOTH_HZ = 800.0  # over which the colour of the noise is smoothed, so that it has none of the harmonics
NEAR = 0.1  # dB: nearer need not be
SPAN = 48  # samples, of the meter (descriptors/periods.py)
ROUNDS = 2
FINE = 0.012  # seconds, of the envelope that noise follows
MOST = 20.0  # dB above the sound that noise is added
APART = 8  # bins of the window's own transform: twice the main lobe of a Hann window


def set_noisiness(
    audio: Tensor,
    mel: Mel,
    asked: Tensor,
    pitch: Tensor,
    seeds: Tensor,
    length: Tensor | None = None,
    more: Tensor | None = None,
) -> Tensor:
    """Audio `[B, samples]` that measures `asked` `[B]` dB of noisiness (NaN: left alone), as loud as it was.

    `pitch` `[B]` (MIDI; NaN: none); `seeds` `[B]` name the noise of each; the first `length` `[B]` samples are the
    sound, silence follows. What lacks is added, in closed form. Too much is taken away by a comb filter of zero phase,
    by at most 9 dB a round, where there is a pitch. Only those that are `more` `[B]` (default: all) get more.
    """
    asked, pitch = asked.to(audio), pitch.to(audio)
    most = torch.full_like(asked, torch.inf) if more is None else torch.where(more, torch.inf, 0.0)
    for turn in range(ROUNDS):
        audio = _nearer(audio, mel, asked, pitch, seeds + turn, length, most)
    return audio


def blurred(pitch: Tensor, mel: MelConfig) -> Tensor:
    """Whether harmonics of a pitch (MIDI) lie so near to each other that a mel cannot tell them apart."""
    return midi_to_hz(pitch) < APART * mel.sample_rate / mel.win_length


def _nearer(
    audio: Tensor, mel: Mel, asked: Tensor, pitch: Tensor, seeds: Tensor, length: Tensor | None, most: Tensor
) -> Tensor:
    rate = mel.config.sample_rate
    found = noise_of(audio, rate, length)
    # Nothing at the edge: rounding decides nothing.
    lacking = F.softshrink((asked - found).nan_to_num(0.0), NEAR).minimum(most)
    power = audio.square().mean(dim=1, keepdim=True)
    less = (lacking < 0) & pitch.isfinite()
    made = audio
    if bool(less.any()):
        combed = _combed(audio, midi_to_hz(pitch.nan_to_num(60.0)), _ratio(lacking.clamp_max(0.0)), rate)
        made = torch.where(less.unsqueeze(1), combed, made)
    if bool((lacking > 0).any()):
        noise = _noise(audio, mel, seeds)
        noise = noise / noise.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-9)
        there = found.nan_to_num(0.0)
        more = _ratio((there + lacking).clamp_max(MOST)) - _ratio(there)
        scale = (more.clamp_min(0) / (1 + _ratio(there))).unsqueeze(1) * power
        made = torch.where((lacking > 0).unsqueeze(1), audio + scale.sqrt() * noise, made)
    return made * (power / made.square().mean(dim=1, keepdim=True).clamp_min(1e-20)).sqrt().clamp_max(4.0)


def _ratio(decibels: Tensor) -> Tensor:
    return torch.pow(10.0, decibels / 10)


def _combed(audio: Tensor, hertz: Tensor, keep: Tensor, rate: int) -> Tensor:
    """Audio `[B, samples]` that differs from itself, in power, by the share `keep` `[B]` of what it did, over as many
    periods as the meter compares (at least SPAN samples).

    The comb H = (1 + cos(2 pi f / f1)) / 2, f1 = f0 / periods, is mixed with the sound itself: H + g (1 - H). White
    noise then differs by the mean of (H + g (1 - H))^2 (1 - cos) over a tooth of the comb: 1/8 + g/4 + 5/8 g^2.
    """
    hertz = hertz / (SPAN * hertz / rate).ceil().clamp_min(1)
    size = 1 << (audio.shape[1] + rate // 16).bit_length()  # no sound comes round the end
    frequency = torch.fft.rfftfreq(size, 1 / rate).to(audio)
    comb = (1 + torch.cos(2 * torch.pi * frequency / hertz.unsqueeze(1))) / 2
    gain = ((1 / 16 - 5 / 2 * (1 / 8 - keep)).clamp_min(0).sqrt() - 1 / 4) / (5 / 4)
    spectrum = torch.fft.rfft(audio, size) * (comb + gain.clamp(0, 1).unsqueeze(1) * (1 - comb))
    return torch.fft.irfft(spectrum, size)[:, : audio.shape[1]]


def _noise(audio: Tensor, mel: Mel, seeds: Tensor) -> Tensor:
    """White noise `[B, samples]`, coloured frame by frame as the sound is, its harmonics smoothed over."""
    c = mel.config
    rows = [torch.randn(audio.shape[1], generator=torch.Generator().manual_seed(int(s))) for s in seeds.tolist()]
    bins = round(SMOOTH_HZ * c.n_fft / c.sample_rate / 2) * 2 + 1
    spectrum = mel.spectrum(audio)
    level = (spectrum.real.square() + spectrum.imag.square()).transpose(1, 2)
    colour = (moving_sum(level, bins) / moving_sum(torch.ones_like(level[:1, :1]), bins)).sqrt()
    white = mel.spectrum(torch.stack(rows).to(audio)).transpose(1, 2)
    noise = inverse_stft(white * colour, full_window(mel.window, c.n_fft), c, audio.shape[1])
    # The frames are longer than an attack: the noise begins and ends as the sound does.
    return noise * (_envelope(audio, c.sample_rate) / _envelope(noise, c.sample_rate).clamp_min(1e-9))


def _envelope(audio: Tensor, rate: int) -> Tensor:
    """Root of the mean square over FINE seconds at every sample `[B, samples]`."""
    size = round(FINE * rate / 2) * 2 + 1
    return (moving_sum(audio.square(), size) / moving_sum(torch.ones_like(audio[:1]), size)).sqrt()


def moving_sum(x: Tensor, size: int) -> Tensor:
    """The sum of the `size` (odd) numbers around each along the last axis, zeros beyond the ends; of non-negative
    numbers. In time that does not grow with the size, which a pooling's does."""
    total = F.pad(x.double(), (size // 2 + 1, size // 2)).cumsum(-1)
    return (total[..., size:] - total[..., :-size]).clamp_min(0).to(x)
