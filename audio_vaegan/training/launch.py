"""What a training script does: read its command line, build the task, train."""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from accelerate import Accelerator
from torch import Tensor

from audio_vaegan.arguments import Parser
from audio_vaegan.config import Recipe
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.files import alone
from audio_vaegan.models.bundle import Bundle, load_bundle
from audio_vaegan.models.critic import Discriminator
from audio_vaegan.models.vocoder import TrainedVocoder, open_vocoder
from audio_vaegan.recipe import load_recipe, split_overrides
from audio_vaegan.training import checkpoint
from audio_vaegan.training.accelerator import launched_precision, make_accelerator
from audio_vaegan.training.engine import Engine, Task
from audio_vaegan.training.run_folder import claim
from audio_vaegan.training.vaegan import VaeGanTask, check_best_by
from audio_vaegan.training.vocoder import VocoderTask

Samples = Callable[[Bundle, Store, Path, int], None]
INTERRUPTED = 130


def main(samples: Samples | None = None, argv: Sequence[str] | None = None) -> int:
    """Train a VAE-GAN as the command line says. Returns the exit code; raises UserError and Failure."""
    parser = _parser("Train a model on a store.", "--train.steps 200 --model.width 256 --objective gan --seed 3")
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="MODEL",
        help="fine-tune: begin with the weights, controls and normalisation of a model (a run folder, a bundle, the "
        "name of a packaged one), whose networks must be the recipe's",
    )
    args, recipe, store, accelerator = _read(parser, argv)
    start = load_bundle(args.start_from) if args.start_from else None
    if start is not None and recipe.objective == "vae_disl":
        raise UserError("--start-from: objective vae_disl trains a GAN first, and cannot begin with another model")
    if args.dry_run:
        _describe(recipe, accelerator)
        for stage in _stages(recipe) if recipe.objective == "vae_disl" else (recipe,):
            accelerator.print(f"objective: {stage.objective}")
            _estimate(_stage_task(stage, store, accelerator, start), stage, accelerator)
        return 0
    with _alone(args.out, accelerator):
        done = _train(recipe, store, accelerator, args.out, samples, start)
    accelerator.end_training()
    return 0 if done else INTERRUPTED


def main_vocoder(samples: Callable[..., None] | None = None, argv: Sequence[str] | None = None) -> int:
    """Train a vocoder as the command line says. Returns the exit code; raises UserError and Failure."""
    parser = _parser("Train a vocoder on a store.", "--train.steps 200 --vocoder.size base --vocoder.adversarial 0.1")
    parser.add_argument(
        "--on-decoded",
        type=Path,
        metavar="MODEL",
        help="bundle or run folder of a VAE-GAN: learn to turn its reconstructions into the real sounds",
    )
    parser.add_argument(
        "--start-from",
        metavar="VOCODER",
        help="begin with the weights of a vocoder: a file, a run folder, the name of a packaged one",
    )
    args, recipe, store, accelerator = _read(parser, argv)
    decoder = load_bundle(args.on_decoded) if args.on_decoded else None
    start = None
    if args.start_from:
        opened = open_vocoder(args.start_from, recipe.mel, what="the recipe")
        if not isinstance(opened, TrainedVocoder):
            raise UserError(f"--start-from {args.start_from}: not a vocoder that this program trained")
        start = opened
    task = VocoderTask(recipe, store, accelerator, decoder, start)
    if args.dry_run:
        _describe(recipe, accelerator)
        accelerator.print(f"multiply-adds: {task.multiply_adds / 1e9:.3f} G for a second of audio")
        late = _estimate(task, recipe, accelerator)
        early = measure(task, recipe, accelerator, early=True)["seconds"]
        if task.judged(recipe.train.steps - 1) and not task.judged(0):
            accelerator.print(f"discriminators: {max(0.0, 1 - early / late):.0%} of a step in which they judge")
        return 0
    made_of = {"kind": "vocoder", "store": store.content_hash}
    made_of |= {"decoder": decoder.hash} if decoder else {}
    made_of |= {"start": start.hash} if start else {}

    def write(folder: Path, step: int) -> None:
        if samples:
            samples(task.trained(step), *task.examples(4), folder, step)

    with _alone(args.out, accelerator):
        done = Engine(recipe, made_of, accelerator, task, args.out, write).train()
    accelerator.end_training()
    return 0 if done else INTERRUPTED


def _parser(what: str, example: str) -> Parser:
    parser = Parser(
        description=f"{what} The same command goes on where a run was stopped.",
        epilog=f"Any value of the recipe can be changed: {example}",
        allow_abbrev=False,
    )
    parser.add_argument("--recipe", type=Path, required=True, help="YAML file")
    parser.add_argument("--store", type=Path, required=True, help="folder made by `audio-vaegan prepare`")
    parser.add_argument("--out", type=Path, required=True, help="run folder: checkpoints, metrics, samples, bundle")
    parser.add_argument(
        "--on-nan",
        choices=("stop", "rollback"),
        help="rollback: when a loss becomes NaN, back to the last checkpoint with half the learning rates, at most "
        "train.rollbacks times (default: stop)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print recipe, sizes, and the time and memory it takes")
    return parser


