"""One training step of the VAE-GAN family (Larsen et al. 2016, algorithm 1).

| objective | encoder learns from | generator learns from | discriminator learns from |
|---|---|---|---|
| vae | KL, mel error | mel error | - |
| vae_disl | KL, mel error, similarity | mel error, similarity | - (frozen, from a GAN trained first) |
| gan | - | GAN, controls | GAN |
| vaegan | KL, mel error, similarity | mel error, similarity, GAN, controls | GAN |

The GAN's gradient reaches the encoder only with `routing: joint`. `loss.mel: 0` leaves the paper's own objectives,
whose likelihood is the similarity alone.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from audio_vaegan import losses
from audio_vaegan.config import Recipe
from audio_vaegan.data.batches import Clips, hold_out, too_few
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.mel import Mel
from audio_vaegan.models.bundle import Bundle, save_bundle
from audio_vaegan.models.critic import parameter_count
from audio_vaegan.models.vaegan import Decoded, VaeGan
from audio_vaegan.training import schedule
from audio_vaegan.training.adversary import Adversary, Terms, fakes_of, mean, syncing
from audio_vaegan.training.ema import Ema
from audio_vaegan.training.facts import (
    began_with,
    check_start,
    check_store,
    find_controls,
    hear_classes,
    measure_normalisation,
    training_clips,
    training_rows,
)
from audio_vaegan.training.feed import Feed, Part
from audio_vaegan.training.validation import ACTIVE_NATS, Validation


def check_best_by(recipe: Recipe) -> None:
    """Raise UserError when a recipe judges by a figure that its training has not."""
    if recipe.train.best_by == "val_stft":
        raise UserError("train.best_by: val_stft is a vocoder's figure; use auto, val_mel or val_samples")
    if recipe.train.best_by == "val_mel" and not recipe.encodes:
        raise UserError("train.best_by: a gan has no val_mel; use auto or val_samples")


class VaeGanTask:
    """Networks, optimisers and the step. Built alike on every rank; the engine drives it.

    `similarity` holds the weights of the trained discriminator that `objective: vae_disl` freezes. `start` is a model
    to fine-tune: its weights, its controls with their ranges, and its normalisation are where training begins.
    """

    exported = "config.json"  # a file that an export writes
    learning_rate_scale = 1.0  # lowered by the engine after a rollback

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        accelerator: Accelerator,
        similarity: dict[str, Tensor] | None = None,
        start: Bundle | None = None,
    ) -> None:
        check_store(store, recipe)
        check_best_by(recipe)
        self.recipe, self.accelerator, self.store, self.start = recipe, accelerator, store, start
        if start is None:
            clips = training_clips(store, recipe)
        else:
            check_start(start, recipe, store)
            clips = Clips(store, training_rows(store), {c.name: c.classes for c in start.vaegan.controls})
            for name, heard in hear_classes(clips, start).items():
                kinds = ", ".join(f"{kind} {n}" for kind, n in heard.most_common())
                told = f"{name}: {heard.total()} of {len(clips)} clips have none; taken as --start-from hears them"
                accelerator.print(f"{told}: {kinds}")
        stay, aside = hold_out(store.codes("copy_of")[clips.clips], recipe.train.validation_share)
        self.clips = clips.part(stay)
        for line in too_few(recipe.train.validation_share, aside):
            accelerator.print(line)
        mel = Mel(recipe.mel)
        if start is None:
            controls, normalisation = find_controls(self.clips, recipe.augment), measure_normalisation(self.clips, mel)
        else:
            controls, normalisation = list(start.vaegan.controls), start.vaegan.normalisation
        unused = [name for name in self.clips.names if name not in {c.name for c in controls}]
        if unused:
            accelerator.print(f"no training clip defines, or all agree on: {', '.join(unused)}; trained without")
        torch.manual_seed(recipe.seed)  # the networks of a seed start alike, whatever was built before
        vaegan = VaeGan(recipe, controls, normalisation)
        if start is not None:
            own = start.vaegan.state_dict()
            vaegan.load_state_dict({k: v for k, v in own.items() if recipe.encodes or not k.startswith("encoder.")})
        self.ema = Ema(vaegan, recipe.train.ema)
        self.adversary = Adversary(recipe, controls, accelerator, similarity, start)
        t = recipe.train
        opt_g = AdamW(vaegan.parameters(), t.learning_rate, t.betas, weight_decay=t.weight_decay, fused=True)
        self.vaegan, self.opt_g = accelerator.prepare(vaegan, opt_g)
        self.net: VaeGan = accelerator.unwrap_model(self.vaegan)
        mel.to(accelerator.device)
        self.ema.module.to(accelerator.device)
        self.feed = Feed(recipe, self.clips, controls, mel, self.net, accelerator)
        self.validation = Validation(recipe, self.clips, clips.part(aside) if len(aside) else None, controls, mel)

    @property
    def average(self) -> VaeGan:
        """The running average of the networks: what is validated, sampled and exported."""
        return self.ema.module  # type: ignore[return-value]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by name."""
        modules: dict[str, nn.Module] = {"vaegan": self.net, "ema": self.ema.module}
        return modules if self.adversary.critic is None else modules | {"critic": self.adversary.net}

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        optimizers = {"opt_g": self.opt_g.optimizer}
        other = self.adversary.optimizer
        return optimizers if other is None else optimizers | {"opt_d": other.optimizer}

    def parameters(self) -> dict[str, int]:
        """Parameter counts by network; what the objective leaves out is not listed."""
        networks = {
            "encoder": self.net.encoder,
            "generator": self.net.generator,
            "discriminator": self.adversary.net.discriminator,
            "frozen discriminator": self.adversary.frozen,
            "heads": self.adversary.net.heads,
        }
        counts = {name: parameter_count(network) for name, network in networks.items() if network is not None}
        return {name: count for name, count in counts.items() if count}

    def data(self) -> str:
        """The training data in words."""
        return f"{len(self.clips)} training clips; controls: {', '.join(c.name for c in self.net.controls) or 'none'}"

    def settled(self, done: int) -> bool:
        """Whether validation figures after so many steps can be compared with later ones."""
        return done >= self.recipe.train.growing * self.recipe.train.steps

    @property
    def best_by(self) -> str:
        """The figure by which the best step is chosen, unless the recipe says."""
        return "val_mel" if self.recipe.encodes else "val_samples"

    def judged(self, step: int) -> bool:
        """Whether discriminator features or scores reach the generator at this step."""
        return schedule.judged(step, self.recipe)

    def step(self, step: int) -> Terms:
        """One step of both optimisers. Returns the loss terms as detached scalars of this rank."""
        recipe, t = self.recipe, self.recipe.train
        schedule.set_learning_rates(step, t, self.opt_g, self.adversary.optimizer, self.learning_rate_scale)
        judged = schedule.judged(step, recipe)
        self.adversary.detail = schedule.detail(step, recipe)
        for net in (self.net, self.average):
            net.generator.fade_in = schedule.fade_in(step, recipe)
        updating = self.adversary.critic is not None and step % t.disc_every == 0
        for turn in range(1, schedule.turns(step, recipe)):
            self._update_adversary(self.feed.parts(step, judged, turn), None)
        parts = self.feed.parts(step, judged)
        # One forward through the wrapper serves both networks, unless micro-batches would have to be kept.
        outs = [self._decode(parts[0])] if len(parts) == 1 else None
        terms: Terms = {}
        if updating:
            terms = self._update_adversary(parts, outs)
        terms |= self._update_generator(parts, outs, judged, step)
        self.ema.update(self.net, step)
        return terms

    def _decode(self, part: Part) -> Decoded:
        decoded: Decoded = self.vaegan(part.mel, part.controls, part.defined, part.noise, part.plan)
        return decoded

    def _update_adversary(self, parts: Sequence[Part], outs: Sequence[Decoded] | None) -> Terms:
        def fakes(i: int) -> Tensor:
            part = parts[i]
            out = outs[i] if outs else self.net(part.mel, part.controls, part.defined, part.noise, part.plan)
            return fakes_of(part, out)

        return self.adversary.update(parts, fakes)

    def _update_generator(
        self, parts: Sequence[Part], outs: Sequence[Decoded] | None, judged: bool, step: int
    ) -> Terms:
        """Encoder and generator: one step of their optimiser."""
        everywhere = self._kl_everywhere(parts, outs)
        found: list[Terms] = []
        for i, part in enumerate(parts):
            with syncing(self.accelerator, self.vaegan, i == len(parts) - 1):
                terms = self._generator_terms(part, outs[i] if outs else self._decode(part), judged, step, everywhere)
                self.accelerator.backward(terms["total"] / len(parts))
            found.append({k: v.detach() for k, v in terms.items()})
        coordinates = [terms.pop("coordinates") for terms in found if "coordinates" in terms]
        terms = mean(found)
        if coordinates:
            everywhere = self.accelerator.reduce(torch.stack(coordinates).mean(dim=0), reduction="mean")
            terms["active"] = (everywhere > ACTIVE_NATS).sum().float()
        terms["grad_g"] = self.accelerator.clip_grad_norm_(self.vaegan.parameters(), self.recipe.train.grad_clip)
        self.opt_g.step()
        self.opt_g.zero_grad()
        return terms

    def _generator_terms(self, part: Part, out: Decoded, judged: bool, step: int, everywhere: Tensor | None) -> Terms:
        recipe, loss = self.recipe, self.recipe.loss
        terms: Terms = {}
        total = part.mel.new_zeros(())
        if recipe.encodes:
            weight = part.mask + loss.padding * (1 - part.mask)
            weight = F.avg_pool1d(weight, 2**self.adversary.first)  # as `coarse` pools the frames
            terms["mel"] = losses.masked_error(
                self.adversary.coarse(out.reconstruction), self.adversary.coarse(part.mel), weight, loss.reconstruction
            )
            per_coordinate = losses.kl_per_coordinate(out.mean, out.log_variance)
            terms["kl"] = losses.kl_loss(per_coordinate, loss.free_bits, everywhere)
            terms["coordinates"] = per_coordinate
            total = loss.mel * terms["mel"] + loss.kl * schedule.kl_factor(step, recipe.train, loss) * terms["kl"]
        if judged:
            terms |= self.adversary.judgement(part, out)
            for name in ("adversarial", "feature", "control", "diversity"):
                if name in terms:
                    total = total + getattr(loss, name) * terms[name]
        return terms | {"total": total}

    def _kl_everywhere(self, parts: Sequence[Part], outs: Sequence[Decoded] | None) -> Tensor | None:
        """KL of each coordinate over the global batch, which decides where free bits are used up."""
        if not self.recipe.encodes or not self.recipe.loss.free_bits:
            return None
        with torch.no_grad(), self.accelerator.autocast():
            codes = [(o.mean, o.log_variance) for o in outs or ()] or [self.net.encoder(p.mel) for p in parts]  # type: ignore[misc]
            found = torch.stack([losses.kl_per_coordinate(m.float(), v.float()) for m, v in codes]).mean(dim=0)
        mean: Tensor = self.accelerator.reduce(found, reduction="mean")
        return mean

    def cost(self, step: int) -> float:
        """What a step costs, relative to one with every network at work (0.29 s against 0.48 s on two cores)."""
        return 1.0 if schedule.judged(step, self.recipe) else 0.6

    def validate(self) -> dict[str, float]:
        """Figures of the averaged networks on clips set aside, and of samples from the prior."""
        return self.validation(self.average)

    def bundle(self, steps: int) -> Bundle:
        """A copy of the averaged networks as they stand, with the facts of their training."""
        facts: dict[str, Any] = {
            "steps": steps,
            "training_clips": len(self.clips),
            "training_hours": round(float(self.clips.length.sum()) / self.recipe.mel.sample_rate / 3600, 3),
            "store": self.store.content_hash,
        }
        if self.start is not None:  # whose sounds went into that one went into this one
            facts["began_with"] = began_with(self.start)
        judge = self.adversary.net
        networks = copy.deepcopy((self.average, judge.heads, judge.discriminator))
        return Bundle(self.recipe, networks[0], networks[1], facts, networks[2])

    def close(self) -> None:
        """End the processes that read ahead."""
        self.feed.ahead.close()

    def export(self, out: Path, steps: int) -> str:
        """Write the averaged networks as a bundle. Returns its hash."""
        return save_bundle(self.bundle(steps), out)
