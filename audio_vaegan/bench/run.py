"""The groups of `bench`, one after the other, each in a process of its own."""

import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from audio_vaegan.arguments import BENCH
from audio_vaegan.bench.options import bench_options
from audio_vaegan.config import Recipe
from audio_vaegan.errors import Failure, UserError
from audio_vaegan.files import share
from audio_vaegan.recipe import load_recipe
from audio_vaegan.version import __version__

DATASET = 256  # sounds


@dataclass(frozen=True)
class Wanted:
    """What is measured, and how. Without a `store`, and for `prepare`, the notes that come with the package are
    prepared."""

    groups: tuple[str, ...]
    model: Path
    recipe: Path | None = None
    store: Path | None = None
    batch: int = 16
    seconds: float = 2.0
    threads: int | None = None
    device: str = "cpu"
    vocoder: str = "auto"
    label: str | None = None  # options: to measure class-conditional training with
    only: tuple[str, ...] = ()  # options
    steps: int = 6  # options
    clips: tuple[int, ...] = ()  # scale


def bench(wanted: Wanted) -> dict[str, Any]:
    """Measure. Returns the facts of the machine and one entry a group, each with `peak_memory_gib`."""
    path = wanted.recipe or share("recipes") / "quickstart.yaml"
    recipe = load_recipe(path)
    _check(wanted)
    report: dict[str, Any] = {"audio_vaegan": __version__, "torch": torch.__version__}
    report["machine"] = _alone(wanted, _machine, wanted)
    with tempfile.TemporaryDirectory(prefix="audio-vaegan-bench-") as folder:
        place, store = Path(folder), wanted.store
        trains = {"training", "options", "scale"} & {*wanted.groups}
        if "prepare" in wanted.groups or (trains and store is None):
            found = _alone(wanted, _prepare, recipe, place / "store")
            store = store or place / "store"
            if "prepare" in wanted.groups:
                report["prepare"] = found
        for group in tqdm([g for g in BENCH if g in wanted.groups and g != "prepare"], desc="bench", unit="group"):
            match group:
                case "sounds" | "peers":
                    report[group] = _alone(wanted, _rows, group, wanted, report["machine"])
                case "training":
                    report[group] = _alone(wanted, _training, recipe, store, wanted, report["machine"])
                case "dataset":
                    report[group] = _alone(wanted, _dataset, wanted.model, place)
                case "options":
                    assert store is not None
                    alone = partial(_alone, wanted)
                    report[group] = bench_options(path, store, wanted.label, wanted.only, wanted.steps, alone)
                case "scale":
                    report[group] = [_scale(wanted, recipe, store, place, clips) for clips in wanted.clips]
    return report


def _check(wanted: Wanted) -> None:
    """Raise UserError before anything is measured."""
    from audio_vaegan.data.store import Store
    from audio_vaegan.models.bundle import load_bundle

    if wanted.store is not None:
        Store(wanted.store)
    if {"sounds", "peers", "dataset"} & {*wanted.groups}:
        load_bundle(wanted.model)
    try:
        torch.zeros(1, device=wanted.device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UserError(f"--device {wanted.device}: no device that torch can use here (audio-vaegan doctor)") from None


def _alone(wanted: Wanted, work: Callable[..., Any], *args: Any) -> Any:
    """`work(*args)` in a new process, which has the wanted number of threads."""
    with ProcessPoolExecutor(1, get_context("spawn"), _begin, (wanted.threads,)) as pool:
        try:
            return pool.submit(work, *args).result()
        except BrokenProcessPool:
            raise Failure("bench: a process that measures died (out of memory?)") from None


def _begin(threads: int | None) -> None:
    if threads:
        torch.set_num_threads(threads)


def _machine(wanted: Wanted) -> dict[str, Any]:
    from audio_vaegan.bench.machine import measure_machine

    return asdict(measure_machine(torch.device(wanted.device)))


def _peak(found: dict[str, Any]) -> dict[str, Any]:
    from audio_vaegan.training.launch import peak_memory

    gpu = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    return found | {"peak_memory_gib": peak_memory() / 2**30, "peak_gpu_memory_gib": gpu}


def _rows(group: str, wanted: Wanted, machine: dict[str, Any]) -> dict[str, Any]:
    from audio_vaegan.bench.machine import Machine
    from audio_vaegan.bench.peers import bench_peers
    from audio_vaegan.bench.sounds import bench_sounds
    from audio_vaegan.sound_model import SoundModel

    model = SoundModel.from_pretrained(wanted.model, wanted.device, wanted.vocoder)
    measure = bench_peers if group == "peers" else bench_sounds
    rows = measure(model, Machine(**machine), wanted.batch, wanted.seconds)
    about = {"model": model.recipe.name, "vocoder": model.vocoder_title, "sample_rate": model.sample_rate}
    return _peak(about | {"clip_seconds": model.clip_samples / model.sample_rate, "batch": wanted.batch, "rows": rows})


def _training(recipe: Recipe, store: Path, wanted: Wanted, machine: dict[str, Any]) -> dict[str, Any]:
    from audio_vaegan.bench.machine import Machine
    from audio_vaegan.bench.training import bench_training
    from audio_vaegan.data.store import Store

    return _peak(bench_training(recipe, Store(store), Machine(**machine), wanted.seconds))


def _prepare(recipe: Recipe, out: Path) -> dict[str, Any]:
    from audio_vaegan.bench.jobs import bench_prepare

    return _peak(bench_prepare([share("recipes") / "notes"], recipe, out))


def _dataset(model: Path, place: Path) -> dict[str, Any]:
    from audio_vaegan.bench.jobs import bench_dataset

    return _peak(bench_dataset(model, place, DATASET))


def _scale(wanted: Wanted, recipe: Recipe, store: Path | None, place: Path, clips: int) -> dict[str, Any]:
    assert store is not None
    many = _alone(wanted, _multiplied, store, clips, place / f"store-{clips}")
    found: dict[str, Any] = _alone(wanted, _scaled, recipe, many, wanted.seconds)
    return found


def _multiplied(store: Path, clips: int, out: Path) -> Path:
    from audio_vaegan.bench.scale import multiplied
    from audio_vaegan.data.store import Store

    return multiplied(Store(store), clips, out)


def _scaled(recipe: Recipe, store: Path, seconds: float) -> dict[str, Any]:
    from audio_vaegan.bench.scale import bench_scale

    return bench_scale(recipe, store, seconds)
