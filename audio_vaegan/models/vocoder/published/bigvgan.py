"""BigVGAN v1 and v2 (Lee et al. 2023): HiFi-GAN's generator with periodic, anti-aliased activations."""

from functools import partial
from typing import Literal

import torch
from torch import nn

from audio_vaegan.models.vocoder.published.antialias import AntiAliased, Snake
from audio_vaegan.models.vocoder.published.generator import Generator, GeneratorSettings


class BigVganSettings(GeneratorSettings):
    """v2 switches off the last two; v1's files do not name them."""

    activation: Literal["snake", "snakebeta"]
    snake_logscale: bool
    use_tanh_at_final: bool = True
    use_bias_at_final: bool = True


class BigVgan(Generator):
    """Nothing stands before upsampling; the output is bounded by tanh (v1) or by clipping (v2)."""

    def __init__(self, settings: BigVganSettings) -> None:
        def activation(channels: int) -> nn.Module:
            return AntiAliased(Snake(channels, settings.activation == "snakebeta", settings.snake_logscale))

        super().__init__(
            settings,
            activation=activation,
            before_upsampling=nn.Identity(),
            activation_post=activation(settings.channels[-1]),
            bound=torch.tanh if settings.use_tanh_at_final else partial(torch.clamp, min=-1.0, max=1.0),
            bias_post=settings.use_bias_at_final,
        )
        self.ups = nn.ModuleList(nn.Sequential(up) for up in self.ups)  # checkpoints name them so: ups.0.0
