"""Writing files so that nothing is ever half written, and nothing of the user's is lost."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from audio_vaegan.errors import UserError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

MARK = ".audio-vaegan"  # a folder that holds this file was written by this program; its first word is the kind


def sha256_file(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_bytes(path: Path, limit: int = 2**32) -> bytes:
    """The bytes of a file. Raises ValueError where there are more than `limit`."""
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"{path.name} has {size / 2**20:.0f} MiB, no such file has more than {limit / 2**20:.0f}")
    return path.read_bytes()


def fsync_tree(folder: Path) -> None:
    """Force every file of a folder, and the folder itself, to the disk."""
    for path in [*folder.rglob("*"), folder]:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_atomic(path: Path, data: bytes | memoryview | str) -> None:
    """Write a file whole or not at all: temporary file, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as f:
            f.write(data.encode() if isinstance(data, str) else data)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    except OSError as e:
        with suppress(OSError):
            temporary.unlink()
        raise OSError(e.errno, e.strerror, str(path)) from None


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, what: str, limit: int = 2**30) -> Any:
    """Read a JSON file. Raises UserError that names `what` when it is missing, broken, or larger than `limit` bytes."""
    try:
        size = path.stat().st_size
        if size > limit:
            raise UserError(f"{what}: {path} is too large to be one ({size / 2**20:.0f} MiB)")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{what}: no such file: {path}") from None
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{what}: {path} cannot be read as JSON ({e})") from None


@contextmanager
def new_folder(path: Path, kind: str, overwrite: bool = False) -> Iterator[Path]:
    """A folder that appears whole or not at all: filled under a temporary name, then renamed to `path`.

    An existing `path` is replaced when it is empty, or with `overwrite` when this program wrote the same kind of
    folder there; anything else is a UserError and stays untouched.
    """
    path = path.resolve()
    recover(path, kind)
    check_out_folder(path, kind, overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    discard(temporary)
    try:
        temporary.mkdir(parents=True)
        mark(temporary, kind)
    except OSError as e:
        raise UserError(f"--out {path}: cannot be made ({e.strerror}); choose another folder") from None
    try:
        yield temporary
        mark(temporary, kind)
        fsync_tree(temporary)
        replace_folder(temporary, path)
    finally:
        discard(temporary)


def work_folder(path: Path, kind: str) -> None:
    """A folder that one command fills step by step, and goes on with when it is given again. Raises UserError where
    another kind of folder, or files of the user's, stand there. Nothing replaces such a folder as a whole."""
    if not (path / MARK).exists():
        check_out_folder(path, kind)
    elif kind_of(path) != kind:
        raise UserError(f"--out {path}: a folder of another kind ({kind_of(path)}, not {kind}); choose another name")
    else:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"--out {path}: cannot be made ({e.strerror}); choose another folder") from None
    mark(path, kind)


def mark(folder: Path, kind: str) -> None:
    """Say in the folder that this program wrote it, what it is (store, run, bundle, sounds, notes, report), and which
    files it wrote: only those may be replaced."""
    write_atomic(folder / MARK, "\n".join([kind, *_contents(folder)]) + "\n")


def _contents(folder: Path) -> list[str]:
    return sorted(
        printable(p.relative_to(folder))
        for p in folder.rglob("*")
        if p.name != MARK and (p.is_symlink() or not p.is_dir())
    )


