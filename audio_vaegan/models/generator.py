"""Latent -> spectrogram. One generator decodes codes of real sounds and codes drawn from the prior."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audio_vaegan.config import ModelConfig
from audio_vaegan.layers import ConvNeXtBlock, Upsample
from audio_vaegan.models.controls import Control, ControlEmbedding


class Generator(nn.Module):
    """Frame-rate ConvNeXt stack, steered in every block by the latent through adaptive layer norm.

    The start sequence (a quarter of the frames) is learned, plus a projection of the condition per frame.
    Shape: timbre `[B, D]`, standardised controls `[B, C]`, defined `[B, C]` bool -> normalised log-mel `[B, n_mels, T]`.
    """

    def __init__(self, config: ModelConfig, controls: Sequence[Control], n_mels: int, frames: int) -> None:
        super().__init__()
        width, start = config.width, frames // 4
        self.embed = ControlEmbedding(controls)
        inputs = config.timbre_dim + 64 * len(controls)
        self.condition = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.start = nn.Parameter(0.5 * torch.randn(1, start, width))
        self.unfold = nn.Linear(width, start * 32)
        self.lift = nn.Linear(32, width)
        block = {"kernel": config.kernel, "expansion": config.expansion, "condition_dim": width}
        early = config.generator_blocks // 2
        self.coarse = nn.ModuleList(ConvNeXtBlock(width, **block) for _ in range(early))
        self.up = Upsample(width)
        self.fine = nn.ModuleList(ConvNeXtBlock(width, **block) for _ in range(config.generator_blocks - early))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.leave = nn.Linear(width, n_mels)

    def forward(self, timbre: Tensor, controls: Tensor, defined: Tensor) -> Tensor:
        condition = self.condition(torch.cat([timbre, self.embed(controls, defined)], dim=-1))
        x = self.start + self.lift(self.unfold(condition).unflatten(1, (self.start.shape[1], 32)))
        for block in self.coarse:
            x = block(x, condition)
        x = self.up(x)
        for block in self.fine:
            x = block(x, condition)
        return self.leave(self.norm(x)).transpose(1, 2)
