"""The VAE-GAN: encoder and shared generator under one forward, with what they need to know of the data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audio_vaegan.config import Recipe
from audio_vaegan.models.controls import Control, standardise
from audio_vaegan.models.encoder import Encoder
from audio_vaegan.models.generator import Generator


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation of the log-mel values of the training clips' sounding frames."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Plan:
    """Fakes of one step: `judged` items of the batch are decoded again from their detached codes; the other tensors
    share their first dimension M and describe prior and re-pitched codes.

    `source` points at the item of the batch whose (detached) code is re-pitched, or is -1 for a prior sample.
    """

    judged: Tensor  # [J] long
    source: Tensor  # [M] long
    timbre: Tensor  # [M, D] prior draws; rows with a source are ignored
    controls: Tensor  # [M, C] standardised
    defined: Tensor  # [M, C] bool


@dataclass(frozen=True)
class Decoded:
    """What one forward of training returns."""

    mean: Tensor  # [B, D]; B is 0 without an encoder
    log_variance: Tensor  # [B, D]
    reconstruction: Tensor  # [B, n_mels, T], gradient reaches the encoder
    fakes: Tensor  # [J + M, n_mels, T], gradient stops at the codes (routing `larsen`)


class VaeGan(nn.Module):
    """Encoder and generator. `forward` does the whole training pass in one batched decode.

    Latent z = [controls | timbre]: the first C coordinates are the named controls in standardised units, the rest is
    the Gaussian timbre code with prior N(0, I).
    """

    def __init__(self, recipe: Recipe, controls: Sequence[Control], normalisation: Normalisation) -> None:
        super().__init__()
        self.controls = tuple(controls)
        self.normalisation = normalisation
        self.timbre_dim = recipe.model.timbre_dim
        n_mels, frames = recipe.mel.n_mels, recipe.mel.frames(recipe.data.clip_samples)
        self.joint = recipe.routing == "joint"
        self.encoder = Encoder(recipe.model, n_mels, frames) if recipe.encodes else None
        decibel = recipe.mel.power / 20 * (math.log(10) if recipe.mel.log == "ln" else 1) / normalisation.deviation
        self.generator = Generator(recipe.model, controls, recipe.mel, frames, decibel)

    def normalise(self, log_mel: Tensor) -> Tensor:
        return (log_mel - self.normalisation.mean) / self.normalisation.deviation

    def denormalise(self, mel: Tensor) -> Tensor:
        return mel * self.normalisation.deviation + self.normalisation.mean

    def standardise(self, values: Tensor) -> Tensor:
        """Controls in their units `[B, C]` -> standardised; undefined ones (NaN) stay NaN."""
        return standardise(self.controls, values)

    def forward(self, mel: Tensor, controls: Tensor, defined: Tensor, noise: Tensor, plan: Plan) -> Decoded:
        """Encode, then decode [z, z.detach() of the judged items, the plan's fakes] in one batch.

        Shape: normalised mel `[B, n_mels, T]`, controls and defined `[B, C]`, noise `[B, D]`.
        With routing `larsen` the gradient of what judges `fakes` cannot reach the encoder (Larsen et al. 2016,
        algorithm 1); `joint` leaves out the detach. Without an encoder only the plan's prior samples are decoded.
        """
        count = len(mel) if self.encoder is not None else 0
        code = noise[:0]
        mean = log_variance = code
        if self.encoder is not None:
            mean, log_variance = (x.float() for x in self.encoder(mel))  # autocast ends at the code
            code = mean + (0.5 * log_variance).exp() * noise
        shared = code if self.joint else code.detach()
        fakes = plan.timbre
        if count:
            fakes = torch.where(plan.source.unsqueeze(-1) >= 0, shared[plan.source.clamp_min(0)], fakes)
        decoded = self.generator(
            torch.cat([code, shared[plan.judged], fakes]),
            torch.cat([controls[:count], controls[plan.judged], plan.controls]),
            torch.cat([defined[:count], defined[plan.judged], plan.defined]),
        )
        decoded = decoded.float()
        return Decoded(mean, log_variance, decoded[:count], decoded[count:])
