"""What the processes of a launch do together: stop, begin at the same step, hold the same weights."""

import signal
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator
from torch import nn

from audio_vaegan.errors import Failure, UserError


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


def any_rank(flag: bool, accelerator: Accelerator) -> bool:
    if accelerator.num_processes == 1:
        return flag
    value = torch.tensor([float(flag)], device=accelerator.device)
    return float(accelerator.reduce(value, reduction="sum").item()) > 0


def same_everywhere(start: int, accelerator: Accelerator, run: Path) -> None:
    steps = accelerator.gather(torch.tensor([start], device=accelerator.device)).tolist()
    if len(set(steps)) > 1:
        raise UserError(
            f"--out {run}: not every process sees its checkpoints; it must be on storage that all nodes share"
        )


def agree(modules: dict[str, nn.Module], accelerator: Accelerator) -> bool:
    """Whether all weights are finite. Raises Failure when the processes' weights have drifted apart, which DDP itself
    never notices."""
    weights = [p.detach() for m in modules.values() for p in m.parameters()]
    norms = torch.stack(torch._foreach_norm(weights)).double()
    everywhere = accelerator.gather(norms.unsqueeze(0))
    if not torch.isfinite(everywhere).all():
        return False
    if not torch.allclose(everywhere, everywhere[:1], rtol=1e-6, atol=0):
        raise Failure("the processes' weights differ: a fault in the training step; please report it with the recipe")
    return True
