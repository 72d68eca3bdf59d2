"""Figures of speed: what is counted, that all are timed alike, and that every group measures what it says."""

import json
from time import sleep

import numpy as np
import pytest
import torch
from conftest import cli, one_line
from torch import nn

from audio_vaegan.bench import peers, tables
from audio_vaegan.bench.machine import Machine, in_turns, measure_machine, operations, percentile
from audio_vaegan.bench.scale import multiplied
from audio_vaegan.data.store import Store
from audio_vaegan.sound_model import SoundModel

CPU = torch.device("cpu")


def test_operations_are_two_a_multiply_add_forwards_and_one_such_a_gradient_backwards():
    linear, x = nn.Linear(10, 20), torch.randn(7, 10)
    once = 2 * 7 * 10 * 20
    assert operations(lambda: linear(x)) == once
    assert operations(lambda: linear(x).sum().backward()) == 2 * once  # x needs no gradient
    y = torch.randn(2, 8, 5, 5, requires_grad=True)
    for groups in (1, 2, 8):
        conv = nn.Conv2d(8, 8, 3, padding=1, groups=groups)
        once = 2 * 2 * 25 * 8 * (8 // groups) * 9
        assert operations(lambda conv=conv: conv(y)) == once
        assert operations(lambda conv=conv: conv(y).sum().backward()) == 3 * once
    assert operations(lambda: x.exp().sum()) == 0


def test_calls_take_turns_and_the_first_of_each_is_not_counted():
    order = []
    took = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, CPU, seconds=0.0, rounds=4)
    assert order == ["a", "b"] * 5 and [len(t) for t in took.values()] == [4, 4]
    assert len(in_turns({"quick": lambda: None}, CPU, seconds=5.0)["quick"]) == 1000


def test_who_is_quick_stays_on_turn_for_as_long_as_who_is_slow():
    order = []
    calls = {"quick": lambda: (order.append("q"), sleep(0.01)), "slow": lambda: (order.append("s"), sleep(0.2))}
    took = in_turns(calls, CPU, seconds=0.0, rounds=2, stay=0.1)
    turns = "".join(order).split("s")
    assert len(took["slow"]) == 2 and turns[-1] == "" and len(turns) == 4
    assert all(5 <= len(turn) <= 10 for turn in turns[:3])
    assert len(took["quick"]) == len(turns[1]) + len(turns[2]) and min(took["quick"]) >= 0.01


def test_percentiles_of_known_times():
    times = [float(i) for i in range(101)]
    assert percentile(times, 0.95) == 95 and percentile(times, 0.5) == 50 and percentile([3.0], 0.95) == 3


def test_the_roof_is_measured_and_the_dearer_of_its_two_sides_counts():
    machine = measure_machine(CPU)
    assert 1e9 < machine.operations < 1e14 and 1e8 < machine.memory < 1e13
    assert machine.floor(machine.operations) == 1 and machine.floor(0, machine.memory / 2) == pytest.approx(0.5)
    assert machine.floor(machine.operations, 3 * machine.memory) == pytest.approx(3)


@pytest.fixture
def here(monkeypatch):
    """Groups run in this process: starting one takes longer than they do."""
    monkeypatch.setattr("audio_vaegan.bench.run._alone", lambda wanted, work, *args: work(*args))


def test_bench_measures_a_model_and_a_training_step(here, tiny_run, tiny_recipe, tiny_store, tmp_path):
    out = tmp_path / "figures.json"
    words = ["bench", tiny_run, "--groups", "sounds", "training", "--recipe", tiny_recipe, "--store", tiny_store]
    words += ["--batch", "4", "--seconds", "0.05", "--threads", "1", "--out", out]
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["machine"]["threads"] == torch.get_num_threads()
    rows = {r["name"]: r for r in report["sounds"]["rows"]}
    assert set(rows) == {
        *("generator", "vocoder", "latent to waveform", "decode", "sample", "encode", "edit", "edit, closed loop")
    }
    for row in rows.values():
        assert 0 < row["one_p50_ms"] <= row["one_p95_ms"] and 0 < row["share_of_roof"] < 1.6
        assert row["times_real_time"] == pytest.approx(row["clips_per_second"] * 0.512)
    parts = ("generator", "vocoder")
    both = sum(rows[name]["giga_operations_a_sound"] for name in parts)
    assert rows["latent to waveform"]["giga_operations_a_sound"] == pytest.approx(both)
    training = report["training"]
    assert training["clips_per_second"] == pytest.approx(8 / training["seconds_a_step"])
    assert set(training["parameters"]) == {"encoder", "generator", "discriminator", "heads"}
    assert len(training["milliseconds_by_part"]) == 7 and min(training["milliseconds_by_part"].values()) > 0
    assert all(0.05 < report[group]["peak_memory_gib"] < 4 for group in ("sounds", "training"))
    assert "latent to waveform" in done.stdout and "clips/s" in done.stdout and "% of the roof" in done.stdout
    assert "exists" in one_line(cli(*words))


@pytest.mark.slow
def test_bench_measures_whole_jobs_and_the_peers_that_are_there():
    """With the packaged model: prepare of the bundled notes, a data set, and peers of transformers."""
    done = cli("bench", "--groups", "prepare", "dataset", "peers", "--batch", "1", "--seconds", "0.1")
    assert done.returncode == 0, done.stderr
    assert "times real time" in done.stdout and "256 sounds, each measured" in done.stdout
    assert "| HiFi-GAN V1 22 kHz | " in done.stdout and "| EnCodec 24 kHz decoder | " in done.stdout


