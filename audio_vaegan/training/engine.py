"""The step loop: launch guards, resuming, checkpoints, metrics, samples, and a clean way out at Ctrl-C."""

import json
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from audio_vaegan.config import Recipe
from audio_vaegan.errors import Failure, UserError
from audio_vaegan.files import mark, read_json, write_atomic, write_json
from audio_vaegan.training import checkpoint

SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


class Task(Protocol):
    """What the engine trains."""

    @property
    def modules(self) -> dict[str, nn.Module]: ...
    @property
    def optimizers(self) -> dict[str, Optimizer]: ...
    def parameters(self) -> dict[str, int]: ...
    def step(self, step: int) -> dict[str, Tensor]: ...
    def cost(self, step: int) -> float: ...
    def export(self, out: Path, steps: int) -> str: ...


def make_accelerator(recipe: Recipe) -> Accelerator:
    """An Accelerator for CPU, one GPU or DDP; every other launch is refused with the way that works."""
    launched, wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "no"), recipe.train.mixed_precision
    if launched not in ("no", wanted):
        raise UserError(
            f"launched with mixed precision {launched}, the recipe says {wanted}; leave it out of the launch and say "
            "--train.mixed_precision bf16 (fp16 is not supported: two optimisers, one loss scale)"
        )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    mend = f"launch with: accelerate launch --multi_gpu --num_processes {world} ... (no GPUs: ACCELERATE_USE_CPU=true)"
    if world > 1 and "MASTER_ADDR" not in os.environ:
        raise UserError(f"WORLD_SIZE is {world}, but no launcher started this process; {mend}")
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=recipe.train.mixed_precision)
    if accelerator.distributed_type not in SUPPORTED:
        raise UserError(
            f"launch type {accelerator.distributed_type.value} is not supported: two networks need plain DDP"
        )
    if world != accelerator.num_processes:
        raise UserError(f"{world} processes, but each believes it is one of {accelerator.num_processes}; {mend}")
    _use_all_cores(accelerator)
    set_seed(recipe.seed)
    return accelerator


def _use_all_cores(accelerator: Accelerator) -> None:
    """On a CPU, share the cores among the processes: `accelerate launch` leaves each with one thread unless told."""
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if launched and accelerator.device.type == "cpu" and os.environ.get("OMP_NUM_THREADS") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


