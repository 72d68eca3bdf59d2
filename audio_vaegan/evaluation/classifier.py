"""Of what use a data set is: what a small network learns from it, tested on real notes that nobody heard.

A classifier of log-mels is trained on real notes alone, on generated ones alone, and on both, each time with the same
steps, batches and augmentation; all are tested on the store's `test_instrument` split, which neither a classifier nor
(if it was trained on this store) the generator ever saw.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from audio_vaegan.audio import BadAudio, read
from audio_vaegan.config import MelConfig
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.evaluation.dataset import Item, numbers, read_facts, read_rows
from audio_vaegan.evaluation.pitch import mean_interval
from audio_vaegan.mel import Mel

STEPS, SEEDS, BATCH = 600, 3, 64
LEARNING_RATE, WARM_UP = 2e-3, 20
GAIN = 6.0  # dB up or down
WHOLE = 0.25  # semitones from a whole number beyond which a pitch has no class
AT_A_TIME = 256  # clips
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Notes:
    """Log-mels `[N, n_mels, T]` float16 and the class `[N]` of each."""

    mels: Tensor
    classes: Ints

    def __len__(self) -> int:
        return len(self.classes)


class Classifier(nn.Module):
    """Four convolutions that halve frequency and time, a mean over time (bands stay apart: they say the pitch), a
    linear layer. About 0.1 million parameters. Log-mel `[B, n_mels, T]` -> logits `[B, classes]`.

    Norms over groups, not over batches: a batch's statistics would be those of the training's kind of sound.
    """

    def __init__(self, mel: MelConfig, classes: int, widths: Sequence[int] = (16, 32, 64, 80)) -> None:
        super().__init__()
        self.scale = -_log_mel(mel, mel.floor)
        blocks: list[nn.Module] = []
        for before, width in zip((1, *widths), widths, strict=False):
            blocks += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.GroupNorm(4, width), nn.ReLU()]
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1] * math.ceil(mel.n_mels / 2 ** len(widths)), classes)

    def forward(self, log_mel: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(log_mel.unsqueeze(1) / self.scale + 0.5).mean(dim=3).flatten(1))
        return out


def usefulness(
    store: Store,
    generated: Path,
    label: str = "pitch",
    real: int | None = None,
    steps: int = STEPS,
    seeds: int = SEEDS,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Accuracies in percent, as JSON, of classifiers of `label` trained on at most `real` notes of the store (default
    all of `train`), on every sound of the data set in the folder `generated`, and on both, half a batch each.

    `label` is `pitch` (classes: MIDI notes) or a label of the store, which a row has as `label`. Intervals: 95 %, by
    bootstrap over the test's instruments, of what is a mean over the seeds. UserError where there is nothing to learn
    or to test, or the sample rates differ.
    """
    rows = read_rows(generated)
    real_class = np.array(of_store(store, label), dtype=object)
    made_class = _of_rows(rows, label)
    train, test = (store.split(name) for name in ("train", "test_instrument"))
    known = sorted({c for c in [*real_class[train], *made_class] if c is not None})
    place = {c: k for k, c in enumerate(known)}
    keep, asked = (np.array([c for c in clips if real_class[c] in place], dtype=np.int64) for clips in (train, test))
    made = [i for i, c in enumerate(made_class) if c is not None]
    note = f"--store {store.path}: no note of its"
    for what, found in ((f"{note} train", keep), (f"{note} test_instrument", asked), (f"{generated}: no sound", made)):
        if not len(found):
            raise UserError(f"{what} has a known {label}")
    if len(known) < 2:
        raise UserError(f"--label {label}: all have the same one ({known[0]}), so there is nothing to learn")
    left_out = {"real": len(train) - len(keep), "generated": len(rows) - len(made), "test": len(test) - len(asked)}

    def places(of: Sequence[Any] | NDArray[Any]) -> Ints:
        return np.array([place[c] for c in of], dtype=np.int64)

    used = keep if real is None or real >= len(keep) else _spread(keep, places(real_class[keep]), real)
    held, own = (Notes(mels_of(store.mel, store.read, x, "real"), places(real_class[x])) for x in (asked, used))
    mels = mels_of(store.mel, partial(_made, store), [rows[i][1] for i in made], "generated")
    other = Notes(mels, places([made_class[i] for i in made]))
    groups = store.column("group")[asked].tolist()
    figures: dict[str, Any] = {
        "label": label,
        "classes": len(known),
        "steps": steps,
        "batch": BATCH,
        "seeds": seeds,
        "test": {"clips": len(held), "instruments": len(set(groups))},
        "left_out": left_out,
        "chance": float(100 * np.bincount(held.classes).max() / len(held)),  # the commonest class always
        "trainings": {},
        "notes": _notes(store, generated, rows, asked),
    }
    hits = {}
    for name, parts in (("real", [own]), ("generated", [other]), ("real + generated", [own, other])):
        began = time.perf_counter()
        found = np.stack([train_and_test(parts, held, store.mel, len(known), steps, s, name) for s in range(seeds)])
        right = 100.0 * (found == held.classes)
        hits[name] = right.mean(axis=0)
        untaught = ~np.isin(held.classes, np.concatenate([part.classes for part in parts]))  # notes of no class in them
        one = {"clips": sum(map(len, parts)), "untaught": int(untaught.sum()), "accuracy": _accuracy(right, groups)}
        if label == "pitch":
            notes = np.array(known)
            one["within_a_semitone"] = _accuracy(100.0 * (np.abs(notes[found] - notes[held.classes]) <= 1), groups)
        figures["trainings"][name] = one | {"seconds": round(time.perf_counter() - began, 1)}
        say(f"{name}: {_line(figures['trainings'][name])}")
    gain = figures["gain"] = mean_interval(hits["real + generated"] - hits["real"], groups)
    say(f"real + generated less real: {gain['mean']:+.1f} ({gain['low']:+.1f} - {gain['high']:+.1f}) points")
    on = f"{len(held)} real notes of {len(set(groups))} instruments"
    say(f"tested on {on}, {len(known)} classes, chance {figures['chance']:.1f} %; left out: {left_out}")
    for note in figures["notes"]:
        say(f"note: {note}")
    return figures


