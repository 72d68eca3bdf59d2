"""What the engine does at a checkpoint: validation, the best so far, the monitor's words, trackers."""

import json
import os
import signal

import pytest
import torch
from conftest import trainer

from audio_vaegan.config import Recipe
from audio_vaegan.errors import Failure
from audio_vaegan.models.bundle import load_bundle
from audio_vaegan.training import checkpoint, monitor, schedule
from audio_vaegan.training.engine import Engine
from audio_vaegan.training.monitor import Monitor

WELL = {"val_active": 5.0, "val_silent": 0.0, "val_duplicates": 0.0}
BALANCED = {"ranking": 0.8}


def watch(**train):
    recipe = Recipe.model_validate({"train": {"steps": 10000, **train}})
    return Monitor(recipe, lambda step: schedule.judged(step, recipe))


@pytest.mark.parametrize(
    ("figures", "terms", "says"),
    [
        ({"val_active": 0.0}, {}, "posterior collapse"),
        ({"val_silent": 0.75}, {}, "silent output: 75% of sampled sounds"),
        ({"val_duplicates": 0.6}, {}, "mode collapse: 60% of samples"),
        ({}, {"ranking": 0.995}, "the discriminator always wins"),
        ({}, {"ranking": 0.5}, "the discriminator guesses"),
        ({}, {"score_real": 150.0, "score_fake": -2.0}, "the discriminator explodes: its scores are 150"),
    ],
)
def test_what_goes_wrong_is_said_with_its_mend(figures, terms, says):
    watching = watch()
    (words,) = watching.look(5000, BALANCED | terms, WELL | figures)
    assert says in words and words.startswith("step 5000: ")
    assert "--" in words or "store" in words  # the mend


def test_a_healthy_run_hears_nothing_and_so_does_a_young_one():
    assert watch().look(5000, BALANCED, WELL) == []
    assert watch().look(100, {"ranking": 1.0}, {"val_active": 0, "val_silent": 1, "val_duplicates": 1}) == []
    assert watch(monitor="off").look(5000, {"ranking": 1.0}, {"val_active": 0}) == []


def test_three_checkpoints_in_a_row_stop_a_run_two_do_not():
    watching = watch()
    for step, silent, stopped in [(4000, 1, 0), (4250, 1, 0), (4500, 0, 0), (4750, 1, 0), (5000, 1, 0), (5250, 1, 1)]:
        watching.look(step, BALANCED, WELL | {"val_silent": float(silent)})
        assert (watching.fatal(step) == "silence") is bool(stopped), step
    resumed = Monitor(watching.recipe, watching.judged, watching.strikes)  # as from a checkpoint
    assert resumed.fatal(5250) == "silence" and resumed.fatal(10000) is None


def test_an_imbalance_is_told_but_stops_nothing_and_warn_stops_nothing():
    watching, warning = watch(), watch(monitor="warn")
    for step in (4000, 4250, 4500, 4750):
        assert watching.look(step, {"ranking": 1.0}, WELL)
        assert warning.look(step, BALANCED, WELL | {"val_silent": 1.0})
    assert watching.fatal(4750) is None and warning.fatal(4750) is None


def engine(make_task, run, *overrides):
    task = make_task(*overrides)
    return Engine(task.recipe, {"store": "hash"}, task.accelerator, task, run, None)


