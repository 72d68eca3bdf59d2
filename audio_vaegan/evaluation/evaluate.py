"""Measure a model on clips that it never saw: pitch of copies, reconstructions, edits and samples, from the audio."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audio_vaegan.control.directions import find_direction
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.held import Held, codes, pick
from audio_vaegan.evaluation.pitch import Judge, score, second_meter
from audio_vaegan.sound_model import Sound, SoundModel

SHIFTS = (-7, -3, 3, 7)
LOWEST = 36  # MIDI: below, harmonics lie nearer to each other than the mel tells apart; figures stand apart
MOST_CODES = 4000  # of training sounds, that the direction of pitch is fitted to
CLIPS = 128
Mover = tuple[Callable[[Sound, NDArray[np.float64], int], Sound | None], float, float]


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
    truncation: float = 1.0,
    say: Callable[[str], None] = print,
    workers: int = 2,
) -> tuple[dict[str, Any], dict[str, list[Measured]]]:
    """Figures of a model on the held-out splits of a store, as JSON, and the measurements behind them."""
    began = time.monotonic()
    figures: dict[str, Any] = {"model_hash": model.hash, "vocoder": model.vocoder_title}
    figures |= {"store": store.content_hash, "splits": {}}
    measured: dict[str, list[Measured]] = {}
    figures["moved_by"] = "control" if "pitch" in model.controls else "direction"
    mover = _mover(model, store) if model.encodes else None
    with Judge(workers) as judge:
        for split in ("test_note", "test_instrument"):
            if mover is None:  # a GAN has samples alone
                break
            rows = pick(store, split, clips)
            if not len(rows):
                continue
            say(f"judging {len(rows)} clips of {split} ...")
            lines, agreement, mel_l1 = _judge_split(model, Held(model, store, rows), judge, mover)
            measured[split] = lines
            figures["splits"][split] = {
                "clips": len(rows),
                "mel_l1": mel_l1,
                "meters_agree": agreement,
                "pitch": {m.name: _score(m).to_json() for m in lines},
            }
        figures |= {"samples": None, "samples_by": {}, "prior": model.prior_title}
        if "pitch" in model.controls:
            say(f"judging {samples} samples ...")
            lines = [_judge_samples(model, judge, samples, truncation, closed_loop=loop) for loop in (False, True)]
            measured["samples"] = lines
            figures["samples"] = _score(lines[0]).to_json()
            figures["samples_by"] = {m.name: _score(m).to_json() for line in lines for m in (line, *_by_range(line))}
    figures["seconds"] = round(time.monotonic() - began, 1)
    return figures, measured


def _score(m: Measured) -> Any:
    return score(m.found, m.asked, m.groups, m.allowed)


def _judge_split(
    model: SoundModel, held: Held, judge: Judge, mover: Mover
) -> tuple[list[Measured], dict[str, Any] | None, float]:
    rate, label = model.sample_rate, held.pitch
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
    move, low, high = mover
    for shift in SHIFTS:
        asked = label + shift
        inside = np.flatnonzero((asked >= low) & (asked <= high) & pitched)
        if not len(inside):
            continue
        moved = move(held.sound.rows(inside), asked[inside], shift)
        if moved is None:
            break
        found = judge.measure(model.decode(moved).audio.numpy(), rate)
        groups = [held.groups[i] for i in inside]
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


def _mover(model: SoundModel, store: Store) -> Mover:
    """How sounds are moved to other pitches, and in which range: by the pitch control, or, where there is none, along
    the direction of the code that joint regression finds for pitch (`control.directions`)."""
    if "pitch" in model.controls:
        control = model.controls["pitch"]
        return (
            lambda sound, asked, _: model.replace_controls(sound, {"pitch": torch.from_numpy(asked).float()}),
            control.low,
            control.high,
        )
    rows = pick(store, "train", MOST_CODES)
    pitch = store.column("pitch")[rows].astype(np.float64)
    try:
        if not len(rows):
            raise UserError("no training clips")
        z = np.nan_to_num(codes(model, store, rows))
        vector = find_direction(z, pitch, "pitch", {}, groups=store.column("group")[rows]).vector
    except UserError:  # nothing to read a pitch from
        return lambda *_: None, -np.inf, np.inf
    step = torch.from_numpy(vector).float()
    return lambda sound, _, shift: replace(sound, z=sound.z + shift * step), *np.nanpercentile(pitch, (0, 100))


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


def _judge_samples(
    model: SoundModel, judge: Judge, count: int, truncation: float = 1.0, closed_loop: bool = False
) -> Measured:
    """Samples at pitches spread evenly over the trained range."""
    control = model.controls["pitch"]
    asked = np.linspace(control.low, control.high, count)
    clip = model.sample(count, pitch=asked, seed=0, truncation=truncation, closed_loop=closed_loop)
    found = judge.measure(clip.audio.numpy(), model.sample_rate)
    name = "sampled, closed loop" if closed_loop else "sampled"
    return Measured(name, asked, found, [str(i) for i in range(count)], np.ones(count, dtype=bool))


def _by_range(line: Measured) -> list[Measured]:
    """The requests below and from LOWEST on, where there are both."""
    low = line.asked < LOWEST
    if low.all() or not low.any():
        return []
    sides = ((f"{line.name}, below MIDI {LOWEST}", low), (f"{line.name}, from MIDI {LOWEST}", ~low))
    return [
        Measured(
            name, line.asked[k], line.found[k], [g for g, x in zip(line.groups, k, strict=True) if x], line.allowed[k]
        )
        for name, k in sides
    ]


def table(figures: dict[str, Any]) -> str:
    """The figures as text, the ceiling beside them."""
    lines = [f"{'':36}{'n':>5}{'within 50 c':>13}{'95 % interval':>17}{'median':>9}{'P90':>9}{'excluded':>10}"]
    for split, part in figures["splits"].items():
        lines.append(f"{split} ({part['clips']} clips, mel L1 {part['mel_l1']:.3f})")
        lines += [_line(name, row) for name, row in part["pitch"].items()]
        agree = part["meters_agree"]
        if agree:
            within = agree["within_50_cents"]
            share = "no clip that both measure" if within is None else f"{within:.1f} % of {agree['clips']} clips"
            lines.append(f"  second meter ({agree['meter']}) within 50 c of the judge: {share}")
    if figures.get("moved_by") == "direction":
        lines.append("(this model has no pitch control: edits go along the direction that regression finds for pitch)")
    if figures["samples"]:
        lines.append(f"samples from {figures['prior']} at asked pitches")
        lines += [_line(name, row) for name, row in figures["samples_by"].items()]
    return "\n".join(lines)


def _line(name: str, row: dict[str, Any]) -> str:
    def cents(value: float | None) -> str:
        return "-" if value is None else f"{value:.0f} c"

    if not row["n"]:
        return f"  {name:34}{0:>5}"
    interval = f"{row['low']:.1f} - {row['high']:.1f}"
    return (
        f"  {name:34}{row['n']:>5}{row['within']:>11.1f} %{interval:>17}"
        f"{cents(row['median']):>9}{cents(row['p90']):>9}{row['excluded']:>8.1f} %"
    )


def to_json(figures: dict[str, Any]) -> str:
    return json.dumps(_plain(figures), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """What JSON can hold: None for what is no number."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
