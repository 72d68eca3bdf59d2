"""Latents and what is made of them."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SAME_NOISE = 1e-3  # dB: what rounding makes of a change and its opposite


@dataclass(frozen=True)
class Sound:
    """Latents `z` `[B, C + D]` (standardised controls, then timbre code), with the controls in their units.

    `controls[name]` is `[B]`, NaN where undefined; `samples` `[B]` is how much of each clip sounds. A sound is as noisy
    as the generator makes it while its noisiness is `own_noise` `[B]` (dB; None: whatever it is); any other was asked
    for, and is set in the audio.
    """

    z: Tensor
    controls: dict[str, Tensor]
    samples: Tensor
    own_noise: Tensor | None = None

    def __len__(self) -> int:
        return len(self.z)

    def rows(self, index: NDArray[np.int64] | Tensor) -> "Sound":
        """Some of the sounds."""
        i = torch.as_tensor(index)
        own = None if self.own_noise is None else self.own_noise[i]
        return Sound(self.z[i], {n: v[i] for n, v in self.controls.items()}, self.samples[i], own)

    @property
    def noise_asked(self) -> Tensor:
        """Whether the noisiness of each was asked for, `[B]`."""
        value = self.controls.get("noisiness")
        if value is None or self.own_noise is None:
            return torch.zeros(len(self), dtype=torch.bool)
        return value.isfinite() & ~((value - self.own_noise).abs() < SAME_NOISE)


@dataclass(frozen=True)
class Clip:
    """Generated audio `[B, samples]` in [-1, 1], with the latents and controls that it was made from."""

    audio: Tensor
    sample_rate: int
    z: Tensor
    controls: dict[str, Tensor]
    mel: Tensor  # log-mel [B, n_mels, T]
    seed: int | None = None
    own_noise: Tensor | None = None  # see Sound
    samples: Tensor | None = None  # see Sound; None: as many as there are

    def sound(self, samples: Tensor | None = None) -> Sound:
        """Its latents, to be edited or morphed; of each clip the first `samples` `[B]` sound (None: its own)."""
        samples = self.samples if samples is None else samples
        whole = torch.full((len(self.z),), self.audio.shape[1])
        return Sound(self.z, self.controls, whole if samples is None else samples, self.own_noise)


@dataclass(frozen=True)
class Edited(Clip):
    """An edit: what each control was asked to be, what a meter finds in the audio, and the difference.

    All `[B]` in the control's unit; NaN where undefined or not measurable.
    """

    requested: dict[str, Tensor] = field(default_factory=dict)
    achieved: dict[str, Tensor] = field(default_factory=dict)
    residual: dict[str, Tensor] = field(default_factory=dict)
