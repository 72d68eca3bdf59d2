"""Variations of real sounds: each through the encoder, its timbre code and its controls moved a little."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audio_vaegan.dataset.plan import Asked, Plan
from audio_vaegan.errors import UserError
from audio_vaegan.files import printable
from audio_vaegan.sound_model import BATCH, Sound
from audio_vaegan.sound_model.writing import encode_file


class Variations:
    """Of each file of the plan `factor` variations: sound number i is one of file i // factor."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.model, self.how = plan, plan.model, plan.spec.augment

    def file(self, slot: int) -> int:
        assert self.how is not None
        return slot // self.how.factor

    def name(self, slot: int) -> str:
        """The file, relative to the folder, as text."""
        return printable(self.plan.sources[self.file(slot)].path.as_posix())

    def read(self, slots: Sequence[int]) -> tuple[dict[int, Sound], dict[int, dict[str, Any]]]:
        """Latents of the files that some sounds are to be variations of, by the file's number; and the sounds whose
        file is none, with the reason."""
        assert self.how is not None
        sounds: dict[int, Sound] = {}
        unreadable: dict[int, dict[str, Any]] = {}
        for slot in slots:
            try:
                if self.file(slot) not in sounds:
                    path = self.how.folder / self.plan.sources[self.file(slot)].path
                    sounds[self.file(slot)] = encode_file(self.model, path)[0]
            except UserError as e:
                unreadable[slot] = {"reasons": ["unreadable"], "source": self.name(slot), "why": printable(f"{e}")}
        return sounds, unreadable

    def of(
        self,
        sounds: dict[int, Sound],
        draws: Sequence[tuple[int, int]],
        told: Sequence[Callable[[Asked], Asked]],
    ) -> tuple[Sound, list[Asked]]:
        """Codes of variations, filled up to a whole batch, and what is asked of each; `draws` are the sounds' numbers,
        and how many were drawn in their places before; `told` makes of what is asked what the model is told."""
        size = len(self.model.controls)
        codes, asked = [], []
        moves = self.plan.asked([slot for slot, _ in draws])
        for (slot, draw), move, tell in zip(draws, moves, told, strict=True):
            sound = sounds[self.file(slot)]
            wanted = self._moved(sound, move)
            z = sound.z.clone()
            z[:, size:] += torch.from_numpy(self._noise(slot, draw))
            now = sound.controls | {n: torch.tensor([v], dtype=torch.float32) for n, v in tell(wanted).items()}
            codes.append(self.model.replace_controls(replace(sound, z=z), now))
            asked.append(wanted)
        codes += [codes[-1]] * (BATCH - len(codes))
        whole = Sound(
            torch.cat([c.z for c in codes]),
            {n: torch.cat([c.controls[n] for c in codes]) for n in codes[0].controls},
            torch.cat([c.samples for c in codes]).clamp(max=self.plan.samples),  # as an address says it
            torch.cat(noise) if (noise := [c.own_noise for c in codes if c.own_noise is not None]) else None,
        )
        return whole, asked

    def _moved(self, sound: Sound, move: Asked) -> Asked:
        """What a variation's controls shall be: moved, and within the trained range; its pitch stays a known one."""
        wanted: Asked = {}
        for name, control in self.model.controls.items():
            value = float(sound.controls[name][0]) + float(move.get(name, 0.0))
            if control.classes or (name not in move and name != "pitch") or np.isnan(value):
                continue
            if name in move or control.low <= value <= control.high:
                wanted[name] = round(float(np.clip(value, control.low + 1e-4, control.high - 1e-4)), 4)
        return wanted

    def _noise(self, slot: int, draw: int) -> NDArray[np.float32]:
        """How far a timbre code is moved `[D]`: `timbre` deviations of all sounds' codes."""
        assert self.how is not None
        seed = [self.plan.spec.seed, slot, 2 + draw]
        normal = np.random.default_rng(seed).standard_normal(self.model.vaegan.timbre_dim)
        prior, size = self.model.prior, len(self.model.controls)
        if prior is not None:
            mean = prior.weight @ prior.mean[:, size:]
            widths = np.diagonal(prior.covariance, axis1=1, axis2=2)[prior.kind, size:]
            spread = widths + (prior.mean[:, size:] - mean) ** 2
            normal = normal * np.sqrt(prior.weight @ spread)
        return (self.how.timbre * normal).astype(np.float32)
