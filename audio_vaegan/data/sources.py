"""Where sounds come from: a folder of files, or the NSynth layout. A source lists files; it reads no audio."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from audio_vaegan.audio import SUFFIXES
from audio_vaegan.config import DataConfig
from audio_vaegan.data.nsynth import DRUM_BANK
from audio_vaegan.errors import UserError
from audio_vaegan.files import MARK, printable, read_json


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
    """Every file under the given paths, sorted by name. Raises UserError when a path does not exist.

    Several sources are told apart by their own names, and by a number where those are the same.
    """
    files: list[SourceFile] = []
    taken: dict[str, int] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        prefix = ""
        if len(paths) > 1:
            name = printable(path.resolve().name)
            taken[name] = taken.get(name, 0) + 1
            prefix = (name if taken[name] == 1 else f"{name}~{taken[name]}") + "/"
        for file in _source(path):
            files.append(SourceFile(file.path, prefix + file.name, prefix + file.group, file.labels, file.refused))
    files.sort(key=lambda f: f.name)
    return files


def _source(path: Path) -> Iterator[SourceFile]:
    if path.is_file():
        return iter([_plain(path, printable(path.name))])
    return nsynth(path) if (path / "examples.json").is_file() else folder(path)


def _plain(path: Path, name: str) -> SourceFile:
    labels = {"folder": name.split("/")[0]} if "/" in name else {}
    refused = None
    if path.name.startswith("."):
        refused = "a hidden file"
    elif path.suffix.lower() not in SUFFIXES:
        refused = f"not a sound file (ending {printable(path.suffix) or 'missing'})"
    return SourceFile(path, name, name, labels, refused)


def folder(root: Path) -> Iterator[SourceFile]:
    """All files below a folder; each is a group of its own, its top sub-folder a label.

    Folders that are not entered are named as refused: links, hidden ones, unreadable ones, and what this program wrote
    (a store, or generated sounds, must not be taken for recordings).
    """
    blocked: list[OSError] = []
    for base, folders, names in os.walk(root, onerror=blocked.append):
        for name in sorted(names):
            path = Path(base, name)
            yield _plain(path, printable(path.relative_to(root).as_posix()))
        enter = []
        for name in sorted(folders):
            path = Path(base, name)
            reason = None
            if path.is_symlink():
                reason = "a link to a folder (give that folder itself)"
            elif (path / MARK).exists():
                reason = "a folder that audio-vaegan wrote (give that folder itself)"
            elif name.startswith("."):
                reason = "a hidden folder"
            if reason is None:
                enter.append(name)
            else:
                relative = printable(path.relative_to(root).as_posix())
                yield SourceFile(path, relative, relative, {}, reason)
        folders[:] = enter
    for error in blocked:
        path = Path(error.filename)
        relative = printable(path.relative_to(root).as_posix())
        yield SourceFile(path, relative, relative, {}, f"cannot be opened ({error.strerror})")


LABELS = ("instrument_str", "instrument_family_str", "instrument_source_str", "pitch", "velocity")


def choose(file: SourceFile, data: DataConfig) -> SourceFile:
    """The file, refused when its labels are not among those that the recipe keeps."""
    if file.refused:
        return file
    for name, wanted in data.keep.items():
        if file.labels.get(name) not in wanted:
            return replace(file, refused=f"left out by data.keep: {name} is {printable(str(file.labels.get(name)))}")
    low, high = data.keep_pitch
    pitch = file.labels.get("pitch")
    if isinstance(pitch, int | float) and not low <= pitch <= high:
        return replace(file, refused=f"left out by data.keep_pitch: pitch {pitch:g} lies outside {low:g} ... {high:g}")
    return file


def nsynth(root: Path) -> Iterator[SourceFile]:
    """The notes of `examples.json`, with their labels; a group is an instrument, or `split_group` where given.

    A drum kit's key number is no pitch: it is left out of the labels.
    """
    notes = read_json(root / "examples.json", "NSynth layout")
    if not isinstance(notes, dict) or not all(isinstance(n, dict) for n in notes.values()):
        raise UserError(f"{root / 'examples.json'}: expected one object keyed by note name")
    audio = root / "audio"
    there: dict[str, list[Path]] = {}
    for path in sorted(audio.iterdir()) if audio.is_dir() else []:
        there.setdefault(path.stem, []).append(path)
    for name, note in notes.items():
        labels = {k: note.get(k) for k in LABELS}
        if note.get("bank") == DRUM_BANK:
            labels["pitch"] = None
        group = str(note.get("split_group") or note.get("instrument_str") or name)
        found = there.pop(name, [])
        if not found:
            missing = audio / f"{name}.wav"
            yield SourceFile(missing, f"audio/{name}", group, labels, "listed in examples.json, but not in audio/")
        for i, path in enumerate(found):
            refused = None if i == 0 else f"the same note as {printable(found[0].name)}"
            yield SourceFile(path, f"audio/{printable(path.name)}", group, labels, refused)
    for path in (p for paths in there.values() for p in paths):
        name = printable(path.name)
        yield SourceFile(path, f"audio/{name}", name, {}, "not listed in examples.json")
