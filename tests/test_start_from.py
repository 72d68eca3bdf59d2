"""Fine-tuning: training that begins with a model is that model at first, and better than none after as many steps."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, cli, trainer

from audio_vaegan.data.batches import Clips
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.held import codes
from audio_vaegan.models.bundle import load_bundle
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.training.accelerator import make_accelerator
from audio_vaegan.training.facts import check_start, hear_classes
from audio_vaegan.training.vaegan import VaeGanTask


@pytest.fixture(scope="module")
def still(tiny_recipe, tiny_store, tiny_run, tmp_path_factory):
    """A run that began with the tiny one, and had one step that moves nothing."""
    out = tmp_path_factory.mktemp("still") / "run"
    rates = ("--train.learning_rate", "1e-12", "--train.disc_learning_rate", "1e-12", "--train.steps", "1")
    command = ("--recipe", tiny_recipe, "--store", tiny_store, "--augment.semitones", "3", "--out", out)
    done = trainer(*command, "--start-from", tiny_run, *rates)
    assert done.returncode == 0, done.stderr
    return out, (*command, *rates)


def test_what_begins_with_a_model_is_that_model(tiny_run, still):
    before, after = load_bundle(tiny_run), load_bundle(still[0])
    for part in ("vaegan", "heads", "discriminator"):
        ours, theirs = (getattr(b, part).state_dict() for b in (after, before))
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert torch.allclose(value, theirs[name], atol=1e-6), (part, name)
    assert after.vaegan.controls == before.vaegan.controls  # though augmentation would widen the range of pitch
    assert after.vaegan.normalisation == before.vaegan.normalisation
    words = f"{before.recipe.name} {before.hash[:12]} (12 steps on store {before.about['store'][:12]})"
    assert after.about["began_with"] == words and words in (still[0] / "bundle" / "README.md").read_text()


def test_a_run_goes_on_only_from_what_it_began_with(still, mistake):
    _, command = still
    assert "what --start-from names" in mistake(*command, train=True)


def test_another_network_is_refused_by_name(tiny_recipe, tiny_store, tiny_run, tmp_path, mistake):
    command = ("--recipe", tiny_recipe, "--store", tiny_store, "--out", tmp_path / "run", "--start-from")
    line = mistake(*command, tiny_run, "--model.width", "40", "--model.encoder_blocks", "5", train=True)
    assert "model.width is 40, its own" in line and "model.encoder_blocks is 5, its own" in line
    assert "not a model" in mistake(*command, tmp_path / "none", train=True)
    assert "vae_disl trains a GAN first" in mistake(*command, tiny_run, "--objective", "vae_disl", train=True)
    assert not (tmp_path / "run").exists()


def test_a_gan_may_begin_with_a_model_that_encodes(tiny_run, tiny_store):
    start = load_bundle(tiny_run)
    gan = start.recipe.model_copy(update={"objective": "gan"})
    task = VaeGanTask(gan, Store(tiny_store), make_accelerator(gan), start=start)
    assert task.net.encoder is None
    assert torch.equal(task.net.generator.start, start.vaegan.generator.start)


def test_a_folder_of_other_sounds_gains_by_the_packaged_model(notes, tmp_path):
    """After three steps: the error of notes set aside, from the packaged model on and from scratch."""
    recipe = ROOT / "recipes" / "finetune16k.yaml"
    done = cli("prepare", notes, "--recipe", recipe, "--data.test_instruments", "0", "--out", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    command = ("--recipe", recipe, "--store", tmp_path / "store", "--train.steps", "3", "--train.batch_size", "8")
    error = {}
    for name, start in (("scratch", ()), ("tuned", ("--start-from", "notes16k"))):
        done = trainer(*command, "--train.warmup_steps", "0", *start, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        error[name] = [line["val_mel"] for line in lines if "val_mel" in line][-1]
    assert error["tuned"] < 0.6 * error["scratch"]


@pytest.fixture(scope="module")
def hits(tmp_path_factory):
    """A store of twelve hits that do not say what they are."""
    root = tmp_path_factory.mktemp("hits")
    (root / "audio").mkdir()
    rng, t = np.random.default_rng(0), np.arange(8000) / 16000
    for i in range(12):
        low, noise = np.sin(2 * np.pi * (60 + 20 * i) * t), rng.standard_normal(8000)
        sound = 0.3 * np.exp(-t * 8 * (1 + i)) * (low if i % 2 else noise)
        soundfile.write(root / "audio" / f"{i:02}.wav", sound, 16000)
    recipe = ROOT / "recipes" / "finetune-drums16k.yaml"
    done = cli("prepare", root / "audio", "--recipe", recipe, "--out", root / "store")
    assert done.returncode == 0, done.stderr
    return root / "store"


def test_a_kind_that_the_model_does_not_know_is_refused_by_name(hits, monkeypatch):
    bundle, store = load_bundle(Path("drums16k")), Store(hits)
    check_start(bundle, bundle.recipe, store)
    monkeypatch.setattr(store, "label", lambda name: ["theremin"] * 12)
    with pytest.raises(UserError, match="it knows no drum_str theremin"):
        check_start(bundle, bundle.recipe, store)


def test_hits_that_do_not_say_their_kind_are_taken_for_what_the_model_hears(hits, tmp_path):
    model, store = SoundModel.from_pretrained("drums16k"), Store(hits)
    kinds = model.controls["drum_str"]
    clips = Clips(store, store.split("train"), {c.name: c.classes for c in model.controls.values()})
    place = list(model.controls).index("drum_str")
    assert np.isnan(clips.controls[:, place]).all()
    clips.controls[0, place] = said = 3.0
    (heard,) = hear_classes(clips, model.bundle).values()
    assert heard.total() == len(clips) - 1 and set(heard) <= set(kinds.classes)
    guessed = model.guess_classes(torch.from_numpy(store.read(clips.clips)))["drum_str"].numpy()
    np.testing.assert_array_equal(clips.controls[:, place], [said, *guessed[1:]])
    np.testing.assert_array_equal(clips.part(np.array([0, 2])).controls[:, place], clips.controls[[0, 2], place])
    assert len(set(guessed)) > 1

    recipe, run = ROOT / "recipes" / "finetune-drums16k.yaml", tmp_path / "run"
    command = ("--recipe", recipe, "--store", hits, "--train.steps", "1", "--train.batch_size", "4", "--out", run)
    done = trainer(*command, "--start-from", "drums16k")
    assert done.returncode == 0, done.stderr
    assert "drum_str: " in done.stdout and "taken as --start-from hears them" in done.stdout
    tuned = SoundModel.from_pretrained(run)
    assert tuned.controls["drum_str"] == kinds
    z = codes(tuned, store, store.split("train"))
    assert np.isfinite(z[:, list(tuned.controls).index("drum_str")]).all()
