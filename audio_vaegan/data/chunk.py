"""One chunk of files -> clips, their rows and prints, in files of its own that appear whole or not at all."""

import io
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from audio_vaegan.audio import BadAudio, Stream, peak_dbfs, to_pcm16
from audio_vaegan.config import Recipe
from audio_vaegan.data.cutting import Cutter
from audio_vaegan.data.duplicates import PRINT, fingerprints
from audio_vaegan.data.labels import describe, pitch_label
from audio_vaegan.data.pool import share_out
from audio_vaegan.data.sources import SourceFile, identity
from audio_vaegan.errors import Failure
from audio_vaegan.files import write_atomic, write_json
from audio_vaegan.mel import Mel

SHARD_BYTES = 32 * 2**20  # of clips
BATCH_SAMPLES = 2**21  # measured at a time
LOUD = 1.06  # half a decibel above full scale, which resampling reaches by itself
QUIET = 1e-3  # -60 dBFS: a frame of 10 ms below it is silence
BYTES_FOR_WORKERS = 48 * 2**20  # of files; less, or ...
FILES_FOR_WORKERS = 1500  # ... fewer files, are done sooner than other processes have started

Seconds = dict[str, float]


@dataclass(frozen=True)
class Chunk:
    """Some files, and where what becomes of them is written. `key` changes when the result would."""

    number: int
    key: str
    files: tuple[SourceFile, ...]
    size: int  # bytes of the files
    work: Path

    @property
    def part(self) -> Path:
        return self.work / f"part-{self.number:05d}.json"

    def shard(self, index: int) -> Path:
        return self.work / f"clips-{self.number:05d}-{index:03d}.npy"

    def prints(self, index: int) -> Path:
        return self.work / f"prints-{self.number:05d}-{index:03d}.npy"

    def read(self) -> dict[str, Any]:
        """What `process` found: files, rows, the clips of each shard, and the seconds that each stage took."""
        found: dict[str, Any] = json.loads(self.part.read_text(encoding="utf-8"))
        return found

    def done(self) -> bool:
        try:
            part = self.read()
            written = [path(i) for i in range(len(part["shards"])) for path in (self.shard, self.prints)]
            return bool(part["key"] == self.key) and all(path.exists() for path in written)
        except (OSError, ValueError, KeyError):
            return False


def process_all(chunks: list[Chunk], recipe: Recipe, workers: int) -> None:
    """Process the chunks, those that are done apart. Ctrl-C stops at once; what is done stays done."""
    files, size = sum(len(c.files) for c in chunks), sum(c.size for c in chunks)
    with tqdm(total=files, desc="prepare", unit="file", delay=1) as bar:
        if workers == 1 or len(chunks) < 2 or (files < FILES_FOR_WORKERS and size < BYTES_FOR_WORKERS):
            for chunk in chunks:
                process(chunk, recipe)
                bar.update(len(chunk.files))
            return
        share_out(process, [(chunk, recipe) for chunk in chunks], workers, lambda job: bar.update(len(job[0].files)))


def process(chunk: Chunk, recipe: Recipe) -> None:
    """Do the work of a chunk, unless it is done. On one thread: the bytes do not depend on how many there are."""
    if chunk.done():
        return
    chunk.part.unlink(missing_ok=True)  # of other files: it must not vouch for the shards that are written now
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _Work(chunk, recipe).run()
    finally:
        torch.set_num_threads(threads)


