"""Spectrogram -> Gaussian timbre code."""

from torch import Tensor, nn

from audio_vaegan.config import ModelConfig
from audio_vaegan.layers import Attention, ConvNeXtBlock, Downsample


class Encoder(nn.Module):
    """Frame-rate ConvNeXt stack with mel bins as channels; four frames become one a third of the way.

    Shape: normalised log-mel `[B, n_mels, T]` -> mean `[B, D]` and log-variance `[B, D]` of the timbre code.
    """

    def __init__(self, config: ModelConfig, n_mels: int, frames: int) -> None:
        super().__init__()
        early = config.encoder_blocks // 3
        block = {"kernel": config.kernel, "expansion": config.expansion}
        self.enter = nn.Linear(n_mels, config.width)
        self.fine = nn.ModuleList(ConvNeXtBlock(config.width, **block) for _ in range(early))
        self.down = Downsample(config.width, config.width)
        self.coarse = nn.ModuleList(ConvNeXtBlock(config.width, **block) for _ in range(config.encoder_blocks - early))
        if config.attention_heads:
            self.coarse.append(Attention(config.width, config.attention_heads))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.leave = nn.Linear(config.width * -(-frames // 4), 2 * config.timbre_dim)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        x = self.enter(mel.transpose(1, 2))
        for block in self.fine:
            x = block(x)
        x = self.down(x)
        for block in self.coarse:
            x = block(x)
        mean, log_variance = self.leave(self.norm(x).flatten(1)).chunk(2, dim=-1)
        return mean, log_variance.clamp(-12, 6)
