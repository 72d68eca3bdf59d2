"""The vocoder that is trained here: mel -> ConvNeXt frames -> magnitude and frequency -> locked phases -> ISTFT, and
when it is used, once more through the STFT, to correct what the mel of the result still lacks.

A network that works frame by frame and writes phases directly (Vocos, Siuzdak 2023) repeats the same frame for a steady
tone, so that its output has the period of the hop, whatever the pitch. This one writes what does follow from the mel,
the frequency in every bin, and integrates it; untrained, it is already a phase vocoder on the pseudo-inverse of the
mel, and learns the rest.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from audio_vaegan import compiled
from audio_vaegan.config import MelConfig, VocoderConfig
from audio_vaegan.layers import ConvNeXtBlock, frame_convolution
from audio_vaegan.mel import Mel
from audio_vaegan.models.vocoder.banded import Banded
from audio_vaegan.models.vocoder.istft import full_window, inverse_stft
from audio_vaegan.models.vocoder.phase import bin_advance, lock_phases, nearest_peaks

LOUDEST = 6.0  # most nats by which a bin may exceed its start
LEAST = 1e-4  # of a frame's mean magnitude: where a bin starts that the pseudo-inverse leaves empty
RELAXATION = 1.2  # above 1: the correction overshoots
GAINS = (1e-3, 30.0)  # least and most by which a band is corrected


class Synthesis(NamedTuple):
    """What the network writes: audio `[B, samples]`, and how far each bin's phase moves from the frame before, beyond
    the move of the bin's centre, `[B, T, n_fft / 2 + 1]` in radians."""

    audio: Tensor
    advance: Tensor


def gate(mel: Tensor, floor: float) -> Tensor:
    """What a linear mel is multiplied by: 0 at its floor, where all that is known is that there is no more, 1 from a
    twentieth above it on; between, a straight line, so that rounding decides nothing."""
    return ((mel / floor - 1.0001) * 20).clamp(0, 1)