def test_a_collapsed_run_is_stopped_saved_and_can_go_on_regardless(make_task, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(monitor, "GRACE", 0)
    hopeless = ["--loss.kl", "1000", "--loss.kl_warmup", "0", "--train.steps", "40"]
    with pytest.raises(Failure, match="posterior at three checkpoints in a row") as e:
        engine(make_task, tmp_path / "run", *hopeless).train()
    assert "--train.monitor warn" in str(e.value)
    assert "posterior collapse: no timbre coordinate carries more than 0.1 nats" in capfd.readouterr().err
    assert checkpoint.latest(tmp_path / "run").name == "step-00000020"  # 12, 16, 20: past the first quarter
    with pytest.raises(Failure):
        engine(make_task, tmp_path / "run", *hopeless).train()
    assert engine(make_task, tmp_path / "run", *hopeless, "--train.monitor", "warn").train()
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 40 and "posterior collapse" in records[-1]["warnings"][0]


def test_validation_knows_silence_copies_and_a_good_reconstruction(make_task):
    task = make_task()
    net = task.average
    figures = task.validate()
    assert {"val_mel", "val_active", "val_samples", "val_silent", "val_duplicates"} == figures.keys()
    assert figures == task.validate()
    with torch.no_grad():
        net.generator.leave.weight.zero_()
        net.generator.leave.bias.zero_()
        net.generator.leave.bias[:32] = -50.0
    dead = task.validate()
    assert dead["val_silent"] == 1 and dead["val_duplicates"] == 1
    # A generator that says what it is asked: the figure of a perfect reconstruction is zero.
    real, *_ = task.validation._read(task.validation.aside, net, torch.device("cpu"))
    some, *_ = task.validation._read(task.validation.some, net, torch.device("cpu"))
    net.generator.forward = lambda z, c, d: (
        real if len(z) == len(real) != len(some) else some[torch.arange(len(z)) % len(some)]
    )
    perfect = task.validate()
    assert perfect["val_mel"] == 0 and perfect["val_silent"] == 0
    assert perfect["val_samples"] < figures["val_samples"]


def test_the_best_is_kept_beside_the_last(make_task, tmp_path, monkeypatch):
    run = tmp_path / "run"
    sequence = iter([3.0, 1.0, 2.0, 2.5, 2.6])
    building = engine(make_task, run, "--train.steps", "20", "--train.keep_checkpoints", "1")
    monkeypatch.setattr(building.task, "validate", lambda: {"val_mel": next(sequence)})
    assert building.train()
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-00000008", "step-00000020"]
    state = json.loads((run / "checkpoints" / "step-00000020" / "state.json").read_text())
    assert state["best"] == {"step": 8, "by": "val_mel", "value": 1.0}
    assert load_bundle(run / "best").about["steps"] == 8 and load_bundle(run).about["steps"] == 20


def test_a_figure_that_is_not_a_number_ends_the_run_with_words_and_no_best(make_task, tmp_path, monkeypatch):
    building = engine(make_task, tmp_path / "run")
    monkeypatch.setattr(building.task, "validate", lambda: {"val_mel": float("nan")})
    with pytest.raises(Failure, match="failed at step 4: val_mel became NaN"):
        building.train()
    assert not (tmp_path / "run" / "best").exists() and checkpoint.latest(tmp_path / "run") is None


def test_a_file_of_the_users_among_the_best_costs_no_training(make_task, tmp_path, capfd):
    run = tmp_path / "run"
    assert engine(make_task, run, "--train.steps", "4").train()
    (run / "best" / "notes.txt").write_text("mine")
    longer = make_task("--train.steps", "8").recipe.model_dump(mode="json")
    (run / "run.json").write_text(json.dumps({"recipe": longer, "store": "hash"}))
    assert engine(make_task, run, "--train.steps", "8").train()
    assert (run / "best" / "notes.txt").read_text() == "mine"
    assert "warning: the best model so far was not written" in capfd.readouterr().err


def test_a_stop_at_a_checkpoint_loses_neither_its_figures_nor_its_samples(make_task, tmp_path, monkeypatch):
    """Ctrl-C in the very step after which a checkpoint is due: the record is that of a run that was not stopped."""
    records = []
    for stopped in (False, True):
        run = tmp_path / str(stopped)
        first = engine(make_task, run, "--train.steps", "8")
        if stopped:
            plain = first.task.feed.parts

            def parts(step, *rest, plain=plain):
                if step == 3:
                    os.kill(os.getpid(), signal.SIGINT)
                return plain(step, *rest)

            monkeypatch.setattr(first.task.feed, "parts", parts)
            assert first.train() is False
            first = engine(make_task, run, "--train.steps", "8")
        assert first.train()
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        records.append([{k: v for k, v in r.items() if k != "clips_per_second"} for r in lines])
    assert records[0] == records[1] and "val_mel" in records[1][3]


def test_a_gan_is_best_by_its_samples(make_task, tmp_path):
    assert engine(make_task, tmp_path / "a").best_by == "val_mel"
    assert engine(make_task, tmp_path / "b", "--objective", "gan").best_by == "val_samples"


def test_what_no_weight_depends_on_may_change_between_commands(make_task, tmp_path):
    first = engine(make_task, tmp_path / "run", "--train.steps", "4")
    assert first.train()
    free = ["--train.keep_checkpoints", "5", "--train.monitor", "off"]
    assert engine(make_task, tmp_path / "run", "--train.steps", "4", *free).train()


def test_tensorboard_gets_figures_pictures_and_sounds(tmp_path, tiny_recipe, tiny_store):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--out", tmp_path / "run"]
    assert trainer(*words, "--train.steps", "4").returncode == 0
    (tmp_path / "run" / "checkpoints" / "step-00000004" / "state.json").unlink()  # as if it had died at step 3
    (tmp_path / "run" / "metrics.jsonl").unlink()
    done = trainer(*words, "--train.steps", "4", "--train.trackers", "[tensorboard]")  # trackers may come later
    assert done.returncode == 0, done.stderr
    (events,) = (tmp_path / "run").glob("trackers/*/events.out.tfevents.*")
    board = EventAccumulator(os.path.dirname(events))
    board.Reload()
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [e.step for e in board.Scalars("mel")] == [1, 2, 3, 4]
    assert [e.value for e in board.Scalars("mel")] == pytest.approx([r["mel"] for r in records], abs=1e-5)
    assert board.Scalars("val_mel")[-1].value == pytest.approx(records[-1]["val_mel"], abs=1e-5)
    assert board.Images("samples")[0].step == 4 and board.Audio("sample-0")[0].sample_rate == 16000


def spoil(task, step, how):
    """Let a training step go wrong in one way, at one step: in a loss, in a gradient alone, in a weight alone."""
    plain = task.step

    def spoilt(number):
        terms = plain(number)
        if number != step or spoilt.done:
            return terms
        spoilt.done = True
        parameter = next(task.net.generator.parameters())
        if how == "loss":
            return terms | {"mel": torch.tensor(float("nan"))}
        if how == "gradient":
            return terms | {"grad_g": torch.tensor(float("inf"))}
        with torch.no_grad():
            parameter.view(-1)[0] = float("nan")
        return terms

    spoilt.done = False
    task.step = spoilt


@pytest.mark.parametrize("how", ["loss", "gradient", "weight"])
@pytest.mark.parametrize("log_every", [1, 10])
def test_nan_is_seen_within_log_every_steps_and_never_saved(make_task, tmp_path, how, log_every):
    run = tmp_path / "run"
    building = engine(make_task, run, "--train.steps", "40", "--train.log_every", str(log_every))
    spoil(building.task, 17, how)
    with pytest.raises(Failure, match=r"training failed at step (\d+): .*--on-nan rollback") as e:
        building.train()
    seen = int(str(e.value).split("at step ")[1].split(":")[0])
    assert 18 <= seen <= 18 + log_every, seen
    last = checkpoint.latest(run)
    assert last is not None and last.name == "step-00000016" and last.name in str(e.value)
    assert all(torch.isfinite(t).all() for part in checkpoint.read(last).values() for t in part.values())


def test_an_infinite_gradient_is_seen_in_its_own_step(make_task, tmp_path, monkeypatch):
    """A finite loss whose gradient is not: what is clipped and stepped with is what is looked at."""
    building = engine(make_task, tmp_path / "run", "--train.log_every", "1")
    plain = torch.Tensor.backward

    def backward(loss, *rest, **more):
        plain(loss, *rest, **more)
        backward.count += 1
        if backward.count == 9:  # two a step: the fifth step's first
            for p in building.task.adversary.net.parameters():
                p.grad.fill_(float("inf"))

    backward.count = 0
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with pytest.raises(Failure, match="training failed at step 5: grad_"):
        building.train()


def test_rollback_goes_back_and_halves_the_rates_and_a_death_then_changes_nothing(make_task, tmp_path, capfd):
    words = ["--train.on_nan", "rollback", "--train.log_every", "1"]

    def rates(task, into):
        plain = task.step

        def step(number):
            terms = plain(number)
            into.append((number, task.opt_g.optimizer.param_groups[0]["lr"]))
            return terms

        task.step = step

    first, rolled = [], []
    plain = engine(make_task, tmp_path / "plain")
    rates(plain.task, first)
    assert plain.train()
    building = engine(make_task, tmp_path / "run", *words)
    spoil(building.task, 6, "weight")
    rates(building.task, rolled)
    assert building.train()
    assert "became NaN or infinite; back to step 4, with 0.5 of the learning rates" in capfd.readouterr().err
    again = rolled[[step for step, _ in rolled].index(4, 5) :]
    assert [step for step, _ in again] == list(range(4, 12))
    assert [rate for _, rate in again] == pytest.approx([0.5 * rate for _, rate in first[4:]])
    state = json.loads((tmp_path / "run" / "checkpoints" / "step-00000012" / "state.json").read_text())
    assert state["rollbacks"] == [8] and state["step"] == 12
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == list(range(1, 13))
    assert [r.get("learning_rate_scale", 1) for r in records] == 4 * [1] + 8 * [0.5]
    # A death right after the rollback, before the next checkpoint: the same command makes the same weights.
    died = engine(make_task, tmp_path / "died", *words)
    spoil(died.task, 6, "weight")
    plain_loop, calls = died._loop, []

    def loop(*rest):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain_loop(*rest)

    died._loop = loop
    with pytest.raises(KeyboardInterrupt):
        died.train()
    assert engine(make_task, tmp_path / "died", *words).train()
    whole, other = (checkpoint.read(checkpoint.latest(tmp_path / name)) for name in ("run", "died"))
    assert all(torch.equal(whole[part][k], other[part][k]) for part in whole for k in whole[part])


def test_a_run_that_goes_wrong_again_and_again_ends_with_words(make_task, tmp_path):
    words = ["--train.on_nan", "rollback", "--train.rollbacks", "2"]
    hopeless = ["--train.learning_rate", "1e30", "--train.grad_clip", "1e30"]
    with pytest.raises(Failure, match="after 2 rollbacks; the checkpoint step-00000000"):
        engine(make_task, tmp_path / "run", *words, *hopeless).train()
    state = json.loads((tmp_path / "run" / "checkpoints" / "step-00000000" / "state.json").read_text())
    assert len(state["rollbacks"]) == 2
    with pytest.raises(Failure, match="after 2 rollbacks"):  # nor does another command try for ever
        engine(make_task, tmp_path / "run", *words, *hopeless).train()


def test_a_discriminator_that_explodes_is_told_at_once_and_stopped_and_what_was_good_is_kept(make_task, tmp_path):
    building = engine(make_task, tmp_path / "run", "--train.steps", "40", "--train.keep_checkpoints", "1")
    plain = building.task.step

    def step(number):
        if number == 9:
            with torch.no_grad():
                for p in building.task.adversary.net.discriminator.parameters():
                    p.mul_(30)
        return plain(number)

    building.task.step = step
    with pytest.raises(Failure, match="explosion at three checkpoints in a row") as e:
        building.train()
    assert "stopped at step 20" in str(e.value) and "the last checkpoint before it is step-00000008" in str(e.value)
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").glob("step-*"))[0] == "step-00000008"