def train_and_test(
    parts: Sequence[Notes], held: Notes, mel: MelConfig, classes: int, steps: int, seed: int, name: str = ""
) -> Ints:
    """The class `[N]` that a network trained on batches of equal shares of `parts` finds in each of `held`. The same
    seed gives the same answer."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Classifier(mel, classes)
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    low, decibel = _log_mel(mel, mel.floor), _log_mel(mel, 10 ** (mel.power / 20))
    for step in tqdm(range(steps), desc=name, unit="step", leave=False, disable=not name):
        rows = [rng.integers(0, len(part), BATCH // len(parts)) for part in parts]
        x = torch.cat([part.mels[torch.from_numpy(r)] for part, r in zip(parts, rows, strict=True)]).float()
        y = torch.from_numpy(np.concatenate([part.classes[r] for part, r in zip(parts, rows, strict=True)]))
        gain = torch.from_numpy(rng.uniform(-GAIN, GAIN, (len(x), 1, 1))).float()
        rate = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        F.cross_entropy(net((x + decibel * gain).clamp_min(low)), y).backward()
        optimiser.step()
    with torch.inference_mode():
        return np.concatenate([net(m.float()).argmax(dim=1).numpy() for m in held.mels.split(AT_A_TIME)])


def _log_mel(config: MelConfig, value: float) -> float:
    return math.log(value) if config.log == "ln" else math.log10(value)


def of_store(store: Store, label: str) -> list[Any]:
    """The class of every clip, None where it has none."""
    if label == "pitch":
        return whole_pitches(store.column("pitch"))
    found = store.label(label)
    if not any(found):
        hint = did_you_mean(label, ["pitch", *store.label_names()])
        raise UserError(f"--label {label}: --store {store.path} has none.{hint}")
    return found


def _of_rows(rows: list[Item], label: str) -> list[Any]:
    if label == "pitch":
        return whole_pitches(numbers(rows, "pitch_requested"))
    return [None if row.get("label") is None else str(row["label"]) for row, _ in rows]


def whole_pitches(pitch: NDArray[np.float64]) -> list[int | None]:
    """The MIDI note of each pitch; None where there is none, or it lies between two."""
    return [round(p) if math.isfinite(p) and abs(p - round(p)) <= WHOLE else None for p in pitch.tolist()]


def _spread(clips: Ints, classes: Ints, count: int) -> Ints:
    """`count` of the clips, each class in proportion: one at random of every so many. (Every k-th would fall in step
    with the order of a store's notes: always the same pitch, or the same instrument.)"""
    rng, order = np.random.default_rng(0), clips[np.argsort(classes, kind="stable")]
    return np.sort([rng.choice(part) for part in np.array_split(order, count)])


def _made(store: Store, paths: Sequence[Path]) -> NDArray[np.float32]:
    """The files as clips of the store `[B, clip_samples]`: cut, or padded."""
    out = np.zeros((len(paths), store.clip_samples), dtype=np.float32)
    for row, path in zip(out, paths, strict=True):
        try:
            audio, rate = read(path)
        except BadAudio as e:
            raise UserError(f"{path}: {e}") from None
        if rate != store.sample_rate:
            raise UserError(f"{path}: {rate} Hz, but the notes of --store {store.path} have {store.sample_rate} Hz")
        row[: len(audio)] = audio[: len(row)]
    return out


def mels_of(config: MelConfig, load: Callable[[Any], NDArray[np.float32]], clips: Any, name: str) -> Tensor:
    """Log-mels of clips, all of the same peak: a store's level is not that of generated sounds."""
    mel, parts = Mel(config), []
    with torch.no_grad(), tqdm(total=len(clips), desc=f"mels, {name}", unit="clip", leave=False) as bar:
        for start in range(0, len(clips), AT_A_TIME):
            audio = torch.from_numpy(load(clips[start : start + AT_A_TIME]))
            parts.append(mel(audio / audio.abs().amax(dim=1, keepdim=True).clamp_min(1e-4)).half())
            bar.update(len(audio))
    return torch.cat(parts)


def _accuracy(right: NDArray[np.float64], groups: list[str]) -> dict[str, Any]:
    """Of hits `[seeds, N]` in percent: the mean, its interval over instruments, and each seed's."""
    return mean_interval(right.mean(axis=0), groups) | {"seeds": [float(r) for r in right.mean(axis=1)]}


def _line(one: dict[str, Any]) -> str:
    found = one["accuracy"]
    near = f", within a semitone {one['within_a_semitone']['mean']:.1f} %" if "within_a_semitone" in one else ""
    seeds = f"{min(found['seeds']):.1f} - {max(found['seeds']):.1f}"
    text = f"accuracy {found['mean']:.1f} % ({found['low']:.1f} - {found['high']:.1f}; seeds {seeds}){near}"
    return f"{text}; {one['clips']} clips, {one['untaught']} test notes of a class not among them; {one['seconds']:g} s"


def _notes(store: Store, generated: Path, rows: list[Item], asked: Ints) -> list[str]:
    """What the figures rest on: whether the generator, or the data set itself, knows notes of the test."""
    heard = {str(name).split("/")[-1] for name in store.column("source")[asked]}
    copies = sum(str(row.get("source", "")).split("/")[-1] in heard for row, _ in rows)
    if (read_facts(generated).get("trained_on") or {}).get("store") == store.content_hash:
        text = "The generator was trained on the train split of this store: it never heard the notes of the test."
    else:
        text = "The generator was not trained on this store as it is; whether it heard notes of the test is not known."
    return [text] + ([f"{copies} sounds are variations of files named as notes of the test are."] if copies else [])