def test_peers_make_the_same_seconds_and_one_that_is_not_there_says_so(tiny_run, monkeypatch):
    asked = []

    def absent(device):
        raise ImportError("No module named 'absent'")

    def other_version(device):
        raise TypeError("unexpected argument")

    def toy(device):
        layer = nn.Linear(64, 64)

        def of(batch, seconds):
            asked.append((batch, seconds))
            return lambda: layer(torch.randn(batch, 64))

        return of

    monkeypatch.setattr(
        peers,
        "PEERS",
        tuple(
            peers.Peer(name, 24000, f"{name}-package", build)
            for name, build in (("toy", toy), ("absent", absent), ("other", other_version))
        ),
    )
    model = SoundModel.from_pretrained(tiny_run)
    rows = peers.bench_peers(model, Machine("cpu", "a machine", 1, 1e11, 1e10), 2, 0.01)
    assert [r["name"] for r in rows] == [peers.OURS, "toy", "absent", "other"]
    assert asked == [(1, 0.25), (2, 0.512), (1, 0.512)]
    assert rows[0]["ours_is_times_as_fast"] == 1
    speed = rows[0]["times_real_time"] / rows[1]["times_real_time"]
    assert rows[1]["ours_is_times_as_fast"] == pytest.approx(speed)
    found = {"batch": 2, "clip_seconds": 0.512, "rows": rows}
    shown = tables(
        {"torch": "0", "audio_vaegan": "0", "peers": found, "machine": vars(Machine("cpu", "m", 1, 1e11, 1e10))}
    )
    assert "| absent | not measured: pip install absent-package (No module named 'absent') |" in shown
    assert "| other | not measured: does not run here (TypeError" in shown


def test_weight_norm_is_folded_without_changing_what_a_peer_makes():
    x = torch.randn(1, 4, 20)
    for norm in (nn.utils.weight_norm, nn.utils.parametrizations.weight_norm):
        net = nn.Sequential(norm(nn.Conv1d(4, 4, 3)), nn.ReLU(), norm(nn.ConvTranspose1d(4, 2, 4, 2)))
        before = net(x)
        peers._fold(net)
        torch.testing.assert_close(net(x), before)
        assert all("weight_g" not in n and "original" not in n for n in net.state_dict())


def test_a_store_of_many_clips_is_the_store_again_and_again(tiny_store, tmp_path):
    store = Store(tiny_store)
    many = Store(multiplied(store, 5 * len(store) - 1, tmp_path / "many"))
    assert len(many) == 5 * len(store) and many.content_hash != store.content_hash
    assert len(set(many.column("source"))) == 5 * len(set(store.column("source")))
    np.testing.assert_array_equal(many.column("clip"), np.arange(len(many)))
    rows = np.arange(3)
    np.testing.assert_array_equal(many.read(rows + 4 * len(store)), store.read(rows))


def test_scale_measures_stores_of_more_and_more_clips(here, tiny_recipe, tiny_store):
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--seconds", "0.02", "--threads", "1"]
    done = cli("bench", "--groups", "scale", *words, "--clips", "100", "200")
    assert done.returncode == 0, done.stderr
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in done.stdout.splitlines() if " GiB |" in line]
    first, second = (int(row[0].replace(",", "")) for row in rows)
    assert 0 < first < second <= 2.5 * first


@pytest.mark.slow
def test_an_option_of_training_stands_beside_the_default(tiny_recipe, tiny_store):
    words = ["bench", "--groups", "options", "--recipe", tiny_recipe, "--store", tiny_store, "--steps", "1"]
    done = cli(*words, "--only", "objective vae")
    assert done.returncode == 0, done.stderr
    head, _, default, vae = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert "clips/s" in head and default.startswith("| default |") and "| 1.00 |" in default
    cells = [[c.strip() for c in row.split("|")[1:-1]] for row in (default, vae)]
    assert cells[1][0] == "objective vae" and int(cells[1][4].replace(",", "")) < int(cells[0][4].replace(",", ""))
    assert "Did you mean 'lsgan'" in one_line(cli(*words, "--only", "lsgn"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--groups", "sound"), "invalid choice: 'sound'"),
        (("--batch", "0"), "--batch must be at least 1"),
        (("--seconds", "0"), "--seconds must be above 0"),
        (("--threads", "-1"), "--threads must be at least 1"),
        (("--clips", "10", "0"), "--clips must be at least 1"),
        (("--device", "gpu"), "--device gpu: no device"),
        (("no-such-model",), "not a model"),
        (("--groups", "training", "--store", "no-such-store"), "not a store"),
        (("--groups", "training", "--recipe", "no-such.yaml"), "no-such.yaml"),
    ],
)
def test_a_mistake_is_one_line(words, said):
    assert said in one_line(cli("bench", *words))


def test_a_text_column_as_numbers_tells_the_same_rows_apart(tiny_store):
    store = Store(tiny_store)
    names, codes = store.column("source"), store.codes("source")
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(names[:, None] == names, codes[:, None] == codes)
    for split in ("train", "test_note", "none"):
        np.testing.assert_array_equal(store.split(split), np.flatnonzero(store.column("split") == split))
