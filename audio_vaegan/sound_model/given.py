"""What a model is given: audio, and controls that are known of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.audio import BadAudio, read
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.models.controls import Control, Values

CHANNELS = 8  # where so few "samples" are given of more "sounds", these are channels of samples


def audio(sound: str | Path | NDArray[np.floating] | Tensor, sample_rate: int) -> Tensor:
    """A whole file at a sample rate, mono `[1, samples]`; audio `[samples]` or `[B, samples]` in [-1, 1], which is at
    that rate, as `[B, samples]`. Raises UserError for what is no such audio."""
    if isinstance(sound, str | Path):
        try:
            found = torch.from_numpy(read(Path(sound), sample_rate)[0]).unsqueeze(0)
            if not found.numel():
                raise BadAudio(f"shorter than one sample at {sample_rate} Hz")
            return found
        except BadAudio as e:
            raise UserError(f"{sound}: {e}") from None
    try:
        numbers = sound.detach() if isinstance(sound, Tensor) else _tensor(np.asarray(sound))
    except (TypeError, ValueError):
        raise UserError("audio must be a file, or numbers [samples] or [B, samples]") from None
    if not numbers.is_floating_point():
        raise UserError(f"audio must be floats in [-1, 1], got {numbers.dtype}; divide 16-bit integers by 32768")
    numbers = torch.atleast_2d(numbers.float().cpu())
    shape = [*numbers.shape]
    if len(shape) != 2 or not numbers.numel() or not torch.isfinite(numbers).all():
        raise UserError(f"audio must be finite, [samples] or [B, samples], got shape {shape}")
    if shape[1] <= CHANNELS < shape[0]:
        raise UserError(f"audio must be [samples] or [B, samples], got {shape}; of several channels take the mean")
    return numbers


def _tensor(array: NDArray[Any]) -> Tensor:
    """An array of any order of bytes and samples."""
    return torch.from_numpy(np.array(array, dtype=np.float32) if array.dtype.kind == "f" else np.array(array))


def known(controls: Mapping[str, Control], values: Mapping[str, Values], count: int) -> dict[str, Tensor]:
    """Controls that are known of `count` real sounds, `[count]` each. Raises UserError for what cannot be one."""
    found = {name: named(controls, name).numbers(value, count) for name, value in values.items()}
    pitch = found.get("pitch", torch.zeros(0))
    if not ((pitch >= 0) & (pitch <= 127)).all():
        raise UserError(f"pitch must lie in 0 ... 127 (MIDI; A4 is 69), got {values['pitch']}")
    return found


def named(controls: Mapping[str, Control], name: str) -> Control:
    """A control. Raises UserError that names the ones there are."""
    if name not in controls:
        raise UserError(f"this model has no control {name!r}.{did_you_mean(name, controls)}")
    return controls[name]
