"""Odd sounds told from usual ones: the area under the curve, beside a Gaussian on MFCC."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from torch import Tensor

from audio_vaegan.audio import sound_files
from audio_vaegan.data.store import Store
from audio_vaegan.evaluation.held import pick
from audio_vaegan.evaluation.uses.rows import RESAMPLES, Row, mfcc
from audio_vaegan.sound_model import SoundModel

MOST_TRAINED = 2048
COLOURS = (0.0, -3.0, -6.0)  # dB an octave


def noises(count: int, samples: int, seed: int = 0) -> Tensor:
    """Steady noise of three colours, -30 to -10 dB, `[count, samples]`."""
    random = np.random.default_rng(seed)
    frequency = np.maximum(np.fft.rfftfreq(samples), 1e-3)
    made = []
    for i in range(count):
        slope = frequency ** (COLOURS[i % len(COLOURS)] / (20 * np.log10(2)))
        noise = np.fft.irfft(np.fft.rfft(random.standard_normal(samples)) * slope, n=samples)
        made.append(noise / np.sqrt(np.mean(noise**2)) * 10 ** (random.uniform(-30, -10) / 20))
    return torch.from_numpy(np.stack(made)).float().clamp(-1, 1)


def told_apart(model: SoundModel, store: Store, most: int, odd: Mapping[str, Path]) -> list[Row]:
    """A row for noise, and for each named folder of odd sounds: how surely they score above the sounds of instruments
    that training never heard (AUROC; 0.5 is chance), and by how many of these the false-alarm rate of 5 % is kept."""
    rows = pick(store, "test_instrument", most)
    held = torch.from_numpy(store.read(rows))
    trained = torch.from_numpy(store.read(pick(store, "train", MOST_TRAINED)))
    features = mfcc(model, trained)
    gauss = LedoitWolf().fit((features - features.mean(0)) / features.std(0))

    def plain(audio: Tensor) -> NDArray[np.float64]:
        found: NDArray[np.float64] = gauss.mahalanobis((mfcc(model, audio) - features.mean(0)) / features.std(0))
        return found

    usual, usual_plain = model.score(held), plain(held)
    alarms = 100 * float((usual.rarity <= 0.05).mean())
    sets = {"noise": noises(most, model.clip_samples)} | {n: _clips(model, path, most) for n, path in odd.items()}
    found = []
    for name, audio in sets.items():
        scores = (usual.whole, model.score(audio).whole), (usual_plain, plain(audio))
        found.append(
            Row(
                "anomaly",
                f"{name} among instruments never heard",
                "AUROC",
                _area(*scores[0]),
                "Gaussian on MFCC",
                _area(*scores[1]),
                len(audio),
                note=f"{alarms:.1f} % of the instruments never heard count as odd at a nominal 5 %",
            )
        )
    return found


def _clips(model: SoundModel, path: Path, most: int) -> Tensor:
    """The first clips of the files of a folder, spread over them."""
    files = sound_files([path])
    some = [files[i] for i in np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)]
    clips = [model.heard(f)[: model.clip_samples] for f in some]
    return torch.stack([torch.nn.functional.pad(c, (0, model.clip_samples - len(c))) for c in clips])


def _area(usual: NDArray[np.float64], odd: NDArray[np.float64]) -> dict[str, float]:
    """AUROC with its interval by bootstrap over sounds of both kinds."""
    random = np.random.default_rng(0)
    label = np.r_[np.zeros(len(usual)), np.ones(len(odd))]

    def area(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float(roc_auc_score(label, np.r_[a, b]))

    draws = [area(random.choice(usual, len(usual)), random.choice(odd, len(odd))) for _ in range(RESAMPLES // 5)]
    low, high = np.percentile(draws, (2.5, 97.5))
    return {"value": area(usual, odd), "low": float(low), "high": float(high)}
