"""The store: clips of one length as memory-mapped int16 shards, one table row a clip, and the mel they are for.

STORE/store.json            version, MelConfig, sample rate, clip length, shards, content hash
      items.parquet         one row a clip: source path, sha256, split, labels, descriptors
      shard-00000.npy ...   int16 [clips, clip_samples]
      prints-00000.npy ...  float16 [clips, 192], by which copies are found
      report.json           every input file: used, or dropped and why; report.html: the same to look at
"""

import json
import tokenize
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audio_vaegan.config import MelConfig
from audio_vaegan.descriptors import DESCRIPTORS
from audio_vaegan.errors import UserError
from audio_vaegan.files import read_json, sha256_file

VERSION = 5  # 3: brightness is relative to 440 Hz; 4: noisiness ends at -30 dB; 5: pitch from dips between samples
BAD_HEADER = (SyntaxError, tokenize.TokenError, RecursionError, MemoryError)  # NumPy reads an array's header as Python
DAMAGE = (LookupError, TypeError, ValueError, ArithmeticError, OSError, EOFError, pa.ArrowException, *BAD_HEADER)
SPLITS = ("train", "test_instrument", "test_note")

SCHEMA = pa.schema(
    [
        ("clip", pa.int64()),
        ("source", pa.string()),
        ("sha256", pa.string()),
        ("copy_of", pa.string()),  # the first of the files that hold the same sound; its own source, if there is none
        ("start", pa.int64()),  # first sample of the clip in its source, at the store's sample rate
        ("length", pa.int64()),  # true samples; the rest of the clip is padding
        ("split", pa.string()),
        ("group", pa.string()),
        ("gain_db", pa.float32()),  # applied to the clip: to the loudness that the recipe asks for, or below full scale
        ("silence", pa.float32()),  # share of the true length below -60 dBFS
        ("pitch_from", pa.string()),  # label | meter | null
        ("labels", pa.string()),  # JSON object
        # of the clip before its gain, in the descriptor's unit; null: undefined. A label wins over what was measured.
        *((name, pa.float64()) for name in DESCRIPTORS),
        *((f"{name}_measured", pa.float64()) for name in DESCRIPTORS),
    ]
)


