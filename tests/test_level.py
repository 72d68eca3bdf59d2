"""What a mel itself says of loudness, brightness, attack and decay, and how it is made to say what is asked."""

import numpy as np
import pytest
import torch
from conftest import RATE, tone

from audio_vaegan.config import MelConfig
from audio_vaegan.descriptors import measure
from audio_vaegan.mel import Mel
from audio_vaegan.models.controls import Control
from audio_vaegan.models.level import READ, Level
from audio_vaegan.sound_model import SoundModel

MEL = MelConfig()
SAMPLES = 64 * 256
RANGES = {"loudness": (-50, -10, 6), "brightness": (-5, 40, 9), "attack": (-2, 0, 0.6), "decay": (-5, 200, 12)}
CONTROLS = [Control(n, "", low, high, 0.0, sd, 64) for n, (low, high, sd) in RANGES.items()]
WITHIN = {
    "loudness": 1.0,
    "brightness": 2.0,
    "attack": 0.25,
    "decay": 3.0,
}  # units; frames of 64 ms blur an attack of 20


def sound(midi=60, decay=20.0, attack=0.02, gain=0.3, harmonics=6):
    audio = tone(midi, SAMPLES / RATE, harmonics, rate=RATE)[:SAMPLES]
    time = np.arange(len(audio)) / RATE
    return (gain * audio * np.minimum(time / (attack / 0.8), 1) * 10 ** (-decay * time / 20)).astype(np.float32)


SOUNDS = torch.from_numpy(
    np.stack(
        [
            sound(),
            sound(48, 40, 0.1),
            sound(72, 5, 0.3, 0.1),
            sound(55, 80, 0.02, 0.5, 12),
            sound(64, 0, 0.05, 0.2, 3),
        ]
    )
)


@pytest.fixture(scope="module")
def level():
    return Level(CONTROLS, MEL, 64, mean=-4.0, deviation=2.0)


@pytest.fixture(scope="module")
def mel():
    return (Mel(MEL)(SOUNDS) + 4.0) / 2.0


def units(read):
    return {c.name: c.value(read[c.name]) for c in CONTROLS}


def test_a_mel_reads_what_the_meters_find_in_the_sound(level, mel):
    read, found = units(level.read(mel)), measure(SOUNDS, RATE)
    assert set(read) == set(READ)
    for name, tolerance in WITHIN.items():
        assert torch.allclose(read[name], found[name], atol=tolerance), (name, read[name], found[name])


def test_a_level_raised_by_6_db_reads_6_db_louder_and_nothing_else(level, mel):
    before, after = units(level.read(mel)), units(level.read(mel + 6 * np.log(10) / 20 / 2.0))
    assert torch.allclose(after["loudness"] - before["loudness"], torch.tensor(6.0), atol=1e-3)
    for name in ("brightness", "attack", "decay"):
        assert torch.allclose(after[name], before[name], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "change"), [("loudness", -9.0), ("brightness", 4.0), ("attack", 0.4), ("decay", 30.0), ("decay", -4.0)]
)
def test_a_mel_set_to_a_value_reads_it_and_little_else_changes(level, mel, name, change):
    own = torch.stack([level.read(mel)[c.name] for c in CONTROLS], dim=1)
    i = [c.name for c in CONTROLS].index(name)
    asked = own.clone()
    asked[:, i] += change / CONTROLS[i].deviation
    read = torch.stack([level.read(level.set(mel, asked, torch.ones_like(asked).bool()))[c.name] for c in CONTROLS], 1)
    off = (read - asked).abs()
    assert off[:, i].median() < 0.1 and off[:, i].max() < 0.35, off[:, i]
    assert off.mean() < 0.1


def test_what_is_undefined_or_right_already_is_left_alone(level, mel):
    own = torch.stack([level.read(mel)[c.name] for c in CONTROLS], dim=1)
    assert torch.equal(level.set(mel, own + 3, torch.zeros_like(own).bool()), mel)
    assert torch.allclose(level.set(mel, own, torch.ones_like(own).bool()), mel, atol=0.05)


def test_what_is_set_does_not_fall_below_the_floor_of_the_mel(level, mel):
    own = torch.stack([level.read(mel)[c.name] for c in CONTROLS], dim=1)
    made = level.set(mel, own - 2, torch.ones_like(own).bool())
    assert not torch.equal(made, mel)
    assert (2.0 * made - 4.0).min() >= np.log(MEL.floor) - 1e-4  # this fixture's normalisation undone


@pytest.mark.parametrize(("name", "change"), [("decay", -80.0), ("brightness", 12.0), ("loudness", 12.0)])
def test_silence_stays_silence(level, name, change):
    """A hit that has died away after 0.5 s: whatever is raised, there is no noise where nothing was."""
    hit = (Mel(MEL)(torch.from_numpy(sound(60, 180.0, 0.01, 0.3, 12)[None])) + 4.0) / 2.0
    empty = 2.0 * hit - 4.0 < np.log(MEL.floor) + 0.3
    assert empty[..., 40:].all()
    own = torch.stack([level.read(hit)[c.name] for c in CONTROLS], dim=1)
    asked = own.clone()
    asked[:, [c.name for c in CONTROLS].index(name)] += change / RANGES[name][2]
    made = level.set(hit, asked, torch.ones_like(own).bool())
    assert (made - hit).abs().max() > 0.3  # something was done
    assert (made[empty] <= hit[empty] + 1e-4).all()


def test_each_sound_is_set_for_itself(level, mel):
    asked, known = torch.full((5, 4), 0.5), torch.ones(5, 4).bool()
    together = level.set(mel, asked, known)
    alone = torch.cat([level.set(m[None], asked[:1], known[:1]) for m in mel])
    assert torch.allclose(together, alone, atol=1e-4)


def test_a_model_without_such_controls_changes_nothing(mel):
    bare = Level([Control("pitch", "", 40, 80, 60, 9, 41)], MEL, 64)
    assert torch.equal(bare.set(mel, torch.zeros(5, 1), torch.ones(5, 1).bool()), mel)


def test_sounds_of_the_packages_model_come_out_as_they_are_asked_without_any_loop():
    model = SoundModel.from_pretrained("notes16k")
    asked = {"loudness": -24.0, "brightness": 14.0, "attack": -1.0, "decay": 15.0}
    found = model.measure(model.sample(24, seed=2, pitch=60.0, **asked).audio)
    deviations = {n: model.controls[n].deviation for n in asked}
    for name, value in asked.items():
        off = (model.controls[name].standard(found[name]) - model.controls[name].standard(torch.tensor(value))).abs()
        assert off.nanmedian() < 0.35, (name, off, deviations[name])


def test_a_spectrogram_of_silence_stays_finite(level):
    silent = torch.full((1, 128, 64), (np.log(1e-5) + 4) / 2.0)
    assert level.set(silent, torch.zeros(1, 4), torch.ones(1, 4).bool()).isfinite().all()
