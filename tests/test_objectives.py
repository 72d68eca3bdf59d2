"""The family: which network learns from what, and each option beside the default."""

import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, TINY, cli, one_line, tone, trainer
from safetensors.torch import load_file

from audio_vaegan.config import Recipe
from audio_vaegan.data.prepare import prepare
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.assess import Options, assess
from audio_vaegan.evaluation.compare import compare, names_of, table
from audio_vaegan.evaluation.evaluate import evaluate
from audio_vaegan.models.critic import Discriminator
from audio_vaegan.recipe import load_recipe
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.probing import judged_classes
from audio_vaegan.training import checkpoint, schedule
from audio_vaegan.training.accelerator import make_accelerator
from audio_vaegan.training.vaegan import VaeGanTask


def moved(module, before):
    return any(not torch.equal(before[k], v) for k, v in module.state_dict().items())


def snapshot(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def has_gradient(module):
    return any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


def untrained_similarity(make_task):
    torch.manual_seed(7)
    return Discriminator(make_task().recipe.model).state_dict()


def terms_of(task):
    part = task.feed.parts(0, True)[0]
    return task.adversary.judgement(part, task._decode(part))


# -- routing: who receives which gradient


@pytest.mark.parametrize(("routing", "reaches"), [("larsen", False), ("joint", True)])
def test_the_gans_gradient_reaches_the_encoder_only_when_routed_there(make_task, routing, reaches):
    task = make_task("--routing", routing)
    terms_of(task)["adversarial"].backward()
    assert has_gradient(task.net.encoder) is reaches
    assert has_gradient(task.net.generator)
    assert not has_gradient(task.adversary.net)


@pytest.mark.parametrize("routing", ["larsen", "joint"])
def test_the_similarity_teaches_encoder_and_generator_never_the_discriminator(make_task, routing):
    task = make_task("--routing", routing)
    terms_of(task)["feature"].backward()
    assert has_gradient(task.net.encoder) and has_gradient(task.net.generator)
    assert not has_gradient(task.adversary.net)


def test_the_discriminator_learns_from_the_gan_alone(make_task):
    """Whatever weighs in the generator's objective, one step moves the discriminator by the same bits."""
    weights = []
    for change in ((), ("--loss.feature", "100", "--loss.mel", "0", "--loss.kl", "1", "--loss.control", "50")):
        task = make_task(*change)
        task.step(0)
        weights.append(snapshot(task.adversary.net.discriminator))
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_one_batched_decode_serves_the_step(make_task, monkeypatch):
    task = make_task()
    sizes = []
    task.net.generator.register_forward_hook(lambda _, given, out: sizes.append(len(out)))
    task.step(0)
    assert sizes == [8 + 2 + 4 + 2]  # z, z.detach() of the judged, z_prior, z_repitched.detach()


# -- objectives


@pytest.mark.parametrize(
    ("objective", "learning", "absent"),
    [
        ("vae", {"encoder", "generator", "heads"}, {"discriminator", "frozen"}),
        ("vae_disl", {"encoder", "generator", "heads"}, {"discriminator"}),
        ("gan", {"generator", "discriminator", "heads"}, {"encoder", "frozen"}),
        ("vaegan", {"encoder", "generator", "discriminator", "heads"}, {"frozen"}),
    ],
)
def test_each_objective_has_and_moves_its_own_networks(make_task, objective, learning, absent):
    similarity = untrained_similarity(make_task) if objective == "vae_disl" else None
    task = make_task("--objective", objective, similarity=similarity)
    networks = {
        "encoder": task.net.encoder,
        "generator": task.net.generator,
        "discriminator": task.adversary.net.discriminator,
        "frozen": task.adversary.frozen,
        "heads": task.adversary.net.heads,
    }
    assert {name for name, network in networks.items() if network is None} == absent
    there = {name: network for name, network in networks.items() if network is not None}
    before = {name: snapshot(network) for name, network in there.items()}
    terms = task.step(0)
    assert all(torch.isfinite(v) for v in terms.values())
    assert {name for name, network in there.items() if moved(network, before[name])} == learning
    assert ("mel" in terms) == ("kl" in terms) == (objective != "gan")
    assert ("feature" in terms) == (objective in ("vae_disl", "vaegan"))
    assert ("adversarial" in terms) == ("disc" in terms) == (objective in ("gan", "vaegan"))


def test_the_papers_own_objective_needs_no_pixels(make_task):
    task = make_task("--loss.mel", "0")
    before = snapshot(task.net.encoder)
    task.step(0)
    assert moved(task.net.encoder, before)


@pytest.mark.parametrize("objective", ["vae", "gan", "vaegan"])
def test_objectives_work_without_any_control(make_task, objective):
    task = make_task("--objective", objective, "--model.controls", "[]")
    assert all(torch.isfinite(v) for v in task.step(0).values())
    assert SoundModel(task.bundle(1)).sample(2).audio.shape == (2, 8192)


def test_vae_disl_trains_a_gan_first_and_then_its_features_are_the_similarity(tmp_path, tiny_recipe, tiny_store):
    run = tmp_path / "run"
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--out", run, "--objective", "vae_disl"]
    done = trainer(*words)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((r / "run.json").read_text())["recipe"] for r in (run / "gan", run))
    assert (first["objective"], first["train"]["steps"]) == ("gan", 6)
    assert (second["objective"], second["train"]["steps"]) == ("vae_disl", 12)  # as it was given: for both stages
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [1, 2, 3, 4, 5, 6]
    assert "feature" in records[0] and "disc" not in records[0]
    before = (run / "bundle" / "vaegan.safetensors").read_bytes()
    again = trainer(*words)
    assert again.returncode == 0 and again.stdout.count("already trained") == 2
    assert (run / "bundle" / "vaegan.safetensors").read_bytes() == before


