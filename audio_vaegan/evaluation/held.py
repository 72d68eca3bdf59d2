"""Real clips that a model never saw: which of them, and as the model encodes them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.data.store import SPLITS, Store, check_mel
from audio_vaegan.errors import UserError
from audio_vaegan.sound_model import Sound, SoundModel

BATCH = 64
Rows = NDArray[np.int64]


def pick(store: Store, split: str, most: int | None, fallback: bool = False) -> Rows:
    """At most `most` clips of a split, spread evenly over it; with `fallback`, of another split if it is empty."""
    for name in (split, *reversed(SPLITS)) if fallback else (split,):
        rows = store.split(name)
        if len(rows):
            break
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def spread(store: Store, split: str, count: int, fallback: bool = False) -> Rows:
    """Clips of a split: one from the middle of each of `count` groups, spread over the groups; more a group if few."""
    clips = pick(store, split, None, fallback)
    groups = store.column("group")[clips]
    members = [clips[groups == g] for g in np.unique(groups)]
    if len(members) >= count:
        chosen = np.linspace(0, len(members) - 1, count).round().astype(int)
        return np.array([members[i][len(members[i]) // 2] for i in chosen])
    each = -(-count // len(members))
    spread = [m[np.unique(np.linspace(0, len(m) - 1, each + 2).round().astype(int)[1:-1])] for m in members]
    return np.concatenate(spread)[:count]


def check_fits(model: SoundModel, store: Store) -> None:
    """Raise UserError when a store holds other mels or clips than a model."""
    check_mel(store, model.recipe.mel, "the model")
    if store.clip_samples != model.clip_samples:
        raise UserError(
            f"--store {store.path}: its clips have {store.clip_samples} samples, the model's {model.clip_samples}"
        )


class Held:
    """Real clips of a store, encoded under the controls of their labels (a class that none says: as the model hears
    it); `pitch` `[B]` is their labels' (MIDI)."""

    def __init__(self, model: SoundModel, store: Store, clips: Rows) -> None:
        check_fits(model, store)
        self.clips = clips
        self.audio = torch.from_numpy(store.read(clips))
        self.pitch = store.values("pitch")[clips].astype(np.float64)
        self.groups = store.column("group")[clips].tolist()
        self.names = [str(s).split("/")[-1].rsplit(".", 1)[0] for s in store.column("source")[clips]]
        labels = _labels(model, store, clips, self.audio)
        length = torch.from_numpy(store.column("length")[clips])
        self.sound: Sound = model.encode_batch(self.audio, labels, length)
        self.mel = model.log_mel(self.audio)


def codes(model: SoundModel, store: Store, rows: Rows) -> NDArray[np.float64]:
    """Latents `[N, C + D]` of clips under their labels, read a batch at a time."""
    parts = []
    for some in np.array_split(rows, max(1, -(-len(rows) // BATCH))):
        audio = torch.from_numpy(store.read(some))
        labels = _labels(model, store, some, audio)
        parts.append(model.encode_batch(audio, labels, torch.full((len(some),), audio.shape[1])).z)
    return torch.cat(parts).double().numpy()


def _labels(model: SoundModel, store: Store, rows: Rows, audio: Tensor) -> dict[str, Tensor]:
    """The controls of clips `[B]` by their labels; a class that a clip does not say is guessed, as `encode` does."""
    said = {n: torch.from_numpy(store.values(n, c.classes)[rows]) for n, c in model.controls.items()}
    if not any(said[n].isnan().any() for n, c in model.controls.items() if c.classes):
        return said
    guessed = model.guess_classes(audio)
    return {n: torch.where(v.isnan(), guessed[n], v) if n in guessed else v for n, v in said.items()}
