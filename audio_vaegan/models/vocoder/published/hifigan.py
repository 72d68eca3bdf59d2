"""HiFi-GAN (Kong et al. 2020), generators V1, V2 and V3: they differ in their config alone."""

from torch import nn

from audio_vaegan.models.vocoder.published.generator import Generator, GeneratorSettings

SLOPE = 0.1


class HifiGan(Generator):
    """Leaky ReLU throughout; its slope is 0.1, but 0.01 before the last convolution."""

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__(
            settings,
            activation=lambda channels: nn.LeakyReLU(SLOPE),
            before_upsampling=nn.LeakyReLU(SLOPE),
            activation_post=nn.LeakyReLU(0.01),
        )