class Store:
    """A prepared store, open for reading. Rows of a split are read straight from memory maps."""

    def __init__(self, path: Path) -> None:
        if not (path / "store.json").is_file():
            raise UserError(
                f"--store {path}: not a store (make one with: audio-vaegan prepare SOUNDS --recipe R.yaml --out STORE)"
            )
        about = read_json(path / "store.json", "--store")
        if not isinstance(about, dict) or about.get("version") != VERSION:
            raise UserError(f"--store {path}: not a store of version {VERSION}; prepare it again")
        self.path = path
        try:
            self.mel = MelConfig.model_validate(about["mel"])
            self.clip_samples = int(about["clip_samples"])
            self.made_by = str(about["made_by"])
            self.content_hash = str(about["content_hash"])
            self.shards = [(_inside(path, s["clips"]), _inside(path, s["prints"])) for s in about["shards"]]
            self._table = pq.ParquetFile(path / "items.parquet", memory_map=True)
            if not self._table.schema_arrow.equals(SCHEMA):
                raise ValueError("the columns of items.parquet are not those of a store")
            self._hashes = _hashes(about)
            shards = [np.load(clips, mmap_mode="r", allow_pickle=False) for clips, _ in self.shards]
            if any(s.ndim != 2 or s.dtype != np.int16 for s in shards):
                raise ValueError("a shard is no table of 16-bit samples")
        except DAMAGE as e:
            raise self._damaged(e) from None
        self._shards = shards
        self._first = np.cumsum([0, *(len(s) for s in shards)])
        if self._first[-1] != len(self) or any(s.shape[1] != self.clip_samples for s in shards):
            raise UserError(f"--store {path}: its shards and its table do not agree; prepare it again")

    def _damaged(self, e: Exception) -> UserError:
        reason = " ".join(str(e).split())[:200]
        return UserError(f"--store {self.path}: damaged ({type(e).__name__}: {reason}); prepare it again")

    def _read(self, names: list[str] | None = None) -> pa.Table:
        try:
            return self._table.read(names)
        except (OSError, ValueError, pa.ArrowException) as e:
            raise self._damaged(e) from None

    @property
    def sample_rate(self) -> int:
        return self.mel.sample_rate

    def __len__(self) -> int:
        return int(self._table.metadata.num_rows)

    @property
    def items(self) -> pa.Table:
        """The whole table, read anew."""
        return self._read()

    def changed(self) -> list[str] | None:
        """Names of files that are not as they were written, by their hashes: reads all of them. None for a store from
        before there were hashes."""
        if not self._hashes:
            return None
        return [name for name, known in self._hashes.items() if sha256_file(self.path / name) != known]

    def report(self) -> dict[str, Any]:
        """What report.json says: `summary`, `duplicates`, `files`."""
        report = read_json(self.path / "report.json", "--store")
        if not _is_report(report):
            raise UserError(f"--store {self.path}: its report.json is damaged; prepare it again with --overwrite")
        return report

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the table, some of them at a time in memory."""
        try:
            for batch in self._table.iter_batches(4096):
                yield from batch.to_pylist()
        except (OSError, ValueError, pa.ArrowException) as e:
            raise self._damaged(e) from None

    def column(self, name: str) -> NDArray[Any]:
        """A column of the table; null numbers become NaN."""
        return self._read([name]).column(name).to_numpy(zero_copy_only=False)

    def codes(self, name: str) -> NDArray[np.int32]:
        """A column of text, each different one as a number: of a million clips no million strings."""
        found = self._read([name]).column(name).combine_chunks().dictionary_encode(null_encoding="encode")
        return found.indices.to_numpy(zero_copy_only=False)

    @cached_property
    def _labels(self) -> tuple[list[dict[str, Any]], NDArray[np.int64]]:
        """The different sets of labels, and which of them each clip has."""
        column = self._read(["labels"]).column("labels").combine_chunks().dictionary_encode()
        try:
            return [dict(json.loads(text)) for text in column.dictionary.to_pylist()], column.indices.to_numpy()
        except (TypeError, ValueError, RecursionError) as e:
            raise self._damaged(e) from None

    def label(self, name: str) -> list[str | None]:
        """A label of every clip as text; None where a clip has none."""
        different, index = self._labels
        found = [None if (value := labels.get(name)) is None else str(value) for labels in different]
        return [found[i] for i in index]

    def label_names(self) -> list[str]:
        """The labels that clips of this store have."""
        return sorted({name for labels in self._labels[0] for name in labels})

    def values(self, name: str, classes: tuple[str, ...] = ()) -> NDArray[np.float32]:
        """A control of every clip: a column, or with `classes` the place of the clip's label among them; else NaN."""
        if not classes:
            found = self.column(name)
            if name == "loudness":  # of the clip as the file has it; the store's is louder by its gain
                found = found + self.column("gain_db")
            return found.astype(np.float32)
        place = {c: float(i) for i, c in enumerate(classes)}
        return np.array([place.get(v or "", np.nan) for v in self.label(name)], dtype=np.float32)

    def split(self, name: str) -> NDArray[np.int64]:
        """Clip numbers of a split, ascending."""
        return np.flatnonzero(pc.equal(self._read(["split"]).column("split"), name).to_numpy(zero_copy_only=False))

    def read(self, clips: Iterable[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Clips as float32 `[B, clip_samples]` in [-1, 1]."""
        wanted = np.asarray(clips, dtype=np.int64)
        out = np.empty((len(wanted), self.clip_samples), dtype=np.float32)
        shard = np.searchsorted(self._first, wanted, side="right") - 1
        for s in np.unique(shard):
            rows = np.flatnonzero(shard == s)
            out[rows] = self._shards[s][wanted[rows] - self._first[s]]
        out *= 1 / 32768.0
        return out


def _hashes(about: dict[str, Any]) -> dict[str, str]:
    """The hashes of its files that a store.json knows: of all, or of none."""
    if "items_sha256" not in about or not all("sha256" in s for s in about["shards"]):
        return {}
    found = {s[kind]: str(s["sha256"][kind]) for s in about["shards"] for kind in ("clips", "prints")}
    return found | {"items.parquet": str(about["items_sha256"])}


def _is_report(report: Any) -> bool:
    """Whether it has the shape of what `prepare` writes, as far as other commands build on it."""
    if not isinstance(report, dict) or not all(isinstance(report.get(k), dict) for k in ("summary", "duplicates")):
        return False
    files, near = report.get("files"), report["duplicates"].get("near")
    return (
        isinstance(files, list)
        and all(isinstance(f, dict) and isinstance(f.get("file"), str) and {"used", "key"} <= f.keys() for f in files)
        and all(isinstance(f.get("sha256"), str) for f in files if f["used"])
        and isinstance(near, list)
        and all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in near)
    )


def _inside(folder: Path, name: str) -> Path:
    """A file of a folder. Raises ValueError for a name that leads anywhere else."""
    if name != Path(name).name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no file of the store")
    return folder / name


def check_mel(store: Store, mel: MelConfig, what: str) -> None:
    """Raise UserError that names each field in which the store's mel differs from the recipe's or the model's."""
    differences = store.mel.differences(mel)
    if differences:
        raise UserError(f"--store {store.path} and {what} differ in mel ({'; '.join(differences)}); prepare it again")
