"""How a data set lies on the disk: AudioFolder, NSynth, Parquet or WebDataset. Same sounds in, same bytes out."""

import io
import json
import math
import tarfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from audio_vaegan.data.nsynth import DRUM_BANK, FAMILIES, note_entry
from audio_vaegan.dataset.columns import (
    AUDIO,
    LINES,
    NAMES,
    NUMBER,
    TABLE,
    TEXT,
    Columns,
    columns,
)
from audio_vaegan.dataset.facts import Facts, Row

LAYOUTS = ("audiofolder", "nsynth", "parquet", "webdataset")
Sound = tuple[Row, bytes]  # a row and its encoded file: WAV or FLAC, 16-bit mono

# A shard ends with the sound that reaches its size.
PARQUET_BYTES, PARQUET_ROWS = 100_000_000, 2000
WEBDATASET_BYTES = 200_000_000
# What of a table is held in memory, and read at once by others: rows with audio, without, bytes.
AUDIO_GROUP, GROUP, GROUP_BYTES = 100, 10_000, 32_000_000
CHUNK = 8_000_000  # bytes of lines: less than `datasets` guesses types from at once, 10 MiB

NO_PITCH = -1  # NSynth has no word for a sound without pitch, and 0 ... 127 are notes
LOUDEST, NO_LOUDNESS = -6.0, 100  # LUFS of velocity 127; the velocity of a sound too short for a loudness


def write_layout(layout: str, folder: Path, sounds: Iterable[Sound], facts: Facts) -> None:
    """Write all sounds below the existing, empty `folder`, in one pass and in memory that does not grow with them.

    They come in the order of their ids, splits mixed. All rows have the same keys. Raises ValueError where they do
    not, for a number that is not finite, and when there is no sound at all.
    """
    sounds = iter(sounds)
    if (first := next(sounds, None)) is None:
        raise ValueError("a data set without sounds")
    types = columns(first[0])
    writer = _WRITERS[layout](folder, facts, types)
    for row, file in chain([first], sounds):
        writer.add(_typed(row, types), file)
    writer.close()


def data_files(layout: str, facts: Facts) -> list[dict[str, str]]:
    """What `configs: data_files` of the card says: split and pattern. NSynth is no layout of `datasets`: none."""
    patterns = {"audiofolder": "{}/*", "parquet": "data/{}-*.parquet", "webdataset": "{}-*.tar"}
    if layout not in patterns:
        return []
    return [{"split": split, "path": patterns[layout].format(split)} for split, count in facts.splits.items() if count]


def _typed(row: Row, types: Columns) -> Row:
    """A row in the order and the types of the columns."""
    if row.keys() != types.keys():
        raise ValueError(f"sound {row.get('id')}: other columns than the first, {sorted(row.keys() ^ types.keys())}")
    numbers = {k: float(row[k]) for k, kind in types.items() if kind == NUMBER and row[k] is not None}
    odd = [k for k, value in numbers.items() if not math.isfinite(value)]
    if odd:
        raise ValueError(f"sound {row['id']}: {odd[0]} is not finite")
    return {k: numbers.get(k, row[k]) for k in types}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


class _Table:
    """A Parquet file that is written group by group of rows; one group is held in memory."""

    def __init__(self, path: Path, schema: pa.Schema, group: int) -> None:
        self.schema, self.group = schema, group
        self.held: list[Row] = []
        self.rows = self.bytes = self.held_bytes = 0
        # All settings that shape the bytes are given: they do not follow the defaults of a later pyarrow.
        self.file = pq.ParquetWriter(path, schema, version="2.6", compression="zstd", use_dictionary=False)

    def add(self, row: Row, size: int = 0) -> None:
        self.held.append(row)
        self.rows, self.bytes, self.held_bytes = self.rows + 1, self.bytes + size, self.held_bytes + size
        if len(self.held) >= self.group or self.held_bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self.held:
            self.file.write_table(pa.Table.from_pylist(self.held, schema=self.schema), row_group_size=len(self.held))
        self.held, self.held_bytes = [], 0

    def close(self) -> None:
        self._flush()
        self.file.close()


