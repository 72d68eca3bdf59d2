"""The Accelerator of a launch, and the guards against launches that would go wrong silently."""

import os
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import DistributedType, GradientAccumulationPlugin, LoggerType

from audio_vaegan.config import Recipe
from audio_vaegan.errors import UserError, did_you_mean

SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
REFUSED = {  # what a launch asks for by a variable -> why it is refused
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed: its engine holds one network and one optimiser, a VAE-GAN has two of each",
    "ACCELERATE_USE_FSDP": "FSDP: it shards one network, and the generator's step reads the discriminator whole",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM: it is for language models",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config: these networks fit one device, only the data is shared",
    "ACCELERATE_DYNAMO_BACKEND": "a dynamo backend: compiled networks are not what checkpoints and bundles hold",
}
PLAIN = "plain DDP works: accelerate launch --multi_gpu --num_processes N ..., or recipes/launch/several_gpus.yaml"


def launched_precision() -> list[str]:
    """The launch's mixed precision as an override of the recipe: one that was launched with bf16 trains in bf16."""
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", "bf16"):
        raise UserError(
            f"launched with mixed precision {launched}; two optimisers would share one loss scale: launch with "
            "--mixed_precision bf16, or no"
        )
    return ["--train.mixed_precision", launched] if launched == "bf16" else []


def make_accelerator(recipe: Recipe, run: Path | None = None) -> Accelerator:
    """An Accelerator for CPU, one GPU or DDP; every other launch is refused with the way that works."""
    for variable, why in REFUSED.items():
        if os.environ.get(variable, "no").lower() not in ("", "no", "false", "0"):
            raise UserError(f"launched with {why}; {PLAIN}")
    launched, wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "no"), recipe.train.mixed_precision
    if launched not in ("no", wanted):
        raise UserError(
            f"launched with mixed precision {launched}, the recipe says {wanted}; leave it out of one of them"
        )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    mend = f"launch with: accelerate launch --multi_gpu --num_processes {world} ... (no GPUs: ACCELERATE_USE_CPU=true)"
    if world > 1 and "MASTER_ADDR" not in os.environ:
        raise UserError(f"WORLD_SIZE is {world}, but no launcher started this process; {mend}")
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=wanted,
        log_with=_trackers(recipe) or None,
        project_dir=run and run / "trackers",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # whatever a variable says
        # While resolution grows, the blocks of the resolutions to come receive no gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=recipe.train.growing > 0)],
    )
    if accelerator.distributed_type not in SUPPORTED:
        raise UserError(
            f"launch type {accelerator.distributed_type.value} is not supported: two networks need plain DDP; {PLAIN}"
        )
    if world != accelerator.num_processes:
        raise UserError(f"{world} processes, but each believes it is one of {accelerator.num_processes}; {mend}")
    _use_all_cores(accelerator)
    if wanted == "bf16" and accelerator.device.type == "cpu":
        accelerator.print("note: bfloat16 on a CPU that has no instructions for it is many times slower than float32")
    return accelerator


def _trackers(recipe: Recipe) -> list[str]:
    from accelerate.tracking import get_available_trackers

    known = [str(t.value) for t in LoggerType if t is not LoggerType.ALL]
    there = {str(getattr(t, "value", t)) for t in get_available_trackers()}
    for name in recipe.train.trackers:
        if name not in known:
            raise UserError(f"train.trackers: no tracker {name!r}.{did_you_mean(name, known)}")
        if name not in there:
            package = "'audio-vaegan[track]'" if name == "tensorboard" else name.replace("_", "-")
            raise UserError(f"train.trackers: {name} is not installed; install it with: pip install {package}")
    return list(recipe.train.trackers)


def _use_all_cores(accelerator: Accelerator) -> None:
    """On a CPU, share the cores among the processes: `accelerate launch` leaves each with one thread unless told."""
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if launched and accelerator.device.type == "cpu" and os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(_cores())


def _cores() -> int:
    """Cores of this machine for each of its processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def workers(recipe: Recipe, accelerator: Accelerator) -> int:
    """How many processes of its own reads the clips of coming steps for this one (`train.workers`)."""
    if recipe.train.workers is not None:
        return recipe.train.workers
    return 0 if accelerator.device.type == "cpu" else min(4, _cores() - 1)
