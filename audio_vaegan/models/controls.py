"""What a named control is to the networks: a standardised coordinate, a range, bins for its head, a mask."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor, nn

from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.layers import FourierFeatures

MOST_BINS = 8192  # of a head, as many as classes


@dataclass(frozen=True)
class Between:
    """A condition: each sound's value is drawn evenly from `low` ... `high`."""

    low: float
    high: float


Values = float | str | Between | Sequence[float] | Sequence[str] | NDArray[np.floating] | Tensor


@dataclass(frozen=True)
class Control:
    """A named coordinate of the latent.

    `low` and `high` bound what training saw, in `unit`; the auxiliary head tells `bins` values apart over that range.
    `mean` and `deviation` standardise the value, or with a `bend` what its long tails are bent to: bend * asinh(value /
    bend), which is nearly the value itself up to the bend and its logarithm beyond. A class has `classes`, the names of
    its values 0, 1, 2 ...; its mean is 0 and its deviation 1.
    """

    name: str
    unit: str
    low: float
    high: float
    mean: float
    deviation: float
    bins: int
    classes: tuple[str, ...] = ()
    bend: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"classes": list(self.classes)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Control":
        """Of what `to_json` made. Raises ValueError and TypeError for what can be no control."""
        cls(**value)  # names that are not known
        found = TypeAdapter(cls).validate_python(value)
        numbers = (found.low, found.high, found.mean, found.deviation, found.bend)
        if not all(map(math.isfinite, numbers)) or found.deviation <= 0 or found.bend < 0 or found.low > found.high:
            raise ValueError(f"control {found.name}: its range or scale is none")
        if not 1 <= found.bins <= MOST_BINS or len(found.classes) > MOST_BINS:
            raise ValueError(f"control {found.name}: {found.bins} bins, {len(found.classes)} classes")
        return found

    def standard(self, values: Tensor) -> Tensor:
        """Values in the unit -> standardised coordinates."""
        bent = self.bend * torch.asinh(values / self.bend) if self.bend else values
        return (bent - self.mean) / self.deviation

    def value(self, standard: Tensor) -> Tensor:
        """Standardised coordinates -> values in the unit."""
        bent = standard * self.deviation + self.mean
        return self.bend * torch.sinh(bent / self.bend) if self.bend else bent

    @property
    def standard_range(self) -> tuple[float, float]:
        """`low` and `high`, standardised."""
        low, high = self.standard(torch.tensor([self.low, self.high], dtype=torch.float64)).tolist()
        return low, high

    def at(self, share: Tensor) -> Tensor:
        """The value at a share [0, 1) of the range, or the class there."""
        if self.classes:
            return (share * len(self.classes)).floor().clamp_max(len(self.classes) - 1)
        return self.low + (self.high - self.low) * share

    def numbers(self, value: Values, count: int) -> Tensor:
        """Values asked for as `[count]` numbers: one for all, or one each; a class by its name or its number."""
        if isinstance(value, Between):
            raise UserError(f"{self.name}: a range is for new sounds; give a number, or one each")
        given: Any = value
        if self.classes:
            given = [self._class(v) for v in np.atleast_1d(np.asarray(value)).tolist()]
        try:
            tensor = torch.as_tensor(np.asarray(given, dtype=np.float32)).reshape(-1)
        except (TypeError, ValueError):
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

    def wanted(self, value: Values, count: int, even: Tensor | None = None) -> Tensor:
        """Values asked for `[count]`, checked; `even` `[count]` in [0, 1) says where between two ends they lie."""
        if not isinstance(value, Between):
            return self.in_range(self.numbers(value, count))
        ends = self.in_range(self.numbers([value.low, value.high], 2))
        if self.classes or ends[0] > ends[1]:
            what = "a class has no range" if self.classes else f"the lower end first, got {value.low:g}:{value.high:g}"
            raise UserError(f"{self.name}: {what}")
        place = torch.zeros(count) if even is None else even
        return ends[0] + (ends[1] - ends[0]) * place

    def show(self, value: float) -> str | float:
        """A value as a person reads it: the class's name, or the number."""
        return self.classes[int(value)] if self.classes and value == value else value


def standardise(controls: Sequence[Control], values: Tensor) -> Tensor:
    """Values in their units `[B, C]` -> standardised; undefined ones (NaN) stay NaN."""
    return torch.stack([c.standard(values[:, i]) for i, c in enumerate(controls)], 1) if controls else values


class ControlEmbedding(nn.Module):
    """Controls -> a smooth embedding; an undefined control has a learned embedding of its own.

    Shape: standardised values `[B, C]`, defined `[B, C]` bool -> `[B, C * dim]`. The undefined value is never read.
    """

    offset: Tensor
    factor: Tensor

    def __init__(self, controls: Sequence[Control], dim: int = 64, octaves: int = 5) -> None:
        super().__init__()
        low, high = torch.tensor([c.standard_range for c in controls]).reshape(-1, 2).T
        # standardised s -> u = (s - low) / (high - low), kept a little inside (0, 1)
        self.register_buffer("factor", 0.9 / (high - low), persistent=False)
        self.register_buffer("offset", 0.05 - 0.9 * low / (high - low), persistent=False)
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
