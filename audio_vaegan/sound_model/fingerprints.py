"""What a bundle keeps of the training sounds: compact prints, by which copies are known, and a map of their timbres.

BUNDLE/fingerprints.safetensors    prints [N, 192] int8 of the training clips, gain- and shift-invariant; of some of
                                   them the codes [M, C + D] and places [M, 2]; with the hash of the model
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from audio_vaegan.data.duplicates import ALIKE, ALIKE_FINE, COARSE, PRINT, fingerprints
from audio_vaegan.errors import UserError
from audio_vaegan.files import sweep, write_atomic
from audio_vaegan.mel import Mel
from audio_vaegan.models.controls import Control

FILE, HEADER = "fingerprints.safetensors", "audio-vaegan fingerprints"
SCALE = 127.0
NEIGHBOURS = 3  # sounds that a place between them is made of


def prints_of(audio: Tensor, mel: Mel) -> Tensor:
    """Prints `[B, 192]` of audio `[B, samples]` at the mel's sample rate; see `data.duplicates.fingerprints`."""
    config = mel.config
    return fingerprints(audio, mel(audio), config.sample_rate / config.hop_length)


@dataclass(frozen=True)
class TimbreMap:
    """Some training sounds on a plane, alike ones near each other.

    `z` `[M, C + D]` (NaN: an undefined control), `place` `[M, 2]` in [0, 1]; `labels` are each one's value of `label`,
    both empty where the data has none.
    """

    z: Tensor
    place: Tensor
    label: str = ""
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.z)

    def at(self, x: float, y: float, controls: Sequence[Control]) -> Tensor:
        """A code `[1, C + D]` for a place: on a sound its own, between sounds a mean of the nearest three, weighted by
        nearness (Shepard 1968); the timbre code as long as theirs are, classes and what is defined as in the
        nearest."""
        away = (self.place - torch.tensor([x, y])).norm(dim=1)
        near = away.topk(min(NEIGHBOURS, len(away)), largest=False)
        if near.values[0] < 1e-4:
            return self.z[near.indices[:1]]
        weight = 1 / near.values.square()
        weight = (weight / weight.sum()).unsqueeze(1)
        some = self.z[near.indices]
        own, codes = some[:, : len(controls)], some[:, len(controls) :]
        known = ~own.isnan()
        mean = (weight * own.nan_to_num(0.0)).sum(0) / (weight * known).sum(0).clamp_min(1e-9)
        smooth = known[0] & torch.tensor([not c.classes for c in controls], dtype=torch.bool)
        named = torch.where(smooth, mean, own[0])
        timbre = (weight * codes).sum(0)
        length = (weight[:, 0] * codes.norm(dim=1)).sum()
        return torch.cat([named, timbre * (length / timbre.norm().clamp_min(1e-9))]).unsqueeze(0)


def save_fingerprints(
    prints: NDArray[np.float32], folder: Path, model_hash: str, timbres: TimbreMap | None = None
) -> None:
    """Write the prints of the training clips, and their map, into a bundle."""
    tensors = {"prints": np.round(prints * SCALE).astype(np.int8)}
    about: dict[str, Any] = {"model_hash": model_hash}
    if timbres is not None:
        tensors |= {"map.z": timbres.z.numpy().astype(np.float16), "map.place": timbres.place.numpy()}
        about |= {"map": {"label": timbres.label, "labels": timbres.labels}}
    sweep(folder)
    # One entry: of several, safetensors writes the order as chance has it.
    write_atomic(folder / FILE, save(tensors, metadata={HEADER: json.dumps(about)}))


def _about(metadata: dict[str, str]) -> dict[str, Any]:
    if HEADER in metadata:
        return dict(json.loads(metadata[HEADER]))
    return metadata | ({"map": json.loads(metadata["map"])} if "map" in metadata else {})  # of versions before 0.2


class Fingerprints:
    """The training sounds of a model, to compare others with; `map` shows some of them, if it was made."""

    def __init__(self, prints: NDArray[np.int8], timbres: TimbreMap | None = None) -> None:
        both = torch.from_numpy(prints.astype(np.float32))
        self.coarse, self.fine = (torch.nn.functional.normalize(p, dim=1) for p in (both[:, :COARSE], both[:, COARSE:]))
        self.map = timbres

    def __len__(self) -> int:
        return len(self.coarse)

    def nearest(self, prints: Tensor) -> tuple[Tensor, Tensor]:
        """Of prints `[B, 192]`: how alike the nearest training sound is (cosine of the coarse prints, 0 to 1) `[B]`,
        and whether one is alike in the fine print, too, as copies are `[B]` bool."""
        coarse, fine = prints[:, :COARSE] @ self.coarse.T, prints[:, COARSE:] @ self.fine.T
        return coarse.amax(dim=1), ((coarse >= ALIKE) & (fine >= ALIKE_FINE)).any(dim=1)


def load_fingerprints(folder: Path, model_hash: str, size: int) -> Fingerprints | None:
    """The prints of a bundle whose codes have `size` numbers; None where it has none. Raises UserError if they are
    damaged or another model's."""
    path = folder / FILE
    if not path.is_file():
        return None
    again = "write them again: audio-vaegan fit-controls MODEL --store STORE"
    try:
        with safe_open(path, "numpy") as f:
            about = _about(f.metadata() or {})
            prints = f.get_tensor("prints")
            timbres = None
            if "map" in about:
                said = about["map"]
                z, place = (torch.from_numpy(f.get_tensor(f"map.{k}")).float() for k in ("z", "place"))
                timbres = TimbreMap(z, place, str(said["label"]), tuple(map(str, said["labels"])))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as e:
        raise UserError(f"{path}: damaged ({' '.join(str(e).split())[:120]}); {again}") from None
    if about.get("model_hash") != model_hash:
        other = str(about.get("model_hash"))[:12]
        raise UserError(f"{path}: of another model ({other}, this is {model_hash[:12]}); {again}")
    if prints.dtype != np.int8 or prints.ndim != 2 or prints.shape[1] != PRINT or not len(prints):
        raise UserError(f"{path}: damaged (shape {list(prints.shape)}); {again}")
    if timbres is not None and (
        timbres.z.ndim != 2
        or timbres.z.shape[1] != size
        or timbres.place.shape != (len(timbres), 2)
        or len(timbres.labels) not in (0, len(timbres))
        or not torch.isfinite(timbres.place).all()
        or timbres.z.isinf().any()
    ):
        raise UserError(f"{path}: damaged (the map of timbres); {again}")
    return Fingerprints(prints, timbres)
