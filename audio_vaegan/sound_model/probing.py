"""Classes from a few labelled sounds: what the model learned without labels, under a linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.sound_model.decoding import heard
from audio_vaegan.sound_model.editing import BATCH
from audio_vaegan.sound_model.scoring import judge_features

if TYPE_CHECKING:
    from audio_vaegan.sound_model.model import SoundModel

Floats = NDArray[np.float64]
STRENGTH = 0.1  # inverse of the penalty on weights (C of LogisticRegression): few sounds, many features


def features(model: SoundModel, audio: Tensor) -> Floats:
    """What a probe is given of clips `[B, clip_samples]`: the timbre code, the controls as measured (0 where undefined,
    with a mark), and what the discriminator hears, `[B, F]`."""
    length = torch.full((len(audio),), audio.shape[1])
    z = model.encode_batch(audio, model.measure(audio, length) | model.guess_classes(audio), length).z.double().numpy()
    given = z[:, : len(model.controls)]
    parts = [z[:, len(model.controls) :], np.nan_to_num(given), np.isnan(given).astype(np.float64)]
    if model.bundle.discriminator is not None:
        parts.append(judge_features(model, heard(model, audio)))
    return np.concatenate(parts, axis=1)


def judged_classes(model: SoundModel, audio: Tensor) -> Floats | None:
    """How likely the discriminator takes clips `[B, clip_samples]` for each class that it learned in training
    (`model.disc_classes`), `[B, classes]`; None where it learned none."""
    network = model.bundle.discriminator
    if network is None or network.kinds is None:
        return None
    parts = []
    audio = heard(model, audio)
    with torch.no_grad():
        for some in audio.split(BATCH):
            _, found = network(model.vaegan.normalise(model.mel(some.to(model.device))))
            logits = network.classes(found)
            assert logits is not None
            parts.append(logits.softmax(dim=1).cpu())
    return torch.cat(parts).double().numpy()


@dataclass(frozen=True)
class Probe:
    """A linear classifier on features `[N, F]`, its classes in order."""

    classes: tuple[str, ...]
    line: Any

    def probabilities(self, features: Floats) -> Floats:
        """`[N, classes]`."""
        found: Floats = self.line.predict_proba(features)
        return found


def fit_probe(features: Floats, labels: Sequence[str]) -> Probe:
    """Logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    line = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=2000))
    line.fit(features, np.asarray(labels))
    return Probe(tuple(map(str, line.classes_)), line)
