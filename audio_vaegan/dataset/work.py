"""A data set from its spec: blocks by one process or many, whatever was killed in between, then the layout.

OUT/.work/job.json       what is being made; the same command goes on with it
         blocks/*.block  sounds that are done
         final/          the finished data set, before it is put in its place
"""

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from audio_vaegan.audio import decode
from audio_vaegan.data.duplicates import PRINT, same_sounds
from audio_vaegan.data.pool import share_out
from audio_vaegan.dataset.blocks import block_path, read_block, save_block
from audio_vaegan.dataset.facts import Row
from audio_vaegan.dataset.finish import Finished, check_ours, publish, write_final
from audio_vaegan.dataset.make import DRAWS, Maker
from audio_vaegan.dataset.plan import Block, Plan, Source
from audio_vaegan.dataset.spec import Spec, load_spec
from audio_vaegan.errors import UserError
from audio_vaegan.files import (
    alone,
    check_out_folder,
    discard,
    kind_of,
    mark,
    printable,
    read_json,
    recover,
    sha256_file,
    sweep,
    write_json,
)
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.threads import one_thread
from audio_vaegan.version import __version__

KIND, UNFINISHED = "dataset", "unfinished-dataset"
TURNS = 100  # at most so often all that is missing is tried
WORTH = 0.05  # a turn that brings less than this share of what was missing is in vain
IN_VAIN = 0.02  # of all sounds: so many may be tried in vain


@dataclass(frozen=True)
class Team:
    """The processes of a launch that make one data set together."""

    rank: int = 0
    size: int = 1
    wait: Callable[[], Any] = lambda: None  # for all of them


