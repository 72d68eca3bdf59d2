"""What a spectrogram itself says of loudness, brightness, attack and decay, and how its level is made to run as asked.

The definitions of `descriptors`, on log-mels: what the meters will find in the audio, up to the coarser frames. What
can be written down need not be learned: a decoded mel is set to read as its controls say.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audio_vaegan.config import MelConfig
from audio_vaegan.descriptors.loudness import k_weighting, loudness
from audio_vaegan.mel import mel_basis
from audio_vaegan.models.controls import Control

ORDER = ("attack", "decay", "brightness", "loudness")
ROUNDS = 2
FALL, RAISE = 60.0, 30.0  # dB, the most that is taken off a frame or added to it
EMPTY, FULL = 3.0, 12.0  # dB above the mel's floor: below, nothing is there to be raised; from there on, all is
TILT, PIVOT = 3.0, 250.0  # dB an octave, the most that a spectrum is tilted in a round; Hz, below which it is not
NINETY = -20 * math.log10(0.9)  # dB below the maximum: where an attack ends
FLOOR = 1e-12  # of linear power
READ = ("loudness", "brightness", "attack", "decay")
SOFTEST, LOUDEST = -1.0, 1.0  # deviations from training's mean loudness, between which most of its sounds lay


def lacking(controls: Sequence[Control], audio: Tensor, sample_rate: int) -> Tensor:
    """The gain in dB `[B]` that brings clips `[B, samples]` to the nearest loudness that the training of a model with
    these controls knew well: 0 for most of its sounds, for silence, and where it knows no loudness."""
    control = next((c for c in controls if c.name == "loudness"), None)
    if control is None or not audio.shape[1]:
        return torch.zeros(len(audio))
    whole = torch.full((len(audio),), audio.shape[1])
    own = control.standard(loudness(audio.cpu(), sample_rate, whole).float())
    return ((own.clamp(SOFTEST, LOUDEST) - own) * control.deviation).nan_to_num(0.0)


def louder(audio: Tensor, gain: Tensor) -> Tensor:
    """Audio `[B, samples]` by so many dB `[B]` louder."""
    return audio * torch.pow(10.0, gain.double() / 20).float().unsqueeze(1).to(audio.device)


class Level(nn.Module):
    """Readings of a normalised log-mel `[B, n_mels, T]`, and the change that makes it read as the controls ask.

    `mean` and `deviation` are those of the normalisation.
    """

    loud: Tensor
    flat: Tensor
    centre: Tensor
    magnitude: Tensor
    bin: Tensor
    time: Tensor
    within: Tensor

    def __init__(
        self, controls: Sequence[Control], mel: MelConfig, frames: int, mean: float = 0.0, deviation: float = 1.0
    ) -> None:
        super().__init__()
        self.controls = {c.name: (i, c) for i, c in enumerate(controls) if c.name in READ}
        decibel = mel.power / 20 * (math.log(10) if mel.log == "ln" else 1)  # of a log-mel
        self.decibel, self.zero, self.hop = decibel / deviation, mean / decibel, mel.hop_length / mel.sample_rate
        self.floor = 20 / mel.power * math.log10(mel.floor)  # dB
        self.block = min(frames, round(0.4 / self.hop))
        basis = mel_basis(mel)
        hertz = torch.arange(len(basis)) * (mel.sample_rate / mel.n_fft)
        peak = basis.amax(dim=0).clamp_min(1e-9)
        # A band's power from its mel: between that of a tone at its centre and that of noise throughout.
        flat = 1 / peak if mel.power == 2 else 1 / (peak * basis.square().sum(dim=0).clamp_min(1e-18).sqrt())
        biquads = np.fft.rfft(k_weighting(mel.sample_rate).reshape(2, 2, 3), mel.n_fft)  # of numerators, denominators
        response = torch.from_numpy(np.abs(biquads[:, 0] / biquads[:, 1]).prod(axis=0) ** 2)
        weighting = (basis * response.float().unsqueeze(1)).sum(dim=0) / basis.sum(dim=0).clamp_min(1e-9)
        # A sine of amplitude 1, power 1/2, has the magnitude win / 4 in its bin, half of that beside it.
        scale = 0.25 / (mel.win_length / 4) ** 2
        self.register_buffer("flat", flat * scale, persistent=False)
        self.register_buffer("loud", flat * scale * weighting, persistent=False)
        self.register_buffer("magnitude", 1 / peak, persistent=False)
        self.register_buffer("bin", 1 / basis.sum(dim=0).clamp_min(1e-9), persistent=False)
        centre = (basis * hertz.unsqueeze(1)).sum(dim=0) / basis.sum(dim=0).clamp_min(1e-9)
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("time", (torch.arange(frames) + 0.5) * self.hop, persistent=False)
        window = torch.hann_window(33)[1:-1]
        share = (torch.arange(1, 32) / 32 - 0.5) * (mel.win_length / mel.sample_rate)
        self.register_buffer("within", torch.stack([share, window / window.sum()]), persistent=False)

    def _decibels(self, mel: Tensor) -> Tensor:
        return mel / self.decibel + self.zero

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def read(self, mel: Tensor) -> dict[str, Tensor]:
        """What the model's controls among READ read, standardised `[B]`."""
        decibels = self._decibels(mel.float())
        read = {name: getattr(self, f"_{name}") for name in self.controls}
        return {name: self.controls[name][1].standard(f(decibels)) for name, f in read.items()}

    def _loudness(self, decibels: Tensor) -> Tensor:
        """LUFS by BS.1770-4: blocks of 400 ms, those within 10 LU of their mean."""
        power = self.loud @ _power(decibels)
        step = max(1, round(0.1 / self.hop))
        blocks = F.avg_pool1d(power.unsqueeze(1), self.block, step).squeeze(1)
        used = blocks > blocks.mean(dim=1, keepdim=True) / 10
        mean = (blocks * used).sum(dim=1) / used.sum(dim=1)
        return -0.691 + 10 * torch.log10(mean + FLOOR)

    def _brightness(self, decibels: Tensor) -> Tensor:
        """The magnitudes' centroid in semitones re 440 Hz, mean over the frames within 40 dB of the loudest."""
        mel = _amplitude(decibels)
        magnitude, each = mel * self.magnitude.unsqueeze(1), mel * self.bin.unsqueeze(1)
        magnitude = magnitude * (each > 1e-3 * each.amax(dim=1, keepdim=True))
        total = magnitude.sum(dim=1)
        centroid = self.centre @ magnitude / (total + FLOOR)
        used = total > 1e-2 * total.amax(dim=1, keepdim=True)
        mean = (centroid * used).sum(dim=1) / used.sum(dim=1).clamp_min(1)
        return 12 * torch.log2(mean.clamp_min(1.0) / 440)

    def _course(self, decibels: Tensor) -> Tensor:
        """The level in dB `[B, T]`."""
        return 10 * torch.log10(self.flat @ _power(decibels) + FLOOR)

    def _decay(self, decibels: Tensor) -> Tensor:
        """dB/s: a line through the level from the end of the attack until it is 40 dB down or the clip ends."""
        level = self._course(decibels)
        top = level.amax(dim=1, keepdim=True)
        index = torch.arange(level.shape[1], device=level.device)
        start = (level >= top - NINETY).int().argmax(dim=1, keepdim=True)
        fallen = (index > start) & (level < top - 40)
        end = torch.where(fallen, index, level.shape[1]).amin(dim=1, keepdim=True) - 1
        fit = (index >= start) & (index <= end.maximum(start + 1)) & (level >= top - 40)
        count = fit.sum(dim=1, keepdim=True)
        time = self.time[: level.shape[1]].expand_as(level)
        time = (time - (time * fit).sum(dim=1, keepdim=True) / count) * fit
        return -(time * level).sum(dim=1) / time.square().sum(dim=1).clamp_min(1e-9)

    def _attack(self, decibels: Tensor) -> Tensor:
        """log10 of the seconds from 10 % to 90 % of the largest amplitude, at least 11 ms."""
        return self._attack_onset(decibels)[0]

    def _attack_onset(self, decibels: Tensor) -> tuple[Tensor, Tensor]:
        """The attack, and the second at which a straight rise like it would begin."""
        amplitude = _amplitude(self._course(decibels))
        top = amplitude.amax(dim=1, keepdim=True)
        index = torch.arange(amplitude.shape[1], device=top.device)
        end = (amplitude >= 0.9 * top).int().argmax(dim=1, keepdim=True)
        below = (amplitude < 0.1 * top) & (index < end)
        start = torch.where(below, index, -1).amax(dim=1, keepdim=True)
        low, high = _crossing(amplitude, start, 0.1 * top), _crossing(amplitude, end - 1, 0.9 * top)
        rise = ((high - low).squeeze(1) * self.hop).clamp_min(0.011)
        onset = (low.squeeze(1) + 0.5) * self.hop - rise / 8
        return torch.log10(rise), torch.where(start.squeeze(1) < 0, onset.clamp_max(0), onset)

    @torch.no_grad()
    def set(self, mel: Tensor, controls: Tensor, defined: Tensor) -> Tensor:
        """The log-mel `[B, n_mels, T]`, changed as little as it takes to read as asked (standardised `[B, C]`).

        Attack: another rise over the same onset; decay: a steady fall more or less; brightness: a tilt of the spectrum;
        loudness: a gain. A sound that this brings no nearer stays as it was. What lies at the mel's floor stays there:
        raised, silence would be a burst of noise.
        """
        wanted = {name: (controls[:, i].float(), defined[:, i]) for name, (i, _) in self.controls.items()}
        decibels = self._decibels(mel.float())
        before = self._off(decibels, wanted)
        made, there = decibels, ((decibels - self.floor - EMPTY) / (FULL - EMPTY)).clamp(0, 1)
        for _ in range(ROUNDS):
            for name in ORDER:
                if name in wanted:
                    change = torch.nan_to_num(getattr(self, f"_set_{name}")(made, *wanted[name]))
                    made = made + torch.minimum(change, change * there)  # what is raised, not what is lowered
        nearer = (self._off(made, wanted) < before).view(-1, 1, 1)
        made = made.clamp_min(self.floor)  # no real mel lies below it, and no vocoder knows what that would be
        return torch.where(nearer, (made - self.zero) * self.decibel, mel.float())

    def _off(self, decibels: Tensor, wanted: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """How far sounds are from what is asked, in deviations, the controls added up `[B]`."""
        off = decibels.new_zeros(len(decibels))
        for name, (value, known) in wanted.items():
            read = self.controls[name][1].standard(getattr(self, f"_{name}")(decibels))
            off = off + ((read - value).abs().nan_to_num(3.0).clamp_max(3.0) * known)
        return off

    def _set_loudness(self, decibels: Tensor, asked: Tensor, known: Tensor) -> Tensor:
        lacking = self.controls["loudness"][1].value(asked) - self._loudness(decibels)
        return (lacking * known).view(-1, 1, 1)

    def _set_brightness(self, decibels: Tensor, asked: Tensor, known: Tensor) -> Tensor:
        """A tilt in dB an octave, by two steps of the secant method."""
        octaves = torch.log2(self.centre.clamp_min(PIVOT) / 1000).view(1, -1, 1)
        value, tilt = self.controls["brightness"][1].value(asked), torch.zeros_like(asked)
        read, step = self._brightness(decibels), torch.ones_like(asked)
        for _ in range(2):
            there = self._brightness(decibels + (tilt + step).view(-1, 1, 1) * octaves)
            slope = ((there - read) / step).clamp_min(0.5)
            tilt = (tilt + (value - read) / slope).clamp(-TILT, TILT)
            read = self._brightness(decibels + tilt.view(-1, 1, 1) * octaves)
        return (tilt * known).view(-1, 1, 1) * octaves

    def _set_decay(self, decibels: Tensor, asked: Tensor, known: Tensor) -> Tensor:
        control = self.controls["decay"][1]
        level = self._course(decibels)
        start = (level >= level.amax(dim=1, keepdim=True) - NINETY).int().argmax(dim=1, keepdim=True)
        lacking = (control.value(asked) - self._decay(decibels)) * known
        time = (self.time - self.time[start.squeeze(1)].unsqueeze(1)).clamp_min(0)
        return -(lacking.unsqueeze(1) * time).clamp(-FALL, FALL).unsqueeze(1)

    def _set_attack(self, decibels: Tensor, asked: Tensor, known: Tensor) -> Tensor:
        """The rise that is wanted in the place of the one that is there, both straight, from the same onset."""
        control = self.controls["attack"][1]
        read, onset = self._attack_onset(decibels)
        there, wanted = (torch.pow(10.0, v.clamp(-2.0, 0.5)) / 0.8 for v in (read, control.value(asked)))
        gain = self._rise(wanted, onset) - self._rise(there, onset)
        return (gain.clamp(-FALL, RAISE) * known.unsqueeze(1)).unsqueeze(1)

    def _rise(self, seconds: Tensor, onset: Tensor) -> Tensor:
        """The level in dB `[B, T]` of a straight rise of `seconds` `[B]` from `onset` `[B]`, through the window."""
        share, weight = self.within
        moment = self.time.unsqueeze(1) + share - onset.view(-1, 1, 1)  # [B, T, 31]
        power = (moment / seconds.view(-1, 1, 1)).clamp(0, 1).square() @ weight
        return 10 * torch.log10(power.clamp_min(1e-4))


def _power(decibels: Tensor) -> Tensor:
    return torch.exp(decibels * (math.log(10) / 10))  # a fraction of the time of 10 to the power of


def _amplitude(decibels: Tensor) -> Tensor:
    return torch.exp(decibels * (math.log(10) / 20))


def _crossing(amplitude: Tensor, before: Tensor, value: Tensor) -> Tensor:
    """Where, between index `before` and the next, the amplitude reaches `value` (linear); 0 if `before` is none."""
    a = amplitude.gather(1, before.clamp_min(0))
    b = amplitude.gather(1, (before + 1).clamp_max(amplitude.shape[1] - 1))
    part = ((value - a) / (b - a).clamp_min(1e-9)).clamp(0, 1)
    return torch.where(before < 0, torch.zeros_like(a), before + part)
