"""Periodic activations at twice the rate, between two low-pass filters (BigVGAN: Lee et al. 2023, section 3)."""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 12
RATIO = 2  # of the inner rate to the outer one


@cache
def low_pass() -> Tensor:
    """Windowed sinc `[1, 1, TAPS]` that cuts at half of the inner Nyquist frequency, its gain at 0 Hz one.

    The Kaiser window's beta follows from the width of the transition band, here 0.6 cycles per sample of the inner
    rate (Kaiser 1974: A = 2.285 (N - 1) dw + 7.95 dB for N taps and dw radians per sample; beta = 0.1102 (A - 8.7)
    above 50 dB). The published filters have N = TAPS / 2 in it, and so has this.
    """
    cutoff, transition = 0.5 / RATIO, 1.2 / RATIO  # cycles per sample of the inner rate
    attenuation = 2.285 * (TAPS // 2 - 1) * 2 * math.pi * transition + 7.95
    window = torch.kaiser_window(TAPS, periodic=False, beta=0.1102 * (attenuation - 8.7), device="cpu")
    time = torch.arange(TAPS, device="cpu") - (TAPS - 1) / 2
    taps = window * torch.sinc(2 * cutoff * time)
    return (taps / taps.sum()).view(1, 1, TAPS)


class Resample(nn.Module):
    """The filter of one direction; a checkpoint holds it once for every activation."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", low_pass(), persistent=False)


class Upsample(Resample):
    """`[B, C, T]` -> `[B, C, 2 T]`: zeros between the samples, then the filter; the ends are held."""

    def forward(self, x: Tensor) -> Tensor:
        channels, held = x.shape[1], TAPS // RATIO - 1
        x = F.pad(x, (held, held), mode="replicate")
        x = RATIO * F.conv_transpose1d(x, self.filter.expand(channels, -1, -1), stride=RATIO, groups=channels)
        edge = held * RATIO + (TAPS - RATIO) // 2
        return x[..., edge:-edge]


class LowPassAndDecimate(Resample):
    """`[B, C, 2 T]` -> `[B, C, T]`: the filter at every other sample; the ends are held."""

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        x = F.pad(x, (TAPS // 2 - 1, TAPS // 2), mode="replicate")
        return F.conv1d(x, self.filter.expand(channels, -1, -1), stride=RATIO, groups=channels)


class Downsample(nn.Module):
    """The decimating filter under the name that checkpoints give it."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = LowPassAndDecimate()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lowpass(x)
        return out


class Snake(nn.Module):
    """x + sin^2(alpha x) / beta, alpha and beta per channel (Ziyin et al. 2020). Shape: `[B, C, T]` -> `[B, C, T]`.

    Snake proper has beta = alpha; SnakeBeta learns beta too. `log_scale`: the parameters are their logarithms.
    """

    def __init__(self, channels: int, own_beta: bool, log_scale: bool) -> None:
        super().__init__()
        self.log_scale = log_scale
        start = torch.zeros if log_scale else torch.ones
        self.alpha = nn.Parameter(start(channels))
        self.beta = nn.Parameter(start(channels)) if own_beta else None

    def forward(self, x: Tensor) -> Tensor:
        alpha = self._value(self.alpha)
        beta = alpha if self.beta is None else self._value(self.beta)
        return x + torch.sin(x * alpha).square() / (beta + 1e-9)

    def _value(self, parameter: Tensor) -> Tensor:
        return (parameter.exp() if self.log_scale else parameter).unsqueeze(-1)


class AntiAliased(nn.Module):
    """A pointwise function at twice the rate, so that the overtones it makes do not fold back. Keeps the shape."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.upsample, self.act, self.downsample = Upsample(), act, Downsample()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.downsample(self.act(self.upsample(x)))
        return out
