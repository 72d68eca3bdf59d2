"""Measure a vocoder by copy-synthesis against Griffin-Lim on the same mels, and write the report of it."""

import time
from pathlib import Path
from typing import Any, Protocol

import jinja2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from audio_vaegan.audio import write, write_recording
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.distances import distances
from audio_vaegan.evaluation.pictures import inline, mel_grid, sorted_curves, spectrogram_grid
from audio_vaegan.evaluation.pitch import mean_interval, score
from audio_vaegan.files import new_folder, write_atomic, write_json
from audio_vaegan.mel import Mel
from audio_vaegan.models.vocoder import GriffinLim, TrainedVocoder, Vocoder, multiply_adds

ITERATIONS = 64  # of Griffin-Lim
BATCH = 32
SPLITS = {"held-out": ("test_instrument", "test_note"), "all": ("train", "test_instrument", "test_note")}
DISTANCES = ("stft", "lsd", "mel_l1")
Rows = NDArray[np.int64]
Values = dict[str, dict[str, NDArray[np.float64]]]  # method -> figure -> one value a clip


class Meter(Protocol):
    """What measures pitch: a `Judge`."""

    def measure(
        self, audio: NDArray[np.float32], sample_rate: int, name: str = "", fine: bool = False
    ) -> NDArray[np.float64]: ...


def held(store: Store, split: str, most: int | None = None) -> Rows:
    """The clips to copy, at most `most` of them, spread evenly."""
    rows = np.sort(np.concatenate([store.split(name) for name in SPLITS[split]]))
    if not len(rows):
        raise UserError(f"--store {store.path}: no clip of it is held out; copy all of them with --split all")
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def griffin_lim(vocoder: Vocoder, store: Store) -> GriffinLim:
    """What the vocoder is compared with. Raises UserError if it is that itself."""
    if isinstance(vocoder, GriffinLim):
        raise UserError(
            f"VOCODER {vocoder.name}: nothing to compare, Griffin-Lim is what others are compared with (auto means it "
            f"where no trained one fits the mel of --store {store.path}); give a vocoder file, a run of "
            "train_vocoder.py or a published checkpoint"
        )
    return GriffinLim(store.mel, ITERATIONS)


def evaluate_vocoder(
    vocoder: Vocoder, store: Store, split: str, rows: Rows, judge: Meter, batch: int = BATCH, passes: int = 5
) -> tuple[dict[str, Any], Values]:
    """The figures of copies of `rows`, of a split, by the vocoder and by Griffin-Lim as JSON, and the values of each
    clip behind them. Pitch is scored against the real clip's, where that has one."""
    methods: dict[str, Vocoder] = {"vocoder": vocoder, "griffin_lim": griffin_lim(vocoder, store)}
    about = getattr(vocoder, "about", {})
    seen = split == "all" and about.get("store") == store.content_hash
    groups = store.column("group")[rows].tolist()
    real, values = _copy_all(methods, store, rows, judge, batch)
    figures: dict[str, Any] = {
        "store": store.content_hash,
        "split": split,
        "notes": ["the clips include those that this vocoder was trained on (--split all)"] if seen else [],
        "clips": len(rows),
        "seconds": round(len(rows) * store.clip_samples / store.sample_rate, 1),
        "measurable": int(np.isfinite(real).sum()),
        "mel_unit": "nats" if store.mel.log == "ln" else "decades",
        "vocoder": {"name": vocoder.name, "hash": vocoder.hash, "about": about},
        "griffin_lim": {"name": "griffin-lim", "iterations": ITERATIONS},
        "threads": torch.get_num_threads(),
    }
    for name, method in methods.items():
        own = values[name]
        figures[name] |= {key: mean_interval(own[key], groups) for key in DISTANCES}
        figures[name]["pitch"] = score(own["pitch"], real, groups, np.isfinite(real)).to_json()
        figures[name]["parameters"] = (
            sum(p.numel() for p in method.parameters()) if isinstance(method, nn.Module) else 0
        )
    if isinstance(vocoder, TrainedVocoder):
        figures["vocoder"]["file_bytes"] = vocoder.bytes
        figures["vocoder"]["giga_multiply_adds"] = multiply_adds(vocoder.network) / 1e9
    speeds = _speeds(methods, store, rows, passes)
    for name, speed in speeds.items():
        figures[name]["times_real_time"] = speed
    figures["faster"] = speeds["vocoder"] / speeds["griffin_lim"]
    figures["closer"] = {k: float(100 * (values["vocoder"][k] < values["griffin_lim"][k]).mean()) for k in DISTANCES}
    return figures, values


