"""Loops that numba compiles: what a chain of small operations of torch spends on handing over between them.

Those of the networks, here, are for float32 on a CPU; GPUs, mixed precision and exports take torch's operations, which
are the same to rounding. Those of the meters, which have no other way, stand beside them in `descriptors/`. Each runs
on one thread, in a third to a half of the time that torch takes on two: CONTRIBUTING.md, "What was done for speed". The
first call on a machine compiles for a few seconds and leaves the result in a cache folder, beside its source or in the
user's own.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Parameter

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp"}}
_ONE, _TWO, _THREE, _HALF = np.float32(1), np.float32(2), np.float32(3), np.float32(0.5)
_TAU, _TURN = np.float32(2 * math.pi), np.float32(0.5 / math.pi)
_S3, _S5, _S7, _S9, _S11 = (np.float32((-1) ** (n // 2) / math.factorial(n)) for n in (3, 5, 7, 9, 11))
_C2, _C4, _C6, _C8, _C10, _C12 = (np.float32((-1) ** (n // 2) / math.factorial(n)) for n in (2, 4, 6, 8, 10, 12))
THREADS = 4  # with more of them torch's operations are taken to be the quicker ones (measured with two only)
_counting = ContextVar("counting", default=False)


def compiled(function: Callable[..., Any]) -> Any:
    """`function` for numba, cached where there is a folder to write to."""
    try:
        return njit(function, cache=True, **_OPTIONS)
    except RuntimeError:  # no such folder
        return njit(function, **_OPTIONS)


@contextlib.contextmanager
def only_torch() -> Iterator[None]:
    """In here `fits` says no: for whoever counts torch's operations."""
    token = _counting.set(True)
    try:
        yield
    finally:
        _counting.reset(token)


def fits(x: Tensor) -> bool:
    """Whether a tensor goes through the loops below: float32 on a CPU, no autocast, values, not a tracer's, and few
    threads."""
    return (
        not _counting.get()
        and type(x) in (Tensor, Parameter)
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.get_num_threads() <= THREADS
    )


