"""What every source of sounds is: something that lists sounds with their labels, and can fetch each."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from audio_vaegan.audio import SUFFIXES, BadAudio
from audio_vaegan.config import Recipe
from audio_vaegan.files import printable, sha256_file

FOREIGN = (".m4a", ".aac", ".wma", ".mp4", ".m4b", ".caf", ".au", ".amr", ".ape", ".wv", ".mka", ".webm", ".ac3")


@dataclass(frozen=True)
class SourceFile:
    """One sound of a source. `name` is its path relative to the source; files of one `group` stay in one split.

    `refused` holds the reason, when the file can be ruled out before it is read. `part` says where in `path` the sound
    lies, for a source whose files hold several.
    """

    source: "Source"
    path: Path
    name: str
    group: str
    labels: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None
    part: tuple[int, ...] = ()


class Source:
    """Where sounds come from. A subclass says what it fits and lists the sounds; it is pickled to other processes."""

    kind: ClassVar[str]

    def __init__(self, root: Path, recipe: Recipe) -> None:
        self.root, self.recipe = root, recipe
        self.real = Path(os.path.realpath(root))  # links followed: tells sources apart, the root gives the names

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Whether a path that exists is a source of this kind."""
        raise NotImplementedError

    def files(self) -> Iterator[SourceFile]:
        """Every file, in any order: also those that cannot be used, with the reason in `refused`."""
        raise NotImplementedError

    def sound(self, file: SourceFile) -> Path | bytes:
        """What can be decoded: a path, or the bytes of a sound file. Raises BadAudio."""
        return file.path

    def digest(self, file: SourceFile) -> str:
        """What changes when the sound changes: sha256 of its bytes. Raises BadAudio."""
        sound = self.sound(file)
        if isinstance(sound, bytes):
            return hashlib.sha256(sound).hexdigest()
        try:
            return sha256_file(sound) if sound.is_file() else ""
        except OSError as e:
            raise BadAudio(f"cannot be opened ({e.strerror})") from None

    def file(self, path: Path, name: str, group: str = "", **more: Any) -> SourceFile:
        """A file of this source; by default a group of its own."""
        return SourceFile(self, path, name, group or name, **more)


def identity(file: SourceFile, digest: str | None) -> str:
    """Names what a file gives to a store: its bytes, group and labels, or why it is refused."""
    known = [digest, file.group, file.labels, file.refused]
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:16]


def refuse(path: Path) -> str | None:
    """Why a file's name rules it out, if it does."""
    if path.name.startswith("."):
        return "a hidden file"
    if path.suffix.lower() in FOREIGN:
        return f"a kind of sound file that is not read (ending {path.suffix}; convert it, for instance with ffmpeg)"
    if path.suffix.lower() not in SUFFIXES:
        return f"not a sound file (ending {printable(path.suffix) or 'missing'})"
    return None
