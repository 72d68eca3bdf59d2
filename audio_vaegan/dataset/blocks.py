"""A block of sounds on disk while a data set is being made: one file, whole or not there.

8 bytes: length of the header; header (JSON: rows, places of their audio, rejects, seconds); prints; audio.
"""

import json
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_vaegan.data.duplicates import PRINT
from audio_vaegan.dataset.facts import Row
from audio_vaegan.dataset.make import Made
from audio_vaegan.files import write_atomic

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Saved:
    """A block as it was written."""

    path: Path
    rows: list[Row]
    rejects: list[Row]
    seconds: dict[str, float]
    prints: NDArray[np.float16]  # [N, 192]
    places: list[tuple[int, int]]  # where in the file each sound's bytes begin, and how many

    def audio(self, k: int) -> bytes:
        start, size = self.places[k]
        with self.path.open("rb") as f:
            f.seek(start)
            return f.read(size)


def block_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.block"


def save_block(path: Path, made: Made) -> None:
    prints = np.stack(made.prints) if made.prints else np.zeros((0, PRINT), dtype=np.float16)
    header: dict[str, Any] = {"rows": made.rows, "rejects": made.rejects, "seconds": dict(made.seconds)}
    text = json.dumps(header | {"sizes": [len(a) for a in made.audio]}, allow_nan=False).encode()
    write_atomic(path, b"".join([_LENGTH.pack(len(text)), text, prints.tobytes(), *made.audio]))


def read_block(path: Path) -> Saved:
    return _read_block(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _read_block(path: Path, _written: int) -> Saved:
    with path.open("rb") as f:
        length = _LENGTH.unpack(f.read(_LENGTH.size))[0]
        header = json.loads(f.read(length))
        sizes = header["sizes"]
        prints = np.frombuffer(f.read(2 * PRINT * len(sizes)), np.float16).reshape(-1, PRINT)
        starts = f.tell() + np.cumsum([0, *sizes])
    places = [(int(a), int(n)) for a, n in zip(starts, sizes, strict=False)]
    return Saved(path, header["rows"], header["rejects"], header["seconds"], prints, places)
