"""What HiFi-GAN and BigVGAN share: transposed convolutions up to the sample rate, residual blocks at each rate."""

from collections.abc import Callable
from math import prod
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from audio_vaegan.config import MelConfig, Size

Several = Annotated[tuple[Size, ...], Field(min_length=1)]


class GeneratorSettings(BaseModel):
    """The part of a published config.json that decides the generator and its mel; the rest is about its training."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    resblock: Literal["1", "2"]
    upsample_rates: Several
    upsample_kernel_sizes: Several
    upsample_initial_channel: Size
    resblock_kernel_sizes: Several
    resblock_dilation_sizes: tuple[Several, ...]
    num_mels: int
    n_fft: int
    hop_size: int
    win_size: int
    sampling_rate: int
    fmin: float
    fmax: float | None  # Hz; none: half of the sample rate

    @model_validator(mode="after")
    def _consistent(self) -> "GeneratorSettings":
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        if len(rates) != len(kernels) or any(k < u or (k - u) % 2 for u, k in zip(rates, kernels, strict=True)):
            raise ValueError("upsample_kernel_sizes needs one size for each rate: the rate, or more by an even number")
        if prod(rates) != self.hop_size:
            raise ValueError(f"upsample_rates multiply to {prod(rates)}, hop_size is {self.hop_size}")
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            raise ValueError("resblock_dilation_sizes needs one list for each of resblock_kernel_sizes")
        if any(k % 2 == 0 for k in self.resblock_kernel_sizes):
            raise ValueError("resblock_kernel_sizes must be odd")
        if self.upsample_initial_channel % 2 ** len(rates):
            raise ValueError(
                f"upsample_initial_channel must be a multiple of {2 ** len(rates)}, 2 to the power of rates"
            )
        return self

    @property
    def channels(self) -> list[int]:
        """Channels before the first upsampling and after each: halved every time."""
        return [self.upsample_initial_channel // 2**i for i in range(len(self.upsample_rates) + 1)]

    def mel(self) -> MelConfig:
        """The front end of HiFi-GAN, which BigVGAN took over; what the file does not say is fixed in their code."""
        return MelConfig(
            sample_rate=self.sampling_rate,
            n_fft=self.n_fft,
            win_length=self.win_size,
            hop_length=self.hop_size,
            n_mels=self.num_mels,
            f_min=self.fmin,
            f_max=self.sampling_rate / 2 if self.fmax is None else self.fmax,
            mel_scale="slaney",
            norm="slaney",
            power=1,
            magnitude_eps=1e-9,
            log="ln",
            floor=1e-5,
            padding="same",
            pad_mode="reflect",
        )


def convolution(inputs: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = True) -> nn.Conv1d:
    """A convolution that keeps the length, for an odd kernel."""
    return nn.Conv1d(inputs, outputs, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2, bias=bias)


class ResidualBlock(nn.Module):
    """Around an identity, for each dilation d: activation, convolution dilated by d and, in the block of kind 1, once
    more without dilation (HiFi-GAN: Kong et al. 2020, section 2.2). Shape: `[B, C, T]` -> `[B, C, T]`.
    """

    def __init__(
        self, kind: str, channels: int, kernel: int, dilations: tuple[int, ...], activation: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        dilated = nn.ModuleList(convolution(channels, channels, kernel, d) for d in dilations)
        self.paired = kind == "1"
        if self.paired:
            self.convs1 = dilated
            self.convs2 = nn.ModuleList(convolution(channels, channels, kernel) for _ in dilations)
        else:
            self.convs = dilated
        count = (2 if self.paired else 1) * len(dilations)
        self.activations = nn.ModuleList(activation(channels) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        if not self.paired:
            for activation, conv in zip(self.activations, self.convs, strict=True):
                x = x + conv(activation(x))
            return x
        before, between = self.activations[::2], self.activations[1::2]
        for first, conv1, second, conv2 in zip(before, self.convs1, between, self.convs2, strict=True):
            x = x + conv2(second(conv1(first(x))))
        return x


class Generator(nn.Module):
    """Log-mel `[B, n_mels, T]` -> audio `[B, T * hop]` in [-1, 1].

    Each stage multiplies the rate and halves the channels, then takes the mean of residual blocks with several
    kernels, the multi-receptive field fusion (HiFi-GAN: Kong et al. 2020, section 2.2). A family says which
    activations stand before upsampling, in the blocks and at the end, and how the output is bounded.
    """

    def __init__(
        self,
        settings: GeneratorSettings,
        activation: Callable[[int], nn.Module],
        before_upsampling: nn.Module,
        activation_post: nn.Module,
        bound: Callable[[Tensor], Tensor] = torch.tanh,
        bias_post: bool = True,
    ) -> None:
        super().__init__()
        s, channels = settings, settings.channels
        self.conv_pre = convolution(s.num_mels, channels[0], 7)
        self.before_upsampling, self.activation_post, self.bound = before_upsampling, activation_post, bound
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(channels[i], channels[i + 1], kernel, rate, padding=(kernel - rate) // 2)
            for i, (rate, kernel) in enumerate(zip(s.upsample_rates, s.upsample_kernel_sizes, strict=True))
        )
        self.fused = len(s.resblock_kernel_sizes)  # blocks a stage
        self.resblocks = nn.ModuleList(
            ResidualBlock(s.resblock, width, kernel, dilations, activation)
            for width in channels[1:]
            for kernel, dilations in zip(s.resblock_kernel_sizes, s.resblock_dilation_sizes, strict=True)
        )
        self.conv_post = convolution(channels[-1], 1, 7, bias=bias_post)

    def constants(self) -> dict[str, Tensor]:
        """What a checkpoint holds besides the weights, by name: it must be what this program computes."""
        return dict(self.named_buffers(remove_duplicate=False))  # the filters are one tensor

    def forward(self, log_mel: Tensor) -> Tensor:
        x = self.conv_pre(log_mel)
        for i, up in enumerate(self.ups):
            x = up(self.before_upsampling(x))
            blocks = self.resblocks[i * self.fused : (i + 1) * self.fused]
            x = sum(block(x) for block in blocks) / self.fused
        return self.bound(self.conv_post(self.activation_post(x))).squeeze(1)
