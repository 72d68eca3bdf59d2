"""What a user should know of the clips of a store, in sentences."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audio_vaegan.data.store import SPLITS

Floats = NDArray[np.float64]

SHORT = 0.05  # seconds; pitch and decay can hardly be measured on less
UNEVEN = 10  # largest : smallest above which a label or an octave counts as out of balance


def headline(summary: dict[str, Any]) -> str:
    """The outcome in one plain sentence, without a full stop."""
    seconds = summary["seconds"]
    size, unit = (1, "seconds") if seconds < 60 else (60, "minutes") if seconds < 3600 else (3600, "hours")
    dropped = summary["files"] - summary["files_used"]
    return (
        f"{summary['files_used']:,} of {count(summary['files'], 'file')} used: {count(summary['clips'], 'clip')}, "
        f"{seconds / size:,.1f} {unit} of sound; {dropped or 'none':{',' if dropped else ''}} dropped"
    )


def health(summary: dict[str, Any], items: pa.Table, sample_rate: int | None = None) -> list[str]:
    """What a user should know before training on these clips, a sentence each; empty when nothing stands out.

    Very short clips are looked for only when `sample_rate` (Hz) is given: `items` holds lengths in samples.
    """
    clips = summary["clips"]
    if not clips:
        return ["No clip was made: there is nothing to learn from."]
    said = []

    def of(n: int) -> str:
        return f"{n:,} of {count(clips, 'clip')} ({number(100 * n / clips)} %)"

    silent = int((column(items, "silence") > 0.5).sum())
    if silent >= clips / 100:
        said.append(f"Silence: {of(silent)} silent for more than half of the length; a generator learns silence too.")
    if summary.get("clipped_files"):
        clipped = int((column(items, "clipped") > 0).sum())
        said.append(
            f"Clipping: {count(summary['clipped_files'], 'file')} with samples at full scale"
            f"{f', in {of(clipped)}' if clipped else ''}; the distortion is learnt with the sound."
        )
    short = int((column(items, "length") < SHORT * (sample_rate or 0)).sum())
    if short:
        said.append(f"Short: {of(short)} under {1000 * SHORT:.0f} ms; pitch and decay can hardly be measured on them.")
    for kind, what in (("exact", "equal bytes"), ("near", "a sound that others of them hold, too")):
        clusters = summary.get("duplicates", {}).get(kind, [])
        if clusters:
            n, m = count(sum(map(len, clusters)), "file"), count(len(clusters), "cluster")
            said.append(
                f"Duplicates: {n} in {m} with {what}; each copy weighs again, none stands on the other side of a split."
            )
    said += _one_file(items, of)
    unpitched = summary.get("unpitched_clips", 0)
    if unpitched == clips:
        said.append("Unpitched: no clip has a pitch; a model of them has no pitch control.")
    elif unpitched >= clips / 20:
        said.append(f"Unpitched: {of(unpitched)} without a pitch; they do not teach the pitch control.")
    for name, n in summary.get("doubts", {}).items():
        if n:
            said.append(f"Labels: the meter doubts the {name} of {of(n)}; a wrong label teaches a wrong control.")
    return [*said, *_pitch_balance(items), *_label_balance(summary.get("labels", {})), *_held_out(summary)]


def _one_file(items: pa.Table, of: Callable[[int], str]) -> list[str]:
    """A file that holds more than a quarter of the clips."""
    if "source" not in items.column_names or items.num_rows < 20:
        return []
    counts = items.column("source").value_counts().to_pylist()
    most = max(counts, key=lambda c: c["counts"])
    if len(counts) < 2 or most["counts"] * 4 <= items.num_rows:
        return []
    return [
        f"One file: {short(most['values'])} holds {of(most['counts'])}; cut it (data.windows: onsets), or leave it out."
    ]


def _pitch_balance(items: pa.Table) -> list[str]:
    """Octaves (C to B) inside the range that hold, a semitone, less than a tenth of what the fullest holds."""
    pitch = midi(column(items, "pitch"))
    if len(pitch) < 20:
        return []
    low, high = int(pitch.min()), int(pitch.max())
    counts = np.bincount(pitch, minlength=128)
    octaves = range(low // 12, high // 12 + 1)
    found = [int(counts[12 * o : 12 * o + 12].sum()) for o in octaves]
    # The octaves at both ends are met only in part: compare clips a semitone.
    density = [n / (min(high, 12 * o + 11) - max(low, 12 * o) + 1) for o, n in zip(octaves, found, strict=True)]
    full = int(np.argmax(density))
    few = [
        f"C{o - 1} to B{o - 1} ({n:,})"
        for o, n, d in zip(octaves, found, density, strict=True)
        if d * UNEVEN < density[full]
    ]
    best = f"C{octaves[full] - 1} to B{octaves[full] - 1} ({found[full]:,})"
    said = f"Pitch balance: few clips in {', '.join(few)}, beside {best}; expect less of the model there."
    return [said] if few else []


def _label_balance(labels: dict[str, dict[str, int]], limit: int = 8) -> list[str]:
    said = []
    for name, counts in labels.items():
        there = sorted(((n, str(v)) for v, n in counts.items() if n > 0), key=lambda c: (-c[0], c[1]))
        if len(there) > 1 and there[0][0] > UNEVEN * there[-1][0]:
            (most, common), (least, rare) = there[0], there[-1]
            said.append(
                f'Balance: label "{short(name)}" has {count(most, "clip")} of "{short(common)}" and {least:,} of '
                f'"{short(rare)}" ({most / least:,.0f} : 1); a generator learns what is frequent.'
            )
    more = len(said) - limit
    return said[:limit] + ([f"Balance: so it is with {count(more, 'more label')}."] if more > 0 else [])


def _held_out(summary: dict[str, Any]) -> list[str]:
    splits, groups = summary.get("splits", {}), summary.get("groups", 0)
    few = f"Few groups: {count(groups, 'group')} of related files; figures on held-out ones are uncertain."
    said = [few] if groups < 10 else []
    measured = "nothing can be measured on {} that the model never heard"
    lost = ("there is nothing to learn from", measured.format("sources"), measured.format("notes"))
    empty = [(name, what) for name, what in zip(SPLITS, lost, strict=True) if not splits.get(name)]
    return said + [f"Empty split: {name} holds no clip; {what}." for name, what in empty]


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def short(text: object, limit: int = 200) -> str:
    """Text cut in its middle: one endless name must not swell the page. The report holds it whole."""
    text = str(text)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def column(items: pa.Table, name: str) -> Floats:
    """A column as floats `[clips]`; null, infinite and absurd values are NaN. Empty when missing or no numbers."""
    try:
        values = items.column(name).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (KeyError, pa.ArrowException):
        return np.empty(0)
    return np.where(np.abs(values) < 1e12, values, np.nan)


def midi(pitch: Floats) -> NDArray[np.int64]:
    """Nearest semitones; a value that is no MIDI note is left out."""
    nearest = np.rint(pitch[np.isfinite(pitch)])
    return nearest[(nearest >= 0) & (nearest <= 127)].astype(np.int64)


def number(value: float | None, form: str = "") -> str:
    """A number as text, by default with three digits; nothing where it is not known."""
    if value is None or not math.isfinite(value):
        return ""
    return format(value, form or (".0f" if abs(value) >= 1000 else ".3g"))
