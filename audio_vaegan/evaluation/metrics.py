"""How far apart two sets of sounds are, judged from their embeddings `[N, d]`, a row a sound: pure functions of arrays.

`reference` is what the others are held against: sounds that a model was trained on. No figure here means anything
alone: beside each stands that of real held-out sounds against the same reference, with as many sounds (`sets.py`).
"""

import contextlib
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prdc import compute_prdc
from scipy.linalg import eigh, eigvalsh
from scipy.spatial.distance import cdist, pdist
from scipy.stats import linregress, norm
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

RESAMPLES = 400
BINS = 50  # of NDB
A_BIN = 10  # sounds that a bin needs on average
NEIGHBOURS = 5  # of precision, recall, density, coverage
SIZES = 15  # of sets, that FAD is extrapolated from
ROWS = 512  # of a kernel matrix at a time
Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


def bandwidth_of(reference: Floats) -> float:
    """The bandwidth of the kernel of `Kad`: the median distance between two sounds of the reference."""
    return float(np.median(pdist(reference.astype(np.float64)))) or 1.0


@dataclass(frozen=True)
class Kad:
    """The kernel audio distance of two sets, and `draws` `[R]` of it, resampled over their groups."""

    value: float
    draws: NDArray[np.float64]


def kernel_audio_distance(
    reference: Floats,
    other: Floats,
    bandwidth: float | None = None,
    groups: tuple[Ints, Ints] | None = None,
    resamples: int = RESAMPLES,
) -> Kad:
    """KAD: 100 times the unbiased squared maximum mean discrepancy under a Gaussian kernel (Gretton et al. 2012, eq. 3;
    Chung et al. 2025, KAD: No More FAD!), whose bandwidth is the median distance within the *reference*.

    Of either sign around 0 where both sets are of one distribution, however few they are. `[N, d]`, `[M, d]`.

    `groups` `[N]`, `[M]` (numbers; default: each sound its own) is what is drawn with replacement, `resamples` times,
    with a fixed seed, so that two sets of the same groups are drawn alike; a group that is in both sets is drawn as
    often from both. A group drawn twice is never compared with its double, whose likeness would be none. NaN where a
    draw holds no pair to compare: always, of a set of one group.
    """
    width = bandwidth_of(reference) if bandwidth is None else bandwidth
    apart = [np.arange(len(reference)), len(reference) + np.arange(len(other))]
    names, own, counts = zip(
        *(np.unique(g, return_inverse=True, return_counts=True) for g in groups or apart), strict=True
    )
    shared = np.intersect1d(names[0], names[1], return_indices=True)[1:]
    times = [_draws(len(n), resamples, seed) for seed, n in enumerate(names)]
    times[1][:, shared[1]] = times[0][:, shared[0]]

    def mean(a: int, b: int) -> NDArray[np.float64]:
        """The mean kernel of the pairs of two sets `[1 + R]`."""
        x, y = (reference, other)[a], (reference, other)[b]
        sums, size = _sums(x, y, own[a], own[b], width), np.outer(counts[a], counts[b]).astype(np.float64)
        same = shared if a != b else (np.arange(len(names[a])),) * 2
        itself = counts[a] if a == b else 0.0  # a sound's kernel with itself is 1
        rows, columns = times[a], times[b]
        # E[m_g m_h] of two groups is 1 - 1 / G: pairs within a group, drawn as often as it is, are to weigh as much.
        weight = np.full((len(rows), 1), 1 - 1 / len(names[a]))
        weight[0] = 1.0
        total, pairs = (
            np.einsum("rg,rg->r", rows @ m, columns)
            - np.einsum("rg,rg,g->r", rows[:, same[0]], columns[:, same[1]], m[same])
            + (weight * rows[:, same[0]]) @ (m[same] - itself)
            for m in (sums, size)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            found: NDArray[np.float64] = np.where(pairs > 0, total / pairs, np.nan)
        return found

    found = 100 * (mean(0, 0) + mean(1, 1) - 2 * mean(0, 1))
    return Kad(float(found[0]), found[1:])


def _draws(count: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each of `count` groups is drawn, `[1 + R, G]`; the first row is the set as it is."""
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    return np.concatenate([np.ones((1, count)), draws])


def _sums(a: Floats, b: Floats, rows: Ints, columns: Ints, width: float) -> NDArray[np.float64]:
    """Sums of the kernel over pairs of groups `[G, H]`, some rows of the matrix at a time."""
    order = np.argsort(columns, kind="stable")
    b, starts = b[order].astype(np.float64), np.searchsorted(columns[order], np.arange(columns.max() + 1))
    sums = np.zeros((rows.max() + 1, len(starts)))
    for first in range(0, len(a), ROWS):
        kernel = np.exp(cdist(a[first : first + ROWS].astype(np.float64), b, "sqeuclidean") / (-2 * width**2))
        np.add.at(sums, rows[first : first + ROWS], np.add.reduceat(kernel, starts, axis=1))
    return sums


def frechet_audio_distance(reference: Floats, other: Floats) -> float:
    """FAD: squared Frechet distance of the Gaussians of the two sets' moments (Dowson & Landau 1982; Kilgour et al.
    2019): |m - n|^2 + tr(C + D - 2 (C D)^(1/2)). `[N, d]`, `[M, d]`.

    It grows as the sets shrink (by about 8.5 for 1,000 sounds in 128 dimensions that do not differ at all), so that
    only figures of equal N can be compared.
    """
    x, y = reference.astype(np.float64), other.astype(np.float64)
    c, d = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = eigh(c)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(eigvalsh(root @ d @ root).clip(0)).sum()
    return float(np.square(x.mean(axis=0) - y.mean(axis=0)).sum() + np.trace(c) + np.trace(d) - 2 * cross)


def fad_infinity(reference: Floats, other: Floats) -> dict[str, float] | None:
    """FAD of endless sets: the straight line of FAD over 1 / n, taken to 0 (Chong & Forsyth 2020, section 4; Gui et al.
    2024). `value`, the line's `r2`, and the sizes `from` ... `to`; drawn without replacement, with a fixed seed.

    None below 4 d sounds: then covariances are too thin for the line to hold.
    """
    n, d = min(len(reference), len(other)), reference.shape[1]
    if n < 4 * d:
        return None
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(x)) for x in (reference, other)]
    sizes = np.linspace(max(2 * d, n // 5), n, SIZES).astype(int)
    x, y = (sounds[order] for sounds, order in zip((reference, other), orders, strict=True))
    found = [frechet_audio_distance(x[:size], y[:size]) for size in sizes]
    line = linregress(1 / sizes, found)
    return {"value": float(line.intercept), "r2": float(line.rvalue**2), "from": int(sizes[0]), "to": n}


def precision_recall(reference: Floats, other: Floats) -> dict[str, float]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020) of `other`, with the 5
    nearest neighbours, by the authors' prdc. Shares from 0 to 1; density may exceed 1. `[N, d]`, `[M, d]`.

    Precision and density: are the sounds like some real one? Recall and coverage: is every real one like some sound?
    Two sets of one distribution have not 1 but, with 1,000 sounds each, coverage about 0.97 and density about 1.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # it prints how many there are
        found = compute_prdc(reference.astype(np.float64), other.astype(np.float64), NEIGHBOURS)
    return {name: float(found[name]) for name in ("precision", "recall", "density", "coverage")}


def different_bins(reference: Floats, other: Floats, bins: int = BINS) -> dict[str, float] | None:
    """NDB / K (Richardson & Weiss 2018): the reference is clustered into K = 50 bins by k-means, every sound falls into
    the nearest, and NDB counts the bins whose share differs between the two sets by a two-proportion z-test at 5 %.
    `share` is NDB / K, `bins` K. By chance alone 5 % of the bins differ. `[N, d]`, `[M, d]`.

    None where there are fewer than ten sounds a bin, for which the test is not made.
    """
    if min(len(reference), len(other)) < A_BIN * bins:
        return None
    with threadpool_limits(1):  # several threads add up in any order
        means = KMeans(bins, n_init=3, random_state=0).fit(reference.astype(np.float64))
        a, b = (np.bincount(means.predict(x.astype(np.float64)), minlength=bins) for x in (reference, other))
    n, m = a.sum(), b.sum()
    pooled = (a + b) / (n + m)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    z = np.abs(a / n - b / m) / np.maximum(error, 1e-12)
    return {"share": float((z > norm.ppf(0.975)).mean()), "bins": float(bins)}


def pitch_entropy(probabilities: Floats) -> float:
    """Entropy in nats of what a classifier of pitch says of each sound `[N, classes]`, mean over sounds: how sure it is
    (Engel et al. 2019, GANSynth, section 4.3). 0 is certain."""
    p = probabilities.astype(np.float64)
    return float(-(p * np.log(p.clip(1e-12))).sum(axis=1).mean())


def inception_score(probabilities: Floats) -> float:
    """exp of the mean Kullback-Leibler divergence of what a classifier says of one sound from what it says of all
    (Salimans et al. 2016, section 4), `[N, classes]`: from 1 (all alike, or never sure) to the number of classes. With
    classes of pitch as in GANSynth (Engel et al. 2019)."""
    p = probabilities.astype(np.float64).clip(1e-12)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(axis=0)))).sum(axis=1).mean()))


def diversity(sounds: Floats) -> float:
    """Mean distance between two sounds of a set, in the units of the embedding `[N, d]`. 0: all alike."""
    return float(pdist(sounds.astype(np.float64)).mean())


def class_hits(probabilities: Floats, asked: Floats, notes: Floats) -> dict[str, NDArray[np.float64]]:
    """Whether a classifier hears the asked pitch `[N]` (MIDI; NaN: none was asked) in each sound that has one, in
    percent: `exact`, the nearest of its `notes` `[classes]`, and `within_a_semitone`, that note or a neighbour."""
    known = np.isfinite(asked)
    away = np.abs(notes[probabilities[known].argmax(axis=1)] - np.rint(asked[known]))
    return {"exact": 100.0 * (away < 0.5), "within_a_semitone": 100.0 * (away < 1.5)}
