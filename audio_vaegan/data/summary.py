"""The report of a store in numbers: what of the input was used, and what the clips are like."""

import re
from collections import Counter
from typing import Any

import numpy as np

from audio_vaegan.config import DataConfig
from audio_vaegan.data.health import headline, health
from audio_vaegan.data.store import SPLITS, Store
from audio_vaegan.descriptors import DESCRIPTORS

MOST_VALUES = 200  # of a label that is shown as classes


def summarise(
    files: list[dict[str, Any]], duplicates: dict[str, list[list[str]]], store: Store, data: DataConfig
) -> dict[str, Any]:
    """The summary of `report.json`. Counts are of files where they say so, else of clips."""
    summary = _figures(files, duplicates, store)
    sentences = health(summary, store.items, store.sample_rate)
    if data.loudness is not None:
        level = store.column("loudness") + store.column("gain_db")
        soft = level < data.loudness - 0.5
        if soft.any():
            sentences.append(
                f"Loudness: {soft.sum():,} of {len(store):,} clips stay below {data.loudness:g} LUFS (their median: "
                f"{np.median(level[soft]):.1f}), because their peaks are at full scale."
            )
    return summary | {"health": sentences}


def _figures(files: list[dict[str, Any]], duplicates: dict[str, list[list[str]]], store: Store) -> dict[str, Any]:
    split, group = store.column("split"), store.column("group")
    return {
        "files": len(files),
        "files_used": sum(f["used"] for f in files),
        "dropped": dict(Counter(kind(f["reason"]) for f in files if not f["used"]).most_common()),
        "noted": dict(Counter(kind(note) for f in files for note in f.get("notes", [])).most_common()),
        "clips": len(store),
        "seconds": round(float(store.column("length").sum()) / store.sample_rate, 3),
        "splits": {s: int((split == s).sum()) for s in SPLITS},
        "groups": len(set(group.tolist())),
        "unpitched_clips": int(np.isnan(store.column("pitch")).sum()),
        "doubts": _doubts(store),
        "labels": _classes(store),
        "duplicates": duplicates,
        "clipped_files": sum("clipped" in f for f in files),
        "descriptors": {name: _spread(store, name) for name in DESCRIPTORS},
    }


def describe(summary: dict[str, Any], sample_rate: int, clip_samples: int) -> list[str]:
    """The summary in lines for a terminal."""
    lines = [headline(summary), f"stored as {sample_rate} Hz mono clips of {clip_samples / sample_rate:.3f} s"]
    splits = ", ".join(f"{k} {v}" for k, v in summary["splits"].items())
    lines.append(f"splits: {splits}; groups: {summary['groups']}; unpitched clips: {summary['unpitched_clips']}")
    if summary.get("added") is not None:
        lines.append(f"the store grew: {summary['added']} new files were looked at, the splits of the others stay")
    lines += [f"dropped {count}: {reason}" for reason, count in summary["dropped"].items()]
    lines += [f"used with a note, {count}: {note}" for note, count in summary["noted"].items()]
    lines += summary["health"]
    if stages := summary.get("stages"):
        told = ", ".join(
            f"{stage} {value:.1f} s ({summary['seconds'] / value:,.0f}x)"
            for stage, value in stages.items()
            if value > 0.05
        )
        lines.append(f"work of all processes (times real time): {told}")
    return lines


def table(summary: dict[str, Any]) -> str:
    """The descriptors of all clips, and how often each class occurs, as text."""
    lines = [
        f"{'descriptor':<12} {'unit':<18} {'defined':>8} {'min':>9} {'5 %':>9} {'median':>9} {'95 %':>9} {'max':>9}"
    ]
    for name, d in summary["descriptors"].items():
        cells = ["-" if d[k] is None else f"{d[k]:.4g}" for k in ("min", "p5", "median", "p95", "max")]
        lines.append(f"{name:<12} {d['unit']:<18} {d['defined']:>8.1%} " + " ".join(f"{c:>9}" for c in cells))
    for name, counts in summary["labels"].items():
        most = ", ".join(f"{value} {count}" for value, count in list(counts.items())[:12])
        lines.append(f"label {name}: {most}{', ...' if len(counts) > 12 else ''}")
    return "\n".join(lines)


def kind(text: str) -> str:
    """A reason or a note without what differs from file to file, which follows a colon or stands in brackets."""
    return re.split(r": | \(", text, maxsplit=1)[0]


def _doubts(store: Store) -> dict[str, int]:
    """How many clips have a label that the meter doubts, by descriptor."""
    found = {}
    for name, descriptor in DESCRIPTORS.items():
        if name != "pitch" and (name == "pitch_hz" or name not in store.label_names()):
            continue
        off = np.abs(store.column(name) - store.column(f"{name}_measured")) > descriptor.tolerance
        if off.any():
            found[name] = int(off.sum())
    return found


def _classes(store: Store) -> dict[str, dict[str, int]]:
    """How many clips have each value of a label, for labels that look like classes."""
    found = {}
    for name in store.label_names():
        counts = Counter(v for v in store.label(name) if v is not None)
        if 2 <= len(counts) <= MOST_VALUES:
            found[name] = dict(counts.most_common())
    return found


def _spread(store: Store, name: str) -> dict[str, Any]:
    values = store.column(name)
    values = values[np.isfinite(values)]
    about: dict[str, Any] = {"unit": DESCRIPTORS[name].unit, "text": DESCRIPTORS[name].text}
    about["defined"] = round(len(values) / max(1, len(store)), 4)
    places = zip(("min", "p5", "median", "p95", "max"), (0, 5, 50, 95, 100), strict=True)
    return about | {k: round(float(np.percentile(values, q)), 4) if len(values) else None for k, q in places}
