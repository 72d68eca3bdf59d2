"""From latents to audio: the generator's mel, set to read as the controls say; audio as noisy as they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audio_vaegan.models.noise import blurred, set_noisiness
from audio_vaegan.sound_model import editing
from audio_vaegan.sound_model.editing import BATCH
from audio_vaegan.sound_model.sounds import Clip, Sound

if TYPE_CHECKING:
    from audio_vaegan.sound_model.model import SoundModel

CLEANER = 1.0  # deviations by which the generator is asked to be less noisy than the sound shall be


def mel_of(model: SoundModel, sound: Sound) -> Tensor:
    """See `SoundModel.decode_mel`."""
    parts = []
    count, in_audio = len(model.controls), sound.noise_asked.to(model.device)
    for i in range(0, len(sound), BATCH):
        z = sound.z[i : i + BATCH].to(model.device)
        controls = z[:, :count]
        asked, defined = controls.nan_to_num(0.0), ~controls.isnan()
        given = asked.clone()
        if "noisiness" in model.controls:  # what lacks can be added in the audio, more easily than taken away
            k, low = [*model.controls].index("noisiness"), model.controls["noisiness"].standard_range[0]
            cleaner = (asked[:, k] - CLEANER).clamp_min(low - editing.MARGIN).minimum(asked[:, k])
            given[:, k] = torch.where(in_audio[i : i + BATCH], cleaner, asked[:, k])
        with torch.no_grad():
            mel = model.vaegan.generator(z[:, count:], given, defined)
        parts.append(model.vaegan.denormalise(model.level.set(mel, asked, defined)))
    return torch.cat(parts)


def decode(model: SoundModel, sound: Sound, seed: int | None, limit: bool) -> Clip:
    """See `SoundModel.decode`."""
    mel = model.decode_mel(sound)
    audio = model.vocode(mel, limit=False)
    within = torch.arange(audio.shape[1]) < sound.samples.unsqueeze(1)
    audio = _with_noise(model, audio * within, sound) * within
    audio = audio.clamp(-1, 1) if limit else audio
    return Clip(audio, model.sample_rate, sound.z, sound.controls, mel.cpu(), seed, sound.own_noise)


def _with_noise(model: SoundModel, audio: Tensor, sound: Sound) -> Tensor:
    """Audio `[B, samples]` of latents, as noisy as their coordinates say, where that was asked. Where a mel cannot
    tell harmonics apart, their phases do not agree, and a tone comes as noise: there, what is too much is taken
    away anyway. The signs of a code name its noise, so that no rounding changes it."""
    names, asked = [*model.controls], sound.noise_asked
    if "noisiness" not in names:
        return audio
    values = {n: model.controls[n].value(sound.z[:, names.index(n)]) for n in ("noisiness", "pitch") if n in names}
    pitch = values.get("pitch", torch.full((len(audio),), torch.nan))
    set_here = asked | blurred(pitch, model.recipe.mel)
    if not set_here.any():
        return audio
    noise = values["noisiness"].masked_fill(~set_here, torch.nan)
    signs = sound.z[:, len(names) :] > 0
    seeds = (signs * (torch.arange(1, signs.shape[1] + 1) * 2654435761 % 2**31)).sum(dim=1)
    rows = zip(*(v.split(BATCH) for v in (audio, noise, pitch, seeds, sound.samples, asked)), strict=True)
    return torch.cat([set_noisiness(a, model.cpu_mel, *others) for a, *others in rows])
