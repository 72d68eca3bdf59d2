"""What every tab works with: the model, sounds by their addresses, and the files that each request makes."""

import shutil
import tempfile
import time
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr
import torch

from audio_vaegan.audio import BadAudio, read, write
from audio_vaegan.errors import UserError
from audio_vaegan.sound_model import Clip, Sound, SoundModel
from audio_vaegan.sound_model.address import HASH, Address, address_of, after, latent_of, parse_address, vocoder_name

LONGEST = 60.0  # seconds of an upload; the first clip of it is used
KEPT = 32  # sounds whose reconstruction is remembered
STALE = 120.0  # seconds after which the files of a request go; the page has copies of those it shows
PITCH_STEP = 0.01  # semitones


@dataclass(frozen=True)
class Opened:
    """A sound as it stands before any change: latents, its decoded clip, what the meters find, its file."""

    sound: Sound
    clip: Clip
    measured: dict[str, torch.Tensor]
    address: str


class Desk:
    """A model and a folder for the files of its requests."""

    def __init__(self, model: SoundModel, folder: Path, path: Path, vocoder: str) -> None:
        self.model, self.folder, self.path, self.vocoder = model, folder, path, vocoder
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        folder.mkdir(parents=True, exist_ok=True)

    def address(self, sound: Sound, k: int = 0) -> str:
        """The address that holds the latent of a sound, and its length where that is not the clip's."""
        return address_of(self.model, sound, k)

    def drawn(self, seed: int, truncation: float, asked: Mapping[str, str]) -> str:
        """The address of the first sound of a seed, of the classes that are asked."""
        names = self.model.hash[:HASH], vocoder_name(self.model)[:HASH]
        prior = "fitted" if self.model.prior is not None else "normal"
        return str(Address(*names, seed=seed, prior=prior, truncation=truncation, controls=dict(asked)))

    def open(self, text: str) -> Opened:
        """The sound at an address, as the model makes it: what was done to it afterwards (gain, rate) is left out.
        Raises UserError for an address of another model, and one that is none."""
        address = replace(parse_address(text or "", self.model.controls), gain=0.0, rate=None)
        text = str(address)
        if text in self._opened:
            self._opened.move_to_end(text)
            return self._opened[text]
        sound = self._latent(address)
        clip = self.model.decode(sound)
        found = Opened(sound, clip, self.model.measure(clip.audio, sound.samples), text)
        self._opened[text] = found
        while len(self._opened) > KEPT:
            self._opened.popitem(last=False)
        return found

    def _latent(self, address: Address) -> Sound:
        model = self.model
        for what, given, own in (
            ("model", address.model, model.hash),
            ("vocoder", address.vocoder, vocoder_name(model)),
        ):
            if not given or not own.startswith(given):
                raise UserError(f"this sound was made by {what} {given}, the page plays {own[:HASH]}")
        samples = torch.tensor([min(address.samples or model.clip_samples, model.clip_samples)])
        if address.z is None:
            values = {k: [v] for k, v in address.controls.items()}
            clip = model.sample(
                seed=address.seed,
                items=[address.item],
                truncation=address.truncation,
                prior=address.prior,
                closed_loop=address.closed,
                **values,  # type: ignore[arg-type]
            )
            return clip.sound(samples)
        return latent_of(model, address)

    def upload(self, path: str) -> tuple[Sound, list[str]]:
        """The latents of a file that a user gave, and what should be known of it."""
        try:
            audio, _ = read(Path(path), self.model.sample_rate, LONGEST)
        except BadAudio as e:
            raise UserError(f"This file cannot be used: {e}.") from None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            sound = self.model.encode(audio)
        undefined = [n for n in self.model.controls if sound.controls[n].isnan().any()]
        notes = [f"{w.message}" for w in caught if issubclass(w.category, UserWarning)]
        return sound, notes + ([f"undefined for this sound: {', '.join(undefined)}"] if undefined else [])

    def request(self) -> Path:
        """A new folder for the files of one request; those of old requests go."""
        now = time.time()
        for old in self.folder.iterdir():
            try:
                if now - old.stat().st_mtime > STALE:
                    shutil.rmtree(old, ignore_errors=True)
            except OSError:
                continue
        return Path(tempfile.mkdtemp(dir=self.folder))

    def wav(self, clip: Clip, sound: Sound, address: str, name: str, k: int = 0) -> str:
        """Write sound `k` of a clip as a 16-bit file as loud as it is, tagged with its address. Returns its path."""
        file = self.request() / f"{name}.wav"
        audio = after(
            clip.audio[k], self.model.sample_rate, int(sound.samples[k]), 0.0, None
        )  # ends as its address says
        write(file, audio.numpy(), self.model.sample_rate, address)
        return str(file)


def plainly(e: UserError) -> gr.Error:
    """A user's mistake as the page shows it."""
    return gr.Error(str(e), title="That does not work", duration=12, print_exception=False)
