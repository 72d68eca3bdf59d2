"""Latents and what is made of them."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Sound:
    """Latents `z` `[B, C + D]` (standardised controls, then timbre code), with the controls in their units.

    `controls[name]` is `[B]`, NaN where undefined; `samples` `[B]` is how much of each clip sounds.
    """

    z: Tensor
    controls: dict[str, Tensor]
    samples: Tensor

    def __len__(self) -> int:
        return len(self.z)

    def rows(self, index: NDArray[np.int64] | Tensor) -> "Sound":
        """Some of the sounds."""
        i = torch.as_tensor(index)
        return Sound(self.z[i], {n: v[i] for n, v in self.controls.items()}, self.samples[i])


@dataclass(frozen=True)
class Clip:
    """Generated audio `[B, samples]` in [-1, 1], with the latents and controls that it was made from."""

    audio: Tensor
    sample_rate: int
    z: Tensor
    controls: dict[str, Tensor]
    mel: Tensor  # log-mel [B, n_mels, T]
    seed: int | None = None


@dataclass(frozen=True)
class Edited(Clip):
    """An edit: what each control was asked to be, what a meter finds in the audio, and the difference.

    All `[B]` in the control's unit; NaN where undefined or not measurable.
    """

    requested: dict[str, Tensor] = field(default_factory=dict)
    achieved: dict[str, Tensor] = field(default_factory=dict)
    residual: dict[str, Tensor] = field(default_factory=dict)
