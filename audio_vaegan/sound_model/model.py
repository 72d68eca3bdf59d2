"""The Python face: a trained model that samples, encodes, decodes and edits sounds."""

import shutil
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import ModelHubMixin
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.control.directions import Direction
from audio_vaegan.control.fitted import Fitted, load_fitted
from audio_vaegan.control.prior import Prior
from audio_vaegan.descriptors import measure
from audio_vaegan.errors import UserError
from audio_vaegan.mel import Mel
from audio_vaegan.models.bundle import Bundle, bundle_folder, load_bundle
from audio_vaegan.models.controls import Between, Control, Values
from audio_vaegan.models.level import Level
from audio_vaegan.models.vocoder import AUTO, Vocoder, check_contract, open_vocoder, packaged
from audio_vaegan.models.vocoder.saved import FILE, load_vocoder
from audio_vaegan.sound_model import compressing, decoding, drawing, editing, given, mixing, restoring, scoring
from audio_vaegan.sound_model.address import recall
from audio_vaegan.sound_model.editing import BATCH
from audio_vaegan.sound_model.fingerprints import Fingerprints, load_fingerprints
from audio_vaegan.sound_model.scoring import Oddness
from audio_vaegan.sound_model.sounds import Clip, Edited, Sound
from audio_vaegan.sound_model.threads import one_thread