class _AudioFolder:
    """`SPLIT/ID.wav` and `SPLIT/metadata.jsonl`, a line a sound, whose `file_name` is relative to it.

    The loader of `datasets` guesses the types of the lines, 10 MiB at a time, and fails where a column is null in one
    part and a number in another. Of such sounds the table is `metadata.parquet`; only one of the two may be there.
    """

    def __init__(self, folder: Path, facts: Facts, types: Columns) -> None:
        self.folder, self.ending = folder, facts.format
        self.schema = pa.schema({"file_name": TEXT, **types})
        self.tables: dict[str, _Table] = {}
        self.lines: dict[str, TextIO] = {}
        self.known: dict[tuple[str, int], set[str]] = {}  # of each part of the lines: the columns that are not null

    def add(self, row: Row, file: bytes) -> None:
        split, name = row["split"], f"{row['id']}.{self.ending}"
        folder = self.folder / split
        if split not in self.tables:
            folder.mkdir()
            self.tables[split] = _Table(folder / TABLE, self.schema, GROUP)
            self.lines[split] = (folder / LINES).open("w", encoding="utf-8", newline="\n")
        (folder / name).write_bytes(file)
        row = {"file_name": name, **row}
        self.tables[split].add(row)
        part = (split, self.lines[split].tell() // CHUNK)
        self.known.setdefault(part, set()).update(k for k, value in row.items() if value is not None)
        self.lines[split].write(_json(row) + "\n")

    def close(self) -> None:
        parts = [*self.known.values()]
        unused = TABLE if all(part == parts[0] for part in parts) else LINES
        for split, table in self.tables.items():
            table.close()
            self.lines[split].close()
            (self.folder / split / unused).unlink()


class _NSynth:
    """`SPLIT/audio/NOTE_STR.wav` and `SPLIT/examples.json`: the 13 keys of the format, then the row's own.

    Every sound has a timbre code of its own, and so is an instrument of its own: `note` and `instrument` are its
    number. The family is the class where that is one of NSynth's, else `synth_lead`. The pitch is the key nearest to
    the request, else to what was measured, else -1: no pitch; `bank` is 128 then, by which the reader of this package
    knows notes without pitch, else 0. The velocity follows the loudness by the curve of General MIDI 2,
    40 log10(velocity / 127) dB, with 127 at -6 LUFS; 100 where there is no loudness.
    """

    def __init__(self, folder: Path, facts: Facts, types: Columns) -> None:
        self.folder, self.ending = folder, facts.format
        self.tables: dict[str, TextIO] = {}

    def add(self, row: Row, file: bytes) -> None:
        split = row["split"]
        if split not in self.tables:
            (self.folder / split / "audio").mkdir(parents=True)
            self.tables[split] = (self.folder / split / "examples.json").open("w", encoding="utf-8", newline="\n")
            self.tables[split].write("{\n")
        else:
            self.tables[split].write(",\n")
        number, label = int(row["id"]), row.get("label")
        family = label if label in FAMILIES else "synth_lead"
        key = _key(row)
        entry = note_entry(number, number, family, "synthetic", key, _velocity(row), row["sample_rate"])
        entry["bank"] = DRUM_BANK if key == NO_PITCH else 0
        name = entry["note_str"]
        (self.folder / split / "audio" / f"{name}.{self.ending}").write_bytes(file)
        self.tables[split].write(f"{_json(name)}: {_json(entry | row)}")

    def close(self) -> None:
        for table in self.tables.values():
            table.write("\n}\n")
            table.close()


def _key(row: Row) -> int:
    """The MIDI key nearest to a sound's pitch, NO_PITCH without one."""
    pitch = row.get("pitch_requested")
    pitch = row.get("pitch_achieved") if pitch is None else pitch
    return NO_PITCH if pitch is None else min(max(math.floor(pitch + 0.5), 0), 127)


def _velocity(row: Row) -> int:
    loudness = row.get("loudness_lufs")
    return NO_LOUDNESS if loudness is None else min(max(round(127 * 10 ** ((loudness - LOUDEST) / 40)), 1), 127)


class _Parquet:
    """`data/SPLIT-00000-of-00003.parquet`: the column `audio` (the file's bytes and its name), then the row's own."""

    def __init__(self, folder: Path, facts: Facts, types: Columns) -> None:
        self.folder, self.ending = folder / "data", facts.format
        self.folder.mkdir()
        # What `datasets` needs to know that the structure is audio.
        features: dict[str, Any] = {"audio": {"sampling_rate": facts.sample_rate, "_type": "Audio"}}
        features |= {name: {"dtype": NAMES[kind], "_type": "Value"} for name, kind in types.items()}
        metadata = {"huggingface": _json({"info": {"features": features}})}
        self.schema = pa.schema({"audio": AUDIO, **types}, metadata=metadata)
        self.open: dict[str, _Table] = {}
        self.shards: dict[str, list[Path]] = {}

    def add(self, row: Row, file: bytes) -> None:
        split = row["split"]
        if split not in self.open:
            shards = self.shards.setdefault(split, [])
            shards.append(self.folder / f"{split}-{len(shards):05d}.partial")
            self.open[split] = _Table(shards[-1], self.schema, AUDIO_GROUP)
        table = self.open[split]
        table.add({"audio": {"bytes": file, "path": f"{row['id']}.{self.ending}"}, **row}, len(file))
        if table.bytes >= PARQUET_BYTES or table.rows >= PARQUET_ROWS:
            self.open.pop(split).close()

    def close(self) -> None:
        for table in self.open.values():
            table.close()
        for split, shards in self.shards.items():
            for k, path in enumerate(shards):
                path.rename(self.folder / f"{split}-{k:05d}-of-{len(shards):05d}.parquet")


class _WebDataset:
    """`SPLIT-000000.tar` with `ID.wav` and `ID.json` of each sound."""

    def __init__(self, folder: Path, facts: Facts, types: Columns) -> None:
        self.folder, self.ending = folder, facts.format
        self.open: dict[str, tarfile.TarFile] = {}
        self.shards: dict[str, int] = {}

    def add(self, row: Row, file: bytes) -> None:
        split = row["split"]
        if split not in self.open:
            self.shards[split] = self.shards.get(split, -1) + 1
            path = self.folder / f"{split}-{self.shards[split]:06d}.tar"
            self.open[split] = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        tar = self.open[split]
        for ending, data in ((self.ending, file), ("json", _json(row).encode())):
            member = tarfile.TarInfo(f"{row['id']}.{ending}")  # mode 644, no owner, no time
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        if tar.offset >= WEBDATASET_BYTES:
            self.open.pop(split).close()

    def close(self) -> None:
        for tar in self.open.values():
            tar.close()


_WRITERS: dict[str, type[_AudioFolder | _NSynth | _Parquet | _WebDataset]] = {
    "audiofolder": _AudioFolder,
    "nsynth": _NSynth,
    "parquet": _Parquet,
    "webdataset": _WebDataset,
}
