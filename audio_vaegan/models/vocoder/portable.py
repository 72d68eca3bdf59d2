"""The vocoder in operations that ONNX has: Fourier transforms as matrix products, peaks and phases without indices of
varying number. What comes out is the same, to rounding."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audio_vaegan.models.vocoder.network import GAINS, LEAST, LOUDEST, RELAXATION, VocoderNetwork, gate
from audio_vaegan.models.vocoder.phase import wrap


class PortableVocoder(nn.Module):
    """Log-mel `[B, n_mels, T]` -> audio `[B, T * hop]`, for mels with `same` padding and power 1.

    `VocoderNetwork.synthesise` says what each step is for.
    """

    forward_basis: Tensor
    above: Tensor
    inverse_basis: Tensor
    envelope: Tensor

    def __init__(self, network: VocoderNetwork, frames: int) -> None:
        super().__init__()
        c = network.config
        if c.padding != "same" or c.power != 1 or c.win_length != c.n_fft or c.n_fft % c.hop_length or c.magnitude_eps:
            raise ValueError("only mels of magnitudes, with `same` padding and windows as long as their transform")
        self.network, self.frames = network, frames
        n, hop, bins = c.n_fft, c.hop_length, c.n_fft // 2 + 1
        angle = 2 * math.pi * (torch.arange(bins).unsqueeze(1) * torch.arange(n) % n).double() / n
        window = network.window.double()
        both = torch.cat([angle.cos(), -angle.sin()]) * window  # [2 bins, n]
        self.register_buffer("forward_basis", both.float().unsqueeze(1))
        weight = torch.full((bins, 1), 2.0, dtype=torch.float64)
        weight[0] = weight[-1] = 1.0
        back = torch.cat([weight * angle.cos(), -weight * angle.sin()]) / n * window
        self.register_buffer("inverse_basis", back.float().unsqueeze(1))
        whole = torch.zeros((frames - 1) * hop + n, dtype=torch.float64)
        for t in range(frames):
            whole[t * hop : t * hop + n] += window.square()
        self.register_buffer("above", (torch.arange(bins) >= network.covered).float())
        self.side = (n - hop) // 2
        whole = whole.clamp_min(1e-3 * float(window.square().max()))
        self.register_buffer("envelope", whole[self.side : self.side + frames * hop].float())

    def forward(self, log_mel: Tensor) -> Tensor:
        net, c = self.network, self.network.config
        mel = net.mel.expand(log_mel).transpose(1, 2)
        mel = mel * gate(mel, c.floor)
        x = net.norm(net.enter(net._scaled(log_mel)).transpose(1, 2))
        for block in net.blocks:
            x = block(x)
        louder, advance, offset = net.head(net.last_norm(x)).chunk(3, dim=-1)
        level = mel / net.width
        start = (mel @ net.pseudo_inverse.matrix).clamp_min(0) + LEAST * level.mean(dim=-1, keepdim=True)
        magnitude = (start + self.above * level[..., -1:]) * (math.exp(LOUDEST) * torch.sigmoid(louder - LOUDEST))
        phase = self._locked(3 * advance + net.centre, magnitude) + offset + net.turn
        real, imaginary = magnitude * phase.cos(), magnitude * phase.sin()
        sounds = (mel.amax(dim=-1, keepdim=True) > 0).float()
        real, imaginary = self._spectrum(self._audio(real, imaginary))
        found = (real.square() + imaginary.square()).sqrt()
        lacks = mel / (found @ net.mel.basis).clamp_min(c.floor)
        gains = ((lacks.clamp(*GAINS).log() * RELAXATION) @ net.spread.matrix).exp() * sounds
        real, imaginary = real * gains, imaginary * gains
        return self._audio(real, imaginary)

    def _audio(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Overlap-add of the inverse transforms: spectrum `[B, T, bins]` twice -> `[B, T * hop]`."""
        hop = self.network.config.hop_length
        both = torch.cat([real, imaginary], dim=-1).transpose(1, 2)
        whole = F.conv_transpose1d(both, self.inverse_basis, stride=hop).squeeze(1)
        return whole[:, self.side : self.side + self.frames * hop] / self.envelope

    def _spectrum(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        c = self.network.config
        padded = F.pad(audio.unsqueeze(1), (self.side, self.side), mode=c.pad_mode)
        both = F.conv1d(padded, self.forward_basis, stride=c.hop_length).transpose(1, 2)
        real, imaginary = both.chunk(2, dim=-1)
        return real, imaginary

    def _locked(self, advance: Tensor, magnitude: Tensor) -> Tensor:
        """`phase.lock_phases`, with an index for every bin in the place of a list of peaks."""
        bins = magnitude.shape[-1]
        place = torch.arange(bins)
        peak = magnitude >= F.max_pool1d(magnitude, 2 * self.network.radius + 1, 1, self.network.radius)
        none = torch.full_like(magnitude, -1e9)
        left = _running_max(torch.where(peak, place.float(), none), 1)
        right = -_running_max(torch.where(peak, -place.float(), none), -1)
        halfway = ((left + right) / 2).floor()
        owner = torch.where((right > bins) | ((left >= 0) & (place <= halfway)), left, right).clamp(0, bins - 1).long()
        own = wrap(advance).gather(-1, owner)  # every bin walks with its peak
        # Frame t's bin came from its peak's bin in the frame before, and so from that bin's peak there.
        phase, before = own, owner
        for turn in range((self.frames - 1).bit_length()):
            back = 2**turn
            gained = phase[:, :-back].gather(-1, before[:, back:])
            phase = torch.cat([phase[:, :back], phase[:, back:] + gained], dim=1)
            phase = wrap(phase)
            before = torch.cat([before[:, :back], before[:, :-back].gather(-1, before[:, back:])], dim=1)
        return phase


def _running_max(x: Tensor, direction: int) -> Tensor:
    """The largest value so far along the last axis, from its start (1) or its end (-1)."""
    size, shift = x.shape[-1], 1
    while shift < size:
        if direction > 0:
            moved = F.pad(x[..., :-shift], (shift, 0), value=-1e9)
        else:
            moved = F.pad(x[..., shift:], (0, shift), value=-1e9)
        x, shift = torch.maximum(x, moved), 2 * shift
    return x
