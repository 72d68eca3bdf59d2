"""Are sampled sounds new? The nearest training sound of each, and copies among them, beside the same of real ones."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio_vaegan.data.duplicates import ALIKE, ALIKE_FINE, COARSE
from audio_vaegan.data.store import Store
from audio_vaegan.sound_model.fingerprints import SCALE, Fingerprints

QUANTILE = 1.0  # percent of real held-out sounds lie nearer to a training sound than what counts as near
AT_A_TIME = 256
BASE = "real, other notes"


def training_prints(store: Store) -> Fingerprints:
    """The prints of all training clips, as `prepare` wrote them."""
    prints = np.concatenate([np.load(path, allow_pickle=False) for _, path in store.shards])
    return Fingerprints(np.round(prints[store.split("train")].astype(np.float32) * SCALE).astype(np.int8))


def store_prints(store: Store, split: str) -> Tensor:
    """The prints `[N, 192]` of the clips of a split, no sound twice."""
    prints = np.concatenate([np.load(path, allow_pickle=False) for _, path in store.shards])
    rows = store.split(split)
    rows = rows[(store.column("copy_of") == store.column("source"))[rows]]
    return torch.from_numpy(prints[rows].astype(np.float32))


def novelty(store: Store, prints: dict[str, Tensor]) -> dict[str, Any]:
    """Of each named set of sounds (prints `[N, 192]`, of no training clip), and of the base itself:

    `nearest`: the median distance (1 - cosine of coarse mel prints, blind to level and shift) to the nearest training
    sound; `ratio`: that distance to the same of the real `base`; `near`: share in percent that lies nearer than 99 % of
    the base do, by chance 1 %; `copies`: share that is alike to one of training in both prints, as copies are (and as
    two plain sounds of one pitch can be: compare with the real ones); `duplicates`: share that is alike so to another
    sound of the set. After the memorisation measures of Carlini et al.
    2023 and Bralios et al. 2024, which take mel likeness, too.

    The base are other notes of the training instruments (`test_note`), as near to training as a true sample would be;
    without any, the sounds of `test_instrument`.
    """
    split = "test_note" if len(store.split("test_note")) >= 20 else "test_instrument"
    train, own_base = training_prints(store), store_prints(store, split)
    base = 1 - _nearest(train, own_base)[0]
    limit = float(np.percentile(base, QUANTILE))
    found = {}
    for name, own in {BASE: own_base, **prints}.items():
        alike, copy = _nearest(train, own)
        away = 1 - alike
        found[name] = {
            "n": len(own),
            "nearest": float(np.median(away)),
            "ratio": float(np.median(away) / max(np.median(base), 1e-6)),
            "near": float(100 * (away < limit).mean()),
            "copies": float(100 * copy.mean()),
            "duplicates": 100 * duplicate_share(own),
        }
    return {"base": split, "base_n": len(base), "base_nearest": float(np.median(base)), "sets": found}


def _nearest(train: Fingerprints, prints: Tensor) -> tuple[Any, Any]:
    parts = [train.nearest(part) for part in prints.split(AT_A_TIME)]
    return torch.cat([p[0] for p in parts]).double().numpy(), torch.cat([p[1] for p in parts]).numpy()


def duplicate_share(prints: Tensor) -> float:
    """Share of sounds of a set, 0 to 1, that another one of it is the same as, by both prints `[N, 192]`."""
    coarse, fine = prints[:, :COARSE], prints[:, COARSE:]
    twice = []
    for i in range(0, len(prints), AT_A_TIME):
        alike = (coarse[i : i + AT_A_TIME] @ coarse.T >= ALIKE) & (fine[i : i + AT_A_TIME] @ fine.T >= ALIKE_FINE)
        alike[torch.arange(len(alike)), torch.arange(i, i + len(alike))] = False
        twice.append(alike.any(dim=1))
    return float(torch.cat(twice).double().mean())
