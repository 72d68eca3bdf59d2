"""One training step of the vocoder: spectral losses from the first step, discriminators from a stated one on."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from audio_vaegan import losses
from audio_vaegan.config import ModelConfig, Recipe, TrainConfig
from audio_vaegan.data.batches import Clips, hold_out, too_few
from audio_vaegan.data.store import Store, check_mel
from audio_vaegan.errors import UserError
from audio_vaegan.mel import Mel
from audio_vaegan.models.bundle import Bundle
from audio_vaegan.models.critic import parameter_count
from audio_vaegan.models.vocoder.discriminators import VocoderDiscriminator
from audio_vaegan.models.vocoder.network import Synthesis, VocoderNetwork
from audio_vaegan.models.vocoder.saved import FILE, TrainedVocoder, multiply_adds, network_shape, save_vocoder
from audio_vaegan.training import schedule
from audio_vaegan.training.adversary import Terms, mean, read_only, syncing
from audio_vaegan.training.ema import Ema
from audio_vaegan.training.facts import check_store, training_clips
from audio_vaegan.training.vocoder_feed import Pair, Reconstructions, VocoderFeed


class VocoderTask:
    """Network, discriminators, optimisers and the step. Built alike on every rank; the engine drives it.

    `decoder` is the model on whose reconstructions it trains (--on-decoded), `start` the vocoder it starts from.
    """

    best_by = "val_stft"
    exported = FILE
    learning_rate_scale = 1.0  # lowered by the engine after a rollback

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        accelerator: Accelerator,
        decoder: Bundle | None = None,
        start: TrainedVocoder | None = None,
    ) -> None:
        check_store(store, recipe)
        if recipe.train.best_by == "val_samples":
            raise UserError("train.best_by: val_samples is a VAE-GAN's figure; use auto, val_stft or val_mel")
        for name in ("growing", "disc_updates"):
            if getattr(recipe.train, name) != TrainConfig.model_fields[name].default:
                raise UserError(f"train.{name} is for VAE-GANs; leave it out of a vocoder's recipe")
        self.recipe, self.accelerator, self.store, self.start = recipe, accelerator, store, start
        clips = training_clips(store, recipe.model_copy(update={"model": ModelConfig()}))
        if decoder is not None:
            _check_decoder(decoder, store)
            clips = Clips(store, clips.clips, {c.name: c.classes for c in decoder.vaegan.controls})
        stay, aside = hold_out(store.codes("copy_of")[clips.clips], recipe.train.validation_share)
        self.clips = clips.part(stay)
        for line in too_few(recipe.train.validation_share, aside):
            accelerator.print(line)
        self.aside = clips.part(aside if len(aside) else stay[:: max(1, len(stay) // 64)][:64])
        self.mel = Mel(recipe.mel).to(accelerator.device)
        torch.manual_seed(recipe.seed)  # the networks of a seed start alike, whatever was built before
        network = VocoderNetwork(recipe.mel, recipe.vocoder)
        if start is not None:
            if network_shape(start.network.size) != network_shape(recipe.vocoder):
                raise UserError(
                    f"--start-from: that vocoder's network is {network_shape(start.network.size)}, the recipe's "
                    f"{network_shape(recipe.vocoder)}"
                )
            network.load_state_dict(start.network.state_dict())
        self.ema = Ema(network, recipe.train.ema)
        t = recipe.train
        opt_g = AdamW(network.parameters(), t.learning_rate, t.betas, weight_decay=t.weight_decay, fused=True)
        self.vocoder, self.opt_g = accelerator.prepare(network, opt_g)
        self.net: VocoderNetwork = accelerator.unwrap_model(self.vocoder)
        judge = VocoderDiscriminator(recipe.vocoder)
        opt_d = AdamW(judge.parameters(), t.disc_learning_rate, t.betas, weight_decay=t.weight_decay, fused=True)
        self.disc, self.opt_d = accelerator.prepare(judge, opt_d)
        self.judge: VocoderDiscriminator = accelerator.unwrap_model(self.disc)
        self.ema.module.to(accelerator.device)
        decoded = Reconstructions(decoder, list(clips.names), accelerator.device) if decoder else None
        self.feed = VocoderFeed(recipe, self.clips, self.mel, accelerator, decoded)
        self.samples = recipe.data.clip_samples
        self.multiply_adds = multiply_adds(self.net)
        self.resolutions = [(w, w // 4, w) for w in recipe.vocoder.windows]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by name."""
        return {"vocoder": self.net, "ema": self.ema.module, "discriminators": self.judge}

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        return {"opt_g": self.opt_g.optimizer, "opt_d": self.opt_d.optimizer}

    def parameters(self) -> dict[str, int]:
        """Parameter counts by network."""
        return {"vocoder": parameter_count(self.net), "discriminators": parameter_count(self.judge)}

    def data(self) -> str:
        """The training data in words."""
        return f"{len(self.clips)} training clips"

    def judged(self, step: int) -> bool:
        """Whether the discriminators are at work at this step."""
        v = self.recipe.vocoder
        return bool(v.adversarial or v.feature) and step >= v.adversarial_start * self.recipe.train.steps

    def settled(self, done: int) -> bool:
        """Whether validation figures after so many steps can be compared with later ones: once the judges are in."""
        return self.judged(done - 1) or not self.judged(self.recipe.train.steps - 1)

    def cost(self, step: int) -> float:
        """What a step costs, relative to one with every network at work."""
        return 1.0 if self.judged(step) else 0.6

    def step(self, step: int) -> Terms:
        """One step of both optimisers. Returns the loss terms as detached scalars of this rank."""
        t = self.recipe.train
        schedule.set_learning_rates(step, t, self.opt_g, self.opt_d, self.learning_rate_scale)
        judged = self.judged(step)
        parts = self.feed.parts(step)
        # One forward through the wrapper serves both networks, unless micro-batches would have to be kept.
        outs = [self._decode(parts[0])] if len(parts) == 1 else None
        terms: Terms = {}
        if judged and step % t.disc_every == 0:
            terms = self._update_discriminators(parts, outs)
        terms |= self._update_vocoder(parts, outs, judged)
        self.ema.update(self.net, step)
        return terms

    def _decode(self, part: Pair) -> Synthesis:
        synthesis: Synthesis = self.vocoder(part.mel, self.samples)
        return synthesis

    def _update_discriminators(self, parts: Sequence[Pair], outs: Sequence[Synthesis] | None) -> Terms:
        found, scores = [], []
        for i, part in enumerate(parts):
            with syncing(self.accelerator, self.disc, i == len(parts) - 1):
                with torch.no_grad():
                    fake = (outs[i] if outs else self.net(part.mel, self.samples)).audio.detach()
                both = torch.cat([self.feed.cut(part.audio, part.start), self.feed.cut(fake, part.start)])
                judged, _ = self.disc(both)
                size = len(fake)
                real, false = [s[:size] for s in judged], [s[size:] for s in judged]
                loss = losses.discriminator_loss("hinge", real, false)
                self.accelerator.backward(loss / len(parts))
            found.append({"disc": loss.detach()})
            scores.append((losses.clip_scores(real).detach(), losses.clip_scores(false).detach()))
        terms = mean(found)
        terms["grad_d"] = self.accelerator.clip_grad_norm_(self.disc.parameters(), self.recipe.train.grad_clip)
        of_real, of_fake = (self.accelerator.gather(torch.cat(s)) for s in zip(*scores, strict=True))
        terms |= {"score_real": of_real.mean(), "score_fake": of_fake.mean()}
        terms["ranking"] = losses.ranking(of_real, of_fake)
        if terms["ranking"] <= self.recipe.train.disc_rest_above:
            self.opt_d.step()
        self.opt_d.zero_grad()
        return terms

    def _update_vocoder(self, parts: Sequence[Pair], outs: Sequence[Synthesis] | None, judged: bool) -> Terms:
        found = []
        for i, part in enumerate(parts):
            with syncing(self.accelerator, self.vocoder, i == len(parts) - 1):
                terms = self._terms(part, outs[i] if outs else self._decode(part), judged)
                self.accelerator.backward(terms["total"] / len(parts))
            found.append({k: v.detach() for k, v in terms.items()})
        terms = mean(found)
        terms["grad_g"] = self.accelerator.clip_grad_norm_(self.vocoder.parameters(), self.recipe.train.grad_clip)
        self.opt_g.step()
        self.opt_g.zero_grad()
        return terms

    def _terms(self, part: Pair, out: Synthesis, judged: bool) -> Terms:
        v = self.recipe.vocoder
        spectrum = self.mel.spectrum(part.audio).transpose(1, 2)
        terms = {
            "stft": losses.stft_distance(out.audio, part.audio, self.resolutions),
            "mel": (self.mel(out.audio) - self.mel(part.audio)).abs().mean(),
            "frequency": losses.advance_error(out.advance.float(), spectrum, self.net.centre),
        }
        if judged:
            with read_only(self.judge), self.accelerator.autocast():
                scores, features = self.judge(self.feed.cut(out.audio, part.start))
                with torch.no_grad():
                    _, real = self.judge(self.feed.cut(part.audio, part.start))
            terms["adversarial"] = losses.clamped_generator_loss(scores)
            terms["feature"] = losses.feature_matching(features, real)
        return terms | {"total": torch.stack([getattr(v, name) * value for name, value in terms.items()]).sum()}

    @property
    def average(self) -> VocoderNetwork:
        """The running average of the network: what is validated, sampled and exported."""
        return self.ema.module  # type: ignore[return-value]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """`val_stft`, `val_mel`: the spectral losses of the averaged network on clips that no step has seen, or where
        none is set aside, on training clips."""
        found: list[tuple[Tensor, Tensor]] = []
        for rows in np.array_split(np.arange(len(self.aside)), max(1, len(self.aside) // 16)):
            audio, mel = self._pairs(rows)
            copy = self.average.synthesise(mel, self.samples)
            distance = losses.stft_distance(copy, audio, self.resolutions)
            found += [(distance, (self.mel(copy) - self.mel(audio)).abs().mean())] * len(rows)
        stft, error = (torch.stack(list(v)).mean() for v in zip(*found, strict=True))
        return {"val_stft": round(float(stft), 6), "val_mel": round(float(error), 6)}

    def _pairs(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Clips set aside `[B, samples]`, and the mels that the vocoder is given for them."""
        audio, values, _ = self.aside.read(rows)
        audio = audio.to(self.accelerator.device)
        mel = self.mel(audio)
        return audio, self.feed.decoded(mel, values.to(audio.device)) if self.feed.decoded else mel

    def examples(self, count: int) -> tuple[Tensor, Tensor, list[str]]:
        """At most so many clips set aside, the mels that the vocoder is given for them, and the clips' names."""
        rows = np.unique(np.linspace(0, len(self.aside) - 1, min(count, len(self.aside))).round().astype(np.int64))
        names = self.store.column("source")[self.aside.clips[rows]]
        return *self._pairs(rows), [str(s).split("/")[-1].rsplit(".", 1)[0] for s in names]

    def trained(self, steps: int) -> TrainedVocoder:
        """A copy of the averaged network as it stands, with the facts of its training."""
        facts = {
            "steps": steps,
            "training_clips": len(self.clips),
            "training_hours": round(float(self.clips.length.sum()) / self.recipe.mel.sample_rate / 3600, 3),
            "store": self.store.content_hash,
            "giga_multiply_adds_per_second": round(self.multiply_adds / 1e9, 4),
        }
        if self.start is not None:
            facts["started_from"] = self.start.hash
        if self.feed.decoded is not None:
            facts["on_decoded"] = self.feed.decoded.bundle.hash
        return TrainedVocoder(copy.deepcopy(self.average), self.recipe.name, facts)

    def close(self) -> None:
        """End the processes that read ahead."""
        self.feed.ahead.close()

    def export(self, out: Path, steps: int) -> str:
        """Write the averaged network as OUT/vocoder.safetensors. Returns its hash."""
        out.mkdir(parents=True, exist_ok=True)
        return save_vocoder(self.trained(steps), out / FILE)


def _check_decoder(decoder: Bundle, store: Store) -> None:
    check_mel(store, decoder.recipe.mel, "the model of --on-decoded")
    if decoder.recipe.data.clip_samples != store.clip_samples:
        raise UserError(
            f"--on-decoded: its clips have {decoder.recipe.data.clip_samples} samples, the store's {store.clip_samples}"
        )
    if decoder.vaegan.encoder is None:
        raise UserError("--on-decoded: that model is a GAN, which has no encoder: it cannot decode the store's clips")
