"""Which clips a step sees: a pure function of (seed, step), so that a resumed run sees what it would have seen."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.config import AugmentConfig
from audio_vaegan.data.augment import augment
from audio_vaegan.data.store import Store
from audio_vaegan.descriptors import measure


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


def positions(seed: int, step: int, batch: int, count: int) -> NDArray[np.int64]:
    """Positions in [0, count) of the global batch of a step. Each epoch visits every clip once, in its own order."""
    index = np.arange(step * batch, (step + 1) * batch)
    return np.array([_order(seed, int(i) // count, count)[i % count] for i in index], dtype=np.int64)


class Clips:
    """Some clips of a store in memory-mapped form, with what the VAE-GAN needs of each clip's labels.

    `names` are columns of the store; a class, whose name is a label's, comes with the names of its values.
    """

    def __init__(
        self,
        store: Store,
        rows: NDArray[np.int64],
        names: Mapping[str, tuple[str, ...]],
        controls: NDArray[np.float32] | None = None,
        length: NDArray[np.int64] | None = None,
    ) -> None:
        self.store, self.clips, self.names = store, rows, names
        self.length = store.column("length")[rows] if length is None else length
        if controls is None:
            columns = [store.values(name, classes)[rows] for name, classes in names.items()]
            controls = np.stack(columns, axis=1) if columns else np.empty((len(rows), 0), dtype=np.float32)
        self.controls = controls

    def part(self, places: NDArray[np.int64]) -> "Clips":
        """The clips at some places."""
        return Clips(self.store, self.clips[places], self.names, self.controls[places], self.length[places])

    def __len__(self) -> int:
        return len(self.clips)

    def read(
        self, rows: NDArray[np.int64], how: AugmentConfig | None = None, draws: NDArray[np.float32] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Audio `[B, samples]`, controls in their units `[B, C]` (NaN: undefined), true length in samples `[B]`.

        With `draws` `[B, DRAWS]` the clips are changed as `how` says.
        """
        audio, controls, length = self.store.read(self.clips[rows]), self.controls[rows], self.length[rows]
        if how is not None and draws is not None:
            names = ["" if classes else name for name, classes in self.names.items()]  # a class stays what it is
            audio, controls, length = augment(audio, controls, length, names, draws, how, self.store.sample_rate)
            again = [i for i, name in enumerate(names) if name and name != "pitch"] if how.reshapes else []
            if again:
                wanted = [names[i] for i in again]
                found = measure(torch.from_numpy(audio), self.store.sample_rate, torch.from_numpy(length), wanted)
                for i in again:
                    controls[:, i] = found[names[i]].numpy()
        return torch.from_numpy(audio), torch.from_numpy(controls), torch.from_numpy(length)


def hold_out(sources: NDArray[Any], share: float, most: int = 64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of clips that stay for training, and of those set aside for validation.

    `sources` names the file of each clip: no file has clips on both sides. The files set aside are spread evenly,
    about `share` of them, until they hold `most` clips, and of what they hold beyond none is used; none is that holds
    more than twice that share of all, and with a single file none.
    """
    names, first, counts = np.unique(sources, return_index=True, return_counts=True)
    order = np.argsort(first)
    wanted = min(round(share * len(names)), len(names) - 1, most)
    chosen = order[((np.arange(wanted) + 0.5) * len(names) / max(1, wanted)).astype(np.int64)]
    chosen = chosen[counts[chosen] <= max(most, 2 * share * len(sources))]
    chosen = chosen[np.cumsum(counts[chosen]) - counts[chosen] < most]
    there = np.isin(sources, names[chosen])
    aside = np.flatnonzero(there)
    few = np.linspace(0, len(aside) - 1, min(most, len(aside))).astype(np.int64)
    return np.flatnonzero(~there), aside[few]


def too_few(share: float, aside: NDArray[np.int64]) -> list[str]:
    """What is to be known where clips should have been set aside, and none could be; a line or none."""
    told = "too few files to set some aside (train.validation_share): validation is on clips that are trained on"
    return [f"note: {told}"] if share and not len(aside) else []


def frame_mask(length: Tensor, frames: int, hop: int) -> Tensor:
    """1 for the frames that hold sound, 0 for padding: `[B]` samples -> `[B, frames]` float."""
    return (torch.arange(frames, device=length.device) * hop < length.unsqueeze(1)).float()
