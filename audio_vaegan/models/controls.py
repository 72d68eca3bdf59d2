"""What a named control is to the networks: a standardised coordinate, a range, bins for its head, a mask."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.layers import FourierFeatures

Values = float | str | Sequence[float] | Sequence[str] | NDArray[np.floating] | Tensor


@dataclass(frozen=True)
class Control:
    """A named coordinate of the latent.

    `low` and `high` bound what training saw, `mean` and `deviation` standardise it, all in `unit`;
    the auxiliary head tells `bins` values apart over [low, high]. A class has `classes`, the names of its values
    0, 1, 2 ...; its mean is 0 and its deviation 1.
    """

    name: str
    unit: str
    low: float
    high: float
    mean: float
    deviation: float
    bins: int
    classes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"classes": list(self.classes)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Control":
        return cls(**value | {"classes": tuple(value["classes"])})

    def at(self, share: Tensor) -> Tensor:
        """The value at a share [0, 1) of the range, or the class there."""
        if self.classes:
            return (share * len(self.classes)).floor().clamp_max(len(self.classes) - 1)
        return self.low + (self.high - self.low) * share

    def numbers(self, value: Values, count: int) -> Tensor:
        """Values asked for as `[count]` numbers: one for all, or one each; a class by its name or its number."""
        given: Any = value
        if self.classes:
            given = [self._class(v) for v in np.atleast_1d(np.asarray(value)).tolist()]
        try:
            tensor = torch.as_tensor(np.asarray(given, dtype=np.float32)).reshape(-1)
        except ValueError:
            raise UserError(f"{self.name} must be a number, got {value!r}") from None
        if len(tensor) not in (1, count):
            raise UserError(f"{self.name}: give one value, or {count}, got {len(tensor)}")
        if not torch.isfinite(tensor).all():
            raise UserError(f"{self.name} must be a number, got {value}")
        return tensor.expand(count).clone()

    def _class(self, value: str | float) -> float:
        if isinstance(value, str):
            if value not in self.classes:
                raise UserError(f"{self.name}: no class {value!r}.{did_you_mean(value, self.classes)}")
            return float(self.classes.index(value))
        if not math.isfinite(value) or value != int(value):
            raise UserError(f"{self.name} is a class: give its name or number, got {value:g}")
        if not 0 <= value < len(self.classes):
            raise UserError(f"{self.name} has the classes 0 ... {len(self.classes) - 1}, got {value:g}")
        return float(value)

    def in_range(self, values: Tensor) -> Tensor:
        """The values themselves. Raises UserError when one lies outside what training saw."""
        outside = (values < self.low - 1e-3) | (values > self.high + 1e-3)
        if outside.any():
            raise UserError(
                f"{self.name} {float(values[outside][0]):g} lies outside the trained range "
                f"{self.low:g} ... {self.high:g} {self.unit}"
            )
        return values

    def wanted(self, value: Values, count: int) -> Tensor:
        return self.in_range(self.numbers(value, count))

    def show(self, value: float) -> str | float:
        """A value as a person reads it: the class's name, or the number."""
        return self.classes[int(value)] if self.classes and value == value else value


def table(controls: Sequence[Control], field: str) -> Tensor:
    """One field of every control as a float32 vector `[C]`."""
    return torch.tensor([float(getattr(c, field)) for c in controls], dtype=torch.float32)


class ControlEmbedding(nn.Module):
    """Controls -> a smooth embedding; an undefined control has a learned embedding of its own.

    Shape: standardised values `[B, C]`, defined `[B, C]` bool -> `[B, C * dim]`. The undefined value is never read.
    """

    offset: Tensor
    factor: Tensor

    def __init__(self, controls: Sequence[Control], dim: int = 64, octaves: int = 5) -> None:
        super().__init__()
        low, high = table(controls, "low"), table(controls, "high")
        mean, deviation = table(controls, "mean"), table(controls, "deviation")
        # standardised s -> u = (s * deviation + mean - low) / (high - low), kept a little inside (0, 1)
        self.register_buffer("factor", 0.9 * deviation / (high - low), persistent=False)
        self.register_buffer("offset", 0.9 * (mean - low) / (high - low) + 0.05, persistent=False)
        self.features = FourierFeatures(octaves)
        self.projections = nn.ModuleList(
            nn.Embedding(len(c.classes), dim) if c.classes else nn.Linear(self.features.dim + 1, dim) for c in controls
        )
        if controls:  # DDP wants no parameter that is never used
            self.undefined = nn.Parameter(torch.zeros(len(controls), dim))

    def forward(self, values: Tensor, defined: Tensor) -> Tensor:
        if not len(self.projections):
            return values.new_zeros(len(values), 0)
        values = torch.where(defined, values, torch.zeros_like(values))
        features = torch.cat([values.unsqueeze(-1), self.features(values * self.factor + self.offset)], dim=-1)
        known = torch.stack(
            [
                p(values[:, i].round().long().clamp(0, p.num_embeddings - 1))
                if isinstance(p, nn.Embedding)
                else p(features[:, i])
                for i, p in enumerate(self.projections)
            ],
            dim=1,
        )
        return torch.where(defined.unsqueeze(-1), known, self.undefined).flatten(1)
