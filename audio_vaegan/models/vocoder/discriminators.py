"""What judges the vocoder's audio: spectrograms at several resolutions and, if wanted, the waveform folded."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from audio_vaegan.config import VocoderConfig

SLOPE = 0.2
COMPRESS = 0.3  # exponent of the magnitude: what is 60 dB softer is still seen
Judged = tuple[Tensor, list[Tensor]]


class _Convolutions(nn.Module):
    """Strided 2-D convolutions under weight norm: `[B, 2 or 1, H, W]` -> scores, and the features before them."""

    def __init__(
        self,
        channels: tuple[int, ...],
        kernel: tuple[int, int],
        strides: list[tuple[int, int]],
        last: tuple[int, int],
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, kernel, stride, padding))
            for (a, b), stride in zip(pairwise(channels), strides, strict=True)
        )
        # No bias: inside the hinge's margins its gradient is rounding alone.
        self.score = weight_norm(nn.Conv2d(channels[-1], 1, last, padding=(last[0] // 2, last[1] // 2), bias=False))

    def forward(self, x: Tensor) -> Judged:
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            features.append(x)
        return self.score(x), features


class SpectrumDiscriminator(nn.Module):
    """Real and imaginary part of one STFT as two channels (EnCodec, Defossez et al. 2022, section 3.4), their magnitude
    compressed; every layer halves the frequencies, all but the first two the frames. `[B, samples]`."""

    window: Tensor

    def __init__(self, window: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(window) * (2 / window), persistent=False)
        strides = [(2, 1 if i < 2 else 2) for i in range(len(channels))]
        self.judge = _Convolutions((2, *channels), (7, 3), strides, (3, 3))

    def forward(self, audio: Tensor) -> Judged:
        judged: Judged = self.judge(self.image(audio))
        return judged

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def image(self, audio: Tensor) -> Tensor:
        """`[B, samples]` -> `[B, 2, window / 2 + 1, frames]`."""
        size = len(self.window)
        spectrum = torch.stft(audio.float(), size, size // 4, window=self.window, return_complex=True)
        parts = torch.view_as_real(spectrum)
        power = parts.square().sum(dim=-1, keepdim=True) + 1e-8
        return (parts * power.pow((COMPRESS - 1) / 2)).movedim(-1, 1)


class PeriodDiscriminator(nn.Module):
    """The waveform folded at a period (HiFi-GAN, Kong et al. 2020, section 2.3). `[B, samples]`."""

    def __init__(self, period: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.period = period
        self.judge = _Convolutions((1, *channels), (5, 1), [(3, 1)] * len(channels), (3, 1))

    def forward(self, audio: Tensor) -> Judged:
        audio = F.pad(audio, (0, -audio.shape[1] % self.period), mode="reflect")
        judged: Judged = self.judge(audio.view(len(audio), 1, -1, self.period))
        return judged


class VocoderDiscriminator(nn.Module):
    """All discriminators under one forward: `[B, samples]` -> one score map each, and the features of all layers but
    the first, which hardly differ from the spectrum that the losses compare already."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        spectra = [SpectrumDiscriminator(w, config.disc_channels) for w in config.disc_windows]
        periods = [PeriodDiscriminator(p, config.disc_channels) for p in config.disc_periods]
        self.judges = nn.ModuleList([*spectra, *periods])

    def forward(self, audio: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        scores, features = [], []
        for judge in self.judges:
            score, feature = judge(audio)
            scores.append(score)
            features.extend(feature[1:] or feature)
        return scores, features
