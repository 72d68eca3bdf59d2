"""Sounds under other controls: what is asked, where the coordinates go, and the loop that corrects them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audio_vaegan.control.closed_loop import close_loop
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.models.controls import Control, Values
from audio_vaegan.sound_model.sounds import Edited, Sound

if TYPE_CHECKING:
    from audio_vaegan.sound_model.model import SoundModel

MARGIN = 0.3  # deviations beyond the range that the closed loop may set a coordinate to
DETUNED = 0.25  # semitones that the closed loop may correct the pitch by
IN_TUNE = 0.5  # semitones that weigh in the closed loop as much as a deviation of another control
ASKED = 0.25  # of that: what weighs as much in a control that was asked for
BATCH = 32


def edit(
    model: SoundModel,
    sound: Sound,
    shift: Mapping[str, Values],
    to: Mapping[str, Values],
    move: Mapping[str, float],
    closed_loop: bool,
) -> Edited:
    """See `SoundModel.edit`."""
    requested = _requested(model, sound, shift, to)
    edited = under(model, sound, requested)
    for name, amount in move.items():
        edited = _moved(model, edited, name, float(amount))
    named = model.controls.items()
    own, asked = (torch.stack([c.standard(v[n]) for n, c in named], 1) for v in (sound.controls, requested))
    changed = (own != asked) & asked.isfinite()
    if closed_loop and (changed.any() or move):
        plain = hear(model, sound)  # what is not asked for stays as it is
        edited, _ = corrected(model, edited, torch.where(changed, asked, plain), changed)
    clip = model.decode(edited)
    achieved = model.measure(clip.audio, edited.samples)
    residual = {n: achieved[n] - requested[n] for n in model.controls}
    return Edited(**vars(clip), requested=requested, achieved=achieved, residual=residual)


def least_brightness(sound: Sound, pitch: Tensor) -> Tensor | None:
    """The brightness `[B]` (semitones re 440 Hz) below which a sound of `pitch` `[B]` (MIDI) has none: that of its
    fundamental, or as far below as the sound's own lies; NaN where undefined. Asked for less, a model raises rumble.
    None where the model lacks either control."""
    if not {"pitch", "brightness"} <= sound.controls.keys():
        return None
    below = sound.controls["brightness"] - (sound.controls["pitch"] - 69)
    return pitch - 69 + below.clamp_max(0)


def _requested(
    model: SoundModel, sound: Sound, shift: Mapping[str, Values], to: Mapping[str, Values]
) -> dict[str, Tensor]:
    """The controls `[B]` each that an edit asks for."""
    requested = dict(sound.controls)
    for name, value in shift.items():
        control = model.control(name)
        if control.classes:
            raise UserError(f"{name} is a class: set it ({', '.join(control.classes)}), it cannot be shifted")
        own, amount = sound.controls[name], control.numbers(value, len(sound))
        if own.isnan().any():
            mend = f"set it (--set-{_flag(name)})" + (", or say what it is (--input-pitch)" if name == "pitch" else "")
            raise UserError(f"{name} is undefined for this sound, so that it cannot be shifted; {mend}")
        for i in torch.nonzero(amount).flatten():
            try:
                control.in_range((own + amount)[i : i + 1])
            except UserError as e:
                hint = _set_instead(control, float(amount[i]))
                raise UserError(f"{e} (this sound has {float(own[i]):.2f}, and is moved by {hint})") from None
        requested[name] = own + amount
    for name, value in to.items():
        if name in shift:
            raise UserError(f"{name}: give a shift or a value, not both")
        control = model.control(name)
        requested[name] = control.in_range(control.numbers(value, len(sound)))
    return requested


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _set_instead(control: Control, amount: float) -> str:
    """An amount that a control was to be moved by; with it, where it could be meant as a value, what sets that."""
    meant = control.low <= amount <= control.high
    return f"{amount:g}" + (f"; to set it to {amount:g}: --set-{_flag(control.name)} {amount:g}" if meant else "")


def under(model: SoundModel, sound: Sound, controls: Mapping[str, Tensor]) -> Sound:
    """The sound under other controls. From one value to another a coordinate moves as far as the calibrated map does
    between them, so that no change is no move, and a change and its opposite return."""
    z = sound.z.clone()
    for k, (name, c) in enumerate(model.controls.items()):
        if name in controls:
            now, then = (coordinate(model, name, c.standard(v[name])) for v in (sound.controls, controls))
            z[:, k] = torch.where(now.isnan() | then.isnan(), then, z[:, k] + (then - now))
    return replace(sound, z=z, controls={**sound.controls, **controls})


def coordinate(model: SoundModel, name: str, standard: Tensor) -> Tensor:
    """Where a control's coordinate must stand for a (standardised) value to be heard."""
    if name not in model.fitted.controls:
        return standard
    return torch.from_numpy(model.fitted.controls[name].map(standard.double().numpy())).float()


