"""Sudden deaths: a command is killed again and again, at random moments, and goes on to the end by the same words."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from conftest import ROOT


@dataclass(frozen=True)
class End:
    code: int  # negative: the signal that killed it
    changes: int  # to files, where it came to its end
    seconds: float
    said: str


class Preloaded:
    """Commands in processes of their own, as `preloaded.py` makes them."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        words = [sys.executable, str(ROOT / "tests" / "preloaded.py"), str(folder / "answer")]
        self.server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def run(self, command: list[str], root: Path, at: int | None = None, after: float | None = None) -> End:
        """Run a command; kill it and all that it started before its change number `at` to files below `root`, or
        `after` so many seconds."""
        self.log.unlink(missing_ok=True)
        assert self.server.stdin and self.server.stdout
        job = {"command": command, "root": str(root), "at": at, "log": str(self.log)}
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        pid, began = int(self.server.stdout.readline()), time.monotonic()
        timer = threading.Timer(after if after is not None else 280, _kill, (pid,))
        timer.start()
        code, changes = map(int, self.server.stdout.readline().split())
        timer.cancel()
        _kill(pid)  # what it started, whatever became of itself
        return End(code, changes, time.monotonic() - began, self.log.read_text() if self.log.exists() else "")

    def close(self) -> None:
        assert self.server.stdin
        self.server.stdin.close()
        self.server.wait(10)


def _kill(pid: int) -> None:
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too; of figures on the way, those that are no matter of time."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    for name in found:
        if name.endswith("metrics.jsonl"):
            records = [json.loads(line) for line in found[name].splitlines()]
            kept = [{k: v for k, v in r.items() if k != "clips_per_second"} for r in records]
            found[name] = json.dumps(kept).encode()
    return found


def survive(
    preloaded: Preloaded,
    command: Callable[[Path], list[str]],
    folder: Path,
    kills: int,
    seed: int,
    check: Callable[[Path], None] = lambda _: None,
    start: Callable[[Path], None] = lambda _: None,
) -> int:
    """Kill `command(root)` at so many random moments, up to five times a root; after each kill `check` looks whether
    what is there is whole, and in the end everything below the root is, byte for byte, what one run makes that nobody
    killed. Half of the moments lie just before a change to a file, half anywhere in time. Returns the kills."""

    def fresh(name: str) -> Path:
        (folder / name).mkdir()
        start(folder / name)
        return folder / name

    root = fresh("whole")
    preloaded.run([*command(root), "--help"], root)  # what is loaded once is loaded
    whole = preloaded.run(command(root), root)
    assert whole.code == 0, whole.said
    wanted = tree(root)
    random, done, number = np.random.default_rng(seed), 0, 0
    while done < kills:
        assert number < 20 + kills, "kills come too late"
        root = fresh(f"round{number}")
        number += 1
        for _ in range(5):
            how = {"at": int(random.integers(whole.changes))} if random.random() < 0.5 else {}
            end = preloaded.run(command(root), root, **how or {"after": float(random.uniform(0, whole.seconds))})
            finished = end.code == 0 or "already written" in end.said  # a kill fell between its last file and its end
            assert finished or end.code == -signal.SIGKILL, (end.said, sorted(tree(root)))
            done += end.code == -signal.SIGKILL
            if finished or done == kills:
                break
            check(root)
        end = preloaded.run(command(root), root)
        assert end.code == 0 or "already written" in end.said, end.said
        got = tree(root)
        assert got.keys() == wanted.keys(), sorted(got.keys() ^ wanted.keys())
        different = [name for name in wanted if got[name] != wanted[name]]
        assert not different, different
    return done
