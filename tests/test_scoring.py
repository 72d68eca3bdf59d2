"""How unlike the training sounds a sound is: calibrated on real sounds, high for what the model has never heard."""

import csv

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, cli, one_line

from audio_vaegan.control.usual import fit_features, fit_usual
from audio_vaegan.sound_model import SoundModel


def test_as_many_real_sounds_count_as_odd_as_were_allowed():
    rng = np.random.default_rng(0)
    usual = fit_usual(("a", "b"), np.exp(rng.normal((1, -3), (0.5, 2.0), (4000, 2))), None)
    more = np.exp(rng.normal((1, -3), (0.5, 2.0), (4000, 2)))
    rarity = usual.rarity(usual.whole(more))
    assert [(rarity <= share).mean() for share in (0.01, 0.05, 0.5)] == pytest.approx([0.01, 0.05, 0.5], abs=0.02)
    assert usual.rarity(usual.whole(np.exp([[9.0, 9.0]])))[0] == 0
    assert usual.whole(np.exp([[1.5, -3.0]]))[0] == pytest.approx(0.5, abs=0.1)  # one score one spread up, of two


def test_the_distance_of_usual_features_is_about_one_and_of_others_larger():
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(60, 60))
    usual = fit_features(rng.normal(size=(3000, 60)) @ mix)
    assert usual.distance(rng.normal(size=(500, 60)) @ mix).mean() == pytest.approx(1, abs=0.1)
    assert usual.distance(3 * rng.normal(size=(500, 60)) @ mix).mean() == pytest.approx(3, abs=0.3)


@pytest.fixture(scope="module")
def model():
    return SoundModel.from_pretrained("notes16k")


def odd_sounds(seed=0):
    """Noise, clicks and a sweep: nothing that an instrument plays."""
    rng, t = np.random.default_rng(seed), np.arange(16384) / 16000
    clicks = np.zeros(16384)
    clicks[rng.integers(0, 16384, 40)] = 1
    return torch.from_numpy(
        np.stack([0.2 * rng.standard_normal(16384), clicks, 0.5 * np.sin(2 * np.pi * (200 * t + 3000 * t**2))])
    ).float()


def test_notes_that_it_never_heard_are_usual_and_noise_is_not(model):
    files = sorted((ROOT / "recipes" / "notes" / "audio").glob("*.flac"))[::40]
    real = model.score(torch.stack([model.heard(f)[:16384] for f in files]))
    odd = model.score(odd_sounds())
    assert set(real.parts) == {"reconstruction", "latent", "features"}
    assert odd.whole.min() > np.median(real.whole) and (odd.rarity <= 0.05).all()
    assert np.median(real.rarity) > 0.05


def test_a_sound_a_little_longer_than_a_clip_scores_as_that_clip(model):
    files = sorted((ROOT / "recipes" / "notes" / "audio").glob("*.flac"))[::80]
    real = torch.stack([model.heard(f)[:16384] for f in files])
    longer = model.score(torch.nn.functional.pad(real, (0, 1)))
    assert longer.whole == pytest.approx(model.score(real).whole, abs=0.01)


def test_the_verb_puts_the_oddest_first(model, tmp_path):
    for i, audio in enumerate(odd_sounds()):
        soundfile.write(tmp_path / f"odd{i}.wav", audio.numpy(), 16000)
    folder = tmp_path / "real"
    folder.mkdir()
    for f in sorted((ROOT / "recipes" / "notes" / "audio").glob("*-060-100.flac"))[:5]:
        (folder / f.name).write_bytes(f.read_bytes())
    (folder / "broken.wav").write_bytes(b"no sound")
    soundfile.write(folder / "silent.wav", np.zeros(12000), 16000)
    out = tmp_path / "scores.csv"
    words = ("score", "notes16k", *sorted(tmp_path.glob("odd*.wav")), folder, "--out", out)
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 8 and "left out:" in done.stdout and "broken.wav" in done.stdout
    assert "silent.wav: silent" in done.stdout
    assert {r["file"].rsplit("/", 1)[1] for r in rows[:3]} == {"odd0.wav", "odd1.wav", "odd2.wav"}
    assert "overwrite" in one_line(cli(*words))


def test_mistakes(tmp_path):
    assert "no such file" in one_line(cli("score", "notes16k", tmp_path / "none.wav"))
    assert "no sound file" in one_line(cli("score", "notes16k", tmp_path))
    assert "share between" in one_line(cli("score", "notes16k", tmp_path, "--false-alarms", "2"))
