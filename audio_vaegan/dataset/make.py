"""Make the sounds of a block, measure each, and try those again that are not as they were asked to be."""

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audio_vaegan.audio import encode_wav
from audio_vaegan.dataset.facts import Row
from audio_vaegan.dataset.plan import LOUDNESS, Asked, Block, Plan, inside
from audio_vaegan.dataset.variations import Variations
from audio_vaegan.descriptors import measure, pyin
from audio_vaegan.descriptors.loudness import loudness
from audio_vaegan.sound_model import BATCH
from audio_vaegan.sound_model.address import HASH, Address, after, vocoder_name
from audio_vaegan.sound_model.fingerprints import prints_of
from audio_vaegan.sound_model.writing import shown

SECOND = 100  # of so many sounds one is measured by a second meter, too
SILENT, CLIPPED = -60.0, -0.01  # dBFS: peaks below and above which a sound is refused
HIGHEST = -0.3  # dBFS: to this peak a sound that would clip is turned down, where no loudness was asked for
CORRECTIONS = 2  # of one sound, before another is drawn
DRAWS = 1000  # sounds that can be drawn in the place of one: item 1000 i + k of the seed
IN_REACH = 2.0  # semitones; other controls: a deviation. What is further off is not corrected, but drawn anew
SHORTEST = 0.01  # seconds above 40 % of its level that a sound has at least


@dataclass
class Made:
    """A block's sounds that are as they were asked to be, and what failed."""

    rows: list[Row] = field(default_factory=list)
    audio: list[bytes] = field(default_factory=list)
    prints: list[NDArray[np.float16]] = field(default_factory=list)
    rejects: list[Row] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # by stage


@dataclass(frozen=True)
class Turn:
    """A sound's next attempt: number `draw` of those in its place, asked for `more` than it shall be."""

    slot: int
    draw: int
    attempt: int
    corrections: int = 0
    more: dict[str, float] = field(default_factory=dict)  # in the controls' units


@dataclass(frozen=True)
class Try:
    """Sounds `[B]` of one attempt: audio at the model's rate, what was asked, where they can be found again."""

    audio: Tensor
    asked: list[Asked]
    addresses: list[Address]
    sources: Sequence[str | None]


