"""Spectrograms and curves as PNG."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from audio_vaegan.config import MelConfig

_LN10_20 = 20 / np.log(10)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def inline(png: bytes) -> str:
    """A picture as the address that a page shows it by."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _decibels(log_mel: NDArray[np.float32], config: MelConfig) -> NDArray[np.float32]:
    return log_mel * ((_LN10_20 if config.log == "ln" else 20.0) / config.power)


def mel_grid(
    rows: Sequence[Sequence[NDArray[np.float32]]],
    columns: Sequence[str],
    names: Sequence[str],
    config: MelConfig,
) -> bytes:
    """A grid of log-mel spectrograms `[n_mels, T]`, one scale of 80 dB for all, mel bin upward, time to the right."""
    top = max(float(_decibels(m, config).max()) for row in rows for m in row)
    width, height = 2.3 * len(columns), 1.9 * len(rows)
    figure = Figure(figsize=(width + 0.25, height + 0.25), dpi=80)
    ax = figure.add_axes((0, 0, 1, 1))  # one for all panels: each of its own takes longer than a panel
    for i, row in enumerate(rows):
        for j, mel in enumerate(row):
            where = (j, j + 0.97, i + 0.96, i)
            ax.imshow(_decibels(mel, config)[::-1], cmap="magma", vmin=top - 80, vmax=top, extent=where)
    words: dict[str, Any] = {"ha": "center", "va": "center", "parse_math": False, "clip_on": False}
    for j, title in enumerate(columns):
        ax.text(j + 0.485, -0.12 / 1.9, _short(title, 30), fontsize=9, **words)
    for i, name in enumerate(names):
        ax.text(-0.12 / 2.3, i + 0.48, _short(name, 34), fontsize=7, rotation="vertical", **words)
    ax.set(aspect="auto", xlim=(-0.25 / 2.3, len(columns)), ylim=(len(rows), -0.25 / 1.9))
    ax.axis("off")
    return _png(figure)


