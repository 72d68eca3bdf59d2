"""What a training script does: read its command line, build the task, train."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import torch
import yaml
from accelerate import Accelerator

from audio_vaegan.arguments import Parser
from audio_vaegan.config import Recipe, load_recipe, split_overrides
from audio_vaegan.data.store import Store
from audio_vaegan.models.bundle import Bundle
from audio_vaegan.training.engine import make_accelerator, train
from audio_vaegan.training.vaegan import VaeGanTask

Samples = Callable[[Bundle, Store, Path, int], None]
INTERRUPTED = 130


def main(samples: Samples | None = None, argv: Sequence[str] | None = None) -> int:
    """Train the VAE-GAN as the command line says. Returns the exit code; raises UserError and Failure."""
    parser = Parser(
        description="Train the VAE-GAN on a store. The same command goes on where a run was stopped.",
        epilog="Any value of the recipe can be changed: --train.steps 200 --model.width 256 --seed 3",
        allow_abbrev=False,
    )
    parser.add_argument("--recipe", type=Path, required=True, help="YAML file")
    parser.add_argument("--store", type=Path, required=True, help="folder made by `audio-vaegan prepare`")
    parser.add_argument("--out", type=Path, required=True, help="run folder: checkpoints, metrics, samples, bundle")
    parser.add_argument("--dry-run", action="store_true", help="print recipe, sizes, and the time and memory it takes")
    words, overrides = split_overrides(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(words)
    recipe = load_recipe(args.recipe, overrides)
    store = Store(args.store)
    accelerator = make_accelerator(recipe)
    task = VaeGanTask(recipe, store, accelerator)
    if args.dry_run:
        _dry_run(recipe, accelerator, task)
        return 0

    def write(folder: Path, step: int) -> None:
        if samples:
            samples(task.bundle(step), store, folder, step)

    done = train(recipe, store.content_hash, accelerator, task, args.out, write)
    accelerator.end_training()
    return 0 if done else INTERRUPTED


def peak_memory() -> int:
    """Most memory that this process has held so far, in bytes, less what it shares with files: the system can take
    the pages of memory-mapped clips back at any time, and how many are resident says nothing of what is needed."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak - getattr(psutil.Process().memory_info(), "shared", 0)


def _dry_run(recipe: Recipe, accelerator: Accelerator, task: VaeGanTask, timed: int = 4) -> None:
    """Measure a few full steps, with every network at work, and scale them to the run."""
    late = recipe.train.steps - timed - 1
    task.step(max(late, 0))
    began = time.monotonic()
    for i in range(timed):
        task.step(max(late, 0) + 1 + i if late > 0 else 0)
    seconds = (time.monotonic() - began) / timed
    counts = task.parameters()
    lines = [
        yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False),
        "parameters: " + ", ".join(f"{k} {v:,}" for k, v in counts.items()) + f", all {sum(counts.values()):,}",
        f"data: {len(task.clips)} training clips; controls: {', '.join(c.name for c in task.net.controls) or 'none'}",
        f"device: {accelerator.device}, {accelerator.num_processes} process(es), {torch.get_num_threads()} threads",
        f"time: {seconds:.2f} s a step ({recipe.train.batch_size / seconds:.0f} clips/s), "
        f"{recipe.train.steps} steps take about {seconds * recipe.train.steps / 60:.0f} min",
        f"memory: {peak_memory() / 2**30:.2f} GiB a process (memory-mapped clips not counted)",
    ]
    if accelerator.device.type == "cuda":
        lines.append(f"GPU memory: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB a device")
    accelerator.print("\n".join(lines))
