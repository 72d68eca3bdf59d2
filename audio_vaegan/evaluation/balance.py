"""What a set of sounds is made of: class, pitch, loudness and duration of each, from a store, a generated data set, or
plain columns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_vaegan.data.store import SPLITS, Store
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.evaluation.dataset import numbers, read_facts, read_rows
from audio_vaegan.files import printable

LABELS = ("instrument_family_str", "instrument_str", "class", "instrument", "folder")  # the first there is
COLUMNS = ("pitch", "loudness", "duration")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Balance:
    """What the N sounds of a set are: a label of each (None: none), `[N]` pitch in MIDI semitones, loudness in LUFS,
    duration in seconds (NaN: undefined), the name of the label, and which of the others were `measured` at all."""

    name: str
    classes: list[str | None]
    pitch: Floats
    loudness: Floats
    duration: Floats
    label: str | None = None
    measured: tuple[str, ...] = COLUMNS

    def __len__(self) -> int:
        return len(self.classes)


def balance_of_arrays(name: str, classes: Any = None, label: str | None = None, **columns: Any) -> Balance:
    """A balance of plain columns `[N]`: `classes`, `pitch`, `loudness`, `duration`; what is left out is not known."""
    count = max((len(c) for c in (classes, *columns.values()) if c is not None), default=0)
    values = {n: np.full(count, np.nan) if (c := columns.get(n)) is None else np.asarray(c, float) for n in COLUMNS}
    known = [None] * count if classes is None else list(classes)
    if not {*columns} <= {*COLUMNS} or {len(known), *map(len, values.values())} != {count}:
        raise ValueError(f"columns of one length are needed, named classes, {', '.join(COLUMNS)}")
    return Balance(name, known, label=None if classes is None else label or "class", measured=tuple(columns), **values)


def balance_of_store(store: Store, split: str | None = None, label: str | None = None) -> Balance:
    """The balance of a store, or of a split of it, by `label`, else the first of LABELS that it has. Loudness as the
    files have it. Raises UserError for a label or split that is not there, and where there are no clips."""
    there = store.label_names()
    if label is not None and label not in there:
        hint = did_you_mean(label, there) if there else " Its clips have no labels."
        raise UserError(f"--label {label}: --store {store.path} has none.{hint}")
    if split is not None and split not in SPLITS:
        raise UserError(f"--split {split}: no such split.{did_you_mean(split, SPLITS)}")
    rows = np.arange(len(store)) if split is None else store.split(split)
    if not len(rows):
        raise UserError(f"--store {store.path}: holds no clips{'' if split is None else f' in its split {split}'}")
    label = label or next((name for name in LABELS if name in there), None)
    classes = np.array([None] * len(store) if label is None else store.label(label), dtype=object)[rows].tolist()
    pitch, loudness = (store.values(name)[rows].astype(np.float64) for name in ("pitch", "loudness"))
    name = store.path.resolve().name + ("" if split is None else f", {split}")
    return Balance(printable(name), classes, pitch, loudness, store.column("length")[rows] / store.sample_rate, label)


def balance_of_dataset(folder: Path, label: str | None = None) -> Balance:
    """The balance of a generated data set in audiofolder layout: its class as it was asked for, pitch and loudness as
    they were measured of the sounds. No class where its classes are of a label other than `label`, if given."""
    items = read_rows(folder)
    own = _own_label(items[0][0])
    named = label is None or own in (None, label)
    classes = [str(found) if named and (found := row.get("label")) is not None else None for row, _ in items]
    values = {n: numbers(items, key) for n, key in (("pitch", "pitch_achieved"), ("loudness", "loudness_lufs"))}
    seconds = numbers(items, "num_samples") / np.maximum(numbers(items, "sample_rate"), 1)
    known = (own or label or "class") if any(classes) else None
    name = str(read_facts(folder).get("name") or printable(folder.resolve().name))
    measured = tuple(n for n in COLUMNS if n != "pitch" or any("pitch_achieved" in row for row, _ in items))
    return Balance(name, classes, duration=seconds, label=known, measured=measured, **values)


def _own_label(row: dict[str, Any]) -> str | None:
    """The label that the classes of a data set are values of, by one of its rows."""
    return next((key[: -len("_unit")] for key, unit in row.items() if key.endswith("_unit") and unit == "class"), None)
