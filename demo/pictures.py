"""Spectrograms, bars and the map as SVG and HTML that take the page's colours. Text is escaped here."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audio_vaegan.config import MelConfig
from audio_vaegan.mel import mel_basis
from audio_vaegan.models.controls import Control

WIDTH, HEIGHT, LEFT, BOTTOM = 420, 260, 34, 20
RANGE_DB = 80.0
TICKS = (100, 250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz
PALETTE = (
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#9c755f", "#ff9da7", "#86bc86",
    "#8cd17d", "#a0a0a0",
)  # fmt: skip


def centres(config: MelConfig) -> NDArray[np.float64]:
    """The middle of each mel band in Hz `[n_mels]`."""
    basis = mel_basis(config).double().numpy()
    hertz = np.arange(len(basis)) * config.sample_rate / config.n_fft
    return (basis * hertz[:, None]).sum(0) / np.maximum(basis.sum(0), 1e-12)


def spectrogram(
    title: str,
    log_mel: NDArray[np.float32],
    config: MelConfig,
    seconds: float,
    track: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    asked: float | None = None,
    top: float | None = None,
) -> str:
    """A log-mel `[n_mels, T]` of so many seconds as a figure, the pitch track (seconds, MIDI) drawn in it and the asked
    pitch (MIDI) across it. `top`: what is shown brightest, dB."""
    decibels = log_mel * (20 / math.log(10) if config.log == "ln" else 20.0)
    top = float(decibels.max()) if top is None else top
    level = np.clip((decibels[::-1] - top) / RANGE_DB + 1, 0, 1)
    pixels = matplotlib.colormaps["magma"](level, bytes=True)[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    picture = base64.b64encode(buffer.getvalue()).decode()

    bands, inner, tall = centres(config), WIDTH - LEFT - 4, HEIGHT - BOTTOM - 4

    def y(hertz: float) -> float:
        return 4 + tall * (1 - (float(np.interp(hertz, bands, np.arange(len(bands)))) + 0.5) / len(bands))

    def x(second: float) -> float:
        return LEFT + inner * second / seconds

    parts = [
        f'<image x="{LEFT}" y="4" width="{inner}" height="{tall}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{picture}"/>'
    ]
    for hertz in (t for t in TICKS if bands[0] < t <= bands[-1] * 1.03):
        name = f"{hertz // 1000}k" if hertz >= 1000 else f"{hertz}"
        parts.append(f'<text x="{LEFT - 4}" y="{y(hertz) + 3.5:.1f}" text-anchor="end">{name}</text>')
        parts.append(f'<path d="M{LEFT} {y(hertz):.1f}h-3"/>')
    for second in np.arange(0, seconds + 1e-9, 0.25 if seconds <= 1.3 else 0.5):
        end = ' text-anchor="end"' if second > seconds - 0.1 else ' text-anchor="middle"'
        unit = " s" if second > seconds - 0.25 else ""
        parts.append(f'<text x="{x(second):.1f}" y="{HEIGHT - 4}"{end}>{second:g}{unit}</text>')
    said = title
    if asked is not None:
        at = y(_hertz(asked))
        parts.append(f'<path class="asked" d="M{LEFT} {at:.1f}H{WIDTH - 4}"/>')
        said += f"; asked pitch {asked:.2f}"
    if track is not None:
        known = [(x(float(t)), y(_hertz(float(m)))) for t, m in zip(*track, strict=True) if np.isfinite(m)]
        parts += [f'<circle class="track" cx="{a:.1f}" cy="{b:.1f}" r="2.2"/>' for a, b in known if a <= WIDTH - 4]
    return (
        f'<figure class="mel"><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="Mel spectrogram, {html.escape(said, True)}">{"".join(parts)}</svg></figure>'
    )


def _hertz(midi: float) -> float:
    return 440.0 * 2.0 ** ((midi - 69) / 12)


def side_by_side(*figures: str) -> str:
    legend = (
        '<p class="legend"><span class="dot"></span> measured pitch &nbsp; <span class="dash"></span> asked pitch'
        " &nbsp; frequency in Hz, upward</p>"
    )
    return f'<div class="mels">{"".join(figures)}</div>{legend}'


def bars(
    controls: Mapping[str, Control],
    before: Mapping[str, float],
    asked: Mapping[str, float],
    after: Mapping[str, float],
    changed: bool,
) -> str:
    """Requested, achieved, leaked: for every control what it was, what was asked of it and what came, on its range.
    Controls that were not asked show by how much they moved all the same, in standard deviations."""
    rows = []
    for name, control in controls.items():
        if control.classes:
            continue
        was, now, wanted = before[name], after[name], asked.get(name)
        marks = "".join(
            f'<span class="{kind}" style="left:{_share(control, value):.1f}%"></span>'
            for kind, value in (("was", was), ("want", wanted), ("got", now))
            if value is not None and math.isfinite(value)
        )
        if wanted is not None:
            off = now - wanted
            off = off if abs(off) >= 0.005 else 0.0
            verdict = f"{100 * off:+.0f} cents" if name == "pitch" else f"{off:+.2f} {control.unit}"
            text, kind = f"{_number(was)} → asked {_number(wanted)}, got {_number(now)}", "asked for"
            verdict = f"off by {verdict}" if math.isfinite(off) else "cannot be measured"
        else:
            moved = _standard(control, now) - _standard(control, was)
            text, kind = f"{_number(was)} → {_number(now)}" if changed else _number(was), "not asked for"
            verdict = f"leaked {moved:+.2f} sd" if math.isfinite(moved) else "undefined"
            if abs(moved) < 0.005:
                verdict = "stayed" if changed else ""
        rows.append(
            f'<tr class="{"req" if wanted is not None else "leak"}"><th scope="row">{html.escape(_title(name))}</th>'
            f'<td><div class="bar" aria-hidden="true">{marks}</div></td><td>{text} <small>{html.escape(control.unit)}'
            f'</small></td><td title="{kind}">{html.escape(verdict)}</td></tr>'
        )
    head = "<tr><th>control</th><th>on its range</th><th>measured in the sound</th><th>result</th></tr>"
    legend = (
        '<p class="legend"><span class="was"></span> before <span class="want"></span> asked <span class="got"></span> '
        "after; what was not asked for should stay</p>"
    )
    return f'<table class="bars"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>{legend}'


def _title(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "undefined"


def _share(control: Control, value: float) -> float:
    return 100 * min(1.0, max(0.0, (value - control.low) / max(control.high - control.low, 1e-9)))


def _standard(control: Control, value: float) -> float:
    bent = control.bend * math.asinh(value / control.bend) if control.bend else value
    return (bent - control.mean) / control.deviation


def timbre_map(place: NDArray[np.float32], labels: Sequence[str], label: str) -> str:
    """Dots `[M, 2]` in [0, 1], coloured by their labels; a click anywhere is told to the page as x and y in [0, 1]."""
    names = sorted(set(labels))
    colour = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(filter(None, names))} | {"": "#999999"}
    dots = "".join(
        f'<circle cx="{20 + 960 * x:.1f}" cy="{620 - 600 * y:.1f}" r="6" fill="{colour.get(name, PALETTE[0])}">'
        f"<title>{html.escape(name)}</title></circle>"
        for (x, y), name in zip(place.tolist(), labels or [""] * len(place), strict=True)
    )
    legend = "".join(
        f'<li><span style="background:{colour[name]}"></span>{html.escape(name or "no label")}</li>'
        for name in names[:24]
    )
    return (
        f'<svg class="map" viewBox="0 0 1000 640" role="application" tabindex="0" aria-label="Map of {len(place)} '
        "training sounds by timbre. Click, or move the cross with the arrow keys and press Enter, to hear a place."
        f'"><rect width="1000" height="640" rx="10"/>{dots}<g class="cross" transform="translate(500 320)">'
        f'<path d="M-14 0H14M0 -14V14"/></g></svg><ul class="legend" aria-label="{html.escape(label, True)}">{legend}'
        "</ul>"
    )


def piano(keys: Sequence[int], names: Sequence[str], files: Sequence[bytes]) -> str:
    """Keys as buttons that hold their sounds."""
    out = []
    for key, name, content in zip(keys, names, files, strict=True):
        kind = "black" if key % 12 in (1, 3, 6, 8, 10) else "white"
        sound = base64.b64encode(content).decode()
        out.append(
            f'<button type="button" class="key {kind}" data-key="{key}" data-sound="{sound}" aria-label="{name}">'
            f"<span>{name if kind == 'white' and key % 12 == 0 else ''}</span></button>"
        )
    return f'<div class="piano" role="group" aria-label="Keyboard">{"".join(out)}</div>'
