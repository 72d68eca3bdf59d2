"""Any folder of sound files, nested or not, with a table of labels beside them or without; or a single file."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audio_vaegan.data.sources.base import Source, SourceFile, refuse
from audio_vaegan.data.sources.tables import ENDINGS, inside, read_table
from audio_vaegan.errors import UserError
from audio_vaegan.files import MARK, printable


class Folder(Source):
    """All files below a folder. Labels: the top sub-folder (`folder`), the file's own one where that is another
    (`subfolder`), and the columns of `labels.csv` in the folder, or of NAME.csv beside the folder NAME.

    A table names files by their path, or by their name alone where that is unambiguous, with or without the ending.
    """

    kind = "folder"

    @classmethod
    def fits(cls, root: Path) -> bool:
        return True

    def files(self) -> Iterator[SourceFile]:
        if not self.root.is_dir():
            yield self.file(self.root, printable(self.root.name), refused=refuse(self.root))
            return
        found = list(self.walk())
        table = self.table()
        if table is None:
            yield from found
            return
        rows = read_table(table)
        labels, lost = _match([f.name for f in found if not f.refused], rows)
        for file in found:
            if file.path == table:
                yield self.file(file.path, file.name, refused=f"a table of labels ({len(rows)} rows)")
            else:
                yield self.file(
                    file.path, file.name, labels=file.labels | labels.get(file.name, {}), refused=file.refused
                )
        for written, why in lost:
            shown = printable(written) or "(empty)"
            yield self.file(self.root / "missing", f"{table.name}: {shown}", refused=why)

    def table(self) -> Path | None:
        """The table of labels, if there is one. Raises UserError when there are several."""
        there = label_tables(self.root)
        if len(there) > 1:
            raise UserError(f"{self.root}: {there[0].name} and {there[1].name} both hold labels; keep one of them")
        return there[0] if there else None

    def walk(self) -> Iterator[SourceFile]:
        """Every file, by name alone. Folders that are not entered are named as refused: links, hidden ones, unreadable
        ones, and what this program wrote (a store, or generated sounds, must not be taken for recordings)."""
        blocked: list[OSError] = []
        for base, folders, names in os.walk(self.root, onerror=blocked.append):
            for name in sorted(names):
                path = Path(base, name)
                relative = self.relative(path)
                yield self.file(path, relative, labels=_places(relative), refused=refuse(path))
            enter = []
            for name in sorted(folders):
                path = Path(base, name)
                reason = closed(path)
                if reason is None:
                    enter.append(name)
                else:
                    yield self.file(path, self.relative(path), refused=reason)
            folders[:] = enter
        for error in blocked:
            path = Path(error.filename)
            yield self.file(path, self.relative(path), refused=f"cannot be opened ({error.strerror})")

    def relative(self, path: Path) -> str:
        return printable(path.relative_to(self.root).as_posix())


def label_tables(root: Path) -> list[Path]:
    """`labels.csv` and its like in a folder, and NAME.csv and its like beside it, or beside the folder that a link
    leads to."""
    places = [root / f"labels{e}" for e in ENDINGS]
    for named in dict.fromkeys((Path(os.path.abspath(root)), Path(os.path.realpath(root)))):
        places += [named.with_name(named.name + e) for e in ENDINGS if named.name]
    return [p for p in places if p.is_file()]


def closed(path: Path) -> str | None:
    """Why a folder is not entered, if it is not."""
    if path.is_symlink():
        return "a link to a folder (give that folder itself)"
    try:
        if (path / MARK).exists():
            return "a folder that audio-vaegan wrote (give that folder itself)"
    except OSError as e:
        return f"cannot be opened ({e.strerror})"
    return "a hidden folder" if path.name.startswith(".") else None


def _places(name: str) -> dict[str, Any]:
    """The labels that a path gives."""
    top, *between = name.split("/")[:-1] or [""]
    return ({"folder": top} if top else {}) | ({"subfolder": between[-1]} if between else {})


def _match(
    names: list[str], rows: list[tuple[str, dict[str, Any]]]
) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str]]]:
    """Labels by file, and the rows that fit no file, with the reason."""
    by: dict[str, list[str]] = {}
    for name in names:
        base = name.rsplit("/", 1)[-1]
        for short in {name, name.rsplit(".", 1)[0], base, base.rsplit(".", 1)[0]}:
            by.setdefault(short, []).append(name)
    labels: dict[str, dict[str, Any]] = {}
    lost = []
    for written, row in rows:
        key = inside(written)
        fits = by.get(key or "", [])
        if key is not None and key in fits:
            fits = [key]
        if key is None:
            lost.append((written, "listed outside the folder of its table, or without a name"))
        elif not fits:
            lost.append((written, "listed, but there is no such sound file"))
        elif len(fits) > 1:
            lost.append((written, f"listed, but several files bear that name ({len(fits)}; give their paths)"))
        elif fits[0] in labels:
            lost.append((written, "listed twice; the first row counts"))
        else:
            labels[fits[0]] = row
    return labels, lost
