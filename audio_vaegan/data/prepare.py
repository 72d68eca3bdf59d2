"""Files -> store. Every input file is accounted for; a killed run goes on by the same command.

Work is done in chunks of files. A chunk's clips and rows are written, whole or not at all, into a hidden folder beside
the store; the last step assigns the splits, writes the tables and renames the folder.
"""

import hashlib
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from audio_vaegan.audio import SUFFIXES, BadAudio, peak_dbfs, read, to_pcm16
from audio_vaegan.config import Recipe
from audio_vaegan.data.groups import connected, splits
from audio_vaegan.data.sources import SourceFile, choose, find
from audio_vaegan.data.store import SCHEMA, SPLITS, VERSION, Store
from audio_vaegan.descriptors import yin
from audio_vaegan.errors import UserError
from audio_vaegan.files import (
    check_out_folder,
    fsync_tree,
    mark,
    read_json,
    replace_folder,
    sha256_file,
    write_atomic,
    write_json,
)

FILES_A_CHUNK = 256
CHUNK_BYTES = 64 * 2**20  # of clips; a chunk ends with the file that reaches it


@dataclass
class _Chunk:
    clips: list[NDArray[np.int16]]
    rows: list[dict[str, Any]]
    files: list[dict[str, Any]]


def prepare(paths: list[Path], recipe: Recipe, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Make the store `out`. Returns the report's summary; when the store is already up to date, touches nothing.

    Raises UserError when nothing is usable, or when `out` holds something else.
    """
    out = out.resolve()
    files = [choose(f, recipe.data) for f in find(paths)]
    hashes = [None if f.refused else _hash(f) for f in tqdm(files, desc="read", unit="file", delay=2)]
    plan = _plan(files, hashes, recipe)
    if not overwrite and (out / "store.json").is_file():
        summary = _up_to_date(out, plan)
        if summary is not None:
            return summary
    check_out_folder(out, "store", overwrite)

    work = out.with_name(f".{out.name}.partial")
    if work.exists() and (not (work / "plan").is_file() or (work / "plan").read_text() != plan):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    mark(work, "store")
    write_atomic(work / "plan", plan)

    number = done = 0
    with tqdm(total=len(files), desc="prepare", unit="file", delay=1) as bar:
        while done < len(files):
            part = work / f"part-{number:05d}.json"
            if part.exists():
                chunk_files = json.loads(part.read_text())["files"]
            else:
                chunk = _process(files[done:], hashes[done:], recipe)
                chunk_files = chunk.files
                clips = np.stack(chunk.clips) if chunk.clips else np.empty((0, recipe.data.clip_samples), "<i2")
                chunk.clips.clear()
                buffer = io.BytesIO()
                np.save(buffer, clips)
                del clips
                write_atomic(work / f"shard-{number:05d}.npy", buffer.getbuffer())
                write_json(part, {"rows": chunk.rows, "files": chunk.files})
            number, done = number + 1, done + len(chunk_files)
            bar.update(len(chunk_files))
    return _finish(work, out, recipe, plan, number, paths)


def _up_to_date(out: Path, plan: str) -> dict[str, Any] | None:
    """The summary of a whole store that was made by the same plan, else None. A damaged one is a UserError."""
    try:
        if Store(out).plan != plan:
            return None
    except UserError as e:
        raise UserError(f"{e} with --overwrite") from None
    summary: dict[str, Any] = read_json(out / "report.json", "report")["summary"]
    return summary | {"up_to_date": True}


def _hash(file: SourceFile) -> str | None:
    try:
        return sha256_file(file.path)
    except OSError:
        return None


def _plan(files: list[SourceFile], hashes: list[str | None], recipe: Recipe) -> str:
    """What the store is made of and how, as one hash. The same plan makes the same bytes."""
    inputs = [[f.name, h, f.group, f.labels, f.refused] for f, h in zip(files, hashes, strict=True)]
    how = [VERSION, recipe.seed, recipe.mel.model_dump(), recipe.data.model_dump()]
    return hashlib.sha256(json.dumps([inputs, how], sort_keys=True, default=str).encode()).hexdigest()


def _process(files: list[SourceFile], hashes: list[str | None], recipe: Recipe) -> _Chunk:
    """The next chunk: as many of the files as fill it."""
    chunk = _Chunk([], [], [])
    most = max(1, CHUNK_BYTES // (2 * recipe.data.clip_samples))
    for file, digest in zip(files, hashes, strict=True):
        if len(chunk.files) >= FILES_A_CHUNK or len(chunk.clips) >= most:
            break
        entry: dict[str, Any] = {"file": file.name, "used": False, "clips": 0}
        reason = file.refused
        if reason is None:
            try:
                if digest is None:
                    raise BadAudio("cannot be opened (missing, or no permission)")
                audio, _ = read(file.path, recipe.mel.sample_rate)
                left_out = _cut(chunk, file, digest, audio, recipe, entry)
                entry["used"] = entry["clips"] > 0
                if entry["used"]:
                    entry |= left_out
                else:
                    reason = f"silent (peak below {recipe.data.silence_dbfs:g} dBFS)"
            except BadAudio as e:
                reason = str(e)
        if reason:
            entry["reason"] = reason
        chunk.files.append(entry)
    _measure(chunk, recipe)
    return chunk


def _cut(
    chunk: _Chunk, file: SourceFile, digest: str, audio: NDArray[np.float32], recipe: Recipe, entry: dict[str, Any]
) -> dict[str, int]:
    """Cut a sound into clips side by side; the last one is padded. Returns what was left out of a longer sound:
    silent clips, and a tail of less than a tenth of a clip."""
    size, silent = recipe.data.clip_samples, 0
    tail = len(audio) % size
    short = tail if len(audio) > size and tail < size // 10 else 0
    for start in range(0, len(audio) - short, size):
        piece = audio[start : start + size]
        peak = peak_dbfs(piece)
        if peak < recipe.data.silence_dbfs:
            silent += 1
            continue
        clip = np.zeros(size, dtype="<i2")
        clip[: len(piece)] = to_pcm16(piece)
        chunk.clips.append(clip)
        chunk.rows.append(
            {
                "source": file.name,
                "sha256": digest,
                "start": start,
                "length": len(piece),
                "group": file.group,
                "peak_dbfs": peak,
                "labels": json.dumps(file.labels, sort_keys=True),
            }
        )
        entry["clips"] += 1
    left_out = {"silent_clips_left_out": silent, "tail_samples_left_out": short}
    return {k: v for k, v in left_out.items() if v}


def _measure(chunk: _Chunk, recipe: Recipe, batch: int = 64) -> None:
    """Measure the pitch of every clip of a chunk; a label wins over the meter."""
    for i in range(0, len(chunk.rows), batch):
        audio = torch.from_numpy(np.stack(chunk.clips[i : i + batch]).astype(np.float32) / 32768.0)
        for row, midi in zip(chunk.rows[i : i + batch], yin(audio, recipe.mel.sample_rate).midi.tolist(), strict=True):
            measured = None if np.isnan(midi) else round(midi, 4)
            label = json.loads(row["labels"]).get("pitch")
            labelled = isinstance(label, int | float) and np.isfinite(label)
            row["pitch_measured"] = measured
            row["pitch"] = float(label) if labelled else measured
            row["pitch_from"] = "label" if labelled else None if measured is None else "meter"


def _finish(work: Path, out: Path, recipe: Recipe, plan: str, chunks: int, paths: list[Path]) -> dict[str, Any]:
    parts = [json.loads((work / f"part-{i:05d}.json").read_text()) for i in range(chunks)]
    rows = [row for part in parts for row in part["rows"]]
    files = [file for part in parts for file in part["files"]]
    if not rows:
        shutil.rmtree(work)
        raise UserError(_nothing_usable(files, paths))
    hashes: dict[str, set[str]] = {}
    for row in rows:
        hashes.setdefault(row["group"], set()).add(row["sha256"])
    same = connected(hashes)  # equal files are one source, whatever their names
    for number, (row, split) in enumerate(zip(rows, splits([same[r["group"]] for r in rows], recipe), strict=True)):
        row["clip"], row["split"], row["group"] = number, split, same[row["group"]]
    _tell(files, rows)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, work / "items.parquet")
    shards = []
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode())
    for i in range(chunks):
        path = work / f"shard-{i:05d}.npy"
        count = len(np.load(path, mmap_mode="r", allow_pickle=False))
        if count:
            digest.update(sha256_file(path).encode())
            shards.append({"file": path.name, "clips": count})
        else:
            path.unlink()
    summary = _summary(files, rows, recipe)
    write_json(work / "report.json", {"summary": summary, "files": files})
    write_json(
        work / "store.json",
        {
            "version": VERSION,
            "mel": recipe.mel.model_dump(),
            "sample_rate": recipe.mel.sample_rate,
            "clip_samples": recipe.data.clip_samples,
            "clips": len(rows),
            "shards": shards,
            "plan": plan,
            "content_hash": digest.hexdigest(),
        },
    )
    for i in range(chunks):
        (work / f"part-{i:05d}.json").unlink()
    (work / "plan").unlink()
    mark(work, "store")
    fsync_tree(work)
    replace_folder(work, out)
    Store(out)
    return summary


def _tell(files: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Add to the report what was understood of each used file: the pitch and the split of its clips."""
    by_source: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_source.setdefault(row["source"], []).append(row)
    for file in files:
        if file["used"]:
            file["pitch"] = [r["pitch"] for r in by_source[file["file"]]]
            file["split"] = sorted({r["split"] for r in by_source[file["file"]]})


def _summary(files: list[dict[str, Any]], rows: list[dict[str, Any]], recipe: Recipe) -> dict[str, Any]:
    reasons: dict[str, int] = {}
    for file in files:
        if not file["used"]:
            reasons[file["reason"]] = reasons.get(file["reason"], 0) + 1
    off = [
        abs(r["pitch"] - r["pitch_measured"])
        for r in rows
        if r["pitch_from"] == "label" and r["pitch_measured"] is not None
    ]
    return {
        "files": len(files),
        "files_used": sum(f["used"] for f in files),
        "dropped": reasons,
        "clips": len(rows),
        "seconds": round(sum(r["length"] for r in rows) / recipe.mel.sample_rate, 3),
        "splits": {s: sum(r["split"] == s for r in rows) for s in SPLITS},
        "groups": len({r["group"] for r in rows}),
        "unpitched_clips": sum(r["pitch"] is None for r in rows),
        "labels_that_the_meter_doubts": sum(d > 0.5 for d in off),
    }


def _nothing_usable(files: list[dict[str, Any]], paths: list[Path]) -> str:
    where = ", ".join(map(str, paths))
    if not files:
        return f"{where}: no files there; looked for {' '.join(SUFFIXES)}"
    first = files[0]
    return (
        f"{where}: none of {len(files)} files is usable (looked for {' '.join(SUFFIXES)}); "
        f"the first, {first['file']}: {first['reason']}"
    )
