"""Does a step cost the same, and take the same memory, with a thousand times as many clips?"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from audio_vaegan.bench.machine import in_turns, median
from audio_vaegan.config import Recipe
from audio_vaegan.data.store import Store
from audio_vaegan.files import read_json, write_json
from audio_vaegan.training.accelerator import make_accelerator
from audio_vaegan.training.launch import peak_memory
from audio_vaegan.training.vaegan import VaeGanTask


def multiplied(store: Store, clips: int, out: Path) -> Path:
    """A store of so many clips: one that is there, again and again under other names. Its shards are links, so
    that a thousand times as many take no disk."""
    about = read_json(store.path / "store.json", "--store")
    out.mkdir(parents=True)
    shards: list[dict[str, str]] = []
    times, size = -(-clips // len(store)), len(store)
    for i in range(times):
        for j, (audio, prints) in enumerate(store.shards):
            names = {"clips": f"shard-{i}-{j}.npy", "prints": f"prints-{i}-{j}.npy"}
            os.symlink(audio.resolve(), out / names["clips"])
            os.symlink(prints.resolve(), out / names["prints"])
            shards.append(names)
    items = store.items
    with pq.ParquetWriter(out / "items.parquet", items.schema) as writer:
        for i in range(times):
            writer.write_table(_renamed(items, i, size))
    kept = {k: v for k, v in about.items() if k != "items_sha256"}
    write_json(out / "store.json", kept | {"shards": shards, "content_hash": f"{about['content_hash']}x{times}"})
    return out


def _renamed(items: pa.Table, turn: int, size: int) -> pa.Table:
    for name in ("source", "copy_of"):
        at = items.schema.get_field_index(name)
        items = items.set_column(at, items.schema.field(at), _named(items.column(name), turn))
    clip = pa.array(np.arange(turn * size, (turn + 1) * size), pa.int64())
    return items.set_column(items.schema.get_field_index("clip"), items.schema.field("clip"), clip)


def _named(column: pa.ChunkedArray, turn: int) -> pa.Array:
    return pa.array([f"{turn}/{name}" for name in column.to_pylist()], pa.string())


def bench_scale(recipe: Recipe, store: Path, seconds: float) -> dict[str, Any]:
    """Seconds until the first step, of a step, of its data, and of a new epoch's order; and memory. In a process of its
    own, or the peak would be another's. Clips are read in the step, not ahead (`train.workers`)."""
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"workers": 0})})
    began = time.perf_counter()
    accelerator = make_accelerator(recipe)
    task = VaeGanTask(recipe, Store(store), accelerator)
    ready = time.perf_counter() - began
    step = recipe.train.steps - 1
    task.step(step)
    place = iter(_places(len(task.clips), recipe.train.batch_size))
    took = in_turns(
        {"step": lambda: task.step(step), "read": lambda: task.clips.read(next(place))}, accelerator.device, seconds
    )
    began = time.perf_counter()
    np.random.default_rng([recipe.seed, 1]).permutation(len(task.clips))
    return {
        "clips": len(task.clips),
        "ready_seconds": ready,
        "step_ms": 1e3 * median(took["step"]),
        "read_ms": 1e3 * median(took["read"]),
        "order_ms": 1e3 * (time.perf_counter() - began),
        "memory_gib": peak_memory() / 2**30,
        "gpu_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0,
    }


def _places(clips: int, batch: int) -> Iterator[np.ndarray]:
    """Random places, none of which was read before."""
    draw = np.random.default_rng(0)
    while True:
        yield draw.integers(0, clips, batch)
