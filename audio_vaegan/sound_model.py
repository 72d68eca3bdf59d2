"""The Python face: a trained model that samples, encodes, decodes and edits sounds."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.audio import BadAudio, read
from audio_vaegan.descriptors import yin
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.mel import Mel
from audio_vaegan.models.bundle import Bundle, bundle_folder, load_bundle
from audio_vaegan.models.controls import Control, Values
from audio_vaegan.models.vocoder import AUTO, Vocoder, check_contract, open_vocoder

BATCH = 32


@dataclass(frozen=True)
class Sound:
    """Latents `z` `[B, C + D]` (standardised controls, then timbre code), with the controls in their units.

    `controls[name]` is `[B]`, NaN where undefined; `samples` `[B]` is how much of each clip sounds.
    """

    z: Tensor
    controls: dict[str, Tensor]
    samples: Tensor

    def __len__(self) -> int:
        return len(self.z)

    def rows(self, index: NDArray[np.int64] | Tensor) -> "Sound":
        """Some of the sounds."""
        i = torch.as_tensor(index)
        return Sound(self.z[i], {n: v[i] for n, v in self.controls.items()}, self.samples[i])


@dataclass(frozen=True)
class Clip:
    """Generated audio `[B, samples]` in [-1, 1], with the latents and controls that it was made from."""

    audio: Tensor
    sample_rate: int
    z: Tensor
    controls: dict[str, Tensor]
    mel: Tensor  # log-mel [B, n_mels, T]
    seed: int | None = None


@dataclass(frozen=True)
class Edited(Clip):
    """An edit: what each control was asked to be, what a meter finds in the audio, and the difference.

    All `[B]` in the control's unit; NaN where undefined or not measurable.
    """

    requested: dict[str, Tensor] = field(default_factory=dict)
    achieved: dict[str, Tensor] = field(default_factory=dict)
    residual: dict[str, Tensor] = field(default_factory=dict)


class SoundModel:
    """A bundle, ready to make sounds.

    >>> model = SoundModel.from_pretrained("quickstart/run")            # doctest: +SKIP
    >>> clip = model.sample(8, pitch=60.0, seed=7)                       # doctest: +SKIP
    >>> out = model.edit(model.encode("in.wav"), shift={"pitch": +7.0})  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle, vocoder: Vocoder | None = None, device: str | torch.device = "cpu") -> None:
        self.bundle = bundle.to(device).eval()
        self.device = torch.device(device)
        self.recipe = bundle.recipe
        self.vaegan = bundle.vaegan
        self.mel = Mel(self.recipe.mel).to(device)
        self.vocoder: Vocoder = (vocoder or open_vocoder(AUTO, self.recipe.mel)).to(device)
        check_contract(self.vocoder.config, self.recipe.mel, self.vocoder.name)

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str | torch.device = "cpu", vocoder: str = AUTO) -> "SoundModel":
        """Open a bundle folder, or a run folder that holds one. Raises UserError in one line if it is not one.

        `vocoder`: `auto` (the model's own, else one of the package for its mel, else Griffin-Lim), `griffin-lim`, or a
        name, path or hub id that `open_vocoder` takes.
        """
        folder = bundle_folder(Path(name))
        bundle = load_bundle(folder)
        return cls(bundle, open_vocoder(vocoder, bundle.recipe.mel, folder), device)

    @property
    def encodes(self) -> bool:
        """Whether sounds can be encoded; a GAN can only sample."""
        return self.vaegan.encoder is not None

    @property
    def controls(self) -> dict[str, Control]:
        """The named controls, with unit and range."""
        return {c.name: c for c in self.vaegan.controls}

    @property
    def sample_rate(self) -> int:
        return self.recipe.mel.sample_rate

    @property
    def clip_samples(self) -> int:
        return self.recipe.data.clip_samples

    @property
    def hash(self) -> str:
        """Names the weights and the inference configuration."""
        return self.bundle.hash

    @property
    def vocoder_title(self) -> str:
        """Name of the vocoder, and the start of its hash where it has weights."""
        return " ".join(word for word in (self.vocoder.name, self.vocoder.hash[:12]) if word)

    def sample(
        self, count: int = 1, *, seed: int = 0, first: int = 0, truncation: float = 1.0, **controls: Values
    ) -> Clip:
        """New sounds: timbre from the prior N(0, truncation^2 I), controls as asked (`pitch=60.0`, or one a sound).

        A control that is not asked for is drawn evenly from its range. Sound i of a seed is the same sound whatever the
        count: `sample(4, first=8)` is the last four of `sample(12)`.
        """
        if count < 1:
            raise UserError(f"count must be at least 1, got {count}")
        if not 0 <= seed < 2**63 or first < 0:
            raise UserError(f"seed must lie in 0 ... 2^63 - 1, got {seed}")
        if not 0 <= truncation <= 2:
            raise UserError(f"truncation must lie in 0 ... 2, got {truncation:g}")
        for name in controls:
            self._control(name)
        size = self.vaegan.timbre_dim
        draws = torch.stack([_draw(seed, i, size + len(self.controls)) for i in range(first, first + count)])
        values = {}
        for k, (name, control) in enumerate(self.controls.items()):
            even = 0.5 * (1 + torch.erf(draws[:, size + k] / 2**0.5))  # a normal draw's place in its distribution
            drawn = control.at(even)
            values[name] = control.wanted(controls[name], count) if name in controls else drawn
        samples = torch.full((count,), self.clip_samples)
        return self.decode(self._sound(truncation * draws[:, :size], values, samples), seed=seed)

    def check(self, **controls: Values) -> None:
        """Raise UserError when a control is unknown, or one of its values lies outside the trained range."""
        for name, value in controls.items():
            self._control(name).wanted(value, int(np.size(value)))

    def encode(self, sound: str | Path | NDArray[np.floating] | Tensor, **controls: Values) -> Sound:
        """Latents of a file, or of audio `[samples]` or `[B, samples]` at the model's sample rate.

        Controls are those given, else what the meters find in the sound; a class is guessed by the model's own head. Of
        a longer sound the first clip is used, with a warning. Takes the mean of the code, so that encoding is
        repeatable. Raises UserError for a model without an encoder.
        """
        for name in controls:
            self._control(name)
        if isinstance(sound, str | Path):
            try:
                audio = torch.from_numpy(read(Path(sound), self.sample_rate)[0])
            except BadAudio as e:
                raise UserError(f"{sound}: {e}") from None
        else:
            audio = torch.as_tensor(np.asarray(sound), dtype=torch.float32)
        audio = torch.atleast_2d(audio)
        if audio.ndim != 2 or not audio.shape[1] or not torch.isfinite(audio).all():
            raise UserError(f"audio must be finite, [samples] or [B, samples], got shape {list(audio.shape)}")
        if audio.shape[1] > self.clip_samples:
            warnings.warn(f"only the first {self.clip_samples / self.sample_rate:.3f} s are used", stacklevel=2)
            audio = audio[:, : self.clip_samples]
        samples = torch.full((len(audio),), audio.shape[1])
        audio = torch.nn.functional.pad(audio, (0, self.clip_samples - audio.shape[1]))
        measured = self.measure(audio) | self._guess_classes(audio)
        values = {
            name: c.numbers(controls[name], len(audio)) if name in controls else measured[name]
            for name, c in self.controls.items()
        }
        return self.encode_batch(audio, values, samples)

    def encode_batch(self, audio: Tensor, controls: Mapping[str, Tensor], samples: Tensor) -> Sound:
        """Latents of clips `[B, clip_samples]` whose controls (`[B]` each, NaN: undefined) and lengths are known."""
        timbre = torch.cat([self._encode_mel(a) for a in audio.split(BATCH)])
        return self._sound(timbre, controls, samples)

    def replace_controls(self, sound: Sound, controls: Mapping[str, Tensor]) -> Sound:
        """The same timbre codes under other controls (`[B]` each, in their units); no range is checked."""
        return self._sound(sound.z[:, len(self.controls) :], {**sound.controls, **controls}, sound.samples)

    @torch.no_grad()
    def _encode_mel(self, audio: Tensor) -> Tensor:
        mel = self.vaegan.normalise(self.mel(audio.to(self.device)))
        if self.vaegan.encoder is None:
            raise UserError("this model is a GAN, which has no encoder: it can sample, but not encode or edit")
        return self.vaegan.encoder(mel)[0].cpu()

    @torch.no_grad()
    def _guess_classes(self, audio: Tensor) -> dict[str, Tensor]:
        """The classes that the model's heads, trained on real sounds, hear in audio `[B, samples]`."""
        if not any(c.classes for c in self.controls.values()):
            return {}
        mel = self.vaegan.normalise(self.mel(audio.to(self.device)))
        logits = self.bundle.heads(mel)
        named = zip(self.controls.items(), logits, strict=True)
        return {name: read.argmax(dim=-1).float().cpu() for (name, control), read in named if control.classes}

    def measure(self, audio: Tensor) -> dict[str, Tensor]:
        """What the meters find in audio `[B, samples]`: each control `[B]` in its unit, NaN where undefined.

        A class has no meter: NaN.
        """
        none = torch.full((len(audio),), torch.nan)
        return {n: METERS[n](audio, self.sample_rate) if n in METERS else none for n in self.controls}

    def log_mel(self, audio: Tensor) -> Tensor:
        """Log-mel `[B, n_mels, T]` of audio `[B, samples]`."""
        return torch.cat([self.mel(a.to(self.device)).cpu() for a in audio.split(BATCH)])

    def decode_mel(self, sound: Sound) -> Tensor:
        """Log-mel `[B, n_mels, T]` of latents."""
        parts = []
        count = len(self.controls)
        for i in range(0, len(sound), BATCH):
            z = sound.z[i : i + BATCH].to(self.device)
            controls = z[:, :count]
            with torch.no_grad():
                mel = self.vaegan.generator(z[:, count:], controls.nan_to_num(0.0), ~controls.isnan())
            parts.append(self.vaegan.denormalise(mel))
        return torch.cat(parts)

    def vocode(self, log_mel: Tensor) -> Tensor:
        """Log-mel `[B, n_mels, T]` -> audio `[B, clip_samples]`, limited to [-1, 1]."""
        parts = [self.vocoder(m.to(self.device), self.clip_samples) for m in log_mel.split(BATCH)]
        return torch.cat(parts).clamp(-1, 1).cpu()

    def decode(self, sound: Sound, seed: int | None = None) -> Clip:
        """Audio of latents; a sound that was shorter than the clip ends where it ended."""
        mel = self.decode_mel(sound)
        audio = self.vocode(mel)
        audio = audio * (torch.arange(audio.shape[1]) < sound.samples.unsqueeze(1))
        return Clip(audio, self.sample_rate, sound.z, sound.controls, mel.cpu(), seed)

    def edit(
        self,
        sound: Sound,
        *,
        shift: Mapping[str, Values] | None = None,
        set: Mapping[str, Values] | None = None,
    ) -> Edited:
        """Change controls by (`shift`) or to (`set`) a value in their units; the timbre code stays.

        Without a change, the result is exactly the plain reconstruction. Raises UserError for an unknown control, a
        request outside the trained range, or a control that is undefined for this sound.
        """
        requested = dict(sound.controls)
        for name, value in (shift or {}).items():
            control = self._control(name)
            if control.classes:
                raise UserError(f"{name} is a class: set it ({', '.join(control.classes)}), it cannot be shifted")
            amount = control.numbers(value, len(sound))
            if sound.controls[name].isnan().any():
                raise UserError(
                    f"{name} is undefined for this sound, so that it cannot be shifted; set it, or say what it is"
                )
            try:
                requested[name] = control.in_range(sound.controls[name] + amount)
            except UserError as e:
                raise UserError(f"{e} (this sound has {float(sound.controls[name][0]):.2f})") from None
        for name, value in (set or {}).items():
            if name in (shift or {}):
                raise UserError(f"{name}: give a shift or a value, not both")
            requested[name] = self._control(name).wanted(value, len(sound))
        clip = self.decode(self.replace_controls(sound, requested))
        achieved = self.measure(clip.audio)
        residual = {n: achieved[n] - requested[n] for n in self.controls}
        return Edited(**vars(clip), requested=requested, achieved=achieved, residual=residual)

    def _sound(self, timbre: Tensor, values: Mapping[str, Tensor], samples: Tensor) -> Sound:
        named = {name: values[name].float() for name in self.controls}
        stacked = torch.stack([*named.values()], dim=1) if named else timbre.new_zeros(len(timbre), 0)
        standard = (stacked - self.vaegan.control_mean.cpu()) / self.vaegan.control_deviation.cpu()
        return Sound(torch.cat([standard, timbre], dim=1), named, samples)

    def _control(self, name: str) -> Control:
        if name not in self.controls:
            raise UserError(f"this model has no control {name!r}.{did_you_mean(name, self.controls)}")
        return self.controls[name]


def _draw(seed: int, item: int, size: int) -> Tensor:
    """Standard normal numbers `[size]` of one item of a seed."""
    words = np.random.SeedSequence([seed, item]).generate_state(1, np.uint64)
    return torch.randn(size, generator=torch.Generator().manual_seed(int(words[0]) >> 1))


def _measure_pitch(audio: Tensor, sample_rate: int) -> Tensor:
    return yin(audio, sample_rate).midi


METERS = {"pitch": _measure_pitch}
