"""What is fitted to a model after training and lies beside it: calibration, prior, directions.

BUNDLE/controls.json         what was fitted, measured on what; the hash of the model it was measured on
       controls.safetensors  the prior, the directions, how real sounds score, how loud bands can be
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.numpy import load, save

from audio_vaegan.control.calibration import IDENTITY, Map
from audio_vaegan.control.directions import Direction
from audio_vaegan.control.prior import Prior
from audio_vaegan.control.usual import QUANTILES, Features, Usual
from audio_vaegan.errors import UserError
from audio_vaegan.files import read_bytes, read_json, sweep, write_atomic, write_json

# 2: decoded mels read as their controls say; 3: noisiness set in the audio; 4: where asked; 5: silence stays silence
VERSION = 5
_PRIOR = ("weight", "mean", "covariance", "defined")  # arrays of Prior
_USUAL = ("median", "spread", "quantiles", "mean", "axes")  # arrays of Usual and Features
FILE, TENSORS = "controls.json", "controls.safetensors"


@dataclass(frozen=True)
class Calibration:
    """One control as it was measured on sounds of instruments that training never saw, by an independent meter.

    `low` ... `high` is the range that can be asked for, in `unit`. Of `n` edits in open loop and with the closed loop:
    the correlation of what was asked with what was measured, and the median and 95th percentile of the error in `unit`.
    `leakage` (open loop) in deviations of the other control a deviation of this one (an octave for pitch), on average.
    """

    unit: str
    low: float
    high: float
    map: Map = IDENTITY
    n: int = 0
    r: float | None = None
    p50: float | None = None
    p95: float | None = None
    closed_r: float | None = None
    closed_p50: float | None = None
    closed_p95: float | None = None
    monotone: float | None = None
    leakage: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """All of it; `model_hash` is the model's, `about` says what it was measured on. `ceiling` `[n_mels]`: the most that
    bands lay above the mean of their frame in training, in normalised log-mel."""

    model_hash: str
    controls: dict[str, Calibration] = field(default_factory=dict)
    prior: Prior | None = None
    directions: dict[str, Direction] = field(default_factory=dict)
    usual: Usual | None = None
    about: dict[str, Any] = field(default_factory=dict)
    ceiling: NDArray[np.float64] | None = None

    def with_directions(self, more: Mapping[str, Direction]) -> "Fitted":
        return replace(self, directions={**self.directions, **more})


def save_fitted(fitted: Fitted, folder: Path) -> None:
    """Write the two files into a bundle, each whole or not at all; the JSON last, with the hash of the tensors."""
    tensors = {f"direction.{name}": d.vector for name, d in fitted.directions.items()}
    if fitted.prior is not None:
        tensors |= {f"prior.{k}": getattr(fitted.prior, k) for k in (*_PRIOR, "kind")}
    if fitted.ceiling is not None:
        tensors["ceiling"] = fitted.ceiling
    usual = fitted.usual
    if usual is not None:
        arrays = {"usual": usual} if usual.features is None else {"usual": usual, "usual.features": usual.features}
        tensors |= {f"{a}.{k}": v for a, part in arrays.items() for k, v in vars(part).items() if k in _USUAL}
    tensors = {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in tensors.items()}
    content = save(tensors)
    sweep(folder)
    write_atomic(folder / TENSORS, content)
    write_json(
        folder / FILE,
        {
            "version": VERSION,
            "model_hash": fitted.model_hash,
            "tensors_sha256": hashlib.sha256(content).hexdigest(),
            "about": fitted.about,
            "controls": {name: asdict(c) for name, c in fitted.controls.items()},
            "usual": None if usual is None else {"names": usual.names, "features": usual.features is not None},
            "prior": None if fitted.prior is None else {"radius": fitted.prior.radius},
            "directions": {
                name: {k: v for k, v in vars(d).items() if k != "vector"} for name, d in fitted.directions.items()
            },
        },
    )


def load_fitted(folder: Path, model_hash: str) -> Fitted | None:
    """What lies beside a model; None if nothing was fitted. Raises UserError if it was fitted to another model, or is
    damaged."""
    path = folder / FILE
    if not path.is_file():
        return None
    text: Any = read_json(path, "model")
    again = f"fit it again: audio-vaegan fit-controls {folder} --store STORE"
    if not isinstance(text, dict) or text.get("version") != VERSION:
        raise UserError(f"{path}: not of version {VERSION}; {again}")
    if text.get("model_hash") != model_hash:
        other = str(text.get("model_hash"))[:12]
        raise UserError(f"{path} was measured on another model ({other}, this is {model_hash[:12]}); {again}")
    try:
        content = read_bytes(folder / TENSORS)
        if hashlib.sha256(content).hexdigest() != text["tensors_sha256"]:
            raise ValueError(f"{TENSORS} is not the one that was written with it")
        tensors = {k: v.astype(np.float64) for k, v in load(content).items()}
        if not all(np.isfinite(v).all() for v in tensors.values()):
            raise ValueError("NaN or infinite values")
        controls = {name: _calibration(c) for name, c in text["controls"].items()}
        directions = {
            name: Direction(**d, vector=tensors[f"direction.{name}"]) for name, d in text["directions"].items()
        }
        prior = None
        if text["prior"] is not None:
            prior = _prior(float(text["prior"]["radius"]), tensors)
        usual = None if text.get("usual") is None else _usual(text["usual"], tensors)
        if not all(np.isfinite([d.low, d.high, d.score, d.count]).all() for d in directions.values()):
            raise ValueError("a direction of NaN")
        fitted = Fitted(model_hash, controls, prior, directions, usual, dict(text["about"]), tensors.get("ceiling"))
    except (AttributeError, KeyError, TypeError, ValueError, OSError, SafetensorError) as e:
        reason = " ".join(str(e).split())[:120]
        raise UserError(f"{path}: damaged ({type(e).__name__}: {reason}); {again}") from None
    return fitted


def _prior(radius: float, tensors: dict[str, Any]) -> Prior:
    parts = {k: tensors[f"prior.{k}"] for k in _PRIOR}
    kind = tensors.get("prior.kind", np.zeros(len(parts["weight"]))).astype(np.int64)  # before, all were of one kind
    if not ((kind >= 0) & (kind < len(parts["covariance"]))).all():
        raise ValueError("the prior has not the kinds that it names")
    return Prior(**parts, kind=kind, radius=radius)


def _usual(value: dict[str, Any], tensors: dict[str, Any]) -> Usual:
    names = tuple(str(n) for n in value["names"])
    median, spread, quantiles = (tensors[f"usual.{k}"] for k in ("median", "spread", "quantiles"))
    if not len(names) == len(median) == len(spread) or not (spread > 0).all() or quantiles.shape != QUANTILES.shape:
        raise ValueError("the scores of usual sounds do not fit together")
    features = None
    if value["features"]:
        features = Features(tensors["usual.features.mean"], tensors["usual.features.axes"])
        if features.axes.ndim != 2 or features.mean.shape != features.axes.shape[1:]:
            raise ValueError("the features of usual sounds do not fit together")
    return Usual(names, median, spread, quantiles, features)


def _calibration(value: dict[str, Any]) -> Calibration:
    Calibration(**value)  # names that are not known
    return TypeAdapter(Calibration).validate_python(value)
