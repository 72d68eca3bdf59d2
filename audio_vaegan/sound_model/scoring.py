"""How unlike the training sounds a sound is: what the model cannot rebuild, where its code lies, what its discriminator
hears in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.control.usual import Features, Usual, fit_features, fit_usual
from audio_vaegan.errors import UserError
from audio_vaegan.sound_model.decoding import heard
from audio_vaegan.sound_model.editing import BATCH
from audio_vaegan.sound_model.restoring import generated

if TYPE_CHECKING:
    from audio_vaegan.sound_model.model import SoundModel

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Oddness:
    """Of each of N sounds: the whole score (spreads above the median real sound), the share of real sounds that score
    as high, and the scores that it is made of."""

    whole: Floats
    rarity: Floats
    parts: dict[str, Floats]


def judge_features(model: SoundModel, audio: Tensor) -> Floats:
    """What the discriminator hears in audio `[B, clip_samples]`: its features, a mean over bands and time `[B, F]`."""
    network = model.bundle.discriminator
    assert network is not None
    parts = []
    with torch.no_grad():
        for some in audio.split(BATCH):
            _, features = network(model.vaegan.normalise(model.mel(some.to(model.device))))
            parts.append(torch.cat([f.mean(dim=(2, 3)) for f in features], dim=1).cpu())
    return torch.cat(parts).double().numpy()


def raw_scores(model: SoundModel, audio: Tensor, samples: Tensor, features: Features | None) -> dict[str, Floats]:
    """Scores `[B]` of clips `[B, clip_samples]` that sound for `samples` `[B]`; of each, more is odder.

    `reconstruction`: mean error of the decoded log-mel over what sounds, in deviations; `latent`: distance to the
    fitted prior, a coordinate (An & Cho 2015 and Schlegl et al. 2019 score by these); `features`: Mahalanobis distance
    of the discriminator's features, a component.
    """
    sound = model.encode_batch(audio, model.measure(audio, samples) | model.guess_classes(audio), samples)
    real, made = (model.vaegan.normalise(m) for m in (model.log_mel(audio), generated(model, sound)))
    hop = model.recipe.mel.hop_length
    sounding = (torch.arange(real.shape[2]) * hop < samples.view(-1, 1)).float().unsqueeze(1)
    error = ((real - made).abs() * sounding).sum(dim=(1, 2)) / (sounding.sum(dim=(1, 2)) * real.shape[1])
    scores = {"reconstruction": error.double().numpy()}
    if model.prior is not None:
        scores["latent"] = model.prior.distance(sound.z.double().numpy())
    if features is not None:
        scores["features"] = features.distance(judge_features(model, audio))
    return scores


def learn_usual(model: SoundModel, training: Tensor, held: Tensor, samples: Tensor) -> Usual:
    """Calibrate on clips: features from those of training `[N, clip_samples]`, scores from held-out ones, of which
    `samples` sound."""
    judged = model.bundle.discriminator is not None
    features = fit_features(judge_features(model, training)) if judged else None
    scores = raw_scores(model, held, samples, features)
    return fit_usual(tuple(scores), np.stack([*scores.values()], axis=1), features)


def score(model: SoundModel, audio: Tensor) -> Oddness:
    """See `SoundModel.score`."""
    usual = model.fitted.usual
    if usual is None:
        raise UserError(
            "this model knows no scores of usual sounds; fit them: audio-vaegan fit-controls MODEL --store STORE"
        )
    n = audio.shape[1]
    audio = heard(model, audio)  # that it is normalised makes no sound odd
    whole = torch.nn.functional.pad(audio, (0, -n % model.clip_samples)).view(-1, model.clip_samples)
    length = torch.full((len(whole),), model.clip_samples)
    windows = len(whole) // len(audio)
    length[windows - 1 :: windows] -= -n % model.clip_samples
    found = raw_scores(model, whole, length, usual.features)
    sounding = length.numpy().reshape(len(audio), windows)  # so that a last window, mostly padding, tells little
    parts = {k: np.average(v.reshape(sounding.shape), axis=1, weights=sounding) for k, v in found.items()}
    total = usual.whole(np.stack([parts[n] for n in usual.names], axis=1))
    return Oddness(total, usual.rarity(total), parts)