def _moved(model: SoundModel, sound: Sound, name: str, amount: float) -> Sound:
    """The sound some units along a direction that was fitted after training."""
    if name not in model.directions:
        mend = f" Fit it with: audio-vaegan directions MODEL --store STORE --attribute {name}"
        raise UserError(f"this model has no direction {name!r}.{did_you_mean(name, model.directions)}{mend}")
    d = model.directions[name]
    most = d.high - d.low
    if not abs(amount) <= most:
        raise UserError(f"{name}: move it by {-most:g} ... {most:g}, got {amount:g}")
    z = sound.z + amount * torch.from_numpy(d.vector).float()
    return replace(sound, z=torch.where(sound.z.isnan(), sound.z, z))


def corrected(model: SoundModel, sound: Sound, wanted: Tensor, changed: Tensor) -> tuple[Sound, Tensor]:
    """The sound, its code corrected so that `wanted` `[B, C]` (standardised; NaN: not asked) is heard, and where
    `changed` `[B, C]` most of all. With it, how far the worst of what is wanted is off `[B]`, in tolerances."""
    controls = [*model.controls.values()]
    ranges = torch.tensor([c.standard_range for c in controls]).reshape(-1, 2)
    own = sound.z[:, : len(controls)]
    low, high = torch.fmin(own, ranges[:, 0] - MARGIN), torch.fmax(own, ranges[:, 1] + MARGIN)
    for k, c in enumerate(controls):
        if c.name == "pitch":  # harmonics lie where they are asked: what is heard further off is misheard
            low[:, k], high[:, k] = own[:, k] - DETUNED / c.deviation, own[:, k] + DETUNED / c.deviation
    radius = model.prior.radius if model.prior else model.vaegan.timbre_dim**0.5
    tolerance = torch.tensor([IN_TUNE / c.deviation if c.name == "pitch" else 1.0 for c in controls])
    tolerance = torch.where(changed, ASKED * tolerance, tolerance)
    parts = []
    for i in range(0, len(sound), BATCH):
        rows = slice(i, i + BATCH)
        part = sound.rows(torch.arange(len(sound))[rows])
        listen, slope = (lambda z, part=part: hear(model, replace(part, z=z))), partial(_slope, model)
        z = part.z
        parts.append(close_loop(z, wanted[rows], listen, slope, low[rows], high[rows], radius, tolerance[rows]))
    away = ((wanted - torch.cat([p.heard for p in parts])).abs() / tolerance).nan_to_num(torch.inf)
    metered = wanted.isfinite() & torch.tensor([not c.classes for c in controls], dtype=torch.bool)  # no class is
    off = torch.where(metered, away, 0.0).amax(dim=1) if controls else torch.zeros(len(sound))
    return replace(sound, z=torch.cat([p.z for p in parts])), off


def hear(model: SoundModel, sound: Sound) -> Tensor:
    """What the meters find in the audio of latents, standardised `[B, C]`; NaN where undefined, and of a class."""
    found = model.measure(model.decode(sound).audio, sound.samples)
    return torch.stack([c.standard(found[n]) for n, c in model.controls.items()], dim=1)


def _slope(model: SoundModel, z: Tensor) -> Tensor:
    """How each control's reading follows a code, `[B, C, C + D]`: by the model's heads, one backward pass a control.

    The heads tell what goes with what, and less well by how much: each control is taken to follow its own coordinate
    one to one, which is what it was trained to do. Pitch follows nothing else, and nothing else is mended by it; nor
    does loudness, which is set in the audio.
    """
    count = len(model.controls)
    code = z.nan_to_num(0.0).to(model.device).requires_grad_(True)
    defined = ~z[:, :count].isnan().to(model.device)
    with torch.enable_grad():
        mel = model.vaegan.generator(code[:, count:], code[:, :count], defined)
        rows = []
        for logits, c in zip(model.bundle.heads(mel), model.controls.values(), strict=True):
            centres = torch.linspace(*c.standard_range, c.bins, device=logits.device)
            reading = (logits.softmax(dim=-1) @ centres).sum()
            rows.append(torch.autograd.grad(reading, code, retain_graph=True)[0])
    jacobian = torch.stack(rows, dim=1).cpu()
    for k, c in enumerate(model.controls.values()):
        if c.name == "pitch":
            jacobian[:, k], jacobian[:, :, k] = 0.0, 0.0
        if c.name == "loudness":
            jacobian[:, k] = 0.0
        jacobian[:, k, k] = 1.0
    return jacobian
