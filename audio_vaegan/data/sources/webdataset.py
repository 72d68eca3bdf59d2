"""WebDataset: tar files whose members KEY.wav, KEY.json, KEY.cls ... make one sample each."""

import json
import tarfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from audio_vaegan.audio import BadAudio
from audio_vaegan.data.sources.base import Source, SourceFile, refuse
from audio_vaegan.data.sources.tables import clean
from audio_vaegan.files import printable

LABELS = (".json", ".cls", ".txt")
MOST_LABEL_BYTES = 1 << 20


class WebDataset(Source):
    """A tar, or a folder of nothing but tars. A sample's labels are the object in KEY.json, the number or word in
    KEY.cls (`class`) and the text in KEY.txt (`text`). Members are read where they lie; nothing is unpacked."""

    kind = "WebDataset"

    @classmethod
    def fits(cls, root: Path) -> bool:
        if root.is_dir():
            there = [p for p in root.iterdir() if not p.name.startswith(".")]
            return bool(there) and all(p.is_file() and _tar(p) for p in there)
        return _tar(root)

    def files(self) -> Iterator[SourceFile]:
        if self.root.is_file():
            yield from self._members(self.root, "")
            return
        for path in sorted(self.root.iterdir()):
            name = printable(path.name)
            if not _tar(path):
                yield self.file(path, name, refused="not a tar file")
            elif path.suffix.lower() != ".tar":
                yield self.file(path, name, refused="a compressed tar cannot be read at random; unpack it (gunzip)")
            else:
                yield from self._members(path, name + "/")

    def _members(self, path: Path, prefix: str) -> Iterator[SourceFile]:
        """The samples of a tar, or of several that were joined end to end; a sample lies within one of them."""
        start: int | None = 0
        while start is not None:
            start = yield from self._joined(path, prefix, start)

    def _joined(self, path: Path, prefix: str, start: int) -> Generator[SourceFile, None, int | None]:
        """The samples of the tar that begins at byte `start`. Returns where the next one does."""
        sounds: list[tuple[str, str, tuple[int, int]]] = []
        labels: dict[str, dict[str, Any]] = {}
        following = None
        try:
            end, there = start, path.stat().st_size
            with path.open("rb") as f:
                f.seek(start)
                with tarfile.open(fileobj=f, mode="r:") as tar:
                    for member in tar:
                        end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                        name = prefix + printable(member.name)
                        key, ending = _split(name)
                        if member.isdir():
                            continue
                        if not 0 <= member.size <= there - member.offset_data:
                            raise tarfile.ReadError(f"{printable(member.name)} is not whole")
                        if not member.isfile() or member.issparse():
                            yield self.file(path, name, refused="not a regular member of its tar")
                        elif ending in LABELS:
                            found = _read_labels(tar, member, ending)
                            if found is None:
                                yield self.file(path, name, refused="labels that cannot be read as a JSON object")
                            labels.setdefault(key, {}).update(found or {})
                        elif reason := refuse(Path(name)):
                            yield self.file(path, name, refused=reason)
                        else:
                            sounds.append((name, key, (member.offset_data, member.size)))
            if _breaks_off(path, end):
                raise tarfile.ReadError("its last part is missing")
            following = _following(path, end)
        except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError) as e:
            yield self.file(path, prefix or printable(path.name), refused=f"the tar breaks off, or is none ({e})")
        for name, key, part in sounds:
            yield self.file(path, name, labels=labels.get(key, {}), part=part)
        for key in sorted(set(labels) - {key for _, key, _ in sounds}):
            yield self.file(path, key, refused="labels without a sound")
        return following

    def sound(self, file: SourceFile) -> bytes:
        offset, size = file.part
        try:
            with file.path.open("rb") as f:
                f.seek(offset)
                data = f.read(size)
        except OSError as e:
            raise BadAudio(f"cannot be opened ({e.strerror})") from None
        return data


def _tar(path: Path) -> bool:
    return path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"))


def _breaks_off(path: Path, end: int) -> bool:
    """Whether something else than the empty block that closes a tar follows its last member; tarfile does not tell."""
    with path.open("rb") as f:
        size = f.seek(0, 2)
        f.seek(min(end, size))
        block = f.read(tarfile.BLOCKSIZE)
    return size < end or (bool(block) and block != bytes(tarfile.BLOCKSIZE))


def _following(path: Path, end: int) -> int | None:
    """Where another tar begins behind the zeros that close one; None where there is nothing else."""
    with path.open("rb") as f:
        f.seek(end)
        while piece := f.read(1 << 20):
            if rest := piece.lstrip(b"\0"):
                found = f.tell() - len(rest)
                return end + (found - end) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
    return None


def _split(name: str) -> tuple[str, str]:
    """The key (up to the first dot of the last part of the name), and the ending."""
    folder, slash, base = name.rpartition("/")
    key, _, ending = base.partition(".")
    return folder + slash + key, "." + ending.lower()


def _read_labels(tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str) -> dict[str, Any] | None:
    stream = tar.extractfile(member)
    text = (stream.read(MOST_LABEL_BYTES) if stream else b"").decode("utf-8", "replace").strip()
    if ending != ".json":
        return clean({"class" if ending == ".cls" else "text": text})
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return clean(found)