class VocoderNetwork(nn.Module):
    """Log-mel `[B, n_mels, T]` -> Synthesis. Exactly silent where the mel lies at its floor, whatever the weights."""

    width: Tensor
    window: Tensor
    centre: Tensor
    turn: Tensor

    def __init__(self, mel: MelConfig, size: VocoderConfig) -> None:
        super().__init__()
        self.config, self.size = mel, size
        self.mel = Mel(mel)
        bins = mel.n_fft // 2 + 1
        self.radius = max(1, round(2 * mel.n_fft / mel.win_length))  # half the main lobe of a Hann window
        self.enter = nn.Conv1d(mel.n_mels, size.width, size.kernel, padding=size.kernel // 2)
        self.norm = nn.LayerNorm(size.width, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(size.width, size.kernel, size.expansion, scale=1 / size.blocks) for _ in range(size.blocks)
        )
        self.last_norm = nn.LayerNorm(size.width, eps=1e-6)
        self.head = nn.Linear(size.width, 3 * bins)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                nn.init.trunc_normal_(module.weight, std=0.02 if module is not self.head else 0.006)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        basis = self.mel.basis
        covered = basis.sum(dim=1) > 0
        self.pseudo_inverse, self.bands = Banded(torch.linalg.pinv(basis)), Banded(basis)
        self.register_buffer("width", basis.sum(dim=0).clamp_min(1e-12), persistent=False)
        self.spread = Banded((basis / basis.sum(dim=1, keepdim=True).clamp_min(1e-12)).T.contiguous())
        self.covered = int(covered.nonzero().max()) + 1 if covered.any() else bins  # bins; above lies no band
        self.register_buffer("window", full_window(self.mel.window, mel.n_fft), persistent=False)
        self.register_buffer("centre", bin_advance(mel.n_fft, mel.hop_length), persistent=False)
        # Phases here are those at the middle of the frame, where the bins of one partial agree; the FFT's are at its
        # first sample.
        self.register_buffer("turn", math.pi * (torch.arange(bins) % 2), persistent=False)

    def forward(self, log_mel: Tensor, samples: int) -> Synthesis:
        """What training sees: the audio before the correction, so that the network cannot leave its work to that."""
        spectrum, advance, _ = self._write(log_mel)
        return Synthesis(inverse_stft(spectrum, self.window, self.config, samples), advance)

    def synthesise(self, log_mel: Tensor, samples: int) -> Tensor:
        """Audio `[B, samples]` of a log-mel, corrected."""
        spectrum, _, mel = self._write(log_mel)
        return self._corrected(spectrum, mel, samples)

    def _write(self, log_mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The complex spectrum, the advance of its phases, and the gated mel, all `[B, T, ...]`."""
        log_mel = log_mel.transpose(1, 2).contiguous()
        x = self.norm(frame_convolution(self._scaled(log_mel), self.enter))
        for block in self.blocks:
            x = block(x)
        return self._spectrum(self.head(self.last_norm(x)), log_mel)

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def _spectrum(self, written: Tensor, log_mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        written = written.float()
        louder, advance, offset = written.chunk(3, dim=-1)
        mel = self.mel.expand(log_mel.float())
        mel = mel * gate(mel, self.config.floor)
        most = self._start(math.exp(LOUDEST * self.config.power) * mel)
        magnitude = most * (louder - LOUDEST).sigmoid_()
        if compiled.fits(written) and not torch.is_grad_enabled():
            spectrum = compiled.locked_spectrum(magnitude, written, self.centre, self.turn, self.radius)
            return spectrum, advance, mel
        advance = 3 * advance
        phase = lock_phases(advance + self.centre, nearest_peaks(magnitude.detach(), self.radius))
        phase = phase + offset + self.turn
        # Not torch.polar: on a CPU that is three times as slow.
        return torch.complex(magnitude * phase.cos(), magnitude * phase.sin()), advance, mel

    def _scaled(self, log_mel: Tensor) -> Tensor:
        """The mel in about [-1, 3] of any MelConfig."""
        nats = (1.0 if self.config.log == "ln" else math.log(10)) / self.config.power
        return log_mel * (nats / 4) - (math.log(self.config.floor) / self.config.power / 4 + 1)

    def _start(self, mel: Tensor) -> Tensor:
        """Magnitudes `[B, T, n_fft / 2 + 1]` of a gated mel `[B, T, n_mels]`, by the pseudo-inverse of the
        mel basis (as FreeV, Lv et al. 2024); above the highest band, as loud as that. Zero where the mel is."""
        power, level = self.config.power, mel / self.width
        start = self.pseudo_inverse(mel).clamp_min_(0).add_(LEAST**power * level.mean(dim=-1, keepdim=True))
        start[..., self.covered :] += level[..., -1:]
        return start if power == 1 else (start + 1e-30).sqrt() * (start > 0)

    @torch.no_grad()
    def _corrected(self, spectrum: Tensor, mel: Tensor, samples: int) -> Tensor:
        """Audio of a spectrum `[B, T, n_fft / 2 + 1]` for a gated mel `[B, T, n_mels]`.

        Frames that overlap change each other, so that the mel of the result is not the wanted one. Each bin of the
        result is raised or lowered by the geometric mean of what its bands lack.
        """
        c = self.config
        whole = c.hop_length * (mel.shape[1] - (c.padding == "center"))
        sounds = (mel.amax(dim=-1, keepdim=True) > 0).float()
        if whole > c.n_fft:
            spectrum = self.mel.spectrum(inverse_stft(spectrum, self.window, c, whole)).transpose(1, 2)
            real, imaginary = torch.view_as_real(spectrum).unbind(-1)
            found = real.square().addcmul_(imaginary, imaginary)  # half of the time that abs takes
            found = found.sqrt_() if c.power == 1 else found
            lacks = mel / self.bands(found).clamp_min(c.floor)
            lacks = lacks if c.power == 1 else lacks.sqrt_()
            gains = self.spread(lacks.clamp_(*GAINS).log_().mul_(RELAXATION)).exp_().mul_(sounds)
            spectrum.mul_(gains)  # in place: fresh memory is what costs most here
        return inverse_stft(spectrum, self.window, c, samples)
