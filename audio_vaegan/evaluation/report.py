"""The report of a model: one HTML page with pictures, players and figures, and the same figures as JSON."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from matplotlib.figure import Figure

from audio_vaegan.audio import write, write_recording
from audio_vaegan.data.store import Store
from audio_vaegan.evaluation import control_table as asked
from audio_vaegan.evaluation import methods, set_table
from audio_vaegan.evaluation.bias import bias_picture
from audio_vaegan.evaluation.bias import describe as describe_bias
from audio_vaegan.evaluation.evaluate import Measured, table, to_json
from audio_vaegan.evaluation.health import describe as describe_health
from audio_vaegan.evaluation.health import health_picture
from audio_vaegan.evaluation.held import Held, spread
from audio_vaegan.evaluation.pictures import curves, mel_grid, pitch_scatter
from audio_vaegan.files import new_folder, write_atomic
from audio_vaegan.sound_model import SoundModel

CURVES = {
    "reconstruction": ("mel", "feature"),
    "code": ("kl", "active"),
    "discriminator": ("disc", "score_real", "score_fake"),
    "controls (cross-entropy)": ("heads", "control"),
}


@dataclass(frozen=True)
class Sample:
    """A row of players under one picture."""

    title: str
    picture: str
    rows: list[dict[str, Any]]


def write_report(
    model: SoundModel,
    store: Store,
    figures: dict[str, Any],
    measured: dict[str, list[Measured]],
    out: Path,
    records: list[dict[str, Any]],
    files: dict[str, bytes],
    sets_picture: bytes = b"",
    overwrite: bool = False,
) -> None:
    """Write `report.html`, `report.json`, `audio/` and `files` into `out`; `records` are the lines of metrics.jsonl,
    `sets_picture` that of `measure_sets`."""
    with new_folder(out, "report", overwrite) as folder:
        (folder / "audio").mkdir()
        blocks = [_examples(model, store, split, folder) for split in figures["splits"]]
        blocks.append(_samples(model, folder))
        health, balance = figures["health"], figures["bias"]
        page = _page(
            name=model.recipe.name,
            hash=model.hash,
            about=model.bundle.about,
            controls=model.vaegan.controls,
            blocks=blocks,
            table=table(figures),
            scatter=_inline(_scatter(measured)),
            asked=control_section(figures["controls"], figures.get("methods")) if "controls" in figures else None,
            curves=_inline(curves(records, CURVES)) if records else "",
            sets=set_table.blocks(figures["sets"]) if "sets" in figures else [],
            sets_picture=_inline(sets_picture) if sets_picture else "",
            health=describe_health(health),
            health_picture=_inline(health_picture(health, records)),
            bias=describe_bias(balance),
            bias_picture=_inline(bias_picture(balance)),
        )
        write_atomic(folder / "report.html", page)
        write_atomic(folder / "report.json", to_json(figures))
        for name, data in files.items():
            write_atomic(folder / name, data)


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _scatter(measured: dict[str, list[Measured]]) -> bytes:
    panels = {}
    for split, lines in measured.items():
        for m in lines:
            if m.name in ("reconstructed", "all edits", "sampled"):
                panels[m.name if split == "samples" else f"{m.name} ({split})"] = (m.asked, m.found)
    return pitch_scatter(panels)


def control_section(figures: dict[str, Any], compared: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the page shows of `evaluate_controls`, and of `compare_methods` where that was asked for."""
    rows = [
        {"name": name, "loop": loop, "unit": control["unit"], "f": part[name], "rung": figures["rungs"][name]}
        for name, control in figures["controls"].items()
        for loop, part in figures["loops"].items()
    ]
    return {
        "rows": rows,
        "matrices": [_matrix(figures, loop) for loop in figures["loops"]] if len(figures["controls"]) > 1 else [],
        "plots": [{"name": n, "picture": _inline(_asked_and_found(figures, n))} for n in figures["controls"]],
        "targets": [{"text": asked.describe(t), "met": t["met"]} for t in figures["targets"]],
        "samples": figures["samples"],
        "methods": methods.table(compared) if compared else "",
        "split": figures["split"],
        "clips": figures["clips"],
        "instruments": figures["instruments"],
        "show": asked.show,
    }


