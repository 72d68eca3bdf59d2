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

from audio_vaegan.data.health import Floats, column, headline, health, midi, number, short
from audio_vaegan.data.store import SPLITS
from audio_vaegan.files import write_atomic

ROWS = 5000  # of the table of files
CLUSTERS, MEMBERS = 50, 20  # clusters of duplicates listed of a kind, and files named of one
VALUES = 30  # bars of a label; the rest is summed
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
    environment.filters |= {"number": number, "short": short, "bars": _bars}
    source = (Path(__file__).parent / "page.html.jinja").read_text(encoding="utf-8")
    rows, left_out = _rows(files)
    page = environment.from_string(source).render(
        summary=summary,
        headline=headline(summary),
        health=summary.get("health") or health(summary, items, sample_rate),
        splits={name: summary.get("splits", {}).get(name, 0) for name in SPLITS},
        panels=_panels(summary.get("descriptors", {}), items, sample_rate),
        rows=rows,
        left_out=left_out,
        limits={"clusters": CLUSTERS, "members": MEMBERS},
    )
    # A name that is not UTF-8 must not cost the user the page.
    write_atomic(path, page.encode("utf-8", "backslashreplace"))


def _bars(counts: dict[str, int], keep_order: bool = False) -> list[tuple[str, int, float]]:
    """(name, count, width in percent of the longest), largest first, the smallest ones summed."""
    bars = [(short(k, 80), n) for k, n in counts.items()]
    if not keep_order:
        bars.sort(key=lambda b: (-b[1], b[0]))
    rest = bars[VALUES:]
    if len(rest) > 1:
        bars[VALUES:] = [(f"{len(rest):,} others", sum(n for _, n in rest))]
    longest = max((n for _, n in bars), default=0) or 1
    return [(k, n, round(100 * n / longest, 1)) for k, n in bars]


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
        values = column(items, name)
        usable = np.isfinite(values)
        unit, text = PLOTS.get(name, ("", ""))
        series, edges = {"": values[usable] / (sample_rate if name == "length" else 1)}, None
        if name == "silence":
            edges = np.linspace(0, 1, 41)
        elif name == "pitch":
            if split is not None:
                series = {s: values[usable & (split == s)] for s in SPLITS}
            heard = midi(values)
            edges = np.arange(heard.min(), heard.max() + 2) - 0.5 if len(heard) else None
        if not any(map(len, series.values())):
            continue
        picture, outside = _histogram(list(series.values()), edges)
        panels.append(
            {
                "title": name.replace("_", " "),
                "unit": described.get(name, {}).get("unit") or unit,
                "text": described.get(name, {}).get("text") or text,
                "undefined": len(values) - int(usable.sum()),
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
        if high - low < 0.02 * max(1, abs(low)):  # all but equal
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
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.yaxis.set_major_formatter(lambda y, _: f"{y / 1000:g}k" if y >= 10_000 else f"{y:g}")
    ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue(), sum(map(len, series)) - int(sum(c.sum() for c in counts))