def _short(name: str, most: int) -> str:
    """A name of at most so many characters, without its middle if it is longer."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


def spectrogram(audio: NDArray[np.float32], size: int = 2048) -> NDArray[np.float32]:
    """Magnitudes of a clip `[samples]` in dB re a sinusoid of amplitude 1, `[size / 2 + 1, frames]`: Hann window of
    `size` samples, an eighth of it between frames, frame t centred on sample t * size / 8."""
    padded = np.pad(np.asarray(audio, dtype=np.float32), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 8]
    window = np.hanning(size + 1)[:-1] * (4 / size)
    magnitude = np.abs(np.fft.rfft(frames * window)).T
    return (20 * np.log10(np.maximum(magnitude, 1e-10))).astype(np.float32)


def spectrogram_grid(
    rows: Sequence[Sequence[NDArray[np.float32]]],
    columns: Sequence[str] | Sequence[Sequence[str]],
    names: Sequence[str],
    sample_rate: int,
) -> bytes:
    """A grid of spectrograms of clips `[samples]`: seconds to the right, kHz upward on a linear scale (where a comb of
    wrong partials shows as stripes), one scale of 90 dB for all. `columns`: titles of the columns, or of every cell."""
    each = not isinstance(columns[0], str)
    images = [[spectrogram(audio) for audio in row] for row in rows]
    top = max(float(image.max()) for row in images for image in row)
    figure = Figure(figsize=(3.6 * len(rows[0]), 2.9 * len(rows) + 0.3), dpi=90, layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False, sharex=True, sharey=True)
    for i, row in enumerate(images):
        for j, image in enumerate(row):
            ax = axes[i][j]
            extent = (0, len(rows[i][j]) / sample_rate, 0, sample_rate / 2000)
            shown = ax.imshow(
                image, origin="lower", aspect="auto", cmap="magma", vmin=top - 90, vmax=top, extent=extent
            )
            ax.tick_params(labelsize=7)
            if i == 0 or each:
                ax.set_title(str(columns[i][j] if each else columns[j]), fontsize=9, parse_math=False)
            if i == len(images) - 1:
                ax.set_xlabel("s", fontsize=8)
            if j == 0:
                ax.set_ylabel(f"{names[i]}\nkHz", fontsize=7, parse_math=False)
    bar = figure.colorbar(shown, ax=axes, fraction=0.02, pad=0.01)
    bar.set_label("dB", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return _png(figure)


def sorted_curves(panels: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> bytes:
    """One panel a title; each named set of values in ascending order, over the share of the set that lies below."""
    figure = Figure(figsize=(4.0 * len(panels), 2.8), dpi=80, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, sets) in zip(axes, panels.items(), strict=True):
        for name, values in sets.items():
            share = 100 * (np.arange(len(values)) + 0.5) / len(values)
            ax.plot(share, np.sort(values), label=name, linewidth=1.2, marker="." if len(values) < 40 else "")
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("% of clips", fontsize=8)
        ax.set_ylim(bottom=0)
        ax.tick_params(labelsize=7)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
    return _png(figure)


def curves(records: Sequence[dict[str, Any]], panels: Mapping[str, Sequence[str]]) -> bytes:
    """Training curves: one panel a title, with the named terms over the step."""
    figure = Figure(figsize=(3.6 * len(panels), 2.6), dpi=80, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, names) in zip(axes, panels.items(), strict=True):
        for name in names:
            points = [(r["step"], r[name]) for r in records if name in r]
            if points:
                ax.plot(*zip(*points, strict=True), label=name, linewidth=1)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("step", fontsize=8)
        ax.tick_params(labelsize=7)
        ax.grid(alpha=0.3)
        if ax.lines:
            ax.legend(fontsize=7)
    return _png(figure)


def rungs(values: Mapping[str, Mapping[str, Any]], title: str, points: Mapping[str, NDArray[np.floating]]) -> bytes:
    """Left, a figure of each rung (`value`, `low`, `high`) with its interval; then a panel a rung with its `points`
    `[N, 2]` over those of the first, in grey."""
    reference, *names = points
    figure = Figure(figsize=(3.4 + 2.2 * len(names), 2.6), dpi=80, layout="constrained")
    first, *panels = figure.subplots(1, 1 + len(names), width_ratios=[1.5, *[1] * len(names)])
    for i, (name, v) in enumerate(values.items()):
        low, high = (v["value"] if v[end] is None else v[end] for end in ("low", "high"))
        first.plot([low, high], [i, i], color="0.5")
        first.plot(v["value"], i, "o", color="C0", markersize=4)
        first.text(high, i, f" {name}", fontsize=7, va="center", parse_math=False)
    first.set_yticks([])
    first.set_ylim(len(values) - 0.5, -0.5)
    first.set_title(title, fontsize=9)
    first.margins(x=0.25)
    for ax, name in zip(panels, names, strict=True):
        for x, y, color in ((*points[reference].T, "0.75"), (*points[name].T, "C0")):
            ax.plot(x, y, ".", markersize=2, color=color, alpha=0.6)
        ax.set_title(name, fontsize=9, parse_math=False)
        ax.set_xticks([])
        ax.set_yticks([])
    first.tick_params(labelsize=7)
    return _png(figure)


def pitch_scatter(panels: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> bytes:
    """Asked (x) against measured (y) pitch in MIDI semitones; a band of 50 cents around the diagonal."""
    panels = {t: (a[np.isfinite(a)], m[np.isfinite(a)]) for t, (a, m) in panels.items() if np.isfinite(a).any()}
    if not panels:
        return _png(Figure(figsize=(3.0, 0.3)))
    figure = Figure(figsize=(3.0 * len(panels), 3.0), dpi=80, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, (asked, measured)) in zip(axes, panels.items(), strict=True):
        low, high = float(asked.min()) - 3, float(asked.max()) + 3
        ax.fill_between([low, high], [low - 0.5, high - 0.5], [low + 0.5, high + 0.5], alpha=0.2)
        ax.plot(asked, np.clip(measured, low, high), ".", markersize=3)
        ax.set_xlim(low, high)
        ax.set_ylim(low, high)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("asked (MIDI)", fontsize=8)
        ax.set_ylabel("measured (MIDI)", fontsize=8)
        ax.tick_params(labelsize=7)
    return _png(figure)
