"""Sets of sounds against the sounds that a model was trained on, on four rungs: real, copied by the vocoder,
reconstructed, sampled. What a figure gains from one rung to the next names the stage at fault.

`reference`: sounds of `train`. Every set has as many sounds as the reference, none of them twice.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor
from tqdm import tqdm

from audio_vaegan.data.store import Store
from audio_vaegan.evaluation import metrics
from audio_vaegan.evaluation.distances import pair_distances
from audio_vaegan.evaluation.embeddings import Embedding
from audio_vaegan.evaluation.held import Rows
from audio_vaegan.evaluation.novelty import novelty
from audio_vaegan.evaluation.pictures import rungs as rungs_picture
from audio_vaegan.evaluation.pitch import mean_draws
from audio_vaegan.evaluation.rungs import (
    SOUNDS,
    Batches,
    Chosen,
    choose,
    copies,
    like_each,
    real_sounds,
    reconstructions,
    samples,
)
from audio_vaegan.evaluation.trained_judge import TrainedJudge
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.fingerprints import prints_of

SHOWN = 500  # of each set, in the picture
REAL, HELD, COPY, RECONSTRUCTED, SAMPLED = "real", "real, held out", "copy", "reconstructed", "sampled"
ANOTHER = "another real sound"
Values = dict[str, NDArray[np.float64]]
Draws = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Heard:
    """What is kept of a set of N sounds: the embedding `[N, d]`, what the judge says of the pitch `[N, notes]`, the
    pitch asked for `[N]` (NaN: none), the group of each `[N]`, prints `[N, 192]`, distances to what each should be."""

    features: NDArray[np.float32]
    pitch: NDArray[np.float32] | None
    asked: NDArray[np.float64]
    groups: NDArray[np.int64]
    prints: Tensor
    pairs: Values


def measure_sets(
    model: SoundModel,
    store: Store,
    judge: TrainedJudge,
    embedding: Embedding | None = None,
    most: int = SOUNDS,
    truncation: float = 1.0,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Any], Draws, bytes]:
    """The figures of the four rungs as JSON, what their intervals were taken from, `rung/figure` -> `[R]`, and a
    picture: KAD, and the sounds in the plane of the first two principal components of the reference.

    `embedding` takes the place of the judge's features in KAD, FAD, precision and the like; pitch is always the
    judge's. At most `most` sounds a set; `truncation` is the samples'.
    """
    chosen = choose(store, most)
    reference, other, held = chosen.reference, chosen.other, chosen.held
    say(f"sets of {len(reference)} sounds: real, copied, reconstructed, sampled ...")
    ears = _Ears(model, judge, embedding or judge)
    groups = _group_numbers(store)
    column = store.column("pitch").astype(np.float64)
    like = like_each(column[reference], column[held])
    heard = {
        "reference": ears.hear("reference", real_sounds(store, reference), column[reference], groups[reference]),
        REAL: ears.hear(REAL, real_sounds(store, other), column[other], groups[other]) if len(other) else None,
        ANOTHER: ears.hear(ANOTHER, real_sounds(store, reference[like], held), column[held], groups[held]),
        HELD: ears.hear(HELD, real_sounds(store, held), column[held], groups[held]),
    }
    rungs: dict[str, Callable[[Rows], Batches]] = {COPY: partial(copies, model, store)}
    if model.encodes:
        rungs[RECONSTRUCTED] = partial(reconstructions, model, store)
    for name, make in rungs.items():
        heard[name] = ears.hear(name, make(held), column[held], groups[held])
    asked = column[other if len(other) else reference]  # as independent of the reference as real ones are
    asked = asked if "pitch" in model.controls else np.full(len(reference), np.nan)
    heard[SAMPLED] = ears.hear(SAMPLED, samples(model, asked, truncation), asked, -1 - np.arange(len(asked)))
    there = {k: h for k, h in heard.items() if h is not None}
    figures, draws = _figures(dict(there), store, ears, judge, chosen)
    plane = PCA(2, svd_solver="covariance_eigh").fit(there["reference"].features)
    points = {
        name: plane.transform(h.features[:: -(-len(h.features) // SHOWN)])
        for name, h in there.items()
        if name != ANOTHER
    }
    kad = {name: rung["kad"] for name, rung in figures["rungs"].items()}
    return figures, draws, rungs_picture(kad, "KAD (less is nearer)", points)


def _group_numbers(store: Store) -> NDArray[np.int64]:
    return np.unique(store.column("group").astype(str), return_inverse=True)[1].astype(np.int64)


class _Ears:
    """What hears every set: the judge, the embedding, prints and distances; a batch of audio at a time."""

    def __init__(self, model: SoundModel, judge: TrainedJudge, embedding: Embedding) -> None:
        self.judge, self.embedding, self.mel = judge, embedding, model.cpu_mel

    @torch.inference_mode()
    def hear(self, name: str, batches: Batches, asked: NDArray[np.float64], groups: NDArray[np.int64]) -> Heard:
        rate = self.mel.config.sample_rate
        features, pitch, prints, pairs = [], [], [], []
        with tqdm(total=len(asked), desc=name, unit="sound", leave=False) as bar:
            for audio, target in batches:
                heard = self.judge.hear(audio)
                own = self.embedding is self.judge
                features.append(heard.features if own else self.embedding.features(audio, rate))
                pitch.append(heard.pitch)
                prints.append(prints_of(audio, self.mel))
                if target is not None:
                    mels = self.mel(audio), self.mel(target)
                    pairs.append(pair_distances(audio, target, mels, self.mel.config))
                bar.update(len(audio))
        return Heard(
            torch.cat(features).numpy(),
            None if pitch[0] is None else torch.cat([p for p in pitch if p is not None]).numpy(),
            asked,
            groups,
            torch.cat(prints),
            {k: np.concatenate([p[k] for p in pairs]) for k in pairs[0]} if pairs else {},
        )


def _figures(
    heard: dict[str, Heard], store: Store, ears: _Ears, judge: TrainedJudge, chosen: Chosen
) -> tuple[dict[str, Any], Draws]:
    reference = heard.pop("reference")
    another = heard.pop(ANOTHER)
    draws: Draws = {}
    measure = partial(_against, reference, metrics.bandwidth_of(reference.features), draws)
    rungs: dict[str, dict[str, Any]] = {}
    for name, h in tqdm(heard.items(), desc="figures", unit="set", leave=False):
        rungs[name] = measure(name, h)
        if h.pitch is not None:
            rungs[name] |= {
                "pitch_entropy": metrics.pitch_entropy(h.pitch),
                "inception_score": metrics.inception_score(h.pitch),
            }
            known = np.isfinite(h.asked)
            for kind, hits in metrics.class_hits(h.pitch, h.asked, judge.notes).items() if known.any() else ():
                rungs[name][f"pitch_{kind}"] = _mean(f"{name}/pitch_{kind}", hits, h.groups[known], draws)
    apart = heard[HELD]
    measure = partial(_against, apart, metrics.bandwidth_of(apart.features), draws)
    against = {name: measure(f"{name} against {HELD}", heard[name]) for name in (REAL, SAMPLED) if name in heard}
    pairs = {
        name: {k: _mean(f"{name}/{k}", v, h.groups, draws) for k, v in h.pairs.items()}
        for name, h in {ANOTHER: another, **heard}.items()
        if h.pairs
    }
    figures = {
        "embedding": ears.embedding.name,
        "notes": list(dict.fromkeys([ears.embedding.note, judge.note])),
        "reference": {"split": "train", "n": len(reference.features), "groups": len(np.unique(reference.groups))},
        "real": {"split": chosen.other_split, "n": len(chosen.other)},
        "held_out": {
            "split": chosen.held_split,
            "n": len(another.features),
            "groups": len(np.unique(another.groups)),
        },
        "rungs": rungs,
        "against_held_out": against,
        "pairs": pairs,
        "novelty": novelty(store, {name: heard[name].prints for name in (HELD, SAMPLED)}),
    }
    return figures, draws


def _against(reference: Heard, width: float, draws: Draws, name: str, heard: Heard) -> dict[str, Any]:
    """How far a set is from the reference, whose kernel has this width; what its interval was taken from: `draws`."""
    own, other = reference.features, heard.features
    kad = metrics.kernel_audio_distance(own, other, width, (reference.groups, heard.groups))
    draws[drawn(f"{name}/kad", heard.groups)] = kad.draws
    return {
        "n": len(other),
        "kad": _interval(kad.value, kad.draws),
        "fad": metrics.frechet_audio_distance(own, other)
        if len(other) > other.shape[1]
        else None,  # else no covariance
        "fad_infinity": metrics.fad_infinity(own, other),
        **metrics.precision_recall(own, other),
        "different_bins": metrics.different_bins(own, other),
        "diversity": metrics.diversity(other) / metrics.diversity(own),
    }


def _interval(value: float, draws: NDArray[np.float64]) -> dict[str, float | None]:
    """A value with the 95 % interval of its draws; none of a single group, which says nothing of others."""
    known = draws[np.isfinite(draws)]
    low, high = np.percentile(known, (2.5, 97.5)) if len(known) > len(draws) / 2 else (np.nan, np.nan)
    ends = {"value": value, "low": low, "high": high}
    return {k: float(v) if np.isfinite(v) else None for k, v in ends.items()}


def _mean(key: str, values: NDArray[np.float64], groups: NDArray[np.int64], draws: Draws) -> dict[str, Any] | None:
    """The mean of the values that are known, with its interval; its draws go into `draws` by their key."""
    known = np.isfinite(values)
    if not known.any():
        return None
    own = groups[known]
    alone = len(np.unique(own)) < 2
    found = np.full(metrics.RESAMPLES, np.nan) if alone else mean_draws(values[known], own, metrics.RESAMPLES)
    draws[drawn(key, own)] = found
    return {**_interval(float(values[known].mean()), found), "n": int(known.sum())}


def drawn(key: str, groups: Any) -> str:
    """The name of draws: their figure, and which groups were drawn. Only draws of the same groups are drawn alike."""
    names = "\n".join(map(str, np.unique(np.asarray(groups))))
    return f"{key}@{hashlib.sha256(names.encode()).hexdigest()[:12]}"
