"""What every tab works with: the model, sounds by their addresses, and the files that each request makes."""

import math
import shutil
import tempfile
import time
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from audio_vaegan.audio import BadAudio, read, write
from audio_vaegan.edits import raised, too_dark
from audio_vaegan.errors import UserError
from audio_vaegan.sound_model import Clip, Sound, SoundModel
from audio_vaegan.sound_model.address import HASH, Address, address_of, after, latent_of, parse_address, vocoder_name
from audio_vaegan.sound_model.writing import gain_within, turned_down

LONGEST = 60.0  # seconds of an upload; the first clip of it is used
KEPT = 32  # sounds whose reconstruction is remembered
STALE = 120.0  # seconds after which the files of a request go; the page has copies of those it shows
PITCH_STEP = 0.01  # semitones
SEEDS = 2**53  # of a browser's whole numbers
FLAG = "--address: "  # begins errors of the command line


@dataclass(frozen=True)
class Opened:
    """A sound as its file holds it: latents, its decoded clip, what the meters find, and what should be known of it."""

    sound: Sound
    clip: Clip
    measured: dict[str, torch.Tensor]
    address: str
    notes: tuple[str, ...] = ()


class Desk:
    """A model and a folder for the files of its requests."""

    def __init__(self, model: SoundModel, folder: Path, path: Path, vocoder: str) -> None:
        self.model, self.folder, self.path, self.vocoder = model, folder, path, vocoder
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        folder.mkdir(parents=True, exist_ok=True)

    def address(self, sound: Sound, gain: float = 0.0) -> str:
        """The address that holds the latent of a sound, its length where that is not the clip's, and a gain in dB."""
        return address_of(self.model, sound, gain=gain)

    def drawn(self, seed: int, truncation: float, asked: Mapping[str, float | str]) -> str:
        """The address of the first sound of a seed, under the controls that are asked."""
        names = self.model.hash[:HASH], vocoder_name(self.model)[:HASH]
        prior = "fitted" if self.model.prior is not None else "normal"
        return str(Address(*names, seed=seed, prior=prior, truncation=truncation, controls=dict(asked)))

    def open(self, text: str) -> Opened:
        """The sound at an address, as the model makes it: what was done to it afterwards (gain, rate) is left out.
        Raises UserError for an address of another model, and one that is none."""
        if not text or "model=" not in text:
            raise UserError(f"This is no address of a sound, which begins with model=: {(text or '')[:40]!r}")
        try:
            address = replace(parse_address(text, self.model.controls), gain=0.0, rate=None)
        except UserError as e:
            raise UserError(f"This address cannot be opened: {str(e).removeprefix(FLAG)}") from None
        text = str(address)
        if text in self._opened:
            self._opened.move_to_end(text)
            return self._opened[text]
        sound = self._latent(address)
        clip, gain = self.decode(sound)
        own = str(replace(address, gain=gain))
        found = Opened(sound, clip, self.model.measure(clip.audio, sound.samples), own, tuple(turned_down(gain)))
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
                raise UserError(f"This sound was made by {what} {given}, this page plays {own[:HASH]}")
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

    def decode(self, sound: Sound) -> tuple[Clip, float]:
        """A sound's clip, and the gain in dB that it came by: above full scale it is turned down, as by `generate`."""
        clip = self.model.decode(sound, limit=False)
        gain = gain_within(clip.audio)
        return replace(clip, audio=clip.audio * 10 ** (gain / 20)), gain

    def change(
        self, opened: Opened, to: Mapping[str, float | str], move: Mapping[str, float], closed: bool
    ) -> tuple[Opened, dict[str, float | str]]:
        """A sound with controls set `to` values in their units, and moved along directions. With it what was asked in
        the end: less brightness than a note has is not. Raises UserError."""
        asked, sound = dict(to), opened.sound
        numbers = {n: v for n, v in asked.items() if not isinstance(v, str)}
        lowest = too_dark(self.model, sound, {}, numbers) if numbers else None
        if lowest is not None:
            asked["brightness"] = lowest
        made = self.model.edit(sound, set=asked, move=move, closed_loop=closed)
        whole = made.sound()
        clip: Clip = made
        gain, measured = 0.0, made.achieved
        if made.audio.abs().max() >= 1:
            clip, gain = self.decode(whole)
            measured = self.model.measure(clip.audio, whole.samples)
        address = self.address(whole, gain) if asked or move else opened.address
        notes = [] if lowest is None else [raised(lowest)]
        return Opened(whole, clip, measured, address, (*notes, *turned_down(gain))), asked

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


def number(value: Any, what: str, kind: str = "a number") -> float:
    """A value that must be a number. Raises UserError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{what} must be {kind}")
    return float(value)


def seed_of(value: Any) -> int:
    """A value that must be a seed. Raises UserError."""
    kind = "a whole number, 0 or more"
    if not 0 <= number(value, "Seed", kind) < SEEDS or value != int(value):
        raise UserError(f"Seed must be {kind}")
    return int(value)


def plainly(e: UserError) -> gr.Error:
    """A user's mistake as the page shows it."""
    return gr.Error(str(e).removeprefix(FLAG), title="That does not work", duration=12, print_exception=False)
