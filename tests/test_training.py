"""Training in real processes: launched, killed, interrupted, resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, launched, one_line, run, train_command, trainer
from safetensors.torch import load_file

from audio_vaegan import losses
from audio_vaegan.config import MEL_PRESETS, LossConfig, Recipe, TrainConfig
from audio_vaegan.data.prepare import prepare
from audio_vaegan.data.store import Store
from audio_vaegan.models.vaegan import Decoded
from audio_vaegan.recipe import load_recipe
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.training import checkpoint
from audio_vaegan.training.accelerator import make_accelerator
from audio_vaegan.training.ema import Ema
from audio_vaegan.training.schedule import judged, kl_factor, learning_rate_factor
from audio_vaegan.training.vaegan import VaeGanTask


def weights(run):
    return load_file(checkpoint.latest(run) / "state.safetensors")


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "clips_per_second"} for line in lines]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def task(make_task):
    return make_task()


def test_schedules_are_functions_of_the_step():
    t, loss = TrainConfig(steps=100, warmup_steps=10, final_learning_rate=0.1), LossConfig()
    assert learning_rate_factor(0, t) == pytest.approx(0.1) and learning_rate_factor(9, t) == pytest.approx(1)
    assert learning_rate_factor(100, t) == pytest.approx(0.1)
    assert learning_rate_factor(55, t) == pytest.approx(0.55)
    assert (kl_factor(0, t, loss), kl_factor(10, t, loss), kl_factor(50, t, loss)) == (0, 0.5, 1)
    assert kl_factor(0, t, loss.model_copy(update={"kl_warmup": 0.0})) == 1
    recipe = Recipe(train=t, loss=loss)
    assert not judged(14, recipe) and judged(15, recipe)
    assert judged(0, recipe.model_copy(update={"objective": "gan"}))
    assert not judged(99, recipe.model_copy(update={"objective": "vae"}))


def test_a_running_average_follows_and_forgets():
    module = torch.nn.Linear(1, 1)
    ema = Ema(module, 0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
    for step in range(200):
        ema.update(module, step)
    assert ema.module.weight.item() == pytest.approx(1.0, abs=1e-6)


def test_one_step_moves_every_network_and_leaves_no_gradient_in_the_critic(task):
    before = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in task.modules.items()}
    terms = task.step(0)
    assert all(torch.isfinite(v) for v in terms.values())
    for name in ("vaegan", "critic"):
        after = task.modules[name].state_dict()
        parts = {k.split(".")[0] for k in after}
        for part in parts:
            assert any(not torch.equal(before[name][k], after[k]) for k in after if k.startswith(part)), part
    assert all(p.grad is None or not p.grad.any() for p in task.adversary.net.parameters())
    assert all(p.requires_grad for p in task.adversary.net.parameters())


def test_the_generators_pass_leaves_the_discriminators_gradients_untouched(task):
    for p in task.adversary.net.parameters():
        p.grad = torch.full_like(p, 7.0)
    part = task.feed.parts(0, True)[0]
    out = task._decode(part)
    out = Decoded(out.mean, out.log_variance, *(x.detach().requires_grad_() for x in (out.reconstruction, out.fakes)))
    terms = task.adversary.judgement(part, out)
    sum(terms.values()).backward()
    assert out.fakes.grad.any() and out.reconstruction.grad.any()
    assert all(bool((p.grad == 7.0).all()) for p in task.adversary.net.parameters())


def test_random_draws_depend_on_seed_and_step_alone(task):
    a, b, other = (task.feed.parts(s, True)[0] for s in (5, 5, 6))
    assert torch.equal(a.noise, b.noise) and torch.equal(a.plan.timbre, b.plan.timbre)
    assert not torch.equal(a.noise, other.noise)
    assert (a.plan.source >= 0).sum() == 2 and len(a.plan.source) == 6 and len(a.plan.judged) == 2


def test_padding_weighs_less_than_sound_and_is_not_judged(task, monkeypatch):
    seen = {"judged": []}
    plain, discriminate = losses.masked_error, task.adversary.net.discriminator.forward

    def spy(output, target, weight, kind):
        seen["weight"] = weight
        return plain(output, target, weight, kind)

    monkeypatch.setattr(losses, "masked_error", spy)
    monkeypatch.setattr(
        task.adversary.net.discriminator, "forward", lambda x, *rest: seen["judged"].append(x) or discriminate(x, *rest)
    )
    part = task.feed.parts(0, True)[0]
    task.step(0)
    sounding = part.mask.bool()
    assert bool((~sounding).any()) and not bool(sounding.all(dim=1).all())
    assert torch.equal(seen["weight"], torch.where(sounding, 1.0, 0.1))
    judged = next(x for x in seen["judged"] if x.requires_grad)  # reconstructions, decoded again, others
    padding = (~sounding).unsqueeze(1).expand_as(part.mel)
    assert torch.equal(judged[:8][padding], part.mel[padding])
    which = part.plan.judged
    assert torch.equal(judged[8 : 8 + len(which)][padding[which]], part.mel[which][padding[which]])
    assert not torch.allclose(judged[:8], part.mel)


def test_sampling_on_the_way_leaves_the_training_networks_where_they_are(task):
    task.bundle(0).to("meta")
    assert {p.device.type for m in task.modules.values() for p in m.parameters()} == {"cpu"}


@pytest.mark.parametrize("preset", MEL_PRESETS)
def test_every_mel_preset_trains(tmp_path, notes, tiny_recipe, preset):
    hop = MEL_PRESETS[preset].hop_length
    change = ["--mel", preset, "--data.clip_samples", str(27 * hop)]  # an odd number of frames, too
    recipe = load_recipe(tiny_recipe, [*change, "--loss.adversarial_start", "0"])
    prepare([notes], recipe, tmp_path / "store")
    task = VaeGanTask(recipe, Store(tmp_path / "store"), make_accelerator(recipe))
    assert all(torch.isfinite(v) for v in task.step(0).values())
    model = SoundModel(task.bundle(0))
    assert model.sample(1).audio.shape == (1, 27 * hop)


@pytest.fixture(scope="module")
def unpitched_store(tmp_path_factory, tiny_recipe):
    root = tmp_path_factory.mktemp("noises")
    rng = np.random.default_rng(0)
    for i in range(24):
        noise = rng.standard_normal(6000) * np.exp(-np.arange(6000) / (300 + 100 * i)) * 0.3
        soundfile.write(root / f"{i}.wav", noise, 16000)
    prepare([root], load_recipe(tiny_recipe), root / "store")
    return root / "store"


@pytest.mark.parametrize("way", ["one", pytest.param("two processes", marks=pytest.mark.slow), "bf16", "no controls"])
def test_sounds_without_pitch_train_and_sample(tmp_path, tiny_recipe, unpitched_store, way):
    words = ["--recipe", tiny_recipe, "--store", unpitched_store, "--out", tmp_path / "run", "--train.steps", "4"]
    words += {"bf16": ["--train.mixed_precision", "bf16"], "no controls": ["--model.controls", "[]"]}.get(way, [])
    done = launched(*words) if way == "two processes" else trainer(*words)
    assert done.returncode == 0, done.stderr
    assert ("trained without" in done.stdout) == (way != "no controls")
    model = SoundModel.from_pretrained(tmp_path / "run")
    assert model.controls == {} and torch.isfinite(model.sample(2).audio).all()


def test_a_run_leaves_metrics_samples_checkpoints_and_a_bundle(tiny_run):
    assert [m["step"] for m in metrics(tiny_run)] == list(range(1, 13))
    assert {"mel", "kl", "disc", "heads", "adversarial", "feature", "control"} <= metrics(tiny_run)[-1].keys()
    assert [p.name for p in sorted((tiny_run / "checkpoints").iterdir())] == ["step-00000008", "step-00000012"]
    assert (tiny_run / "samples" / "step-00000012.png").read_bytes()[:4] == b"\x89PNG"
    assert (tiny_run / "bundle" / "vaegan.safetensors").is_file()


def test_a_finished_run_is_left_alone(tiny_run, tiny_recipe, tiny_store):
    before = weights(tiny_run)
    done = trainer("--recipe", tiny_recipe, "--store", tiny_store, "--out", tiny_run)
    assert done.returncode == 0 and "already trained" in done.stdout
    assert same(before, weights(tiny_run))


def _start(words):
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(train_command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def _wait_for_step(run, step, process):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if len((run / "metrics.jsonl").read_text().splitlines()) >= step:
                return
        except FileNotFoundError:
            pass
        time.sleep(0.005)
    raise AssertionError(process.communicate()[0])


def test_a_killed_run_ends_with_the_same_bits(tmp_path, tiny_run, tiny_recipe, tiny_store):
    run = tmp_path / "run"
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--out", run]
    process = _start(words)
    _wait_for_step(run, 6, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "bundle").exists()
    assert trainer(*words).returncode == 0
    assert same(weights(run), weights(tiny_run))
    assert metrics(run) == metrics(tiny_run)
    bundle = "bundle/vaegan.safetensors"
    assert (run / bundle).read_bytes() == (tiny_run / bundle).read_bytes()


def test_ctrl_c_saves_says_how_to_go_on_and_goes_on(tmp_path, tiny_run, tiny_recipe, tiny_store):
    run = tmp_path / "run"
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--out", run]
    process = _start(words)
    _wait_for_step(run, 2, process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "the same command goes on" in output and "Traceback" not in output
    assert checkpoint.latest(run) is not None
    assert trainer(*words).returncode == 0
    assert same(weights(run), weights(tiny_run))


def test_a_half_written_checkpoint_is_never_taken(tmp_path, tiny_run):
    run = tmp_path / "run"
    (run / "checkpoints" / ".step-00000099.partial").mkdir(parents=True)
    assert checkpoint.latest(run) is None
    assert checkpoint.latest(tiny_run).name == "step-00000012"


def test_another_recipe_in_the_same_folder_is_refused(tiny_run, tiny_recipe, tiny_store):
    line = one_line(trainer("--recipe", tiny_recipe, "--store", tiny_store, "--out", tiny_run, "--train.steps", "13"))
    assert "train.steps: 12 != 13" in line


def test_a_dry_run_tells_sizes_time_and_memory_and_writes_nothing(tmp_path, tiny_recipe, tiny_store):
    run = tmp_path / "run"
    done = trainer(
        "--recipe", tiny_recipe, "--store", tiny_store, "--out", run, "--dry-run", "--train.batch_size", "16"
    )
    assert done.returncode == 0, done.stderr
    assert "batch_size: 16" in done.stdout and "parameters: encoder" in done.stdout
    assert "take about" in done.stdout and "memory:" in done.stdout
    assert not run.exists()


def test_bfloat16_trains_close_to_float32(tmp_path, tiny_run, tiny_recipe, tiny_store):
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--out", tmp_path / "run"]
    done = trainer(*words, "--train.mixed_precision", "bf16")
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path / "run")[0]["mel"] == pytest.approx(metrics(tiny_run)[0]["mel"], rel=0.02)
    assert metrics(tmp_path / "run")[-1]["mel"] < metrics(tmp_path / "run")[0]["mel"]


@pytest.mark.slow
def test_accelerate_launch_uses_all_cores_in_one_process(tmp_path, tiny_recipe, tiny_store):
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--out", tmp_path / "run", "--dry-run"]
    script = str(ROOT / "recipes" / "train_vaegan.py")
    done = run([sys.executable, "-m", "accelerate.commands.launch", script, *map(str, words)])
    assert done.returncode == 0, done.stderr
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert f"1 process(es), {cores} threads" in done.stdout


def test_a_loss_that_is_not_a_number_ends_the_run_with_words(tmp_path, tiny_recipe, tiny_store):
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--out", tmp_path / "run"]
    done = trainer(*words, "--train.learning_rate", "1e30", "--train.grad_clip", "1e30")
    assert done.returncode == 1
    assert (
        "training failed at step" in done.stderr and "learning_rate" in done.stderr and "Traceback" not in done.stderr
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--store", "nowhere"], "not a store"),
        (["--recipe", "nowhere.yaml"], "no such file"),
        (["--mel", "hifigan-22k-80"], "n_mels: 32 != 80"),
        (["--data.clip_samples", "4096"], "clips of 8192 samples"),
        (["--train.batch_size", "7"], "must divide it"),
        (["--train.judged_share", "0"], "needs fakes"),
        (["--train.prior_share", "0", "--train.repitch_share", "0"], "needs fakes"),
        (["--train.stepps", "6"], "Did you mean 'steps'?"),
    ],
)
def test_mistakes_of_a_training_command(tmp_path, tiny_recipe, tiny_store, mistake, change, says):
    assert says in mistake(
        "--recipe", tiny_recipe, "--store", tiny_store, "--out", tmp_path / "run", *change, train=True
    )


def test_a_run_from_before_a_key_was_there_goes_on(tiny_run, tiny_recipe, tiny_store, tmp_path):
    """What run.json does not name has its default; what it names differently is still refused."""
    from audio_vaegan.cli import train_vaegan

    run_folder = tmp_path / "run"
    shutil.copytree(tiny_run, run_folder)
    about = json.loads((run_folder / "run.json").read_text())
    del about["recipe"]["vocoder"], about["recipe"]["train"]["monitor"]
    (run_folder / "run.json").write_text(json.dumps(about))
    words = ["--recipe", str(tiny_recipe), "--store", str(tiny_store), "--out", str(run_folder)]
    assert train_vaegan(words) == 0
    assert train_vaegan([*words, "--train.learning_rate", "1e-4"]) == 2
