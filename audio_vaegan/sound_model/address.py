"""The address of a sound: a short text from which the same model makes the same sound again.

    model=3f2ab1c4d5e6,vocoder=9c11ab34cd56,seed=7,item=12,prior=fitted,truncation=1,closed=1,pitch=60,brightness=12.5

A sound of a data set that was drawn is known by its seed and its controls; any other by its latent (`z`; `noise=1`: its
noisiness was asked for). What was done to the audio afterwards stands there, too: `samples` (cut to so
many), `gain` (dB), `rate` (Hz, resampled).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.audio import resample
from audio_vaegan.errors import UserError
from audio_vaegan.models.controls import Control
from audio_vaegan.sound_model.editing import BATCH
from audio_vaegan.sound_model.sounds import Clip, Sound
from audio_vaegan.sound_model.threads import one_thread

if TYPE_CHECKING:
    from audio_vaegan.sound_model.model import SoundModel

HASH = 12  # digits of a hash that name a model
PLAIN = "fitted", "normal"
FARTHEST = 1000.0  # from zero, of a coordinate


@dataclass(frozen=True)
class Address:
    """See the module. `controls` holds numbers, and names of classes; `z` is `[C + D]` float32, and `noise` goes with
    it."""

    model: str
    vocoder: str
    seed: int = 0
    item: int = 0
    prior: str = "normal"
    truncation: float = 1.0
    closed: bool = False
    controls: dict[str, float | str] = field(default_factory=dict)
    z: NDArray[np.float32] | None = None
    noise: bool = False
    samples: int | None = None
    gain: float = 0.0
    rate: int | None = None

    def __str__(self) -> str:
        parts: list[tuple[str, object]] = [("model", self.model), ("vocoder", self.vocoder)]
        if self.z is None:
            parts += [("seed", self.seed), ("item", self.item), ("prior", self.prior)]
            parts += [("truncation", _number(self.truncation)), ("closed", int(self.closed))]
            parts += [(k, v if isinstance(v, str) else _number(v)) for k, v in self.controls.items()]
        else:
            parts.append(("z", base64.urlsafe_b64encode(self.z.astype("<f4").tobytes()).decode().rstrip("=")))
            parts += [("noise", 1)] if self.noise else []
        after = {"samples": self.samples, "gain": _number(self.gain) if self.gain else None, "rate": self.rate}
        parts += [(k, v) for k, v in after.items() if v is not None]
        return ",".join(f"{k}={quote(str(v), safe='-_.+')}" for k, v in parts)


def _number(value: float) -> str:
    return repr(round(value)) if value == round(value) else repr(float(value))


def parse_address(text: str, controls: Mapping[str, Control]) -> Address:
    """Read an address; `controls` are those that the model has. Raises UserError."""
    found: dict[str, str] = {}
    if "model=" not in text:
        raise UserError(f"--address: {text[:40]!r} is none; files that were made have one in their tag, and their rows")
    tag = text.lstrip().startswith("AI-generated")  # of a file
    for part in text[text.index("model=") if tag else 0 :].strip().split(","):
        key, equals, value = part.partition("=")
        if not equals or key in found:
            raise UserError(f"--address: {part[:40]!r} is not one of its key=value parts")
        found[key] = unquote(value)
    try:
        z = None
        if "z" in found:
            raw = found.pop("z")
            z = np.frombuffer(base64.b64decode(raw + "=" * (-len(raw) % 4), altchars=b"-_", validate=True), "<f4")
            if not (np.isfinite(z[len(controls) :]).all() and np.nanmax(np.abs(z), initial=0) <= FARTHEST):
                raise ValueError("z")
        address = Address(
            model=found.pop("model"),
            vocoder=found.pop("vocoder"),
            seed=int(found.pop("seed", "0")),
            item=int(found.pop("item", "0")),
            prior=found.pop("prior", "normal"),
            truncation=float(found.pop("truncation", "1")),
            closed=bool(int(found.pop("closed", "0"))),
            z=z,
            noise=bool(int(found.pop("noise", "0"))),
            samples=_optional(found.pop("samples", None)),
            gain=float(found.pop("gain", "0")),
            rate=_optional(found.pop("rate", None)),
        )
        if address.prior not in PLAIN or not math.isfinite(address.gain):
            raise ValueError("prior or gain")
        if min(address.samples or 1, address.rate or 1) < 1:
            raise ValueError("samples or rate")
    except (KeyError, ValueError):
        raise UserError("--address: it is cut off or mistyped; copy all of it") from None
    strange = [k for k in found if k not in controls]
    if strange:
        raise UserError(f"--address: {strange[0]!r} is no control of this model ({', '.join(controls)})")
    return replace(address, controls={k: _value(v, controls[k]) for k, v in found.items()})


def _value(text: str, control: Control) -> float | str:
    if text in control.classes:
        return text
    try:
        return float(text)
    except ValueError:
        return text


def _optional(text: str | None) -> int | None:
    return None if text is None else int(text)


def recall(model: SoundModel, text: str) -> Clip:
    """The sound at an address, as it was: `[1, samples]`. Raises UserError for an address of another model or vocoder.

    The same bits on the same machine and versions: it is made in a batch of the size that sounds are made in, on one
    thread.
    """
    address = parse_address(text, model.controls)
    for what, asked, own in (("model", address.model, model.hash), ("vocoder", address.vocoder, vocoder_name(model))):
        if not asked or not own.startswith(asked):
            raise UserError(f"--address: made by {what} {asked}, this is {own[:HASH]}; give that model (or --vocoder)")
    with one_thread():
        clip = _made(model, address)
    samples = address.samples or model.clip_samples
    audio = after(clip.audio[0], model.sample_rate, samples, address.gain, address.rate).clamp(-1, 1).unsqueeze(0)
    seed = address.seed if address.z is None else None
    first = clip.sound().rows(torch.tensor([0]))
    rate = address.rate or model.sample_rate
    length = torch.tensor([min(samples, model.clip_samples)])
    return Clip(audio, rate, first.z, first.controls, clip.mel[:1], seed, first.own_noise, length)


def _made(model: SoundModel, address: Address) -> Clip:
    if address.z is None:
        given = {k: [v] * BATCH for k, v in address.controls.items()}
        return model.sample(
            BATCH,
            seed=address.seed,
            items=[address.item] * BATCH,
            truncation=address.truncation,
            prior=address.prior,
            closed_loop=address.closed,
            limit=False,
            **given,  # type: ignore[arg-type]
        )
    return model.decode(latent_of(model, address).rows(torch.zeros(BATCH, dtype=torch.long)), limit=False)


def latent_of(model: SoundModel, address: Address) -> Sound:
    """The latent that an address holds. Raises UserError for one that does not fit the model."""
    size = len(model.controls) + model.vaegan.timbre_dim
    if address.z is None or address.z.shape != (size,):
        held = 0 if address.z is None else len(address.z)
        raise UserError(f"--address: a latent of {held} numbers, this model's have {size}")
    z = torch.from_numpy(address.z.copy()).unsqueeze(0)
    values = {n: c.value(z[:, i]) for i, (n, c) in enumerate(model.controls.items())}
    samples = min(address.samples or model.clip_samples, model.clip_samples)
    own = torch.tensor([torch.nan]) if address.noise else values.get("noisiness")
    return Sound(z, values, torch.tensor([samples]), own)


def after(audio: Tensor, sample_rate: int, samples: int, gain: float, rate: int | None) -> Tensor:
    """What is done to decoded audio `[samples]` at the model's rate: cut to `samples`, faded in within 1 ms and out
    within 5, by `gain` in dB, resampled to `rate`."""
    audio = audio[:samples].clone()
    rise, fade = (min(len(audio), round(seconds * sample_rate)) for seconds in (0.001, 0.005))
    audio[:rise] *= torch.linspace(0, 1, rise + 1)[:-1]
    audio[len(audio) - fade :] *= torch.linspace(1, 0, fade + 1)[1:]
    audio = audio * float(np.float32(10 ** (gain / 20)))
    if rate is None or rate == sample_rate:
        return audio
    return torch.from_numpy(resample(audio.numpy(), sample_rate, rate))


def address_of(model: SoundModel, sound: Sound, k: int = 0, gain: float = 0.0) -> str:
    """The address of the latent of sound `k`, with its length where that is not the clip's, and a gain in dB."""
    length = int(sound.samples[k])
    return str(
        Address(
            model.hash[:HASH],
            vocoder_name(model)[:HASH],
            z=sound.z[k].numpy(),
            noise=bool(sound.noise_asked[k]),
            samples=None if length >= model.clip_samples else length,
            gain=gain,
        )
    )


def vocoder_name(model: SoundModel) -> str:
    """What names the vocoder in an address: its hash, or its name where it has no weights."""
    return model.vocoder.hash or quote(model.vocoder.name, safe="-_.")
