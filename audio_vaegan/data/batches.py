"""Which clips a step sees: a pure function of (seed, step), so that a resumed run sees what it would have seen."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.data.store import Store


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


def positions(seed: int, step: int, batch: int, count: int) -> NDArray[np.int64]:
    """Positions in [0, count) of the global batch of a step. Each epoch visits every clip once, in its own order."""
    index = np.arange(step * batch, (step + 1) * batch)
    return np.array([_order(seed, int(i) // count, count)[i % count] for i in index], dtype=np.int64)


class Clips:
    """A split of a store in memory-mapped form, with what the VAE-GAN needs of each clip's labels."""

    def __init__(self, store: Store, split: str, controls: tuple[str, ...]) -> None:
        self.store = store
        self.clips = store.split(split)
        self.length = store.column("length")[self.clips]
        self.controls = np.empty((len(self.clips), len(controls)), dtype=np.float32)
        for i, name in enumerate(controls):
            self.controls[:, i] = store.column(name)[self.clips]

    def __len__(self) -> int:
        return len(self.clips)

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Audio `[B, samples]`, controls in their units `[B, C]` (NaN: undefined), true length in samples `[B]`."""
        return (
            torch.from_numpy(self.store.read(self.clips[rows])),
            torch.from_numpy(self.controls[rows]),
            torch.from_numpy(self.length[rows]),
        )


def frame_mask(length: Tensor, frames: int, hop: int) -> Tensor:
    """1 for the frames that hold sound, 0 for padding: `[B]` samples -> `[B, frames]` float."""
    return (torch.arange(frames, device=length.device) * hop < length.unsqueeze(1)).float()
