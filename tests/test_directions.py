"""Worlds where the truth is known: z is Gaussian, every attribute a linear map of z, the maps overlap."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from audio_vaegan.control.directions import METHODS, find_direction, principal_directions
from audio_vaegan.errors import UserError

NAMES = ("bright", "pitch", "level")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Matrices this small are decomposed 20 times slower by threads that wait for a busy core."""
    with threadpool_limits(1, "blas"):
        yield


def world(seed=0, count=800, size=16, spread=1.0, noise=0.1):
    """z `[N, Z]` of spreads from 1 to exp(-spread) along turned axes; truth `[3, Z]`, attributes of sd 1 in z."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(size, size)))[0]
    z = 2 + rng.normal(size=(count, size)) @ (turn * np.exp(-np.linspace(0, spread, size))).T
    truth = rng.normal(size=(3, size)) + rng.normal(size=size)  # the second term is common: the maps overlap
    truth /= (z @ truth.T).std(0)[:, None]
    values = z @ truth.T + noise * rng.normal(size=(count, 3))
    return z, truth, dict(zip(NAMES, values.T, strict=True))


def split(attributes, name="bright"):
    return attributes[name], name, {k: v for k, v in attributes.items() if k != name}


def test_only_the_mean_difference_leaks():
    moved = {m: [] for m in METHODS}
    for seed in range(3):
        z, truth, attributes = world(seed)
        for i, name in enumerate(NAMES):
            for method in METHODS:
                found = find_direction(z, *split(attributes, name), method)
                before, after = z @ truth.T, (z + 0.7 * found.vector) @ truth.T
                change = (after - before).mean(0) / 0.7
                moved[method].append([change[i], *np.abs(np.delete(change, i))])
    moved = {m: np.array(v) for m, v in moved.items()}
    leak = {m: v[:, 1:].mean() for m, v in moved.items()}
    assert np.abs(moved["joint"][:, 0] - 1).max() < 0.05 and moved["joint"][:, 1:].max() < 0.02
    assert np.abs(moved["svm"][:, 0] - 1).max() < 0.05 and moved["svm"][:, 1:].max() < 0.05
    assert np.abs(moved["mean"][:, 0] - 1).max() < 0.05  # its gain is right, its leakage is that of the data
    assert leak["joint"] < 0.01 and leak["svm"] < 0.02 and 0.3 < leak["mean"] < 0.8


def test_the_mean_difference_leaks_what_the_data_correlate():
    z, truth, attributes = world()
    leak = truth @ find_direction(z, *split(attributes), "mean").vector
    assert leak[1:] == pytest.approx(np.corrcoef((z @ truth.T).T)[0, 1:], abs=0.08)


def test_joint_is_the_column_of_the_pseudo_inverse():
    z, truth, attributes = world(count=4000, noise=0.0)
    basis = np.linalg.cholesky(np.cov(z.T))
    expected = basis @ np.linalg.pinv(truth @ basis)[:, 0]  # the smallest step in units of the data's spread
    assert find_direction(z, *split(attributes)).vector == pytest.approx(expected, abs=0.03 * np.abs(expected).max())


def test_the_step_stays_where_the_data_are():
    """In a world with almost empty axes, the smallest Euclidean step leaks more: they are read badly."""
    here, plain = [], []
    for seed in range(4):
        z, truth, attributes = world(seed, 300, 32, spread=3.0, noise=0.3)
        vector = find_direction(z, *split(attributes)).vector
        columns = np.stack(list(attributes.values()), 1)
        readout = np.linalg.lstsq(z - z.mean(0), columns - columns.mean(0), rcond=None)[0].T
        here.append(np.abs(truth[1:] @ vector).mean())
        plain.append(np.abs(truth[1:] @ np.linalg.pinv(readout)[:, 0]).mean())
    assert np.mean(here) < 0.03 and np.mean(here) < np.mean(plain) / 2


def test_methods_agree_in_sign_and_the_svm_lies_near_joint():
    z, _, attributes = world(1)
    joint, svm, mean = (find_direction(z, *split(attributes), m).vector for m in METHODS)
    precision = np.linalg.inv(np.cov(z.T))
    cosine = lambda a, b: a @ precision @ b / np.sqrt((a @ precision @ a) * (b @ precision @ b))  # noqa: E731
    assert cosine(joint, svm) > 0.95 and cosine(svm, mean) > 0.3 and cosine(joint, mean) > 0.3


@pytest.mark.parametrize("method", METHODS)
def test_a_class(method):
    z, truth, attributes = world(noise=0.05)
    bright, name, others = split(attributes)
    held = (bright > np.quantile(bright, 0.7)).astype(float)
    found = find_direction(z, held, name, others, method)
    change = truth @ found.vector
    assert found.binary and (found.low, found.high, found.count) == (0, 1, 800) and found.score > 0.97
    assert 1.5 < change[0] < 4  # standard deviations of what the class is cut from
    assert np.abs(change[1:]).max() < 0.1 * change[0] or method == "mean"
    without = z[held == 0] + found.vector  # the step carries what has it not to where it is
    assert np.mean(without @ truth[0] > np.quantile(z @ truth[0], 0.7)) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_only_free_coordinates_move(method):
    z, truth, attributes = world()
    free = np.arange(16) >= 6
    found = find_direction(z, *split(attributes), method, free=free)
    assert (found.vector[~free] == 0).all() and (found.vector[free] != 0).all()
    assert truth[0] @ found.vector == pytest.approx(1, abs=0.05)
    assert np.abs(truth[1:] @ found.vector).max() < 0.05 or method == "mean"


def test_the_score_is_no_optimist():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(60, 80))  # any attribute of the fitted sounds can be read from so many coordinates
    number, cut = rng.normal(size=(2, 20, 60))
    r = [find_direction(z, n, "x", {}).score for n in number]
    auc = [find_direction(z, (c > 0).astype(float), "x", {}).score for c in cut]
    assert abs(np.mean(r)) < 0.12 and abs(np.mean(auc) - 0.5) < 0.08
    z, _, attributes = world()
    assert find_direction(z, *split(attributes)).score > 0.98


def test_groups_are_kept_whole():
    """A number drawn for each instrument is readable on other notes of the same instruments, not on other ones."""
    rng = np.random.default_rng(3)
    place, number = rng.normal(size=(40, 64)), rng.normal(size=40)
    who = np.repeat(np.arange(40), 10)
    z, y = place[who] + 0.1 * rng.normal(size=(400, 64)), number[who]
    assert find_direction(z, y, "x", {}).score > 0.9
    assert abs(find_direction(z, y, "x", {}, groups=[f"instrument {i}" for i in who]).score) < 0.4
    alone = find_direction(z, (who == 0).astype(float), "x", {}, groups=who)
    assert np.isnan(alone.score)  # one instrument has it: nothing says whether another would


def test_the_score_reads_the_free_coordinates():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 6))
    free = np.arange(6) > 0
    assert find_direction(z, z[:, 0], "x", {}, "mean").score > 0.99
    assert abs(find_direction(z, z[:, 0] + 0.01 * z[:, 1], "x", {}, free=free).score) < 0.2


@pytest.mark.parametrize("method", METHODS)
def test_unknown_values_are_left_out(method):
    z, truth, attributes = world()
    bright, name, others = split(attributes)
    known = np.arange(800) % 3 > 0
    found = find_direction(z, np.where(known, bright, np.nan), name, others, method)
    alone = find_direction(z[known], bright[known], name, {k: v[known] for k, v in others.items()}, method)
    assert (found.low, found.high, found.count) == (alone.low, alone.high, alone.count)
    assert truth[0] @ found.vector == pytest.approx(1, abs=0.05)
    assert np.abs(found.vector - alone.vector).max() < 0.2 * np.abs(alone.vector).max()  # z of the unknown still counts


def test_few_labels_and_others_that_are_unknown_for_a_reason():
    z, truth, attributes = world(count=1000)
    bright, name, others = split(attributes)
    some = np.where(np.arange(1000) < 60, bright, np.nan)
    pitched = np.where(bright < 0.5 + bright.mean(), others["pitch"], np.nan)  # what is bright has no pitch
    found = find_direction(z, some, name, {**others, "pitch": pitched, "never": np.full(1000, np.nan)})
    change = truth @ found.vector
    assert change[0] == pytest.approx(1, abs=0.1) and np.abs(change[1:]).max() < 0.03 and found.count == 60


def test_half_of_the_values_may_be_equal():
    z, _, attributes = world()
    floor = np.maximum(attributes["level"], np.quantile(attributes["level"], 0.85))
    found = find_direction(z, floor, "level", {}, "mean")
    assert found.count == 800 and found.vector @ z.T @ (floor - floor.mean()) > 0 and not found.binary


def test_the_same_again():
    z, _, attributes = world(count=200)
    for method in METHODS:
        a, b = (find_direction(z.astype(np.float32), *split(attributes), method) for _ in range(2))
        assert (a.vector == b.vector).all() and a.score == b.score and a.vector.dtype == np.float64


def test_a_coordinate_that_never_varies_does_not_move():
    z, truth, attributes = world()
    z = np.concatenate((z, np.full((800, 1), 3.0)), 1)
    vector = find_direction(z, *split(attributes)).vector
    assert vector[-1] == pytest.approx(0, abs=1e-9) and truth[0] @ vector[:-1] == pytest.approx(1, abs=0.05)


def test_principal_directions():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(6, 6)))[0].T
    spread = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.125])
    z = 5 + rng.normal(size=(5000, 6)) * spread @ axes
    steps, share = principal_directions(z, 3)
    assert steps.shape == (3, 6) and share == pytest.approx((spread**2 / (spread**2).sum())[:3], rel=0.05)
    assert np.linalg.norm(steps, axis=1) == pytest.approx(spread[:3], rel=0.05)
    assert np.abs((steps / spread[:3, None] * axes[:3]).sum(1)) == pytest.approx(np.ones(3), rel=0.05)
    assert (steps[np.arange(3), np.abs(steps).argmax(1)] > 0).all()
    assert np.allclose(principal_directions(6 - z, 3)[0], steps)  # mirrored data, the same signs
    assert len(principal_directions(z[:4])[0]) == 4 and len(principal_directions(z)[1]) == 6


def broken(**change):
    z, _, attributes = world(count=100)
    bright, name, others = split(attributes)
    return {"z": z, "attribute": bright, "name": name, "others": others} | change


Z, _, A = world(count=100)
BAD = np.where(np.arange(100)[:, None] < 3, np.inf, Z)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"method": "jiont"}, "Did you mean 'joint'"),
        ({"attribute": A["bright"][:99]}, "attribute has shape (99,)"),
        ({"others": {"groups": A["pitch"][:50]}}, "other 'groups' has shape (50,)"),
        ({"groups": ["a"]}, "groups has shape (1,)"),
        ({"groups": ["a", "b"] * 50}, "fewer than 3 groups"),
        ({"z": BAD}, "not finite for 3 of 100"),
        ({"z": Z[0]}, "z has shape (16,)"),
        ({"attribute": np.full(100, 2.5)}, "all 100 known values are 2.5"),
        ({"attribute": np.full(100, np.nan)}, "0 known sounds with little, 0 with much"),
        ({"attribute": (np.arange(100) < 7).astype(float)}, "93 known sounds with little, 7 with much"),
        ({"attribute": np.where(np.arange(100) < 20, A["bright"], np.nan)}, "5 known sounds with little, 5 with much"),
        ({"free": np.zeros(16, dtype=bool)}, "at least one of them true"),
        ({"free": np.ones(15, dtype=bool)}, "give 16 booleans"),
        ({"others": {"the same": A["bright"]}}, "no free coordinate moves it"),
        ({"others": {"the same": A["bright"]}, "free": np.arange(16) == 2, "method": "svm"}, "no free coordinate"),
    ],
)
def test_errors_are_one_line_that_names_what_and_the_mend(change, says):
    with pytest.raises(UserError) as error:
        find_direction(**broken(**change))
    text = str(error.value)
    assert says in text and text.startswith("direction 'bright': ") and "\n" not in text and len(text) < 160


def test_principal_directions_want_finite_latents():
    with pytest.raises(UserError, match="not finite for 3 of 100"):
        principal_directions(BAD)
