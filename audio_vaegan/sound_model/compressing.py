"""A sound as a few dozen bytes: its latent, rounded, and the hash of the model that reads it.

| bytes | |
|---|---|
| 4 | `AVG1` |
| 8 | start of the model's hash |
| 4 | samples of the whole sound |
| 1 | bits a timbre coordinate |
| a clip: 2 a control | its place in the range that the closed loop may use, in 65534 steps; 65535: undefined |
| a clip: D * bits / 8 | timbre code, from -LIMIT to LIMIT |
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.errors import UserError
from audio_vaegan.models.controls import Values
from audio_vaegan.sound_model import given
from audio_vaegan.sound_model.editing import MARGIN
from audio_vaegan.sound_model.sounds import Sound

if TYPE_CHECKING:
    from audio_vaegan.sound_model.model import SoundModel

MAGIC, HEAD = b"AVG1", struct.Struct("<4s8sIB")
LIMIT = 8.0  # deviations: of 150 bundled notes 3 % have a code beyond, which is set to it (82 % one beyond 4.5)
UNDEFINED = 65535
BITS = 6
MOST_SECONDS = 3600


def compress(model: SoundModel, audio: Tensor, bits: int = BITS, **known: Values) -> bytes:
    """Audio `[samples]` of any length, clip by clip, as bytes. See the table above."""
    if not 1 <= bits <= 16:
        raise UserError(f"--bits must lie in 1 ... 16, got {bits}")
    total, clip = len(audio), model.clip_samples
    if total > MOST_SECONDS * model.sample_rate:
        raise UserError(f"longer than {MOST_SECONDS} s; cut it")
    whole = torch.nn.functional.pad(audio, (0, -total % clip)).view(-1, clip)
    length = torch.full((len(whole),), clip)
    length[-1] -= -total % clip
    measured = model.measure(whole, length) | model.guess_classes(whole)
    measured |= given.known(model.controls, known, len(whole))
    z = model.encode_batch(whole, measured, length).z.numpy()
    count = len(model.controls)
    low, high = _ranges(model)
    share = (z[:, :count] - low) / (high - low)
    places = np.where(np.isnan(share), UNDEFINED, np.rint(share.clip(0, 1) * (UNDEFINED - 1))).astype("<u2")
    steps = 2**bits - 1
    codes = np.rint((z[:, count:].clip(-LIMIT, LIMIT) / LIMIT + 1) / 2 * steps).astype(np.uint16)
    head = HEAD.pack(MAGIC, bytes.fromhex(model.hash[:16]), total, bits)
    return head + b"".join(p.tobytes() + _packed(c, bits) for p, c in zip(places, codes, strict=True))


def decompress(model: SoundModel, content: bytes) -> tuple[Tensor, Sound]:
    """The audio `[samples]` of such bytes, and its latents. Raises UserError for other bytes, or another model's."""
    if len(content) < HEAD.size or content[:4] != MAGIC:
        raise UserError("not a sound that `compress` wrote")
    _, named, total, bits = HEAD.unpack_from(content)
    if named.hex() != model.hash[:16]:
        raise UserError(f"compressed by another model ({named.hex()}..., this is {model.hash[:16]}...)")
    count, dim = len(model.controls), model.vaegan.timbre_dim
    size = 2 * count + -(-dim * bits // 8)
    clips = -(-total // model.clip_samples)
    if not 1 <= bits <= 16 or not total or len(content) != HEAD.size + clips * size:
        raise UserError("damaged: its length is not what its head tells")
    rows = np.frombuffer(content, np.uint8, offset=HEAD.size).reshape(clips, size)
    places = rows[:, : 2 * count].copy().view("<u2").astype(np.float64)
    low, high = _ranges(model)
    standard = np.where(places == UNDEFINED, np.nan, low + places / (UNDEFINED - 1) * (high - low))
    codes = np.stack([_unpacked(row, dim, bits) for row in rows[:, 2 * count :]])
    z = torch.from_numpy(np.concatenate([standard, (2 * codes / (2**bits - 1) - 1) * LIMIT], axis=1)).float()
    for k, control in enumerate(model.controls.values()):
        if control.classes:
            z[:, k] = z[:, k].round()
    values = {n: c.value(z[:, k]) for k, (n, c) in enumerate(model.controls.items())}
    length = torch.full((clips,), model.clip_samples)
    length[-1] -= -total % model.clip_samples
    sound = Sound(z, values, length, values.get("noisiness"))
    return model.decode(sound).audio.flatten()[:total], sound


def _ranges(model: SoundModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ends = np.array([c.standard_range for c in model.controls.values()]).reshape(-1, 2)
    return ends[:, 0] - MARGIN, ends[:, 1] + MARGIN


def _packed(values: NDArray[np.uint16], bits: int) -> bytes:
    return np.packbits((values[:, None] >> np.arange(bits)) & 1).tobytes()


def _unpacked(row: NDArray[np.uint8], count: int, bits: int) -> NDArray[np.int64]:
    return np.unpackbits(row, count=count * bits).reshape(count, bits).astype(np.int64) @ (1 << np.arange(bits))
