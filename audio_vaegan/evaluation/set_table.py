"""The figures of the four rungs (`sets.py`) as tables: for a terminal, and for a page."""

from dataclasses import dataclass
from typing import Any

from audio_vaegan.evaluation.distances import TITLES, UNITS


@dataclass(frozen=True)
class Column:
    """A figure: where it stands in the JSON, its title, how it is written, and whether less or more of it is better."""

    key: str
    title: str
    digits: int = 2
    better: str = ""  # less | more

    def get(self, row: dict[str, Any]) -> Any:
        """The figure of a rung: a number, a dict with `value`, `low`, `high`, or None."""
        found: Any = row
        for part in self.key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    def text(self, row: dict[str, Any]) -> str:
        """The figure as text, its interval in brackets."""
        return show(self.get(row), self.digits)


SETS = (
    Column("kad", "KAD", 2, "less"),
    Column("fad", "FAD", 1, "less"),
    Column("fad_infinity.value", "FAD, endless", 1, "less"),
    Column("fad_infinity.r2", "its R2", 2),
    Column("precision", "precision", 2, "more"),
    Column("recall", "recall", 2, "more"),
    Column("density", "density", 2, "more"),
    Column("coverage", "coverage", 2, "more"),
    Column("different_bins.share", "NDB/K", 2, "less"),
    Column("diversity", "diversity", 2),
)
PITCH = (
    Column("pitch_exact", "pitch exact, %", 1, "more"),
    Column("pitch_within_a_semitone", "within a semitone, %", 1, "more"),
    Column("pitch_entropy", "pitch entropy, nats", 2, "less"),
    Column("inception_score", "inception score", 1, "more"),
)
PAIRS = tuple(
    Column(name, title + (f", {UNITS[name]}" if UNITS[name] else ""), 2, "less") for name, title in TITLES.items()
)
NOVELTY = (
    Column("nearest", "distance to training", 3),
    Column("ratio", "ratio to real", 2),
    Column("near", "nearer than 99 % of real, %", 1, "less"),
    Column("copies", "same prints as a training sound, %", 1, "less"),
    Column("duplicates", "same prints as another, %", 1, "less"),
)


def show(value: Any, digits: int = 2) -> str:
    """A figure as text, its interval in brackets; - where there is none."""
    if value is None:
        return "-"
    if isinstance(value, dict) and value["low"] is None:
        return f"{value['value']:.{digits}f}"
    if isinstance(value, dict):
        return f"{value['value']:.{digits}f} ({value['low']:.{digits}f} - {value['high']:.{digits}f})"
    return f"{value:.{digits}f}"


def _told(figures: dict[str, Any]) -> str:
    """What the real sets are."""
    held, real = figures["held_out"], figures["real"]
    whose = "instruments that training never heard" if held["split"] == "test_instrument" else "training, other notes"
    text = (
        f'"real, held out": {held["n"]} sounds of {held["groups"]} {whose}, of which copy and reconstructed are made.'
    )
    if not real["n"]:
        return text
    source = (
        "notes that training and judge never heard"
        if real["split"] == "test_note"
        else "training, too, so that the judge has heard them"
    )
    return f'"real": other sounds of the training instruments, from {source}: the floor of what is sampled. {text}'


def blocks(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables of a report: each a title, a text that says how to read it, columns, and rows of texts."""
    sets, pairs, novelty = figures["rungs"], figures["pairs"], figures["novelty"]
    n = figures["reference"]
    found = [
        (
            f"{n['n']} sounds a set, against {n['n']} training sounds",
            f"Embedding: {figures['embedding']}. {_told(figures)} FAD depends on the number of sounds; KAD does not. "
            f"Judge: {'; '.join(figures['notes'])}.",
            SETS,
            sets,
        ),
        (
            "Against the sounds held out",
            "Sounds of instruments that training heard, real and sampled, against as many of those it never heard: "
            "what is missing in the first row, no prior can have learned.",
            SETS,
            figures.get("against_held_out", {}),
        ),
        ("What the judge hears as pitch", "Of what was asked, or of the label.", PITCH, sets),
        ("Distance to the sound that it should be", "Another real sound: of the nearest pitch.", PAIRS, pairs),
        (
            "Are they new?",
            f"Distances to the nearest of all training sounds, beside those of {novelty['base_n']} sounds of "
            f"{novelty['base']} (median {novelty['base_nearest']:.3f}).",
            NOVELTY,
            novelty["sets"],
        ),
    ]
    return [
        {
            "title": title,
            "text": text,
            "columns": [c.title for c in columns],
            "rows": [{"name": name, "cells": [c.text(row) for c in columns]} for name, row in rows.items()],
        }
        for title, text, columns, rows in found
        if any(c.get(row) is not None for c in columns for row in rows.values())
    ]


def table(figures: dict[str, Any]) -> str:
    """The tables as text."""
    lines = []
    for block in blocks(figures):
        lines += [block["title"], "  " + block["text"]]
        cells = [["", *block["columns"]], *([row["name"], *row["cells"]] for row in block["rows"])]
        wide = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        for row in cells:
            first, *rest = (
                text.ljust(w) if not i else text.rjust(w) for i, (text, w) in enumerate(zip(row, wide, strict=True))
            )
            lines.append("  " + "  ".join([first, *rest]).rstrip())
    return "\n".join(lines)
