"""Metrics of sets, on distributions whose answer is known."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from audio_vaegan.evaluation.metrics import (
    bandwidth_of,
    class_hits,
    different_bins,
    diversity,
    fad_infinity,
    frechet_audio_distance,
    inception_score,
    kernel_audio_distance,
    pitch_entropy,
    precision_recall,
)

RNG = np.random.default_rng(0)


def gaussian(n, d=8, mean=0.0, deviation=1.0, seed=0):
    return np.random.default_rng(seed).normal(mean, deviation, (n, d)).astype(np.float32)


def test_kad_is_about_zero_for_one_distribution_however_few_sounds_there_are():
    found = [kernel_audio_distance(gaussian(60, seed=i), gaussian(60, seed=100 + i)).value for i in range(40)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 40**0.5 and np.std(found) < 1.0
    assert min(found) < 0 < max(found)


def test_kad_of_two_gaussians_is_the_closed_form():
    """Of N(0, I) and N(m, I) under a Gaussian kernel of width s, in d dimensions: with c = s^2 / (s^2 + 2),
    MMD^2 = 2 c^(d/2) (1 - exp(-|m|^2 / (2 (s^2 + 2))))."""
    d, shift, s = 4, 0.8, 2.5
    x, y = gaussian(3000, d, seed=1), gaussian(3000, d, shift, seed=2)
    c = s**2 / (s**2 + 2)
    expected = 100 * 2 * c ** (d / 2) * (1 - np.exp(-d * shift**2 / (2 * (s**2 + 2))))
    assert kernel_audio_distance(x, y, s).value == pytest.approx(expected, rel=0.05)


def test_the_bandwidth_is_that_of_the_reference():
    x, y = gaussian(400, seed=1), gaussian(400, deviation=5.0, seed=2)
    assert bandwidth_of(x) == pytest.approx(np.sqrt(2 * 8), rel=0.05)  # of two normal vectors in 8 dimensions
    assert kernel_audio_distance(x, y).value == kernel_audio_distance(x, y, bandwidth_of(x)).value
    assert kernel_audio_distance(x, y).value != kernel_audio_distance(y, x).value


def test_kad_by_groups_is_the_same_figure_and_its_interval_holds_the_truth():
    """A group drawn twice is no likeness: the draws lie around the figure, not above it."""
    means = np.random.default_rng(3).normal(0, 1, (60, 8))
    groups = np.repeat(np.arange(30), 12)
    x, y = ((means[groups + 30 * k] + gaussian(360, deviation=0.3, seed=k)).astype(np.float32) for k in (0, 1))
    alone, grouped = kernel_audio_distance(x, y), kernel_audio_distance(x, y, groups=(groups, groups))
    assert grouped.value == pytest.approx(alone.value, abs=1e-9)
    assert np.median(grouped.draws) == pytest.approx(grouped.value, abs=np.std(grouped.draws))
    assert np.std(grouped.draws) > 2 * np.std(alone.draws)  # sounds of one instrument are not independent
    again = kernel_audio_distance(x, y, groups=(groups, groups))
    assert (again.draws == grouped.draws).all()


def test_a_single_group_says_nothing_of_others_and_a_shared_one_is_no_likeness():
    x, y = gaussian(60, seed=1), gaussian(60, 8, 0.5, seed=2)
    two, one = np.repeat([0, 1], 30), np.zeros(60, dtype=int)
    assert np.isnan(kernel_audio_distance(x, y, groups=(two, one + 5)).draws).all()
    assert kernel_audio_distance(x, y, groups=(two, one + 5)).value == pytest.approx(kernel_audio_distance(x, y).value)
    shared = kernel_audio_distance(x, y, groups=(two, two)).draws
    assert np.nanmin(shared) > -5 and np.isfinite(shared).mean() > 0.4


def test_fad_of_two_gaussians_is_the_closed_form():
    """|m|^2 + sum of (s - t)^2 for independent coordinates of deviations s and t."""
    x, y = gaussian(40_000, 3, seed=1), gaussian(40_000, 3, 2.0, 1.5, seed=2)
    assert frechet_audio_distance(x, y) == pytest.approx(3 * 4 + 3 * 0.25, rel=0.02)
    assert frechet_audio_distance(x, x) == pytest.approx(0, abs=1e-6)


def test_fad_is_biased_and_its_extrapolation_is_not():
    x, y = gaussian(2000, 32, seed=1), gaussian(2000, 32, seed=2)
    small = frechet_audio_distance(x[:200], y[:200])
    found = fad_infinity(x, y)
    assert small > 3 * frechet_audio_distance(x, y) > 0
    assert abs(found["value"]) < 0.2 * frechet_audio_distance(x, y) and found["r2"] > 0.99
    assert found["to"] == 2000 and found["from"] == 400
    shifted = fad_infinity(x, gaussian(2000, 32, 0.5, seed=3))
    assert shifted["value"] == pytest.approx(32 * 0.25, rel=0.1)
    assert fad_infinity(x[:100], y[:100]) is None


def test_precision_and_recall_know_what_is_missing():
    real = gaussian(600, 4, seed=1)
    alike = precision_recall(real, gaussian(600, 4, seed=2))
    assert alike["density"] == pytest.approx(1, abs=0.1) and alike["coverage"] > 0.93
    one_mode = precision_recall(real, gaussian(600, 4, deviation=0.1, seed=3))  # alike, and a corner of the real
    assert one_mode["precision"] > 0.95 and one_mode["recall"] < 0.1 and one_mode["coverage"] < 0.3
    elsewhere = precision_recall(real, gaussian(600, 4, 20.0, seed=4))
    assert elsewhere == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_different_bins_are_five_percent_by_chance_and_all_for_another_distribution():
    real = gaussian(3000, 4, seed=1)
    shares = [different_bins(real, gaussian(3000, 4, seed=10 + i))["share"] for i in range(4)]
    assert np.mean(shares) <= 0.15
    assert different_bins(real, real)["share"] == 0
    half = gaussian(3000, 4, seed=5)
    half[:, 0] = np.abs(half[:, 0])  # one half of the sounds never come
    assert different_bins(real, half)["share"] > 0.7
    assert different_bins(real[:400], real[:400]) is None


def test_pitch_entropy_and_inception_score_at_their_ends():
    sure, unsure = np.eye(10, dtype=np.float32)[np.arange(200) % 10], np.full((200, 10), 0.1, np.float32)
    assert pitch_entropy(sure) == pytest.approx(0, abs=1e-6)
    assert pitch_entropy(unsure) == pytest.approx(np.log(10), rel=1e-6)
    assert inception_score(sure) == pytest.approx(10, rel=1e-5)  # sure of each, and all ten come
    assert inception_score(unsure) == pytest.approx(1, abs=1e-6)
    assert inception_score(np.eye(10, dtype=np.float32)[np.zeros(200, int)]) == pytest.approx(1, abs=1e-6)  # one only


def test_pitch_hits_are_exact_or_a_semitone_away():
    notes = np.arange(60, 64, dtype=float)
    said = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 3]]
    hits = class_hits(said, np.array([60.0, 62.0, 60.0, 63.2, np.nan]), notes)
    assert hits["exact"].tolist() == [100, 0, 0, 100]
    assert hits["within_a_semitone"].tolist() == [100, 100, 0, 100]


def test_diversity_is_the_mean_distance():
    assert diversity(np.zeros((5, 3), np.float32)) == 0
    assert diversity(np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)) == pytest.approx(5)
    assert diversity(2 * gaussian(200)) == pytest.approx(2 * diversity(gaussian(200)), rel=1e-5)


def test_the_reference_of_the_closed_form_is_right():
    """The formula of KAD above, once by integration over samples of known density: E k(x, y) = c^(d/2) exp(...)."""
    s, d, shift = 2.5, 1, 0.8
    grid = np.linspace(-12, 12, 1201)
    p = multivariate_normal(0, 1).pdf(grid) * (grid[1] - grid[0])
    q = multivariate_normal(shift, 1).pdf(grid) * (grid[1] - grid[0])
    kernel = np.exp(-((grid[:, None] - grid) ** 2) / (2 * s**2))
    c = s**2 / (s**2 + 2)
    expected = 2 * c ** (d / 2) * (1 - np.exp(-(shift**2) / (2 * (s**2 + 2))))
    assert p @ kernel @ p + q @ kernel @ q - 2 * p @ kernel @ q == pytest.approx(expected, rel=1e-6)
