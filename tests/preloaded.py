"""Runs commands in forked processes of one that has imported everything: a death then costs no start-up.

Reads jobs as JSON lines: `command` (verb, train_vaegan or train_vocoder, and its words), `log`, `root`, `at`. Answers
with the process's number, then with its exit code and how many changes it made to files below `root`. With `at`, the
process kills itself just before that change. It leads a process group of its own, as a shell's command does.
"""

import json
import os
import signal
import sys
from pathlib import Path

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
    log = os.open(str(job["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
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
