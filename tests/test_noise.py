"""How noisy a sound is, set in its audio: measured by the judge, which shares no code with the meter inside."""

import numpy as np
import pytest
import torch
from conftest import RATE, tone

from audio_vaegan.config import MEL_PRESETS
from audio_vaegan.descriptors import measure
from audio_vaegan.descriptors.judge_controls import judge_control
from audio_vaegan.mel import Mel
from audio_vaegan.models.noise import NEAR, blurred, moving_sum, set_noisiness
from audio_vaegan.sound_model import SoundModel, decoding
from audio_vaegan.sound_model.address import Address

MEL = Mel(MEL_PRESETS["notes-16k-128"])
PITCHES = (45.0, 57.3, 69.0, 80.0)
TONES = torch.from_numpy(np.stack([tone(p, 1.024, 8, 2.0)[:16384] for p in PITCHES]))
SEEDS = torch.arange(4)


def noisy(decibels):
    random = np.random.default_rng(3).standard_normal(TONES.shape).astype(np.float32)
    level = TONES.numpy().std(axis=1, keepdims=True) * np.exp(-2.0 * np.arange(16384) / RATE)
    return TONES + torch.from_numpy((random * level * 10 ** (decibels / 20)).astype(np.float32))


def judged(audio):
    return np.array([judge_control("noisiness", a.numpy(), RATE) for a in audio])


@pytest.mark.parametrize("asked", [-25.0, -18.0, -10.0, -4.0])
def test_a_clean_tone_becomes_as_noisy_as_asked(asked):
    made = set_noisiness(TONES, MEL, torch.full((4,), asked), torch.tensor(PITCHES), SEEDS)
    assert judged(made) == pytest.approx(asked, abs=2.5)
    assert np.abs(judged(made) - asked).mean() < 1.5


def test_what_was_not_asked_stays():
    made = set_noisiness(TONES, MEL, torch.full((4,), -15.0), torch.tensor(PITCHES), SEEDS)
    before, after = measure(TONES, RATE), measure(made, RATE)
    assert torch.allclose(after["loudness"], before["loudness"], atol=0.3)
    assert torch.allclose(after["pitch"], before["pitch"], atol=0.05)
    assert torch.allclose(after["decay"], before["decay"], atol=2.0)


def test_what_is_undefined_or_right_already_is_the_same_bits():
    nothing = torch.full((4,), torch.nan)
    assert torch.equal(set_noisiness(TONES, MEL, nothing, torch.tensor(PITCHES), SEEDS), TONES)
    right = measure(TONES, RATE)["noisiness"]
    right[1] = -15.0
    made = set_noisiness(TONES, MEL, right, torch.tensor(PITCHES), SEEDS)
    assert torch.equal(made[[0, 2, 3]], TONES[[0, 2, 3]]) and not torch.equal(made[1], TONES[1])


def test_too_much_noise_becomes_less_where_there_is_a_pitch():
    before = judged(noisy(-12.0))
    pitch = torch.tensor(PITCHES)
    pitch[2] = torch.nan
    after = judged(set_noisiness(noisy(-12.0), MEL, torch.from_numpy(before - 4).float(), pitch, SEEDS))
    assert before[2] == after[2]
    assert (before - after)[[0, 1, 3]] == pytest.approx(4.0, abs=2.0)


def test_each_sound_has_its_own_noise_and_the_same_each_time():
    twice = torch.cat([TONES[1:2], TONES[1:2], TONES[1:2]])
    asked, pitch = torch.full((3,), -12.0), torch.full((3,), PITCHES[1])
    made = set_noisiness(twice, MEL, asked, pitch, torch.tensor([5, 5, 6]))
    assert torch.equal(made[0], made[1]) and not torch.allclose(made[0], made[2], atol=1e-3)
    alone = set_noisiness(twice[:1], MEL, asked[:1], pitch[:1], torch.tensor([5]))
    assert torch.allclose(alone, made[:1], atol=1e-6)


def test_of_a_short_sound_the_sound_is_meant_and_not_the_silence_after_it():
    length = torch.full((4,), 6000)
    short = TONES * (torch.arange(16384) < 6000)
    made = set_noisiness(short, MEL, torch.full((4,), -12.0), torch.tensor(PITCHES), SEEDS, length)
    found = measure(made, RATE, length)["noisiness"]
    assert found.tolist() == pytest.approx([-12.0] * 4, abs=1.5)


def test_rounding_decides_nothing():
    """A sound a hair on either side of where nothing is done comes out a hair apart."""
    own = measure(TONES, RATE)["noisiness"]
    one, other = (set_noisiness(TONES, MEL, own + NEAR + d, torch.tensor(PITCHES), SEEDS) for d in (-1e-4, 1e-4))
    assert (one - other).abs().max() < 2e-3


