"""Files -> store. Every input file is accounted for; a killed run goes on by the same command.

Work is done in chunks of files, by several processes. A chunk's clips and rows are written, whole or not at all, into a
hidden folder beside the store; the last step (`assemble.py`) makes the store of them and renames the folder.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audio_vaegan.audio import SUFFIXES, BadAudio
from audio_vaegan.config import Recipe, Section
from audio_vaegan.data.assemble import assemble
from audio_vaegan.data.chunk import Chunk, process_all
from audio_vaegan.data.page import write_page
from audio_vaegan.data.sources import SourceFile, find, identity
from audio_vaegan.data.store import VERSION, Store
from audio_vaegan.data.summary import kind, summarise
from audio_vaegan.errors import UserError
from audio_vaegan.files import (
    MARK,
    alone,
    check_out_folder,
    discard,
    foreign,
    fsync_tree,
    kind_of,
    mark,
    new_folder,
    printable,
    read_json,
    recover,
    replace_folder,
    sweep,
    write_atomic,
    write_json,
)

FILES_A_CHUNK = 256
BYTES_A_CHUNK = 64 * 2**20  # of files; a chunk ends with the file that reaches it
CHUNK_FILES = ("part-*.json", "clips-*.npy", "prints-*-*.npy")
STORE_FILES = ("shard-*.npy", "prints-?????.npy", "items.parquet", "store.json", "report.json", "report.html")


@dataclass(frozen=True)
class Team:
    """Processes of one launch that prepare one store together: each does every so many-th chunk, the first the rest."""

    rank: int = 0
    size: int = 1
    wait: Callable[[], None] = lambda: None  # until all have come this far


def prepare(
    paths: list[Path],
    recipe: Recipe,
    out: Path,
    overwrite: bool = False,
    *,
    dry_run: bool = False,
    workers: int | None = None,
    team: Team = Team(),
) -> dict[str, Any] | None:
    """Make the store `out`, or let it grow by the files that it does not hold yet. Returns the report's summary, with
    the seconds of each stage; None on all processes of a team but the first.

    A store that is up to date is not touched. With `dry_run` there is no store, but the report, in OUT.report.
    Raises UserError when nothing is usable, or when `out` holds something else.
    """
    paths, out = [_named(p) for p in paths], out.resolve()
    if out.parent == out or out == Path.cwd():
        raise UserError(f"--out {out}: is no new folder; give it a name of its own")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: a file of that name exists; choose another name")
    if printable(out) != str(out):
        raise UserError(f"--out {printable(out)}: its name is not written in UTF-8; choose another")
    if team.rank:
        _prepare(paths, recipe, out, overwrite, dry_run, workers, team)
        return None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"--out {out}: cannot be made ({e.strerror}); choose another folder") from None
    with alone(out, "prepare"):
        return _prepare(paths, recipe, out, overwrite, dry_run, workers, team)


def _prepare(
    paths: list[Path], recipe: Recipe, out: Path, overwrite: bool, dry_run: bool, workers: int | None, team: Team
) -> dict[str, Any] | None:
    workers = workers or max(1, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    names = (f".{out.name}.dry-run", f".{out.name}.partial", f"{out.name}.report")
    beside = [out.with_name(name) for name in names]
    work, place = beside[0 if dry_run else 1], beside[2]
    files = find(paths, recipe, leave={out, *beside})
    made_by = _made_by(recipe)
    if team.rank == 0:
        recover(out, "store")
    team.wait()
    old = None if overwrite else _store_to_grow(out, recipe, dry_run)
    if dry_run:
        check_out_folder(place, "report", overwrite=True)
    elif not old:
        check_out_folder(out, "store", overwrite)
    report = old.report() if old else {"files": []}
    before = {f["file"]: f for f in report["files"]}
    if team.rank == 0:
        _unchanged(files, before, out, workers)
    added = [f for f in files if f.name not in before]
    new = [f for f in files if not before.get(f.name, {}).get("used")]  # what was dropped is looked at anew
    if old and not dry_run and not added and _as_they_were(new, before, workers):
        return report["summary"] | {"up_to_date": True}

    if old and not dry_run and (strange := foreign(out)):
        raise UserError(f"--out {out}: holds {strange[0]!r}, which audio-vaegan did not write; move it away first")
    chunks = list(_chunks(new, made_by, work))
    if team.rank == 0:
        _begin(work, chunks, made_by)
    team.wait()
    process_all(chunks[team.rank :: team.size], recipe, workers)
    team.wait()
    if team.rank:
        return None
    found = assemble(work, chunks, recipe, {"made_by": made_by, "recipe": _recipe(recipe)}, old)
    if not any(f["used"] for f in found["files"]):
        discard(work)
        raise UserError(_nothing_usable(found["files"], paths))
    seconds = found.pop("seconds")
    summary = _report(work, recipe, **found)
    if dry_run:
        with new_folder(place, "report", overwrite=True) as folder:
            for name in ("report.json", "report.html"):
                (work / name).replace(folder / name)
        discard(work)
    else:
        _clear(work, ("plan", *CHUNK_FILES))
        mark(work, "store")
        fsync_tree(work)
        replace_folder(work, out)
        Store(out)
    return summary | {"stages": seconds, "added": len(added) if old else None}


def _report(
    work: Path, recipe: Recipe, files: list[dict[str, Any]], duplicates: dict[str, list[list[str]]]
) -> dict[str, Any]:
    """Write report.json and report.html. Returns the summary."""
    store = Store(work)
    summary = summarise(files, duplicates, store, recipe.data)
    write_json(work / "report.json", {"summary": summary, "duplicates": duplicates, "files": files})
    write_page(work / "report.html", summary, files, store.items, store.sample_rate)
    return summary


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _made_by(recipe: Recipe) -> str:
    """How a store is made, as one hash."""
    return hashlib.sha256(json.dumps([VERSION, _recipe(recipe)], sort_keys=True).encode()).hexdigest()


def _store_to_grow(out: Path, recipe: Recipe, dry_run: bool) -> Store | None:
    """The store that is there, if it is whole and was made in the same way. Another one is a UserError, but for a dry
    run."""
    if not (out / "store.json").is_file():
        return None
    try:
        store = Store(out)
    except UserError as e:
        raise UserError(f"{e} with --overwrite") from None
    if store.made_by == _made_by(recipe):
        return store
    if dry_run:
        return None
    now = _recipe(recipe)
    then = read_json(out / "store.json", "store").get("recipe", {})
    differ = [f"{key}: {then.get(key)} != {value}" for key, value in now.items() if then.get(key) != value]
    raise UserError(
        f"--out {out}: a store made by another recipe ({'; '.join(differ)[:300] or 'of another version'}); add "
        "--overwrite to make it anew, or choose another name"
    )


def _recipe(recipe: Recipe) -> dict[str, Any]:
    """The part of the recipe that a store depends on, by dotted names."""
    return {"seed": recipe.seed, **_dotted("mel", recipe.mel), **_dotted("data", recipe.data)}


def _dotted(name: str, section: Section) -> dict[str, Any]:
    return {f"{name}.{key}": value for key, value in section.model_dump(mode="json").items()}


def _unchanged(files: list[SourceFile], before: dict[str, dict[str, Any]], out: Path, workers: int) -> None:
    """Raise UserError unless every file that the store holds is there, as it was."""
    used = {name for name, entry in before.items() if entry["used"]}
    gone = sorted(used - {f.name for f in files})
    there = [f for f in files if f.name in used]
    changed = [f.name for f, key in zip(there, _keys(there, workers), strict=True) if key != before[f.name]["key"]]
    for what, names in (("gone", gone), ("changed", changed)):
        if names:
            raise UserError(
                f"--out {out}: {len(names)} of its files have {what} since ({names[0]}"
                f"{', ...' if names[1:] else ''}; several sources must come in the order of before); add --overwrite "
                "to make the store anew, or choose another name"
            )


def _as_they_were(files: list[SourceFile], before: dict[str, dict[str, Any]], workers: int) -> bool:
    """Whether the files that were dropped are all there, and would be dropped again."""
    dropped = {name: entry["key"] for name, entry in before.items() if not entry["used"]}
    return dict(zip((f.name for f in files), _keys(files, workers), strict=True)) == dropped


def _keys(files: list[SourceFile], workers: int) -> list[str]:
    with ThreadPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(_identity, files), total=len(files), desc="compare", unit="file", delay=2))


def _named(path: Path) -> Path:
    """A source's path with its own name, which may be a link's; what leads there is followed."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def _identity(file: SourceFile) -> str:
    try:
        return identity(file, None if file.refused else file.source.digest(file))
    except BadAudio:
        return identity(file, None)


