"""Several processes through `accelerate launch`: they make the run of one; a fault of one ends all, with its words."""

import json
import shutil
import time

import pytest
import torch
from conftest import LOOPBACK, launch_command, one_line, ranks, run, trainer
from test_training import metrics, weights

from audio_vaegan.files import alone
from audio_vaegan.models.bundle import load_bundle
from audio_vaegan.training import checkpoint
from audio_vaegan.training.accelerator import REFUSED, make_accelerator

GONE = "error: another process of this launch has ended, and says why; the same command goes on"


def with_one_and_several_processes(tmp_path, steps, words, processes=2):
    """The metrics of the same run in one process and in several; all end with the same weights, to the bit."""
    words = [*words, "--train.steps", steps]
    assert trainer(*words, "--out", tmp_path / "one").returncode == 0
    done = ranks("train_vaegan", *words, "--out", tmp_path / "two", processes=processes, hashes=tmp_path)
    assert done.returncode == 0, done.stderr
    same_weights_everywhere(tmp_path, processes)
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert [m["step"] for m in two] == list(range(1, steps + 1))
    return one, two


def same_weights_everywhere(folder, processes=2):
    """Averages are the main process's to validate and export, but all keep them, and all keep the same."""
    first, *others = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes))
    assert len(first) > 10 and len(others) == processes - 1 and all(other == first for other in others)


@pytest.mark.slow  # the next one has all of this and more, on fewer steps
def test_two_processes_make_the_run_of_one(tmp_path, tiny_recipe, tiny_store):
    """The same global batch: twenty steps' losses equal to 1e-4. The seven clips set aside, which two processes cannot
    share out evenly, count once each."""
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--train.validation_share", "0.3"]
    one, two = with_one_and_several_processes(tmp_path, 20, words)
    for a, b in zip(one, two, strict=True):
        for name in a.keys() & {"mel", "kl", "disc", "heads", "adversarial", "feature", "control", "total"}:
            assert b[name] == pytest.approx(a[name], rel=1e-4, abs=2e-6), (a["step"], name)
        assert ("val_mel" in b) == ("val_mel" in a)
        assert b.get("val_mel", 0) == pytest.approx(a.get("val_mel", 0), rel=1e-4)
    assert "val_mel" in one[-1]
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    worst = max(float((a[k] - b[k]).abs().max()) for k in a if k.startswith(("vaegan", "critic")))
    assert worst < 1e-4, worst


def test_two_processes_make_the_run_of_one_with_everything_on(tmp_path, tiny_recipe, tiny_store):
    """Micro-batches (no_sync), growing (unused parameters), penalty, classes, free bits, pairs and rests under DDP."""
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--train.accumulate", "2"]
    words += ["--train.growing", "0.7", "--loss.gan", "wgan_gp", "--model.class_label", "instrument_str"]
    words += ["--loss.free_bits", "0.02", "--train.disc_rest_above", "0.9", "--model.attention_heads", "2"]
    words += ["--train.batch_size", "16", "--loss.diversity", "0.1"]
    one, two = with_one_and_several_processes(tmp_path, 12, words)
    for a, b in zip(one, two, strict=True):
        for name in a.keys() & {"mel", "kl", "disc", "penalty", "heads", "feature", "control", "ranking", "rests"}:
            assert b[name] == pytest.approx(a[name], rel=1e-3, abs=1e-5), (a["step"], name)


def test_processes_that_drift_apart_are_found_out(tmp_path):
    """The check itself, on two gloo processes: equal weights pass, one changed bit does not."""
    script = tmp_path / "drift.py"
    script.write_text(
        "import torch\n"
        "from accelerate import Accelerator\n"
        "from audio_vaegan.errors import Failure\n"
        "from audio_vaegan.training.together import agree\n"
        "accelerator = Accelerator(cpu=True)\n"
        "module = torch.nn.Linear(4, 4)\n"
        "torch.nn.init.ones_(module.weight), torch.nn.init.ones_(module.bias)\n"
        "agree({'net': module}, accelerator)\n"
        "if accelerator.process_index == 1:\n"
        "    module.weight.data[0, 0] += 1e-3\n"
        "try:\n"
        "    agree({'net': module}, accelerator)\n"
        "    found = False\n"
        "except Failure:\n"
        "    found = True\n"
        "print(f'rank {accelerator.process_index} of {accelerator.num_processes}: {found}', flush=True)\n"
        "accelerator.end_training()\n"
    )
    command = launch_command()
    command[-1] = str(script)
    done = run(command, LOOPBACK)
    assert done.returncode == 0, done.stderr
    assert "rank 0 of 2: True" in done.stdout and "rank 1 of 2: True" in done.stdout


