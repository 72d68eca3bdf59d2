"""Sounds of which a part is known: find the latent that explains it, and let the generator fill in the rest.

One mechanism for three uses (Bora et al. 2017, "Compressed sensing using generative models", eq. 3: gradient descent on
the error of what is known, plus the prior's): missing time, missing bandwidth, noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from audio_vaegan.errors import UserError
from audio_vaegan.models.controls import Values
from audio_vaegan.models.level import lacking
from audio_vaegan.sound_model.editing import BATCH
from audio_vaegan.sound_model.sounds import Sound

if TYPE_CHECKING:
    from audio_vaegan.sound_model.model import SoundModel

STEPS, RATE = 60, 0.05  # of Adam, its rate falling to zero
PRIOR = 0.01  # weight of half the squared length of the timbre code, of its mean over coordinates
CROSS_FADE = 0.008  # seconds at both ends of a gap
ABOVE_NOISE = 0.7  # nats of magnitude (6 dB) by which a band must exceed the noise to count as known
QUIET = 0.08  # share of the frames, the quietest ones, from which the noise is learned
DEEPEST = 0.03  # gain (-30 dB) below which noise is not pressed
DOUBLE = 20 * math.log10(2)  # dB
TOP = 12  # known bands below the missing ones, by whose level these are set


def restore(
    model: SoundModel,
    audio: Tensor,
    gaps: Sequence[tuple[float, float]] = (),
    bandwidth: float | None = None,
    noise: tuple[float, float] | bool = False,
    known: Mapping[str, Values] | None = None,
    fill: bool = True,
) -> tuple[Tensor, Sound]:
    """Audio `[B, samples]` of at most a clip, restored in one way, and the latents that were found. See
    `SoundModel.restore`; without `fill` by the plain method that each way is measured against."""
    try:
        gaps = [(float(a), float(b)) for a, b in gaps]
    except (TypeError, ValueError):
        raise UserError(f"gaps must be pairs of seconds, like [(0.3, 0.45)], got {gaps!r}") from None
    if sum((bool(gaps), bandwidth is not None, bool(noise))) != 1:
        raise UserError("restore one thing at a time: gaps, bandwidth or noise")
    n = audio.shape[1]
    if n > model.clip_samples:
        raise UserError(
            f"the sound is {n / model.sample_rate:.3f} s long, a clip of this model {model.clip_samples} samples "
            f"({model.clip_samples / model.sample_rate:.3f} s); cut it"
        )

    def once(start: Sound | None) -> tuple[Tensor, Sound | None]:
        if gaps:
            return _fill_gaps(model, whole, n, gaps, start)
        if bandwidth is not None:
            return _widen(model, whole, bandwidth, start)
        return _denoise(model, whole, n, None if isinstance(noise, bool) else noise, start)

    # Worked on where the model hears well, by powers of two: so what is known comes back to the bit.
    known_audio = audio.clone()
    for a, b in gaps:
        if 0 <= a < b < math.inf:  # else it is refused below
            known_audio[:, round(a * model.sample_rate) : round(b * model.sample_rate)] = 0
    doubled = lacking(model.vaegan.controls, known_audio, model.sample_rate).div(DOUBLE).round().unsqueeze(1)
    if n:
        room = torch.floor(torch.log2(0.5 / known_audio.abs().amax(dim=1, keepdim=True).clamp_min(1e-6)))
        doubled = doubled.minimum(room.clamp_min(0))
    whole = torch.nn.functional.pad(audio * torch.exp2(doubled), (0, model.clip_samples - n))
    known = dict(known or {})
    if "loudness" in known:
        control = model.control("loudness")
        known["loudness"] = control.numbers(known["loudness"], len(audio)) + DOUBLE * doubled[:, 0]
    plain, sound = once(None)
    start = model.encode(plain[:, :n], **known)
    if fill:
        plain, sound = once(start)
    made = (plain[:, :n] * torch.exp2(-doubled)).clamp(-1, 1)
    return made, _by_decibels(model, sound or start, -DOUBLE * doubled[:, 0])


def _by_decibels(model: SoundModel, sound: Sound, gain: Tensor) -> Sound:
    """The latents of the same sound by so many dB `[B]` louder."""
    if "loudness" not in model.controls:
        return sound
    z, k = sound.z.clone(), [*model.controls].index("loudness")
    z[:, k] += gain / model.controls["loudness"].deviation
    return replace(sound, z=z, controls={**sound.controls, "loudness": sound.controls["loudness"] + gain})


def find_latent(
    model: SoundModel, log_mel: Tensor, known: Tensor, start: Sound, ceiling: Tensor | None = None, steps: int = STEPS
) -> Sound:
    """The latent whose decoded mel is nearest (L1) to `log_mel` where `known` is 1, from `start` on.

    Shapes: log-mel and known `[B, n_mels, T]`. Pitch, classes and what is undefined stay as they are in `start`; timbre
    and the other controls move. With `ceiling`, what is not known may not be decoded louder than it `[B, n_mels, T]`.
    """
    net, count = model.vaegan, len(model.controls)
    parts = []
    for i in range(0, len(start), BATCH):
        z = start.z[i : i + BATCH].to(model.device)
        weight = known[i : i + BATCH].to(model.device)
        target = net.normalise(log_mel[i : i + BATCH].to(model.device))
        most = None if ceiling is None else net.normalise(ceiling[i : i + BATCH].to(model.device))
        controls, defined = z[:, :count].nan_to_num(0.0), ~z[:, :count].isnan()
        moves = [n != "pitch" and not c.classes for n, c in model.controls.items()]
        free = defined & torch.tensor(moves, device=z.device)
        low, high = (torch.tensor([c.standard_range[k] for c in model.controls.values()]).to(z) for k in (0, 1))
        with torch.enable_grad():
            timbre = z[:, count:].clone().requires_grad_()
            moved = torch.zeros_like(controls, requires_grad=True)
            adam = torch.optim.Adam([timbre, moved], RATE)
            for step in range(steps):
                adam.param_groups[0]["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
                asked = torch.where(free, (controls + moved).clamp(low, high), controls)
                decoded = net.generator(timbre, asked, defined)
                error = (weight * (decoded - target).abs()).sum() / weight.sum().clamp_min(1)
                if most is not None:
                    error = error + ((1 - weight) * (decoded - most).relu()).mean()
                loss = error + PRIOR * 0.5 * timbre.square().mean()
                timbre.grad, moved.grad = torch.autograd.grad(loss, [timbre, moved], allow_unused=True)
                adam.step()
        z = z.clone()
        z[:, count:] = timbre.detach()
        z[:, :count] = torch.where(free, (controls + moved.detach()).clamp(low, high), z[:, :count])
        parts.append(z.cpu())
    z = torch.cat(parts)
    named = {n: c.value(z[:, k]) for k, (n, c) in enumerate(model.controls.items())}
    return Sound(z, named, start.samples, named.get("noisiness"))


def generated(model: SoundModel, sound: Sound) -> Tensor:
    """The generator's own log-mel `[B, n_mels, T]`, not set to any reading."""
    z, count = sound.z.to(model.device), len(model.controls)
    with torch.no_grad():
        mels = [
            model.vaegan.generator(p[:, count:], p[:, :count].nan_to_num(0.0), ~p[:, :count].isnan())
            for p in z.split(BATCH)
        ]
    return model.vaegan.denormalise(torch.cat(mels)).cpu()