class Maker:
    """Makes blocks of a plan. All of a sound depends on the plan, the model and its number alone."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.spec, self.model = plan, plan.spec, plan.model
        self.variations = Variations(plan)
        self.digits = max(5, len(str(plan.count - 1)))
        self.names = (self.model.hash[:HASH], vocoder_name(self.model)[:HASH])

    def make(self, block: Block, show: Callable[[int], Any] = lambda count: None) -> Made:
        """Try each sound of a block until it passes or the spec's attempts of the block's turn are used up.
        `show(n)` is told of sounds that are done with.

        Where a sound is nearly as it was asked, the model is asked for as much more or less as was missing; else
        another is drawn in its place.
        """
        made, first = Made(), block.turn * self.spec.attempts
        last = first + self.spec.attempts
        rows: dict[int, tuple[Row, bytes, NDArray[np.float16]]] = {}
        pending = [Turn(slot, first, first) for slot in block.slots]
        while pending:
            batch, pending = pending[:BATCH], pending[BATCH:]
            again = [t for t in self._try(batch, rows, made) if t.attempt < last]
            pending += again
            show(len(batch) - len(again))
        for slot in sorted(rows):
            row, audio, prints = rows[slot]
            made.rows.append(row)
            made.audio.append(audio)
            made.prints.append(prints)
        made.rejects.sort(key=lambda row: (row["id"], row["attempt"]))
        return made

    def _try(self, batch: Sequence[Turn], rows: dict[int, Any], made: Made) -> list[Turn]:
        """One attempt of at most BATCH sounds. Returns what to try next."""
        with _timed(made, "make"):
            found, turns = self._variations(batch, made) if self.spec.augment else self._sounds(batch)
        if found is None:
            return []
        with _timed(made, "measure"):
            audio, gains = self._finished(found)
            rate, count = self.plan.sample_rate, len(turns)
            values = measure(pad_sequence(audio, True), rate, torch.tensor([len(a) for a in audio]))
            values["guess"] = torch.zeros(count)
            if self.plan.classes:
                values["guess"] = self.model.guess_classes(found.audio)[self.plan.classes.name]
        with _timed(made, "fingerprint"):
            prints = prints_of(found.audio, self.model.cpu_mel)
            nearest, copies = torch.full((count,), torch.nan), torch.zeros(count, dtype=torch.bool)
            if self.model.fingerprints is not None:
                nearest, copies = self.model.fingerprints.nearest(prints)
        again = []
        for k, (turn, asked) in enumerate(zip(turns, found.asked, strict=True)):
            heard = {name: float(value[k]) for name, value in values.items()}
            row = self._row(turn, found, k, heard, float(nearest[k]), gains[k], len(audio[k]))
            reasons = self._faults(asked, heard, bool(copies[k]))
            if not reasons and turn.slot % SECOND == 0 and "pitch" in asked:
                with _timed(made, "second meter"):
                    second = pyin(audio[k].numpy(), rate)
                reasons = [] if abs(second - float(asked["pitch"])) <= 0.5 else ["pitch, second meter"]
            if reasons:
                made.rejects.append({"reasons": reasons, **row})
                again.append(self._next(turn, asked, heard, reasons))
                continue
            with _timed(made, "encode"):
                content = encode_wav(audio[k].numpy(), rate, row["address"], self.spec.format.upper())
            row["audio_sha256"] = hashlib.sha256(content).hexdigest()
            rows[turn.slot] = (row, content, prints[k].half().numpy())
        return again

    def _next(self, turn: Turn, asked: Asked, heard: dict[str, float], reasons: Sequence[str]) -> Turn:
        """The same sound with what was missing asked on top, where only controls were off and not by much; else
        another."""
        off = {n: v - heard[n] for n, v in asked.items() if not isinstance(v, str) and n in heard}
        if self.spec.correct and turn.corrections < CORRECTIONS and all(n in off for n in reasons):
            reach = {n: IN_REACH if n == "pitch" else self.model.controls[n].deviation for n in reasons}
            if all(abs(off[n]) <= reach[n] for n in reasons):  # not for NaN
                more = {n: turn.more.get(n, 0.0) + v for n, v in off.items() if np.isfinite(v)}
                return Turn(turn.slot, turn.draw, turn.attempt + 1, turn.corrections + 1, more)
        return Turn(turn.slot, turn.draw + 1, turn.attempt + 1)

    def _told(self, asked: Asked, turn: Turn) -> Asked:
        """What the model is asked for, so that what is asked is heard."""
        controls = self.model.controls
        return {n: v if n not in turn.more else inside(float(v) + turn.more[n], controls[n]) for n, v in asked.items()}

    def _sounds(self, batch: Sequence[Turn]) -> tuple[Try, Sequence[Turn]]:
        """New sounds. Always a whole batch is decoded, so that each sound is the same in any company."""
        asked = self.plan.asked([t.slot for t in batch], batch[0].attempt // self.spec.attempts)
        items = [DRAWS * t.slot + t.draw for t in batch]
        more = BATCH - len(batch)
        told = [self._told(a, t) for a, t in zip(asked, batch, strict=True)]
        values = {name: [a[name] for a in told] for name in told[0]}
        clip = self.model.sample(
            BATCH,
            seed=self.spec.seed,
            items=items + [items[-1]] * more,
            truncation=self.spec.truncation,
            prior=self.spec.prior,
            limit=False,
            **{name: v + [v[-1]] * more for name, v in values.items()},  # type: ignore[arg-type]
        )
        place = Address(
            *self.names,
            seed=self.spec.seed,
            prior="normal" if self.spec.prior == "normal" or self.model.prior is None else "fitted",
            truncation=self.spec.truncation,
        )
        places = [replace(place, item=i, controls=a) for i, a in zip(items, told, strict=True)]
        return Try(clip.audio[: len(batch)], asked, places, [None] * len(batch)), batch

    def _variations(self, batch: Sequence[Turn], made: Made) -> tuple[Try | None, Sequence[Turn]]:
        """Variations of real sounds, of those whose file is one."""
        sounds, unreadable = self.variations.read([t.slot for t in batch])
        usable = [t for t in batch if t.slot not in unreadable]
        made.rejects += [
            {"id": self._id(t.slot), "attempt": t.attempt, **unreadable[t.slot]} for t in batch if t not in usable
        ]
        if not usable:
            return None, []
        draws = [(t.slot, t.draw) for t in usable]
        codes, asked = self.variations.of(sounds, draws, [partial(self._told, turn=t) for t in usable])
        clip = self.model.decode(codes, limit=False)
        noise, samples = codes.noise_asked.tolist(), codes.samples.tolist()
        places = [
            Address(*self.names, z=codes.z[k].numpy(), noise=noise[k], samples=samples[k]) for k in range(len(usable))
        ]
        names = [self.variations.name(t.slot) for t in usable]
        return Try(clip.audio[: len(usable)], asked, places, names), usable

    def _finished(self, found: Try) -> tuple[list[Tensor], list[float]]:
        """The sounds `[samples]` as they are written, and the gains in dB that brought them to the spec's loudness."""
        gains = [0.0] * len(found.audio)
        audio = self._written(found, gains)
        if self.spec.loudness is None:  # no louder than a file can hold
            peaks = [float(a.abs().max()) for a in audio]
            gains = [min(0.0, round(HIGHEST - 20 * math.log10(max(p, 1e-9)) - 1e-4, 4)) for p in peaks]
            return self._written(found, gains), gains
        for enough in (0.0, LOUDNESS / 5):  # once more where the meter's gate lets other parts through at that level
            lengths = torch.tensor([len(a) for a in audio])
            level = loudness(pad_sequence(audio, True), self.plan.sample_rate, lengths).float()
            more = [self.spec.loudness - heard for heard in level.tolist()]
            if not any(abs(m) > enough for m in more):  # nor for NaN
                break
            gains = [
                round(min(max(g + m, -60.0), 60.0), 4) if abs(m) > enough else g
                for g, m in zip(gains, more, strict=True)
            ]
            audio = self._written(found, gains)
        return audio, gains

    def _written(self, found: Try, gains: Sequence[float]) -> list[Tensor]:
        """The sounds by gains in dB, cut and at the data set's rate."""
        rate, lengths = self.model.sample_rate, [self._length(a) for a in found.addresses]
        done = zip(found.audio, lengths, gains, strict=True)
        return [after(a, rate, n, g, self.plan.sample_rate) for a, n, g in done]

    def _length(self, place: Address) -> int:
        """Samples at the model's rate; a variation is as long as its source."""
        return min(self.plan.samples, place.samples or self.plan.samples)

    def _faults(self, asked: Asked, heard: dict[str, float], copy: bool) -> list[str]:
        """Why a sound is refused; nothing: it is as it was asked to be. NaN fails every comparison."""
        reasons = []
        if not heard["peak"] >= SILENT:
            return ["silent"]
        if heard["peak"] > CLIPPED:
            reasons.append("clipped")
        if not heard["effective_duration"] >= SHORTEST:
            reasons.append("too short")
        for name, value in asked.items():
            if isinstance(value, str) or self.model.controls[name].classes:
                control = self.model.controls[name]
                if control.show(heard["guess"]) != value:
                    reasons.append(name)
            elif not abs(heard[name] - value) <= self.plan.tolerance(name):
                reasons.append(name)
        if self.spec.loudness is not None and not abs(heard["loudness"] - self.spec.loudness) <= LOUDNESS:
            reasons.append("loudness")
        if "pitch" in asked and not heard["confidence"] >= self.spec.clarity:
            reasons.append("pitch unclear")
        if copy and self.spec.copies == "reject":
            reasons.append("near-copy of a training sound")
        return reasons

    def _id(self, slot: int) -> str:
        return f"{slot:0{self.digits}d}"

    def _row(
        self,
        turn: Turn,
        found: Try,
        k: int,
        heard: dict[str, float],
        near: float,
        gain: float,
        samples: int,
    ) -> Row:
        """See `facts.Row`."""
        model, place = self.model, found.addresses[k]
        cut = None if self._length(place) == model.clip_samples else self._length(place)
        rate = self.plan.sample_rate if self.plan.sample_rate != model.sample_rate else None
        address = str(replace(place, samples=cut, gain=gain, rate=rate))
        row: Row = {"id": self._id(turn.slot), "split": self.plan.split(turn.slot)}
        if self.plan.classes:
            row["label"] = found.asked[k].get(self.plan.classes.name)
        if found.sources[k] is not None:
            row["source"] = found.sources[k]
        for name, control in model.controls.items():
            row[f"{name}_requested"] = found.asked[k].get(name)
            heard_as = heard["guess"] if control.classes else heard[name]
            row[f"{name}_achieved"] = shown(model, name, heard_as)
            row[f"{name}_unit"] = control.unit
        return row | {
            "peak_dbfs": _round(heard["peak"]),
            "loudness_lufs": _round(heard["loudness"]),
            "nearest_training": _round(near),
            "sample_rate": self.plan.sample_rate,
            "num_samples": samples,
            "seed": self.spec.seed,
            "item": DRAWS * turn.slot + turn.draw,
            "attempt": turn.attempt,
            "address": address,
            "model_hash": model.hash,
            "vocoder": model.vocoder_title,
            "synthetic": True,
            "license": self.spec.license,
        }


def _round(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


@contextmanager
def _timed(made: Made, stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    made.seconds[stage] += time.perf_counter() - began
