"""What a bundle keeps of the training sounds to tell copies of them: compact prints, gain- and shift-invariant.

BUNDLE/fingerprints.safetensors    prints [N, 192] int8 of the training clips, with the hash of the model
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from audio_vaegan.data.duplicates import ALIKE, ALIKE_FINE, COARSE, PRINT, fingerprints
from audio_vaegan.errors import UserError
from audio_vaegan.files import write_atomic
from audio_vaegan.mel import Mel

FILE = "fingerprints.safetensors"
SCALE = 127.0


def prints_of(audio: Tensor, mel: Mel) -> Tensor:
    """Prints `[B, 192]` of audio `[B, samples]` at the mel's sample rate; see `data.duplicates.fingerprints`."""
    config = mel.config
    return fingerprints(audio, mel(audio), config.sample_rate / config.hop_length)


def save_fingerprints(prints: NDArray[np.float32], folder: Path, model_hash: str) -> None:
    """Write the prints of the training clips into a bundle."""
    content = save({"prints": np.round(prints * SCALE).astype(np.int8)}, metadata={"model_hash": model_hash})
    write_atomic(folder / FILE, content)


class Fingerprints:
    """The training sounds of a model, to compare others with."""

    def __init__(self, prints: NDArray[np.int8]) -> None:
        both = torch.from_numpy(prints.astype(np.float32))
        self.coarse, self.fine = (torch.nn.functional.normalize(p, dim=1) for p in (both[:, :COARSE], both[:, COARSE:]))

    def __len__(self) -> int:
        return len(self.coarse)

    def nearest(self, prints: Tensor) -> tuple[Tensor, Tensor]:
        """Of prints `[B, 192]`: how alike the nearest training sound is (cosine of the coarse prints, 0 to 1) `[B]`,
        and whether one is alike in the fine print, too, as copies are `[B]` bool."""
        coarse, fine = prints[:, :COARSE] @ self.coarse.T, prints[:, COARSE:] @ self.fine.T
        return coarse.amax(dim=1), ((coarse >= ALIKE) & (fine >= ALIKE_FINE)).any(dim=1)


def load_fingerprints(folder: Path, model_hash: str) -> Fingerprints | None:
    """The prints of a bundle; None where it has none. Raises UserError if they are damaged or another model's."""
    path = folder / FILE
    if not path.is_file():
        return None
    again = "write them again: audio-vaegan fit-controls MODEL --store STORE"
    try:
        with safe_open(path, "numpy") as f:
            found = (f.metadata() or {}).get("model_hash")
            prints = f.get_tensor("prints")
    except (SafetensorError, OSError, KeyError, ValueError) as e:
        raise UserError(f"{path}: damaged ({' '.join(str(e).split())[:120]}); {again}") from None
    if found != model_hash:
        raise UserError(f"{path}: of another model ({str(found)[:12]}, this is {model_hash[:12]}); {again}")
    if prints.dtype != np.int8 or prints.ndim != 2 or prints.shape[1] != PRINT or not len(prints):
        raise UserError(f"{path}: damaged (shape {list(prints.shape)}); {again}")
    return Fingerprints(prints)
