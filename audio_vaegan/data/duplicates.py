"""Clips that are the same sound: equal files, and recordings that are copies up to level, format and a small shift."""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool1d, normalize, pad

BANDS, SLICES, FINE = 16, 8, 64
COARSE = BANDS * SLICES
PRINT = COARSE + FINE
SECONDS = 1.0  # of sound that the coarse print describes
RANGE = 3.45  # nepers below the clip's maximum that it sees: 30 dB, above the noise of 8 bits
SMOOTH = 63  # bins of a clip's spectrum over which the fine print takes the average away
ALIKE, ALIKE_FINE = 0.97, 0.8  # cosines of the prints, from which the sounds themselves are compared
SAME = 0.975  # correlation of two waveforms at their best lag, from which they are one sound
LAG = 0.1  # seconds; an MP3 of 16 kHz comes back 69 ms late
SHARE = 0.75  # of a clip's energy, which must stay in it when it is moved by the lag


def fingerprints(audio: Tensor, mel: Tensor, frames_a_second: float) -> Tensor:
    """Prints `[B, 192]` of clips `[B, samples]` and their log-mels `[B, n_mels, T]`: two unit vectors, or zeros.

    The coarse one sees 16 bands by 8 slices of the second after the sound begins, 30 dB deep. The fine one is a random
    projection of the magnitude spectrum of the whole clip without its envelope, which no shift changes: it tells apart
    what is alike on the whole, such as two takes of one noise.
    """
    count = max(SLICES, round(SECONDS * frames_a_second / SLICES) * SLICES)
    loudest = mel.amax(dim=(1, 2), keepdim=True)
    value = (mel - loudest + RANGE).clamp_min(0)
    first = (value.amax(dim=1) > RANGE / 2).int().argmax(dim=1)  # within 15 dB of the loudest
    value = pad(value, (0, count))
    index = first.unsqueeze(1) + torch.arange(count, device=mel.device)
    value = value.gather(2, index.unsqueeze(1).expand(-1, mel.shape[1], -1))
    coarse = adaptive_avg_pool2d(value, (BANDS, SLICES)).flatten(1)
    size = 1 << (audio.shape[1] - 1).bit_length()
    spectrum = torch.fft.rfft(audio, size).abs()[:, 1:]
    smooth = avg_pool1d(spectrum, SMOOTH, 1, SMOOTH // 2, count_include_pad=False)
    fine = (spectrum - smooth) @ _signs(spectrum.shape[1])
    return torch.cat([normalize(coarse, dim=1), normalize(fine, dim=1)], dim=1)


@lru_cache(maxsize=2)
def _signs(bins: int) -> Tensor:
    """A fixed random matrix `[bins, 64]` of +1 and -1."""
    return torch.from_numpy(np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.float32), (bins, FINE)))


def candidates(
    prints: NDArray[np.float32], fresh: NDArray[np.bool_], rows: int = 1024, columns: int = 4096
) -> Iterator[NDArray[np.int64]]:
    """Pairs `[n, 2]` of clips whose prints are alike, of which at least one is fresh; by blocks.

    Two unit vectors of cosine c are sqrt(2 - 2c) apart, and so are at most their projections: sorted along the axis of
    largest variance of the coarse prints, each fresh clip is compared with its neighbourhood only.
    """
    if not len(prints):
        return
    coarse, fine = prints[:, :COARSE], prints[:, COARSE:]
    sample = coarse[:: max(1, len(coarse) // 4096)]
    axis = np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False)[2][0]
    place = coarse @ axis
    order = np.argsort(place, kind="stable")
    place, reach = place[order], np.sqrt(2 - 2 * ALIKE) + 1e-6
    new = np.flatnonzero(fresh[order])
    for first in range(0, len(new), rows):
        mine = new[first : first + rows]
        low, high = np.searchsorted(place, [place[mine[0]] - reach, place[mine[-1]] + reach])
        for start in range(low, high, columns):
            others = np.arange(start, min(start + columns, high))
            a, b = order[mine], order[others]
            alike = (coarse[a] @ coarse[b].T >= ALIKE) & (fine[a] @ fine[b].T >= ALIKE_FINE)
            alike &= ~fresh[b] | (mine[:, None] < others)  # two fresh ones meet once
            x, y = np.nonzero(alike)
            yield np.sort(np.stack([a[x], b[y]], axis=1), axis=1)


def correlation(a: Tensor, b: Tensor, sample_rate: int) -> Tensor:
    """How alike two waveforms `[B, samples]` are, 0 to 1: normalised cross-correlation at the best lag within 0.1 s.

    What a shift has pushed out of the later one's clip is not held against them, up to a quarter of the energy; what
    the later one has before the other begins is: drums whose first milliseconds differ are not the same.
    """
    most = min(round(LAG * sample_rate), a.shape[1] - 1)
    size = 1 << (a.shape[1] + most - 1).bit_length()
    spectrum = torch.fft.rfft(a, size) * torch.fft.rfft(b, size).conj()
    found = torch.fft.irfft(spectrum, size).abs()
    best = torch.zeros_like(found[:, 0])
    for early, late, lags in ((b, a, found), (a, b, found.flip(1).roll(1, 1))):
        left = early.square().cumsum(1).flip(1)[:, : most + 1]  # [B, lags], energy that is still in the clip
        norm = left.clamp_min(1e-24).sqrt() * late.square().sum(1, keepdim=True).clamp_min(1e-24).sqrt()
        best = torch.maximum(best, (lags[:, : most + 1] / norm * (left >= SHARE * left[:, :1])).amax(1))
    return best


def same_sounds(
    prints: NDArray[np.float32],
    fresh: NDArray[np.bool_],
    equal: NDArray[np.int64],
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    sample_rate: int,
    batch: int = 64,
) -> list[tuple[int, int]]:
    """Pairs of clips that are the same sound, enough of them to connect all that are; at least one is fresh.

    `equal` `[N]` is for each clip the first one that is known to be equal; only those are compared, and no pair that
    others connect already. `read` gives the audio of some clips.
    """
    parent: dict[int, int] = {}

    def root(i: int) -> int:
        while (above := parent.get(i, i)) != i:
            parent[i] = i = parent.get(above, above)
        return i

    found: list[tuple[int, int]] = []
    first_ones = np.flatnonzero(equal == np.arange(len(equal)))
    for block in candidates(prints[first_ones], fresh[first_ones]):
        for first in range(0, len(block), batch):
            some = first_ones[block[first : first + batch]].tolist()
            pairs = np.array([p for p in some if root(p[0]) != root(p[1])])
            if not len(pairs):
                continue
            a, b = (torch.from_numpy(read(pairs[:, i])) for i in (0, 1))
            for i, j in pairs[correlation(a, b, sample_rate).numpy() >= SAME].tolist():
                x, y = sorted((root(i), root(j)))
                if x != y:
                    parent[y] = x
                    found.append((i, j))
    return found
