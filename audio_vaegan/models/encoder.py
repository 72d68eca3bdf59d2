"""Spectrogram -> Gaussian timbre code."""

from torch import Tensor, nn

from audio_vaegan.config import ModelConfig
from audio_vaegan.layers import Attention, ConvNeXtBlock, Downsample


class Encoder(nn.Module):
    """Frame-rate ConvNeXt stack with mel bins as channels; on the way four frames become one.

    Shape: normalised log-mel `[B, n_mels, T]` -> mean `[B, D]` and log-variance `[B, D]` of the timbre code.
    """

    def __init__(self, config: ModelConfig, n_mels: int, frames: int) -> None:
        super().__init__()
        fine = config.encoder_fine_blocks
        fine = config.encoder_blocks // 3 if fine is None else fine
        block = {"kernel": config.kernel, "expansion": config.expansion}
        self.enter = nn.Linear(n_mels, config.width)
        self.fine = nn.ModuleList(ConvNeXtBlock(config.width, **block) for _ in range(fine))
        self.down = Downsample(config.width, config.width)
        self.coarse = nn.ModuleList(ConvNeXtBlock(config.width, **block) for _ in range(config.encoder_blocks - fine))
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