def test_a_gan_samples_but_does_not_encode(tmp_path, tiny_recipe, tiny_store, tiny_run, notes):
    run = tmp_path / "a-gan"
    done = trainer("--recipe", tiny_recipe, "--store", tiny_store, "--out", run, "--objective", "gan")
    assert done.returncode == 0, done.stderr
    assert not any(k.startswith("encoder") for k in load_file(run / "bundle" / "vaegan.safetensors"))
    model = SoundModel.from_pretrained(run)
    assert not model.encodes and model.sample(2, pitch=[61.0, 64.0]).audio.shape == (2, 8192)
    sound = next((notes / "audio").iterdir())
    assert "no encoder" in one_line(cli("edit", run, sound, "--pitch", "1", "--out", tmp_path / "x.wav"))
    figures, measured = evaluate(model, Store(tiny_store), samples=2, workers=1)
    assert not figures["splits"] and figures["samples"]["n"] == 2 and list(measured) == ["samples"]
    assess(run, Store(tiny_store), Options(samples=2), tmp_path / "report", say=lambda line: None)
    assert "New sounds" in (tmp_path / "report" / "report.html").read_text()
    # Beside a model that can do more: both are sampled, one is reconstructed.
    out = tmp_path / "side by side"
    rows = compare([tiny_run, run], Store(tiny_store), out, clips=2)
    assert [(r["name"], r["objective"], r["steps"]) for r in rows] == [("run", "vaegan", 12), ("a-gan", "gan", 12)]
    assert "val_mel" in rows[0] and "val_mel" not in rows[1] and "val_samples" in rows[1]
    assert len(list((out / "audio").glob("*.wav"))) == 2 + 2 + 2 * 2
    assert all((out / n).read_bytes()[:4] == b"\x89PNG" for n in ("reconstructed.png", "sampled.png"))
    assert "a-gan" in table(rows) and " -" in table(rows)
    assert names_of([run / "best", tiny_run / "best"]) == ["a-gan-best", "run-best"]
    with pytest.raises(UserError, match="the same model twice"):
        compare([run, run], Store(tiny_store), tmp_path / "x")


# -- accumulation, ratios


def plain_descent(task):
    """AdamW's first steps are the signs of gradients, whatever their size: rounding of tiny ones would show."""
    task.opt_g = task.accelerator.prepare(torch.optim.SGD(task.net.parameters(), 0.1))
    if task.adversary.critic is not None:
        task.adversary.optimizer = task.accelerator.prepare(torch.optim.SGD(task.adversary.net.parameters(), 0.1))
    return task


