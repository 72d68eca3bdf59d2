"""The columns of a data set and their types."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from audio_vaegan.dataset.facts import Facts, Row

Columns = dict[str, pa.DataType]
LINES, TABLE = "metadata.jsonl", "metadata.parquet"  # of an AudioFolder: the one or the other

TEXT, NUMBER, COUNT, TRUTH = pa.string(), pa.float64(), pa.int64(), pa.bool_()
NAMES = {TEXT: "string", NUMBER: "float64", COUNT: "int64", TRUTH: "bool"}  # in `datasets`
AUDIO = pa.struct({"bytes": pa.binary(), "path": TEXT})
KNOWN: Columns = {
    **dict.fromkeys(("file_name", "id", "split", "label", "source", "license", "address"), TEXT),
    **dict.fromkeys(("model_hash", "vocoder", "audio_sha256"), TEXT),
    **dict.fromkeys(("seed", "item", "attempt", "sample_rate", "num_samples"), COUNT),
    **dict.fromkeys(("peak_dbfs", "loudness_lufs", "nearest_training"), NUMBER),
    "synthetic": TRUTH,
}


def in_lines(folder: Path) -> bool:
    """Whether the tables of an AudioFolder are JSON lines, not Parquet."""
    return any(folder.glob(f"*/{LINES}"))


def columns(row: Row) -> Columns:
    """The columns of a data set and their types, by one of its rows.

    By the names of the contract, not by the values: one that is None here can be a number elsewhere.
    """
    types: Columns = {}
    for name, value in row.items():
        control, _, what = name.rpartition("_")
        unit = row.get(f"{control}_unit")
        if name in KNOWN:
            types[name] = KNOWN[name]
        elif unit is not None and what in ("requested", "achieved"):
            types[name] = TEXT if unit == "class" else NUMBER
        else:
            types[name] = {bool: TRUTH, int: COUNT, float: NUMBER}.get(type(value), TEXT)
    return types


def written_columns(layout: str, folder: Path, facts: Facts) -> Columns:
    """The columns of a data set that was written, as its files have them."""
    split = next(split for split, count in facts.splits.items() if count)
    table = next(folder.glob(f"data/{split}-00000-of-*.parquet"), folder / split / TABLE)
    if table.is_file():
        schema = pq.read_schema(table)
        return dict(zip(schema.names, schema.types, strict=True))
    if layout == "audiofolder":
        with (folder / split / LINES).open(encoding="utf-8") as f:
            row = json.loads(f.readline())
    elif layout == "nsynth":
        with (folder / split / "examples.json").open(encoding="utf-8") as f:
            f.readline()
            (row,) = json.loads("{" + f.readline().rstrip(",\n") + "}").values()
    else:
        with tarfile.open(folder / f"{split}-000000.tar", "r:") as tar:
            member = next(m for m in tar if m.name.endswith(".json"))
            row = json.load(tar.extractfile(member))  # type: ignore[arg-type]
    return columns(row)


def card_features(layout: str, folder: Path, facts: Facts) -> list[dict[str, Any]]:
    """What `dataset_info: features` of the card must say for a data set that was written.

    Only WebDataset needs it: its rows are JSON, of which `datasets` guesses the types from the first five sounds.
    """
    if layout != "webdataset":
        return []
    row = [{"name": name, "dtype": NAMES[kind]} for name, kind in written_columns(layout, folder, facts).items()]
    return [
        {"name": facts.format, "dtype": {"audio": {"sampling_rate": facts.sample_rate}}},
        {"name": "json", "struct": row},
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]
