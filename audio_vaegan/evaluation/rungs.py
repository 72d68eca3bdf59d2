"""What sounds on each rung: which real clips, and what the vocoder and a model make of them, a batch at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.held import Held, Rows
from audio_vaegan.sound_model import SoundModel

SOUNDS = 1000  # in a set, if the store has as many
FEWEST = 20
BATCH = 32
Batches = Iterable[tuple[Tensor, Tensor | None]]  # audio [B, samples], and what it should be


class TooFew(UserError):
    """A store has too few sounds for sets of them to be compared."""


@dataclass(frozen=True)
class Chosen:
    """The clips of the sets, `[N]` each: the reference, other sounds of the training instruments (none where there are
    not enough), and held-out ones; and the splits that these two are of."""

    reference: Rows
    other: Rows
    held: Rows
    other_split: str
    held_split: str


def choose(store: Store, most: int = SOUNDS) -> Chosen:
    """The reference: clips of `train`. Other sounds of the same instruments: of `test_note`, which neither judge nor
    model has heard, else, where those are too few, of `train`, from other files than the reference. Held out:
    `test_instrument`, else `test_note`. No sound twice. Raises TooFew where there are fewer than 20."""
    source = store.column("source")
    first = store.column("copy_of") == source

    def shuffled(split: str) -> Rows:
        rows = store.split(split)
        return np.random.default_rng(0).permutation(rows[first[rows]])

    train, notes, held = (shuffled(split) for split in ("train", "test_note", "test_instrument"))
    held_split = "test_instrument" if len(held) >= FEWEST else "test_note"
    held = held if held_split == "test_instrument" else notes
    n = min(len(train), len(held), most)
    if n < FEWEST:
        raise TooFew(
            f"--store {store.path}: {len(train)} training and {len(held)} held-out sounds that differ; sets of at "
            f"least {FEWEST} each are compared (prepare it with a larger --data.test_instruments or --data.test_notes)"
        )
    reference, rest = train[:n], train[n:]
    other, other_split = notes[:n], "test_note"
    if held_split == "test_note" or len(other) < n:
        other, other_split = rest[~np.isin(source[rest], source[reference])][:n], "train"
    other = other if len(other) == n else other[:0]
    return Chosen(np.sort(reference), np.sort(other), np.sort(held[:n]), other_split, held_split)


def like_each(reference: NDArray[np.float64], held: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each held-out clip a clip of the reference of the nearest pitch, one of those at random `[N]`; for one
    without a pitch, one without."""
    rng = np.random.default_rng(1)
    known, own = (np.nan_to_num(x, nan=1e3) for x in (reference, held))
    away = (np.abs(known - p) for p in own)
    return np.array([rng.choice(np.flatnonzero(gap == gap.min())) for gap in away], dtype=np.int64)


def _parts(rows: Rows) -> Iterator[Rows]:
    return (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))


def real_sounds(store: Store, rows: Rows, targets: Rows | None = None) -> Batches:
    for i in range(0, len(rows), BATCH):
        target = None if targets is None else torch.from_numpy(store.read(targets[i : i + BATCH]))
        yield torch.from_numpy(store.read(rows[i : i + BATCH])), target


def copies(model: SoundModel, store: Store, rows: Rows) -> Batches:
    """Copies that end where the sounds end, as reconstructions do."""
    length = torch.from_numpy(store.column("length")[rows])
    for i, part in enumerate(_parts(rows)):
        audio = torch.from_numpy(store.read(part))
        within = torch.arange(audio.shape[1]) < length[i * BATCH : i * BATCH + len(part)].unsqueeze(1)
        yield model.vocode(model.log_mel(audio)) * within, audio


def reconstructions(model: SoundModel, store: Store, rows: Rows) -> Batches:
    for part in _parts(rows):
        held = Held(model, store, part)
        yield model.decode(held.sound).audio, held.audio


def samples(model: SoundModel, asked: NDArray[np.float64], truncation: float = 1.0) -> Batches:
    """Sounds from the model's prior, at the pitches of real ones, or the nearest in the trained range. In the place of
    a sound without a pitch, what the prior gives without being asked (N(0, I) gives it some pitch)."""
    how: dict[str, Any] = {"seed": 0, "truncation": truncation}
    for i in range(0, len(asked), BATCH):
        items = np.arange(i, min(i + BATCH, len(asked)))
        known = np.isfinite(asked[items]) & ("pitch" in model.controls)
        audio = torch.zeros(len(items), model.clip_samples)
        if known.any():
            control = model.controls["pitch"]
            pitch = asked[items[known]].clip(control.low, control.high)
            given = model.sample(int(known.sum()), items=items[known].tolist(), pitch=pitch, **how)
            audio[torch.from_numpy(known)] = given.audio
        if not known.all():
            free = model.sample(int((~known).sum()), items=items[~known].tolist(), **how)
            audio[torch.from_numpy(~known)] = free.audio
        yield audio, None
