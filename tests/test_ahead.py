"""Clips that other processes read ahead are, to the bit, those that would be read when they are wanted."""

import os
import signal

import numpy as np
import pytest
import torch
from conftest import trainer
from test_training import weights

from audio_vaegan.config import AugmentConfig
from audio_vaegan.data.ahead import Ahead
from audio_vaegan.data.augment import DRAWS
from audio_vaegan.data.batches import Clips
from audio_vaegan.data.store import Store
from audio_vaegan.errors import Failure
from audio_vaegan.training import schedule

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


def test_a_process_that_dies_is_told(clips, ahead):
    first, second = batches(clips, 2)
    ahead.ask(*first)
    ahead.read(*first)
    for process in list(ahead.pool._processes.values()):
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with pytest.raises(Failure, match=r"the same command goes on, with --train\.workers 0"):
        ahead.ask(*second)
        ahead.read(*second)


@pytest.mark.parametrize(
    "more", [(), ("--train.accumulate", "2"), ("--train.disc_updates", "3", "--train.disc_every", "2")]
)
def test_a_feed_that_reads_ahead_expects_what_is_wanted(make_task, monkeypatch, more):
    """All clips but the first are there when they are wanted, whether the discriminator learns often or seldom; and
    they are the same."""
    plain, quick = (make_task(*VARIED, *more, "--train.workers", n, "--train.steps", "4") for n in ("0", "2"))
    read, direct = quick.clips.read, []
    monkeypatch.setattr(quick.feed.ahead.clips, "read", lambda *a: direct.append(a) or read(*a))
    for step in range(4):
        for turn in [*range(1, schedule.turns(step, plain.recipe)), 0]:
            for a, b in zip(plain.feed.parts(step, True, turn), quick.feed.parts(step, True, turn), strict=True):
                assert torch.equal(a.mel, b.mel) and torch.equal(a.controls, b.controls) and torch.equal(a.mask, b.mask)
    assert len(direct) == plain.recipe.train.accumulate
    quick.close()


def test_a_run_that_reads_ahead_ends_with_the_same_weights(tiny_recipe, tiny_store, tmp_path):
    """The number of processes may change when a run goes on."""
    words = ["--recipe", tiny_recipe, "--store", tiny_store, *VARIED, "--train.steps", "6"]
    assert trainer(*words, "--out", tmp_path / "plain").returncode == 0
    done = trainer(*words, "--out", tmp_path / "ahead", "--train.workers", "2")
    assert done.returncode == 0, done.stderr
    a, b = weights(tmp_path / "plain"), weights(tmp_path / "ahead")
    assert all(torch.equal(a[name], b[name]) for name in a)
    again = trainer(*words, "--out", tmp_path / "ahead", "--train.workers", "1")
    assert again.returncode == 0 and "already trained" in again.stdout
