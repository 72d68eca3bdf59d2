"""What a row of the store says of its clip: labels that came with the data, else what the meters found."""

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from audio_vaegan.descriptors import measure, note_number

MIDI = (-36.0, 152.0)  # 1 Hz to 53 kHz: what a label of pitch may be


def describe(audio: Tensor, length: Tensor, sample_rate: int, rows: list[dict[str, Any]]) -> None:
    """Add every descriptor to the rows of some clips `[B, samples]`: NAME_measured, and NAME, for which a number of
    that name among the labels wins over the meter."""
    with torch.no_grad():
        found = {name: values.double().tolist() for name, values in measure(audio, sample_rate, length).items()}
    for i, row in enumerate(rows):
        labels = json.loads(row["labels"])
        for name, values in found.items():
            measured = round(values[i], 4) if math.isfinite(values[i]) else None
            row[f"{name}_measured"] = measured
            labelled = _label(name, labels)
            row[name] = measured if labelled is None else labelled
        row["pitch_from"] = (
            "label" if _label("pitch", labels) is not None else None if row["pitch"] is None else "meter"
        )


def _label(name: str, labels: dict[str, Any]) -> float | None:
    """The label of a descriptor, in its unit."""
    if name in ("pitch", "pitch_hz"):
        midi = pitch_label(labels)
        return midi if midi is None or name == "pitch" else round(440 * 2 ** ((midi - 69) / 12), 4)
    return _number(labels.get(name))


def pitch_label(labels: dict[str, Any]) -> float | None:
    """The pitch that labels give, in MIDI: `pitch` as a number or a note's name, or `pitch_hz`."""
    value = labels.get("pitch")
    midi = note_number(value) if isinstance(value, str) else _number(value)
    hz = _number(labels.get("pitch_hz"))
    if midi is None and hz is not None and hz > 0:
        midi = 69 + 12 * math.log2(hz / 440)
    return midi if midi is not None and MIDI[0] <= midi <= MIDI[1] else None


def among(value: Any, wanted: Sequence[str | int]) -> bool:
    """Whether a label is one of some values; a label that is text, such as a folder's name, is compared as text."""
    return value in wanted or (isinstance(value, str) and value in map(str, wanted))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
