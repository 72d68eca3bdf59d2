"""Published checkpoints of Vocos, BigVGAN and HiFi-GAN behind the call of every vocoder, in the layout they come in."""

from audio_vaegan.models.vocoder.published.folder import load_published
from audio_vaegan.models.vocoder.published.hub import find_published

__all__ = ["find_published", "load_published"]
