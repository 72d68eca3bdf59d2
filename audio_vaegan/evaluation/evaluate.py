"""Measure a model on clips that it never saw: pitch of copies, reconstructions, edits and samples, from the audio."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audio_vaegan.data.store import SPLITS, Store, check_mel
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.pitch import Judge, score, second_meter
from audio_vaegan.sound_model import Sound, SoundModel

SHIFTS = (-7, -3, 3, 7)
Rows = NDArray[np.int64]


def pick(store: Store, split: str, most: int | None, fallback: bool = False) -> Rows:
    """At most `most` clips of a split, spread evenly over it; with `fallback`, of another split if it is empty."""
    for name in (split, *reversed(SPLITS)) if fallback else (split,):
        rows = store.split(name)
        if len(rows):
            break
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def check_fits(model: SoundModel, store: Store) -> None:
    """Raise UserError when a store holds other mels or clips than a model."""
    check_mel(store, model.recipe.mel, "the model")
    if store.clip_samples != model.clip_samples:
        raise UserError(
            f"--store {store.path}: its clips have {store.clip_samples} samples, the model's {model.clip_samples}"
        )


class Held:
    """Real clips of a store, encoded under the controls of their labels."""

    def __init__(self, model: SoundModel, store: Store, clips: Rows) -> None:
        check_fits(model, store)
        self.clips = clips
        self.audio = torch.from_numpy(store.read(clips))
        self.groups = store.column("group")[clips].tolist()
        self.names = [str(s).split("/")[-1].rsplit(".", 1)[0] for s in store.column("source")[clips]]
        labels = {n: torch.from_numpy(store.values(n, c.classes)[clips]) for n, c in model.controls.items()}
        length = torch.from_numpy(store.column("length")[clips])
        self.sound: Sound = model.encode_batch(self.audio, labels, length)
        self.mel = model.log_mel(self.audio)


@dataclass(frozen=True)
class Measured:
    """One line of the table: a set of sounds, what was asked of them, what was found."""

    name: str
    asked: NDArray[np.float64]
    found: NDArray[np.float64]
    groups: list[str]
    allowed: NDArray[np.bool_]


def evaluate(
    model: SoundModel,
    store: Store,
    clips: int | None = None,
    samples: int = 128,
    say: Callable[[str], None] = print,
    workers: int = 2,
) -> tuple[dict[str, Any], dict[str, list[Measured]]]:
    """Figures of a model on the held-out splits of a store, as JSON, and the measurements behind them."""
    began = time.monotonic()
    figures: dict[str, Any] = {"model_hash": model.hash, "vocoder": model.vocoder_title}
    figures |= {"store": store.content_hash, "splits": {}}
    measured: dict[str, list[Measured]] = {}
    if "pitch" not in model.controls:
        raise UserError("this model has no pitch control, and evaluate judges pitch; nothing to measure yet")
    with Judge(workers) as judge:
        for split in ("test_note", "test_instrument") if model.encodes else ():  # a GAN has samples alone
            rows = pick(store, split, clips)
            if not len(rows):
                continue
            say(f"judging {len(rows)} clips of {split} ...")
            lines, agreement, mel_l1 = _judge_split(model, Held(model, store, rows), judge)
            measured[split] = lines
            figures["splits"][split] = {
                "clips": len(rows),
                "mel_l1": mel_l1,
                "meters_agree": agreement,
                "pitch": {m.name: _score(m).to_json() for m in lines},
            }
        say(f"judging {samples} samples ...")
        line = _judge_samples(model, judge, samples)
        measured["samples"] = [line]
        figures |= {"samples": _score(line).to_json(), "prior": model.prior_title}
    figures["seconds"] = round(time.monotonic() - began, 1)
    return figures, measured


def _score(m: Measured) -> Any:
    return score(m.found, m.asked, m.groups, m.allowed)


def _judge_split(model: SoundModel, held: Held, judge: Judge) -> tuple[list[Measured], dict[str, Any] | None, float]:
    rate, control = model.sample_rate, model.controls["pitch"]
    label = held.sound.controls["pitch"].double().numpy()
    pitched = np.isfinite(label)
    everything = np.ones(len(label), dtype=bool)
    real = judge.measure(held.audio.numpy(), rate)
    copy = judge.measure(model.vocode(held.mel).numpy(), rate)
    passed = np.abs(np.nan_to_num(copy - label, nan=np.inf)) <= 0.5
    plain = model.decode(held.sound)
    found = judge.measure(plain.audio.numpy(), rate)
    lines = [
        Measured("real", label, real, held.groups, everything & pitched),
        Measured("copy", label, copy, held.groups, everything & pitched),
        Measured("reconstructed", label, found, held.groups, passed),
    ]
    for shift in SHIFTS:
        asked = label + shift
        inside = np.flatnonzero((asked >= control.low) & (asked <= control.high) & pitched)
        if not len(inside):
            continue
        target = torch.from_numpy(asked[inside]).float()
        clip = model.decode(model.replace_controls(held.sound.rows(inside), {"pitch": target}))
        groups = [held.groups[i] for i in inside]
        found = judge.measure(clip.audio.numpy(), rate)
        lines.append(Measured(f"edit {shift:+d}", asked[inside], found, groups, passed[inside]))
    edits = [m for m in lines if m.name.startswith("edit")]
    if edits:
        lines.append(
            Measured(
                "all edits",
                np.concatenate([m.asked for m in edits]),
                np.concatenate([m.found for m in edits]),
                [g for m in edits for g in m.groups],
                np.concatenate([m.allowed for m in edits]),
            )
        )
    difference = (model.vaegan.normalise(plain.mel) - model.vaegan.normalise(held.mel)).abs().mean()
    return lines, _agreement(plain.audio.numpy(), lines[2].found, rate), round(float(difference), 4)


def _agreement(
    audio: NDArray[np.float32], found: NDArray[np.float64], rate: int, most: int = 32
) -> dict[str, Any] | None:
    """On a sample of the clips, how often the second meter is within 50 cents of the judge."""
    other = second_meter(audio[:most], rate)
    if other is None:
        return None
    both = np.isfinite(other) & np.isfinite(found[:most])
    close = np.abs(other[both] - found[:most][both]) <= 0.5
    share = float(100 * close.mean()) if both.any() else None
    return {"meter": "swift-f0", "clips": int(both.sum()), "within_50_cents": share}


def _judge_samples(model: SoundModel, judge: Judge, count: int) -> Measured:
    """Samples at pitches spread evenly over the trained range."""
    control = model.controls["pitch"]
    asked = np.linspace(control.low, control.high, count)
    clip = model.sample(count, pitch=asked, seed=0)
    found = judge.measure(clip.audio.numpy(), model.sample_rate)
    return Measured("sampled", asked, found, [str(i) for i in range(count)], np.ones(count, dtype=bool))


def table(figures: dict[str, Any]) -> str:
    """The figures as text, the ceiling beside them."""
    lines = [f"{'':18}{'n':>5}{'within 50 c':>13}{'95 % interval':>17}{'median':>9}{'P90':>9}{'excluded':>10}"]
    for split, part in figures["splits"].items():
        lines.append(f"{split} ({part['clips']} clips, mel L1 {part['mel_l1']:.3f})")
        lines += [_line(name, row) for name, row in part["pitch"].items()]
        agree = part["meters_agree"]
        if agree:
            within = agree["within_50_cents"]
            share = "no clip that both measure" if within is None else f"{within:.1f} % of {agree['clips']} clips"
            lines.append(f"  second meter ({agree['meter']}) within 50 c of the judge: {share}")
    lines += [f"samples from {figures['prior']} at asked pitches", _line("sampled", figures["samples"])]
    return "\n".join(lines)


def _line(name: str, row: dict[str, Any]) -> str:
    def cents(value: float | None) -> str:
        return "-" if value is None else f"{value:.0f} c"

    if not row["n"]:
        return f"  {name:16}{0:>5}"
    interval = f"{row['low']:.1f} - {row['high']:.1f}"
    return (
        f"  {name:16}{row['n']:>5}{row['within']:>11.1f} %{interval:>17}"
        f"{cents(row['median']):>9}{cents(row['p90']):>9}{row['excluded']:>8.1f} %"
    )


def to_json(figures: dict[str, Any]) -> str:
    return json.dumps(figures, indent=1) + "\n"
