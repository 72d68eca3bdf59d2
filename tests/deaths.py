"""Sudden deaths: a command is killed again and again, at random moments, and goes on to the end by the same words."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
from preloaded import Preloaded


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
