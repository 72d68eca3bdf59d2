"""The health of a finished model: known answers, and models that were made to collapse on purpose."""

import json
import math

import pytest
import torch
from conftest import cli

from audio_vaegan.config import Recipe
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.health import describe, health_picture, training_health
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.training.monitor import diagnose

BALANCED = {"ranking": 0.8, "score_real": 0.5, "score_fake": -0.5, "grad_d": 6.0, "grad_g": 2.0}


@pytest.fixture(scope="module")
def store(notes, tmp_path_factory):
    """The tones as clips for the model that comes with the package."""
    root = tmp_path_factory.mktemp("health")
    data = "data: {clip_samples: 16384, test_instruments: 0.25, test_notes: 0.1}"
    (root / "recipe.yaml").write_text(f"name: health\nmel: {{preset: notes-16k-128}}\n{data}\n")
    done = cli("prepare", notes, "--recipe", root / "recipe.yaml", "--out", root / "store")
    assert done.returncode == 0, done.stderr
    return Store(root / "store")


@pytest.fixture
def model():
    """A trained model, opened anew: tests spoil it. Its run is that of `run` below, whatever its own was."""
    found = SoundModel.from_pretrained("notes16k", vocoder="griffin-lim")
    loss = found.recipe.loss.model_copy(update={"adversarial_start": 0.15})
    train = found.recipe.train.model_copy(update={"steps": 4000})
    found.recipe = found.recipe.model_copy(update={"loss": loss, "train": train})
    return found


@pytest.fixture
def look(model, store):
    def look(records=()):
        health = training_health(model, store, records, clips=32)
        assert json.loads(json.dumps(health, allow_nan=False)) == health
        return health, {v["name"]: v["words"] for v in health["verdict"]}

    return look


def run(**terms):
    """Records of a run of 4,000 steps: warming up until step 600, then as `terms` say."""
    warming = [{"step": step, **BALANCED, "ranking": 0.5, "grad_d": 1000.0} for step in range(100, 700, 100)]
    return warming + [{"step": step, **BALANCED, **terms} for step in range(700, 4100, 100)]


def test_a_model_that_was_trained_well_is_not_called_collapsed(look):
    records = run()
    health, said = look(records)
    assert not said and health["collapsed"] is False
    assert (health["kl"]["split"], health["kl"]["n"], health["samples"]["n"]) == ("test_note", 3, 128)
    nats = health["kl"]["nats"]
    assert (
        len(nats) == 64
        and nats == sorted(nats, reverse=True)
        and sum(nats) == pytest.approx(health["kl"]["sum"], abs=0.01)
    )
    assert 0 < health["aggregate_gap"] < health["kl"]["sum"]  # Hoffman & Johnson 2016: the rest is information
    diversity = health["samples"]["diversity"]
    assert diversity["of"] == "one pitch" and diversity["ratio"] == diversity["samples"] / diversity["real"] > 0.1
    assert health["balance"] == {
        "from": 3200, "to": 4000, "ranking": pytest.approx(0.8), "score_real": 0.5, "score_fake": -0.5, "gradients": 3.0
    }  # fmt: skip
    text = describe(health)
    assert "no collapse" in text and "3 clips of test_note" in text and "ranks 80.0% of pairs rightly" in text
    assert health_picture(health, records).startswith(b"\x89PNG")


def test_a_generator_that_ignores_the_code_is_called_collapsed(model, look):
    with torch.no_grad():
        model.vaegan.generator.condition[0].weight[:, : model.vaegan.timbre_dim] = 0
    health, said = look()
    assert health["collapsed"] and list(said) == ["duplicates"]
    assert said["duplicates"].startswith("mode collapse: 100% of samples under the same controls are near-copies")
    assert health["samples"]["near_copies"] == 1 and health["samples"]["diversity"]["ratio"] < 0.01
    assert "COLLAPSED" in describe(health) and "mode collapse: 100%" in describe(health)


def test_an_encoder_that_always_says_the_prior_is_called_collapsed(model, look):
    with torch.no_grad():
        model.vaegan.encoder.leave.weight.zero_()
        model.vaegan.encoder.leave.bias.zero_()
    health, said = look()
    assert health["collapsed"] and said["posterior"].startswith("posterior collapse: ") and len(said) == 1
    assert health["kl"]["nats"] == [0.0] * 64 and health["aggregate_gap"] == 0
    assert health["active_units"] == {"active": 0, "informative": 0, "of": 64}
    assert health_picture(health, []).startswith(b"\x89PNG")


