"""The clips of coming steps, read, varied and measured by processes of their own while a step is at work."""

import sys
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from audio_vaegan.config import AugmentConfig
from audio_vaegan.data.batches import Clips
from audio_vaegan.data.pool import processes, start_worker
from audio_vaegan.data.store import Store

Read = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
DEAD = (BrokenProcessPool, EOFError, OSError)  # what a pool says whose processes were killed


class Ahead:
    """Reads clips as `Clips.read` does, to the bit; what was asked for before is there already, or soon.

    Without `workers`, or once one of them has died, everything is read when it is wanted, in this process. They start
    when first asked, and end with `close`, or with this process.
    """

    def __init__(self, clips: Clips, how: AugmentConfig, workers: int) -> None:
        self.clips, self.how, self.workers = clips, how, workers
        self.pool: ProcessPoolExecutor | None = None
        self.asked: dict[bytes, Future[Read]] = {}

    def ask(self, rows: NDArray[np.int64], draws: NDArray[np.float32] | None) -> None:
        """Have these clips read; asked for again, nothing happens."""
        if not self.workers or _key(rows, draws) in self.asked:
            return
        clips = self.clips.part(rows)  # a worker has the store, and none of the numbers of all clips
        work = (clips.clips, dict(clips.names), clips.controls, clips.length, self.how, draws)
        try:
            if self.pool is None:
                opened = (_open, (clips.store.path,))
                self.pool = ProcessPoolExecutor(self.workers, processes(__name__), start_worker, opened)
            self.asked[_key(rows, draws)] = self.pool.submit(_read, *work)
        except DEAD:
            self._give_up()

    def read(self, rows: NDArray[np.int64], draws: NDArray[np.float32] | None) -> tuple[Tensor, Tensor, Tensor]:
        """What `Clips.read` gives for them. What was asked for before these is no longer expected."""
        wanted = _key(rows, draws)
        if wanted in self.asked:
            while (key := next(iter(self.asked))) != wanted:
                self.asked.pop(key).cancel()
            try:
                audio, controls, length = self.asked.pop(wanted).result()
                return torch.from_numpy(audio), torch.from_numpy(controls), torch.from_numpy(length)
            except DEAD:
                self._give_up()
        return self.clips.read(rows, self.how, draws)

    def _give_up(self) -> None:
        """One was killed, for lack of memory perhaps; the run goes on without."""
        self.close()
        self.workers = 0
        tqdm.write(
            "note: a process that reads clips ahead was killed; they are read in the step from now on", sys.stderr
        )

    def close(self) -> None:
        """End the processes; they start again when they are asked."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
        self.pool, self.asked = None, {}


def _key(rows: NDArray[np.int64], draws: NDArray[np.float32] | None) -> bytes:
    return rows.tobytes() + (b"" if draws is None else draws.tobytes())


_store: Store  # of a worker


def _open(path: Path) -> None:
    global _store  # noqa: PLW0603
    torch.set_num_threads(1)
    _store = Store(path)


def _read(
    numbers: NDArray[np.int64],
    names: dict[str, tuple[str, ...]],
    controls: NDArray[np.float32],
    length: NDArray[np.int64],
    how: AugmentConfig,
    draws: NDArray[np.float32] | None,
) -> Read:
    clips = Clips(_store, numbers, names, controls, length)
    audio, controls, length = (t.numpy() for t in clips.read(np.arange(len(numbers)), how, draws))
    return audio, controls, length
