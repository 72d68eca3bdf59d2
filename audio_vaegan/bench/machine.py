"""A fair clock, and what the machine could do at best: the roof under which every figure stands."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry
from tqdm import tqdm

from audio_vaegan.compiled import only_torch

Call = Callable[[], Any]
ROUNDS = 5  # at least so many turns, however long they take
SHAPES = ((1024, 256, 768), (1024, 768, 256), (2048, 2048, 2048))  # rows, in, out: of networks like these, and large
COPIED = 2**26  # numbers


@dataclass(frozen=True)
class Machine:
    """Rates measured here: matrix products in float32, operations a second (a multiply-add is two), and memory, bytes
    a second read and written by a copy."""

    device: str
    name: str
    threads: int
    operations: float
    memory: float

    def floor(self, operations: float, moved: float = 0.0) -> float:
        """The least seconds that so many operations, and so many bytes moved, can take (Williams et al. 2009)."""
        return max(operations / self.operations, moved / self.memory)


def measure_machine(device: torch.device) -> Machine:
    """The best of some matrix shapes, each its median: what a network can hope for, not what a data sheet says."""
    rates = []
    with torch.inference_mode():
        for rows, inputs, outputs in SHAPES:
            x, w = torch.randn(rows, inputs, device=device), torch.randn(outputs, inputs, device=device)
            seconds = median(in_turns({"": lambda x=x, w=w: F.linear(x, w)}, device, 0.5)[""])  # type: ignore[misc]
            rates.append(2 * rows * inputs * outputs / seconds)
        a = torch.zeros(COPIED, device=device)
        b = torch.empty_like(a)
        seconds = median(in_turns({"": lambda: b.copy_(a)}, device, 0.5)[""])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return Machine(str(device), name, torch.get_num_threads(), max(rates), 8 * COPIED / seconds)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as f:
            names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
        return names[0] if names else "CPU"
    except OSError:
        return "CPU"


def in_turns(
    calls: Mapping[str, Call],
    device: torch.device,
    seconds: float = 2.0,
    title: str = "",
    rounds: int = ROUNDS,
    stay: float = 0.0,
) -> dict[str, list[float]]:
    """Seconds of each call, in turns, so that a busy minute of the machine falls on all alike.

    As many turns as let the quickest run for so many `seconds` in all, or the dearest for ten times as many; `rounds`
    at least, a thousand at most; one turn before is not counted. In a turn each is called once, and again until `stay`
    seconds are over: the quick ones else always find the caches full of what the slow ones left.
    """
    took: dict[str, list[float]] = {name: [] for name in calls}
    bar = tqdm(total=rounds + 1, desc=title, unit="turn", leave=False, disable=not title)
    turn, turns = -1, rounds
    while turn < turns:
        for name, call in calls.items():
            _wait(device)
            began = now = time.perf_counter()
            while True:
                call()
                _wait(device)
                before, now = now, time.perf_counter()
                took[name].append(now - before)
                if now - began >= stay:
                    break
        turn += 1
        if turn == 0:  # the first was slow: what is loaded and tuned at first use
            each = [max(stay, found[-1]) for found in took.values()]
            took = {name: [] for name in calls}
            wanted = min(seconds / min(each), 10 * seconds / max(each), 1000.0)
            turns = max(rounds, round(wanted))
            bar.total = turns + 1
        bar.update()
    bar.close()
    return took


def median(seconds: list[float]) -> float:
    return statistics.median(seconds)


def percentile(seconds: list[float], share: float) -> float:
    """The time that this share of the turns did not exceed."""
    return sorted(seconds)[min(len(seconds) - 1, round(share * (len(seconds) - 1)))]


def operations(call: Call) -> float:
    """Floating-point operations of matrix products and convolutions, two a multiply-add, as counted while it runs.
    Transforms, norms and element-wise work are not counted."""
    with only_torch(), _Counter() as counter:
        call()
    return float(counter.total)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution_backward.default:
            # Each gradient is as dear as the output; torch's own formula forgets that the channels of a depthwise
            # convolution do not meet.
            grad, x, weight = args[:3]
            mask = args[10]
            once = conv_flop_count([*x.shape], [*weight.shape], [*grad.shape], transposed=args[7])
            self.total += sum(map(bool, mask[:2])) * once
        elif (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def tensor_bytes(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
