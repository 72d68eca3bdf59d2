"""The page of a store: what was in the folder, what was used, what was dropped and why, and whether the data is
healthy. One HTML file that loads nothing else; the same input gives the same bytes.

Everything is counted on columns and the table is capped, so the page costs about the same at any number of clips.
"""

import base64
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audio_vaegan.data.store import SPLITS
from audio_vaegan.files import write_atomic

Floats = NDArray[np.float64]

ROWS = 5000  # of the table of files
CLUSTERS, MEMBERS = 50, 20  # clusters of duplicates listed of a kind, and files named of one
VALUES = 30  # bars of a label; the rest is summed
SHORT = 0.05  # seconds; pitch and decay can hardly be measured on less
UNEVEN = 10  # largest : smallest above which a label or an octave counts as out of balance
COLOURS = ("#3b6ea5", "#d9822b", "#4f9d69")
# Columns that get a plot: unit and meaning, where the summary does not describe them.
PLOTS = {
    "length": ("s", "true length of a clip, without its padding"),
    "pitch": ("MIDI", "60 is middle C, 69 is 440 Hz"),
    "loudness": ("LUFS", ""),
    "peak": ("dBFS", "largest sample"),
    "silence": ("share", "part of the true length that is silent"),
    **dict.fromkeys(
        ("centroid", "brightness", "noisiness", "attack", "decay", "effective_duration", "onset_rate"), ("", "")
    ),
}


def write_page(
    path: Path, summary: dict[str, Any], files: Iterable[dict[str, Any]], items: pa.Table, sample_rate: int
) -> None:
    """Write the page of a store.

    `summary` and `files` are those of the store's report, `items` its table of clips, `sample_rate` in Hz. `files` is
    read once, and at most a few thousand of them are held.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "short": _short, "bars": _bars}
    source = (Path(__file__).parent / "page.html.jinja").read_text(encoding="utf-8")
    rows, left_out = _rows(files)
    page = environment.from_string(source).render(
        summary=summary,
        headline=headline(summary),
        health=health(summary, items, sample_rate),
        splits={name: summary.get("splits", {}).get(name, 0) for name in SPLITS},
        panels=_panels(summary.get("descriptors", {}), items, sample_rate),
        rows=rows,
        left_out=left_out,
        limits={"clusters": CLUSTERS, "members": MEMBERS},
    )
    # A name that is not UTF-8 must not cost the user the page.
    write_atomic(path, page.encode("utf-8", "backslashreplace"))


def headline(summary: dict[str, Any]) -> str:
    """The outcome in one plain sentence, without a full stop."""
    seconds = summary["seconds"]
    size, unit = (1, "seconds") if seconds < 60 else (60, "minutes") if seconds < 3600 else (3600, "hours")
    dropped = summary["files"] - summary["files_used"]
    return (
        f"{summary['files_used']:,} of {_count(summary['files'], 'file')} used: {_count(summary['clips'], 'clip')}, "
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
        return f"{n:,} of {_count(clips, 'clip')} ({_number(100 * n / clips)} %)"

    silent = int((_column(items, "silence") > 0.5).sum())
    if silent >= clips / 100:
        said.append(f"Silence: {of(silent)} silent for more than half of the length; a generator learns silence too.")
    if summary.get("clipped_files"):
        clipped = int((_column(items, "clipped") > 0).sum())
        said.append(
            f"Clipping: {_count(summary['clipped_files'], 'file')} with samples at full scale"
            f"{f', in {of(clipped)}' if clipped else ''}; the distortion is learnt with the sound."
        )
    short = int((_column(items, "length") < SHORT * (sample_rate or 0)).sum())
    if short:
        said.append(f"Short: {of(short)} under {1000 * SHORT:.0f} ms; pitch and decay can hardly be measured on them.")
    for kind, what in (("exact", "the same sound"), ("near", "nearly the same sound")):
        clusters = summary.get("duplicates", {}).get(kind, [])
        if clusters:
            n, m = _count(sum(map(len, clusters)), "file"), _count(len(clusters), "cluster")
            said.append(f"Duplicates: {n} in {m} with {what}; each copy that is used weighs again.")
    unpitched = summary.get("unpitched_clips", 0)
    if unpitched == clips:
        said.append("Unpitched: no clip has a pitch; a model of them has no pitch control.")
    elif unpitched >= clips / 20:
        said.append(f"Unpitched: {of(unpitched)} without a pitch; they do not teach the pitch control.")
    for name, n in summary.get("doubts", {}).items():
        if n:
            said.append(f"Labels: the meter doubts the {name} of {of(n)}; a wrong label teaches a wrong control.")
    return [*said, *_pitch_balance(items), *_label_balance(summary.get("labels", {})), *_held_out(summary)]


def _pitch_balance(items: pa.Table) -> list[str]:
    """Octaves (C to B) inside the range that hold, a semitone, less than a tenth of what the fullest holds."""
    pitch = _midi(_column(items, "pitch"))
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
                f'Balance: label "{_short(name)}" has {_count(most, "clip")} of "{_short(common)}" and {least:,} of '
                f'"{_short(rare)}" ({most / least:,.0f} : 1); a generator learns what is frequent.'
            )
    more = len(said) - limit
    return said[:limit] + ([f"Balance: so it is with {_count(more, 'more label')}."] if more > 0 else [])


def _held_out(summary: dict[str, Any]) -> list[str]:
    splits, groups = summary.get("splits", {}), summary.get("groups", 0)
    few = f"Few groups: {_count(groups, 'group')} of related files; figures on held-out ones are uncertain."
    said = [few] if groups < 10 else []
    measured = "nothing can be measured on {} that the model never heard"
    lost = ("there is nothing to learn from", measured.format("sources"), measured.format("notes"))
    empty = [(name, what) for name, what in zip(SPLITS, lost, strict=True) if not splits.get(name)]
    return said + [f"Empty split: {name} holds no clip; {what}." for name, what in empty]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _short(text: object, limit: int = 200) -> str:
    """Text cut in its middle: one endless name must not swell the page. The report holds it whole."""
    text = str(text)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def _column(items: pa.Table, name: str) -> Floats:
    """A column as floats `[clips]`; null, infinite and absurd values are NaN. Empty when missing or no numbers."""
    try:
        values = items.column(name).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (KeyError, pa.ArrowException):
        return np.empty(0)
    return np.where(np.abs(values) < 1e12, values, np.nan)


def _midi(pitch: Floats) -> NDArray[np.int64]:
    """Nearest semitones; a value that is no MIDI note is left out."""
    nearest = np.rint(pitch[np.isfinite(pitch)])
    return nearest[(nearest >= 0) & (nearest <= 127)].astype(np.int64)


def _bars(counts: dict[str, int], keep_order: bool = False) -> list[tuple[str, int, float]]:
    """(name, count, width in percent of the longest), largest first, the smallest ones summed."""
    bars = [(_short(k, 80), n) for k, n in counts.items()]
    if not keep_order:
        bars.sort(key=lambda b: (-b[1], b[0]))
    rest = bars[VALUES:]
    if len(rest) > 1:
        bars[VALUES:] = [(f"{len(rest):,} others", sum(n for _, n in rest))]
    longest = max((n for _, n in bars), default=0) or 1
    return [(k, n, round(100 * n / longest, 1)) for k, n in bars]


def _number(value: float | None, form: str = "") -> str:
    """A number as text, by default with three digits; nothing where it is not known."""
    if value is None or not math.isfinite(value):
        return ""
    return format(value, form or (".0f" if abs(value) >= 1000 else ".3g"))


def _rows(files: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Rows of the table (files not used, then those with notes, then the rest) and how many more there are."""
    kept: dict[str, list[dict[str, Any]]] = {"dropped": [], "note": [], "used": []}
    total = 0
    for file in files:
        total += 1
        state = "dropped" if not file["used"] else "note" if file.get("notes") else "used"
        if len(kept[state]) < ROWS:
            kept[state].append({**file, "state": state, "pitch": _span(file.get("pitch") or [])})
    rows = [row for part in kept.values() for row in part][:ROWS]
    return rows, total - len(rows)


