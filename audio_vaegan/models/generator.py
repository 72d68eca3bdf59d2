"""Latent -> spectrogram. One generator decodes codes of real sounds and codes drawn from the prior."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audio_vaegan.config import MelConfig, ModelConfig
from audio_vaegan.layers import Attention, ConvNeXtBlock, Upsample
from audio_vaegan.mel import HarmonicComb
from audio_vaegan.models.controls import Control, ControlEmbedding


class Generator(nn.Module):
    """Frame-rate ConvNeXt stack, steered in every block by the latent through adaptive layer norm.

    The start sequence (a quarter of the frames) is learned and the same for all sounds: what differs comes from the
    condition alone, which is constant over the clip, so that codes off the beaten track do not flutter.
    Shape: timbre `[B, D]`, standardised controls `[B, C]`, defined `[B, C]` bool ->
    normalised log-mel `[B, n_mels, T]`.

    `decibel` is by how much a decibel raises a normalised log-mel: loudness is added to what the blocks write, so that
    they need to learn only what else goes with it.

    `fade_in` < 1 is for progressive growing: at 0 the spectrogram is read off the coarse blocks alone, a quarter of the
    frames, each repeated; between, it fades into the whole generator's.
    """

    fade_in: float = 1.0

    def __init__(
        self, config: ModelConfig, controls: Sequence[Control], mel: MelConfig, frames: int, decibel: float
    ) -> None:
        super().__init__()
        n_mels = mel.n_mels
        width, self.frames = config.width, frames
        self.embed = ControlEmbedding(controls)
        inputs = config.timbre_dim + 64 * len(controls)
        self.condition = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.start = nn.Parameter(0.5 * torch.randn(1, -(-frames // 4), width))
        block = {"kernel": config.kernel, "expansion": config.expansion, "condition_dim": width}
        fine = config.generator_fine_blocks or -(-config.generator_blocks // 2)
        self.coarse = nn.ModuleList(ConvNeXtBlock(width, **block) for _ in range(config.generator_blocks - fine))
        if config.attention_heads:
            self.coarse.append(Attention(width, config.attention_heads, width))
        self.up = Upsample(width)
        self.fine = nn.ModuleList(ConvNeXtBlock(width, **block) for _ in range(fine))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.leave = nn.Linear(width, 2 * n_mels)
        self.loudness = next((i for i, c in enumerate(controls) if c.name == "loudness"), None)
        if self.loudness is not None:
            self.louder = controls[self.loudness].deviation * decibel
        self.pitch = next((i for i, c in enumerate(controls) if c.name == "pitch"), None)
        if self.pitch is not None:
            self.comb = HarmonicComb(mel)
            self.pitch_mean, self.pitch_deviation = controls[self.pitch].mean, controls[self.pitch].deviation
            self.place = nn.Linear(n_mels, width)

    def forward(self, timbre: Tensor, controls: Tensor, defined: Tensor) -> Tensor:
        condition = self.condition(torch.cat([timbre, self.embed(controls, defined)], dim=-1))
        x = self.start.expand(condition.shape[0], -1, -1)  # len() would fix the batch of an export
        for block in self.coarse:
            x = block(x, condition)
        comb = None if self.pitch is None else self._comb(controls[:, self.pitch], defined[:, self.pitch])
        level = 0.0 if self.loudness is None else self._level(controls[:, self.loudness], defined[:, self.loudness])
        coarse = None
        if self.fade_in < 1:
            coarse = self._read(x, comb).repeat_interleave(4, dim=2)[..., : self.frames] + level
            if self.fade_in == 0:
                return coarse
        x = self.up(x)[:, : self.frames]
        if comb is not None:
            x = x + self.place(comb)
        for block in self.fine:
            x = block(x, condition)
        mel = self._read(x, comb) + level
        return mel if coarse is None else torch.lerp(coarse, mel, self.fade_in)

    def _read(self, x: Tensor, comb: Tensor | None) -> Tensor:
        """`[B, T, width]` -> log-mel `[B, n_mels, T]`: an envelope, and how much of the comb to use."""
        envelope, contrast = self.leave(self.norm(x)).chunk(2, dim=-1)
        return (envelope if comb is None else torch.addcmul(envelope, contrast, comb)).transpose(1, 2)

    def _level(self, loudness: Tensor, defined: Tensor) -> Tensor:
        """What a standardised loudness adds to every band `[B, 1, 1]`."""
        return (self.louder * loudness * defined).view(-1, 1, 1)

    def _comb(self, pitch: Tensor, defined: Tensor) -> Tensor:
        """The harmonic comb `[B, 1, n_mels]` of a standardised pitch; zero where there is none."""
        midi = pitch * self.pitch_deviation + self.pitch_mean
        comb = self.comb(440.0 * torch.exp2((midi - 69) / 12))
        return (comb * defined.unsqueeze(-1)).unsqueeze(1)
