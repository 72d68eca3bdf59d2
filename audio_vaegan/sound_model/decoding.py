"""From latents to audio: the generator's mel, set to read as the controls say; audio as noisy as they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.descriptors.loudness import loudness
from audio_vaegan.models import level
from audio_vaegan.models.noise import blurred, set_noisiness
from audio_vaegan.sound_model import editing
from audio_vaegan.sound_model.editing import BATCH
from audio_vaegan.sound_model.sounds import Clip, Sound

if TYPE_CHECKING:
    from audio_vaegan.sound_model.model import SoundModel

LOUDER = 12.0  # dB, the most by which audio is made louder or softer than its mel says
CLEANER = 1.0  # deviations by which the generator is asked to be less noisy than the sound shall be


def heard(model: SoundModel, audio: Tensor) -> Tensor:
    """Clips `[B, samples]` as the networks hear them: those louder or softer than most of training at the nearest
    loudness that it knew well."""
    return level.louder(audio, level.lacking(model.vaegan.controls, audio, model.sample_rate))


def mel_of(model: SoundModel, sound: Sound) -> Tensor:
    """See `SoundModel.decode_mel`."""
    return _louder_mel(model, *_within_reach(model, sound))


def decode(model: SoundModel, sound: Sound, seed: int | None, limit: bool) -> Clip:
    """See `SoundModel.decode`."""
    mel, gain = _within_reach(model, sound)
    audio = model.vocode(mel, limit=False)
    within = torch.arange(audio.shape[1]) < sound.samples.unsqueeze(1)
    audio = _with_noise(model, audio * within, sound) * within
    audio = level.louder(audio, gain + _lacking(model, audio, sound, gain))
    audio = audio.clamp(-1, 1) if limit else audio
    mel = _louder_mel(model, mel, gain).cpu()
    return Clip(audio, model.sample_rate, sound.z, sound.controls, mel, seed, sound.own_noise, sound.samples)


def _within_reach(model: SoundModel, sound: Sound) -> tuple[Tensor, Tensor]:
    """The log-mel `[B, n_mels, T]` of latents, where they ask for a loudness that training hardly knew at the nearest
    that it knew well, and the gain in dB `[B]` from there to the one asked, on the CPU."""
    parts = []
    count, in_audio = len(model.controls), sound.noise_asked.to(model.device)
    gain = torch.zeros(len(sound))
    if "loudness" in model.controls:
        k, control = [*model.controls].index("loudness"), model.controls["loudness"]
        gain = ((sound.z[:, k] - sound.z[:, k].clamp(level.SOFTEST, level.LOUDEST)) * control.deviation).nan_to_num(0.0)
    for i in range(0, len(sound), BATCH):
        z = sound.z[i : i + BATCH].to(model.device)
        controls = z[:, :count]
        asked, defined = controls.nan_to_num(0.0), ~controls.isnan()
        if "loudness" in model.controls:
            asked[:, k] = asked[:, k].clamp(level.SOFTEST, level.LOUDEST) * defined[:, k]
        given = asked.clone()
        if "noisiness" in model.controls:  # what lacks can be added in the audio, more easily than taken away
            n, low = [*model.controls].index("noisiness"), model.controls["noisiness"].standard_range[0]
            cleaner = (asked[:, n] - CLEANER).clamp_min(low - editing.MARGIN).minimum(asked[:, n])
            given[:, n] = torch.where(in_audio[i : i + BATCH], cleaner, asked[:, n])
        with torch.no_grad():
            mel = below(model.fitted.ceiling, model.vaegan.generator(z[:, count:], given, defined))
        parts.append(model.vaegan.denormalise(model.level.set(mel, asked, defined)))
    return torch.cat(parts), gain


def below(ceiling: NDArray[np.float64] | None, mel: Tensor) -> Tensor:
    """Normalised log-mels `[B, n_mels, T]`, no band farther above the mean of its frame than any was in training: codes
    between those of training sounds can write a whistle into one band."""
    if ceiling is None:
        return mel
    return mel.minimum(mel.mean(dim=1, keepdim=True) + torch.from_numpy(ceiling).to(mel).unsqueeze(1))


def _lacking(model: SoundModel, audio: Tensor, sound: Sound, gain: Tensor) -> Tensor:
    """The gain in dB `[B]` that audio `[B, samples]` lacks to be, by another `gain`, as loud as its latents say: a mel
    tells loudness up to its frames, and of a whole clip, not of a sound that ends within a block of the meter."""
    if "loudness" not in model.controls:
        return torch.zeros(len(audio))
    asked = model.controls["loudness"].value(sound.z[:, [*model.controls].index("loudness")])
    heard = loudness(audio, model.sample_rate, sound.samples).float()
    return (asked - gain - heard).nan_to_num(0.0).clamp(-LOUDER, LOUDER)


def _louder_mel(model: SoundModel, mel: Tensor, gain: Tensor) -> Tensor:
    """Log-mels `[B, n_mels, T]` of sounds by so many dB `[B]` louder; none falls below the mel's floor by that."""
    if not gain.any():
        return mel
    gain = gain.to(mel.device).view(-1, 1, 1)
    moved = model.mel.compress(model.mel.expand(mel) * torch.pow(10.0, gain * (model.recipe.mel.power / 20)))
    return torch.where(gain == 0, mel, moved)


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
