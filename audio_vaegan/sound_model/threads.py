"""Sums in one order: what is to be the same bits again is computed on one thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

LOCK = RLock()  # the number is the process's: whoever came second would take the first one's 1 for it


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch uses one thread; afterwards as many as before. One caller at a time."""
    with LOCK:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