@pytest.mark.parametrize(
    "change",
    [(), ("--loss.gan", "wgan_gp"), ("--objective", "gan"), ("--loss.free_bits", "0.05", "--objective", "vae")],
    ids=["default", "wgan_gp", "gan", "free bits"],
)
def test_micro_batches_make_the_step_of_the_whole_batch(make_task, change):
    """Both networks: the discriminator's step, and the generator's after it, judged by the stepped discriminator."""
    rates = ("--train.learning_rate", "0.2", "--train.disc_learning_rate", "0.2")
    tasks = [plain_descent(make_task("--train.accumulate", str(n), *rates, *change)) for n in (1, 2)]
    start = snapshot(tasks[0].net)
    for step in range(3):
        whole, parts = (task.step(step) for task in tasks)
        for name in whole:
            assert parts[name].item() == pytest.approx(whole[name].item(), rel=2e-4, abs=2e-6), (step, name)
    a, b = ({n: snapshot(m) for n, m in task.modules.items()} for task in tasks)
    for name in a:
        assert max(float((a[name][k] - b[name][k]).abs().max()) for k in a[name]) < 2e-5
    moved = max(float((v - start[k]).abs().max()) for k, v in a["vaegan"].items())
    assert moved > 100 * 2e-5  # or the tolerance would say nothing


def test_accumulating_averages_and_does_not_sum(make_task):
    """Were gradients summed over micro-batches, the norm would be twice as large."""
    one, two = (make_task("--train.accumulate", str(n)).step(0) for n in (1, 2))
    assert two["grad_g"].item() == pytest.approx(one["grad_g"].item(), rel=1e-3)
    assert two["grad_d"].item() == pytest.approx(one["grad_d"].item(), rel=1e-3)


def optimizer_steps(task):
    state = task.adversary.optimizer.optimizer.state_dict()["state"]
    return max((int(entry["step"]) for entry in state.values()), default=0)


def test_update_ratios(make_task):
    task = make_task("--train.disc_updates", "3")
    task.step(0)
    assert optimizer_steps(task) == 3
    task = make_task("--train.disc_every", "2", "--train.disc_updates", "2")
    for step in range(3):
        task.step(step)
    assert optimizer_steps(task) == 4  # two in each of steps 0 and 2


def test_extra_updates_of_the_discriminator_see_other_clips(make_task):
    feed = make_task("--train.disc_updates", "2").feed
    first, second, later = feed.parts(0, True, 0)[0], feed.parts(0, True, 1)[0], feed.parts(1, True, 0)[0]
    assert not torch.equal(first.mel, second.mel) and not torch.equal(second.mel, later.mel)
    assert not torch.equal(first.plan.timbre, second.plan.timbre)


def test_a_discriminator_that_wins_rests_while_the_heads_go_on(make_task):
    task = make_task("--train.disc_rest_above", "0")
    before = {n: snapshot(m) for n, m in task.adversary.net.named_children()}
    terms = task.step(0)
    assert terms["rests"] == 1
    assert not moved(task.adversary.net.discriminator, before["discriminator"])
    assert moved(task.adversary.net.heads, before["heads"])


def test_learning_rates_are_separate(make_task):
    task = make_task("--train.learning_rate", "1e-30")
    before = {n: snapshot(m) for n, m in task.modules.items()}
    task.step(0)
    assert moved(task.modules["critic"], before["critic"])
    assert max(float((v - before["vaegan"][k]).abs().max()) for k, v in task.net.state_dict().items()) < 1e-20


def test_diversity_pairs_prior_samples_under_the_same_controls_and_pulls_them_apart(make_task):
    def distance(task):
        part = task.feed.parts(0, True)[0]
        controls, source = part.plan.controls, part.plan.source
        assert torch.equal(controls[source < 0][0::2], controls[source < 0][1::2])
        with torch.no_grad():
            fakes = task._decode(part).fakes[len(part.plan.judged) :][source < 0]
        return float((fakes[0::2] - fakes[1::2]).abs().mean())

    apart = []
    for weight in ("1e-9", "1"):
        task = make_task("--objective", "gan", "--loss.diversity", weight)
        for step in range(12):
            task.step(step)
        apart.append(distance(task))
    assert apart[1] > 2 * apart[0]


# -- progressive growing


def recipe(**train):
    return Recipe.model_validate({"train": {"steps": 100, **train}})


def test_resolution_grows_in_plateaus_and_fades():
    r = recipe(growing=0.8)
    assert [schedule.detail(s, r) for s in (0, 19, 30, 40, 59, 70, 80, 99)] == [0, 0, 0.5, 1, 1, 1.5, 2, 2]
    assert [schedule.fade_in(s, r) for s in (0, 30, 40, 99)] == [0, 0.5, 1, 1]
    assert schedule.detail(0, recipe()) == 2 and schedule.fade_in(0, recipe()) == 1


