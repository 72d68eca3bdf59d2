"""The NSynth layout as a source."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audio_vaegan.data.nsynth import DRUM_BANK
from audio_vaegan.data.sources.base import Source, SourceFile, refuse
from audio_vaegan.data.sources.folder import Folder
from audio_vaegan.data.sources.tables import clean, text
from audio_vaegan.errors import UserError
from audio_vaegan.files import printable, read_json


class NSynth(Source):
    """The notes of `examples.json`, with their labels; a group is an instrument, or `split_group` where given.

    A drum kit's key number is no pitch: it is left out of the labels.
    """

    kind = "NSynth"
    labels = (
        "instrument_str", "instrument_family_str", "instrument_source_str", "pitch", "velocity",
        "program", "drum_str",
    )  # fmt: skip

    @classmethod
    def fits(cls, root: Path) -> bool:
        return (root / "examples.json").is_file()

    def files(self) -> Iterator[SourceFile]:
        index = self.root / "examples.json"
        notes = read_json(index, "NSynth layout")
        if not isinstance(notes, dict) or not all(isinstance(n, dict) for n in notes.values()):
            raise UserError(f"{index}: expected one object keyed by note name")
        audio = self.root / "audio"
        there: dict[str, list[Path]] = {}
        listed = sorted(audio.iterdir()) if audio.is_dir() else []
        for path in sorted(listed, key=lambda p: refuse(p) is not None):  # a sound before what lies beside it
            there.setdefault(path.stem, []).append(path)
        for name, note in notes.items():
            labels = self.labels_of(note)
            name = text(name)
            group = text(note.get("split_group") or note.get("instrument_str") or _number(note) or name)
            found = there.pop(name, [])
            if not found:
                missing = "listed in examples.json, but not in audio/"
                yield self.file(audio / f"{name}.wav", f"audio/{name}", group, labels=labels, refused=missing)
            for i, path in enumerate(found):
                refused = (
                    None if i == 0 else refuse(path) or f"another file of the same note ({printable(found[0].name)})"
                )
                yield self.file(path, f"audio/{printable(path.name)}", group, labels=labels, refused=refused)
        for path in (p for paths in there.values() for p in paths):
            yield self.file(path, f"audio/{printable(path.name)}", refused="not listed in examples.json")
        for file in Folder(self.root, self.recipe).walk():
            if file.path == index:
                yield self.file(index, file.name, refused=f"a table of labels ({len(notes)} rows)")
            elif file.path.parent != audio:
                yield self.file(file.path, file.name, refused=file.refused or "not in audio/")

    @classmethod
    def labels_of(cls, note: dict[str, Any]) -> dict[str, Any]:
        labels = {k: note.get(k) for k in cls.labels}
        qualities = note.get("qualities_str")
        if isinstance(qualities, list):
            labels["qualities"] = ",".join(map(str, qualities))
        if note.get("bank") == DRUM_BANK:
            labels["pitch"] = None
        return clean(labels)


def _number(note: dict[str, Any]) -> str | None:
    """What stands for the name of an instrument that has a number alone."""
    number = note.get("instrument")
    return f"instrument {number}" if isinstance(number, int) and not isinstance(number, bool) else None