def test_a_launch_in_which_each_process_thinks_it_is_alone_is_refused(
    tiny_recipe, tiny_store, tmp_path, mistake, monkeypatch
):
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--out", tmp_path / "run"]
    line = one_line(trainer(*words, env={"WORLD_SIZE": "2", "RANK": "0"}))
    assert "accelerate launch --multi_gpu" in line
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    assert "bf16" in mistake(*words, train=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert "the recipe says no" in mistake(*words, "--train.mixed_precision", "no", train=True)
    assert not (tmp_path / "run").exists()


def test_a_variable_of_a_launch_scales_no_gradient(monkeypatch, tiny_run):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8")
    weight = torch.ones(1, requires_grad=True)
    make_accelerator(load_bundle(tiny_run).recipe).backward(3 * weight)
    assert float(weight.grad) == 3


@pytest.mark.parametrize("variable", REFUSED)
def test_what_two_networks_cannot_be_trained_by_is_refused_with_what_works(
    tiny_recipe, tiny_store, tmp_path, mistake, monkeypatch, variable
):
    monkeypatch.setenv(variable, "INDUCTOR" if "DYNAMO" in variable else "true")
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--out", tmp_path / "run"]
    line = mistake(*words, train=True)
    assert "plain DDP works: accelerate launch --multi_gpu" in line and not (tmp_path / "run").exists()
    monkeypatch.setenv(variable, "NO")  # as the launcher says it to every launch
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    assert "--mixed_precision bf16, or no" in mistake(*words, train=True)


@pytest.mark.parametrize(
    "fault",
    [pytest.param("fail:1:6", marks=pytest.mark.slow), "kill:1:6", pytest.param("mistake:1:6", marks=pytest.mark.slow)],
)
def test_a_process_that_fails_ends_all_at_once_with_its_words(tiny_recipe, tiny_store, tmp_path, fault):
    out = tmp_path / "run"
    words = ["train_vaegan", "--recipe", tiny_recipe, "--store", tiny_store, "--out", out]
    began = time.monotonic()
    done = ranks(*words, env={"FAULT": fault})
    assert done.returncode != 0 and time.monotonic() - began < 60, done.stderr  # the launcher's own patience is 30 s
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if fault.startswith("kill"):
        assert len(said) == 1 and said[0].startswith(GONE) and "SIGKILL" in done.stderr, done.stderr
    else:
        words = "error: the fault of this test (process 1)"
        assert words in said and all(line == words or line.startswith(GONE) for line in said), done.stderr
    assert checkpoint.latest(out).name == "step-00000004"
    if fault.startswith("fail"):  # and the same command goes on
        assert ranks(*words).returncode == 0
        assert checkpoint.latest(out).name == "step-00000012"


def test_processes_go_back_together_when_one_sees_nan(tiny_recipe, tiny_store, tmp_path):
    """From the very first step, where the first process alone writes what both go back to."""
    words = ["train_vaegan", "--recipe", tiny_recipe, "--store", tiny_store, "--out", tmp_path / "run"]
    done = ranks(*words, "--on-nan", "rollback", hashes=tmp_path, env={"FAULT": "nan:1:1"})
    assert done.returncode == 0, done.stderr
    assert "mel became NaN or infinite; back to step 0, with 0.5 of the learning rates" in done.stderr
    same_weights_everywhere(tmp_path)
    assert [m["learning_rate_scale"] for m in metrics(tmp_path / "run")] == 12 * [0.5]


def test_two_trainings_in_one_folder_are_told(tiny_recipe, tiny_store, tiny_run, tmp_path, mistake):
    shutil.copytree(tiny_run, tmp_path / "run")
    with alone((tmp_path / "run").resolve(), "training"):
        line = mistake("--recipe", tiny_recipe, "--store", tiny_store, "--out", tmp_path / "run", train=True)
    assert "another training is at work there" in line


@pytest.mark.slow
def test_four_processes_make_the_run_of_one(tmp_path, tiny_recipe, tiny_store):
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--train.batch_size", "16"]
    one, four = with_one_and_several_processes(tmp_path, 12, words, processes=4)
    for a, b in zip(one, four, strict=True):
        for name in a.keys() & {"mel", "kl", "disc", "heads", "adversarial", "feature", "control", "val_mel"}:
            assert b[name] == pytest.approx(a[name], rel=1e-4, abs=1e-5), (a["step"], name)
