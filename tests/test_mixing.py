"""Mixing two sounds, as mathematics: no network is asked."""

import math

import numpy as np
import pytest
import torch

from audio_vaegan.errors import UserError
from audio_vaegan.models.controls import Control, standardise
from audio_vaegan.sound_model.mixing import join, morph, slerp, transfer
from audio_vaegan.sound_model.sounds import Sound

PITCH = Control("pitch", "semitones (MIDI)", 40, 80, 60, 10, 120)
DECAY = Control("decay", "dB/s", -20, 400, 30, 40, 60, bend=50)
BRIGHT = Control("brightness", "semitones re 440 Hz", -10, 40, 15, 8, 60)
FAMILY = Control("family", "class", 0, 2, 0, 1, 3, classes=("brass", "reed", "string"))
CONTROLS = (PITCH, DECAY, BRIGHT, FAMILY)
NAN = float("nan")


def make(*values, samples=8000, seed=0, dim=6):
    """A sound for each tuple of the four controls' values."""
    named = torch.tensor(values, dtype=torch.float32)
    timbre = torch.randn(len(values), dim, generator=torch.Generator().manual_seed(seed))
    z = torch.cat([standardise(CONTROLS, named), timbre], dim=1)
    lengths = torch.full((len(values),), samples)
    return Sound(z, {c.name: named[:, i] for i, c in enumerate(CONTROLS)}, lengths)


def same(a, b):
    named = all(torch.equal(a.controls[n].nan_to_num(-999), b.controls[n].nan_to_num(-999)) for n in b.controls)
    return named and torch.equal(a.z.nan_to_num(-999), b.z.nan_to_num(-999)) and torch.equal(a.samples, b.samples)


# -- slerp


def test_an_arc_is_walked_at_constant_speed():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    shares = torch.linspace(0, 1, 7)
    found = slerp(a, b, shares)
    angle = torch.atan2(found[:, 1], found[:, 0])
    assert torch.allclose(angle, shares * math.pi / 2, atol=1e-6)
    assert torch.allclose(found.norm(dim=1), torch.ones(7))


def test_norms_go_linearly_and_ends_are_exact():
    torch.manual_seed(0)
    a, b = torch.randn(5, 64), 3 * torch.randn(5, 64)
    for share in (0.0, 0.25, 0.7, 1.0):
        found = slerp(a, b, torch.tensor(share))
        assert torch.allclose(found.norm(dim=1), (1 - share) * a.norm(dim=1) + share * b.norm(dim=1), rtol=1e-5)
    assert torch.equal(slerp(a, b, torch.zeros(5)), a) and torch.equal(slerp(a, b, torch.ones(5)), b)
    assert torch.allclose(slerp(a, b, torch.full((5,), 0.3)), slerp(b, a, torch.full((5,), 0.7)), atol=1e-5)


@pytest.mark.parametrize("other", [(2.0, 4.0), (-2.0, -4.0), (0.0, 0.0), (1.0, 2.0 + 1e-7), (1.0, 2.0)])
def test_vectors_without_an_arc_are_joined_by_a_line(other):
    a, b = torch.tensor([1.0, 2.0]), torch.tensor(other)
    shares = torch.linspace(0, 1, 5)
    line = a + shares.unsqueeze(1) * (b - a)
    assert torch.allclose(slerp(a, b, shares), line, atol=1e-6)
    assert torch.allclose(slerp(b, a, shares), line.flip(0), atol=1e-6)


def test_an_arc_of_a_tiny_angle_is_still_exact():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1e-4])
    assert torch.allclose(slerp(a, b, torch.tensor(0.25)), torch.tensor([1.0, 2.5e-5]), rtol=1e-6)


# -- morph


def test_the_ends_of_a_morph_are_the_sounds_themselves():
    a, b = make((60.1, NAN, 3.3, 0), samples=5001), make((72.7, 111.1, NAN, 2), samples=8000, seed=1)
    whole = morph(a, b, torch.linspace(0, 1, 9), CONTROLS)
    assert len(whole) == 9
    assert same(whole.rows(torch.tensor([0])), a) and same(whole.rows(torch.tensor([8])), b)


def test_a_morph_walks_through_pitch_in_semitones_and_never_turns():
    a, b = make((48, 10, 0, 0), samples=4000), make((72, 300, 30, 0), samples=8000, seed=1)
    whole = morph(a, b, torch.linspace(0, 1, 25), CONTROLS)
    assert torch.allclose(whole.controls["pitch"], torch.arange(48.0, 73.0), atol=1e-4)
    for name in ("pitch", "decay", "brightness"):
        assert (whole.controls[name].diff() > 0).all()
    assert whole.controls["decay"][12] < 155  # bent: half of the way is not half of the number
    assert whole.samples.tolist() == [round(4000 + 4000 * i / 24) for i in range(25)]
    assert whole.samples.dtype == a.samples.dtype
    named = torch.stack([*whole.controls.values()], dim=1)
    assert torch.allclose(whole.z[:, :4], standardise(CONTROLS, named), atol=1e-5)
    assert torch.allclose(whole.z[:, 4:], slerp(a.z[:, 4:], b.z[:, 4:], torch.linspace(0, 1, 25)), atol=1e-6)


