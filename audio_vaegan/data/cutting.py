"""A sound of any length -> windows of at most a clip. What is left out is counted, but for silence at the ends."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from audio_vaegan.audio import peak_dbfs
from audio_vaegan.config import DataConfig
from audio_vaegan.descriptors import onsets

Audio = NDArray[np.float32]
EDGE = 0.005  # seconds kept before the first and after the last sample that sounds; of the fade at a cut
LOOK = 20.0  # seconds in which onsets are sought at a time


class Cutter:
    """Cuts the blocks of one file at one sample rate. After `cut`, the counters tell what was left out.

    Regular windows lie side by side or overlap; the last one may be shorter, and is left out where it would add less
    than a tenth of a clip. Windows at onsets begin 5 ms before each and end where the next begins, faded out over 5 ms.
    """

    def __init__(self, data: DataConfig, sample_rate: int) -> None:
        self.size, self.rate = data.clip_samples, sample_rate
        self.hop = max(1, round(data.clip_samples * (1 - data.overlap)))
        self.trim = None if data.trim_dbfs is None else 10 ** (data.trim_dbfs / 20)
        self.silence_dbfs = max(data.silence_dbfs, -np.inf if data.trim_dbfs is None else data.trim_dbfs)
        self.edge = max(1, round(EDGE * sample_rate))
        self.onsets = data.windows == "onsets"
        self.trimmed = self.silent = self.between = self.tail = self.events = self.windows = 0

    def cut(self, blocks: Iterable[Audio]) -> Iterator[tuple[int, Audio]]:
        """(first sample, window `[at most clip_samples]`) of every window that sounds."""
        pieces: Callable[[Iterable[Audio]], Iterator[tuple[int, Audio]]]
        pieces = self._at_onsets if self.onsets else self._regular
        for start, piece in pieces(self._from_first_sound(blocks)):
            self.windows += 1
            if self.trim is not None:
                loud = np.flatnonzero(np.abs(piece) > self.trim)
                piece = piece[: loud[-1] + 1 + self.edge] if len(loud) else piece[:0]
            if not len(piece) or peak_dbfs(piece - np.float32((piece.max() + piece.min()) / 2)) < self.silence_dbfs:
                self.silent += 1  # a constant is no sound
            else:
                yield self.trimmed + start, piece

    def notes(self) -> list[str]:
        """What was left out of a file that is used, in words."""
        found = []
        if self.silent and self.trim is None:  # else it was asked for
            found.append(f"clips without sound left out: {self.silent}")
        if self.tail:
            found.append(f"tail of less than a tenth of a clip left out: {self.tail / self.rate:.3f} s")
        if self.between:
            found.append(f"left out between onset-aligned clips: {self.between / self.rate:.3f} s")
        return found

    def _from_first_sound(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        if self.trim is None:
            yield from blocks
            return
        before, started = np.zeros(0, dtype=np.float32), False
        for block in blocks:
            if not started:
                block = np.concatenate([before, block])
                loud = np.abs(block) > self.trim
                started = bool(loud.any())
                first = max(0, (int(loud.argmax()) if started else len(block)) - self.edge)
                self.trimmed += first
                before = block = block[first:]
            if started:
                yield block

    def _regular(self, blocks: Iterable[Audio]) -> Iterator[tuple[int, Audio]]:
        rest, base = np.zeros(0, dtype=np.float32), 0
        for block in blocks:
            rest = np.concatenate([rest, block])
            while len(rest) >= self.size:
                yield base, rest[: self.size]
                rest, base = rest[self.hop :], base + self.hop
        new = len(rest) - (self.size - self.hop if base else 0)  # the window before holds the others
        if (len(rest) and not base) or new >= max(1, self.size // 10):
            yield base, rest
        elif new > 0:
            self.tail = new

    def _at_onsets(self, blocks: Iterable[Audio]) -> Iterator[tuple[int, Audio]]:
        look = max(round(LOOK * self.rate), 4 * self.size)
        rest, base, done = np.zeros(0, dtype=np.float32), 0, 0
        context = 0  # samples of `rest` that were looked at before
        for block in _with_end(blocks):
            if block is not None:
                rest = np.concatenate([rest, block])
                if len(rest) < look:
                    continue
            found = (onsets(torch.from_numpy(rest), self.rate) * self.rate).round().long().numpy() - self.edge
            found = np.unique(found.clip(0))
            found = found[(found >= context) & (base + found >= done)]
            sure = found if block is None else found[found < len(rest) - 2 * self.size]
            ends = [*found[1:], len(rest)]
            for first, end in zip(sure.tolist(), ends, strict=False):
                self.events += 1
                self.between += base + first - done
                piece = rest[first : min(first + self.size, end)].copy()
                if end < first + self.size and end < len(rest):
                    fade = min(self.edge, len(piece))
                    piece[len(piece) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
                done = base + first + len(piece)
                yield base + first, piece
            if block is None:
                self.between += base + len(rest) - done
                break
            follow = found[len(sure)] if len(sure) < len(found) else len(rest) - 2 * self.size
            keep = max(0, int(follow) - round(0.2 * self.rate))  # what the detector compares with
            context = int(follow) - keep
            rest, base = rest[keep:], base + keep


def _with_end(blocks: Iterable[Audio]) -> Iterator[Audio | None]:
    yield from blocks
    yield None
