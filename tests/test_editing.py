"""A model with several controls: training, edits in open and closed loop, sampling under conditions, fitted things."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY, cli, one_line, tone

from audio_vaegan.audio import write_recording
from audio_vaegan.control.calibration import Map
from audio_vaegan.control.directions import Direction
from audio_vaegan.control.fitted import FILE, Calibration, Fitted, save_fitted
from audio_vaegan.control.prior import fit_prior
from audio_vaegan.errors import UserError
from audio_vaegan.models.controls import Between
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.editing import ASKED, IN_TUNE

NAMES = ["pitch", "loudness", "brightness", "decay"]


@pytest.fixture(scope="module")
def several_run(tmp_path_factory, tiny_store):
    """A tiny run with four controls and every augmentation."""
    from audio_vaegan.cli import train_vaegan

    folder = tmp_path_factory.mktemp("several")
    recipe = folder / "recipe.yaml"
    text = TINY.replace("model:\n  {", f"model:\n  {{controls: [{', '.join(NAMES)}], ")
    recipe.write_text(text + "augment: {gain_db: 6, semitones: 1, tilt: 4, fade: 0.2, damp: 60, hiss: 40}\n")
    words = ["--recipe", str(recipe), "--store", str(tiny_store), "--out", str(folder / "run")]
    assert train_vaegan(words) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def model(several_run):
    return SoundModel.from_pretrained(several_run)


@pytest.fixture(scope="module")
def sound(model):
    return model.encode(np.stack([tone(p, 0.512, decay=d) for p, d in ((61, 4), (64, 8), (67, 2))]))


def test_the_recipe_says_which_controls_there_are(model, tmp_path):
    assert list(model.controls) == NAMES
    assert model.controls["decay"].unit == "dB/s" and model.controls["brightness"].unit == "semitones re 440 Hz"
    for control in model.controls.values():
        values = torch.linspace(control.low, control.high, 9)
        torch.testing.assert_close(control.value(control.standard(values)), values, atol=1e-3, rtol=1e-4)


def test_encode_takes_what_is_known_and_measures_the_rest(model, sound):
    assert sound.controls["pitch"].tolist() == pytest.approx([61, 64, 67], abs=0.05)
    assert (sound.controls["decay"].diff() != 0).all()
    given = model.encode(tone(60, 0.512), brightness=3.0)
    assert given.controls["brightness"].tolist() == [3.0]
    noise = np.random.default_rng(0).standard_normal(8192).astype(np.float32) * 0.1
    hiss = model.encode(noise)
    assert hiss.controls["pitch"].isnan().all() and hiss.controls["brightness"].isfinite().all()
    with pytest.raises(UserError, match="pitch is undefined for this sound"):
        model.edit(hiss, shift={"pitch": 2})
    flat = replace(hiss, controls=hiss.controls | {"decay": torch.tensor([torch.nan])})
    with pytest.raises(UserError, match=r"; set it \(--set-decay\)$"):
        model.edit(flat, shift={"decay": 2})
    assert model.edit(hiss, set={"pitch": 60.0}).audio.isfinite().all()


def test_no_change_is_the_plain_reconstruction_bit_for_bit(model, sound):
    plain = model.decode(sound).audio
    for how in ({}, {"shift": {"pitch": 0.0, "decay": 0.0}}, {"set": {"pitch": sound.controls["pitch"]}}):
        for loop in (False, True):
            assert torch.equal(model.edit(sound, closed_loop=loop, **how).audio, plain)


def test_a_change_and_its_opposite_return_and_order_does_not_matter(several_run, sound):
    model = SoundModel.from_pretrained(several_run)
    bent = Map((-2.0, 0.0, 2.0), (-1.0, 0.3, 3.0))
    calibration = {n: Calibration("", -1e9, 1e9, bent) for n in NAMES}
    for fitted in (Fitted(model.hash), Fitted(model.hash, calibration)):
        model.fitted = fitted
        up = model.edit(sound, shift={"pitch": 1.0})
        there = type(sound)(up.z, up.controls, sound.samples)
        back = model.edit(there, shift={"pitch": -1.0})
        torch.testing.assert_close(back.z, sound.z, atol=1e-4, rtol=1e-4)
        both = model.edit(sound, shift={"pitch": 1.0, "loudness": -1.0})
        other = model.edit(sound, shift={"loudness": -1.0, "pitch": 1.0})
        assert torch.equal(both.audio, other.audio)
        then = model.edit(there, shift={"loudness": -1.0})
        torch.testing.assert_close(then.z, both.z, atol=1e-5, rtol=1e-5)
    assert (up.z[:, 0] - sound.z[:, 0]).abs().max() > 0


def test_the_closed_loop_is_never_farther_from_what_was_asked_by_its_own_meters(model, sound):
    asked = {"pitch": sound.controls["pitch"] + 2, "loudness": sound.controls["loudness"] - 2}
    opened, closed = (model.edit(sound, set=asked, closed_loop=loop) for loop in (False, True))

    def error(edited):
        """As the loop weighs it: those not asked for as they are in the plain reconstruction, asked ones most."""
        plain = model.measure(model.decode(sound).audio, sound.samples)
        found = []
        for name, control in model.controls.items():
            wanted = asked.get(name, plain[name])
            tolerance = (IN_TUNE / control.deviation if name == "pitch" else 1.0) * (ASKED if name in asked else 1.0)
            away = (control.standard(edited.achieved[name]) - control.standard(wanted)) / tolerance
            found.append(torch.where(away.isfinite(), away, torch.tensor(3.0)) * wanted.isfinite())
        return torch.stack(found).square().mean(dim=0)

    assert (error(closed) <= error(opened) + 1e-6).all()
    assert max(float(e.residual["loudness"].abs().max()) for e in (opened, closed)) < 0.01
    for name in asked:
        torch.testing.assert_close(
            closed.residual[name], closed.achieved[name] - closed.requested[name], equal_nan=True
        )


def test_samples_obey_conditions(model):
    clip = model.sample(20, seed=3, pitch=Between(61, 67), brightness=8.0)
    pitch = clip.controls["pitch"]
    assert (pitch >= 61).all() and (pitch <= 67).all() and pitch.std() > 1
    assert clip.controls["brightness"].tolist() == pytest.approx([8.0] * 20, abs=1e-3)
    for control in model.controls.values():
        drawn = clip.controls[control.name]
        assert (drawn >= control.low - 1e-3).all() and (drawn <= control.high + 1e-3).all()
    later = model.sample(4, seed=3, first=16, pitch=Between(61, 67), brightness=8.0)
    torch.testing.assert_close(later.z, clip.z[16:])
    for bad, says in (
        ({"pitch": Between(67, 61)}, "lower end first"),
        ({"pitch": Between(1, 64)}, "outside the trained range"),
        ({"pitch": float("nan")}, "must be a number"),
        ({"prior": "fitted"}, "no fitted prior"),
        ({"noisiness": 0.0}, "no control 'noisiness'"),
    ):
        with pytest.raises(UserError, match=says):
            model.sample(2, **bad)


def test_a_fitted_prior_is_used_and_can_be_left(several_run, model):
    z = torch.randn(200, len(NAMES) + 8, generator=torch.Generator().manual_seed(0)).double().numpy() * 0.1 + 0.5
    prior = fit_prior(z, len(NAMES))
    other = SoundModel.from_pretrained(several_run)
    other.fitted = Fitted(model.hash, prior=prior)
    fitted, plain = other.sample(16, seed=1), model.sample(16, seed=1)
    assert fitted.z[:, len(NAMES) :].mean() == pytest.approx(0.5, abs=0.05)
    assert fitted.z[:, len(NAMES) :].std() < 0.2 < plain.z[:, len(NAMES) :].std()
    assert torch.equal(other.sample(16, seed=1, prior="normal").audio, plain.audio)
    narrow = other.sample(16, seed=1, truncation=0.1)
    assert narrow.z.std(dim=0).mean() < 0.3 * fitted.z.std(dim=0).mean()
    assert torch.equal(other.sample(3, seed=1, first=5).z, fitted.z[5:8])


def test_directions_move_the_code_by_their_unit(several_run, model, sound):
    vector = np.zeros(len(NAMES) + 8)
    vector[len(NAMES)] = 0.5
    other = SoundModel.from_pretrained(several_run)
    other.fitted = Fitted(model.hash, directions={"brass": Direction("brass", "joint", vector, 0, 1, True, 0.9, 20)})
    moved = other.edit(sound, move={"brass": 1.0})
    torch.testing.assert_close(moved.z - sound.z, torch.from_numpy(vector).float().expand(3, -1))
    with pytest.raises(UserError, match="no direction 'bras'"):
        other.edit(sound, move={"bras": 1.0})
    with pytest.raises(UserError, match=r"move it by -1 \.\.\. 1"):
        other.edit(sound, move={"brass": 3.0})


def test_what_was_fitted_to_another_model_is_refused(several_run, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(several_run, run)
    save_fitted(Fitted("0" * 64), run / "bundle")
    done = cli("generate", run, "--out", tmp_path / "out")
    assert done.returncode == 2 and "measured on another model" in one_line(done)


def test_fit_controls_and_directions_from_the_command_line(several_run, tiny_store, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(several_run, run)
    done = cli("directions", run, "--store", tiny_store, "--attribute", "onset_rate_", "--pca", 1)
    assert done.returncode == 2 and "no descriptor, label or value" in one_line(done)
    done = cli("directions", run, "--store", tiny_store, "--pca", 2)
    assert done.returncode == 0 and "pc1" in done.stdout, done.stderr
    done = cli("fit-controls", run, "--store", tiny_store, "--clips", 2)
    assert done.returncode == 0 and "scores: left out" in done.stdout, done.stderr
    text = json.loads((run / "bundle" / FILE).read_text())
    assert set(text["controls"]) == set(NAMES) and set(text["directions"]) == {"pc1", "pc2"}
    assert text["model_hash"] == SoundModel.from_pretrained(run).hash
    a = tmp_path / "a.wav"
    write_recording(a, torch.from_numpy(tone(60, 0.512, decay=4)), 16000)
    out = tmp_path / "b.wav"
    done = cli("edit", run, a, "--pitch", "+1", "--loudness", "-2", "--move", "pc1=0.5", "--closed-loop", "--out", out)
    assert done.returncode == 0 and out.is_file(), done.stderr


def test_the_prior_is_of_codes_that_sound_at_their_pitch(monkeypatch):
    """Six codes of MIDI 60 ... 65: the second is a copy, the fourth sounds an octave too low, the last has no pitch."""
    from types import SimpleNamespace

    from audio_vaegan.evaluation import fit
    from audio_vaegan.models.controls import Control

    pitch = np.array([60, 61, 62, 63, 64, np.nan], dtype=np.float32)
    columns = {"copy_of": np.array([0, 0, 2, 3, 4, 5]), "source": np.arange(6), "length": np.full(6, 8192)}
    store = SimpleNamespace(column=columns.get, values=lambda name: pitch)
    control = Control("pitch", "semitones (MIDI)", 60.0, 65.0, 62.0, 2.0, 6)
    z = np.stack([(pitch - 62) / 2, [0, 0, 0, 1, 0, 0]], axis=1)

    def decode(sound):
        midi = np.nan_to_num(sound.controls["pitch"].numpy(), nan=70.0) - 12 * sound.z[:, 1].numpy()
        return SimpleNamespace(audio=torch.from_numpy(np.stack([tone(m, 0.512) for m in midi])))

    model = SimpleNamespace(controls={"pitch": control}, decode=decode, sample_rate=16000)
    monkeypatch.setattr(fit, "LEAST", 1)
    assert fit._in_tune(model, store, np.arange(6), z, print).tolist() == [0, 2, 4, 5]


def test_a_class_that_the_prior_draws_is_always_one_that_there_is():
    from types import SimpleNamespace

    from audio_vaegan.models.controls import Control
    from audio_vaegan.sound_model.drawing import draw

    kind = Control("kind", "class", 0.0, 2.0, 0.0, 1.0, 3, ("a", "b", "c"))
    drawn = iter([-1.4, 1.2, 3.6])  # a sound at a time
    far = SimpleNamespace(sample=lambda normal, even, asked, truncation: np.array([[next(drawn), 0.0]]))
    model = SimpleNamespace(controls={"kind": kind}, prior=far, vaegan=SimpleNamespace(timbre_dim=1))
    _, values, _ = draw(model, range(3), 0, 1.0, "auto", {})
    assert [kind.show(v) for v in values["kind"].tolist()] == ["a", "b", "c"]
