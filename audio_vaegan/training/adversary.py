"""What judges the generator: discriminator and heads, their own step, and what they tell the generator."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW

from audio_vaegan import losses
from audio_vaegan.config import Recipe
from audio_vaegan.errors import UserError
from audio_vaegan.models.bundle import Bundle
from audio_vaegan.models.controls import Control
from audio_vaegan.models.critic import Critic, Discriminator, parameter_count
from audio_vaegan.models.vaegan import Decoded
from audio_vaegan.training import schedule
from audio_vaegan.training.feed import Part

HEAD_NOISE = 0.3  # deviation of the noise added to what the heads hear, so that they do not read imperceptible cues
Terms = dict[str, Tensor]


class Adversary:
    """Discriminator and heads with their optimiser. `detail` is the resolution of the step (see `losses.coarsen`).

    Without an adversary (`vae`) it trains the heads alone; for `vae_disl` it keeps a frozen discriminator with the
    weights `similarity`; networks that the model `start` has begin with its weights. With nothing to train, `critic`
    and `optimizer` are None.
    """

    def __init__(
        self,
        recipe: Recipe,
        controls: Sequence[Control],
        accelerator: Accelerator,
        similarity: dict[str, Tensor] | None = None,
        start: Bundle | None = None,
    ) -> None:
        self.recipe, self.controls, self.accelerator = recipe, tuple(controls), accelerator
        self.detail = float(schedule.levels(recipe))
        frames = recipe.mel.frames(recipe.data.clip_samples)
        self.net = Critic(recipe.model, controls, recipe.mel.n_mels, frames, recipe.adversarial)
        if start is not None:
            self.net.heads.load_state_dict(start.heads.state_dict())
            if self.net.discriminator is not None and start.discriminator is not None:
                self.net.discriminator.load_state_dict(start.discriminator.state_dict())
        self.critic = self.optimizer = None
        if parameter_count(self.net):
            t = recipe.train
            parameters = self.net.parameters()
            optimizer = AdamW(parameters, t.disc_learning_rate, t.betas, weight_decay=t.weight_decay, fused=True)
            self.critic, self.optimizer = accelerator.prepare(self.net, optimizer)
            self.net = accelerator.unwrap_model(self.critic)
        self.frozen: Discriminator | None = None
        if recipe.objective == "vae_disl":
            if similarity is None:
                raise UserError("objective vae_disl needs the discriminator of a GAN that was trained first")
            self.frozen = Discriminator(recipe.model).requires_grad_(False).to(accelerator.device)
            self.frozen.load_state_dict(similarity)

    def update(self, parts: Sequence[Part], fakes: Callable[[int], Tensor]) -> Terms:
        """Discriminator (on real clips and fakes) and heads (on real clips and noise): one step of their optimiser.

        `fakes(i)` decodes the fakes of a micro-batch. The gradients of all micro-batches make one step.
        """
        assert self.critic is not None and self.optimizer is not None
        found: list[Terms] = []
        for i, part in enumerate(parts):
            with syncing(self.accelerator, self.critic, i == len(parts) - 1):
                decoded = None
                if self.recipe.adversarial:
                    with torch.no_grad():
                        decoded = fakes(i).detach()
                terms = self._terms(part, decoded)
                self.accelerator.backward(terms.pop("loss") / len(parts))
            found.append(terms)
        scores = [(terms.pop("of_real"), terms.pop("of_fake")) for terms in found if "of_real" in terms]
        terms = mean(found)
        # Clipped apart: what the heads learn from must not scale the discriminator's step, nor the other way round.
        for name, network in (("grad_d", self.net.discriminator), ("grad_heads", self.net.heads)):
            if network is not None and parameter_count(network):
                parameters = network.parameters()
                terms[name] = self.accelerator.clip_grad_norm_(parameters, self.recipe.train.grad_clip)
        if scores:
            real, fake = (self.accelerator.gather(torch.cat(both)) for both in zip(*scores, strict=True))
            terms["ranking"] = losses.ranking(real, fake)
        if self.recipe.adversarial and self.recipe.train.disc_rest_above < 1:
            terms["rests"] = (terms["ranking"] > self.recipe.train.disc_rest_above).float()
            if terms["rests"] and self.net.discriminator is not None:
                self.net.discriminator.zero_grad()  # no gradient, no step; the heads go on
        self.optimizer.step()
        self.optimizer.zero_grad()
        return terms

    def _terms(self, part: Part, fakes: Tensor | None) -> Terms:
        heard = part.mel + HEAD_NOISE * part.heard if self.controls else part.mel
        if fakes is None:
            _, logits, _ = self.critic(None, heard)  # type: ignore[misc]
            heads = self._control_terms(logits, part.controls, part.defined)
            return {"heads": heads.detach(), "loss": heads}
        kind = self.recipe.loss.gan
        real, fakes = self.coarse(part.real), self.coarse(fakes)
        judged = [real, fakes]
        if kind == "wgan_gp":
            which = part.partner
            judged.append(torch.lerp(self.coarse(part.mel[which]), fakes, part.mix[which]).requires_grad_())
        scores, logits, classes = self.critic(torch.cat(judged), heard, self.first)  # type: ignore[misc]
        real_scores, fake_scores = [s[: len(real)] for s in scores], [s[len(real) :][: len(fakes)] for s in scores]
        adversarial = losses.discriminator_loss(kind, real_scores, fake_scores)
        heads = self._control_terms(logits, part.controls, part.defined)
        loss = adversarial + heads
        terms = {"disc": adversarial.detach(), "heads": heads.detach()}
        if classes is not None:
            kind_of = self._class_term(classes[: len(real)], part)
            loss, terms["classes"] = loss + kind_of, kind_of.detach()
        if kind == "wgan_gp":
            between = losses.clip_scores([s[len(real) + len(fakes) :] for s in scores])
            penalty = losses.gradient_penalty(between, judged[2])
            loss = loss + self.recipe.loss.gradient_penalty * penalty
            terms["penalty"] = penalty.detach()
        of_real, of_fake = losses.clip_scores(real_scores).detach(), losses.clip_scores(fake_scores).detach()
        terms |= {"score_real": of_real.mean(), "score_fake": of_fake.mean()}
        return terms | {"loss": loss, "of_real": of_real, "of_fake": of_fake}

    def _class_term(self, logits: Tensor, part: Part) -> Tensor:
        """What the discriminator learns of the class of real clips `[B, classes]`, those that have one (the supervised
        part of Salimans et al. 2016, section 5, the scores being the unsupervised one)."""
        k = next(i for i, c in enumerate(self.controls) if c.classes)
        rows = slice(None) if len(part.plan.timbre) else part.plan.judged
        value, control = part.controls[rows, k], self.controls[k]
        low, high = value.new_tensor(control.standard_range)
        target = losses.soft_bins(value, low, high, control.bins)
        return losses.control_cross_entropy(logits.float(), target, part.defined[rows, k])

    def judgement(self, part: Part, out: Decoded) -> Terms:
        """The generator's terms from what judges it, which is unwrapped and frozen: it receives no gradient."""
        recipe, terms = self.recipe, {}
        network = self.net.discriminator or self.frozen
        assert network is not None
        with read_only(self.net), self.accelerator.autocast():  # only a wrapped forward does this by itself
            judged = [fakes_of(part, out)] if recipe.adversarial else []
            if recipe.similar:
                # In reconstructions padding is not judged: it is the real clip's.
                judged.insert(0, torch.lerp(part.mel, out.reconstruction, part.mask.unsqueeze(1)))
            scores, features = network(self.coarse(torch.cat(judged)), self.first)
            size = len(part.mel) if recipe.similar else 0
            if recipe.similar:
                with torch.no_grad():
                    _, real = network(self.coarse(part.mel), self.first)
                terms["feature"] = losses.feature_matching([f[:size] for f in features], real)
            if recipe.adversarial:
                terms["adversarial"] = losses.generator_loss(recipe.loss.gan, [s[size:] for s in scores])
                logits = self.net.heads(out.fakes[len(part.plan.judged) :])
                if recipe.loss.diversity:
                    prior = len(part.plan.judged) + torch.nonzero(part.plan.source < 0).flatten()
                    timbre = part.plan.timbre[part.plan.source < 0]
                    terms["diversity"] = losses.mode_seeking(out.fakes[prior], timbre)
                terms["control"] = self._control_terms(logits, part.plan.controls, part.plan.defined)
        return terms

    def _control_terms(self, logits: list[Tensor], standard: Tensor, defined: Tensor) -> Tensor:
        terms = [standard.new_zeros(())]
        for i, (control, read) in enumerate(zip(self.controls, logits, strict=True)):
            low, high = standard.new_tensor(control.standard_range)
            target = losses.soft_bins(standard[:, i], low, high, control.bins)
            terms.append(losses.control_cross_entropy(read.float(), target, defined[:, i]))
        return torch.stack(terms).sum()

    def coarse(self, mel: Tensor) -> Tensor:
        """The spectrogram at the resolution of the step."""
        return losses.coarsen(mel, self.detail, schedule.levels(self.recipe))

    @property
    def first(self) -> int:
        """The finest scale of the discriminator that sees this step's resolution."""
        return schedule.levels(self.recipe) - math.ceil(self.detail)


@contextmanager
def read_only(network: torch.nn.Module) -> Iterator[None]:
    """Inside, a network passes gradients on and receives none."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def fakes_of(part: Part, out: Decoded) -> Tensor:
    """The plan's fakes as they are judged: in decoded clips padding is the real clip's; others end by themselves."""
    which = part.plan.judged
    again = torch.lerp(part.mel[which], out.fakes[: len(which)], part.mask.unsqueeze(1)[which])
    return torch.cat([again, out.fakes[len(which) :]])


def syncing(accelerator: Accelerator, module: torch.nn.Module, last: bool) -> AbstractContextManager[None]:
    """Gradients are averaged over the processes with the last micro-batch."""
    manager: AbstractContextManager[None] = nullcontext() if last else accelerator.no_sync(module)
    return manager


def mean(found: Sequence[Terms]) -> Terms:
    return {k: torch.stack([terms[k] for terms in found]).mean() for k in found[0]}
