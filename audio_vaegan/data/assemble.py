"""The last step of `prepare`: what the chunks found -> one store. Copies are found, splits assigned, tables written."""

import hashlib
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audio_vaegan.config import Recipe
from audio_vaegan.data.chunk import Chunk, save_array
from audio_vaegan.data.duplicates import same_sounds
from audio_vaegan.data.groups import Sides, splits
from audio_vaegan.data.joining import Joining
from audio_vaegan.data.labels import among
from audio_vaegan.data.store import SCHEMA, VERSION, Store
from audio_vaegan.errors import Failure, UserError
from audio_vaegan.files import sha256_file, write_json

Entry = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Shard:
    """Some clips on disk, their prints and their rows. `known`: they come from the store that grows."""

    clips: Path
    prints: Path
    count: int
    known: bool


def assemble(work: Path, chunks: list[Chunk], recipe: Recipe, about: Entry, old: Store | None) -> Entry:
    """Put the parts of `work` together to a store there, without report. Returns `files` and `duplicates` for it, and
    the `seconds` of each stage.

    An `old` store is what it grows from: its clips come first and keep their splits.
    """
    started = time.perf_counter()
    heads = [_head(chunk) for chunk in chunks]
    report = old.report() if old else {}
    files: list[Entry] = [f for f in report.get("files", []) if f["used"]]  # the others were looked at anew
    files += [f for head in heads for f in head["files"]]
    shards = [Shard(c, p, len(np.load(c, mmap_mode="r")), True) for c, p in (old.shards if old else [])]
    for chunk, head in zip(chunks, heads, strict=True):
        shards += [Shard(chunk.shard(i), chunk.prints(i), count, False) for i, count in enumerate(head["shards"])]
    columns: dict[str, list[Any]] = defaultdict(list)
    for row in _rows(chunks, old):
        for name in ("source", "sha256", "start", "group"):
            columns[name].append(row[name])
        columns["known"].append(row.get("split"))
        columns["apart"].append(_apart(row, recipe))

    used = {f["file"] for f in files if f["used"]}
    alive = np.array([s in used for s in columns["source"]], dtype=bool)
    fresh = alive & np.array([k is None for k in columns["known"]], dtype=bool)
    pairs = _pairs(shards, alive, fresh, columns, recipe.mel.sample_rate)
    joined = Joining(files, columns, alive, pairs, recipe.data.overlap > 0)
    for entry in files:
        if entry["file"] in joined.refused:
            entry |= {"used": False, "clips": 0, "reason": joined.refused[entry["file"]]}
    alive &= np.array([s not in joined.refused for s in columns["source"]], dtype=bool)

    stay = np.flatnonzero(alive).tolist()
    groups = [joined.group_of(i) for i in stay]
    if recipe.data.hold_out and not any(columns["apart"]):
        raise UserError(f"data.hold_out: no clip is labelled so ({', '.join(recipe.data.hold_out)})")
    units = [joined.unit_of(i) for i in stay]
    known, apart = ([columns[name][i] for i in stay] for name in ("known", "apart"))
    split = splits(groups, units, known, apart, recipe)
    places = {i: (s, g) for i, s, g in zip(stay, split, groups, strict=True)}
    digest = hashlib.sha256()
    near = [(columns["source"][a], columns["source"][b]) for a, b in pairs if alive[a] and alive[b]]
    duplicates = _duplicates(files, near, report.get("duplicates", {}))
    _write_table(work, chunks, old, files, places, duplicates, digest)
    written = _write_shards(work, shards, alive, digest)
    write_json(
        work / "store.json",
        {
            "version": VERSION,
            "mel": recipe.mel.model_dump(),
            "sample_rate": recipe.mel.sample_rate,
            "clip_samples": recipe.data.clip_samples,
            "clips": len(stay),
            "shards": written,
            "items_sha256": sha256_file(work / "items.parquet"),
            "content_hash": digest.hexdigest(),
        }
        | about,
    )
    files.sort(key=lambda f: f["file"])
    seconds: dict[str, float] = defaultdict(float)
    for head in heads:
        for stage, value in head["seconds"].items():
            seconds[stage] += value
    seconds["copies, splits, tables"] = time.perf_counter() - started
    return {"files": files, "duplicates": duplicates, "seconds": dict(seconds)}


def _head(chunk: Chunk) -> dict[str, Any]:
    """What a chunk found, without its rows, which may be many."""
    part = chunk.read()
    if part["key"] != chunk.key:
        raise Failure(f"{chunk.part}: made of other files than these; the same command goes on")
    return {name: part[name] for name in ("files", "shards", "seconds")}


def _apart(row: Row, recipe: Recipe) -> bool:
    """Whether the recipe holds out what is labelled like this."""
    wanted = recipe.data.hold_out
    return bool(wanted) and any(among(json.loads(row["labels"]).get(name), values) for name, values in wanted.items())


def _rows(chunks: list[Chunk], old: Store | None) -> Iterator[Row]:
    """Every row, the old store's first; a part at a time is in memory."""
    if old:
        yield from old.rows()
    for chunk in chunks:
        yield from chunk.read()["rows"]


