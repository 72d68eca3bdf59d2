"""Sounds made of two: morphs between them, the timbre of one under the envelope of the other, pieces joined to one.

Pure functions of latents and waves; no network is asked.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from audio_vaegan.errors import UserError
from audio_vaegan.models.controls import Control
from audio_vaegan.sound_model.sounds import Sound

ENVELOPE = ("pitch", "loudness", "attack", "decay", "onset_rate")  # what `transfer` takes from the second sound
FLAT = 1e-6  # sine of an angle below which an arc is a line


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation (Shoemake 1985): at share 0 exactly `a`, at 1 exactly `b`.

    The direction goes along the great arc at constant speed, the norm goes linearly: in a Gaussian code nearly all
    sounds lie on one shell, which a line would leave. Vectors without an arc of their own (parallel, opposite, zero)
    are joined by a line. Shape: `[..., D]`, `[..., D]`, share `[...]` -> `[..., D]`; all broadcast.
    """
    t = share.double().unsqueeze(-1)
    x, y = a.double(), b.double()
    from_norm, to_norm = x.norm(dim=-1, keepdim=True), y.norm(dim=-1, keepdim=True)
    u, v = x / from_norm.clamp_min(1e-30), y / to_norm.clamp_min(1e-30)
    # Kahan's angle: the arc cosine of a product near 1 has lost half its digits.
    angle = 2 * torch.atan2((u - v).norm(dim=-1, keepdim=True), (u + v).norm(dim=-1, keepdim=True))
    sine = angle.sin()
    arc = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / sine
    curved = torch.lerp(from_norm, to_norm, t) * arc
    bent = (sine > FLAT) & (from_norm > 0) & (to_norm > 0)
    mixed = torch.where(bent, curved, torch.lerp(x, y, t))
    return torch.where(t == 0, x, torch.where(t == 1, y, mixed)).to(a.dtype)


def morph(a: Sound, b: Sound, shares: Tensor, controls: Sequence[Control]) -> Sound:
    """Sounds on the way from `a` (share 0) to `b` (share 1): `[N]` shares -> N sounds, exactly `a` and `b` at the ends.

    The timbre code goes by `slerp`, controls linearly in their standardised coordinates (pitch: in semitones), the
    length linearly in samples. What has no middle switches in the middle: a class, and a control that is undefined
    at one end, which stays undefined on that side. `a` and `b` are one sound, or N. Raises UserError for shares
    outside [0, 1] and other counts.
    """
    shares = torch.as_tensor(shares).double().reshape(-1)
    if not ((shares >= 0) & (shares <= 1)).all():  # NaN too
        raise UserError(f"morph: shares must lie in 0 ... 1, got {shares.tolist()}")
    a, b = _spread(a, len(shares), "morph"), _spread(b, len(shares), "morph")
    size = len(controls)
    start, end = a.z[:, :size], b.z[:, :size]
    t = shares.unsqueeze(1)
    later = t >= 0.5
    number = torch.tensor([not c.classes for c in controls], dtype=torch.bool)
    smooth = number & ~start.isnan() & ~end.isnan() & (t > 0) & (t < 1)
    standard = torch.where(smooth, torch.lerp(start, end, t.to(start.dtype)), torch.where(later, end, start))
    values = {}
    for i, control in enumerate(controls):
        from_value, to_value = a.controls[control.name], b.controls[control.name]
        # From the values, not the coordinates: a calibrated coordinate stands where its value is heard.
        between = torch.lerp(control.standard(from_value), control.standard(to_value), shares.to(from_value.dtype))
        switched = torch.where(later[:, 0], to_value, from_value)
        values[control.name] = torch.where(smooth[:, i], control.value(between), switched)
    timbre = slerp(a.z[:, size:], b.z[:, size:], shares)
    samples = torch.lerp(a.samples.double(), b.samples.double(), shares).round().to(a.samples.dtype)
    noise = values.get("noisiness")
    if noise is not None:
        noise = noise.masked_fill(torch.where(later[:, 0], b.noise_asked, a.noise_asked), torch.nan)
    return Sound(torch.cat([standard, timbre], dim=1), values, samples, noise)


def transfer(a: Sound, b: Sound, controls: Sequence[Control]) -> Sound:
    """The timbre of `a` under the pitch and envelope of `b`.

    From `a`: timbre code, brightness, noisiness, classes. From `b`: pitch, loudness, attack, decay, onset rate, and
    the length. `a` is one sound for all of `b`, or one each; else a UserError.
    """
    a = _spread(a, len(b), "transfer")
    size = len(controls)
    of_b = torch.tensor([envelope_control(c) for c in controls], dtype=torch.bool)
    standard = torch.where(of_b, b.z[:, :size], a.z[:, :size])
    values = {c.name: (b if envelope_control(c) else a).controls[c.name] for c in controls}
    return Sound(torch.cat([standard, a.z[:, size:]], dim=1), values, b.samples, a.own_noise)


def envelope_control(control: Control) -> bool:
    """Whether `transfer` takes a control from its second sound."""
    return control.name in ENVELOPE and not control.classes


def _spread(sound: Sound, count: int, what: str) -> Sound:
    """One sound for all, or one each."""
    if len(sound) == count:
        return sound
    if len(sound) != 1:
        raise UserError(f"{what}: give one sound, or {count}, got {len(sound)}")
    return sound.rows(torch.zeros(count, dtype=torch.long))


def join(pieces: Iterable[Tensor], fade: int, slide: int = 0) -> Tensor:
    """Waves `[samples]` of any lengths, end to end as one, each cross-faded into the next over `fade` samples (at most
    half of a piece).

    Each piece begins up to `slide` samples late, where its wave fits the one before best, so that alike tones do not
    cancel out. The two ends of the whole fade as well, over a tenth of `fade`.
    """
    done: list[Tensor] = []
    last: Tensor | None = None
    for piece in pieces:
        if last is None:
            last = piece
            continue
        size = min(fade, len(last) // 2, len(piece) // 2)
        before = last[len(last) - size :]
        after = piece[_lag(before, piece[: size + slide]) :]
        done.append(last[: len(last) - size])
        last = torch.cat([_crossfade(before, after[:size]), after[size:]])
    if last is None:
        return torch.zeros(0)
    whole = torch.cat([*done, last]).clone()
    size = min(fade // 10, len(whole) // 2)
    ramp = (torch.arange(size) + 0.5) / max(1, size)
    whole[:size] *= ramp
    whole[len(whole) - size :] *= ramp.flip(0)
    return whole


def _lag(before: Tensor, after: Tensor) -> int:
    """Where in `after` `[F + S]` the wave `before` `[F]` fits best: the lag 0 ... S of the largest normalised
    correlation."""
    if not len(before):
        return 0
    windows = after.double().unfold(0, len(before), 1)
    return int((windows @ before.double() / windows.norm(dim=1).clamp_min(1e-9)).argmax())


def _crossfade(before: Tensor, after: Tensor) -> Tensor:
    """Cross-fade two waves `[F]` so that their power stays, however alike they are (Fink, Holters & Zoelzer 2016,
    signal-matched power-complementary cross-fading): linear for equal ones, equal in power for unlike ones."""
    rise = (torch.arange(len(before)) + 0.5) / max(1, len(before))
    size = float(before.norm() * after.norm())
    alike = max(0.0, float(before @ after) / size) if size > 0 else 1.0
    scale = (rise.square() + (1 - rise).square() + 2 * alike * rise * (1 - rise)).sqrt()
    return (before * (1 - rise) + after * rise) / scale