def _fill_gaps(
    model: SoundModel, audio: Tensor, samples: int, gaps: Sequence[tuple[float, float]], start: Sound | None
) -> tuple[Tensor, Sound | None]:
    """Audio whose `gaps` (seconds), which leave some of the first `samples`, are filled in; every other sample as it
    was. Without a latent to start from, by straight lines between the mels on both sides."""
    rate, hop, window = model.sample_rate, model.recipe.mel.hop_length, model.recipe.mel.win_length
    missing = torch.zeros(audio.shape[1])
    for a, b in gaps:
        if not 0 <= a < b < math.inf:
            raise UserError(f"a gap begins before it ends, got {a:g}:{b:g} s")
        missing[round(a * rate) : round(b * rate)] = 1
    if samples and (not missing[:samples].any() or missing[:samples].all()):
        raise UserError(f"a gap must leave something of the {samples / rate:.3f} s of sound, and take something away")
    touched = torch.nn.functional.max_pool1d(
        torch.nn.functional.pad(missing.view(1, 1, -1), ((window - hop) // 2,) * 2), window, hop
    ).view(-1)
    frames = torch.nonzero(touched == 0).flatten().numpy()
    if not len(frames):
        raise UserError("the gaps leave no frame of the mel whole; make them shorter")
    mel = model.log_mel(audio * (1 - missing))
    known = (touched == 0).float().expand_as(mel)
    lines = _between(mel, frames)
    sound = start
    if start is not None:
        sound = find_latent(model, mel, known, start)
        own = generated(model, sound)
        lines = own + _between(mel - own, frames)
    made = model.vocode(torch.where(known > 0, mel, lines), limit=False)
    return (audio + _faded(missing, rate) * (made - audio)).clamp(-1, 1), sound


def _between(values: Tensor, frames: np.ndarray) -> Tensor:
    """`[B, M, T]`: straight lines over time between the frames that are known; the nearest one beyond them."""
    time = np.arange(values.shape[2])
    right = np.searchsorted(frames, time).clip(0, len(frames) - 1)
    left = (right - (frames[right] > time)).clip(0)
    a, b = frames[left], frames[right]
    share = torch.from_numpy(((time - a) / np.maximum(b - a, 1)).clip(0, 1)).float()
    return torch.lerp(values[..., a], values[..., b], share)


def _faded(missing: Tensor, rate: int) -> Tensor:
    """1 in the gaps, 0 outside, with short ramps inside them at both ends `[samples]`."""
    n = 2 * round(CROSS_FADE * rate) + 1
    inside = -torch.nn.functional.max_pool1d(-missing.view(1, 1, -1), n, 1, n // 2)
    ramp = torch.nn.functional.avg_pool1d(inside, n, 1, n // 2, count_include_pad=False).view(-1)
    return ramp * missing


def _widen(model: SoundModel, audio: Tensor, bandwidth: float, start: Sound | None) -> tuple[Tensor, Sound | None]:
    """Audio `[B, samples]` with new sound above `bandwidth` (Hz); what lies below stays. Without a latent to start
    from, the octave below is set above itself: spectral band replication (Dietz et al. 2002) in its plainest form."""
    config = model.recipe.mel
    if not 500 <= bandwidth < 0.95 * config.sample_rate / 2:
        raise UserError(f"--bandwidth must lie in 500 ... {0.95 * config.sample_rate / 2:.0f} Hz, got {bandwidth:g}")
    mel = model.log_mel(audio)
    centres = model.level.centre.cpu()
    below = centres < 0.92 * bandwidth  # the edge itself has been filtered
    first = int(below.sum())
    known = below.float().view(-1, 1).expand_as(mel)
    sound = start
    if start is not None:
        sound = find_latent(model, mel, known, start)
        own = generated(model, sound)
        offset = (mel - own)[:, max(0, first - TOP) : first].mean(dim=1, keepdim=True)
        above = own + offset.clamp_max(0)  # softer where the known bands are, never louder: less is wrong less
    else:
        source = torch.searchsorted(centres, centres / 2).clamp(max=first - 1)
        fall = mel[:, max(0, first - TOP) : first].mean(1, True) - mel[:, source[first : first + TOP]].mean(1, True)
        above = mel[:, source] + fall
    made = model.vocode(torch.where(known > 0, mel, above), limit=False)
    return (audio + _above(made, bandwidth, config.sample_rate)).clamp(-1, 1), sound


def _above(audio: Tensor, hertz: float, rate: int) -> Tensor:
    """What lies above a frequency; the edge is a raised cosine of a tenth of it."""
    spectrum = torch.fft.rfft(audio)
    frequency = torch.fft.rfftfreq(audio.shape[-1], 1 / rate)
    edge = ((frequency - 0.95 * hertz) / (0.1 * hertz)).clamp(0, 1)
    return torch.fft.irfft(spectrum * (0.5 - 0.5 * torch.cos(torch.pi * edge)), n=audio.shape[-1])


def _denoise(
    model: SoundModel, audio: Tensor, samples: int, noise: tuple[float, float] | None, start: Sound | None
) -> tuple[Tensor, Sound | None]:
    """Audio `[B, samples]` with its steady noise pressed: a Wiener filter, the sound's power from the generator. The
    noise is learned from the seconds `noise`, else from the quietest frames of the first `samples`. Without a latent to
    start from, the sound's power is what exceeds the noise (spectral subtraction, Boll 1979)."""
    size, hop = 1024, 256
    window = torch.hann_window(size)
    spectrum = torch.stft(audio, size, hop, window=window, return_complex=True)
    mel = model.log_mel(audio)
    rate, step = model.sample_rate, model.recipe.mel.hop_length
    if noise is None:
        level = mel.mean(dim=1)[:, : max(2, samples // step)]
        count = max(2, round(QUIET * level.shape[1]))
        quiet = level.argsort(dim=1)[:, :count]
        floor = torch.stack([m[:, q].mean(dim=1) for m, q in zip(mel, quiet, strict=True)])
        at = (quiet * step / hop).round().long().clamp(max=spectrum.shape[2] - 1)
        power = torch.stack([s[:, k].abs().square().mean(dim=1) for s, k in zip(spectrum, at, strict=True)])
    else:
        a, b = (round(t * rate) for t in noise)
        if not 0 <= a < b <= samples or b - a < 2 * size:
            raise UserError(
                f"the noise must be at least {2 * size / rate:.2f} s of the {samples / rate:.3f} s of sound"
            )
        floor = mel[..., a // step : max(a // step + 1, b // step)].mean(dim=2)
        power = spectrum[..., a // hop : b // hop].abs().square().mean(dim=2)
    loud = mel - floor.unsqueeze(2) > ABOVE_NOISE
    sound = start
    if start is not None:
        sound = find_latent(model, mel, loud.float(), start, ceiling=torch.maximum(mel, floor.unsqueeze(2)))
        own = generated(model, sound)
        share = 1 / (1 + torch.exp(2 * (floor.unsqueeze(2) - own)))  # of the power of each band
        gain = _to_bins(model, share, spectrum)
    else:
        clean = (spectrum.abs().square() - power.unsqueeze(2)).clamp_min(0)
        gain = clean / (clean + power.unsqueeze(2) + 1e-12)
    made = torch.istft(spectrum * gain.clamp_min(DEEPEST), size, hop, window=window, length=audio.shape[1])
    return made.clamp(-1, 1), sound


def _to_bins(model: SoundModel, bands: Tensor, spectrum: Tensor) -> Tensor:
    """Values of mel bands and frames `[B, n_mels, T]`, read off at the bins and frames of a spectrum `[B, F, T']`."""
    frequency = torch.linspace(0, model.sample_rate / 2, spectrum.shape[1])
    centres = model.level.centre.cpu()
    right = torch.searchsorted(centres, frequency).clamp(1, len(centres) - 1)
    share = ((frequency - centres[right - 1]) / (centres[right] - centres[right - 1])).clamp(0, 1).view(-1, 1)
    over = torch.lerp(bands[:, right - 1], bands[:, right], share)
    return torch.nn.functional.interpolate(over, spectrum.shape[2], mode="linear", align_corners=False)
