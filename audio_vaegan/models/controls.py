"""What a named control is to the networks: a standardised coordinate, a range, bins for its head, a mask."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audio_vaegan.layers import FourierFeatures


@dataclass(frozen=True)
class Control:
    """A named coordinate of the latent.

    `low` and `high` bound what training saw, `mean` and `deviation` standardise it, all in `unit`;
    the auxiliary head tells `bins` values apart over [low, high].
    """

    name: str
    unit: str
    low: float
    high: float
    mean: float
    deviation: float
    bins: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


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
        self.projections = nn.ModuleList(nn.Linear(self.features.dim + 1, dim) for _ in controls)
        if controls:  # DDP wants no parameter that is never used
            self.undefined = nn.Parameter(torch.zeros(len(controls), dim))

    def forward(self, values: Tensor, defined: Tensor) -> Tensor:
        if not len(self.projections):
            return values.new_zeros(len(values), 0)
        values = torch.where(defined, values, torch.zeros_like(values))
        features = torch.cat([values.unsqueeze(-1), self.features(values * self.factor + self.offset)], dim=-1)
        known = torch.stack([p(features[:, i]) for i, p in enumerate(self.projections)], dim=1)
        return torch.where(defined.unsqueeze(-1), known, self.undefined).flatten(1)
