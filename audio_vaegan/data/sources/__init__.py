"""Where sounds come from. A source lists its files and fetches each; adding one is a class and a place in SOURCES."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from audio_vaegan.config import DataConfig, Recipe
from audio_vaegan.data.labels import among, pitch_label
from audio_vaegan.data.sources.audio_folder import AudioFolder
from audio_vaegan.data.sources.base import Source, SourceFile, identity
from audio_vaegan.data.sources.folder import Folder
from audio_vaegan.data.sources.nsynth import NSynth
from audio_vaegan.data.sources.soundfont import SoundFont
from audio_vaegan.data.sources.webdataset import WebDataset
from audio_vaegan.errors import UserError
from audio_vaegan.files import printable

SOURCES: tuple[type[Source], ...] = (NSynth, AudioFolder, WebDataset, SoundFont, Folder)  # the first that fits

__all__ = ["SOURCES", "Source", "SourceFile", "find", "identity"]


def find(paths: list[Path], recipe: Recipe, leave: Iterable[Path] = ()) -> list[SourceFile]:
    """Every file under the given paths but those in `leave`, sorted by name. Raises UserError for a path that is not.

    The names of the second source and of later ones begin with the source's own name, and a number where that is
    taken: a store of some sources can grow by others.
    """
    files: list[SourceFile] = []
    taken: dict[str, int] = {}
    for number, path in enumerate(paths):
        try:
            there = path.exists()
        except OSError as e:
            raise UserError(f"{printable(path)}: {e.strerror}") from None
        if not there:
            raise UserError(f"{path}: no such file or folder")
        prefix = ""
        single = path.is_file()
        name = printable(Path(os.path.abspath(path)).name)
        taken[name] = taken.get(name, 0) + 1
        if number and not single:
            prefix = (name if taken[name] == 1 else f"{name}~{taken[name]}") + "/"
        source = next(kind for kind in SOURCES if kind.fits(path))(path, recipe)
        left = {path / p.relative_to(source.real) for p in leave if p.is_relative_to(source.real)}
        files += [
            replace(f, name=prefix + f.name, group=prefix + f.group) for f in source.files() if f.path not in left
        ]
    by = recipe.data.group_by
    labels = {name for f in files for name in f.labels}
    if by and by not in labels:
        raise UserError(
            f"data.group_by {by}: no file has that label (labels there: {', '.join(sorted(labels)) or 'none'})"
        )
    files = [_choose(f, recipe.data) for f in files]
    files.sort(key=lambda f: f.name)
    return _distinct(_once(files))


def _choose(file: SourceFile, data: DataConfig) -> SourceFile:
    """The file in the group that the recipe asks for; refused when its labels are not among those that it keeps."""
    if file.refused:
        return file
    if data.group_by and (value := file.labels.get(data.group_by)) is not None:
        file = replace(file, group=f"{data.group_by}={value}")
    for name, wanted in data.keep.items():
        if not among(file.labels.get(name), wanted):
            there = printable(str(file.labels.get(name)))
            return replace(file, refused=f"left out by data.keep, {name} is another ({there})")
    low, high = data.keep_pitch
    pitch = pitch_label(file.labels)
    if pitch is not None and not low <= pitch <= high:
        outside = f"left out by data.keep_pitch, outside MIDI {low:g} ... {high:g}"
        return replace(file, refused=f"{outside} (pitch {pitch:g}; a column of Hz is called pitch_hz)")
    return file


def _once(files: list[SourceFile]) -> list[SourceFile]:
    """A sound that several of the given paths hold counts once."""
    first: dict[Any, SourceFile] = {}
    found = []
    for file in files:
        place = file.source.real, os.path.relpath(file.path, file.source.root)
        other = first.setdefault((os.path.normpath(os.path.join(*place)), file.part), file)
        if other is not file and not file.refused:
            file = replace(file, refused=f"given twice (the other time as {other.name})")
        found.append(file)
    return found


def _distinct(files: list[SourceFile]) -> list[SourceFile]:
    """Names that stand for several sounds (a tar may hold one name twice) get a number."""
    found: list[SourceFile] = []
    names, times = {file.name for file in files}, Counter[str]()
    for file in files:
        name = file.name
        while times[file.name] and name in names:
            times[file.name] += 1
            name = f"{file.name}~{times[file.name]}"
        times[file.name] = times[file.name] or 1
        names.add(name)
        found.append(file if name == file.name else replace(file, name=name))
    return found
