"""The AudioFolder layout of Hugging Face datasets: a metadata table beside the sounds, or one for each split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audio_vaegan.data.sources.base import SourceFile
from audio_vaegan.data.sources.folder import Folder, closed, label_tables
from audio_vaegan.data.sources.tables import inside, read_table
from audio_vaegan.files import printable

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}


class AudioFolder(Folder):
    """Files that `metadata.csv`, `.jsonl` or `.parquet` list (column `file_name`, relative to the table), with the
    other columns as labels. The table may stand in the folder, or in sub-folders (one a split); a file of a folder that
    has a table and is not in it is refused, as the loader of datasets leaves it out."""

    kind = "AudioFolder"

    @classmethod
    def fits(cls, root: Path) -> bool:
        return root.is_dir() and bool(_tables(root)) and not label_tables(root)

    def files(self) -> Iterator[SourceFile]:
        found: dict[str, list[SourceFile]] = {}  # names may print alike
        for file in self.walk():
            found.setdefault(file.name, []).append(file)
        tables = _tables(self.root)
        covered = []
        for table in tables:
            beside = self.relative(table.parent)
            prefix = "" if beside == "." else beside + "/"
            covered.append(prefix)
            rows = read_table(table)
            yield self.file(table, prefix + table.name, refused=f"a table of labels ({len(rows)} rows)")
            found[prefix + table.name] = [f for f in found.get(prefix + table.name, []) if f.path != table]
            seen: set[str] = set()
            for written, labels in rows:
                place = inside(written)
                fits = found.get(prefix + place, []) if place and place not in seen else []
                if place and fits:
                    seen.add(place)
                    listed = fits.pop(0)
                    yield self.file(listed.path, listed.name, labels=_labels(listed, labels), refused=listed.refused)
                    continue
                reason = "listed, but there is no such file" if place else "listed outside the folder of its table"
                reason = "listed twice; the first row counts" if place in seen else reason
                shown = f"{prefix}{table.name}: {printable(written) or '(empty)'}"
                yield self.file(table.parent / "missing", shown, refused=reason)
        for file in (file for files in found.values() for file in files):
            missing = any(file.name.startswith(p) for p in covered)
            unlisted = f"not listed in {tables[0].name}" if missing else None
            yield self.file(file.path, file.name, labels=_labels(file, {}), refused=file.refused or unlisted)


def _tables(root: Path) -> list[Path]:
    """The metadata tables: the one of the folder, else those of its sub-folders."""
    here = [root / name for name in METADATA if (root / name).is_file()]
    try:
        folders = [p for p in sorted(root.iterdir()) if p.is_dir() and closed(p) is None]
        below = [p / name for p in folders for name in METADATA if (p / name).is_file()]
    except OSError:
        below = []
    return here[:1] or below


def _labels(file: SourceFile, labels: dict[str, Any]) -> dict[str, Any]:
    """The table's labels; a first folder that names a split is the label `split`, and no class."""
    places = dict(file.labels)
    if places.get("folder") in SPLITS:
        places["split"] = SPLITS[places.pop("folder")]
    return places | labels