def _chunks(files: list[SourceFile], made_by: str, work: Path) -> Iterator[Chunk]:
    """The files in chunks; which ones depends on their names and sizes alone, the keys also on where they lie."""
    number, size, some, about = 0, 0, [], hashlib.sha256(made_by.encode())
    for i, file in enumerate(files):
        stat = None
        if not file.refused:
            try:
                stat = file.path.stat()
            except OSError:
                stat = None
        seen = (stat.st_size, stat.st_mtime_ns) if stat else None
        what = (file.source.real, file.name, file.group, file.labels, file.refused, file.part, seen)
        about.update(repr(what).encode())
        some.append(file)
        size += file.part[1] if len(file.part) == 2 else 0 if file.part else stat.st_size if stat else 0
        if len(some) == FILES_A_CHUNK or size >= BYTES_A_CHUNK or i == len(files) - 1:
            yield Chunk(number, about.hexdigest(), tuple(some), size, work)
            number, size, some, about = number + 1, 0, [], hashlib.sha256(made_by.encode())


def _begin(work: Path, chunks: list[Chunk], made_by: str) -> None:
    """Make the hidden folder; what an earlier run left there is kept where it fits."""
    if work.is_dir() and not work.is_symlink():
        sweep(work, MARK)
    if work.is_symlink() or (work.exists() and (not work.is_dir() or any(work.iterdir()))):
        known = {p for pattern in (MARK, "plan", ".*.tmp", *CHUNK_FILES, *STORE_FILES) for p in work.glob(pattern)}
        if work.is_symlink() or kind_of(work) != "store" or set(work.iterdir()) - known:
            raise UserError(f"{work}: what audio-vaegan did not write is in the way; move it")
        if not (work / "plan").is_file() or (work / "plan").read_text() != made_by:
            discard(work)
        elif any(p not in {c.part for c in chunks} for p in work.glob("part-*.json")):
            discard(work)  # of a larger folder; what its chunks held is not known
        else:
            _clear(work, (".*.tmp", *STORE_FILES))
    work.mkdir(parents=True, exist_ok=True)
    mark(work, "store")
    write_atomic(work / "plan", made_by)


def _clear(folder: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()


def _nothing_usable(files: list[dict[str, Any]], paths: list[Path]) -> str:
    where = ", ".join(map(str, paths))
    if not files:
        return f"{where}: no files there; looked for {' '.join(SUFFIXES)}"
    reasons = Counter(kind(f["reason"]) for f in files).most_common(3)
    seen = ", ".join(f"{count} {reason}" for reason, count in reasons)
    return (
        f"{where}: none of {len(files)} files is usable (looked for {' '.join(SUFFIXES)}; found: {seen}); "
        f"the first, {files[0]['file']}: {files[0]['reason']}"
    )