def depthwise_norm(x: Tensor, weight: Tensor, bias: Tensor, film: Tensor, one: float, eps: float) -> Tensor:
    """A depthwise convolution over time, layer norm over channels, a gain and an offset, in one go.

    Shape: x `[B, T, C]`, weight `[C, kernel]`, bias `[C]`, film `[B or 1, 2 C]`, gains less `one`, then offsets ->
    `[B, T, C]`. Has a gradient, but no second one.
    """
    out: Tensor = _DepthwiseNorm.apply(x, weight, bias, film, one, eps)
    return out


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution alone."""
    return depthwise_norm(x, weight, bias, x.new_empty(1, 0), 0.0, 0.0)


class _DepthwiseNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, film: Tensor, one: float, eps: float) -> Tensor:
        x, film = x.contiguous(), film.contiguous()
        out, scale = torch.empty_like(x), x.new_empty(x.shape[:2])
        hat = torch.empty_like(x) if any(ctx.needs_input_grad) and film.shape[1] else out
        ctx.save_for_backward(x, weight, film, hat, scale)
        ctx.one = np.float32(one)
        _depthwise_norm(*arrays(x, weight, bias, film), ctx.one, np.float32(eps), *arrays(hat, scale, out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, film, hat, scale = ctx.saved_tensors
        into = [torch.zeros_like(t) for t in (x, weight, weight[:, 0], film)]
        _depthwise_norm_backward(*arrays(gradient.contiguous(), x, weight, film), ctx.one, *arrays(hat, scale, *into))
        return *into, None, None


def locked_spectrum(magnitude: Tensor, written: Tensor, centre: Tensor, turn: Tensor, radius: int) -> Tensor:
    """The spectrum of magnitudes `[B, T, K]` whose phases follow from `written`, `[B, T, 3 K]`: advances by 3, less
    `centre`, are its middle third, offsets its last. `VocoderNetwork._spectrum` says the same in operations of torch.
    """
    out = torch.empty(*magnitude.shape, 2)
    _locked_spectrum(*arrays(magnitude.contiguous(), written.contiguous(), centre, turn), radius, *arrays(out))
    return torch.view_as_complex(out)


def overlap_add(frames: Tensor, window: Tensor, hop: int, skip: int, samples: int) -> Tensor:
    """Frames `[B, T, n]` windowed, added up `hop` apart and divided by the windows' squares, from sample `skip` on, as
    `models/vocoder/istft.py` does it -> `[B, samples]`."""
    out = torch.empty(len(frames), samples)
    _overlap_add(*arrays(frames, window), hop, skip, *arrays(out))
    return out


def arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    """What the loops take: the values of tensors on the CPU, not copied."""
    return [t.detach().numpy() for t in tensors]


@compiled
def _depthwise_norm(x, weight, bias, film, one, eps, hat, scale, out):  # type: ignore[no-untyped-def]
    """`hat` is what is normalised, before gain and offset; it may be `out` where it is not wanted. With a film of no
    channels, nothing is normalised."""
    batch, frames, channels = x.shape
    kernel = weight.shape[1]
    side = kernel // 2
    taps, row = weight.T.copy(), np.empty(channels, np.float32)
    for b in range(batch):
        gain = film[b if len(film) > 1 else 0]
        more = gain[channels:]
        for t in range(frames):
            for c in range(channels):
                row[c] = bias[c]
            for k in range(max(0, side - t), min(kernel, frames + side - t)):
                near, tap = x[b, t + k - side], taps[k]
                for c in range(channels):
                    row[c] += near[c] * tap[c]
            kept, to = hat[b, t], out[b, t]
            if not len(gain):
                for c in range(channels):
                    to[c] = row[c]
                continue
            mean = np.float32(0)
            for c in range(channels):
                mean += row[c]
            mean /= np.float32(channels)
            square = np.float32(0)
            for c in range(channels):
                square += (row[c] - mean) * (row[c] - mean)
            factor = _ONE / np.sqrt(square / np.float32(channels) + eps)
            scale[b, t] = factor
            for c in range(channels):
                row[c] = (row[c] - mean) * factor
            for c in range(channels):
                kept[c] = row[c]
            for c in range(channels):
                to[c] = row[c] * (one + gain[c]) + more[c]


@compiled
def _depthwise_norm_backward(  # type: ignore[no-untyped-def]
    gradient, x, weight, film, one, hat, scale, of_x, of_weight, of_bias, of_film
):
    batch, frames, channels = x.shape
    kernel = weight.shape[1]
    side = kernel // 2
    taps, of_taps, row = weight.T.copy(), np.zeros((kernel, channels), np.float32), np.empty(channels, np.float32)
    for b in range(batch):
        one_film = b if len(film) > 1 else 0
        gain, of_gain = film[one_film], of_film[one_film]
        of_more = of_gain[channels:]
        for t in range(frames):
            g, h = gradient[b, t], hat[b, t]
            for c in range(channels):
                row[c] = g[c]
            if len(gain):
                mean, along = np.float32(0), np.float32(0)
                for c in range(channels):
                    of_gain[c] += g[c] * h[c]
                for c in range(channels):
                    of_more[c] += g[c]
                for c in range(channels):
                    row[c] *= one + gain[c]
                for c in range(channels):
                    mean += row[c]
                for c in range(channels):
                    along += row[c] * h[c]
                mean /= np.float32(channels)
                along /= np.float32(channels)
                for c in range(channels):
                    row[c] = (row[c] - mean - h[c] * along) * scale[b, t]
            for c in range(channels):
                of_bias[c] += row[c]
            for k in range(max(0, side - t), min(kernel, frames + side - t)):
                near, of_near, tap, of_tap = x[b, t + k - side], of_x[b, t + k - side], taps[k], of_taps[k]
                for c in range(channels):
                    of_near[c] += row[c] * tap[c]
                for c in range(channels):
                    of_tap[c] += row[c] * near[c]
    for k in range(kernel):
        for c in range(channels):
            of_weight[c, k] = of_taps[k, c]


@compiled
def _locked_spectrum(magnitude, written, centre, turn, radius, out):  # type: ignore[no-untyped-def]
    batch, frames, bins = magnitude.shape
    around = np.full(bins + 2 * radius, np.float32(-1))
    middle, line = around[radius:], np.empty(bins + 8, np.float32)
    peak, place, phase = np.empty(bins, np.uint8), np.empty(bins + 1, np.int32), np.empty(bins + 1, np.float32)
    real, imaginary = np.empty(bins, np.float32), np.empty(bins, np.float32)
    for b in range(batch):
        for k in range(bins):
            line[k] = 0
        for t in range(frames):
            level, advance, offset, to = magnitude[b, t], written[b, t, bins:], written[b, t, 2 * bins :], out[b, t]
            for k in range(bins):
                middle[k] = level[k]
                peak[k] = 1
            for j in range(2 * radius + 1):
                for k in range(bins):
                    peak[k] &= level[k] >= around[np.uint64(j) + np.uint64(k)]  # signed, it might count from the end
            count = 0
            for k in range(bins):  # without a branch: every bin is noted, and the next one writes over it if it is none
                place[count] = k
                count += peak[k]
            if count == 0:  # NaN throughout: it must come out, and be reported
                count = 1
            for i in range(count):
                phase[i] = line[place[i]] + centre[place[i]] + _THREE * advance[place[i]]
            for i in range(count):
                phase[i] -= _TAU * np.rint(phase[i] * _TURN)
            begin = 0
            for i in range(count):
                end = (place[i] + place[i + 1]) // 2 + 1 if i < count - 1 else bins
                value = phase[i]
                for k in range(8):  # mostly enough, at once; what is too much is written over
                    line[begin + k] = value
                for k in range(begin + 8, end):
                    line[k] = value
                begin = end
            for k in range(bins):
                angle = line[k] + offset[k] + turn[k]
                half = _HALF * (angle - _TAU * np.rint(angle * _TURN))  # within a quarter turn: Taylor's series are
                x = half * half  # exact there to 6e-8
                sine = half * (_ONE + x * (_S3 + x * (_S5 + x * (_S7 + x * (_S9 + x * _S11)))))
                cosine = _ONE + x * (_C2 + x * (_C4 + x * (_C6 + x * (_C8 + x * (_C10 + x * _C12)))))
                real[k] = level[k] * (_ONE - _TWO * sine * sine)
                imaginary[k] = level[k] * (_TWO * sine * cosine)
            for k in range(bins):
                to[k, 0] = real[k]
                to[k, 1] = imaginary[k]


@compiled
def _overlap_add(frames, window, hop, skip, out):  # type: ignore[no-untyped-def]
    batch, count, size = frames.shape
    length = max((count - 1) * hop + size, skip + out.shape[1])
    whole, weight = np.empty(length, np.float32), np.zeros(length, np.float32)
    highest = np.float32(0)
    for i in range(size):
        highest = max(highest, window[i] * window[i])
    for t in range(count):
        to = weight[t * hop :]
        for i in range(size):
            to[i] += window[i] * window[i]
    for i in range(length):
        weight[i] = _ONE / max(weight[i], np.float32(1e-3) * highest)
    wanted, scale = whole[skip:], weight[skip:]
    for b in range(batch):
        for i in range(length):
            whole[i] = 0
        for t in range(count):
            frame, to = frames[b, t], whole[t * hop :]
            for i in range(size):
                to[i] += frame[i] * window[i]
        for i in range(out.shape[1]):
            out[b, i] = wanted[i] * scale[i]
