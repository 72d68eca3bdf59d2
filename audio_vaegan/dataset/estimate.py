"""What a spec would make, how long it would take, how many bytes: told before anything is written."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from audio_vaegan.dataset.make import Maker
from audio_vaegan.dataset.work import planned
from audio_vaegan.sound_model import BATCH
from audio_vaegan.sound_model.threads import one_thread


def estimate(path: Path, spec_path: Path, *, seed: int | None = None, processes: int = 1, vocoder: str = "auto") -> str:
    """What a spec would make, how long it would take and how many bytes: by making a few of its sounds, not written."""
    plan = planned(path, spec_path, seed, "cpu", vocoder)
    spec = plan.spec
    first = plan.blocks()[0]
    some = first.slots[: 4 * BATCH]
    with one_thread():
        began = time.perf_counter()
        made = Maker(plan).make(replace(first, slots=some))
    seconds = (time.perf_counter() - began) * plan.count / len(some) / processes
    size = sum(map(len, made.audio)) / max(1, len(made.audio)) * plan.count
    right_away = len([r for r in made.rows if r["attempt"] == 0])
    if spec.augment:
        asked = [f"  {len(plan.files)} files times {spec.augment.factor}" + _conditions(spec.controls)]
    else:
        classes = [f" of {', '.join(g.class_)}" if g.class_ else "" for g in spec.groups]
        parts = zip(spec.groups, classes, strict=True)
        asked = [f"  {g.count} sounds{of}{_conditions(g.controls)}" for g, of in parts]
    right = f"{right_away} were right at once, {len(made.rows)} after at most {spec.attempts} attempts"
    return "\n".join(
        [
            f"{spec.name}: {plan.count} sounds, {spec.layout}, {spec.format} at {plan.sample_rate} Hz",
            *asked,
            f"of {len(some)} tried now, {right}",
            f"about {_duration(seconds)} with {processes} process{'es' if processes > 1 else ''}; "
            f"{size / 1e6:.0f} MB of sound",
        ]
    )


def _conditions(controls: Any) -> str:
    said = []
    for name, v in controls.items():
        kind = next(k for k in ("uniform", "normal", "grid", "list", "data") if getattr(v, k) is not None)
        given = getattr(v, kind)
        said.append(f"{name} as in the data" if kind == "data" else f"{name} {kind} {[*given][:6]}")
    return ": " + ", ".join(said) if said else ""


def _duration(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