def replace_folder(new: Path, path: Path) -> None:
    """Put `new` in the place of `path`; the old one is set aside first and removed last."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.exists():
        path.replace(old)
    new.replace(path)
    discard(old)


def discard(folder: Path) -> None:
    """Remove a folder that this program wrote. Its mark goes last: a kill leaves what is known to be ours."""
    with suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != MARK:
                entry.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def recover(path: Path, *kinds: str) -> None:
    """Mend what a kill left beside `path`: put back a folder of one of these kinds that `replace_folder` had set aside,
    remove what was half written. What another process is at work on stays."""
    old = [p for p in _left(path, "old") if kind_of(p) in kinds]
    for folder in sorted(old, key=lambda p: p.stat().st_mtime_ns, reverse=True):
        if path.exists():
            discard(folder)
        else:
            folder.replace(path)
    for folder in _left(path, "partial"):
        sweep(folder, MARK)
        if kind_of(folder) in kinds or not any(folder.iterdir()):
            discard(folder)


def _left(path: Path, ending: str) -> list[Path]:
    """Folders `.NAME.PID.ending` beside `path` whose process has ended."""
    name = re.compile(rf"\.{re.escape(path.name)}\.([0-9]{{1,9}})\.{ending}")
    found = []
    for p in path.parent.glob(f".*.{ending}"):
        match = name.fullmatch(p.name)
        if match and not p.is_symlink() and p.is_dir() and _ended(int(match[1])):
            found.append(p)
    return found


def sweep(folder: Path, name: str = "*") -> None:
    """Remove the temporary files of `write_atomic` that a kill left in a folder of ours; of the file `name` alone where
    it may be another's."""
    for p in folder.glob(f".{name}.*.tmp"):
        match = re.fullmatch(r"\..*\.([0-9]{1,9})\.tmp", p.name)
        if match and _ended(int(match[1])):
            p.unlink(missing_ok=True)


def _ended(pid: int) -> bool:
    """Whether there is no such process, or it is this one, which has finished what it wrote before."""
    return pid == os.getpid() or not psutil.pid_exists(pid)


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Let one process at a time of a user work on `path`; its end, of whatever kind, lets go. The others get a
    UserError. The lock is a file among the system's temporary ones, and stays there."""
    if fcntl is None:  # a system without such locks
        yield
        return
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:24]
    lock = Path(tempfile.gettempdir()) / f"audio-vaegan-{os.getuid()}-{name}.lock"
    try:
        f = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise UserError(f"{lock}: cannot be made ({e.strerror})") from None
    try:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"--out {path}: another {what} is at work there; wait for it, or stop it") from None
        yield
    finally:
        os.close(f)


def kind_of(folder: Path) -> str | None:
    """What this program wrote a folder as, None where it did not."""
    try:
        words = (folder / MARK).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return words[0] if words else ""


def foreign(folder: Path) -> list[str]:
    """Files in a folder that this program wrote, which it did not write."""
    written = set((folder / MARK).read_text(encoding="utf-8", errors="replace").splitlines()[1:])
    return [name for name in _contents(folder) if name not in written]


def check_out_folder(path: Path, kind: str, overwrite: bool = False) -> None:
    """Raise UserError unless the folder `path` may be written as a whole, as a folder of this kind."""
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"--out {path}: a file of that name exists; choose another name")
    sweep(path, MARK)
    if not any(path.iterdir()):
        return
    if not (path / MARK).exists():
        raise UserError(f"--out {path}: the folder holds files that audio-vaegan did not write; choose an empty one")
    there = kind_of(path)
    if there != kind:
        raise UserError(f"--out {path}: a folder of another kind ({there}, not {kind}); choose another name")
    strange = foreign(path) if overwrite else []
    if strange:
        raise UserError(f"--out {path}: holds {strange[0]!r}, which audio-vaegan did not write; move it away first")
    if not overwrite:
        raise UserError(f"--out {path}: already written; add --overwrite to replace it, or choose another name")


def check_out_sound(out: Path, sound: Path, overwrite: bool) -> None:
    """Refuse an --out that cannot be a WAV file made of the file `sound`: in one line, before any work."""
    if out.suffix.lower() != ".wav":
        raise UserError(f"--out {out}: give a name that ends in .wav")
    if out.exists() and out.resolve() == sound.resolve():
        raise UserError(f"--out {out}: that is the input, which is never written over; choose another name")
    if out.is_dir():
        raise UserError(f"--out {out}: a folder of that name exists; choose another name")
    if out.exists() and not overwrite:
        raise UserError(f"--out {out}: exists; choose another name, or add --overwrite")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")


def printable(path: Path | str) -> str:
    """A path as text that can always be written as UTF-8; bytes of another encoding show as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def share(name: str) -> Path:
    """The folder `recipes` or `demo`: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).parent
    inside = package / "_share" / name
    return inside if inside.exists() else package.parent / name
