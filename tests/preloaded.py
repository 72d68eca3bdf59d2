"""Runs commands in forked processes of one that has imported everything: a death then costs no start-up.

Its server reads jobs as JSON lines: `command` (verb, train_vaegan or train_vocoder, and its words), `out` and `err`
(the files for what it says), `root`, `at`. Answers with the process's number, then with its exit code and how many
changes it made to files below `root`. With `at`, the process kills itself just before that change. It leads a process
group of its own, as a shell's command does.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class End:
    code: int  # negative: the signal that killed it
    changes: int  # to files below the root, where it came to its end
    seconds: float
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


class Preloaded:
    """The server, started in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        words = [sys.executable, __file__, str(folder / "answer")]
        self.server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def run(
        self, command: list[str], root: Path | None = None, at: int | None = None, after: float | None = None
    ) -> End:
        """Run a command; kill it and all that it started before its change number `at` to files below `root`, or
        `after` so many seconds."""
        said = [self.folder / name for name in ("out", "err")]
        for path in said:
            path.write_text("")
        assert self.server.stdin and self.server.stdout
        job = {"command": command, "root": str(root or self.folder), "at": at, "out": str(said[0]), "err": str(said[1])}
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        pid, began = int(self.server.stdout.readline()), time.monotonic()
        timer = threading.Timer(after if after is not None else 280, _kill, (pid,))
        timer.start()
        answer = ""
        try:
            answer = self.server.stdout.readline()
        finally:  # a test may run out of time
            timer.cancel()
            _kill(pid)  # what it started, whatever became of itself
            answer = answer or self.server.stdout.readline()
        code, changes = map(int, answer.split())
        return End(code, changes, time.monotonic() - began, *(path.read_text() for path in said))

    def close(self) -> None:
        assert self.server.stdin
        self.server.stdin.close()
        self.server.wait(10)


def _kill(pid: int) -> None:
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Changes:
    """Counts what is about to change files below `root`, as Python's audit events tell; dies before number `at`."""

    def __init__(self, root: str, at: int | None) -> None:
        self.root, self.at, self.count = root, at, 0
        sys.addaudithook(self.hear)

    def hear(self, event: str, args: tuple[object, ...]) -> None:
        if event == "open":
            changes = isinstance(args[2], int) and bool(args[2] & WRITES)
        else:
            changes = event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate")
        if not changes or not isinstance(args[0], str | bytes | os.PathLike):
            return
        path = os.fsdecode(args[0])
        if path.startswith(self.root) or not path.startswith("/"):  # relative: inside rmtree
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1


def child(job: dict[str, object], answer: Path) -> int:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(str(job[name]), os.O_WRONLY | os.O_APPEND), number)
    changes = Changes(str(job["root"]), job["at"])  # type: ignore[arg-type]
    from audio_vaegan import cli

    name, *words = job["command"]  # type: ignore[misc]
    scripts = {"train_vaegan": cli.train_vaegan, "train_vocoder": cli.train_vocoder}
    code = scripts[name](words) if name in scripts else cli.main([name, *words])
    answer.write_text(str(changes.count))
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def main() -> None:
    import torch

    import audio_vaegan.dataset.work
    import audio_vaegan.evaluation.fit
    import audio_vaegan.evaluation.samples
    import audio_vaegan.generate
    import audio_vaegan.training.launch  # noqa: F401
    from audio_vaegan.descriptors import load_librosa

    load_librosa()
    torch.set_num_threads(1)  # one thread before and after: no thread is lost in a fork
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # imports torch._dynamo: two seconds
    answer = Path(sys.argv[1])
    for line in sys.stdin:
        answer.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            try:
                code = child(json.loads(line), answer)
            except BaseException:  # as Python itself would say it
                sys.excepthook(*sys.exc_info())
                code = 70
            os._exit(code)
        print(pid, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(code, answer.read_text() if answer.exists() else -1, flush=True)


if __name__ == "__main__":
    main()