def make_dataset(
    path: Path,
    spec_path: Path,
    out: Path,
    *,
    seed: int | None = None,
    processes: int = 1,
    device: str = "cpu",
    vocoder: str = "auto",
    overwrite: bool = False,
    team: Team | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Make the data set of a spec in the folder `out`. Returns how many sounds were delivered.

    The same command goes on with what was interrupted. Raises UserError for a spec that the model cannot make, and for
    a folder that holds anything else.
    """
    team = team or Team()
    plan = planned(path, spec_path, seed, device, vocoder)
    out = out.resolve()
    job, opened = _job(plan), (path, plan.spec, plan.sources, device, vocoder)
    with one_thread():
        if team.rank:
            team.wait()
            if kind_of(out) == UNFINISHED:  # else it is there already
                _Work(plan, out, job, team, 1, _nothing).run(opened)
            return 0
        with alone(out, "data set"):
            if _begin(out, job, overwrite):
                say(f"{out}: this data set is there already; add --overwrite to make it again")
                team.wait()
                return 0
            team.wait()
            return _Work(plan, out, job, team, processes, say).run(opened)


def _nothing(*_: Any) -> None:
    return None


def planned(path: Path, spec_path: Path, seed: int | None, device: str, vocoder: str) -> Plan:
    spec = load_spec(spec_path, seed)
    model = SoundModel.from_pretrained(path, device=device, vocoder=vocoder)
    _ = model.fingerprints  # damaged ones are refused before anything is made
    try:
        return Plan(spec, model)
    except UserError as e:
        raise UserError(f"SPEC {spec_path}: {e}") from None


def _job(plan: Plan) -> dict[str, Any]:
    """Everything that the bytes of the data set depend on."""
    model = plan.model
    beside = {}
    for name in ("controls.json", "fingerprints.safetensors"):
        file = None if model.folder is None else model.folder / name
        beside[name] = sha256_file(file) if file is not None and file.is_file() else None
    files = [[printable(s.path.as_posix()), s.digest] for s in plan.sources]
    versions = {"audio_vaegan": __version__, "torch": torch.__version__}
    return {
        "spec": plan.spec.told,
        "files": hashlib.sha256(json.dumps(files).encode()).hexdigest(),
        "model_hash": model.hash,
        "vocoder": model.vocoder_title,
        "beside": beside,
        "versions": versions,
        "device": model.device.type,
    }


def _begin(out: Path, job: dict[str, Any], overwrite: bool) -> bool:
    """Make the folder ready. Returns whether this very data set is there already."""
    recover(out, KIND, UNFINISHED)
    kind, known = kind_of(out) if out.is_dir() else None, out / ".work" / "job.json"
    sweep(known.parent / "blocks")
    if kind == UNFINISHED:
        if known.is_file() and read_json(known, "--out") == job:
            return False
        if known.is_file() and not overwrite:
            raise UserError(
                f"--out {out}: holds an unfinished data set of {_other(read_json(known, '--out'), job)}; add "
                "--overwrite to give it up, or choose another name"
            )
        check_ours(out)
    elif kind == KIND and not overwrite and (out / "dataset.json").is_file():
        before = read_json(out / "dataset.json", "--out").get("job")
        if before != job:
            raise UserError(
                f"--out {out}: holds a data set of {_other(before, job)}; add --overwrite to make it anew, or choose "
                "another name"
            )
        shutil.rmtree(out / ".work", ignore_errors=True)  # what a kill in the last moment left
        return True
    else:
        check_out_folder(out, KIND, overwrite)
    if kind is not None:
        old = out.with_name(f".{out.name}.{os.getpid()}.old")
        out.replace(old)
        discard(old)
    out.mkdir(parents=True, exist_ok=True)
    mark(out, UNFINISHED)
    known.parent.joinpath("blocks").mkdir(parents=True)
    write_json(known, job)
    return False


def _other(before: Any, job: dict[str, Any]) -> str:
    """What a data set was made from that is not as it is now, in words."""
    words = {"spec": "another spec", "files": "other sounds in augment's folder", "model_hash": "another model"}
    words |= {"vocoder": "another vocoder", "beside": "other controls.json or fingerprints beside the model"}
    words |= {"versions": "other versions", "device": "another device"}
    known = before if isinstance(before, dict) else {}
    return ", ".join(said for key, said in words.items() if known.get(key) != job[key]) or "another version"


class _Work:
    """The making of one data set by this process and others."""

    def __init__(
        self, plan: Plan, out: Path, job: dict[str, Any], team: Team, processes: int, say: Callable[[str], None]
    ) -> None:
        self.plan, self.out, self.job, self.team = plan, out, job, team
        self.processes, self.say = processes, say
        self.folder = out / ".work" / "blocks"
        self.maker = Maker(plan)
        self.block = np.full(plan.count, -1, dtype=np.int32)  # of each sound that is there: its block ...
        self.place = np.zeros(plan.count, dtype=np.int16)  # ... and its place in it
        self.prints = np.zeros((plan.count, PRINT), dtype=np.float16)
        self.twins: list[Row] = []

    def run(self, opened: tuple[Any, ...]) -> int:
        began, final = time.monotonic(), self.out / ".work" / "final"
        blocks, everything = self.plan.blocks(), []
        missing, in_vain = self.plan.count, 0
        turns = min(TURNS, DRAWS // self.plan.spec.attempts)
        for turn in range(turns):
            self._make(blocks, opened, f"dataset, again {turn}" if turn else "dataset")
            self.team.wait()
            everything += blocks
            self._take(blocks)
            before, left = missing, np.flatnonzero(self.block < 0).tolist()
            missing = len(left)
            in_vain += missing if missing > (1 - WORTH) * before else 0
            if not left or turn == turns - 1 or in_vain > IN_VAIN * self.plan.count:
                break
            blocks = self.plan.again(left, len(everything), turn + 1)
        delivered = int((self.block >= 0).sum())
        if not delivered:
            why = Counter(reason for row in self._rejects(everything) for reason in row["reasons"])
            raise UserError(
                f"no sound of {self.plan.count} came out as asked ({', '.join(f'{w} {n}' for w, n in why.items())}); "
                "widen the tolerance in the spec, or ask for what the model can do (add --overwrite then)"
            )
        if self.team.rank == 0:
            summary = ""
            if not (final / ".audio-vaegan").is_file():  # else it was finished before, and only has to be put in place
                discard(final)
                finished = Finished(
                    self.plan,
                    self.job,
                    delivered,
                    self._sounds,
                    partial(self._rejects, everything),
                    self._missing,
                    opened[-1],
                )
                summary = write_final(final, finished, self._stages(everything), time.monotonic() - began)
            publish(final, self.out)
            if summary:  # last: whoever reads it may be gone
                self.say(summary)
        self.team.wait()
        return delivered

    def _make(self, blocks: Sequence[Block], opened: tuple[Any, ...], title: str) -> None:
        """The blocks that are not there yet, this process's share of them."""
        mine = blocks[self.team.rank :: self.team.size]
        todo = [b for b in mine if not block_path(self.folder, b.number).exists()]
        total, left = (sum(len(b.slots) for b in some) for some in (mine, todo))
        hidden = self.team.rank > 0 or None
        with tqdm(total=total, initial=total - left, desc=title, unit="sound", delay=1, disable=hidden) as bar:
            if self.processes == 1 or len(todo) < 2:
                for block in todo:
                    save_block(block_path(self.folder, block.number), self.maker.make(block, bar.update))
            else:
                jobs = [(block, block_path(self.folder, block.number)) for block in todo]
                gpu = self.maker.model.device.type != "cpu"
                share_out(_work, jobs, self.processes, lambda job: bar.update(len(job[0].slots)), _start, opened, gpu)

    def _take(self, blocks: Sequence[Block]) -> None:
        """Note what some blocks hold; of sounds that are the same, the one with the lowest number stays."""
        fresh = np.zeros(self.plan.count, dtype=np.bool_)
        for block in blocks:
            saved = read_block(block_path(self.folder, block.number))
            for k, row in enumerate(saved.rows):
                slot = int(row["id"])
                self.block[slot], self.place[slot], fresh[slot] = block.number, k, True
                self.prints[slot] = saved.prints[k]
        there = np.flatnonzero(self.block >= 0)
        rate = self.plan.sample_rate
        pairs = same_sounds(
            self.prints[there].astype(np.float32),
            fresh[there],
            np.arange(len(there)),
            lambda which: self._waves(there[which]),
            rate,
        )
        if not pairs:
            return
        one, other = np.transpose(pairs)
        graph = coo_array((np.ones(len(pairs)), (one, other)), shape=(len(there), len(there)))
        group = connected_components(graph, directed=False)[1]
        first = np.unique(group, return_index=True)[1][group]  # of each sound: the lowest that is the same
        for k in np.flatnonzero(first < np.arange(len(there))).tolist():
            slot, kept = int(there[k]), int(there[first[k]])
            self.twins.append({"reasons": ["duplicate"], "duplicate_of": self._row(kept)["id"], **self._row(slot)})
        self.block[there[first < np.arange(len(there))]] = -1

    def _waves(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        waves = [decode(self._audio(int(s))) for s in slots]
        out = np.zeros((len(waves), max(map(len, waves))), dtype=np.float32)
        for row, wave in zip(out, waves, strict=True):
            row[: len(wave)] = wave
        return out

    def _row(self, slot: int) -> Row:
        row: Row = read_block(block_path(self.folder, int(self.block[slot]))).rows[self.place[slot]]
        return row

    def _audio(self, slot: int) -> bytes:
        return read_block(block_path(self.folder, int(self.block[slot]))).audio(int(self.place[slot]))

    def _sounds(self) -> Iterator[tuple[Row, bytes]]:
        for slot in np.flatnonzero(self.block >= 0).tolist():
            yield self._row(slot), self._audio(slot)

    def _rejects(self, blocks: Sequence[Block]) -> Iterator[Row]:
        for block in blocks:
            yield from read_block(block_path(self.folder, block.number)).rejects
        yield from self.twins

    def _missing(self) -> Iterator[Row]:
        """The sounds that were never delivered, as they were asked."""
        for slot in np.flatnonzero(self.block < 0).tolist():
            asked = {} if self.plan.spec.augment else self.plan.asked([slot])[0]
            yield {"id": f"{slot}", "split": self.plan.split(slot)} | {f"{n}_requested": v for n, v in asked.items()}

    def _stages(self, blocks: Sequence[Block]) -> dict[str, float]:
        seconds: Counter[str] = Counter()
        for block in blocks:
            seconds.update(read_block(block_path(self.folder, block.number)).seconds)
        return dict(seconds)


_maker: Maker | None = None


def _start(path: Path, spec: Spec, sources: list[Source], device: str, vocoder: str) -> None:
    """Open the model in a worker. The spec is what the run began with, whatever has become of its file."""
    global _maker  # noqa: PLW0603
    torch.set_num_threads(1)
    _maker = Maker(Plan(spec, SoundModel.from_pretrained(path, device=device, vocoder=vocoder), sources))


def _work(block: Block, path: Path) -> None:
    assert _maker is not None
    save_block(path, _maker.make(block))
