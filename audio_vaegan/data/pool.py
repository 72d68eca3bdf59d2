"""Jobs worked through by several processes."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import BaseContext
from typing import Any

from tqdm import tqdm

from audio_vaegan.config import Recipe
from audio_vaegan.data.chunk import Chunk, process
from audio_vaegan.errors import Failure

BYTES_FOR_WORKERS = 48 * 2**20  # of files; less, or ...
FILES_FOR_WORKERS = 1500  # ... fewer files, are done sooner than other processes have started


def processes(module: str, gpu: bool = False) -> BaseContext:
    """How processes are started that run what is in a module: never forked off one that may have threads.

    On Linux they are forked off one of their own, which has imported the module and nothing else: they cost no
    start-up, however many there are. Not so where they use a GPU (CUDA refuses what is forked once torch has looked for
    one, which at import `torch.autocast` does), nor on macOS, whose libraries refuse it, too.
    """
    context = get_context("forkserver" if sys.platform == "linux" and not gpu else "spawn")
    context.set_forkserver_preload([module])
    return context


def process_all(chunks: list[Chunk], recipe: Recipe, workers: int) -> None:
    """Process the chunks, those that are done apart. Ctrl-C stops at once; what is done stays done."""
    files, size = sum(len(c.files) for c in chunks), sum(c.size for c in chunks)
    with tqdm(total=files, desc="prepare", unit="file", delay=1) as bar:
        if workers == 1 or len(chunks) < 2 or (files < FILES_FOR_WORKERS and size < BYTES_FOR_WORKERS):
            for chunk in chunks:
                process(chunk, recipe)
                bar.update(len(chunk.files))
            return
        share_out(process, [(chunk, recipe) for chunk in chunks], workers, lambda job: bar.update(len(job[0].files)))


def share_out(
    work: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    workers: int,
    done: Callable[[tuple[Any, ...]], Any],
    start: Callable[..., Any] | None = None,
    started_with: tuple[Any, ...] = (),
    gpu: bool = False,
) -> None:
    """Call `work(*job)` for each job in `workers` processes, each of which first calls `start`; `done(job)` as they are
    finished. Ctrl-C, or an error in one, stops all at once. `gpu`: they use one."""
    context = processes(work.__module__, gpu)
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, start_worker, (start, started_with))
    try:
        running = {pool.submit(work, *job): job for job in jobs}
        for job in as_completed(running):
            job.result()
            done(running[job])
    except BrokenProcessPool:
        raise Failure("a worker process died (out of memory?); the same command goes on, try fewer workers") from None
    except BaseException:
        for worker in list(pool._processes.values()):
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def start_worker(start: Callable[..., Any] | None, started_with: tuple[Any, ...]) -> None:
    """A worker leaves Ctrl-C to the process that asked, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if start is not None:
        start(*started_with)