def _pairs(
    shards: list[Shard], alive: NDArray[np.bool_], fresh: NDArray[np.bool_], columns: dict[str, list[Any]], rate: int
) -> list[tuple[int, int]]:
    """Pairs of clips that are the same sound, though not of equal files."""
    stay = np.flatnonzero(alive)
    if not fresh.any():
        return []
    prints = np.concatenate([np.load(s.prints, mmap_mode="r") for s in shards])
    ends = np.cumsum([s.count for s in shards])

    def read(clips: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some clips; their shards are mapped for as long as that takes, so that memory does not fill with them."""
        places = stay[clips]
        which = np.searchsorted(ends, places, side="right")
        found: dict[int, NDArray[np.int16]] = {}
        for shard in np.unique(which).tolist():
            mapped = np.load(shards[shard].clips, mmap_mode="r")
            mine = np.flatnonzero(which == shard)
            rows = mapped[places[mine] - ends[shard] + shards[shard].count]
            found |= dict(zip(mine.tolist(), rows, strict=True))
        return np.stack([found[k] for k in range(len(clips))]).astype(np.float32) / np.float32(32768)

    first: dict[tuple[str, int], int] = {}
    equal = [first.setdefault((columns["sha256"][i], columns["start"][i]), k) for k, i in enumerate(stay.tolist())]
    found = same_sounds(prints[stay].astype(np.float32), fresh[stay], np.array(equal), read, rate)
    return [(int(stay[a]), int(stay[b])) for a, b in found]


def _write_table(
    work: Path,
    chunks: list[Chunk],
    old: Store | None,
    files: list[Entry],
    places: dict[int, tuple[str, str]],
    duplicates: dict[str, list[list[str]]],
    digest: Any,
    batch: int = 4096,
) -> None:
    """items.parquet, row by row, with the split and group of each clip. What its clips are like is told in the entry of
    each file."""
    entries = {f["file"]: f for f in files}
    for entry in files:
        entry |= {"pitch": [], "split": set(), "peak": None, "loudness": None} if entry["used"] else {}
    alike = Sides()
    for cluster in (*duplicates["exact"], *duplicates["near"]):
        alike.join(set(cluster))
    with pq.ParquetWriter(work / "items.parquet", SCHEMA) as writer:
        waiting: list[Row] = []

        def write() -> None:
            writer.write_table(pa.Table.from_pylist(waiting, schema=SCHEMA))
            digest.update(json.dumps(waiting, sort_keys=True).encode())
            waiting.clear()

        number = 0
        for i, row in enumerate(_rows(chunks, old)):
            if i not in places:
                continue
            row |= {"clip": number, "split": places[i][0], "group": places[i][1], "copy_of": alike.root(row["source"])}
            number += 1
            waiting.append(row)
            entry = entries[row["source"]]
            entry["pitch"].append(row["pitch"])
            entry["split"].add(row["split"])
            for key in ("peak", "loudness"):
                entry[key] = max((v for v in (entry[key], row[key]) if v is not None), default=None)
            if len(waiting) >= batch:
                write()
        write()
    for entry in files:
        if entry["used"]:
            entry["split"] = sorted(entry["split"])


def _write_shards(work: Path, shards: list[Shard], alive: NDArray[np.bool_], digest: Any) -> list[dict[str, Any]]:
    """The shards under their final names, linked where the file system can: a kill takes nothing from the chunks."""
    written: list[dict[str, Any]] = []
    first = 0
    for shard in shards:
        stay = np.flatnonzero(alive[first : first + shard.count])
        first += shard.count
        if not len(stay):
            continue
        names = {kind: f"{word}-{len(written):05d}.npy" for kind, word in (("clips", "shard"), ("prints", "prints"))}
        for kind, source in (("clips", shard.clips), ("prints", shard.prints)):
            target = work / names[kind]
            target.unlink(missing_ok=True)
            if len(stay) < shard.count:
                save_array(target, np.load(source, mmap_mode="r")[stay])
            else:
                _link(source, target)
        hashes = {kind: sha256_file(work / name) for kind, name in names.items()}
        digest.update(hashes["clips"].encode())
        written.append({**names, "count": len(stay), "sha256": hashes})
    return written


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _duplicates(files: list[Entry], near: list[tuple[str, str]], before: dict[str, Any]) -> dict[str, list[list[str]]]:
    """Clusters of used files: those with equal bytes, and those that hold the same sound otherwise."""
    used = {f["file"] for f in files if f["used"]}
    equal: dict[str, list[str]] = defaultdict(list)
    for f in files:
        if f["used"]:
            equal[f["sha256"]].append(f["file"])
    alike = Sides()
    for cluster in [*before.get("near", []), *near]:
        alike.join(set(cluster))
    clusters: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(alike.parent) & used):
        clusters[alike.root(name)].append(name)
    return {
        "exact": [names for names in equal.values() if len(names) > 1],
        "near": [names for _, names in sorted(clusters.items()) if len(names) > 1],
    }
