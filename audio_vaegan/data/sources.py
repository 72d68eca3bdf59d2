"""Where sounds come from: a folder of files, or the NSynth layout. A source lists files; it reads no audio."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audio_vaegan.audio import SUFFIXES
from audio_vaegan.errors import UserError
from audio_vaegan.files import MARK, read_json


@dataclass(frozen=True)
class SourceFile:
    """One input file. `name` is its path relative to the source; files of one `group` stay in one split.

    `refused` holds the reason, when the file can be ruled out before it is read.
    """

    path: Path
    name: str
    group: str
    labels: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None


def find(paths: list[Path]) -> list[SourceFile]:
    """Every file under the given paths, sorted by name. Raises UserError when a path does not exist."""
    files: list[SourceFile] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        prefix = f"{path.name}/" if len(paths) > 1 and path.is_dir() else ""
        for file in _source(path):
            files.append(SourceFile(file.path, prefix + file.name, prefix + file.group, file.labels, file.refused))
    files.sort(key=lambda f: f.name)
    return files


def _source(path: Path) -> Iterator[SourceFile]:
    if path.is_file():
        return iter([_plain(path, path.name)])
    return nsynth(path) if (path / "examples.json").is_file() else folder(path)


def _plain(path: Path, name: str) -> SourceFile:
    labels = {"folder": name.split("/")[0]} if "/" in name else {}
    refused = None if path.suffix.lower() in SUFFIXES else f"not a sound file (ending {path.suffix or 'missing'})"
    return SourceFile(path, name, name, labels, refused)


def folder(root: Path) -> Iterator[SourceFile]:
    """All files below a folder; each is a group of its own, its top sub-folder a label.

    Links to folders are named as refused, not followed.
    """
    for base, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(base, name)
            if name != MARK and not name.startswith("."):
                yield _plain(path, path.relative_to(root).as_posix())
        for name in folders:
            path = Path(base, name)
            if path.is_symlink():
                relative = path.relative_to(root).as_posix()
                yield SourceFile(path, relative, relative, {}, "a link to a folder (give that folder itself)")


def nsynth(root: Path) -> Iterator[SourceFile]:
    """The notes of `examples.json`, with their labels; a group is an instrument, or `split_group` where given."""
    notes = read_json(root / "examples.json", "NSynth layout")
    if not isinstance(notes, dict) or not all(isinstance(n, dict) for n in notes.values()):
        raise UserError(f"{root / 'examples.json'}: expected one object keyed by note name")
    audio = root / "audio"
    there = {p.stem: p for p in sorted(audio.iterdir())} if audio.is_dir() else {}
    for name, note in notes.items():
        labels = {k: note.get(k) for k in ("instrument_str", "instrument_family_str", "pitch", "velocity")}
        group = str(note.get("split_group") or note.get("instrument_str") or name)
        path = there.pop(name, None)
        if path is None:
            missing = audio / f"{name}.wav"
            yield SourceFile(missing, f"audio/{name}", group, labels, "listed in examples.json, but not in audio/")
        else:
            yield SourceFile(path, f"audio/{path.name}", group, labels)
    for path in there.values():
        yield SourceFile(path, f"audio/{path.name}", path.stem, {}, "not listed in examples.json")