def test_a_silent_generator_is_called_so_though_its_sounds_would_be_raised(model, look):
    """`Level` sets decoded mels to the loudness that is asked, which hides a generator that is 80 dB too quiet."""
    with torch.no_grad():
        nats = 80 * math.log(10) / 20
        model.vaegan.generator.leave.bias[:128] -= nats / model.vaegan.normalisation.deviation
    assert "loudness" in model.controls
    health, said = look()
    assert health["collapsed"] and health["samples"]["silent"] == 1 and list(said) == ["silence"]
    assert said["silence"].startswith("silent output: 100% of sampled sounds")


def test_kl_and_active_units_of_an_encoder_made_by_hand(model, store):
    """Coordinates that tell clips apart (mean +-1), that are sure but of nothing (mean 3), and that are narrow."""

    class ByHand(torch.nn.Module):
        def forward(self, mel):
            mean, log_variance = torch.zeros(2, len(mel), 64)
            mean[:, 0] = torch.tensor([1.0, -1.0])
            mean[:, 1] = 3.0
            log_variance[:, 2] = math.log(0.25)
            mean[:, 3] = torch.tensor([0.2, -0.2])  # variance 0.04, KL 0.02
            return mean, log_variance

    model.vaegan.encoder = ByHand()
    health = training_health(model, store, [], clips=2)
    narrow = 0.5 * (0.25 - 1 + math.log(4))
    assert health["kl"]["nats"] == pytest.approx([4.5, 0.5, narrow, 0.02] + [0.0] * 60, abs=1e-4)
    assert health["active_units"] == {"active": 2, "informative": 3, "of": 64}
    # Aggregate posterior: variances 1 + 1 and 1 + 0.04 about 0, the mean 3, the variance 0.25.
    moments = 0.5 * (1 - math.log(2)) + 4.5 + narrow + 0.5 * (0.04 - math.log(1.04))
    assert health["aggregate_gap"] == pytest.approx(moments, abs=1e-5)


def test_the_balance_is_judged_where_the_discriminator_judged(look):
    health, said = look(run(ranking=1.0))
    assert list(said) == ["discriminator"] and said["discriminator"].startswith("the discriminator always wins")
    assert health["collapsed"] is False and health["balance"]["ranking"] == 1
    assert look(run(ranking=0.5))[1]["discriminator"].startswith("the discriminator guesses")
    health, said = look(run()[:6])  # nothing but the warm-up
    assert health["balance"] is None and not said


def test_a_gan_and_a_model_without_controls_have_their_health(make_task, tiny_store):
    bare = {"encoder": ("--objective", "gan"), "controls": ("--model.controls", "[]")}
    for missing, words in bare.items():
        model = SoundModel(make_task(*words).bundle(0))
        health = training_health(model, Store(tiny_store), [{"step": 1, **BALANCED}], clips=32)
        assert (health["kl"] is None) == (health["active_units"] is None) == (missing == "encoder")
        assert health["samples"]["diversity"]["of"] == ("one pitch" if missing == "encoder" else "any kind")
        assert health["balance"]["ranking"] == 0.8
        assert "duplicates" in {v["name"] for v in health["verdict"]}  # no step was trained: the code is not used yet
        assert describe(health).count("\n") >= 3 and health_picture(health, []).startswith(b"\x89PNG")


def test_a_store_of_other_mels_is_refused(model, tiny_store):
    with pytest.raises(UserError, match="differ in mel"):
        training_health(model, Store(tiny_store), [])


def test_what_there_is_no_figure_of_is_not_judged():
    recipe = Recipe()
    assert diagnose(recipe, {}) == {} == diagnose(recipe, {"val_active": 1, "val_silent": 0.4, "ranking": 0.8})
    assert list(diagnose(recipe, {"val_active": 0, "val_silent": 1.0, "val_duplicates": 1.0, "ranking": 1.0})) == [
        "posterior", "silence", "duplicates", "discriminator"
    ]  # fmt: skip
