"""What stands around every command: an end in one line and an exit code."""

import os
import sys
from collections.abc import Callable

from audio_vaegan.errors import Failure, UserError

INTERRUPTED = 130
OUT_OF_MEMORY = (
    "error: out of memory; smaller clips or batches help: --data.clip_samples, --train.batch_size, --train.accumulate"
)


def guarded(run: Callable[[], int], speak: bool = True) -> int:
    """Turn what a user can mend into one line and an exit code."""

    def end(line: str, code: int) -> int:
        if speak or code == 1:
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
        return end(f"error: {e.filename or 'file system'}: {e.strerror}", 2)
