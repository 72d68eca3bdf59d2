"""Is a sound at another pitch still the same instrument? A classifier that learned from real notes alone is asked.

The timbral consistency of Nercessian & Imort (2023), with labels in the place of an embedding.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.classifier import Notes, mels_of, of_store, train_and_test
from audio_vaegan.evaluation.evaluate import SHIFTS
from audio_vaegan.evaluation.held import Held, Rows, check_fits
from audio_vaegan.evaluation.pitch import mean_interval
from audio_vaegan.sound_model import SoundModel

STEPS = 600


def same_instrument(
    model: SoundModel, store: Store, label: str, steps: int = STEPS, seed: int = 0, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Share in percent, as JSON, of the notes of `test_note` that a classifier of `label`, trained on the real notes of
    `train`, takes for their own: real, through the vocoder, reconstructed, and moved by semitones within the trained
    range. Intervals: 95 %, by bootstrap over the groups. Raises UserError where there is nothing to tell apart."""
    classes, place, train, test = check_identity(model, store, label)
    known = [*place]
    held, control = Held(model, store, test), model.controls["pitch"]
    own = held.sound.controls["pitch"]
    sets = {"real": (held.audio, test), "copy": (model.vocode(held.mel), test)}
    sets["reconstructed"] = (model.decode(held.sound).audio, test)
    for shift in SHIFTS:
        asked = own + shift
        inside = ((asked >= control.low) & (asked <= control.high)).nonzero().flatten()
        if len(inside):
            moved = model.edit(held.sound.rows(inside), set={"pitch": asked[inside]})
            sets[f"moved by {shift:+d}"] = (moved.audio, test[inside.numpy()])
    say(f"identity: learning {len(known)} values of {label} from {len(train)} real notes ...")
    real = Notes(mels_of(store.mel, store.read, train, "real"), _places(classes[train], place))
    audio = torch.cat([a for a, _ in sets.values()]).numpy()
    asked_of = np.concatenate([rows for _, rows in sets.values()])
    mels = mels_of(store.mel, lambda rows: audio[rows], np.arange(len(audio)), "made")
    found = train_and_test(
        [real], Notes(mels, _places(classes[asked_of], place)), store.mel, len(known), steps, seed, "identity"
    )
    right, groups, start, shares = 100.0 * (found == _places(classes[asked_of], place)), store.column("group"), 0, {}
    for name, (_, rows) in sets.items():
        shares[name] = {"n": len(rows), **mean_interval(right[start : start + len(rows)], groups[rows].tolist())}
        start += len(rows)
    return {"label": label, "classes": len(known), "steps": steps, "seed": seed, "share": shares}


def check_identity(model: SoundModel, store: Store, label: str) -> tuple[Any, dict[Any, int], Rows, Rows]:
    """The class of every clip, the place of each class, and the clips of `train` and `test_note`. Raises UserError as
    `same_instrument` does."""
    check_fits(model, store)
    if "pitch" not in model.controls or not model.encodes:
        raise UserError("--identity: this model has no pitch control, or no encoder: no note can be moved")
    classes = np.array(of_store(store, label), dtype=object)
    train, test = (store.split(name) for name in ("train", "test_note"))
    known = sorted({c for c in classes[train] if c is not None})
    place = {c: k for k, c in enumerate(known)}
    train, test = (rows[[classes[r] in place for r in rows]] for rows in (train, test))
    if len(known) < 2 or not len(test):
        raise UserError(f"--identity {label}: needs two of them in train, and notes of them in test_note")
    return classes, place, train, test


def _places(of: Any, place: dict[Any, int]) -> Any:
    return np.array([place[c] for c in of], dtype=np.int64)


def table(figures: dict[str, Any]) -> str:
    """The shares as text."""
    lines = [f"taken for the same {figures['label']} (of {figures['classes']}) by a classifier of real notes"]
    for name, s in figures["share"].items():
        lines.append(f"  {name:16}{s['n']:>5}{s['mean']:>9.1f} %   {s['low']:.1f} - {s['high']:.1f}")
    return "\n".join(lines)
