"""What samples are made from: codes drawn from a prior, under the conditions that are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from audio_vaegan.errors import UserError
from audio_vaegan.models.controls import Values

if TYPE_CHECKING:
    from audio_vaegan.sound_model.model import SoundModel


def draw(
    model: SoundModel,
    items: Sequence[int],
    seed: int,
    truncation: float,
    prior: str,
    controls: Mapping[str, Values],
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Of the sounds `items` of a seed: timbre codes `[B, D]`, controls in their units (`[B]` each), and which of them
    were asked for, standardised `[B, C]` (NaN: not asked). See `SoundModel.sample`."""
    count = len(items)
    if count < 1:
        raise UserError(f"count must be at least 1, got {count}")
    if not 0 <= seed < 2**63 or min(items) < 0:
        raise UserError(f"seed must lie in 0 ... 2^63 - 1, got {seed}")
    if not 0 <= truncation <= 2:
        raise UserError(f"truncation must lie in 0 ... 2, got {truncation:g}")
    if prior not in ("auto", "normal", "fitted"):
        raise UserError(f"prior must be auto, normal or fitted, got {prior!r}")
    if prior == "fitted" and model.prior is None:
        raise UserError("this model has no fitted prior; fit one: audio-vaegan fit-controls MODEL --store STORE")
    for name in controls:
        model.control(name)
    size, named = model.vaegan.timbre_dim, len(model.controls)
    draws = torch.stack([_draw(seed, i, size + 2 * named + 1) for i in items])
    even = 0.5 * (1 + torch.erf(draws[:, size:] / 2**0.5))  # a normal draw's place in its distribution
    asked = torch.full((count, named), torch.nan)
    for k, (name, control) in enumerate(model.controls.items()):
        if name in controls:
            asked[:, k] = control.standard(control.wanted(controls[name], count, even[:, k]))
    if model.prior is not None and prior != "normal":
        normal = torch.cat([draws[:, size : size + named], draws[:, :size]], dim=1)
        # One at a time: a matrix product of one row may round otherwise than one of many, and each sound is the same
        # in any company.
        rows = zip(normal.numpy()[:, None], even[:, None, named:].numpy(), asked.numpy()[:, None], strict=True)
        z = torch.from_numpy(np.concatenate([model.prior.sample(*row, truncation=truncation) for row in rows]))
        drawn, timbre = z[:, :named].float(), z[:, named:].float()
    else:
        timbre, drawn = truncation * draws[:, :size], asked.clone()
        for k, control in enumerate(model.controls.values()):
            spread = control.standard(control.at(even[:, k]))
            own = spread if control.name == "pitch" or control.classes else truncation * draws[:, size + k]
            drawn[:, k] = torch.where(asked[:, k].isnan(), own, asked[:, k])
    values = {}
    for k, (name, control) in enumerate(model.controls.items()):
        value = control.value(drawn[:, k])
        values[name] = (value.round() if control.classes else value).clamp(control.low, control.high)
    return timbre, values, asked


def _draw(seed: int, item: int, size: int) -> Tensor:
    """Standard normal numbers `[size]` of one item of a seed."""
    words = np.random.SeedSequence([seed, item]).generate_state(1, np.uint64)
    return torch.randn(size, generator=torch.Generator().manual_seed(int(words[0]) >> 1))
