"""The terms of the objective, as pure functions of tensors. Equation numbers are of Larsen et al. 2016
(Autoencoding beyond pixels using a learned similarity metric, arXiv:1512.09300) unless another source is named.
"""

import math
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


def masked_error(output: Tensor, target: Tensor, weight: Tensor, kind: str = "l1") -> Tensor:
    """Mean over clips of the weighted mean error over frames: padding weighs less than sound, or nothing.

    `kind` is `l1` (absolute, a Laplace likelihood) or `mse` (squared: the Gaussian of eq. 2's pixel-wise VAE).
    Shape: `[B, n_mels, T]` twice and a weight for each frame `[B, T]` -> scalar. Each clip counts alike, so that the
    mean over ranks is the mean over the global batch.
    """
    difference = output - target
    error = (difference.abs() if kind == "l1" else difference.square()).mean(dim=1)
    return ((error * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1e-6)).mean()


def discriminator_loss(kind: str, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """What the discriminator minimises, a mean over its scales. Scalar.

    - `hinge`: E[max(0, 1 - D(x))] + E[max(0, 1 + D(x~))] (Lim & Ye 2017, eq. 16)
    - `lsgan`: E[(D(x) - 1)^2] + E[D(x~)^2] (Mao et al. 2017, eq. 9, without the factor 1/2)
    - `nonsaturating`: -E[ln s(D(x))] - E[ln(1 - s(D(x~)))], s the logistic function (eq. 4, L_GAN)
    - `wgan_gp`: E[D(x~)] - E[D(x)] (Gulrajani et al. 2017, eq. 3, beside `gradient_penalty`)
    """
    pairs = [(r.float(), f.float()) for r, f in zip(real, fake, strict=True)]
    if kind == "hinge":
        terms = [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in pairs]
    elif kind == "lsgan":
        terms = [(r - 1).square().mean() + f.square().mean() for r, f in pairs]
    elif kind == "nonsaturating":
        terms = [F.softplus(-r).mean() + F.softplus(f).mean() for r, f in pairs]
    else:
        terms = [f.mean() - r.mean() for r, f in pairs]
    return torch.stack(terms).mean()


def generator_loss(kind: str, fake: Sequence[Tensor]) -> Tensor:
    """What the generator minimises, a mean over scales: -E[D(x~)] for `hinge` and `wgan_gp`, E[(D(x~) - 1)^2] for
    `lsgan`, -E[ln s(D(x~))] for `nonsaturating`. Scalar.
    """
    if kind == "lsgan":
        terms = [(f.float() - 1).square().mean() for f in fake]
    elif kind == "nonsaturating":
        terms = [F.softplus(-f.float()).mean() for f in fake]
    else:
        terms = [-f.float().mean() for f in fake]
    return torch.stack(terms).mean()


def clamped_generator_loss(fake: Sequence[Tensor]) -> Tensor:
    """E[max(0, 1 - D(x~))], a mean over discriminators: the hinge for the generator too, so that what already passes
    for real pulls no further (SoundStream, Zeghidour et al. 2021, eq. 2). Scalar.
    """
    return torch.stack([F.relu(1 - f.float()).mean() for f in fake]).mean()


def clip_scores(scores: Sequence[Tensor]) -> Tensor:
    """One score a clip: the mean over its score maps and over the scales. `[B, 1, m, t]` each -> `[B]`."""
    return torch.stack([s.float().flatten(1).mean(dim=1) for s in scores]).mean(dim=0)


def gradient_penalty(score: Tensor, points: Tensor) -> Tensor:
    """E[(||grad D|| - 1)^2] at `points` between real and fake (Gulrajani et al. 2017, eq. 3). Scalar.

    `score` `[B]` was computed from `points` `[B, ...]`. The norm is the dual of the root mean square, sqrt(n) times the
    Euclidean one for n values a clip, so that the weight means the same at every resolution.
    """
    (gradient,) = torch.autograd.grad(score.sum(), points, create_graph=True)
    size = points[0].numel()
    norm = (gradient.float().flatten(1).square().sum(dim=1) * size + 1e-12).sqrt()
    return (norm - 1).square().mean()


def ranking(real: Tensor, fake: Tensor) -> Tensor:
    """How often a real clip scores above a fake one, over all pairs (the area under the ROC curve): 0.5 when the
    discriminator cannot tell them apart, 1 when it always can. `[B]`, `[M]` -> scalar.
    """
    difference = real.unsqueeze(1) - fake.unsqueeze(0)
    return (difference > 0).float().mean() + 0.5 * (difference == 0).float().mean()


def mode_seeking(fake: Tensor, timbre: Tensor) -> Tensor:
    """Small when sounds that differ in their code differ in sound: against mode collapse (Mao et al. 2019, eq. 4).

    Items 2i and 2i + 1 are a pair under the same controls. Mean over pairs of d(z1, z2) / (d(x1, x2) + 0.01), d the
    mean absolute difference. Shape: `[M, n_mels, T]`, `[M, D]` -> scalar, M even.
    """
    sound = (fake[0::2] - fake[1::2]).abs().flatten(1).mean(dim=1)
    code = (timbre[0::2] - timbre[1::2]).abs().mean(dim=1)
    return (code / (sound + 1e-2)).mean()


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


def stft_distance(
    output: Tensor, target: Tensor, resolutions: Sequence[tuple[int, int, int]], floor: float = 1e-5
) -> Tensor:
    """Multi-resolution STFT distance (Yamamoto et al. 2020, eq. 3 to 6): spectral convergence plus the L1 distance of
    log magnitudes (nats), a mean over resolutions (n_fft, hop, window) and clips. `[B, samples]` twice -> scalar.

    A sinusoid of amplitude 1 has the magnitude 1/2; what lies below `floor`, 94 dB less, counts as the floor. The
    convergence of a clip whose root mean square magnitude is below 100 floors is relative to that.
    """
    terms = []
    for n_fft, hop, size in resolutions:
        window = torch.hann_window(size, device=output.device) * (2 / size)
        a, b = (torch.stft(x.float(), n_fft, hop, size, window, return_complex=True).abs() for x in (output, target))
        convergence = (a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1).clamp_min(
            100 * floor * b[0].numel() ** 0.5
        )
        logs = (a.clamp_min(floor).log() - b.clamp_min(floor).log()).abs().mean()
        terms.append(convergence.mean() + logs)
    return torch.stack(terms).mean()


def advance_error(advance: Tensor, spectrum: Tensor, centre: Tensor) -> Tensor:
    """How far each bin's phase moves between frames, against the real clip's: the instantaneous angular frequency of
    Ai & Ling 2023 (eq. 17, with its anti-wrapping), weighted by the real magnitudes. Scalar, radians.

    `advance` `[B, T, K]` beyond the move `centre` `[K]` of the bin's centre; `spectrum` complex `[B, T, K]`.
    """
    pair = spectrum[:, 1:] * spectrum[:, :-1].conj()
    weight = pair.abs().sqrt()
    weight = weight / weight.mean(dim=(1, 2), keepdim=True).clamp_min(1e-5)
    off = advance[:, 1:] - (pair.angle() - centre)
    return ((off - 2 * math.pi * torch.round(off / (2 * math.pi))).abs() * weight).mean()


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


def coarsen(mel: Tensor, detail: float, levels: int) -> Tensor:
    """A spectrogram at a coarser resolution: progressive growing (Karras et al. 2018, section 2) without new layers.

    At `detail` = `levels` the mel itself, at `levels` - k its mean over squares of 2^k bands and frames; between whole
    numbers the coarser image fades into the finer one, as there. Shape: `[B, n_mels, T]` ->
    `[B, n_mels / 2^k, T / 2^k]` (rounded down), k = `levels` - ceil(`detail`).
    """
    k = levels - math.ceil(detail)
    if k:
        mel = F.avg_pool2d(mel.unsqueeze(1), 2**k).squeeze(1)
    fade = detail - math.floor(detail)
    if fade:
        coarse = F.avg_pool2d(mel.unsqueeze(1), 2, ceil_mode=True)
        coarse = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3).squeeze(1)
        mel = torch.lerp(coarse[:, : mel.shape[1], : mel.shape[2]], mel, fade)
    return mel


def mel_statistics(mel: Tensor) -> Tensor:
    """Mean and deviation over time of each band: `[B, n_mels, T]` -> `[B, 2 n_mels]`."""
    return torch.cat([mel.mean(dim=-1), mel.std(dim=-1)], dim=-1)


def kernel_distance(a: Tensor, b: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy under the kernel (x.y / d + 1)^3 (Binkowski et al. 2018, eq. 4).

    Shape: `[M, d]`, `[N, d]` -> scalar; near zero, of either sign, when both are drawn from one distribution.
    """

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x.double() @ y.double().T / x.shape[1] + 1).pow(3)

    def within(x: Tensor) -> Tensor:
        k = kernel(x, x)
        return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1))

    return within(a) + within(b) - 2 * kernel(a, b).mean()
