"""The last pass over a data set: its layout, card, metadata and plots, and its place."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audio_vaegan.dataset.card import card
from audio_vaegan.dataset.columns import card_features
from audio_vaegan.dataset.croissant import croissant
from audio_vaegan.dataset.facts import Facts, Measured, Row
from audio_vaegan.dataset.layouts import data_files, write_layout
from audio_vaegan.dataset.pictures import pictures
from audio_vaegan.dataset.plan import LOUDNESS, Plan
from audio_vaegan.dataset.tally import Tally
from audio_vaegan.errors import UserError
from audio_vaegan.files import MARK, fsync_tree, mark, write_atomic, write_json
from audio_vaegan.version import __version__

LOAD = {
    "audiofolder": "from datasets import load_dataset\n\nsounds = load_dataset('DS')  # DS: this folder",
    "parquet": "from datasets import load_dataset\n\nsounds = load_dataset('DS')  # DS: this folder",
    "webdataset": "import webdataset as wds\n\n"
    "sounds = wds.WebDataset('DS/{split}-000000.tar').decode()  # DS: this folder; the first file of a split",
    "nsynth": "import json\n\nnotes = json.load(open('DS/{split}/examples.json'))  # DS: this folder; as NSynth's",
}


@dataclass(frozen=True)
class Finished:
    """What the last pass needs to know."""

    plan: Plan
    job: dict[str, Any]
    delivered: int
    sounds: Callable[[], Iterator[tuple[Row, bytes]]]
    rejects: Callable[[], Iterator[Row]]
    missing: Callable[[], Iterator[Row]]
    vocoder: str  # as the command said it


def write_final(folder: Path, done: Finished, stages: dict[str, float], seconds: float) -> str:
    """Write everything below `folder`, marked last. Returns a summary in lines."""
    folder.mkdir(parents=True)
    facts = _facts(done)
    tally = Tally(facts.controls)
    write_layout(facts.layout, folder, _tallied(done, tally), facts)
    for row in done.missing():
        tally.add_missing(row)
    _write_lines(folder / "rejected.jsonl", done.rejects())
    for name, png in pictures(facts, tally).items():
        write_atomic(folder / name, png)
    load = LOAD[facts.layout].format(split=next(s for s, count in facts.splits.items() if count))
    write_atomic(
        folder / "README.md",
        card(facts, tally, data_files(facts.layout, facts), load, card_features(facts.layout, folder, facts)),
    )
    write_json(folder / "dataset.json", {"job": done.job, **facts.to_json(), "measured": tally.to_json()})
    write_json(folder / "croissant.json", croissant(facts.layout, folder, facts))
    fsync_tree(folder)
    mark(folder, "dataset")
    return _summary(facts, stages, seconds)


def _tallied(done: Finished, tally: Tally) -> Iterator[tuple[Row, bytes]]:
    plan = done.plan
    for row, audio in done.sounds():
        anew = row["attempt"] >= plan.spec.attempts and not plan.spec.augment  # in a later turn
        first = plan.asked([int(row["id"])])[0] if anew else {}
        tally.add(row, {f"{name}_requested": value for name, value in first.items()})
        yield row, audio


def _write_lines(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _facts(done: Finished) -> Facts:
    plan, spec, model = done.plan, done.plan.spec, done.plan.model
    splits: Counter[str] = Counter(dict.fromkeys(spec.splits, 0))
    lengths = set()
    for row, _ in done.sounds():
        splits[row["split"]] += 1
        lengths.add(round(row["num_samples"] / row["sample_rate"], 3))
    rejected: Counter[str] = Counter()
    last: dict[int, str] = {}
    for row in done.rejects():
        rejected.update(row["reasons"])
        last[int(row["id"])] = row["reasons"][0]
    gone = Counter(last.get(int(row["id"]), "unknown") for row in done.missing())
    asked = {n for g in spec.groups for n in g.controls} | set(spec.controls)
    if spec.augment and "pitch" in model.controls:
        asked.add("pitch")
    numbers = {n: c for n, c in model.controls.items() if not c.classes}
    own = spec.told
    return Facts(
        name=spec.name,
        layout=spec.layout,
        format=spec.format,
        sample_rate=plan.sample_rate,
        seconds=max(lengths) if spec.augment else plan.samples / model.sample_rate,
        license=spec.license,
        asked=plan.count,
        delivered=done.delivered,
        splits=dict(splits),
        controls={
            n: Measured(c.unit, c.low, c.high, plan.tolerance(n) if n in asked else None) for n, c in numbers.items()
        },
        classes=plan.classes.classes if plan.classes else (),
        rejected=dict(sorted(rejected.items())),
        missing=dict(sorted(gone.items())),
        seed=spec.seed,
        spec=own,
        spec_sha256=spec.hash,
        model_name=model.recipe.name,
        model_hash=model.hash,
        vocoder=model.vocoder_title,
        trained_on=dict(model.bundle.about),
        fingerprints=len(model.fingerprints) if model.fingerprints else 0,
        version=__version__,
        torch=torch.__version__,
        vocoder_asked=Path(done.vocoder).name if Path(done.vocoder).exists() else done.vocoder,
        shortest=min(lengths) if spec.augment else None,
        sources=sum(s.seconds > 0 for s in plan.sources),
        cut=sum(round(s.seconds * model.sample_rate) > plan.samples for s in plan.sources),
        loudness_tolerance=None if spec.loudness is None else LOUDNESS,
    )


def _summary(facts: Facts, stages: dict[str, float], seconds: float) -> str:
    lines = [
        f"{facts.delivered} of {facts.asked} sounds delivered"
        + (f"; missing: {', '.join(f'{n} {why}' for why, n in facts.missing.items())}" if facts.missing else ""),
        f"why attempts failed: {', '.join(f'{why} {n}' for why, n in facts.rejected.items()) or 'none did'}",
    ]
    total = sum(stages.values())
    if total:
        each = ", ".join(f"{k} {v:.0f} s" for k, v in sorted(stages.items(), key=lambda p: -p[1]))
        lines.append(f"time of all processes by stage: {each}")
        lines.append(f"{facts.delivered / max(seconds, 1e-9):.1f} sounds a second in this call ({seconds:.0f} s)")
    return "\n".join(lines)


def check_ours(out: Path) -> None:
    """Raise UserError when an unfinished data set holds anything but what is being put in its place."""
    final = out / ".work" / "final"
    done = (final / MARK).read_text(encoding="utf-8").splitlines()[1:] if (final / MARK).is_file() else []
    ours = {MARK, ".work", f"{MARK}.new", *(name.split("/")[0] for name in done)}
    waiting = {p.name for p in final.iterdir()} - {MARK} if done else set()
    strange = sorted(p.name for p in out.iterdir() if p.name not in ours - waiting)
    if strange:
        raise UserError(f"--out {out}: holds {strange[0]!r}, which audio-vaegan did not write; move it away first")


def publish(final: Path, out: Path) -> None:
    """Put the finished data set in its place, the mark last; a kill in between leaves what the same command mends."""
    check_ours(out)
    for entry in sorted(final.iterdir()):
        if entry.name != MARK:
            entry.replace(out / entry.name)
    shutil.copyfile(final / MARK, out / f"{MARK}.new")
    (out / f"{MARK}.new").replace(out / MARK)
    shutil.rmtree(out / ".work")