class Stop:
    """Turns the first SIGINT or SIGTERM into a request to stop after the current step; a second SIGINT, at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Stop":
        self._old = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


def train(
    recipe: Recipe,
    store_hash: str,
    accelerator: Accelerator,
    task: Task,
    run: Path,
    samples: Callable[[Path, int], None] | None = None,
) -> bool:
    """Train `task` in the folder `run`, from its last checkpoint if there is one. True when all steps are done.

    `samples(folder, step)` is called by the main process at every checkpoint.
    """
    main = accelerator.is_main_process
    _claim(run, recipe, store_hash, accelerator)
    last = checkpoint.latest(run)
    start = checkpoint.load(last, task.modules, task.optimizers) if last else 0
    steps, every = recipe.train.steps, recipe.train.checkpoint_every
    if start >= steps:
        accelerator.print(f"{run}: already trained ({steps} steps)")
        if main and not (run / "bundle" / "config.json").exists():
            _save_bundle(task, run, steps)
        return True
    if start:
        accelerator.print(f"{run}: going on from step {start}")
    log = _Log(run / "metrics.jsonl", start) if main else None
    began, done_before = time.monotonic(), start
    with Stop() as stop, _bar(task, start, steps, main) as bar:
        for step in range(start, steps):
            terms = task.step(step)
            bar.update(task.cost(step))
            done = step + 1
            stopping = _any_rank(stop.asked, accelerator)
            saving = done % every == 0 or done == steps or stopping
            logging = done % recipe.train.log_every == 0 or done == steps
            if logging or saving:
                values = _mean_over_ranks(terms, accelerator)
                _check(values, done, run)
                if log and logging:
                    rate = (done - done_before) * recipe.train.batch_size / (time.monotonic() - began)
                    log.write({"step": done, **values, "clips_per_second": round(rate, 2)})
                    bar.set_postfix_str(
                        f"step {done}/{steps}, {rate:.0f} clips/s, mel {values.get('mel', math.nan):.3f}"
                    )
            if saving:
                if main:
                    checkpoint.save(run, done, task.modules, task.optimizers, recipe.train.keep_checkpoints)
                    if samples and not stopping:
                        samples(run / "samples", done)
                accelerator.wait_for_everyone()
            if stopping and done < steps:
                bar.close()
                accelerator.print(f"stopped after step {done} of {steps}; the same command goes on from there")
                return False
    if main:
        _save_bundle(task, run, steps)
    accelerator.wait_for_everyone()
    return True


def _bar(task: Task, start: int, steps: int, shown: bool) -> "tqdm[Any]":
    """A bar in units of work, not of steps, because later steps cost more: so the time left is right from the start."""
    costs = [task.cost(step) for step in range(steps)]
    style = "{desc} {percentage:3.0f}% |{bar}| {elapsed} gone, {remaining} left  {postfix}"
    return tqdm(total=sum(costs), initial=sum(costs[:start]), desc="train", bar_format=style, disable=not shown)


def _save_bundle(task: Task, run: Path, steps: int) -> None:
    digest = task.export(run / "bundle", steps)
    print(f"{run / 'bundle'}: model {digest[:12]}")


def _claim(run: Path, recipe: Recipe, store_hash: str, accelerator: Accelerator) -> None:
    """Make the run folder, or check that it belongs to the same recipe and store."""
    mine = {"recipe": recipe.model_dump(mode="json"), "store": store_hash}
    if (run / "run.json").exists():
        theirs: Any = read_json(run / "run.json", "--out")
        if not isinstance(theirs, dict) or not isinstance(theirs.get("recipe"), dict):
            raise UserError(f"--out {run}: damaged (run.json); choose another --out")
        differences = _differences(theirs.get("recipe", {}), mine["recipe"])
        if theirs.get("store") != store_hash:
            differences.append("the store's content")
        if differences:
            raise UserError(
                f"--out {run}: was trained with another recipe ({'; '.join(differences)}); choose another --out"
            )
    elif run.exists() and (not run.is_dir() or any(not p.name.startswith(".") for p in run.iterdir())):
        raise UserError(f"--out {run}: exists and is not a run folder; choose another name")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process and not (run / "run.json").exists():
        run.mkdir(parents=True, exist_ok=True)
        mark(run, "run")
        write_json(run / "run.json", mine)
    accelerator.wait_for_everyone()


def _differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [d for k in keys for d in _differences(a.get(k), b.get(k), f"{path}.{k}".lstrip("."))]
    return [] if a == b else [f"{path}: {a} != {b}"]


class _Log:
    """`metrics.jsonl`, one line a record; lines that a resumed run will write again are dropped first."""

    def __init__(self, path: Path, start: int) -> None:
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    continue  # the line that a sudden death cut short
                if record["step"] <= start:
                    kept.append(line)
        write_atomic(path, "".join(line + "\n" for line in kept))
        self.file = path.open("a", buffering=1)

    def write(self, record: dict[str, Any]) -> None:
        self.file.write(json.dumps(record) + "\n")


def _mean_over_ranks(terms: dict[str, Tensor], accelerator: Accelerator) -> dict[str, float]:
    stacked = torch.stack([v.float() for v in terms.values()])
    mean = accelerator.reduce(stacked, reduction="mean")
    return {k: round(v, 6) for k, v in zip(terms, mean.tolist(), strict=True)}


def _any_rank(flag: bool, accelerator: Accelerator) -> bool:
    if accelerator.num_processes == 1:
        return flag
    value = torch.tensor([float(flag)], device=accelerator.device)
    return float(accelerator.reduce(value, reduction="sum").item()) > 0


def _check(values: dict[str, float], step: int, run: Path) -> None:
    bad = [k for k, v in values.items() if not math.isfinite(v)]
    if bad:
        last = checkpoint.latest(run)
        raise Failure(
            f"training failed at step {step}: {', '.join(bad[:3])} became NaN or infinite; "
            + (f"the checkpoint {last.name} in {run} is whole; " if last else "no checkpoint was written yet; ")
            + "train with a smaller --train.learning_rate into another --out"
        )
