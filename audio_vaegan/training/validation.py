"""Figures at every checkpoint, on clips set aside and on samples: cheap, deterministic, free of downloads."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from audio_vaegan import losses
from audio_vaegan.config import MelConfig, Recipe
from audio_vaegan.data.batches import Clips, frame_mask
from audio_vaegan.mel import Mel
from audio_vaegan.models.controls import Control
from audio_vaegan.models.vaegan import VaeGan
from audio_vaegan.training import schedule

SAMPLES = 64
TIMBRES = 32  # timbre codes tried at one setting of the controls
SILENT_DB = 40.0  # a sample whose loudest band lies this far below the median real clip's is silent
NEAR = 0.1  # of the usual distance between a real clip and its nearest neighbour: nearer samples are duplicates
ACTIVE_NATS = 0.1  # a timbre coordinate that carries less is not used


class Validation:
    """`val_mel`: mel L1 (in standard deviations) of clips that no step has seen, decoded from their mean codes;
    `val_active`: timbre coordinates that carry information; `val_samples`: kernel distance between the mel statistics
    of prior samples and training clips under the same controls; `val_silent`, `val_duplicates`: shares of samples.

    Without clips set aside, training clips take their place.
    """

    def __init__(
        self, recipe: Recipe, train: Clips, aside: Clips | None, controls: Sequence[Control], mel: Mel
    ) -> None:
        self.recipe, self.controls, self.mel = recipe, controls, mel
        self.columns = [list(train.names).index(c.name) for c in controls]
        self.some = train.part(np.unique(np.linspace(0, len(train) - 1, min(SAMPLES, len(train))).astype(np.int64)))
        self.aside = aside or self.some

    @torch.no_grad()
    def __call__(self, net: VaeGan) -> dict[str, float]:
        device = next(net.parameters()).device
        real, controls, defined, _ = self._read(self.some, net, device)
        figures: dict[str, float] = {}
        if net.encoder is not None:
            mel, its_controls, its_defined, mask = self._read(self.aside, net, device)
            mean, log_variance = net.encoder(mel)
            output = net.generator(mean, its_controls, its_defined)
            figures["val_mel"] = float(losses.masked_error(output, mel, mask))
            figures["val_active"] = float((losses.kl_per_coordinate(mean, log_variance) > ACTIVE_NATS).sum())
        g = schedule.generator(self.recipe.seed, 2**40)
        timbre = torch.randn(len(real) + TIMBRES, net.timbre_dim, generator=g).to(device)
        fake = net.generator(timbre[: len(real)], controls, defined)
        if len(real) > 1:
            distance = losses.kernel_distance(losses.mel_statistics(fake), losses.mel_statistics(real))
            figures["val_samples"] = float(distance)
        figures["val_silent"] = silent_share(net.denormalise(fake), net.denormalise(real), self.recipe.mel)
        middle = int(torch.linalg.vector_norm(controls, dim=1).argmin()) if len(self.controls) else 0
        alike = (t[middle : middle + 1].expand(TIMBRES, -1) for t in (controls, defined))
        tried = net.generator(timbre[len(real) :], *alike)
        if len(real) > 1:
            figures["val_duplicates"] = near_copies(tried, real)
        return {k: round(v, 6) for k, v in figures.items()}

    def _read(self, clips: Clips, net: VaeGan, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        audio, values, length = clips.read(np.arange(len(clips)))
        mel = net.normalise(self.mel(audio.to(device)))
        values = values[:, self.columns].to(device)
        mask = frame_mask(length.to(device), mel.shape[-1], self.recipe.mel.hop_length)
        return mel, net.standardise(values).nan_to_num(0.0), ~values.isnan(), mask


def silent_share(log_mel: Tensor, real: Tensor, config: MelConfig) -> float:
    """Share of sounds whose loudest band lies 40 dB or more below that of the median real clip: log-mels
    `[B, n_mels, T]`, `[N, n_mels, T]`.
    """
    decibel = float(20 / np.log(10) if config.log == "ln" else 20.0)
    peak, usual = (x.flatten(1).amax(dim=1) * decibel / config.power for x in (log_mel, real))
    return float((peak < usual.median() - SILENT_DB).float().mean())


def near_copies(mel: Tensor, real: Tensor) -> float:
    """Share of sounds that lie nearer to another one than a tenth of the median distance of a real clip from its
    nearest neighbour: mels of one kind `[B, n_mels, T]`, `[N, n_mels, T]`, N > 1.
    """
    near, usual = (rms_distance(x).fill_diagonal_(torch.inf).amin(dim=1) for x in (mel, real))
    return float((near < NEAR * usual.median()).float().mean())


def rms_distance(mel: Tensor) -> Tensor:
    """Root mean square difference of every two clips: `[B, ...]` -> `[B, B]`."""
    flat = mel.flatten(1)
    exact = "donot_use_mm_for_euclid_dist"  # the default squares first, and finds equal clips 1 % apart
    return torch.cdist(flat, flat, compute_mode=exact) / flat.shape[1] ** 0.5
