"""What the networks need to know of the training clips before the first step."""

from collections import Counter

import numpy as np
import torch
from numpy.typing import NDArray

from audio_vaegan.config import AugmentConfig, Recipe
from audio_vaegan.data.batches import Clips, frame_mask
from audio_vaegan.data.store import Store, check_mel
from audio_vaegan.descriptors import DESCRIPTORS
from audio_vaegan.errors import UserError
from audio_vaegan.mel import Mel
from audio_vaegan.models.bundle import Bundle
from audio_vaegan.models.controls import Control
from audio_vaegan.models.level import lacking, louder
from audio_vaegan.models.vaegan import Normalisation

MOST_CLASSES = 1024
BINS = 64  # of a measured control, for its head
BENDS = {"decay": 20.0}  # dB/s: a sound that is cut off falls by hundreds, one that is held by hardly any
OUTLIERS = 0.5  # percent of the clips at either end of a measured control that do not widen its range


def check_store(store: Store, recipe: Recipe) -> None:
    """Raise UserError when a store holds other mels or clips than a recipe asks for."""
    check_mel(store, recipe.mel, "the recipe")
    if store.clip_samples != recipe.data.clip_samples:
        raise UserError(
            f"--store {store.path} holds clips of {store.clip_samples} samples, the recipe asks for "
            f"{recipe.data.clip_samples}; prepare it again"
        )


def check_start(start: Bundle, recipe: Recipe, store: Store) -> None:
    """Raise UserError, with what differs, when a model cannot be where the training of a recipe on a store begins."""
    differ = []
    for part in ("mel", "model"):
        here, there = (getattr(r, part).model_dump(mode="json") for r in (recipe, start.recipe))
        differ += [f"{part}.{key} is {here[key]}, its own {there[key]}" for key in here if here[key] != there[key]]
    samples, own = recipe.data.clip_samples, start.recipe.data.clip_samples
    differ += [f"data.clip_samples is {samples}, its own {own}"] if samples != own else []
    if recipe.encodes and not start.recipe.encodes:
        differ.append("it has no encoder")
    for control in start.vaegan.controls:
        unknown = sorted({*_classes(store, control.name)} - {*control.classes}) if control.classes else []
        if unknown:
            differ.append(f"it knows no {control.name} {', '.join(unknown[:3])}")
    if differ:
        raise UserError(f"--start-from: cannot go on with that model by this recipe: {'; '.join(differ)}")


def began_with(start: Bundle) -> str:
    """The model that a training began with, in words: name, hash, steps and store, and what it began with itself."""
    steps, store, before = (start.about.get(key) for key in ("steps", "store", "began_with"))
    words = (
        f"{start.recipe.name} {start.hash[:12]} ({steps or 'unknown'} steps on store {str(store or 'unknown')[:12]})"
    )
    return f"{words}, which began with {before}" if before else words


def training_rows(store: Store) -> NDArray[np.int64]:
    """The train split. Raises UserError when there is nothing to train on."""
    rows = store.split("train")
    if not len(rows):
        raise UserError(f"--store {store.path}: its train split is empty")
    return rows


def training_clips(store: Store, recipe: Recipe) -> Clips:
    """The train split, with the controls that the recipe names. Raises UserError when there is nothing to train on."""
    rows = training_rows(store)
    names: dict[str, tuple[str, ...]] = dict.fromkeys(recipe.model.controls, ())
    label = recipe.model.class_label
    if label:
        classes = _classes(store, label)
        if not 2 <= len(classes) <= MOST_CLASSES:
            raise UserError(
                f"model.class_label {label}: the training clips have {len(classes)} values of it; a class needs 2 to "
                f"{MOST_CLASSES} (labels of this store: {', '.join(store.label_names()) or 'none'})"
            )
        names[label] = classes
    return Clips(store, rows, names)


def _classes(store: Store, label: str) -> tuple[str, ...]:
    """The values that training clips have of a label."""
    values = store.label(label)
    return tuple(sorted({v for v in (values[i] for i in store.split("train")) if v}))


def hear_classes(clips: Clips, start: Bundle, batch: int = 64) -> dict[str, Counter[str]]:
    """Give clips without a class the one that a model hears in them (Lee 2013, "Pseudo-label"), and say how many became
    what, by the name of the label."""
    mel, found = Mel(start.recipe.mel), dict[str, Counter[str]]()
    for i, (name, classes) in enumerate(clips.names.items()):
        rows = np.flatnonzero(np.isnan(clips.controls[:, i]) & bool(classes))
        for some in np.split(rows, range(batch, len(rows), batch)) if len(rows) else ():
            audio = clips.read(some)[0]
            audio = louder(audio, lacking(start.vaegan.controls, audio, start.recipe.mel.sample_rate))
            clips.controls[some, i] = start.hear_classes(mel(audio))[name].numpy()
        if len(rows):
            found[name] = Counter(classes[int(k)] for k in clips.controls[rows, i])
    return found


def find_controls(clips: Clips, augment: AugmentConfig) -> list[Control]:
    """The controls that the training clips define, with the range and spread seen there.

    The range of pitch and loudness is as much wider as augmentation moves them.
    """
    found = []
    for i, (name, classes) in enumerate(clips.names.items()):
        values = clips.controls[:, i]
        values = values[np.isfinite(values)]
        if len(values) < 2 or np.ptp(values) == 0:
            continue
        if classes:
            found.append(Control(name, "class", 0.0, len(classes) - 1.0, 0.0, 1.0, len(classes), classes))
            continue
        more = {"pitch": augment.semitones, "loudness": augment.gain_db}.get(name, 0.0)
        ends = (0, 100) if name == "pitch" else (OUTLIERS, 100 - OUTLIERS)  # labels are sure, meters may err
        low, high = (float(end) + side * more for end, side in zip(np.percentile(values, ends), (-1, 1), strict=True))
        if low == high:
            continue
        bins = int(np.clip(round(high - low) + 1, 8, 128)) if name == "pitch" else BINS
        bend = BENDS.get(name, 0.0)
        bent = bend * np.arcsinh(values / bend) if bend else values
        deviation = float(np.sqrt(bent.var() + more**2 / 3))  # of the values and an even draw of +-more
        unit = DESCRIPTORS[name].unit
        found.append(Control(name, unit, low, high, float(bent.mean()), deviation, bins, bend=bend))
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
