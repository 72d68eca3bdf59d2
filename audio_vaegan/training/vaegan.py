"""One training step of the VAE-GAN (Larsen et al. 2016, algorithm 1), and what surrounds it."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from audio_vaegan import losses
from audio_vaegan.config import Recipe
from audio_vaegan.data.batches import Clips, frame_mask, positions
from audio_vaegan.data.store import Store, check_mel
from audio_vaegan.errors import UserError
from audio_vaegan.mel import Mel
from audio_vaegan.models.bundle import Bundle, save_bundle
from audio_vaegan.models.controls import Control, table
from audio_vaegan.models.critic import Critic, parameter_count
from audio_vaegan.models.vaegan import Normalisation, Plan, VaeGan
from audio_vaegan.training import schedule
from audio_vaegan.training.ema import Ema

UNITS = {"pitch": "semitones (MIDI)"}
HEAD_NOISE = 0.3  # deviation of the noise added to what the heads hear, so that they do not read imperceptible cues
ACTIVE_NATS = 0.1  # a timbre coordinate that carries less is not used


@dataclass(frozen=True)
class Draws:
    """All random numbers of a step for this rank's part of the global batch."""

    noise: Tensor  # [B, D]
    heard: Tensor  # [B, n_mels, T]
    plan: Plan


class VaeGanTask:
    """Networks, optimisers and the step. Built alike on every rank; the engine drives it."""

    def __init__(self, recipe: Recipe, store: Store, accelerator: Accelerator) -> None:
        check_mel(store, recipe.mel, "the recipe")
        if store.clip_samples != recipe.data.clip_samples:
            raise UserError(
                f"--store {store.path} holds clips of {store.clip_samples} samples, the recipe asks for "
                f"{recipe.data.clip_samples}; prepare it again"
            )
        self.recipe, self.accelerator = recipe, accelerator
        self.clips = Clips(store, "train", recipe.model.controls)
        if not len(self.clips):
            raise UserError(f"--store {store.path}: its train split is empty")
        self.store = store
        self.mel = Mel(recipe.mel)
        self.frames = recipe.mel.frames(recipe.data.clip_samples)
        controls = find_controls(self.clips, recipe)
        unused = [c for c in recipe.model.controls if c not in {k.name for k in controls}]
        if unused:
            accelerator.print(f"no training clip defines, or all agree on: {', '.join(unused)}; trained without")
        self.columns = [recipe.model.controls.index(c.name) for c in controls]
        self.undefined_share = torch.from_numpy(np.isnan(self.clips.controls[:, self.columns]).mean(axis=0)).float()
        vaegan = VaeGan(recipe, controls, measure_normalisation(self.clips, self.mel))
        critic = Critic(recipe.model, controls, recipe.mel.n_mels)
        self.ema = Ema(vaegan, recipe.train.ema)
        t = recipe.train
        opt_g = AdamW(vaegan.parameters(), t.learning_rate, t.betas, weight_decay=t.weight_decay, fused=True)
        opt_d = AdamW(critic.parameters(), t.disc_learning_rate, t.betas, weight_decay=t.weight_decay, fused=True)
        self.vaegan, self.opt_g = accelerator.prepare(vaegan, opt_g)
        self.critic, self.opt_d = accelerator.prepare(critic, opt_d)
        self.net: VaeGan = accelerator.unwrap_model(self.vaegan)
        self.judge: Critic = accelerator.unwrap_model(self.critic)
        self.mel.to(accelerator.device)
        self.ema.module.to(accelerator.device)
        self._split_batch()

    def _split_batch(self) -> None:
        t, world, rank = self.recipe.train, self.accelerator.num_processes, self.accelerator.process_index
        self.sizes = {"batch": t.batch_size}
        for name, share in (
            ("prior", t.prior_share),
            ("repitch", t.repitch_share),
            ("judged", t.judged_share),
        ):
            self.sizes[name] = round(share * t.batch_size)
        if not self.sizes["judged"] or not self.sizes["prior"] + self.sizes["repitch"]:
            raise UserError(
                "the discriminator needs fakes: train.judged_share, and train.prior_share or train.repitch_share, must "
                f"make at least one of train.batch_size {t.batch_size}"
            )
        for name, size in self.sizes.items():
            if size % world or (size and t.batch_size % size):
                raise UserError(
                    f"train.batch_size {t.batch_size}: its part {name!r} ({size}) must divide it, and be a "
                    f"multiple of the {world} processes"
                )
        self.part = {n: slice(rank * s // world, (rank + 1) * s // world) for n, s in self.sizes.items()}

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by name."""
        return {"vaegan": self.net, "critic": self.judge, "ema": self.ema.module}

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        return {"opt_g": self.opt_g.optimizer, "opt_d": self.opt_d.optimizer}

    def parameters(self) -> dict[str, int]:
        """Parameter counts by network."""
        return {
            "encoder": parameter_count(self.net.encoder),
            "generator": parameter_count(self.net.generator),
            "discriminator": parameter_count(self.judge.discriminator),
            "heads": parameter_count(self.judge.heads),
        }

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """This rank's clips of a step: audio `[B, samples]`, controls `[B, C]` (NaN: undefined), length `[B]`."""
        rows = positions(self.recipe.seed, step, self.sizes["batch"], len(self.clips))[self.part["batch"]]
        device = self.accelerator.device
        audio, controls, length = self.clips.read(rows)
        return audio.to(device), controls[:, self.columns].to(device), length.to(device)

    def draw(self, step: int, judged: bool) -> Draws:
        """Random numbers of the global batch, then this rank's part of them."""
        g = schedule.generator(self.recipe.seed, step)
        size, net = self.sizes, self.net
        world, device = self.accelerator.num_processes, self.accelerator.device
        noise = torch.randn(size["batch"], net.timbre_dim, generator=g)[self.part["batch"]]
        shape = (size["batch"], self.recipe.mel.n_mels, self.frames)
        heard = torch.randn(shape, generator=g)[self.part["batch"]]
        local = size["batch"] // world
        judged_now = size["judged"] // world
        prior, repitch = (size["prior"], size["repitch"]) if judged else (0, 0)
        parts = [self.part["prior"], self.part["repitch"]] if judged else [slice(0), slice(0)]
        timbre = torch.randn(prior + repitch, net.timbre_dim, generator=g)
        low, high = table(net.controls, "low"), table(net.controls, "high")
        values = low + (high - low) * torch.rand(prior + repitch, len(net.controls), generator=g)
        defined = torch.rand(prior + repitch, len(net.controls), generator=g) >= self.undefined_share
        defined[prior:] = True
        rows = torch.cat([torch.arange(prior)[parts[0]], prior + torch.arange(repitch)[parts[1]]])
        source = torch.full((len(rows),), -1)
        if repitch:
            source[rows >= prior] = torch.arange(repitch // world) * local // (repitch // world)
        plan = Plan(
            judged=torch.arange(judged_now) * local // max(1, judged_now),
            source=source,
            timbre=timbre[rows],
            controls=((values - table(net.controls, "mean")) / table(net.controls, "deviation"))[rows],
            defined=defined[rows],
        )
        return Draws(noise.to(device), heard.to(device), Plan(**{k: v.to(device) for k, v in vars(plan).items()}))

    def step(self, step: int) -> dict[str, Tensor]:
        """One step of both optimisers. Returns the loss terms as detached scalars of this rank."""
        recipe, net = self.recipe, self.net
        self._set_learning_rate(step)
        judged = schedule.judged(step, recipe.train, recipe.loss)
        audio, values, length = self.batch(step)
        with torch.no_grad():
            mel = net.normalise(self.mel(audio))
        mask = frame_mask(length, self.frames, recipe.mel.hop_length)
        weight = mask + recipe.loss.padding * (1 - mask)
        defined = ~values.isnan()
        controls = net.standardise(values).nan_to_num(0.0)
        draws = self.draw(step, judged)

        out = self.vaegan(mel, controls, defined, draws.noise, draws.plan)
        # In reconstructions padding is not judged: it is the real clip's. Other fakes must learn to end by themselves.
        sounding = mask.unsqueeze(1)
        reconstruction = torch.lerp(mel, out.reconstruction, sounding)
        which, count = draws.plan.judged, len(draws.plan.judged)
        judged_again = torch.lerp(mel[which], out.fakes[:count], sounding[which])
        fakes = torch.cat([judged_again, out.fakes[count:]])
        real = mel if judged else mel[draws.plan.judged]  # before it judges, the discriminator warms up on a few
        terms = self._critic_step(mel, values, defined, real, fakes.detach(), draws.heard)

        loss = recipe.loss
        terms["mel"] = losses.masked_l1(out.reconstruction, mel, weight)
        per_coordinate = losses.kl_per_coordinate(out.mean, out.log_variance)
        everywhere = self.accelerator.reduce(per_coordinate.detach(), reduction="mean") if loss.free_bits else None
        terms["kl"] = losses.kl_loss(per_coordinate, loss.free_bits, everywhere)
        total = loss.mel * terms["mel"] + loss.kl * schedule.kl_factor(step, recipe.train, loss) * terms["kl"]
        if judged:
            terms |= self._judgement(mel, reconstruction, fakes, draws.plan)
            total = total + loss.adversarial * terms["adversarial"]
            total = total + loss.feature * terms["feature"] + loss.control * terms["control"]
        self.accelerator.backward(total)
        terms["grad_g"] = self.accelerator.clip_grad_norm_(self.vaegan.parameters(), recipe.train.grad_clip)
        self.opt_g.step()
        self.opt_g.zero_grad()
        self.ema.update(net, step)
        terms["total"] = total
        terms["active"] = (per_coordinate.detach() > ACTIVE_NATS).sum().float()
        return {k: v.detach() for k, v in terms.items()}

    def cost(self, step: int) -> float:
        """What a step costs, relative to one with every network at work (0.29 s against 0.48 s on two cores)."""
        return 1.0 if schedule.judged(step, self.recipe.train, self.recipe.loss) else 0.6

    def _critic_step(
        self, mel: Tensor, values: Tensor, defined: Tensor, real: Tensor, fakes: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        """Discriminator (on `real` and `fakes`) and heads (on `mel` plus noise): one forward, one backward."""
        scores, logits = self.critic(torch.cat([real, fakes]), mel + HEAD_NOISE * noise)
        real_scores, fake_scores = [s[: len(real)] for s in scores], [s[len(real) :] for s in scores]
        adversarial = losses.hinge_discriminator(real_scores, fake_scores)
        heads = self._control_terms(logits, values, defined)
        self.accelerator.backward(adversarial + heads)
        norm = self.accelerator.clip_grad_norm_(self.critic.parameters(), self.recipe.train.grad_clip)
        self.opt_d.step()
        self.opt_d.zero_grad()
        real_mean = torch.stack([s.mean() for s in real_scores]).mean()
        fake_mean = torch.stack([s.mean() for s in fake_scores]).mean()
        return {
            "disc": adversarial,
            "heads": heads,
            "grad_d": norm,
            "score_real": real_mean,
            "score_fake": fake_mean,
        }

    def _judgement(self, mel: Tensor, reconstruction: Tensor, fakes: Tensor, plan: Plan) -> dict[str, Tensor]:
        """The generator's terms from the critic, which is unwrapped and frozen: it receives no gradient."""
        self.judge.requires_grad_(False)
        try:
            with self.accelerator.autocast():  # only a wrapped forward does this by itself
                with torch.no_grad():
                    _, real = self.judge.discriminator(mel)
                size = len(mel)
                scores, features = self.judge.discriminator(torch.cat([reconstruction, fakes]))
                logits = self.judge.heads(fakes[len(plan.judged) :])
        finally:
            self.judge.requires_grad_(True)
        net = self.net
        asked = plan.controls * net.control_deviation + net.control_mean
        return {
            "adversarial": losses.hinge_generator([s[size:] for s in scores]),
            "feature": losses.feature_matching([f[:size] for f in features], real),
            "control": self._control_terms(logits, asked, plan.defined),
        }

    def _control_terms(self, logits: list[Tensor], values: Tensor, defined: Tensor) -> Tensor:
        terms = [values.new_zeros(())]
        for i, control in enumerate(self.net.controls):
            low, high = values.new_tensor(control.low), values.new_tensor(control.high)
            target = losses.soft_bins(values[:, i].nan_to_num(control.low), low, high, control.bins)
            terms.append(losses.control_cross_entropy(logits[i].float(), target, defined[:, i]))
        return torch.stack(terms).sum()

    def _set_learning_rate(self, step: int) -> None:
        factor, t = schedule.learning_rate_factor(step, self.recipe.train), self.recipe.train
        for optimizer, peak in ((self.opt_g, t.learning_rate), (self.opt_d, t.disc_learning_rate)):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor

    def bundle(self, steps: int) -> Bundle:
        """A copy of the averaged networks as they stand, with the facts of their training."""
        facts = {
            "steps": steps,
            "training_clips": len(self.clips),
            "training_hours": round(float(self.clips.length.sum()) / self.recipe.mel.sample_rate / 3600, 3),
            "store": self.store.content_hash,
        }
        return Bundle(self.recipe, copy.deepcopy(self.ema.module), copy.deepcopy(self.judge.heads), facts)  # type: ignore[arg-type]

    def export(self, out: Path, steps: int) -> str:
        """Write the averaged networks as a bundle. Returns its hash."""
        return save_bundle(self.bundle(steps), out)


def find_controls(clips: Clips, recipe: Recipe) -> list[Control]:
    """The recipe's controls that the training clips define, with the range and spread seen there."""
    found = []
    for i, name in enumerate(recipe.model.controls):
        values = clips.controls[:, i]
        values = values[np.isfinite(values)]
        if len(values) < 2 or np.ptp(values) == 0:
            continue
        low, high = float(values.min()), float(values.max())
        bins = int(np.clip(round(high - low) + 1, 8, 128))
        found.append(Control(name, UNITS[name], low, high, float(values.mean()), float(values.std()), bins))
    return found


@torch.no_grad()
def measure_normalisation(clips: Clips, mel: Mel, most: int = 1024, batch: int = 32) -> Normalisation:
    """Mean and deviation over the sounding frames of at most `most` clips, spread evenly over the split."""
    rows = np.unique(np.linspace(0, len(clips) - 1, min(most, len(clips))).astype(np.int64))
    count, total, square = 0.0, 0.0, 0.0
    for i in range(0, len(rows), batch):
        audio, _, length = clips.read(rows[i : i + batch])
        value = mel(audio).double()
        mask = frame_mask(length, value.shape[-1], mel.config.hop_length).double().unsqueeze(1)
        count += float(mask.sum()) * value.shape[1]
        total += float((value * mask).sum())
        square += float((value.square() * mask).sum())
    mean = total / count
    return Normalisation(round(mean, 6), round(max(square / count - mean**2, 1e-12) ** 0.5, 6))
