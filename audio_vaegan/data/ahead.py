"""The clips of coming steps, read, varied and measured by processes of their own while a step is at work."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.config import AugmentConfig
from audio_vaegan.data.batches import Clips
from audio_vaegan.data.pool import processes, start_worker
from audio_vaegan.data.store import Store
from audio_vaegan.errors import Failure

Read = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


class Ahead:
    """Reads clips as `Clips.read` does, to the bit; what was asked for before is there already, or soon.

    Without `workers` everything is read when it is wanted, in this process. They start when first asked, and end with
    `close`, or with this process.
    """

    def __init__(self, clips: Clips, how: AugmentConfig, workers: int) -> None:
        self.clips, self.how, self.workers = clips, how, workers
        self.pool: ProcessPoolExecutor | None = None
        self.asked: dict[bytes, Future[Read]] = {}

    def ask(self, rows: NDArray[np.int64], draws: NDArray[np.float32] | None) -> None:
        """Have these clips read; asked for again, nothing happens."""
        if not self.workers or _key(rows, draws) in self.asked:
            return
        if self.pool is None:
            clips = self.clips
            opened = (clips.store.path, clips.clips, dict(clips.names), clips.controls, self.how)
            self.pool = ProcessPoolExecutor(self.workers, processes(__name__), start_worker, (_open, opened))
        with _told():
            self.asked[_key(rows, draws)] = self.pool.submit(_read, rows, draws)

    def read(self, rows: NDArray[np.int64], draws: NDArray[np.float32] | None) -> tuple[Tensor, Tensor, Tensor]:
        """What `Clips.read` gives for them. What was asked for before these is no longer expected."""
        found = self.asked.get(_key(rows, draws))
        if found is None:
            return self.clips.read(rows, self.how, draws)
        while (key := next(iter(self.asked))) != _key(rows, draws):
            self.asked.pop(key).cancel()
        del self.asked[key]
        with _told():
            audio, controls, length = found.result()
        return torch.from_numpy(audio), torch.from_numpy(controls), torch.from_numpy(length)

    def close(self) -> None:
        """End the processes; they start again when they are asked."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
        self.pool, self.asked = None, {}


@contextmanager
def _told() -> Iterator[None]:
    """That a process died is told in a line."""
    try:
        yield
    except BrokenProcessPool:
        raise Failure(
            "a process that reads clips died (out of memory?); the same command goes on, with --train.workers 0 "
            "without such processes"
        ) from None


def _key(rows: NDArray[np.int64], draws: NDArray[np.float32] | None) -> bytes:
    return rows.tobytes() + (b"" if draws is None else draws.tobytes())


_opened: tuple[Clips, AugmentConfig]  # in a worker


def _open(
    path: Path,
    rows: NDArray[np.int64],
    names: Mapping[str, tuple[str, ...]],
    controls: NDArray[np.float32],
    how: AugmentConfig,
) -> None:
    global _opened  # noqa: PLW0603
    torch.set_num_threads(1)
    _opened = Clips(Store(path), rows, names, controls), how


def _read(rows: NDArray[np.int64], draws: NDArray[np.float32] | None) -> Read:
    clips, how = _opened
    audio, controls, length = clips.read(rows, how, draws)
    return audio.numpy(), controls.numpy(), length.numpy()