def _matrix(figures: dict[str, Any], loop: str) -> dict[str, Any]:
    """The leakage of one loop; `heat` is how strongly a cell is coloured, in percent: half a deviation is the most."""
    names, rows = list(figures["controls"]), []
    for name in names:
        cells: list[dict[str, Any]] = []
        for other in names:
            leak = figures["loops"][loop][name]["leakage"].get(other)
            if leak is None:
                cells.append({"text": "", "data": "", "heat": 0})
                continue
            heat = round(65 * min(1.0, (leak["value"] or 0.0) / 0.5))
            data = asked.show(figures["covariation"][name][other])
            cells.append({"text": asked.show(leak["value"]), "data": f"[{data}]", "heat": heat})
        pitch = figures["loops"][loop][name]["leakage"].get("pitch", {})
        cents = f"{asked.show(pitch.get('median'), 1)} / {asked.show(pitch.get('p95'), 1)} c" if pitch else ""
        rows.append({"name": name, "cells": cells, "cents": cents})
    return {"loop": loop, "names": names, "rows": rows}


def _asked_and_found(figures: dict[str, Any], name: str) -> bytes:
    """Requested (x) against achieved (y) values of one control, open and closed loop; the diagonal is exact."""
    control = figures["controls"][name]
    figure = Figure(figsize=(3.4, 3.4), dpi=80, layout="constrained")
    ax = figure.subplots()
    margin = 0.05 * (control["high"] - control["low"])
    low, high = control["low"] - margin, control["high"] + margin
    ax.plot([low, high], [low, high], linewidth=1, color="0.6")
    for loop, part in figures["points"].items():
        x, y = np.array(part[name], dtype=np.float64).reshape(-1, 2).T
        ax.plot(x, np.clip(y, low, high), ".", markersize=3, alpha=0.6, label=f"{loop} loop")
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_title(name, fontsize=9, parse_math=False)
    ax.set_xlabel(f"requested, {control['unit']}", fontsize=8)
    ax.set_ylabel("achieved", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.legend(fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _examples(model: SoundModel, store: Store, split: str, folder: Path, count: int = 5) -> Sample:
    """Real, copied, reconstructed and re-pitched sounds, one clip a row, of different instruments where possible."""
    held = Held(model, store, spread(store, split, count))
    columns = [
        ("real", held.mel, held.audio),
        (f"copy ({model.vocoder.name})", held.mel, model.vocode(held.mel)),
    ]
    plain = model.decode(held.sound)
    columns.append(("reconstructed", plain.mel, plain.audio))
    if "pitch" in model.controls:
        control, label = model.controls["pitch"], held.sound.controls["pitch"]
        shift = torch.where(label + 7 <= control.high, 7.0, -7.0)
        moved = model.decode(model.replace_controls(held.sound, {"pitch": label + shift}))
        columns.append(("7 semitones away", moved.mel, moved.audio))
    rows = []
    for i, name in enumerate(held.names):
        cells = []
        for j, (title, _, audio) in enumerate(columns):
            file = f"audio/{split}-{i}-{j}.wav"
            clip = audio[i].numpy()
            if title == "real":
                write_recording(folder / file, clip, model.sample_rate)
            else:
                write(folder / file, clip, model.sample_rate, title)
            cells.append({"title": title, "file": file})
        rows.append({"name": name, "cells": cells})
    pictures = [[m[i].numpy() for _, m, _ in columns] for i in range(len(held.names))]
    png = mel_grid(pictures, [t for t, _, _ in columns], held.names, model.recipe.mel)
    return Sample(f"Held-out sounds: {split}", _inline(png), rows)


def _samples(model: SoundModel, folder: Path, count: int = 6) -> Sample:
    """New sounds over the range of pitch."""
    asked: dict[str, Any] = {}
    if "pitch" in model.controls:
        control = model.controls["pitch"]
        inside = np.linspace(control.low, control.high, count + 2)[1:-1].round()
        asked["pitch"] = inside.clip(control.low, control.high)
    clip = model.sample(count, seed=1, **asked)
    names = [f"pitch {p:g}" for p in asked["pitch"]] if asked else [f"sample {i}" for i in range(count)]
    cells = []
    for i, name in enumerate(names):
        file = f"audio/sample-{i}.wav"
        write(folder / file, clip.audio[i].numpy(), model.sample_rate, name)
        cells.append({"title": name, "file": file})
    png = mel_grid([[m.numpy() for m in clip.mel]], names, [model.prior_title], model.recipe.mel)
    return Sample(
        f"New sounds, timbre drawn from {model.prior_title}", _inline(png), [{"name": "sampled", "cells": cells}]
    )


def _page(**values: Any) -> str:
    source = (Path(__file__).parent / "report.html.jinja").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True).from_string(source).render(**values)
