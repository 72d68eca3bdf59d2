"""What judges the generator: a multi-scale spectrogram discriminator, and heads that read the controls."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from audio_vaegan.config import ModelConfig
from audio_vaegan.layers import ConvNeXtBlock, Downsample
from audio_vaegan.models.controls import Control

SLOPE = 0.2
COURSE = 8  # features of every frame that heads follow in time


class ImageConv2d(nn.Conv2d):
    """A convolution of stride 2 over images of one channel `[B, 1, H, W]`, H and W even -> `[B, D, H / 2, W / 2]`.

    Where a gradient is wanted on a CPU, it is a product with the kernel's views of the image: what nn.Conv2d has for so
    few channels takes twice the time on its way back.
    """

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        if x.device.type != "cpu" or not torch.is_grad_enabled() or height % 2 or width % 2 or self.bias is None:
            return super().forward(x)
        size, side = self.kernel_size[0], self.kernel_size[0] // 2
        padded = F.pad(x, (side, side, side, side)).squeeze(1)
        views = [padded[:, i : i + height : 2, j : j + width : 2] for i in range(size) for j in range(size)]
        weight = self.weight.view(1, -1, size * size).expand(batch, -1, -1)
        out = torch.baddbmm(self.bias.view(1, -1, 1), weight, torch.stack(views, dim=1).flatten(2))
        return out.view(batch, -1, height // 2, width // 2)


class ScaleDiscriminator(nn.Module):
    """Strided 2-D convolutions over one resolution of the spectrogram. Weight norm only: it has no buffers.

    Shape: `[B, 1, n_mels, T]` -> scores `[B, 1, m, t]` and the features before each of them.
    """

    def __init__(self, channels: Sequence[int], kernel: int = 5) -> None:
        super().__init__()
        sizes = [1, *channels]
        self.convs = nn.ModuleList(
            weight_norm((ImageConv2d if a == 1 else nn.Conv2d)(a, b, kernel, stride=2, padding=kernel // 2))
            for a, b in pairwise(sizes)
        )
        # No bias: inside the hinge's margins its gradient is rounding alone, which AdamW would blow up to a drift.
        self.score = weight_norm(nn.Conv2d(channels[-1], 1, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            features.append(x)
        return self.score(x), features


def halved(image: Tensor) -> Tensor:
    """Means of two by two values, `[..., H, W]` -> `[..., H / 2, W / 2]` (rounded down): what pooling gives, of one
    channel in a third of its time."""
    height, width = (size // 2 * 2 for size in image.shape[-2:])
    rows = image[..., 0:height:2, :width] + image[..., 1:height:2, :width]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


class Discriminator(nn.Module):
    """The same discriminator shape at full, half, quarter ... resolution (average-pooled spectrograms).

    Shape: normalised log-mel `[B, n_mels, T]` -> one score map a scale, and all features.
    """

    def __init__(self, config: ModelConfig, classes: int = 0) -> None:
        super().__init__()
        channels, kernel = config.disc_channels, config.disc_kernel
        self.layers = len(channels)
        self.scales = nn.ModuleList(ScaleDiscriminator(channels, kernel) for _ in range(config.disc_scales))
        self.kinds = nn.Linear(channels[-1] * config.disc_scales, classes) if classes else None

    def forward(self, mel: Tensor, first: int = 0) -> tuple[list[Tensor], list[Tensor]]:
        """Scores and features from scale `first` on, whose resolution `mel` already has."""
        x = mel.unsqueeze(1)
        scores, features = [], []
        for scale in list(self.scales)[first:]:
            score, feature = scale(x)
            scores.append(score)
            features.extend(feature)
            x = halved(x)
        return scores, features

    def classes(self, features: list[Tensor]) -> Tensor | None:
        """Logits of the class `[B, classes]`, read off the last features of every scale (a scale that is not used yet
        counts as zero); None where no class is learned."""
        if self.kinds is None:
            return None
        pooled = torch.cat([f.mean(dim=(2, 3)) for f in features[self.layers - 1 :: self.layers]], dim=1)
        logits: Tensor = self.kinds(F.pad(pooled, (self.kinds.in_features - pooled.shape[1], 0)))
        return logits


class ControlHeads(nn.Module):
    """Reads every control from a spectrogram, as a distribution over its bins: from what the frames hold on average,
    and from how a few features run in time, where attack and decay are.

    Shape: normalised log-mel `[B, n_mels, T]` -> one `[B, bins]` of logits a control.
    """

    def __init__(self, config: ModelConfig, controls: Sequence[Control], n_mels: int, frames: int) -> None:
        super().__init__()
        self.leave = nn.ModuleList()
        if not controls:
            return
        width, course = config.width * 2 // 3, COURSE
        self.enter = nn.Linear(n_mels, width)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, config.kernel) for _ in range(config.head_blocks))
        self.down = None
        self.fine = config.head_blocks if config.head_fine_blocks is None else config.head_fine_blocks
        if self.fine < config.head_blocks:  # the rest work at a quarter of the frames, each of which tells of four
            self.down = Downsample(width, width)
            frames, course = -(-frames // 4), 4 * COURSE
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.course = nn.Linear(width, course)
        self.join = nn.Linear(width + course * frames, 2 * width)
        self.leave = nn.ModuleList(nn.Linear(2 * width, c.bins) for c in controls)

    def forward(self, mel: Tensor) -> list[Tensor]:
        if not self.leave:
            return []
        x = self.enter(mel.transpose(1, 2))
        for i, block in enumerate(self.blocks):
            if i == self.fine and self.down is not None:
                x = self.down(x)
            x = block(x)
        x = self.norm(x)
        x = F.gelu(self.join(torch.cat([x.mean(dim=1), self.course(x).flatten(1)], dim=1)))
        return [leave(x) for leave in self.leave]


class Critic(nn.Module):
    """Discriminator and heads under one forward, as DDP wants it. Without an adversary it has the heads alone.

    `forward(judged, heard)`: scores of `judged`, logits of `heard`, and the discriminator's logits of the class of
    `judged` (`disc_classes`; else None); the heads learn from real sounds alone.
    """

    def __init__(
        self, config: ModelConfig, controls: Sequence[Control], n_mels: int, frames: int, adversary: bool = True
    ) -> None:
        super().__init__()
        classes = next((len(c.classes) for c in controls if c.classes), 0) if config.disc_classes else 0
        self.discriminator = Discriminator(config, classes) if adversary else None
        self.heads = ControlHeads(config, controls, n_mels, frames)

    def forward(
        self, judged: Tensor | None, heard: Tensor, first: int = 0
    ) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
        scores: list[Tensor] = []
        classes = None
        if self.discriminator is not None and judged is not None:
            scores, features = self.discriminator(judged, first)
            classes = self.discriminator.classes(features)
        return scores, self.heads(heard), classes


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
