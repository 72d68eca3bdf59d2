"""Sounds made whole: what is known stays, what is missing comes nearer to the truth than plain ways bring it."""

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, cli, one_line

from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.uses.restored import DAMAGES, spectral_distance
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.restoring import find_latent, generated, restore

RATE = 16000


@pytest.fixture(scope="module")
def model():
    return SoundModel.from_pretrained("notes16k")


@pytest.fixture(scope="module")
def notes(model):
    """Eight notes of instruments that the model never heard."""
    files = sorted((ROOT / "recipes" / "notes" / "audio").glob("*-060-100.flac"))[:24:3]
    return torch.stack([model.heard(f)[: model.clip_samples] for f in files])


def test_a_gap_is_filled_and_every_other_sample_is_as_it_was(model, notes):
    gap = (0.3, 0.4)
    harmed = notes.clone()
    inside = torch.zeros(notes.shape[1], dtype=torch.bool)
    inside[round(gap[0] * RATE) : round(gap[1] * RATE)] = True
    harmed[:, inside] = 0
    made, sound = model.restore(harmed, gaps=[gap], pitch=60.0)
    assert torch.equal(made[:, ~inside], notes[:, ~inside])
    level = made[:, inside].square().mean().sqrt() / notes[:, inside].square().mean().sqrt()
    assert 0.5 < float(level) < 1.5  # what lies there sounds again, about as loud
    assert len(sound) == len(notes) and (sound.controls["pitch"] - 60).abs().max() < 1e-3
    ends = (made[:, 1:] - made[:, :-1]).abs().amax(dim=1) / (notes[:, 1:] - notes[:, :-1]).abs().amax(dim=1)
    assert float(ends.max()) < 2  # no click where it begins or ends


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.name)
def test_what_is_missing_comes_nearer_than_by_the_plain_way(model, notes, damage):
    """On the mean of eight notes; docs/uses.md has the figures of more. A gap comes nearer than as it is: straight
    lines fill those of steady notes as well."""
    harmed = damage.harm(notes, RATE)
    plain, _ = restore(model, harmed, **damage.told, fill=False)
    made, _ = restore(model, harmed, **damage.told, known={"pitch": 60.0})
    far, near, left = (spectral_distance(x, notes, RATE, damage).mean() for x in (plain, made, harmed))
    assert near < (0.8 * left if "gap" in damage.name else far)
    if damage.hertz[0]:
        below = torch.fft.rfftfreq(notes.shape[1], 1 / RATE) < 0.94 * damage.told["bandwidth"]
        known, kept = (torch.fft.rfft(x)[:, below] for x in (harmed, made))
        assert (kept - known).abs().max() < 1e-2 * known.abs().max()  # what is known stays


def test_the_latent_that_is_found_explains_what_is_known_better_than_the_encoders(model, notes):
    start = model.encode(notes[:2], pitch=60.0)
    mel = model.log_mel(notes[:2])
    known = torch.ones_like(mel)
    known[..., 20:30] = 0
    found = find_latent(model, mel, known, start)

    def error(sound):
        return float((known * (generated(model, sound) - mel).abs()).sum() / known.sum())

    assert error(found) < error(start)
    assert torch.equal(found.z[:, 0], start.z[:, 0])  # the pitch is not moved


def test_the_verb_writes_a_sound_and_says_what_it_found(notes, tmp_path):
    soundfile.write(tmp_path / "in.wav", notes[0, :12000, None].expand(-1, 2).numpy(), RATE)
    done = cli("restore", "notes16k", tmp_path / "in.wav", "--gap", "0.2:0.3", "--out", tmp_path / "out.wav")
    assert "note: in.wav has 16000 Hz, 2 channels; the result is at the model's 16000 Hz, mono" in done.stdout
    assert done.returncode == 0, done.stderr
    assert "found: pitch 60" in done.stdout and "AI-generated" in done.stdout
    made, _ = soundfile.read(tmp_path / "out.wav")
    assert len(made) == 12000 and np.abs(made[:3000] - notes[0, :3000].numpy()).max() < 1e-4


def test_mistakes(model, notes, tmp_path):
    soundfile.write(tmp_path / "in.wav", notes[0].numpy(), RATE)
    soundfile.write(tmp_path / "short.wav", notes[0, : RATE // 2].numpy(), RATE)
    soundfile.write(tmp_path / "long.wav", np.tile(notes[0].numpy(), 2), RATE)
    out = ("--out", tmp_path / "out.wav")
    told = {
        ("in.wav",): "one thing at a time",
        ("in.wav", "--gap", "0.1:0.2", "--bandwidth", "4000"): "one thing at a time",
        ("in.wav", "--gap", "0.4:0.2"): "FROM:TO",
        ("in.wav", "--gap", "3:4"): "take something away",
        ("in.wav", "--gap", "0:2"): "leave",
        ("short.wav", "--gap", "0.7:0.8"): "take something away",
        ("short.wav", "--gap", "0:0.5"): "leave something of the 0.500 s",
        ("short.wav", "--noise", "0.6:0.9"): "of the 0.500 s of sound",
        ("in.wav", "--bandwidth", "9000"): "500 ...",
        ("in.wav", "--noise", "0.5:0.51"): "at least",
        ("long.wav", "--noise"): "cut it",
    }
    for words, part in told.items():
        assert part in one_line(cli("restore", "notes16k", tmp_path / words[0], *words[1:], *out)), words
    assert not (tmp_path / "out.wav").exists()
    with pytest.raises(UserError, match="one thing"):
        model.restore(notes)