@torch.no_grad()
def _copies(vocoder: Vocoder, mel: Tensor, samples: int) -> Tensor:
    """The copies `[B, samples]` of log-mels, as a file would hold them: limited to [-1, 1]."""
    return vocoder(mel, samples).clamp(-1, 1)


def _copy_all(
    methods: dict[str, Vocoder], store: Store, rows: Rows, judge: Meter, batch: int
) -> tuple[NDArray[np.float64], Values]:
    """The real pitches, and the values of every method; the audio of one batch at a time is in memory."""
    mel = Mel(store.mel)
    real: list[NDArray[np.float64]] = []
    found: dict[str, list[dict[str, NDArray[np.float64]]]] = {name: [] for name in methods}
    with tqdm(total=len(rows), desc="copy and judge", unit="clip", delay=1) as bar:
        for first in range(0, len(rows), batch):
            audio = torch.from_numpy(store.read(rows[first : first + batch]))
            log_mel = mel(audio)
            copies = {name: _copies(method, log_mel, store.clip_samples) for name, method in methods.items()}
            everything = torch.cat([audio, *copies.values()]).numpy()
            pitch = judge.measure(everything, store.sample_rate, name="", fine=True).reshape(-1, len(audio))
            real.append(pitch[0])
            for (name, copy), own in zip(copies.items(), pitch[1:], strict=True):
                error = (mel(copy) - log_mel).abs().mean(dim=(1, 2)).double().numpy()
                found[name].append({**distances(copy, audio), "mel_l1": error, "pitch": own})
            bar.update(len(audio))
    return np.concatenate(real), {
        name: {key: np.concatenate([p[key] for p in parts]) for key in parts[0]} for name, parts in found.items()
    }


def _speeds(methods: dict[str, Vocoder], store: Store, rows: Rows, passes: int) -> dict[str, float]:
    """Seconds of audio a second of copying, mel to audio, a batch of 32 clips at a time: the median of some passes
    after one that does not count. The methods take turns, so that a machine's slow minute slows them alike."""
    log_mel = Mel(store.mel)(torch.from_numpy(store.read(np.resize(rows, BATCH))))
    spent: dict[str, list[float]] = {name: [] for name in methods}
    with tqdm(total=len(methods) * (passes + 1), desc="speed", unit="pass", leave=False, delay=1) as bar:
        for _ in range(passes + 1):
            for name, method in methods.items():
                began = time.perf_counter()
                _copies(method, log_mel, store.clip_samples)
                spent[name].append(time.perf_counter() - began)
                bar.update()
    seconds = BATCH * store.clip_samples / store.sample_rate
    return {name: float(seconds / np.median(each[1:])) for name, each in spent.items()}


