"""The terms of the objective, as pure functions of tensors. Equation numbers are of Larsen et al. 2016
(Autoencoding beyond pixels using a learned similarity metric, arXiv:1512.09300) unless another source is named.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_per_coordinate(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, var) || N(0, 1)) of each coordinate, averaged over the batch, in nats (eq. 3, L_prior).

    Shape: `[B, D]`, `[B, D]` -> `[D]`. With m, v: (m^2 + v - 1 - ln v) / 2.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(dim=0)


def kl_loss(per_coordinate: Tensor, free_bits: float = 0.0, everywhere: Tensor | None = None) -> Tensor:
    """Sum over coordinates of max(KL, free_bits) (free bits: Kingma et al. 2016, eq. 15). Scalar, nats.

    `[D]`, of this rank's part of the batch. Which coordinates lie below is decided by `everywhere`, the mean over all
    ranks, so that several ranks do what one would.
    """
    decides = per_coordinate if everywhere is None else everywhere
    return torch.where(decides > free_bits, per_coordinate, free_bits).sum()


def masked_l1(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over clips of the weighted mean absolute error over frames: padding weighs less than sound, or nothing.

    Shape: `[B, n_mels, T]` twice and a weight for each frame `[B, T]` -> scalar. Each clip counts alike, so that the
    mean over ranks is the mean over the global batch.
    """
    error = (output - target).abs().mean(dim=1)
    return ((error * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1e-6)).mean()


def hinge_discriminator(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Mean over scales of E[max(0, 1 - D(x))] + E[max(0, 1 + D(x~))] (Lim & Ye 2017, eq. 16). Scalar."""
    terms = [F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(terms).mean()


def hinge_generator(fake: Sequence[Tensor]) -> Tensor:
    """Mean over scales of -E[D(x~)] (Lim & Ye 2017, eq. 17). Scalar."""
    return torch.stack([-f.float().mean() for f in fake]).mean()


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Learned similarity: distance of discriminator features (in the place of eq. 7, L_llike of Dis_l).

    L1 instead of the unit-variance Gaussian, each layer and clip relative to the mean size of its real features, so
    that the value stays bounded however the features grow (as Defossez et al. 2022, eq. 2). Mean over layers and clips.
    """
    terms = []
    for f, r in zip(fake, real, strict=True):
        distance, size = (f - r).float().abs().flatten(1).mean(dim=1), r.float().abs().flatten(1).mean(dim=1)
        terms.append((distance / size.clamp_min(1e-4)).mean())
    return torch.stack(terms).mean()


def soft_bins(value: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
    """A number as a distribution over `bins` centres spread evenly over [low, high], linear between neighbours.

    Shape: `[...]` -> `[..., bins]`, rows sum to one, expectation of the centres = value. Values outside are limited.
    """
    position = ((value - low) / (high - low)).clamp(0, 1) * (bins - 1)
    centres = torch.arange(bins, device=value.device, dtype=value.dtype)
    return (1 - (position.unsqueeze(-1) - centres).abs()).clamp_min(0)


def control_cross_entropy(logits: Tensor, target: Tensor, defined: Tensor) -> Tensor:
    """Cross-entropy of a head against a soft target; items whose control is undefined count as zero. Scalar.

    Shape: logits and target `[B, bins]`, defined `[B]` bool.
    """
    each = -(target * logits.log_softmax(dim=-1)).sum(dim=-1)
    return (each * defined).mean()
