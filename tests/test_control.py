"""Maps, prior, closed loop and their file: on worlds whose truth is known."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from audio_vaegan.control.calibration import IDENTITY, Map, fit_map
from audio_vaegan.control.closed_loop import close_loop
from audio_vaegan.control.directions import Direction
from audio_vaegan.control.fitted import FILE, TENSORS, Calibration, Fitted, load_fitted, save_fitted
from audio_vaegan.control.prior import fit_prior
from audio_vaegan.control.usual import Features, fit_usual
from audio_vaegan.errors import UserError


def test_a_map_inverts_what_was_measured():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, 600)
    heard = np.tanh(0.8 * x) + 0.3 + 0.02 * rng.standard_normal(600)
    found = fit_map(x, heard)
    wanted = np.linspace(-0.4, 0.9, 9)
    np.testing.assert_allclose(np.tanh(0.8 * found(wanted)) + 0.3, wanted, atol=0.05)
    assert (np.diff(found(np.linspace(-3, 3, 200))) > 0).all()  # strictly rising, beyond the ends too
    assert np.isnan(found(np.array([np.nan]))).all()


def test_a_map_never_pushes_hard_where_nothing_follows():
    x = np.linspace(-2, 2, 300)
    slope = np.diff(fit_map(x, np.zeros(300))(np.linspace(-1, 1, 50))) / (2 / 49)
    assert slope.max() <= 4.01
    assert fit_map(x[:20], x[:20]) == IDENTITY == fit_map(np.zeros(50), x[:50])
    np.testing.assert_allclose(IDENTITY(np.array([-7.0, 0.2, 5.0])), [-7.0, 0.2, 5.0])
    known = fit_map(np.append(x, np.nan), np.append(x, 3.0))
    np.testing.assert_allclose(known(np.linspace(-1.5, 1.5, 7)), np.linspace(-1.5, 1.5, 7), atol=0.02)


@pytest.fixture(scope="module")
def prior():
    """Two kinds of sounds: low and dark near +2, high and bright near -2, the second without the second control."""
    rng = np.random.default_rng(1)
    z = 0.3 * rng.standard_normal((400, 6))
    kind = np.arange(400) % 2
    z[:, 0] += np.where(kind, 1.5, -1.5)
    z[:, 3] += np.where(kind, -2, 2) + 0.5 * z[:, 0]
    z[kind == 1, 1] = np.nan
    return fit_prior(z, 2), z, kind


def draw(prior, count, asked, truncation=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return prior.sample(rng.standard_normal((count, 6)), rng.uniform(size=(count, 3)), asked, truncation)


def test_the_prior_has_the_moments_of_the_codes_and_their_undefined_controls(prior):
    fitted, z, _ = prior
    made = draw(fitted, 4000, np.full((4000, 2), np.nan))
    assert np.isnan(made[:, 1]).mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(made[:, 2:].mean(0), z[:, 2:].mean(0), atol=0.15)
    np.testing.assert_allclose(made[:, 2:].std(0), z[:, 2:].std(0), rtol=0.1)
    assert np.corrcoef(made[:, 0], made[:, 3])[0, 1] == pytest.approx(np.corrcoef(z[:, 0], z[:, 3])[0, 1], abs=0.03)
    share = (np.linalg.norm(z[:, 2:], axis=1) <= fitted.radius).mean()
    assert share == pytest.approx(0.99, abs=0.005)


def test_the_prior_obeys_conditions_exactly_and_brings_what_goes_with_them(prior):
    fitted, z, kind = prior
    asked = np.stack([np.linspace(-2, 2, 400), np.full(400, np.nan)], axis=1)
    made = draw(fitted, 400, asked)
    np.testing.assert_array_equal(made[:, 0], asked[:, 0])
    for side, k in ((asked[:, 0] < -1, 0), (asked[:, 0] > 1, 1)):
        assert made[side, 3].mean() == pytest.approx(z[kind == k, 3].mean(), abs=0.3)
    assert not np.isnan(made[asked[:, 0] < -1, 1]).any() and np.isnan(made[asked[:, 0] > 1, 1]).all()


def test_truncation_and_single_draws(prior):
    fitted, _, _ = prior
    asked = np.full((50, 2), np.nan)
    still = draw(fitted, 50, asked, truncation=0.0)
    np.testing.assert_allclose(still[:, 2:], np.broadcast_to(fitted.mean[:, 2:].mean(0), (50, 4)), atol=1e-9)
    low = draw(fitted, 50, np.stack([np.full(50, -1.5), np.full(50, np.nan)], axis=1), truncation=0.0)
    assert low[:, 3].std() < 1e-9 < 1 < low[:, 3].mean()  # of what is as asked, not of all
    rng = np.random.default_rng(0)
    normal, even = rng.standard_normal((50, 6)), rng.uniform(size=(50, 3))
    whole = fitted.sample(normal, even, asked)
    alone = fitted.sample(normal[7:8], even[7:8], asked[7:8])
    np.testing.assert_allclose(whole[7:8], alone, rtol=1e-12, equal_nan=True)


def test_below_one_truncation_leaves_out_what_is_rare_among_what_is_asked():
    rng = np.random.default_rng(3)
    z = rng.standard_normal((400, 6))
    z[::20] = 0.3 * z[::20] + rng.choice([-9.0, 9.0], (20, 6))  # one in twenty lies apart, in a corner of its own
    fitted = fit_prior(z, 2)

    def rare(truncation, asked=np.nan):
        made = draw(fitted, 2000, np.stack([np.full(2000, asked), np.full(2000, np.nan)], axis=1), truncation)
        return (np.linalg.norm(made[:, 2:], axis=1) > 8).mean()

    assert rare(1.0) == pytest.approx(0.05, abs=0.02) and rare(0.97) == 0
    assert rare(0.97, asked=9.0) == 1  # there all are of that kind


def test_what_is_saved_of_a_prior_does_not_grow_by_what_it_was_asked(prior, tmp_path):
    fitted, _, _ = prior
    draw(fitted, 5, np.full((5, 2), np.nan), truncation=0.5)
    save_fitted(Fitted("0" * 64, prior=fitted), tmp_path)
    kept = load((tmp_path / "controls.safetensors").read_bytes())
    assert sorted(kept) == ["prior.covariance", "prior.defined", "prior.kind", "prior.mean", "prior.weight"]
    del kept["prior.kind"]  # as models of before have it: all of one kind
    content = save(kept)
    (tmp_path / "controls.safetensors").write_bytes(content)
    about = json.loads((tmp_path / "controls.json").read_text())
    (tmp_path / "controls.json").write_text(json.dumps(about | {"tensors_sha256": hashlib.sha256(content).hexdigest()}))
    found = load_fitted(tmp_path, "0" * 64)
    assert found is not None and found.prior is not None and not found.prior.kind.any()


def test_a_class_that_is_asked_brings_codes_of_that_class_alone():
    rng = np.random.default_rng(2)
    kind = rng.integers(0, 3, 300)
    z = np.concatenate([kind[:, None], rng.standard_normal((300, 4))], axis=1)
    z[:, 1] += 8.0 * (kind == 1)  # the timbre of class 1 lies apart
    fitted = fit_prior(z, 1, [0])
    normal, even = rng.standard_normal((90, 5)), rng.uniform(size=(90, 2))
    made = fitted.sample(normal, even, np.repeat([0.0, 1.0, 2.0], 30)[:, None])
    assert (made[30:60, 1] > 4).all() and (np.abs(made[np.r_[:30, 60:90], 1]) < 4).all()
    free = fitted.sample(normal, even, np.full((90, 1), np.nan))
    assert np.abs(free[:, 0] - free[:, 0].round()).max() < 0.1 and set(free[:, 0].round()) == {0.0, 1.0, 2.0}


def test_each_class_keeps_its_own_place_and_width():
    """Few sounds of a narrow class among many of wide ones: what is drawn of it is as narrow, and stays where it is."""
    rng = np.random.default_rng(4)
    kind = np.r_[np.zeros(12), np.ones(150), np.full(150, 2)]
    z = np.concatenate([kind[:, None], rng.standard_normal((312, 20))], axis=1)
    z[:12, 1] = 3 + 0.1 * z[:12, 1]
    z[:12, 2:] += 2
    fitted = fit_prior(z, 2, [0])
    normal, even = rng.standard_normal((600, 21)), rng.uniform(size=(600, 3))
    asked = np.stack([np.repeat([0.0, 1.0], 300), np.full(600, np.nan)], axis=1)
    made = fitted.sample(normal, even, asked)
    np.testing.assert_allclose(made[:300].mean(0), z[:12].mean(0), atol=0.25)
    np.testing.assert_allclose(made[300:].mean(0), z[12:162].mean(0), atol=0.25)
    assert made[:300, 1].std() < 0.65 and made[300:, 1].std() == pytest.approx(1, abs=0.12)
    assert fitted.covariance.shape == (3, 21, 21)


def test_a_coordinate_that_never_varies_does_no_harm():
    z = np.random.default_rng(5).standard_normal((60, 6))
    z[:, 0], z[:, 1], z[:, 4] = np.arange(60) % 3, np.nan, 2.0
    fitted = fit_prior(z, 2, [0])
    made = draw(fitted, 50, np.full((50, 2), np.nan))
    assert np.isfinite(np.delete(made, 1, axis=1)).all() and np.isnan(made[:, 1]).all()
    np.testing.assert_allclose(made[:, 4], 2.0, atol=0.1)


def test_the_distance_to_the_prior_is_that_to_its_nearest_kernel(prior):
    fitted, z, _ = prior
    full = np.where(np.isfinite(z), z, 0)
    for row in (3, 8):  # one with an undefined control, one without
        away = np.where(np.isfinite(z[row]), full[row] - fitted.mean, 0.0)
        square = np.einsum("kz,zy,ky->k", away, np.linalg.inv(fitted.covariance[0]), away)
        assert fitted.distance(z[row : row + 1])[0] == pytest.approx(np.sqrt(square.min() / 6), rel=1e-6)
    assert fitted.distance(z[:1] + 5)[0] > 3 * fitted.distance(z[:1])[0]


def world(gain=0.6, leak=0.3):
    """z [B, 2 + 3] -> heard [B, 2]: each control by its gain, leaking into the other, helped by a timbre coordinate."""
    mix = torch.tensor([[gain, leak, 0.5, 0, 0], [leak, gain, 0, 0.5, 0]])

    def hear(z):
        return torch.tanh(z.nan_to_num(0.0) @ mix.T / 2) * 2

    return hear, lambda z: mix.expand(len(z), -1, -1)


def loop(z, wanted, hear, slope, radius=2.0, **how):
    low, high = torch.full((len(z), 2), -3.0), torch.full((len(z), 2), 3.0)
    return close_loop(z, wanted, hear, slope, low, high, radius, **how)


def test_the_loop_reaches_what_was_asked_in_three_steps():
    hear, slope = world()
    g = torch.Generator().manual_seed(0)
    z, wanted = torch.randn(64, 5, generator=g) * 0.5, torch.randn(64, 2, generator=g).clamp(-1, 1)
    found = loop(z, wanted, hear, slope)
    assert found.closed.median() < 0.2 * found.open.median() and (found.closed <= found.open).all()
    torch.testing.assert_close(found.heard, hear(found.z))
    one = loop(z[5:6], wanted[5:6], hear, slope)
    torch.testing.assert_close(one.z, found.z[5:6], atol=1e-5, rtol=1e-5)  # sounds do not touch each other


def test_a_guess_of_the_slope_is_corrected_by_what_the_steps_did():
    hear, _ = world(gain=0.8, leak=0.4)
    g = torch.Generator().manual_seed(0)
    z, wanted = torch.randn(64, 5, generator=g) * 0.5, torch.randn(64, 2, generator=g).clamp(-0.8, 0.8)
    guess = torch.zeros(64, 2, 5)
    guess[:, 0, 0] = guess[:, 1, 1] = 1.0  # each follows its own coordinate, and nothing else is known
    medians = [loop(z, wanted, hear, lambda z: guess, steps=n).closed.median() for n in (1, 2, 3)]
    assert medians[0] > medians[1] > medians[2] and medians[2] < 0.3 * medians[0]


def test_what_has_a_narrow_tolerance_comes_nearer():
    hear, slope = world(gain=0.5, leak=0.5)  # both controls do the same: they cannot both be had
    z, wanted = torch.zeros(1, 5), torch.tensor([[0.6, -0.6]])
    z[:, 2:] = 0
    slope_of_controls = lambda z: slope(z) * torch.tensor([1.0, 1, 0, 0, 0])  # noqa: E731
    off = [
        (wanted - loop(z, wanted, hear, slope_of_controls, tolerance=torch.tensor([t])).heard).abs()[0]
        for t in ([1.0, 1.0], [0.2, 1.0], [1.0, 0.2])
    ]
    assert off[1][0] < off[0][0] < off[2][0] and off[2][1] < off[0][1] < off[1][1]


def test_the_loop_is_never_worse_than_without_even_when_the_slope_misleads():
    hear, slope = world()
    g = torch.Generator().manual_seed(1)
    z, wanted = torch.randn(64, 5, generator=g), torch.randn(64, 2, generator=g)
    for wrong in (lambda z: -slope(z), lambda z: torch.ones(64, 2, 5) * 5, lambda z: torch.zeros(64, 2, 5)):
        found = loop(z, wanted, hear, wrong)
        assert (found.closed <= found.open).all()
        same = found.closed == found.open
        assert torch.equal(found.z[same], z[same])


def test_the_loop_stays_where_the_data_lie_and_leaves_what_is_not_asked():
    hear, slope = world(gain=0.05, leak=0.0)
    z = torch.zeros(4, 5)
    z[3, 2:] = 3.0  # longer than the radius: may stay, not grow
    found = loop(z, torch.tensor([[9.0, torch.nan]]).expand(4, 2).clone(), hear, slope)
    assert (found.z[:, :2].abs() <= 3.0).all()
    assert (found.z[:3, 2:].norm(dim=1) <= 2.0 + 1e-5).all() and found.z[3, 2:].norm() <= 27**0.5 + 1e-4
    undefined = torch.zeros(2, 5)
    undefined[:, 1] = torch.nan
    hear, slope = world()
    found = loop(undefined, torch.tensor([[0.5, torch.nan], [0.5, 0.5]]), hear, slope)
    assert found.z[:, 1].isnan().all() and (found.closed < found.open).all()
    nothing = loop(torch.randn(2, 5), torch.full((2, 2), torch.nan), hear, slope)
    assert (nothing.open == 0).all() and (nothing.closed == 0).all()


@pytest.fixture
def fitted(prior):
    vector = np.arange(6.0)
    return Fitted(
        "abc",
        {
            "pitch": Calibration(
                "semitones", 36, 84, Map((-1.0, 0.5), (-1.2, 0.6)), 5, 0.99, 0.04, 0.1, leakage={"x": None}
            )
        },
        prior[0],
        {"brass": Direction("brass", "joint", vector, 0.0, 1.0, True, 0.9, 40)},
        fit_usual(("a", "b"), np.exp(vector.reshape(3, 2)), Features(np.zeros(4), np.eye(2, 4))),
        {"store": "s"},
        np.arange(5.0),
    )


def test_what_was_fitted_is_read_back(tmp_path, fitted):
    assert load_fitted(tmp_path, "abc") is None
    save_fitted(fitted, tmp_path)
    again = load_fitted(tmp_path, "abc")
    assert again.controls == fitted.controls and again.about == fitted.about
    np.testing.assert_allclose(again.prior.covariance, fitted.prior.covariance, rtol=1e-6)
    np.testing.assert_array_equal(again.directions["brass"].vector, np.arange(6.0))
    np.testing.assert_array_equal(again.ceiling, np.arange(5.0))
    assert again.usual.names == ("a", "b")
    np.testing.assert_allclose(again.usual.quantiles, fitted.usual.quantiles, rtol=1e-6)
    np.testing.assert_array_equal(again.usual.features.axes, np.eye(2, 4))
    more = again.with_directions({"brass": dataclasses.replace(again.directions["brass"], score=0.5)})
    assert more.directions["brass"].score == 0.5


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: f.write_text(f.read_text().replace('"abc"', '"abd"')), "measured on another model"),
        (lambda f: f.write_text("{"), "cannot be read"),
        (lambda f: f.write_text(json.dumps({"version": 99})), "not of version"),
        (lambda f: (f.parent / TENSORS).write_bytes(b"x" * 100), "not the one that was written with it"),
        (lambda f: (f.parent / TENSORS).unlink(), "damaged"),
        (lambda f: f.write_text(f.read_text().replace('"map"', '"mop"')), "damaged"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path, fitted, spoil, says):
    save_fitted(fitted, tmp_path)
    spoil(tmp_path / FILE)
    with pytest.raises(UserError, match=says) as e:
        load_fitted(tmp_path, "abc")
    assert "\n" not in str(e.value)
