"""Checkpoints of a run: whole or not at all, without pickle, the last few and the best kept.

RUN/checkpoints/step-00000250/state.safetensors holds every tensor (weights, averages, both optimisers), state.json the
step, the best step, and what the monitor counts. No random state is needed: all of it is a function of (seed, step).
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from audio_vaegan.errors import UserError
from audio_vaegan.files import fsync_tree, read_json, sha256_file, write_json

FOLDER, TENSORS = "checkpoints", "state.safetensors"


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as a flat dictionary: `"3.exp_avg"` is the first moment of its fourth parameter."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, entry in state.items() for k, v in entry.items()}


def load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save(
    run: Path, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer], state: dict[str, Any], keep: int
) -> Path:
    """Write a checkpoint of `state["step"]` steps; then remove all but the last `keep`, the best, and the last one that
    the monitor found nothing wrong with (`state["good"]`). Main process only. Raises OSError, of a full disk, too.

    `state` is plain JSON: the step, what the monitor counts, and the best checkpoint so far.
    """
    tensors = {f"{n}/{k}": v for n, m in modules.items() for k, v in m.state_dict().items()}
    tensors |= {f"{n}/{k}": v for n, o in optimizers.items() for k, v in optimizer_tensors(o).items()}
    folder = run / FOLDER / f"step-{state['step']:08d}"
    temporary = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary / TENSORS)
        write_state(temporary, state | {"sha256": sha256_file(temporary / TENSORS)})
        fsync_tree(temporary)
        _remove(folder)
        temporary.replace(folder)
    except (OSError, SafetensorError) as e:
        shutil.rmtree(temporary, ignore_errors=True)  # a full disk has no room for a half
        number = re.search(r"os error (\d+)", str(e))
        if isinstance(e, OSError) or not number:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from None
    prune(run, state, keep)
    return folder


def prune(run: Path, state: dict[str, Any], keep: int) -> None:
    """Remove checkpoints that are not kept any more, and what a kill left half written or half removed."""
    spared = {f"step-{step:08d}" for step in ((state.get("best") or {}).get("step"), state.get("good")) if step}
    for old in _all(run)[:-keep]:
        if old.name not in spared:
            _remove(old)
    for left in (run / FOLDER).glob(".step-*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Give a checkpoint that is there another state; its tensors stay."""
    write_json(folder / "state.json", state)


def _remove(folder: Path) -> None:
    """A folder that is half removed must not look like a checkpoint."""
    if folder.exists():
        shutil.rmtree(folder.replace(folder.with_name(f".{folder.name}.gone.partial")), ignore_errors=True)


def _all(run: Path) -> list[Path]:
    return sorted(p for p in (run / FOLDER).glob("step-*") if (p / "state.json").is_file())


def latest(run: Path) -> Path | None:
    """The newest whole checkpoint of a run, or None."""
    found = _all(run)
    return found[-1] if found else None


def read(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint, by owner and name. Raises UserError where a bit of them has changed."""
    known = _state(folder).get("sha256")
    try:
        if known not in (None, sha256_file(folder / TENSORS)):
            raise OSError(f"{TENSORS} is not as it was written")
        tensors = load_file(folder / TENSORS)
    except (OSError, SafetensorError) as e:
        raise UserError(
            f"{folder}: damaged checkpoint ({e}); remove this folder to go on from the one before"
        ) from None
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        owner, _, name = key.partition("/")
        parts.setdefault(owner, {})[name] = value
    return parts


def load(folder: Path, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> dict[str, Any]:
    """Restore a checkpoint into modules and optimisers. Returns its state: the number of steps done, and more."""
    parts = read(folder)
    try:
        for name, module in modules.items():
            module.load_state_dict(parts.get(name, {}))
        for name, optimizer in optimizers.items():
            load_optimizer(optimizer, parts.get(name, {}))
    except (RuntimeError, ValueError, KeyError) as e:
        reason = " ".join(str(e).split())[:200]
        raise UserError(f"{folder}: does not fit this recipe ({reason}); choose another --out") from None
    return _state(folder)


def _state(folder: Path) -> dict[str, Any]:
    try:
        state = read_json(folder / "state.json", "checkpoint", 2**20)
        return dict(state) | {"step": int(state["step"])}
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{folder}: damaged checkpoint (state.json); remove this folder") from None
