"""Tables of labels beside sounds: CSV, TSV, JSON lines or Parquet, one row a file."""

import csv
import json
import math
import re
from datetime import date
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from audio_vaegan.errors import UserError
from audio_vaegan.files import printable

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]{0,14})(\.[0-9]*)?([eE][-+]?[0-9]{1,2})?|[-+]?\.[0-9]{1,15}")
MOST_ROWS, MOST_BYTES = 5_000_000, 2**31  # a small file of Parquet can unfold to any number of rows
FILE_COLUMNS = ("file_name", "file", "filename", "path", "fname")


def read_table(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(file as the table names it, its labels) of every row; empty cells are left out.

    Numbers in text become numbers. Raises UserError when it is no table, or no column names the file.
    """
    try:
        rows = _READERS[path.suffix.lower()](path)
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not written in UTF-8; save it as such (in a spreadsheet: CSV UTF-8)") from None
    except (OSError, ValueError, LookupError, ArithmeticError, pa.ArrowException, RecursionError) as e:
        raise UserError(f"{path}: cannot be read as a table of labels ({' '.join(str(e).split())[:200]})") from None
    if not rows:
        raise UserError(f"{path}: a table of labels without rows; fill it, or move it away")
    names = list(rows[0])
    column = next((n for c in FILE_COLUMNS for row in rows for n in row if str(n).strip().lower() == c), None)
    if column is None:
        raise UserError(
            f"{path}: no column names the files (looked for {', '.join(FILE_COLUMNS)}; "
            f"found {', '.join(map(str, names)) or 'nothing'}); rename one, or the table if it holds no labels"
        )
    found = []
    for row in rows:
        found.append((text(row.get(column) or ""), clean(row, without=column)))
    return found


def inside(name: str) -> str | None:
    """A file name of a table as a plain relative path; None when it is empty or leads out of the table's folder."""
    path = PurePosixPath(name.strip().replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0][1:] == ":":
        return None
    return path.as_posix()


def _csv(path: Path, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as f:
        first = f.readline()
        f.seek(0)
        mark = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
        reader = csv.DictReader(f, delimiter=mark, strict=True, quoting=quoting)
        rows: list[dict[str, Any]] = []
        line = 1  # at which the row at hand begins
        try:
            names = [name.strip() for name in reader.fieldnames or [] if name.strip()]
            if twice := [name for i, name in enumerate(names) if name in names[:i]]:
                raise csv.Error(f"the column {printable(twice[0])} is there twice; rename one")
            line = reader.line_num + 1
            for row in reader:
                if any(cell.strip() for cell in row.pop(None, ())):
                    raise csv.Error("more cells than the first line has names")
                rows.append(row)
                line = reader.line_num + 1
        except csv.Error as e:
            if path.suffix.lower() == ".tsv" and quoting == csv.QUOTE_MINIMAL:
                return _csv(path, csv.QUOTE_NONE)  # where tabs part the cells, a quote may be text
            mend = " (a quote too many, or too few?)" if "EOF" in str(e) or "expected after" in str(e) else ""
            raise ValueError(f"line {line}: {e}{mend}") from None
        return rows


def _jsonl(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("each line must be a JSON object")
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        about = file.metadata
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        if about.num_rows > MOST_ROWS or size > MOST_BYTES:
            raise ValueError(f"{about.num_rows} rows of {size / 2**20:.0f} MiB are no table of labels")
        rows: list[dict[str, Any]] = file.read().to_pylist()
    return rows


_READERS = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


def clean(labels: dict[Any, Any], without: str | None = None) -> dict[str, Any]:
    """Labels as the store holds them: names are text, values numbers, booleans or text; what is missing is left out."""
    found = {text(k).strip(): label(v) for k, v in labels.items() if k is not None and k != without}
    return {k: v for k, v in found.items() if v is not None}


def label(value: Any) -> Any:
    """A value that JSON can hold, or None where it is missing: empty, or not a number. Text that is written as a number
    is one; what only looks like it (007, 1_000) stays text."""
    if isinstance(value, str):
        value = value.strip()
        if NUMBER.fullmatch(value):
            value = float(value) if set(value) & set(".eE") else int(value)
        elif value.lower() in ("", "nan"):
            return None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < 1e12):
        return value
    if isinstance(value, Decimal) and value.is_finite():
        return label(float(value))
    if isinstance(value, str | int | float | date | Decimal):
        return text(value)
    return text(json.dumps(value, sort_keys=True, default=str))


def text(value: Any) -> str:
    """Text that can always be written as UTF-8."""
    return str(value).encode("utf-8", "backslashreplace").decode()