def _span(pitch: Sequence[float | None]) -> str:
    """Pitches of a file's clips in short: one, or the lowest, the highest and how many."""
    known = [p for p in pitch if p is not None and math.isfinite(p)]
    if len(known) > 1:
        return f"{min(known):.1f} ... {max(known):.1f} ({len(known):,})"
    return f"{known[0]:.1f}" if known else ""


def _panels(described: dict[str, dict[str, Any]], items: pa.Table, sample_rate: int) -> list[dict[str, Any]]:
    """A plot of every column of numbers that holds any: its name, unit, meaning, legend and picture."""
    panels = []
    split = items.column("split").to_numpy(zero_copy_only=False) if "split" in items.column_names else None
    for name in dict.fromkeys((*PLOTS, *described)):
        column = _column(items, name)
        usable = np.isfinite(column)
        unit, text = PLOTS.get(name, ("", ""))
        series, edges = {"": column[usable] / (sample_rate if name == "length" else 1)}, None
        if name == "silence":
            edges = np.linspace(0, 1, 41)
        elif name == "pitch":
            if split is not None:
                series = {s: column[usable & (split == s)] for s in SPLITS}
            heard = _midi(column)
            edges = np.arange(heard.min(), heard.max() + 2) - 0.5 if len(heard) else None
        if not any(map(len, series.values())):
            continue
        picture, outside = _histogram(list(series.values()), edges)
        panels.append(
            {
                "title": name.replace("_", " "),
                "unit": described.get(name, {}).get("unit") or unit,
                "text": described.get(name, {}).get("text") or text,
                "undefined": len(column) - int(usable.sum()),
                "outside": outside,
                "legend": list(zip(series, COLOURS, strict=False)) if len(series) > 1 else [],
                "picture": "data:image/png;base64," + base64.b64encode(picture).decode(),
            }
        )
    return panels


def _histogram(series: list[Floats], edges: Floats | None) -> tuple[bytes, int]:
    """PNG of stacked histograms, and how many values lie outside it. A range of two decades gets a logarithmic axis;
    without `edges` a few far values do not squeeze the rest."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, NullFormatter

    log = False
    if edges is None:
        values = np.concatenate(series)
        low, high = np.percentile(values, [0.5, 99.5])
        log = values.min() > 0 and high > 100 * low
        if log:
            series, values, low, high = [np.log10(s) for s in series], np.log10(values), np.log10(low), np.log10(high)
        if values.max() - values.min() < 2 * (high - low) or low == high:
            low, high = values.min(), values.max()
        if high - low < 1e-9 * max(1, abs(low)):
            low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
        edges = np.linspace(low, high, 41)
    counts = [np.histogram(s, edges)[0] for s in series]
    figure = Figure(figsize=(3.2, 1.6), dpi=200)
    ax = figure.add_axes((0.12, 0.15, 0.85, 0.8))
    base = np.zeros(len(edges) - 1)
    for count, colour in zip(counts, COLOURS, strict=False):
        ax.stairs(base + count, 10**edges if log else edges, baseline=base, fill=True, color=colour)
        base = base + count
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.yaxis.set_major_formatter(lambda y, _: f"{y / 1000:g}k" if y >= 10_000 else f"{y:g}")
    ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue(), sum(map(len, series)) - int(sum(c.sum() for c in counts))
