"""What a step of the vocoder sees: this process's clips and the mels it is to turn into them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from audio_vaegan.config import AugmentConfig, Recipe
from audio_vaegan.data.ahead import Ahead
from audio_vaegan.data.batches import Clips, positions
from audio_vaegan.errors import UserError
from audio_vaegan.mel import Mel
from audio_vaegan.models.bundle import Bundle
from audio_vaegan.models.level import Level
from audio_vaegan.training import schedule
from audio_vaegan.training.accelerator import workers


@dataclass(frozen=True)
class Pair:
    """One micro-batch of one process."""

    audio: Tensor  # [B, samples] of real clips
    mel: Tensor  # [B, n_mels, T] their log-mels, or what a model makes of them
    start: Tensor  # [B] sample at which what the discriminators see begins


class Reconstructions:
    """Clips as a VAE-GAN decodes them from their mean codes: the mels that its vocoder will meet (--on-decoded).

    `names` are the columns of the clips' controls, numbered as the model numbers its classes.
    """

    def __init__(self, bundle: Bundle, names: list[str], device: torch.device) -> None:
        self.bundle = bundle.to(device).eval()
        net, mel = bundle.vaegan, bundle.recipe.mel
        self.columns = [names.index(c.name) for c in net.controls]
        frames = mel.frames(bundle.recipe.data.clip_samples)
        self.level = Level(net.controls, mel, frames, net.normalisation.mean, net.normalisation.deviation).to(device)

    @torch.no_grad()
    def __call__(self, log_mel: Tensor, values: Tensor) -> Tensor:
        net, values = self.bundle.vaegan, values[:, self.columns]
        assert net.encoder is not None
        mean, _ = net.encoder(net.normalise(log_mel))
        controls, defined = net.standardise(values).nan_to_num(0.0), ~values.isnan()
        return net.denormalise(self.level.set(net.generator(mean, controls, defined), controls, defined))


class VocoderFeed:
    """Clips and draws of the global batch are functions of (seed, step); each process takes its share."""

    def __init__(
        self, recipe: Recipe, clips: Clips, mel: Mel, accelerator: Accelerator, decoded: Reconstructions | None
    ) -> None:
        self.recipe, self.clips, self.mel, self.decoded = recipe, clips, mel, decoded
        self.device, self.rank = accelerator.device, accelerator.process_index
        self.micro = recipe.train.accumulate
        self.parts_in_all = accelerator.num_processes * self.micro
        self.samples = recipe.data.clip_samples
        self.judged_samples = max(round(recipe.vocoder.disc_share * self.samples), *recipe.vocoder.disc_windows)
        # A model decodes clips as it learnt them: moving them in pitch or time is nothing that it was trained for.
        plain = {"tilt": 0.0, "fade": 0.0, "damp": 0.0, "hiss": 0.0}  # those are for controls
        self.augment = recipe.augment.model_copy(update=plain) if decoded is None else AugmentConfig()
        varied = self.augment != AugmentConfig()
        self.ahead = Ahead(clips, self.augment, workers(recipe, accelerator) if varied else 0)
        self._check()

    def _check(self) -> None:
        batch, v = self.recipe.train.batch_size, self.recipe.vocoder
        if batch % self.parts_in_all:
            raise UserError(
                f"train.batch_size {batch} must be a multiple of {self.parts_in_all // self.micro} processes x "
                f"{self.micro} micro-batches"
            )
        for name, longest in (("windows", max(v.windows)), ("disc_windows", max(v.disc_windows))):
            if longest > self.samples:
                raise UserError(
                    f"vocoder.{name}: a window of {longest} samples is longer than the clips ({self.samples})"
                )
        if any(2 * p > self.judged_samples for p in v.disc_periods):
            raise UserError(f"vocoder.disc_periods must be at most half of what is judged ({self.judged_samples})")

    def parts(self, step: int) -> list[Pair]:
        """This process's micro-batches of a step."""
        batch = self.recipe.train.batch_size
        for later in range(step + 1, min(step + 1 + self.ahead.workers, self.recipe.train.steps)):
            its_rows, its_draws, _ = self._of(later)
            for mine in self._mine():
                self.ahead.ask(its_rows[mine], its_draws[mine, :3].numpy())
        rows, draws, g = self._of(step)
        noise = self._noise(batch, g) if self.recipe.vocoder.noise else None
        return [self._pair(rows[i], draws[i], None if noise is None else noise[i]) for i in self._mine()]

    def _of(self, step: int) -> tuple[np.ndarray, Tensor, torch.Generator]:
        """Rows of the global batch, the first of its random numbers, and where the rest come from."""
        batch = self.recipe.train.batch_size
        g = schedule.generator(self.recipe.seed, step)
        return positions(self.recipe.seed, step, batch, len(self.clips)), torch.rand(batch, 8, generator=g), g

    def _mine(self) -> list[slice]:
        """Where this process's micro-batches lie in the global batch."""
        size = self.recipe.train.batch_size // self.parts_in_all
        first = self.rank * self.micro
        return [slice(i * size, (i + 1) * size) for i in range(first, first + self.micro)]

    @torch.no_grad()
    def _pair(self, rows: np.ndarray, draws: Tensor, noise: Tensor | None) -> Pair:
        """`draws` `[B, 8]`: speed, shift, gain; whether, where and how long it is silent; decoded or real; what is
        judged."""
        clips, values, _ = self.ahead.read(rows, draws[:, :3].numpy())
        audio, draws = clips.to(self.device), draws.to(self.device)
        if noise is not None:
            noise = noise.to(self.device)
            audio = torch.where(noise.isnan(), audio, noise)
        silent = self._silent(*draws[:, 3:6].unbind(dim=1))
        start = (draws[:, 7] * (self.samples - self.judged_samples + 1)).long()
        if self.decoded is None:
            audio = audio * ~silent
            return Pair(audio, self.mel(audio), start)
        mel = self.decoded(self.mel(audio), values.to(self.device))
        gain_db = (2 * draws[:, 2:3] - 1) * self.recipe.augment.gain_db
        audio = audio * 10 ** (gain_db / 20) * ~silent
        mel = self._changed(mel, gain_db, silent)
        chosen = draws[:, 6] < self.recipe.vocoder.decoded_share
        if noise is not None:  # it has no label under which a model could decode it
            chosen &= noise[:, 0].isnan()
        return Pair(audio, torch.where(chosen[:, None, None], mel, self.mel(audio)), start)

    def _noise(self, batch: int, g: torch.Generator) -> Tensor:
        """Steady noise `[B, samples]` between -80 and -10 dB, its spectrum tilted by -6 to 3 dB an octave; NaN where
        the clip stays what it is."""
        white = torch.fft.rfft(torch.randn(batch, self.samples, generator=g))
        whether, tilt, level = torch.rand(3, batch, 1, generator=g)
        octaves = torch.arange(white.shape[1]).clamp_min(1).log2() - math.log2(white.shape[1] / 8)
        audio = torch.fft.irfft(white * 10 ** ((9 * tilt - 6) * octaves / 20), self.samples)
        audio = audio / audio.square().mean(dim=1, keepdim=True).sqrt() * 10 ** ((70 * level - 80) / 20)
        return torch.where(whether < self.recipe.vocoder.noise, audio, torch.nan)

    def _silent(self, whether: Tensor, where: Tensor, how_long: Tensor) -> Tensor:
        """The samples that fall silent `[B, samples]`."""
        place = torch.arange(self.samples, device=whether.device) / self.samples
        inside = (place >= where.unsqueeze(1)) & (place < (where + how_long).unsqueeze(1))
        return inside & (whether < self.recipe.vocoder.silence).unsqueeze(1)

    def _changed(self, mel: Tensor, gain_db: Tensor, silent: Tensor) -> Tensor:
        """A decoded mel as it would be of the clip so much louder, and silent there."""
        c = self.recipe.mel
        log = {"ln": math.log, "log10": math.log10}[c.log]
        mel = mel + (gain_db / 20 * c.power * log(10)).unsqueeze(-1)
        side = c.n_fft // 2 if c.padding == "center" else (c.n_fft - c.hop_length) // 2
        heard = F.pad((~silent).float().unsqueeze(1), (side, side))
        heard = F.max_pool1d(heard, c.n_fft, c.hop_length)
        return torch.where(heard > 0, mel, log(c.floor)).clamp_min(log(c.floor))

    def cut(self, audio: Tensor, start: Tensor) -> Tensor:
        """What the discriminators see: `[B, samples]` -> `[B, judged_samples]`."""
        places = start.unsqueeze(1) + torch.arange(self.judged_samples, device=audio.device)
        return audio.gather(1, places)
