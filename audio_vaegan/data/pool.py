"""Jobs worked through by several processes."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import connection, forkserver, get_context, parent_process, resource_tracker
from multiprocessing.context import BaseContext
from typing import Any

from audio_vaegan.errors import Failure

STOPPING = {signal.SIGINT, signal.SIGTERM}


def processes(module: str, gpu: bool = False) -> BaseContext:
    """How processes are started that run what is in a module: never forked off one that may have threads.

    On Linux they are forked off a process that has imported the module, and used nothing of it: they cost little
    start-up, however many there are. (There is one such process; a pool for another module, later in the life of this
    process, gets it as it is, and imports the rest.) Not so where they use a GPU, which CUDA refuses to what is forked
    once torch has looked for one (`torch.autocast` does, at import), nor on macOS, whose libraries refuse it, too.
    """
    if sys.platform != "linux" or gpu:
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([module])
    resource_tracker.ensure_running()  # which lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # meant for this process; the server would die of them
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


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


def start_worker(start: Callable[..., Any] | None = None, started_with: tuple[Any, ...] = ()) -> None:
    """A worker leaves the signals that a group of processes gets to the process that asked, and ends with it. (One that
    is killed while it hands over its work leaves a pool that waits for ever.)"""
    with suppress(OSError):  # it leads a session already
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what came before
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which a pool ends its processes
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if start is not None:
        start(*started_with)