def table(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The figures as text: what, the vocoder's, Griffin-Lim's."""
    methods = [figures["vocoder"], figures["griffin_lim"]]

    def row(title: str, texts: list[str]) -> tuple[str, str, str]:
        return title, texts[0], texts[1]

    def interval(m: dict[str, float], digits: int) -> str:
        return f"{m['mean']:.{digits}f} ({m['low']:.{digits}f} - {m['high']:.{digits}f})"

    def plain(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    pitch = [m["pitch"] for m in methods]
    within = [f"{p['within']:.1f} ({p['low']:.1f} - {p['high']:.1f})" if p["n"] else "-" for p in pitch]
    sizes = [m.get("file_bytes") for m in methods]
    return [
        row("", [f"{figures['vocoder']['name']} {figures['vocoder']['hash'][:12]}".strip(), "griffin-lim"]),
        row("stft distance", [interval(m["stft"], 3) for m in methods]),
        row("log-spectral distance, dB", [interval(m["lsd"], 2) for m in methods]),
        row(f"mel L1, {figures['mel_unit']}", [interval(m["mel_l1"], 3) for m in methods]),
        row("pitch error, median, cents", [plain(p["median"], ".1f") for p in pitch]),
        row("pitch error, P90, cents", [plain(p["p90"], ".1f") for p in pitch]),
        row("within 50 cents, %", within),
        row("unmeasurable pitch, %", [plain(p["unmeasurable"], ".1f") for p in pitch]),
        row("times real time", [f"{m['times_real_time']:.1f}" for m in methods]),
        row("G multiply-adds a second", [plain(m.get("giga_multiply_adds"), ".3f") for m in methods]),
        row("parameters", [f"{m['parameters']:,}" for m in methods]),
        row("file, MB", [plain(None if s is None else s / 1e6, ".1f") for s in sizes]),
    ]


def describe(figures: dict[str, Any]) -> str:
    """The table for a terminal, and what it rests on."""
    rows = table(figures)
    wide = [max(len(row[i]) for row in rows) + 2 for i in range(3)]
    lines = [f"{a:<{wide[0]}}{b:>{wide[1]}}{c:>{wide[2]}}".rstrip() for a, b, c in rows]
    return "\n".join([*lines, *(f"note: {n}" for n in figures["notes"]), *footnotes(figures)])


def footnotes(figures: dict[str, Any]) -> list[str]:
    """What the table rests on, in words."""
    n, closer = figures["measurable"], figures["closer"]
    return [
        f"{figures['clips']} clips ({figures['seconds']:g} s); 95 % intervals by bootstrap over groups. Pitch: of the "
        f"{n} whose real clip has one ({figures['clips'] - n} left out)",
        f"the vocoder is closer than Griffin-Lim in {closer['stft']:.1f} % of the clips by stft, {closer['lsd']:.1f} % "
        f"by lsd, and {figures['faster']:.2f} times as fast ({figures['threads']} torch threads, {BATCH} at once)",
    ]


def write_report(
    figures: dict[str, Any],
    values: Values,
    vocoder: Vocoder,
    store: Store,
    rows: Rows,
    out: Path,
    overwrite: bool = False,
) -> Path:
    """Write `report.html`, `report.json` and `audio/` into `out`. Returns the page's path."""
    own, other = (values[name]["stft"] for name in ("vocoder", "griffin_lim"))
    order = np.argsort(own, kind="stable")
    shown = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    clips = rows[list(shown.values())]
    audio, mel = torch.from_numpy(store.read(clips)), Mel(store.mel)
    log_mel = mel(audio)
    methods: list[Vocoder] = [vocoder, griffin_lim(vocoder, store)]
    columns = [audio, *(_copies(m, log_mel, store.clip_samples) for m in methods)]
    titles = ["real", vocoder.name, "griffin-lim"]
    sources = [str(s).split("/")[-1].rsplit(".", 1)[0] for s in store.column("source")[clips]]
    names = [
        f"{rank}: {source} (stft {own[i]:.3f}, Griffin-Lim {other[i]:.3f})"
        for (rank, i), source in zip(shown.items(), sources, strict=True)
    ]
    with new_folder(out, "report", overwrite) as folder:
        (folder / "audio").mkdir()
        players = []
        for i, rank in enumerate(shown):
            files = [f"audio/{rank}-{kind}.wav" for kind in ("real", "vocoder", "griffin-lim")]
            write_recording(folder / files[0], columns[0][i], store.sample_rate)
            for file, column, title in zip(files[1:], columns[1:], titles[1:], strict=True):
                write(folder / file, column[i], store.sample_rate, f"copy by the vocoder {title}")
            cells = [{"title": t, "file": f} for t, f in zip(titles, files, strict=True)]
            players.append({"name": names[i], "cells": cells})
        mels = [mel(c).numpy() for c in columns]
        images = [[m[i] for m in mels] for i in range(len(clips))]
        sounds = [[c[i].numpy() for c in columns] for i in range(len(clips))]
        both = {
            title: {vocoder.name: values["vocoder"][key], "griffin-lim": values["griffin_lim"][key]}
            for key, title in (("stft", "stft distance"), ("lsd", "log-spectral distance, dB"))
        }
        page = _page(
            figures=figures,
            table=table(figures),
            footnotes=footnotes(figures),
            curves=inline(sorted_curves(both)),
            linear=inline(spectrogram_grid(sounds, titles, list(shown), store.sample_rate)),
            mels=inline(mel_grid(images, titles, list(shown), store.mel)),
            players=players,
        )
        write_atomic(folder / "report.html", page)
        write_json(folder / "report.json", figures)
    return out / "report.html"


def _page(**values: Any) -> str:
    source = (Path(__file__).parent / "vocoder.html.jinja").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True).from_string(source).render(**values)