def test_growing_trains_coarse_first_and_everything_at_last(make_task):
    task = make_task("--train.growing", "0.5", "--train.steps", "40")
    fine, scales = task.net.generator.fine, task.adversary.net.discriminator.scales
    before = [snapshot(m) for m in (fine, task.net.generator.coarse, scales[0], scales[2])]
    terms = task.step(0)
    assert all(torch.isfinite(v) for v in terms.values())
    now = [moved(m, b) for m, b in zip((fine, task.net.generator.coarse, scales[0], scales[2]), before, strict=True)]
    assert now == [False, True, False, True]
    sample = SoundModel(task.bundle(1)).sample(1).mel
    assert torch.equal(sample[..., 0::4], sample[..., 3::4])  # four frames alike: what there is so far
    for step in (7, 12, 17, 25):
        assert all(torch.isfinite(v) for v in task.step(step).values())
    assert moved(fine, before[0]) and moved(scales[0], before[2])
    sample = SoundModel(task.bundle(26)).sample(1).mel
    assert not torch.equal(sample[..., 0::4], sample[..., 3::4])


# -- classes


@pytest.fixture
def classed(make_task):
    return make_task("--model.class_label", "instrument_str")


def test_a_class_is_a_control_with_names(classed):
    assert all(torch.isfinite(v) for v in classed.step(0).values())
    control = classed.net.controls[1]
    assert control.name == "instrument_str" and len(control.classes) == 3  # one of four is held out
    drawn = torch.cat([classed.feed.parts(step, True)[0].plan.controls[:, 1] for step in range(8)])
    assert set(drawn.tolist()) == {0.0, 1.0, 2.0}
    model = SoundModel(classed.bundle(1))
    name = control.classes[2]
    clip = model.sample(3, instrument_str=name, pitch=64.0)
    assert clip.controls["instrument_str"].tolist() == [2, 2, 2]
    other = model.sample(3, instrument_str=control.classes[0], pitch=64.0)
    assert torch.equal(clip.z[:, 2:], other.z[:, 2:]) and not torch.allclose(clip.mel, other.mel)
    assert torch.equal(model.sample(3, instrument_str=2, pitch=64.0).mel, clip.mel)


def test_the_classes_of_an_encoded_sound_come_from_the_heads_or_from_the_user(classed, notes):
    model = SoundModel(classed.bundle(1))
    sound = next(p for p in sorted((notes / "audio").iterdir()))
    assert 0 <= float(model.encode(sound).controls["instrument_str"]) <= 2
    with pytest.raises(UserError, match=r"has the classes 0 \.\.\. 2"):
        model.encode(sound, instrument_str=99)
    named = model.encode(sound, instrument_str=model.controls["instrument_str"].classes[1], pitch=64)
    assert float(named.controls["instrument_str"]) == 1
    edited = model.edit(named, set={"instrument_str": 2})
    assert float(edited.requested["instrument_str"]) == 2 and edited.achieved["instrument_str"].isnan().all()


def test_generating_by_class_through_the_command_line(tmp_path, tiny_recipe, tiny_store):
    run, out = tmp_path / "run", tmp_path / "out"
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--model.class_label", "instrument_str"]
    done = trainer(*words, "--out", run, "--train.steps", "2")
    assert done.returncode == 0, done.stderr
    names = SoundModel.from_pretrained(run).controls["instrument_str"].classes
    done = cli("generate", run, "--count", "4", "--class", names[1], names[0], "--out", out)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert [r["instrument_str_requested"] for r in rows] == [names[1], names[0]] * 2
    line = one_line(cli("generate", run, "--class", names[0][:-1], "--out", tmp_path / "x"))
    assert f"no class '{names[0][:-1]}'" in line and "Did you mean" in line


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--model.class_label", "colour"], "labels of this store: instrument_family_str, instrument_source_str"),
        (["--model.class_label", "instrument_family_str"], "have 1 values"),
        (["--model.class_label", "pitch"], "pitch is no class"),
        (["--objective", "gan", "--train.best_by", "val_mel"], "a gan has no val_mel"),
        (["--objective", "vae_disl", "--train.best_by", "val_stft"], "val_stft is a vocoder's figure"),
        (["--loss.diversity", "1", "--train.prior_share", "0"], "even number of them, not 0"),
        (["--model.attention_heads", "5"], "attention_heads must divide width 24"),
        (["--objective", "began"], "objective"),
        (["--loss.gan", "hinges"], "loss.gan"),
        (["--train.trackers", "[tensorbord]"], "Did you mean 'tensorboard'?"),
        (["--train.trackers", "[mlflow]"], "mlflow is not installed"),
        (["--train.accumulate", "3"], "multiple of 1 processes x 3 micro-batches"),
    ],
)
def test_mistakes_in_options(tmp_path, tiny_recipe, tiny_store, mistake, change, says):
    assert says in mistake(
        "--recipe", tiny_recipe, "--store", tiny_store, "--out", tmp_path / "run", *change, train=True
    )
    assert checkpoint.latest(tmp_path / "run") is None


