"""Clips that other processes read ahead are, to the bit, those that would be read when they are wanted."""

import os
import signal
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from conftest import train_command
from test_training import weights

from audio_vaegan.config import AugmentConfig, Recipe
from audio_vaegan.data.ahead import Ahead
from audio_vaegan.data.augment import DRAWS
from audio_vaegan.data.batches import Clips
from audio_vaegan.data.store import Store
from audio_vaegan.mel import Mel
from audio_vaegan.recipe import load_recipe
from audio_vaegan.training import accelerator, schedule
from audio_vaegan.training.vocoder_feed import VocoderFeed

HOW = AugmentConfig(gain_db=6, semitones=2, fade=0.4)
VARIED = ("--augment.gain_db", "6", "--augment.semitones", "2", "--augment.fade", "0.4")


@pytest.fixture
def clips(tiny_store):
    store = Store(tiny_store)
    return Clips(store, store.split("train"), {"pitch": (), "loudness": (), "decay": ()})


@pytest.fixture
def ahead(clips):
    ahead = Ahead(clips, HOW, 2)
    yield ahead
    ahead.close()


def batches(clips, count):
    random = np.random.default_rng(0)
    return [(random.integers(0, len(clips), 4), random.random((4, DRAWS), dtype=np.float32)) for _ in range(count)]


def test_what_is_read_ahead_is_what_would_be_read(clips, ahead):
    """In the order of the questions, with one left out, one asked twice and one never asked for."""
    made = batches(clips, 6)
    for batch in (*made[:5], made[2]):
        ahead.ask(*batch)
    assert len(ahead.asked) == 5
    for i in (0, 1, 3, 5, 4):
        got, wanted = ahead.read(*made[i]), clips.read(made[i][0], HOW, made[i][1])
        assert all(torch.equal(a.nan_to_num(9e9), b.nan_to_num(9e9)) for a, b in zip(got, wanted, strict=True))
    assert not ahead.asked


def test_when_its_processes_are_killed_it_reads_by_itself(clips, ahead, capsys):
    """Before a question, and before its answer."""
    first, second, third = batches(clips, 3)
    for late in (False, True):
        ahead.workers = 2
        ahead.ask(*first)
        ahead.read(*first)
        dying = list(ahead.pool._processes.values())
        if late:
            ahead.ask(*second)
        for process in dying:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        for batch in (second, third):
            ahead.ask(*batch)
            assert torch.equal(ahead.read(*batch)[0], clips.read(batch[0], HOW, batch[1])[0])
        assert capsys.readouterr().err.count("was killed; they are read in the step from now on") == 1
        assert not ahead.workers and ahead.pool is None


def watched(monkeypatch, clips):
    """The calls in which a feed reads clips by itself."""
    read, calls = clips.read, []
    monkeypatch.setattr(clips, "read", lambda *a: calls.append(a) or read(*a))
    return calls


@pytest.mark.parametrize(
    "more", [(), ("--train.accumulate", "2"), ("--train.disc_updates", "3", "--train.disc_every", "2")]
)
def test_a_feed_that_reads_ahead_expects_what_is_wanted(make_task, monkeypatch, more):
    """All clips but the first are there when they are wanted, whether the discriminator learns often or seldom; and
    they are the same."""
    plain, quick = (make_task(*VARIED, *more, "--train.workers", n, "--train.steps", "4") for n in ("0", "2"))
    direct = watched(monkeypatch, quick.clips)
    try:
        for step in range(4):
            for turn in [*range(1, schedule.turns(step, plain.recipe)), 0]:
                for a, b in zip(plain.feed.parts(step, True, turn), quick.feed.parts(step, True, turn), strict=True):
                    assert (
                        torch.equal(a.mel, b.mel)
                        and torch.equal(a.controls, b.controls)
                        and torch.equal(a.mask, b.mask)
                    )
    finally:
        quick.close()
    assert len(direct) == plain.recipe.train.accumulate


def test_a_vocoders_feed_reads_ahead_too(tiny_recipe, tiny_store, monkeypatch):
    """The second process of two, each with two micro-batches."""
    recipe = load_recipe(tiny_recipe, [*VARIED, "--train.accumulate", "2", "--train.steps", "4"])
    store, mel = Store(tiny_store), Mel(recipe.mel)
    feeds = []
    for workers in (0, 2):
        train = recipe.train.model_copy(update={"workers": workers})
        where = SimpleNamespace(device=torch.device("cpu"), process_index=1, num_processes=2)
        clips = Clips(store, store.split("train"), {})
        feeds.append(VocoderFeed(recipe.model_copy(update={"train": train}), clips, mel, where, None))
    plain, quick = feeds
    direct = watched(monkeypatch, quick.clips)
    try:
        for step in range(4):
            for a, b in zip(plain.parts(step), quick.parts(step), strict=True):
                assert torch.equal(a.audio, b.audio) and torch.equal(a.mel, b.mel) and torch.equal(a.start, b.start)
    finally:
        quick.ahead.close()
    assert len(direct) == 2  # of the first step


@pytest.mark.slow  # that the clips are the same, and that it ends cleanly, the usual tests say
def test_a_run_that_reads_ahead_is_killed_and_goes_on_to_the_same_weights(tiny_recipe, tiny_store, tmp_path, preloaded):
    """With another number of processes."""
    words = ["train_vaegan", *map(str, ["--recipe", tiny_recipe, "--store", tiny_store, *VARIED])]
    plain, ahead = ["--out", str(tmp_path / "plain")], ["--out", str(tmp_path / "ahead")]
    whole = preloaded.run([*words, *plain], tmp_path)
    assert whole.code == 0, whole.said
    killed = preloaded.run([*words, *ahead, "--train.workers", "2"], tmp_path, at=2 * whole.changes // 3)
    assert killed.code == -signal.SIGKILL, killed.said
    done = preloaded.run([*words, *ahead, "--train.workers", "1"], tmp_path)
    assert done.code == 0 and "going on from step" in done.out, done.said
    a, b = weights(tmp_path / "plain"), weights(tmp_path / "ahead")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_signal_to_all_its_processes_ends_a_run_cleanly(tiny_recipe, tiny_store, tmp_path):
    """As `timeout`, a batch system or the launcher sends it: what was done is saved, and no process stays."""
    words = ["--recipe", tiny_recipe, "--store", tiny_store, *VARIED, "--train.workers", "2", "--train.steps", "9999"]
    command = train_command(*words, "--train.checkpoint_every", "9999", "--out", tmp_path / "run")
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    log, until = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < until and not (log.is_file() and log.read_text().count("\n") >= 5):
        time.sleep(0.05)
    started = psutil.Process(run.pid).children(recursive=True)
    os.killpg(run.pid, signal.SIGTERM)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 130 and "the same command goes on from there" in said and "killed" not in said, said
    assert len(started) >= 2 and not psutil.wait_procs(started, timeout=10)[1]


def test_processes_read_ahead_beside_a_gpu_alone(monkeypatch):
    monkeypatch.setattr(accelerator, "_cores", lambda: 3)
    recipe = Recipe()
    for kind, count in (("cpu", 0), ("cuda", 2)):
        assert accelerator.workers(recipe, SimpleNamespace(device=torch.device(kind))) == count
    chosen = recipe.model_copy(update={"train": recipe.train.model_copy(update={"workers": 7})})
    assert accelerator.workers(chosen, SimpleNamespace(device=torch.device("cpu"))) == 7
