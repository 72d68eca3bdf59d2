"""Vocos (Siuzdak 2023) for mels: ConvNeXt blocks at frame rate, and an inverse STFT as the only upsampling."""

import torch
from torch import Tensor, nn

from audio_vaegan.config import MelConfig
from audio_vaegan.mel import mel_basis
from audio_vaegan.models.vocoder.istft import inverse_stft
from audio_vaegan.models.vocoder.published.vocos_settings import Backbone, VocosSettings

CEILING = 100.0  # of the predicted magnitudes


class ConvNextBlock(nn.Module):
    """Depthwise convolution, layer norm and a two-layer perceptron, scaled by gamma, around an identity (ConvNeXt: Liu
    et al. 2022, in one dimension). Shape: `[B, C, T]` -> `[B, C, T]`.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, hidden)
        self.pwconv2 = nn.Linear(hidden, channels)
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).transpose(1, 2))
        y = self.pwconv2(nn.functional.gelu(self.pwconv1(y)))
        return x + (self.gamma * y).transpose(1, 2)


class VocosBackbone(nn.Module):
    """Log-mel `[B, n_mels, T]` -> `[B, T, C]` (Siuzdak 2023, section 3)."""

    def __init__(self, sizes: Backbone) -> None:
        super().__init__()
        self.embed = nn.Conv1d(sizes.input_channels, sizes.dim, 7, padding=3)
        self.norm = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.convnext = nn.Sequential(
            *(ConvNextBlock(sizes.dim, sizes.intermediate_dim) for _ in range(sizes.num_layers))
        )
        self.final_layer_norm = nn.LayerNorm(sizes.dim, eps=1e-6)

    def forward(self, log_mel: Tensor) -> Tensor:
        x = self.norm(self.embed(log_mel).transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.final_layer_norm(self.convnext(x).transpose(1, 2))
        return out


class IstftHead(nn.Module):
    """`[B, T, C]` -> audio `[B, T * hop]`: log-magnitude and phase (radians) of every bin, then the inverse STFT."""

    window: Tensor

    def __init__(self, channels: int, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.out = nn.Linear(channels, config.n_fft + 2)
        self.register_buffer("window", torch.hann_window(config.n_fft, device="cpu"), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        magnitude, phase = self.out(x).chunk(2, dim=-1)
        spectrum = torch.polar(magnitude.exp().clamp_max(CEILING), phase)
        return inverse_stft(spectrum, self.window, self.config, x.shape[1] * self.config.hop_length)


class Vocos(nn.Module):
    """Log-mel `[B, n_mels, T]` -> audio `[B, T * hop]`."""

    def __init__(self, settings: VocosSettings) -> None:
        super().__init__()
        self.backbone = VocosBackbone(settings.backbone.init_args)
        self.head = IstftHead(settings.backbone.init_args.dim, settings.mel())

    def constants(self) -> dict[str, Tensor]:
        """What a checkpoint holds besides the weights, by name: it must be what this program computes."""
        return {
            "head.istft.window": self.head.window,
            "feature_extractor.mel_spec.spectrogram.window": self.head.window,
            "feature_extractor.mel_spec.mel_scale.fb": mel_basis(self.head.config),
        }

    def forward(self, log_mel: Tensor) -> Tensor:
        audio: Tensor = self.head(self.backbone(log_mel))
        return audio