def test_what_has_no_middle_switches_there():
    a, b = make((60, NAN, NAN, 0)), make((62, 100, NAN, 2), seed=1)
    whole = morph(a, b, torch.tensor([0.0, 0.2, 0.49, 0.5, 0.8]), CONTROLS)
    assert whole.controls["decay"].isnan().tolist() == [True, True, True, False, False]
    assert whole.controls["decay"][3:].tolist() == [100, 100] and whole.controls["brightness"].isnan().all()
    assert whole.controls["family"].tolist() == [0, 0, 0, 2, 2] == whole.z[:, 3].tolist()
    for i, name in enumerate(whole.controls):
        assert torch.equal(whole.z[:, i].isnan(), whole.controls[name].isnan())
    assert whole.z[:, 4:].isfinite().all()


def test_many_are_morphed_at_once():
    a, b = make((50, 1, 2, 0), (60, 3, 4, 1)), make((70, 5, 6, 1))
    whole = morph(a, b, torch.tensor([0.5, 0.5]), CONTROLS)
    assert whole.controls["pitch"].tolist() == pytest.approx([60, 65])
    assert same(whole.rows(torch.tensor([1])), morph(a.rows(torch.tensor([1])), b, torch.tensor([0.5]), CONTROLS))


def test_a_model_without_controls_is_morphed_too():
    a, b = (Sound(torch.full((1, 3), v), {}, torch.tensor([10])) for v in (1.0, 3.0))
    assert torch.allclose(morph(a, b, torch.tensor([0.5]), ()).z, torch.full((1, 3), 2.0))


@pytest.mark.parametrize("shares", [[-0.1], [1.5], [NAN]])
def test_shares_lie_between_the_ends(shares):
    with pytest.raises(UserError, match=r"0 \.\.\. 1"):
        morph(make((60, 1, 1, 0)), make((61, 1, 1, 0)), torch.tensor(shares), CONTROLS)


def test_counts_must_fit():
    two, three = make(*[(60, 1, 1, 0)] * 2), make(*[(60, 1, 1, 0)] * 3)
    with pytest.raises(UserError, match="one sound, or 3, got 2"):
        morph(two, three, torch.zeros(3), CONTROLS)
    with pytest.raises(UserError, match="one sound, or 3, got 2"):
        transfer(two, three, CONTROLS)


# -- transfer


def test_a_transfer_takes_from_each_what_is_its_own():
    a, b = make((50, NAN, 3, 2), samples=8000), make((70, 99, NAN, 0), samples=1234, seed=1)
    got = transfer(a, b, CONTROLS)
    assert {n: v.item() for n, v in got.controls.items()} == {"pitch": 70, "decay": 99, "brightness": 3, "family": 2}
    assert torch.equal(got.z[:, 4:], a.z[:, 4:]) and got.samples.tolist() == [1234]
    assert torch.equal(got.z[:, :2], b.z[:, :2]) and torch.equal(got.z[:, 2:4], a.z[:, 2:4])
    back = transfer(b, a, CONTROLS)
    assert back.controls["decay"].isnan().all() and back.z[:, 1].isnan().all() and back.z[:, 2].isnan().all()


def test_one_timbre_for_many_envelopes():
    a, b = make((50, 5, 3, 2)), make((70, 99, 1, 0), (71, 98, 2, 0), (72, 97, 3, 0), seed=1)
    got = transfer(a, b, CONTROLS)
    assert len(got) == 3 and got.controls["pitch"].tolist() == [70, 71, 72]
    assert got.controls["brightness"].tolist() == [3, 3, 3] and (got.z[:, 4:] == a.z[:, 4:]).all()
    assert same(transfer(b, b, CONTROLS), b)


# -- joining


def test_alike_tones_are_joined_without_a_click_or_a_dip():
    rate, rng = 16000, np.random.default_rng(0)
    t = torch.arange(4000) / rate
    pieces = [0.5 * torch.sin(2 * math.pi * (220 + i) * t + rng.uniform(0, 6.28)) for i in range(12)]
    whole = join(pieces, 800, 160)
    assert 12 * 4000 - 11 * 960 <= len(whole) <= 12 * 4000 - 11 * 800
    assert whole.diff().abs().max() < 1.1 * pieces[-1].diff().abs().max()
    level = whole[200:-200].unfold(0, 400, 100).square().mean(dim=1).sqrt()
    assert level.min() > 0.9 * 0.5 / 2**0.5 and level.max() < 1.1 * 0.5 / 2**0.5
    assert whole[0].abs() < 0.01 and whole[-1].abs() < 0.01


@pytest.mark.parametrize("lengths", [(1, 1), (3, 4000, 2), (4000,), (50, 0, 50)])
def test_pieces_of_any_length_are_joined(lengths):
    whole = join([torch.ones(n) for n in lengths], 800, 160)
    assert whole.isfinite().all() and whole.abs().max() <= 1 + 1e-6 and len(whole) <= sum(lengths)


def test_nothing_joined_is_nothing():
    assert not len(join([], 800))