class SoundModel(ModelHubMixin, library_name="audio-vaegan"):
    """A bundle, ready to make sounds; `push_to_hub("owner/name")` and `save_pretrained` are huggingface_hub's.

    >>> model = SoundModel.from_pretrained("quickstart/run")            # doctest: +SKIP
    >>> clip = model.sample(8, pitch=60.0, seed=7)                       # doctest: +SKIP
    >>> out = model.edit(model.encode("in.wav"), shift={"pitch": +7.0})  # doctest: +SKIP
    """

    def __init__(
        self,
        bundle: Bundle,
        vocoder: Vocoder | None = None,
        device: str | torch.device = "cpu",
        fitted: Fitted | None = None,
    ) -> None:
        self.bundle = bundle.to(device).eval()
        self.device = torch.device(device)
        self.recipe = bundle.recipe
        self.vaegan = bundle.vaegan
        self.mel = Mel(self.recipe.mel).to(device)
        self.cpu_mel = Mel(self.recipe.mel)  # for finished audio, which is on the CPU
        frames, normal = self.recipe.mel.frames(self.clip_samples), self.vaegan.normalisation
        level = Level(self.vaegan.controls, self.recipe.mel, frames, normal.mean, normal.deviation)
        self.level = level.to(device)
        self.vocoder: Vocoder = (vocoder or open_vocoder(AUTO, self.recipe.mel)).to(device)
        check_contract(self.vocoder.config, self.recipe.mel, self.vocoder.name)
        self.fitted = fitted or Fitted(bundle.hash)
        self.folder: Path | None = None

    @classmethod
    @torch.inference_mode(False)  # closed loops need gradients
    def from_pretrained(  # type: ignore[override]  # the mixin's would ask the hub for the package's models first
        cls, name: str | Path, device: str | torch.device = "cpu", vocoder: str = AUTO
    ) -> "SoundModel":
        """Open a bundle folder, a run folder that holds one, a model that comes with the package, by its name, or one
        on the hub, by its id `owner/name`, with what `fit-controls` and `directions` wrote beside it. Raises UserError
        in one line if it is not one.

        `vocoder`: `auto` (the model's own, else one of the package for its mel, else Griffin-Lim), `griffin-lim`, or a
        name, path or hub id that `open_vocoder` takes.
        """
        folder = bundle_folder(Path(name))
        with one_thread():  # pseudo-inverses and the like: the same bits however many there are
            bundle = load_bundle(folder)
            fitted = load_fitted(folder, bundle.hash)
            model = cls(bundle, open_vocoder(vocoder, bundle.recipe.mel, folder), device, fitted)
        model.folder = folder
        return model

    def _save_pretrained(self, save_directory: Path) -> None:
        """Copy the bundle that this model was opened from, with its card, and the package's vocoder if it uses it."""
        if self.folder is None:
            raise UserError("a model that was not opened from a bundle cannot be saved")
        if save_directory.resolve() == self.folder.resolve():
            raise UserError(f"{save_directory}: the model's own folder; save it into another")
        own = [file for file in self.folder.glob("[!.]*") if file.is_file()]
        shared = [] if self.folder / FILE in own else [f for f in packaged().values() if self._plays(f)][:1]
        for file, name in [(f, f.name) for f in own] + [(f, FILE) for f in shared]:
            shutil.copyfile(file, save_directory / name)

    def _plays(self, vocoder: Path) -> bool:
        return load_vocoder(vocoder).config == self.recipe.mel

    @property
    def encodes(self) -> bool:
        """Whether sounds can be encoded; a GAN can only sample."""
        return self.vaegan.encoder is not None

    @property
    def controls(self) -> dict[str, Control]:
        """The named controls, with unit and range."""
        return {c.name: c for c in self.vaegan.controls}

    @property
    def directions(self) -> dict[str, Direction]:
        """Directions of the latent that were fitted after training."""
        return self.fitted.directions

    @property
    def prior(self) -> Prior | None:
        """Where codes of real sounds lie, if it was fitted."""
        return self.fitted.prior

    @cached_property
    def fingerprints(self) -> Fingerprints | None:
        """Prints of the training sounds, if the bundle has them."""
        size = len(self.controls) + self.vaegan.timbre_dim
        return None if self.folder is None else load_fingerprints(self.folder, self.hash, size)

    @property
    def prior_title(self) -> str:
        """Where samples are drawn from, in words."""
        return "N(0, I)" if self.prior is None else "the fitted prior"

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

    @torch.inference_mode(False)
    def sample(
        self,
        count: int = 1,
        *,
        seed: int = 0,
        first: int = 0,
        items: Sequence[int] | None = None,
        truncation: float = 1.0,
        prior: str = "auto",
        closed_loop: bool = False,
        limit: bool = True,
        **controls: Values,
    ) -> Clip:
        """New sounds under conditions: a control is a number (`pitch=60.0`), one each, or `Between(10, 20)`.

        `prior`: `fitted` draws the timbre, and what is not asked for, from where real sounds lie; `normal` the timbre
        from N(0, I), pitch evenly from its range and other controls from a normal distribution; `auto`: fitted if there
        is one. `truncation` below 1 is safer and less varied (`Prior.sample`). `closed_loop` corrects what is asked,
        and draws another timbre, up to three times, where it is not heard even so.
        Sound i of a seed is the same sound whatever the count: `sample(4, first=8)` is the last four of `sample(12)`;
        `items` names any. Samples are limited to [-1, 1], unless `limit` is false.
        """
        items = range(first, first + count) if items is None else items
        sound = drawing.sample(self, items, seed, truncation, prior, closed_loop, controls)
        return self.decode(sound, seed, limit)

    def recall(self, address: str) -> Clip:
        """The sound at an address (see `address`), the same bits on the same machine and versions."""
        return recall(self, address)

    def check(self, **controls: Values) -> None:
        """Raise UserError when a control is unknown, or one of its values lies outside the trained range."""
        for name, value in controls.items():
            self.control(name).wanted(value, 1 if isinstance(value, Between) else int(np.size(value)))

    def encode(self, sound: str | Path | NDArray[np.floating] | Tensor, **controls: Values) -> Sound:
        """Latents of a file, or of audio `[samples]` or `[B, samples]` at the model's sample rate.

        Controls are those given, else what the meters find in the sound; a class is guessed by the model's own head. Of
        a longer sound the first clip is used, with a warning. Takes the mean of the code, so that encoding is
        repeatable. Raises UserError for a model without an encoder.
        """
        audio = given.audio(sound, self.sample_rate)
        if audio.shape[1] > self.clip_samples:
            warnings.warn(f"only the first {self.clip_samples / self.sample_rate:.3f} s are used", stacklevel=2)
            audio = audio[:, : self.clip_samples]
        samples = torch.full((len(audio),), audio.shape[1])
        audio = torch.nn.functional.pad(audio, (0, self.clip_samples - audio.shape[1]))
        measured = self.measure(audio, samples) | self.guess_classes(audio)
        return self.encode_batch(audio, measured | given.known(self.controls, controls, len(audio)), samples)

    def heard(self, file: str | Path) -> Tensor:
        """A whole file at the model's sample rate, mono `[samples]`. Raises UserError for what is no sound."""
        return given.audio(file, self.sample_rate)[0]

    def encode_batch(self, audio: Tensor, controls: Mapping[str, Tensor], samples: Tensor) -> Sound:
        """Latents of clips `[B, clip_samples]` whose controls (`[B]` each, NaN: undefined) and lengths are known."""
        timbre = torch.cat([self._encode_mel(a) for a in decoding.heard(self, audio).split(BATCH)])
        return self.sound_of(timbre, controls, samples)

    def replace_controls(self, sound: Sound, controls: Mapping[str, Tensor]) -> Sound:
        """The same timbre codes under other controls (`[B]` each, in their units); no range is checked."""
        return editing.under(self, sound, controls)

    @torch.no_grad()
    def _encode_mel(self, audio: Tensor) -> Tensor:
        mel = self.vaegan.normalise(self.mel(audio.to(self.device)))
        if self.vaegan.encoder is None:
            raise UserError("this model is a GAN, which has no encoder: it can sample, but not encode or edit")
        return self.vaegan.encoder(mel)[0].cpu()

    def guess_classes(self, audio: Tensor) -> dict[str, Tensor]:
        """The classes that the model's heads hear in audio `[B, samples]`."""
        return self.bundle.hear_classes(self.mel(decoding.heard(self, audio).to(self.device)))

    def measure(self, audio: Tensor, samples: Tensor | None = None) -> dict[str, Tensor]:
        """What the meters find in audio `[B, samples]`, of which the first `samples` `[B]` are the sound: each control
        `[B]` in its unit, NaN where undefined. A class has no meter: NaN.
        """
        none = torch.full((len(audio),), torch.nan)
        metered = [n for n in self.controls if n in self.recipe.model.controls]
        found = measure(audio, self.sample_rate, samples, metered)
        return {n: found.get(n, none) for n in self.controls}

    def log_mel(self, audio: Tensor) -> Tensor:
        """Log-mel `[B, n_mels, T]` of audio `[B, samples]`."""
        return torch.cat([self.mel(a.to(self.device)).cpu() for a in audio.split(BATCH)])

    def decode_mel(self, sound: Sound) -> Tensor:
        """Log-mel `[B, n_mels, T]` of latents: the generator's, set to read as the controls say (`Level`)."""
        return decoding.mel_of(self, sound)

    def vocode(self, log_mel: Tensor, limit: bool = True) -> Tensor:
        """Log-mel `[B, n_mels, T]` -> audio `[B, clip_samples]`, limited to [-1, 1] unless another gain comes after."""
        parts = [self.vocoder(m.to(self.device), self.clip_samples) for m in log_mel.split(BATCH)]
        audio = torch.cat(parts).cpu()
        return audio.clamp(-1, 1) if limit else audio

    def decode(self, sound: Sound, seed: int | None = None, limit: bool = True) -> Clip:
        """Audio of latents; a sound that was shorter than the clip ends where it ended."""
        return decoding.decode(self, sound, seed, limit)

    @torch.inference_mode(False)
    def edit(
        self,
        sound: Sound,
        *,
        shift: Mapping[str, Values] | None = None,
        set: Mapping[str, Values] | None = None,
        move: Mapping[str, float] | None = None,
        closed_loop: bool = False,
    ) -> Edited:
        """Change controls by (`shift`) or to (`set`) a value in their units, several at once; the timbre code stays.
        `move` goes so many units along directions that were fitted after training.

        Without a change, the result is exactly the plain reconstruction; a change and its opposite return. With
        `closed_loop` what became of it is measured and corrected, by at most three steps, so that what was not asked
        for stays, too. Raises UserError for an unknown control or direction, a request outside the trained range, or a
        control that is undefined for this sound.
        """
        return editing.edit(self, sound, shift or {}, set or {}, move or {}, closed_loop)

    def morph(self, a: Sound, b: Sound, shares: Tensor) -> Sound:
        """Sounds on the way from `a` to `b` (one sound each), one at each of `shares` in [0, 1]: the timbre code goes
        round (slerp), controls straight; 0 and 1 give `a` and `b`."""
        return mixing.morph(a, b, shares, [*self.controls.values()])

    @torch.inference_mode(False)
    def restore(
        self,
        audio: str | Path | NDArray[np.floating] | Tensor,
        *,
        gaps: Sequence[tuple[float, float]] = (),
        bandwidth: float | None = None,
        noise: tuple[float, float] | bool = False,
        **known: Values,
    ) -> tuple[Tensor, Sound]:
        """A sound of which a part is known, made whole `[B, samples]`, and the latents that explain what is known: its
        `gaps` (from, to in seconds) filled in, new sound above its `bandwidth` (Hz), or its steady `noise` pressed
        (True: learned from the quietest frames; or from, to in seconds, where it is alone). What is known stays as it
        was. Controls that are known (`pitch=60`) need not be measured. Raises UserError for a sound longer than a clip.
        """
        return restoring.restore(self, given.audio(audio, self.sample_rate), gaps, bandwidth, noise, known)

    def score(self, audio: str | Path | NDArray[np.floating] | Tensor) -> Oddness:
        """How unlike the training sounds audio is, `[samples]` or `[B, samples]`; of what is longer than a clip, a mean
        over its clips. Raises UserError for a model that was not fitted (`fit-controls`)."""
        return scoring.score(self, given.audio(audio, self.sample_rate))

    def compress(self, audio: str | Path | NDArray[np.floating] | Tensor, bits: int = 6, **known: Values) -> bytes:
        """A sound `[samples]` of any length as a few dozen bytes a clip: its latents, timbre in so many `bits` each."""
        heard = given.audio(audio, self.sample_rate)
        if len(heard) > 1:
            raise UserError(f"compress: one sound [samples] at a time, got {len(heard)}")
        return compressing.compress(self, heard[0], bits, **known)

    def decompress(self, content: bytes) -> Tensor:
        """The sound `[samples]` of bytes that `compress` of this model made."""
        return compressing.decompress(self, content)[0]

    def transfer(self, a: Sound, b: Sound) -> Sound:
        """The timbre of `a` with pitch, loudness and envelope of `b`; one sound of `a` serves all of `b`."""
        return mixing.transfer(a, b, [*self.controls.values()])

    def sound_of(self, timbre: Tensor, values: Mapping[str, Tensor], samples: Tensor) -> Sound:
        """Latents of timbre codes `[B, D]` under controls in their units (`[B]` each), uncalibrated."""
        named = {name: values[name].float() for name in self.controls}
        stacked = torch.stack([*named.values()], dim=1) if named else timbre.new_zeros(len(timbre), 0)
        standard = self.vaegan.standardise(stacked)
        return Sound(torch.cat([standard, timbre], dim=1), named, samples, named.get("noisiness"))

    def control(self, name: str) -> Control:
        """A named control. Raises UserError that names the ones there are."""
        return given.named(self.controls, name)