def _read(parser: Parser, argv: Sequence[str] | None) -> tuple[argparse.Namespace, Recipe, Store, Accelerator]:
    words, overrides = split_overrides(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(words)
    on_nan = ["--train.on_nan", args.on_nan] if args.on_nan else []
    recipe = load_recipe(args.recipe, [*launched_precision(), *overrides, *on_nan])
    return args, recipe, Store(args.store), make_accelerator(recipe, args.out)


def _alone(run: Path, accelerator: Accelerator) -> AbstractContextManager[None]:
    """One launch at a time trains in a run folder."""
    return alone(run.resolve(), "training") if accelerator.is_main_process else nullcontext()


def _train(
    given: Recipe,
    store: Store,
    accelerator: Accelerator,
    run: Path,
    samples: Samples | None,
    start: Bundle | None = None,
) -> bool:
    recipe, similarity = given, None
    if recipe.objective == "vae_disl":
        check_best_by(given)  # now, not after the first stage
        # Two stages, as in the paper: a GAN in RUN/gan, then the VAE whose similarity is its discriminator.
        first, recipe = _stages(given)
        claim(run, given, {"store": store.content_hash}, accelerator)
        if not _train(first, store, accelerator, run / "gan", samples):
            return False
        similarity = _discriminator(run / "gan", first.train.steps)
        accelerator.free_memory()
    task = VaeGanTask(recipe, store, accelerator, similarity, start)
    made_of = {"store": store.content_hash} | ({"start": start.hash} if start else {})

    def write(folder: Path, step: int) -> None:
        if samples:
            samples(task.bundle(step), store, folder, step)

    return Engine(recipe, made_of, accelerator, task, run, write, given).train()


def _stages(recipe: Recipe) -> tuple[Recipe, Recipe]:
    """The recipes of the GAN and of the VAE, which share the steps."""
    steps = recipe.train.steps
    first = max(1, min(steps - 1, round(recipe.train.gan_share * steps)))
    gan = recipe.train.model_copy(update={"steps": first, "best_by": "auto"})
    vae = recipe.train.model_copy(update={"steps": max(1, steps - first)})
    name = f"{recipe.name}-gan"
    return (
        recipe.model_copy(update={"name": name, "objective": "gan", "train": gan}),
        recipe.model_copy(update={"train": vae}),
    )


def _discriminator(run: Path, steps: int) -> dict[str, Tensor]:
    """The weights of a GAN's discriminator after its last step."""
    last, prefix = checkpoint.latest(run), "discriminator."
    if last is None or last.name != f"step-{steps:08d}":
        raise UserError(f"{run}: its checkpoint of step {steps} is not there; remove this folder to train the GAN anew")
    critic = checkpoint.read(last)["critic"]
    return {k.removeprefix(prefix): v for k, v in critic.items() if k.startswith(prefix)}


def measure(
    task: Task, recipe: Recipe, accelerator: Accelerator, timed: int = 4, early: bool = False
) -> dict[str, Any]:
    """Time and memory of a few steps: late ones, with every network at work, or `early` ones. The first two are not
    timed: in the second, processes that read ahead may still be starting."""
    first = 0 if early else max(0, recipe.train.steps - timed - 2)
    seconds = []
    for i in range(2 + timed):
        began = time.monotonic()
        task.step(min(first + i, recipe.train.steps - 1))
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - began)
    task.close()
    gpu = torch.cuda.max_memory_allocated() if accelerator.device.type == "cuda" else 0
    return {
        "parameters": task.parameters(),
        "seconds": sum(seconds[2:]) / timed,
        "memory": peak_memory(),
        "gpu_memory": gpu,
    }


def measure_recipe(
    recipe: Recipe, store: Store, accelerator: Accelerator, timed: int = 4, early: bool = False
) -> dict[str, Any]:
    """Time and memory of a few steps of a VAE-GAN's last stage."""
    return measure(_stage_task(recipe, store, accelerator), recipe, accelerator, timed, early)


def _stage_task(recipe: Recipe, store: Store, accelerator: Accelerator, start: Bundle | None = None) -> VaeGanTask:
    untrained = Discriminator(recipe.model).state_dict() if recipe.objective == "vae_disl" else None
    return VaeGanTask(recipe, store, accelerator, untrained, start)


def peak_memory() -> int:
    """Most memory that this process has held so far, in bytes, less what it shares with files: the system can take
    the pages of memory-mapped clips back at any time, and how many are resident says nothing of what is needed."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak - getattr(psutil.Process().memory_info(), "shared", 0)


def _describe(recipe: Recipe, accelerator: Accelerator) -> None:
    accelerator.print(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
    accelerator.print(
        f"device: {accelerator.device}, {accelerator.num_processes} process(es), {torch.get_num_threads()} threads"
    )


def _estimate(task: Task, recipe: Recipe, accelerator: Accelerator) -> float:
    """Print sizes, time and memory. Returns the seconds of a step with every network at work."""
    found = measure(task, recipe, accelerator)
    counts, seconds, steps = found["parameters"], found["seconds"], recipe.train.steps
    minutes = seconds / 60 * sum(task.cost(step) for step in range(steps)) / task.cost(steps - 1)
    lines = [
        "parameters: " + ", ".join(f"{k} {v:,}" for k, v in counts.items()) + f", all {sum(counts.values()):,}",
        f"data: {task.data()}",
        f"time: {seconds:.2f} s a step ({recipe.train.batch_size / seconds:.0f} clips/s), "
        f"{steps} steps take about {minutes:.0f} min",
        f"memory: {found['memory'] / 2**30:.2f} GiB a process (memory-mapped clips not counted)",
    ]
    if found["gpu_memory"]:
        lines.append(f"GPU memory: {found['gpu_memory'] / 2**30:.2f} GiB a device")
    accelerator.print("\n".join(lines))
    return float(seconds)
