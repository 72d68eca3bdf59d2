"""Spectrograms and curves as PNG."""

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


def _decibels(log_mel: NDArray[np.float32], config: MelConfig) -> NDArray[np.float32]:
    return log_mel * (_LN10_20 if config.log == "ln" else 20.0)


def mel_grid(
    rows: Sequence[Sequence[NDArray[np.float32]]],
    columns: Sequence[str],
    names: Sequence[str],
    config: MelConfig,
) -> bytes:
    """A grid of log-mel spectrograms `[n_mels, T]`, one scale of 80 dB for all, mel bin upward, time to the right."""
    top = max(float(_decibels(m, config).max()) for row in rows for m in row)
    figure = Figure(figsize=(2.3 * len(columns), 1.9 * len(rows) + 0.3), dpi=80, layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for i, row in enumerate(rows):
        for j, mel in enumerate(row):
            ax = axes[i][j]
            ax.imshow(_decibels(mel, config), origin="lower", aspect="auto", cmap="magma", vmin=top - 80, vmax=top)
            ax.set_xticks([])
            ax.set_yticks([])
            if i == 0:
                ax.set_title(columns[j], fontsize=9, parse_math=False)
            if j == 0:
                ax.set_ylabel(names[i], fontsize=7, parse_math=False)
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
