"""What samples are made from: codes drawn from a prior, under the conditions that are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from audio_vaegan.errors import UserError
from audio_vaegan.models.controls import Values
from audio_vaegan.sound_model import editing
from audio_vaegan.sound_model.sounds import Sound

if TYPE_CHECKING:
    from audio_vaegan.sound_model.model import SoundModel

MISSED = 2.0  # tolerances: 25 cents, or half a deviation of another control
TRIALS = 3  # of other codes in the place of one that cannot be corrected


def sample(
    model: SoundModel,
    items: Sequence[int],
    seed: int,
    truncation: float,
    prior: str,
    closed_loop: bool,
    controls: Mapping[str, Values],
) -> Sound:
    """The latents of the sounds `items` of a seed. See `SoundModel.sample`."""
    sound, asked = _drawn(model, items, seed, truncation, prior, controls)
    if not closed_loop:
        return sound
    sound, off = editing.corrected(model, sound, asked, asked.isfinite())
    for trial in range(1, TRIALS + 1):
        rows = torch.nonzero(off > MISSED).flatten()
        if not len(rows):
            break
        same = {n: sound.controls[n][rows].tolist() for n in controls}
        other, wanted = _drawn(model, [items[i] for i in rows], seed, truncation, prior, same, trial)
        other, further = editing.corrected(model, other, wanted, wanted.isfinite())
        better = further < off[rows]
        kept = rows[better]
        sound.z[kept], off[kept] = other.z[better], further[better]
        for name, value in sound.controls.items():
            value[kept] = other.controls[name][better]
        if sound.own_noise is not None and other.own_noise is not None:
            sound.own_noise[kept] = other.own_noise[better]
    return sound


def _drawn(
    model: SoundModel,
    items: Sequence[int],
    seed: int,
    truncation: float,
    prior: str,
    controls: Mapping[str, Values],
    trial: int = 0,
) -> tuple[Sound, Tensor]:
    """The sounds as drawn, and what was asked of them, standardised `[B, C]` (NaN: not asked)."""
    timbre, values, asked = draw(model, items, seed, truncation, prior, controls, trial)
    sound = model.sound_of(timbre, values, torch.full((len(items),), model.clip_samples))
    for k, name in enumerate(model.controls):
        sound.z[:, k] = editing.coordinate(model, name, sound.z[:, k])
    if "noisiness" in controls:
        sound = replace(sound, own_noise=torch.full((len(items),), torch.nan))
    return sound, asked


def draw(
    model: SoundModel,
    items: Sequence[int],
    seed: int,
    truncation: float,
    prior: str,
    controls: Mapping[str, Values],
    trial: int = 0,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Of the sounds `items` of a seed: timbre codes `[B, D]`, controls in their units (`[B]` each), and which of them
    were asked for, standardised `[B, C]` (NaN: not asked). `trial` counts what was drawn for them before."""
    count = len(items)
    if count < 1:
        raise UserError(f"count must be at least 1, got {count}")
    if not 0 <= seed < 2**63:
        raise UserError(f"seed must lie in 0 ... 2^63 - 1, got {seed}")
    if min(items) < 0:
        raise UserError(f"sounds of a seed are counted from 0, got {min(items)}")
    if not 0 <= truncation <= 2:
        raise UserError(f"truncation must lie in 0 ... 2, got {truncation:g}")
    if prior not in ("auto", "normal", "fitted"):
        raise UserError(f"prior must be auto, normal or fitted, got {prior!r}")
    if prior == "fitted" and model.prior is None:
        raise UserError("this model has no fitted prior; fit one: audio-vaegan fit-controls MODEL --store STORE")
    for name in controls:
        model.control(name)
    size, named = model.vaegan.timbre_dim, len(model.controls)
    draws = torch.stack([_draw(seed, i, size + 2 * named + 1, trial) for i in items])
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


def _draw(seed: int, item: int, size: int, trial: int) -> Tensor:
    """Standard normal numbers `[size]` of one item of a seed."""
    words = np.random.SeedSequence([seed, item, trial] if trial else [seed, item]).generate_state(1, np.uint64)
    return torch.randn(size, generator=torch.Generator().manual_seed(int(words[0]) >> 1))
