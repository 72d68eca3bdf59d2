"""What each sound of a data set is asked to be: a pure function of the spec, the model and the sound's number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.special import ndtr, ndtri

from audio_vaegan.audio import SUFFIXES, BadAudio, Stream
from audio_vaegan.dataset.spec import Group, Spec, Values
from audio_vaegan.descriptors import DESCRIPTORS
from audio_vaegan.errors import UserError
from audio_vaegan.files import sha256_file
from audio_vaegan.models.controls import Control
from audio_vaegan.sound_model import BATCH, SoundModel
from audio_vaegan.sound_model.drawing import draw

BLOCK = 8 * BATCH  # sounds that are made, retried and written together
CENTS = 25.0  # of tolerance for pitch, unless the spec says: half of what a label may be off
LOUDNESS = 0.5  # LU that a sound may be off the spec's loudness: half of what the control may be
REDRAWS = 16  # of a control as in the data that came out undefined

Asked = dict[str, float | str]  # what is asked of one sound: numbers in their units, names of classes


@dataclass(frozen=True)
class Block:
    """Sounds that are made together: numbers `slots` of one group (-1: variations of real sounds). `turn` counts how
    often they were given up before."""

    number: int
    group: int
    slots: tuple[int, ...]
    turn: int = 0


@dataclass(frozen=True)
class Source:
    """A sound file to vary."""

    path: Path  # below the folder
    digest: str  # SHA-256 of its bytes: copies have the same
    seconds: float  # as its header says; 0: it cannot be read


class Plan:
    """The spec, checked against a model. Raises UserError when the model cannot do what is asked."""

    def __init__(self, spec: Spec, model: SoundModel, sources: list[Source] | None = None) -> None:
        """`sources` to vary, if they are known already."""
        self.spec, self.model = spec, model
        self.classes = next((c for c in model.controls.values() if c.classes), None)
        self.sources = _sources(spec) if sources is None else sources
        self.count = spec.total or len(self.sources) * spec.augment.factor  # type: ignore[union-attr]
        self.starts = np.cumsum([0, *(g.count for g in spec.groups)])
        self.sample_rate = spec.sample_rate or model.sample_rate
        whole = model.clip_samples / model.sample_rate
        if spec.seconds is not None and spec.seconds > whole + 1e-9:
            raise UserError(f"seconds: this model's sounds are {whole:g} s long, got {spec.seconds:g}")
        self.samples = round(min(spec.seconds or whole, whole) * model.sample_rate)
        if self.samples < 1:
            raise UserError(f"seconds: {spec.seconds:g} is less than a sample at {model.sample_rate} Hz")
        if spec.augment and not model.encodes:
            raise UserError("augment: this model is a GAN, which has no encoder: it can only make new sounds")
        if spec.prior == "fitted" and model.prior is None:
            raise UserError("prior: this model has no fitted prior; audio-vaegan fit-controls MODEL --store STORE")
        for group in spec.groups:
            self._check(group)
        for name, values in spec.controls.items():
            self._number(name)
            if values.data:
                raise UserError(f"{name}: with augment, say by how much it is moved; 'data' is no amount")
        for name in spec.tolerance:
            self._number(name)

    def _number(self, name: str) -> Control:
        control = self.model.control(name)
        if control.classes:
            raise UserError(f"{name} is a class: use class: [...] instead")
        return control

    def _check(self, group: Group) -> None:
        if group.class_:
            if not self.classes:
                raise UserError("class: this model was trained without classes (model.class_label)")
            self.classes.numbers(group.class_, len(group.class_))
        for name, values in group.controls.items():
            control = self._number(name)
            if values.ends:
                control.in_range(torch.tensor(values.ends))
            if values.normal and _mass(values.normal, control)[1] < 1e-3:
                raise UserError(
                    f"{name}: nearly nothing of normal {list(values.normal)} lies in the trained range "
                    f"{control.low:g} ... {control.high:g} {control.unit}"
                )

    def tolerance(self, name: str) -> float:
        """How far from what was asked a control may be found, in its unit."""
        default = CENTS / 100 if name == "pitch" else DESCRIPTORS[name].tolerance
        return self.spec.tolerance.get(name, default)

    def group(self, slot: int) -> int:
        return -1 if self.spec.augment else int(np.searchsorted(self.starts, slot, side="right")) - 1

    def blocks(self) -> list[Block]:
        """All blocks of the first pass, in order."""
        ends = [*self.starts.tolist()] if self.spec.groups else [0, self.count]
        found: list[Block] = []
        for g, (first, last) in enumerate(pairwise(ends)):
            for start in range(first, last, BLOCK):
                slots = tuple(range(start, min(start + BLOCK, last)))
                found.append(Block(len(found), g if self.spec.groups else -1, slots))
        return found

    def again(self, slots: Sequence[int], first: int, turn: int) -> list[Block]:
        """Blocks, numbered from `first`, that try some sounds once more."""
        found: list[Block] = []
        for g in sorted({self.group(s) for s in slots}):
            mine = [s for s in slots if self.group(s) == g]
            for start in range(0, len(mine), BLOCK):
                found.append(Block(first + len(found), g, tuple(mine[start : start + BLOCK]), turn))
        return found

    def split(self, slot: int) -> str:
        """Variations of one real sound, and of files that sound the same, are on one side."""
        source = slot
        if self.spec.augment:
            source = int(self.sources[slot // self.spec.augment.factor].digest, 16)
        place = np.random.default_rng([self.spec.seed, source, 1]).random()
        edges = np.cumsum([*self.spec.splits.values()])
        return [*self.spec.splits][min(int(np.searchsorted(edges, place, side="right")), len(edges) - 1)]

    def asked(self, slots: Sequence[int], turn: int = 0) -> list[Asked]:
        """What is asked of some sounds of one group: for variations, by how much each control is moved. In another
        turn what is drawn is drawn anew (but for variations): a sound that was given up may have been asked what the
        model cannot do."""
        g = self.group(slots[0])
        values = self.spec.controls if g < 0 else self.spec.groups[g].controls
        start = 0 if g < 0 else int(self.starts[g])
        found = [self._own(values, self.spec.groups[g].class_ if g >= 0 else None, s, s - start, turn) for s in slots]
        as_in_data = [name for name, v in values.items() if v.data]
        if as_in_data:
            self._draw(as_in_data, slots, found, turn)
        return found

    def _own(self, values: dict[str, Values], classes: Sequence[str] | None, slot: int, place: int, turn: int) -> Asked:
        """Finite lists, the class last, are worked through as `in_turn` says; others are drawn."""
        lengths = [len(v.points) for _, v in sorted(values.items()) if v.points]
        turns = iter(in_turn(place, [*lengths, len(classes or ())]))
        even = np.random.default_rng([self.spec.seed, slot, 0, turn]).random(max(1, len(values)))
        asked: Asked = {}
        for k, (name, v) in enumerate(sorted(values.items())):
            if v.points:
                asked[name] = v.points[next(turns)]
            elif v.uniform:
                asked[name] = round(float(v.uniform[0] + (v.uniform[1] - v.uniform[0]) * even[k]), 4)
            elif v.normal:
                control = None if self.spec.augment else self.model.controls[name]
                low, mass = _mass(v.normal, control)
                value = v.normal[0] + v.normal[1] * float(ndtri(low + mass * even[k]))
                asked[name] = round(value, 4) if control is None else inside(value, control)
        if classes and self.classes:
            asked[self.classes.name] = classes[next(turns)]
        return asked

    def _draw(self, names: Sequence[str], slots: Sequence[int], found: list[Asked], turn: int) -> None:
        """Fill in the controls that are as in the training data, given the others."""
        for asked, slot in zip(found, slots, strict=True):
            given = {n: [v] for n, v in asked.items()}
            wanted = set(names)
            for again in range(REDRAWS):
                seed = derived(self.spec.seed, f"data {turn} {again}")
                prior, truncation = self.spec.prior, self.spec.truncation
                values = draw(self.model, [slot], seed, truncation, prior, given)[1]  # type: ignore[arg-type]
                for name in sorted(wanted):
                    value = float(values[name][0])
                    if np.isfinite(value):
                        asked[name] = inside(value, self.model.controls[name])
                        wanted.discard(name)
                if not wanted:
                    break
            for name in sorted(wanted):  # hardly ever defined in the data
                control = self.model.controls[name]
                asked[name] = inside(float(control.value(torch.tensor(0.0))), control)


def in_turn(place: int, lengths: Sequence[int]) -> list[int]:
    """Which value of each list the sound at a place of its group takes, for lists of these lengths (0: no list).

    Of every list the values come in turn, each as often as any other, give or take one, whatever the count; and of
    every P places in a row from a multiple of P on, P the product of the lengths, each has another combination, and the
    next P the same again. By induction, for the next list, n long, after others with the product p: with l = lcm(p, n),
    g = gcd(p, n) and place = q l + r, it takes (place + q mod g) mod n. The shift q mod g is constant over l places, a
    multiple of n: the first. In p n = g l places q mod g comes round once, each of its g values for l places; the
    others tell place mod p, which less this one's value, mod g, is -q mod g: so all together tell q mod g, place mod p,
    place mod n, and by the Chinese remainder theorem r: the second.
    """
    found, product = [], 1
    for n in lengths:
        if n:
            found.append((place + place // math.lcm(product, n) % math.gcd(product, n)) % n)
            product *= n
    return found


def derived(seed: int, what: str) -> int:
    """A seed of its own for each purpose."""
    words = np.random.SeedSequence([seed, *what.encode()]).generate_state(1, np.uint64)
    return int(words[0]) >> 2


def inside(value: float, control: Control) -> float:
    """To four digits, and within the range after rounding, too."""
    return float(np.clip(round(value, 4), np.ceil(control.low * 1e4) / 1e4, np.floor(control.high * 1e4) / 1e4))


def _mass(normal: tuple[float, float], control: Control | None) -> tuple[float, float]:
    """How much of a normal distribution lies below a control's range, and within."""
    if control is None:
        return 0.0, 1.0
    low, high = (float(ndtr((end - normal[0]) / normal[1])) for end in (control.low, control.high))
    return low, high - low


def _sources(spec: Spec) -> list[Source]:
    """The sound files to vary, in the order of their names."""
    if not spec.augment:
        return []
    folder = spec.augment.folder
    if not folder.is_dir():
        raise UserError(f"augment: no such folder: {folder}")
    found = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise UserError(f"augment: no sound file in {folder}")
    return [_source(folder, path) for path in found]


def _source(folder: Path, path: Path) -> Source:
    try:
        seconds = Stream(folder / path).promised
    except BadAudio:  # which is said of each of its variations
        seconds = 0.0
    return Source(path, sha256_file(folder / path), seconds)
