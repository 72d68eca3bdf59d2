"""Blocks that the networks share."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audio_vaegan import compiled


class AdaLayerNorm(nn.Module):
    """Layer norm over channels whose gain and offset come from a condition (FiLM on normalised features).

    Shape: `[B, T, C]`, condition `[B, K]` -> `[B, T, C]`. Without `condition_dim`, a plain layer norm.
    """

    def __init__(self, channels: int, condition_dim: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=condition_dim is None)
        self.film = None if condition_dim is None else nn.Linear(condition_dim, 2 * channels)
        if self.film is not None:
            nn.init.normal_(self.film.weight, std=0.02)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        x = self.norm(x)
        if self.film is None:
            return x
        gain, offset = self.film(condition).unsqueeze(1).chunk(2, dim=-1)
        return torch.addcmul(offset, x, 1 + gain)

    def gains(self, condition: Tensor | None) -> tuple[Tensor, float]:
        """What normalised features are multiplied by, less the second result, then what is added: `[B or 1, 2 C]`."""
        if self.film is None:
            return torch.cat([self.norm.weight, self.norm.bias]).unsqueeze(0), 0.0
        return self.film(condition), 1.0


def frame_convolution(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """What `conv` makes of frames that lie one after another, `[B, T, C]` -> `[B, T, D]`, without a transposition."""
    image = x.unsqueeze(1).permute(0, 3, 1, 2)
    out = F.conv2d(image, conv.weight.unsqueeze(2), conv.bias, padding=(0, conv.kernel_size[0] // 2))
    return out.permute(0, 2, 3, 1).squeeze(1)


class DepthwiseConv(nn.Module):
    """A convolution over time, one kernel a channel. `[B, T, C]` -> `[B, T, C]`.

    Written as a 2-D convolution over a channels-last view: no copy, and on a CPU about four times as fast as
    Conv1d between two transpositions.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        bound = kernel**-0.5
        self.weight = nn.Parameter(torch.empty(channels, kernel).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        if compiled.fits(x):
            return compiled.depthwise(x, self.weight, self.bias)
        channels, kernel = self.weight.shape
        image = x.unsqueeze(1).permute(0, 3, 1, 2)
        weight = self.weight.view(channels, 1, 1, kernel)
        out = F.conv2d(image, weight, self.bias, padding=(0, kernel // 2), groups=channels)
        return out.permute(0, 2, 3, 1).squeeze(1)


class ConvNeXtBlock(nn.Module):
    """Frame-rate ConvNeXt block (Liu et al. 2022; in one dimension as Vocos, Siuzdak 2023).

    Depthwise convolution over time -> (adaptive) layer norm -> expand -> GELU -> contract -> layer scale -> residual.
    Shape: `[B, T, C]` -> `[B, T, C]`.
    """

    def __init__(
        self,
        channels: int,
        kernel: int = 7,
        expansion: int = 2,
        condition_dim: int | None = None,
        scale: float = 0.2,
    ) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv(channels, kernel)
        self.norm = AdaLayerNorm(channels, condition_dim)
        self.expand = nn.Linear(channels, channels * expansion)
        self.contract = nn.Linear(channels * expansion, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        y = self.contract(F.gelu(self.expand(self._mixed(x, condition))))
        return torch.addcmul(x, self.scale, y)

    def _mixed(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """What the other frames of each channel tell, normalised."""
        if not compiled.fits(x):
            mixed: Tensor = self.norm(self.depthwise(x), condition)
            return mixed
        gains, one = self.norm.gains(condition)
        return compiled.depthwise_norm(x, self.depthwise.weight, self.depthwise.bias, gains, one, self.norm.norm.eps)


class Attention(nn.Module):
    """Self-attention over all frames of a clip (Vaswani et al. 2017, eq. 1), with a residual and layer scale.

    Positions are what the convolutions around it and the learned start have put into the frames.
    Shape: `[B, T, C]`, condition `[B, K]` or None -> `[B, T, C]`; `heads` divides C.
    """

    def __init__(self, channels: int, heads: int, condition_dim: int | None = None, scale: float = 0.2) -> None:
        super().__init__()
        self.heads = heads
        self.norm = AdaLayerNorm(channels, condition_dim)
        self.enter = nn.Linear(channels, 3 * channels)
        self.leave = nn.Linear(channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        batch, frames, channels = x.shape
        parts = self.enter(self.norm(x, condition)).view(batch, frames, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value)
        return torch.addcmul(x, self.scale, self.leave(y.transpose(1, 2).reshape(batch, frames, channels)))


class Downsample(nn.Module):
    """Four frames become one: stack them along channels, project. `[B, T, C]` -> `[B, ceil(T / 4), D]`."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.project = nn.Linear(4 * channels, out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(self.norm(x), (0, 0, 0, -x.shape[1] % 4))
        batch, frames, channels = x.shape
        return self.project(x.reshape(batch, frames // 4, 4 * channels))


class Upsample(nn.Module):
    """One frame becomes four by repetition, smoothed by a depthwise convolution that starts as a linear ramp.

    Repetition and smoothing leave no grid in the output, which a strided transposed convolution does.
    Shape: `[B, T, C]` -> `[B, 4 T, C]`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.smooth = DepthwiseConv(channels, 7)
        ramp = torch.tensor([1.0, 2, 3, 4, 3, 2, 1]) / 16
        with torch.no_grad():
            self.smooth.weight.copy_(ramp.expand(channels, 7))
            self.smooth.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.smooth(x.repeat_interleave(4, dim=1))


class FourierFeatures(nn.Module):
    """Smooth embedding of a number in [0, 1]: `[..., ]` -> `[..., 2 * octaves]`, sines and cosines of pi 2^k u."""

    frequencies: Tensor

    def __init__(self, octaves: int = 5) -> None:
        super().__init__()
        self.dim = 2 * octaves
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(octaves), persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        phase = u.unsqueeze(-1) * self.frequencies
        return torch.cat([phase.sin(), phase.cos()], dim=-1)