def test_silence_stays_silent():
    silent = torch.zeros(1, 16384)
    made = set_noisiness(silent, MEL, torch.tensor([-5.0]), torch.tensor([60.0]), torch.tensor([1]))
    assert torch.equal(made, silent)


def test_a_moving_sum_is_what_adding_up_gives():
    x = torch.rand(2, 3, 50, generator=torch.Generator().manual_seed(1))
    for size in (1, 5, 49):
        half = size // 2
        padded = torch.nn.functional.pad(x, (half, half))
        torch.testing.assert_close(moving_sum(x, size), padded.unfold(-1, size, 1).sum(-1))
    quiet = torch.cat([torch.ones(1, 100), torch.zeros(1, 100)], dim=1)
    assert moving_sum(quiet, 7)[0, 110:].abs().max() == 0  # nothing of what was before is left


@pytest.fixture(scope="module")
def model():
    return SoundModel.from_pretrained("notes16k")


def test_noise_is_set_where_noisiness_is_asked_for_and_nowhere_else(model, monkeypatch):
    asked = {"seed": 3, "pitch": [48.0, 55.0, 62.0, 69.0]}
    noisier = model.sample(4, noisiness=-8.0, **asked)
    monkeypatch.delattr(decoding, "set_noisiness")
    plain = model.sample(4, **asked)
    with pytest.raises(NameError):
        model.sample(4, noisiness=-8.0, **asked)
    found = model.measure(noisier.audio)["noisiness"]
    assert np.allclose(found, -8, atol=0.5) and (model.measure(plain.audio)["noisiness"] < -12).all()


def test_noise_is_only_taken_from_what_may_not_get_more():
    pitch, more = torch.tensor(PITCHES), torch.tensor([True, True, False, False])
    made = set_noisiness(TONES, MEL, torch.full((4,), -12.0), pitch, SEEDS, None, more)
    assert np.allclose(judged(made[:2]), -12, atol=1.5) and torch.equal(made[2:], TONES[2:])
    less = [set_noisiness(noisy(-12.0), MEL, torch.full((4,), -23.0), pitch, SEEDS, None, m) for m in (more, ~more)]
    assert torch.equal(*less) and (judged(less[0]) < judged(noisy(-12.0)) - 3).all()


def test_low_notes_whose_harmonics_blur_in_the_mel_are_as_clean_as_they_are_said_to_be(model):
    assert blurred(torch.tensor([36.0, 47.0, 48.0, 60.0, torch.nan]), MEL.config).tolist() == [True] * 2 + [False] * 3
    sound = model.sample(6, seed=3, pitch=[26.0, 28.0, 30.0, 32.0, 34.0, 36.0]).sound(torch.full((6,), 16384))
    made, raw = model.decode(sound), model.vocode(model.decode_mel(sound))
    before, after = (model.measure(a)["noisiness"] for a in (raw, made.audio))
    assert (after <= before + 0.2).all() and (after < before - 2).sum() >= 3
    low = model.sample(48, seed=3, pitch=[24.0 + i / 4 for i in range(48)])
    right = (model.measure(low.audio)["pitch"] - low.controls["pitch"]).abs() < 0.5
    assert right.float().mean() >= 2 / 3  # README: 83 % of 47; without the noise stage 15 %


def test_a_change_of_noisiness_and_its_opposite_return(model):
    sound = model.sample(2, seed=3, pitch=60.0).sound(torch.full((2,), model.clip_samples))
    plain = model.decode(sound).audio
    up = model.edit(sound, shift={"noisiness": 4.0})
    assert up.sound(sound.samples).noise_asked.all() and up.residual["noisiness"].abs().max() < 0.5
    back = model.edit(up.sound(sound.samples), shift={"noisiness": -4.0})
    assert torch.allclose(back.audio, plain, atol=1e-4)
    higher = model.edit(up.sound(sound.samples), shift={"pitch": 2.0})  # what was asked for stays so
    assert (higher.achieved["noisiness"] - up.requested["noisiness"]).abs().max() < 0.5


def test_noise_that_was_asked_for_goes_with_a_sound(model):
    a, b = (model.sample(1, seed=s, pitch=60.0).sound(torch.tensor([model.clip_samples])) for s in (3, 4))
    asked = model.edit(a, shift={"noisiness": 6.0}).sound(a.samples)
    way = model.morph(asked, b, torch.tensor([0.0, 0.4, 0.6, 1.0]))
    assert way.noise_asked.tolist() == [True, True, False, False]
    assert torch.equal(model.decode(way.rows([0])).audio, model.decode(asked).audio)
    assert model.transfer(asked, b).noise_asked.all() and not model.transfer(b, asked).noise_asked.any()
    names = model.hash, model.vocoder.hash
    for sound in (asked, a):
        place = Address(*names, z=sound.z[0].numpy(), noise=bool(sound.noise_asked[0]))
        assert torch.allclose(model.recall(str(place)).audio[:, 16:], model.decode(sound).audio[:, 16:], atol=1e-5)
