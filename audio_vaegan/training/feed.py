"""What a step sees: this process's clips and random numbers, micro-batch by micro-batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from audio_vaegan.config import Recipe
from audio_vaegan.data.ahead import Ahead
from audio_vaegan.data.augment import DRAWS
from audio_vaegan.data.batches import Clips, frame_mask, positions
from audio_vaegan.errors import UserError
from audio_vaegan.mel import Mel
from audio_vaegan.models.controls import Control, standardise
from audio_vaegan.models.vaegan import Plan, VaeGan
from audio_vaegan.training import schedule
from audio_vaegan.training.accelerator import workers

MOVED = 0.4  # share of the controls of a fake that are moved; one of them always is
STEP = 1.0  # deviations


@dataclass(frozen=True)
class Part:
    """One micro-batch of one process: clips, and all random numbers that they need."""

    mel: Tensor  # [B, n_mels, T] normalised
    defined: Tensor  # [B, C]
    controls: Tensor  # [B, C] standardised, 0: undefined
    mask: Tensor  # [B, T] 1: sound, 0: padding
    noise: Tensor  # [B, D] of the posterior
    heard: Tensor  # [B, n_mels, T] noise on what the heads hear
    mix: Tensor  # [B, 1, 1] where between a real clip and its fakes the gradient penalty looks
    plan: Plan

    @property
    def real(self) -> Tensor:
        """The real clips that the discriminator sees. While it warms up on decoded clips alone, those clips."""
        return self.mel if len(self.plan.timbre) else self.mel[self.plan.judged]

    @property
    def partner(self) -> Tensor:
        """For each fake, the clip that the gradient penalty pairs it with: its own, or the next in turn."""
        plan, prior = self.plan, int((self.plan.source < 0).sum())
        turn = torch.full_like(plan.source, 0)
        turn[plan.source < 0] = torch.arange(prior, device=turn.device) * len(self.mel) // max(1, prior)
        return torch.cat([plan.judged, torch.where(plan.source >= 0, plan.source, turn)])


class Feed:
    """Cuts the global batch of a step into equal parts: one a process and micro-batch.

    The clips and every random number of the global batch are functions of (seed, step), so that neither the number of
    processes nor a resume changes what is trained.
    """

    def __init__(
        self, recipe: Recipe, clips: Clips, controls: Sequence[Control], mel: Mel, net: VaeGan, accelerator: Accelerator
    ) -> None:
        self.recipe, self.clips, self.mel, self.net = recipe, clips, mel, net
        self.controls, self.device = tuple(controls), accelerator.device
        self.frames = recipe.mel.frames(recipe.data.clip_samples)
        self.columns = [list(clips.names).index(c.name) for c in controls]
        self.table = standardise(controls, torch.from_numpy(clips.controls[:, self.columns]))  # of all clips
        self.augmented = recipe.augment != type(recipe.augment)()
        self.ahead = Ahead(clips, recipe.augment, workers(recipe, accelerator) if self.augmented else 0)
        self.drawn: dict[tuple[int, bool, int], tuple[np.ndarray, dict[str, Tensor]]] = {}  # and to come
        self.micro, self.rank = recipe.train.accumulate, accelerator.process_index
        self.parts_in_all = accelerator.num_processes * self.micro
        self.sizes = self._sizes(accelerator.num_processes)

    def _sizes(self, world: int) -> dict[str, int]:
        t = self.recipe.train
        shares = {"prior": t.prior_share, "repitch": t.repitch_share, "judged": t.judged_share}
        if self.recipe.objective == "gan":  # nothing is encoded: as many prior samples as real clips
            shares = {"prior": 1.0, "repitch": 0.0, "judged": 0.0}
        elif not self.recipe.adversarial:
            shares = dict.fromkeys(shares, 0.0)
        sizes = {"batch": t.batch_size} | {k: round(v * t.batch_size) for k, v in shares.items()}
        if self.recipe.objective == "vaegan" and (not sizes["judged"] or not sizes["prior"] + sizes["repitch"]):
            raise UserError(
                "the discriminator needs fakes: train.judged_share, and train.prior_share or train.repitch_share, must "
                f"make at least one of train.batch_size {t.batch_size}"
            )
        for name, size in sizes.items():
            if size % self.parts_in_all or (size and t.batch_size % size):
                raise UserError(
                    f"train.batch_size {t.batch_size}: its part {name!r} ({size}) must divide it, and be a multiple of "
                    f"{world} processes x {self.micro} micro-batches"
                )
        pairs = sizes["prior"] // self.parts_in_all
        if self.recipe.loss.diversity and self.recipe.adversarial and (not pairs or pairs % 2):
            raise UserError(
                f"loss.diversity compares prior samples in pairs: each micro-batch needs an even number of them, not "
                f"{pairs} (train.batch_size, train.accumulate, and train.prior_share unless the objective is gan)"
            )
        return sizes

    def parts(self, step: int, judged: bool, turn: int = 0) -> list[Part]:
        """This process's micro-batches of a step; `turn` counts the discriminator's updates within the step."""
        now, coming = (step, judged, turn), list(self._coming(step, turn))
        self.drawn = {which: self.drawn.get(which) or self._of(*which) for which in (now, *coming)}
        mine = range(self.rank * self.micro, (self.rank + 1) * self.micro)
        for which in coming:
            for number in mine:
                self.ahead.ask(*self._wanted(*self.drawn[which], number))
        return [self._part(*self.drawn[now], number) for number in mine]

    def _of(self, step: int, judged: bool, turn: int) -> tuple[np.ndarray, dict[str, Tensor]]:
        """Rows and random numbers of the global batch."""
        index = step * self.recipe.train.disc_updates + turn
        rows = positions(self.recipe.seed, index, self.sizes["batch"], len(self.clips))
        return rows, self._draw(schedule.generator(self.recipe.seed, index), judged)

    def _coming(self, step: int, turn: int) -> Iterator[tuple[int, bool, int]]:
        """What will be wanted after a step and turn, as far as it is read ahead; turn 0 comes last."""
        for _ in range(self.ahead.workers):
            if turn == 0:  # a step's last
                step += 1
            turn = (turn + 1) % schedule.turns(step, self.recipe)
            if step < self.recipe.train.steps:
                yield step, schedule.judged(step, self.recipe), turn

    def _wanted(self, rows: np.ndarray, draw: dict[str, Tensor], number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """What part `number` of the global batch reads: places of clips, and how each is varied."""
        size = self.sizes["batch"] // self.parts_in_all
        here = slice(number * size, (number + 1) * size)
        return rows[here], draw["vary"][here].numpy() if self.augmented else None

    def _draw(self, g: torch.Generator, judged: bool) -> dict[str, Tensor]:
        """Random numbers of the global batch."""
        size, dim, count = self.sizes, self.net.timbre_dim, len(self.controls)
        batch = size["batch"]
        prior, repitch = (size["prior"], size["repitch"]) if judged else (0, 0)
        draw = {
            "noise": torch.randn(batch, dim, generator=g),
            "heard": torch.randn(batch, self.recipe.mel.n_mels, self.frames, generator=g)
            if count
            else torch.empty(batch),
            "mix": torch.rand(batch, 1, 1, generator=g),
            "timbre": torch.randn(prior + repitch, dim, generator=g),
        }
        # A fake's controls are those of a real clip, its source or any, some of them moved: so they are together as
        # they are in the data, and yet each is tried everywhere.
        draw["like"] = torch.randint(len(self.clips), (prior + repitch,), generator=g)
        draw["share"] = torch.rand(prior + repitch, count, generator=g)
        draw["step"] = torch.randn(prior + repitch, count, generator=g)
        moved = torch.rand(prior + repitch, count, generator=g)
        draw["moved"] = (moved < MOVED) | (moved == moved.amin(dim=1, keepdim=True)) if count else moved > 0
        if self.recipe.loss.diversity:  # prior samples come in pairs under the same controls
            for name in ("like", "share", "step", "moved"):
                draw[name][1:prior:2] = draw[name][0:prior:2]
        if self.augmented:  # drawn last, so that without it nothing else changes
            draw["vary"] = torch.rand(batch, DRAWS, generator=g)
        return draw

    def _asked(self, draw: dict[str, Tensor], own: Tensor) -> Tensor:
        """What is asked of fakes that start from standardised controls `own` `[M, C]` (NaN: undefined): pitch, and a
        class, anywhere in its range; another control up to some deviations from its own. One that is undefined gets
        another clip's value, or stays undefined."""
        asked = own.clone()
        another = self.table[draw["like"]]
        for i, c in enumerate(self.controls):
            low, high = c.standard_range
            if c.name == "pitch" or c.classes:
                anywhere = c.standard(c.at(draw["share"][:, i]))
                value = anywhere.masked_fill(own[:, i].isnan() & another[:, i].isnan(), torch.nan)
            else:
                near = own[:, i] + STEP * draw["step"][:, i]
                value = torch.where(near.isnan(), another[:, i], near)
            asked[:, i] = torch.where(draw["moved"][:, i], value.clamp(low, high), own[:, i])
        return asked

    def _part(self, rows: np.ndarray, draw: dict[str, Tensor], number: int) -> Part:
        size, n = self.sizes, self.parts_in_all

        def mine(count: int) -> slice:
            return slice(number * count // n, (number + 1) * count // n)

        here = mine(size["batch"])
        local, judged = size["batch"] // n, size["judged"] // n
        prior, repitch = (size["prior"], size["repitch"]) if len(draw["timbre"]) else (0, 0)
        fakes = torch.cat([torch.arange(prior)[mine(prior)], prior + torch.arange(repitch)[mine(repitch)]])
        source = torch.full((len(fakes),), -1)
        if repitch:
            source[fakes >= prior] = torch.arange(repitch // n) * local // (repitch // n)
        audio, values, length = self.ahead.read(*self._wanted(rows, draw, number))
        values = values[:, self.columns]
        like = {name: draw[name][fakes] for name in ("like", "share", "step", "moved")}
        standard = standardise(self.controls, values)
        asked = self._asked(like, torch.where((source < 0).unsqueeze(1), self.table[like["like"]], standard[source]))
        plan = Plan(
            judged=torch.arange(judged) * local // max(1, judged),
            source=source,
            timbre=draw["timbre"][fakes],
            controls=asked.nan_to_num(0.0),
            defined=~asked.isnan(),
        )
        device, net = self.device, self.net
        standard, length = standard.to(device), length.to(device)
        with torch.no_grad():
            mel = net.normalise(self.mel(audio.to(device)))
        return Part(
            mel=mel,
            defined=~standard.isnan(),
            controls=standard.nan_to_num(0.0),
            mask=frame_mask(length, self.frames, self.recipe.mel.hop_length),
            noise=draw["noise"][here].to(device),
            heard=draw["heard"][here].to(device),
            mix=draw["mix"][here].to(device),
            plan=Plan(**{k: v.to(device) for k, v in vars(plan).items()}),
        )
