"""The report of a model: one HTML page with pictures, players and figures, and the same figures as JSON."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch

from audio_vaegan.audio import write, write_recording
from audio_vaegan.data.store import Store
from audio_vaegan.evaluation.evaluate import Held, Measured, pick, table, to_json
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
    metrics: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `report.html`, `report.json` and `audio/` into `out`. Returns the page's path."""
    with new_folder(out, "report", overwrite) as folder:
        (folder / "audio").mkdir()
        blocks = [_examples(model, store, split, folder) for split in figures["splits"]]
        blocks.append(_samples(model, folder))
        records = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics else []
        page = _page(
            name=model.recipe.name,
            hash=model.hash,
            about=model.bundle.about,
            controls=model.vaegan.controls,
            blocks=blocks,
            table=table(figures),
            scatter=_inline(_scatter(measured)),
            curves=_inline(curves(records, CURVES)) if records else "",
        )
        write_atomic(folder / "report.html", page)
        write_atomic(folder / "report.json", to_json(figures))
    return out / "report.html"


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _scatter(measured: dict[str, list[Measured]]) -> bytes:
    panels = {}
    for split, lines in measured.items():
        for m in lines:
            if m.name in ("reconstructed", "all edits", "sampled"):
                panels[m.name if split == "samples" else f"{m.name} ({split})"] = (m.asked, m.found)
    return pitch_scatter(panels)


def _examples(model: SoundModel, store: Store, split: str, folder: Path, count: int = 5) -> Sample:
    """Real, copied, reconstructed and re-pitched sounds, one clip a row, of different instruments where possible."""
    held = Held(model, store, _spread(store, split, count))
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


def _spread(store: Store, split: str, count: int) -> np.ndarray:
    """Clips of a split: one from the middle of each of `count` groups, spread over the groups; more a group if few."""
    clips = pick(store, split, None)
    groups = store.column("group")[clips]
    members = [clips[groups == g] for g in np.unique(groups)]
    if len(members) >= count:
        chosen = np.linspace(0, len(members) - 1, count).round().astype(int)
        return np.array([members[i][len(members[i]) // 2] for i in chosen])
    each = -(-count // len(members))
    spread = [m[np.unique(np.linspace(0, len(m) - 1, each + 2).round().astype(int)[1:-1])] for m in members]
    return np.concatenate(spread)[:count]


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
    png = mel_grid([[m.numpy() for m in clip.mel]], names, ["N(0, I)"], model.recipe.mel)
    return Sample("New sounds, timbre drawn from N(0, I)", _inline(png), [{"name": "sampled", "cells": cells}])


def _page(**values: Any) -> str:
    source = (Path(__file__).parent / "report.html.jinja").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True).from_string(source).render(**values)
