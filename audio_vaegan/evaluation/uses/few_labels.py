"""Classes from a few labelled sounds: accuracy on instruments never heard, beside MFCC."""

import numpy as np
import torch
from numpy.typing import NDArray

from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.held import pick
from audio_vaegan.evaluation.uses.rows import Row, interval, mfcc
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.probing import Floats, features, fit_probe, judged_classes

COUNTS = (1, 5, 20)  # labelled clips a class
DRAWS = 20
POOL = 60  # training clips a class from which the labelled ones are drawn


def few_labels(model: SoundModel, store: Store, most: int, label: str) -> list[Row]:
    """A row for each number of labelled clips a class: accuracy on held-out clips, a mean over draws of the labelled
    ones, the same for the model's features and for MFCC, both under the same logistic regression; intervals over the
    held-out instruments."""
    names = store.label(label)
    train = store.split("train")
    test = np.array([r for r in pick(store, "test_instrument", most) if names[r] is not None])
    classes = sorted({str(names[r]) for r in test} & {str(names[r]) for r in train if names[r] is not None})
    if len(classes) < 2:
        raise UserError(
            f"--label {label}: {len(classes)} classes in both training and held-out clips; there must be two"
        )
    test = np.array([r for r in test if str(names[r]) in classes])
    random = np.random.default_rng(0)
    pools = {c: random.permutation([r for r in train if str(names[r]) == c])[:POOL] for c in classes}
    rows = np.concatenate([*pools.values(), test])
    audio = torch.from_numpy(store.read(rows))
    place, start = {}, 0
    for c, pool in pools.items():
        place[c] = np.arange(start, start + len(pool))
        start += len(pool)
    truth, groups = np.array([str(names[r]) for r in test]), store.column("group")[test]
    kinds = {"ours": features(model, audio), "theirs": mfcc(model, audio)}
    found = []
    for count in COUNTS:
        right: dict[str, list[NDArray[np.bool_]]] = {"ours": [], "theirs": []}
        for _ in range(DRAWS):
            chosen = {c: random.choice(p, min(count, len(p)), replace=False) for c, p in place.items()}
            shown = np.concatenate([*chosen.values()])
            told = np.concatenate([[c] * len(p) for c, p in chosen.items()])
            for kind, values in kinds.items():
                probe = fit_probe(values[shown], told.tolist())
                guess = np.array(probe.classes)[probe.probabilities(values[start:]).argmax(axis=1)]
                right[kind].append(guess == truth)
        ours, theirs = (100 * np.mean(right[k], axis=0) for k in ("ours", "theirs"))
        found.append(
            Row(
                "few labels",
                f"{label}, {len(classes)} classes, {count} labelled clip{'s' * (count > 1)} each",
                "accuracy, %",
                interval(ours, groups),
                "MFCC, logistic regression",
                interval(theirs, groups),
                len(test),
                difference=interval(ours - theirs, groups),
            )
        )
    own = judged_classes(model, audio[start:])
    if own is not None and model.recipe.model.class_label == label:
        found.append(_own_head(model, store, label, own, kinds["theirs"][start:], truth, groups))
    return found


def _own_head(
    model: SoundModel,
    store: Store,
    label: str,
    share: Floats,
    plain: Floats,
    truth: NDArray[np.str_],
    groups: NDArray[np.str_],
) -> Row:
    """The class head that the discriminator learned in training (`disc_classes`), beside the baseline on all of the
    training clips that have the label."""
    names = store.label(label)
    known = np.array([r for r in store.split("train") if names[r] is not None])
    classes = model.controls[label].classes
    probe = fit_probe(mfcc(model, torch.from_numpy(store.read(known))), [str(names[r]) for r in known])
    guess = np.array(classes)[share.argmax(axis=1)]
    theirs = np.array(probe.classes)[probe.probabilities(plain).argmax(axis=1)]
    ours, other = 100.0 * (guess == truth), 100.0 * (theirs == truth)
    return Row(
        "few labels",
        f"{label}, the discriminator's own head, {len(known)} of {len(store.split('train'))} training clips labelled",
        "accuracy, %",
        interval(ours, groups),
        "MFCC, logistic regression",
        interval(other, groups),
        len(truth),
        difference=interval(ours - other, groups),
    )
