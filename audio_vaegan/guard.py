"""What stands around every command: an end in one line and an exit code."""

import errno
import os
import sys
import time
from collections.abc import Callable

from audio_vaegan.errors import Failure, UserError

INTERRUPTED = 130
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OUT_OF_MEMORY = (
    "error: out of memory; smaller clips or batches help: --data.clip_samples, --train.batch_size, --train.accumulate"
)


ALL_ALIKE = 3.0  # seconds; what all processes of a launch find wrong, the first one has said by then
OTHERS = ("DistBackendError", "DistNetworkError", "DistStoreError")
GONE = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL")


def share_cores() -> None:
    """Let threads of torch that wait soon sleep: spinning for long, they make a training four times as slow where other
    work wants the cores (CONTRIBUTING.md). To be called before torch is imported; what a user has set stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # of GNU's runtime: spinning so little costs no other work


def guarded(run: Callable[[], int], speak: bool = True) -> int:
    """Turn what a user can mend into one line and an exit code.

    A process of a launch that is not the first (`speak` False) says what is wrong with it a little later: where the
    same is wrong with all, the launch has ended by then, and where it is alone, its line is the one that counts.
    """

    def end(line: str, code: int) -> int:
        if not speak and code != INTERRUPTED:
            time.sleep(ALL_ALIKE)
            line = f"{line} (process {os.environ.get('RANK', '?')})"
            print(file=sys.stderr)  # below the bar of the first one
        if speak or code != INTERRUPTED:
            words = " ".join(line.split("\n"))
            print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in words), file=sys.stderr)
        return code

    try:
        return run()
    except UserError as e:
        return end(f"error: {e}", 2)
    except Failure as e:
        return end(f"error: {e}", 1)
    except KeyboardInterrupt:
        return end("interrupted; the same command goes on", INTERRUPTED)
    except MemoryError:
        return end(OUT_OF_MEMORY, 2)
    except RuntimeError as e:
        if type(e).__name__ in OTHERS or (
            int(os.environ.get("WORLD_SIZE", "1")) > 1 and any(w in str(e) for w in GONE)
        ):
            lost = "another process of this launch has ended, and says why; the same command goes on"
            return end(f"error: {lost} ({' '.join(str(e).split())[:200]})", 1)
        if type(e).__name__ != "OutOfMemoryError" and "alloc" not in str(e):
            raise
        return end(OUT_OF_MEMORY, 2)
    except BrokenPipeError:  # what read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as e:
        if "torchaudio" in str(e):
            return end("error: torchaudio does not fit this build of torch; mend it: audio-vaegan doctor --fix", 2)
        if e.errno is None:
            raise
        mend = "; make room, then the same command goes on" if e.errno in FULL else ""
        return end(f"error: {e.filename or 'file system'}: {e.strerror}{mend}", 2)
