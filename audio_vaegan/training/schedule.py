"""Everything that changes over a run, as pure functions of the step; and the random draws of a step."""

import math

import torch

from audio_vaegan.config import LossConfig, TrainConfig


def learning_rate_factor(step: int, train: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to `final_learning_rate`."""
    if step < train.warmup_steps:
        return (step + 1) / train.warmup_steps
    progress = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    return train.final_learning_rate + (1 - train.final_learning_rate) * 0.5 * (1 + math.cos(math.pi * progress))


def kl_factor(step: int, train: TrainConfig, loss: LossConfig) -> float:
    """The KL weight rises linearly over the first `kl_warmup` of the run."""
    return min(1.0, step / max(1.0, loss.kl_warmup * train.steps))


def judged(step: int, train: TrainConfig, loss: LossConfig) -> bool:
    """Whether the discriminator judges the generator at this step."""
    return step >= loss.adversarial_start * train.steps


def generator(seed: int, step: int) -> torch.Generator:
    """Source of all random draws of a step, the same on every rank and after every resume."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % (2**63))
