"""What a spec would make, how long it would take, how many bytes: told before anything is written."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audio_vaegan.dataset.make import Made, Maker
from audio_vaegan.dataset.plan import Block
from audio_vaegan.dataset.work import planned
from audio_vaegan.sound_model import BATCH
from audio_vaegan.sound_model.threads import one_thread

TRIED = 4 * BATCH  # sounds, spread over the groups
GROUPS = 16  # at most so many are tried


@dataclass(frozen=True)
class _Trial:
    """Some sounds of a group that were tried."""

    sounds: int  # of the whole group
    tried: int
    made: Made
    batches: int
    seconds: float

    @property
    def attempts(self) -> int:
        return len(self.made.rows) + len(self.made.rejects)


def estimate(path: Path, spec_path: Path, *, seed: int | None = None, processes: int = 1, vocoder: str = "auto") -> str:
    """What a spec would make, how long it would take and how many bytes: by making a few sounds of each of its groups
    (of GROUPS at most, spread over all), not written."""
    plan = planned(path, spec_path, seed, "cpu", vocoder)
    spec, maker = plan.spec, Maker(plan)
    sizes = [g.count for g in spec.groups] or [plan.count]
    chosen = _spread(len(sizes), GROUPS)
    with one_thread():
        trials = {g: _try(maker, g if spec.groups else -1, int(plan.starts[g]), sizes[g], len(chosen)) for g in chosen}
    made = [t.made for t in trials.values()]
    rows = [row for m in made for row in m.rows]
    sounds = [audio for m in made for audio in m.audio]
    size = sum(map(len, sounds)) / max(1, len(sounds)) * plan.count
    if spec.augment:
        asked = [f"{len(plan.sources)} files times {spec.augment.factor}" + _conditions(spec.controls)]
    else:
        classes = [f" of {', '.join(g.class_)}" if g.class_ else "" for g in spec.groups]
        parts = zip(spec.groups, classes, strict=True)
        asked = [f"{g.count} sounds{of}{_conditions(g.controls)}" for g, of in parts]
    if len(asked) > 1:
        asked = [f"{said} ({_came(trials[g]) if g in trials else 'none tried'})" for g, said in enumerate(asked)]
    tried, right_away = sum(t.tried for t in trials.values()), len([r for r in rows if r["attempt"] == 0])
    right = f"{right_away} were right at once, {len(rows)} after at most {spec.attempts} attempts"
    seconds = _seconds([*trials.values()], plan.count) / processes
    return "\n".join(
        [
            f"{spec.name}: {plan.count} sounds, {spec.layout}, {spec.format} at {plan.sample_rate} Hz",
            *(f"  {said}" for said in asked),
            f"of {tried} tried now, {right}",
            f"about {_duration(seconds)} with {processes} process{'es' if processes > 1 else ''}, once it has started; "
            f"{size / 1e6:.0f} MB of sound",
        ]
    )


def _spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def _try(maker: Maker, group: int, start: int, sounds: int, groups: int) -> _Trial:
    slots = tuple(start + k for k in _spread(sounds, max(1, TRIED // groups)))
    batches: list[int] = []
    began = time.perf_counter()
    made = maker.make(Block(0, group, slots), batches.append)  # which is told of each batch
    return _Trial(sounds, len(slots), made, len(batches), time.perf_counter() - began)


def _seconds(trials: Sequence[_Trial], count: int) -> float:
    """For all sounds, by one process. Making takes as long for a batch that is not full; all else goes by the sound."""
    batches, attempts = (sum(getattr(t, what) for t in trials) for what in ("batches", "attempts"))
    making = sum(t.made.seconds["make"] for t in trials)
    rest = sum(t.seconds for t in trials) - making
    needed = sum(t.sounds * t.attempts / t.tried for t in trials) * count / sum(t.sounds for t in trials)
    return needed * (making / batches / BATCH + rest / max(1, attempts))


def _came(trial: _Trial) -> str:
    return f"{len(trial.made.rows)} of {trial.tried} tried came right"


def _conditions(controls: Any) -> str:
    said = []
    for name, v in controls.items():
        kind = next(k for k in ("uniform", "normal", "grid", "list", "data") if getattr(v, k) is not None)
        given = getattr(v, kind)
        said.append(f"{name} as in the data" if kind == "data" else f"{name} {kind} {[*given][:6]}")
    return ": " + ", ".join(said) if said else ""


def _duration(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