@dataclass
class _Pending:
    """Clips that are cut, and wait to be measured and written."""

    audio: list[NDArray[np.float32]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


class _Work:
    def __init__(self, chunk: Chunk, recipe: Recipe) -> None:
        self.chunk, self.recipe = chunk, recipe
        self.rate, self.size = recipe.mel.sample_rate, recipe.data.clip_samples
        self.mel = Mel(recipe.mel)
        self.nepers = (math.log(10) if recipe.mel.log == "log10" else 1.0) / recipe.mel.power  # of a unit of the mel
        self.batch = max(1, min(64, BATCH_SAMPLES // self.size))
        self.most = max(1, SHARD_BYTES // (2 * self.size))
        self.pending = _Pending()
        self.clips: list[NDArray[np.int16]] = []
        self.prints: list[NDArray[np.float32]] = []
        self.rows: list[dict[str, Any]] = []
        self.shards: list[int] = []
        self.seconds: Seconds = {}
        self.counts: dict[str, int] = {}  # of windows of the file at hand

    @contextmanager
    def clock(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def run(self) -> None:
        entries = []
        for file in self.chunk.files:
            before = len(self.rows) + len(self.pending.rows)
            entry: dict[str, Any] = {"file": file.name, "used": False, "clips": 0, "group": file.group}
            try:
                if file.refused:
                    raise BadAudio(file.refused)
                self._take(file, entry)
            except BadAudio as e:
                entry["reason"] = " ".join(str(e).split())
            except OSError as e:
                entry["reason"] = f"cannot be read ({e.strerror})"
            except (ArithmeticError, LookupError, TypeError, ValueError) as e:
                raise Failure(f"{file.name}: {type(e).__name__}: {e} (leave the file out, and tell us)") from e
            entry["clips"] = len(self.rows) + len(self.pending.rows) - before if "reason" not in entry else 0
            entry["used"] = entry["clips"] > 0
            entry["key"] = identity(file, entry.get("sha256"))
            entries.append(entry)
        self._measure()
        self._write()
        found = {"key": self.chunk.key, "files": entries, "rows": self.rows, "shards": self.shards}
        write_json(self.chunk.part, found | {"seconds": self.seconds})

    def _take(self, file: SourceFile, entry: dict[str, Any]) -> None:
        """Cut one file. Raises BadAudio when nothing of it can be used; clips that were cut before that are disowned
        when the store is put together."""
        with self.clock("read"):
            entry["sha256"] = file.source.digest(file)
            stream = Stream(file.source.sound(file), self.rate, self.recipe.data.channel)
        cutter = self._cut(file, stream, entry["sha256"], self.recipe)
        if self.recipe.data.windows == "onsets" and not cutter.events:
            regular = self.recipe.model_copy(
                update={"data": self.recipe.data.model_copy(update={"windows": "regular"})}
            )
            cutter = self._cut(file, stream, entry["sha256"], regular)
        entry["seconds"] = round(stream.seconds, 3)
        entry["rate"], entry["channels"] = stream.source_rate, stream.channels
        broken = self.counts["broken"]
        if cutter.silent + broken == cutter.windows:
            if broken or stream.bad:
                raise BadAudio("holds NaN or infinite samples, or such beyond all bounds")
            raise BadAudio(f"silent (peak below {cutter.silence_dbfs:g} dBFS)")
        notes = cutter.notes()
        if broken:
            notes.append(f"clips with NaN or infinite samples left out: {broken}")
        if self.counts["loud"]:
            notes.append(f"clips above full scale lowered to it: {self.counts['loud']}")
        for name in ("pitch", "pitch_hz"):
            if name in file.labels and pitch_label(file.labels) is None:
                notes.append(f"its label of {name} is no MIDI number, note or frequency: {file.labels[name]}; measured")
        if stream.truncated:
            told = f"the header promises more: {stream.promised:.3f} s, {stream.seconds:.3f} s could be decoded"
            notes.append(told + (f" ({stream.broke_off})" if stream.broke_off else ""))
        if stream.clipped > 2:
            entry["clipped"] = stream.clipped
            notes.append(f"clipped: {stream.clipped} samples at full scale")
        if notes:
            entry["notes"] = notes

    def _cut(self, file: SourceFile, stream: Stream, digest: str, recipe: Recipe) -> Cutter:
        cutter, self.counts = Cutter(recipe.data, self.rate), {"broken": 0, "loud": 0}
        labels = json.dumps(file.labels, sort_keys=True, ensure_ascii=False)
        start = time.perf_counter()
        inside = 0.0
        for first, piece in cutter.cut(stream):
            while stream.bad and stream.bad[0] < 1000 * first // self.rate:
                stream.bad.popleft()
            if stream.bad and stream.bad[0] <= 1000 * (first + len(piece)) // self.rate:
                self.counts["broken"] += 1
                continue
            self.counts["loud"] += bool(np.abs(piece).max() > LOUD)
            row = {"source": file.name, "sha256": digest, "start": first, "length": len(piece), "group": file.group}
            row |= {"labels": labels, "silence": _silence(piece, self.rate), "gain_db": 0.0}
            self.pending.audio.append(piece)
            self.pending.rows.append(row)
            if len(self.pending.rows) >= self.batch:
                now = time.perf_counter()
                self._measure()
                inside += time.perf_counter() - now
        self.seconds["decode, resample, cut"] = (
            self.seconds.get("decode, resample, cut", 0.0) + time.perf_counter() - start - inside
        )
        return cutter

    def _measure(self) -> None:
        """Measure the pending clips, bring them to their level, and add them to the shard."""
        pending, self.pending = self.pending, _Pending()
        if not pending.rows:
            return
        audio = np.zeros((len(pending.rows), self.size), dtype=np.float32)
        for clip, piece in zip(audio, pending.audio, strict=True):
            clip[: len(piece)] = piece
        with self.clock("descriptors"):
            length = torch.tensor([row["length"] for row in pending.rows])
            describe(torch.from_numpy(audio), length, self.rate, pending.rows)
        with self.clock("prints"):
            with torch.no_grad():
                sound = torch.from_numpy(audio)
                found = fingerprints(sound, self.nepers * self.mel(sound), self.rate / self.recipe.mel.hop_length)
            self.prints.extend(found.numpy())
        for clip, row in zip(audio, pending.rows, strict=True):
            gain = self._gain(clip, row["loudness_measured"])
            if gain:
                row["gain_db"] = round(gain, 4)
                clip *= 10 ** (gain / 20)
            self.clips.append(to_pcm16(clip))
        self.rows += pending.rows
        if len(self.clips) >= self.most:
            self._write()

    def _gain(self, clip: NDArray[np.float32], loudness: float | None) -> float:
        """dB to the loudness that the recipe asks for, as far as full scale lets it; below zero for a clip above it."""
        room = -0.01 - peak_dbfs(clip)
        wanted = self.recipe.data.loudness
        if wanted is None or loudness is None:
            return min(0.0, room) if room < -0.01 else 0.0
        return min(wanted - loudness, room)

    def _write(self) -> None:
        if not self.clips:
            return
        with self.clock("write"):
            index = len(self.shards)
            save_array(self.chunk.shard(index), np.stack(self.clips).astype("<i2", copy=False))
            save_array(self.chunk.prints(index), np.stack(self.prints).astype("<f2").reshape(-1, PRINT))
            self.shards.append(len(self.clips))
            self.clips, self.prints = [], []


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as .npy, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, buffer.getbuffer())


def _silence(piece: NDArray[np.float32], rate: int) -> float:
    """Share of a clip's frames of 10 ms that lie below -60 dBFS."""
    hop = max(1, min(rate // 100, len(piece)))
    frames = piece[: len(piece) // hop * hop].reshape(-1, hop)
    return round(float((np.square(frames).mean(axis=1) < QUIET**2).mean()), 4)
