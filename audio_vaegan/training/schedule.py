"""Everything that changes over a run, as pure functions of the step; and the random draws of a step."""

import math
from typing import Any

import torch

from audio_vaegan.config import LossConfig, Recipe, TrainConfig


def learning_rate_factor(step: int, train: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to `final_learning_rate`."""
    if step < train.warmup_steps:
        return (step + 1) / train.warmup_steps
    progress = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    return train.final_learning_rate + (1 - train.final_learning_rate) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rates(step: int, train: TrainConfig, generator: Any, discriminator: Any, scale: float = 1.0) -> None:
    """Give the optimisers of generator and discriminator (None: there is none) their learning rates of a step; `scale`
    is what rollbacks have left of them."""
    factor = scale * learning_rate_factor(step, train)
    for optimizer, peak in ((generator, train.learning_rate), (discriminator, train.disc_learning_rate)):
        for group in optimizer.param_groups if optimizer is not None else ():
            group["lr"] = peak * factor


def kl_factor(step: int, train: TrainConfig, loss: LossConfig) -> float:
    """The KL weight rises linearly over the first `kl_warmup` of the run."""
    end = loss.kl_warmup * train.steps
    return step / end if step < end else 1.0


def judged(step: int, recipe: Recipe) -> bool:
    """Whether discriminator features or scores reach the generator at this step.

    In a VAE-GAN from `adversarial_start` on, until when the discriminator warms up; with a frozen discriminator, or
    with nothing else to learn from, from the first step.
    """
    if recipe.objective == "vaegan":
        return step >= recipe.loss.adversarial_start * recipe.train.steps
    return recipe.objective != "vae"


def turns(step: int, recipe: Recipe) -> int:
    """How many batches a step sees: one for each update of the discriminator, the last also for the generator."""
    updating = recipe.adversarial and step % recipe.train.disc_every == 0
    return recipe.train.disc_updates if updating else 1


def detail(step: int, recipe: Recipe) -> float:
    """How many halvings of the resolution are undone: 0 for the coarsest, `levels(recipe)` for the full resolution.

    Over the first `growing` of the run each resolution is trained for a while, then fades into the next (Karras et al.
    2018, figure 2); afterwards, and without growing, it is full.
    """
    top, end = levels(recipe), recipe.train.growing * recipe.train.steps
    if step >= end:
        return float(top)
    position = step / end * 2 * top
    stage = int(position // 2)
    return stage + min(1.0, max(0.0, position - 2 * stage - 1))


def levels(recipe: Recipe) -> int:
    """Number of halvings between the discriminator's coarsest scale and the full resolution."""
    return recipe.model.disc_scales - 1


def fade_in(step: int, recipe: Recipe) -> float:
    """How far the generator's fine blocks, at four times the frames of its coarse ones, have faded in: 0 ... 1."""
    return min(1.0, max(0.0, detail(step, recipe) - (levels(recipe) - 2)))


def generator(seed: int, step: int) -> torch.Generator:
    """Source of all random draws of a step, the same on every rank and after every resume."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % (2**63))
