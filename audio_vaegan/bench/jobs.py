"""Whole jobs, as their verbs do them: files to a store, a model to a data set."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audio_vaegan.config import Recipe
from audio_vaegan.data.prepare import prepare
from audio_vaegan.data.store import Store
from audio_vaegan.dataset.work import make_dataset
from audio_vaegan.sound_model import SoundModel

SPEC = """
name: bench
count: {count}
controls: {controls}
"""


def bench_prepare(sounds: Sequence[Path], recipe: Recipe, out: Path) -> dict[str, Any]:
    """Prepare files into the store `out`, which the next measurements take up."""
    began = time.perf_counter()
    prepare([*sounds], recipe, out)
    took = time.perf_counter() - began
    store = Store(out)
    files = store.report()["files"]
    audio = float(store.column("length").sum()) / store.sample_rate
    return {
        "files": len(files),
        "clips": len(store),
        "hours_of_sound": audio / 3600,
        "seconds": took,
        "files_per_second": len(files) / took,
        "times_real_time": audio / took,
    }


def bench_dataset(name: Path, out: Path, count: int) -> dict[str, Any]:
    """Make a data set of `count` labelled sounds, every attempt that it takes included."""
    model = SoundModel.from_pretrained(name)
    pitch = model.controls.get("pitch")
    controls = "{}" if pitch is None else f"{{pitch: {{uniform: [{pitch.low}, {pitch.high}]}}}}"
    spec = out / "spec.yaml"
    spec.write_text(SPEC.format(count=count, controls=controls))
    began = time.perf_counter()
    delivered = make_dataset(name, spec, out / "dataset", say=lambda _: None)
    took = time.perf_counter() - began
    clip = model.clip_samples / model.sample_rate
    return {
        "sounds": delivered,
        "seconds": took,
        "sounds_per_second": delivered / took,
        "times_real_time": delivered * clip / took,
    }