def test_attention_trains(make_task):
    task = make_task("--model.attention_heads", "4")
    before = snapshot(task.net.generator.coarse[-1])
    task.step(0)
    assert moved(task.net.generator.coarse[-1], before) and task.net.generator.coarse[-1].heads == 4


# -- semi-supervised: the discriminator's class head


@pytest.fixture(scope="module")
def half_labelled(tmp_path_factory):
    """Sixteen sounds of two kinds, of which every second one says its kind."""
    root = tmp_path_factory.mktemp("kinds")
    sounds = root / "in"
    sounds.mkdir()
    rows = ["file,kind"]
    for i in range(16):
        bright = i % 4 < 2
        soundfile.write(sounds / f"{i}.wav", tone(50 + i, 0.4, 12 if bright else 1, 3), RATE)
        rows.append(f"{i}.wav,{('bright' if bright else 'dull') if i % 2 else ''}")
    (sounds / "labels.csv").write_text("\n".join(rows))
    (root / "recipe.yaml").write_text(TINY)
    words = ["--data.test_instruments", "0", "--data.test_notes", "0", "--train.validation_share", "0"]
    recipe = load_recipe(root / "recipe.yaml", [*words, "--model.class_label", "kind", "--model.disc_classes", "true"])
    prepare([sounds], recipe, root / "store")
    return recipe, Store(root / "store")


def test_clips_without_a_label_teach_the_class_head_nothing_and_those_with_one_do(half_labelled):
    recipe, store = half_labelled
    task = VaeGanTask(recipe, store, make_accelerator(recipe))
    part = task.feed.parts(0, True)[0]
    kind = next(i for i, c in enumerate(task.net.controls) if c.classes)
    known = part.defined[:, kind]
    assert 0 < known.sum() < len(known)
    logits = task.adversary.net(part.mel, part.mel)[2].detach().requires_grad_()
    task.adversary._class_term(logits, part).backward()
    assert bool((logits.grad[~known] == 0).all()) and bool(logits.grad[known].any(dim=1).all())


def test_the_class_head_learns_from_the_labels_that_there_are(half_labelled):
    recipe, store = half_labelled
    faster = recipe.train.model_copy(update={"steps": 200, "disc_learning_rate": 5e-3})
    recipe = recipe.model_copy(update={"train": faster})
    task = VaeGanTask(recipe, store, make_accelerator(recipe))
    part = task.feed.parts(0, True)[0]

    def error():
        with torch.no_grad():
            return float(task.adversary._class_term(task.adversary.net(part.mel, part.mel)[2], part))

    before = error()
    for step in range(30):
        assert "classes" in task.step(step)
    assert error() < 0.5 * before


def test_a_bundle_keeps_the_class_head(half_labelled, tmp_path):
    recipe, store = half_labelled
    task = VaeGanTask(recipe, store, make_accelerator(recipe))
    for step in range(3):
        task.step(step)
    task.export(tmp_path / "bundle", 3)
    model = SoundModel.from_pretrained(tmp_path / "bundle")
    share = judged_classes(model, torch.from_numpy(store.read(np.arange(4))))
    assert share.shape == (4, 2) and share.sum(axis=1) == pytest.approx(1)


def test_a_class_head_needs_a_label_and_a_discriminator(tiny_recipe):
    with pytest.raises(UserError, match="class_label"):
        load_recipe(tiny_recipe, ["--model.disc_classes", "true"])
    with pytest.raises(UserError, match="objective vae trains none"):
        load_recipe(tiny_recipe, ["--model.disc_classes", "true", "--model.class_label", "kind", "--objective", "vae"])
