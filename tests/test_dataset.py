"""The data-set factory: sounds as they were asked, each measured, nothing lost, the same bytes again."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import parselmouth
import pytest
import soundfile
import torch
from conftest import RATE, cli, launched, tone

from audio_vaegan.audio import write_recording
from audio_vaegan.cli import main
from audio_vaegan.data.duplicates import COARSE
from audio_vaegan.data.pool import share_out
from audio_vaegan.dataset.estimate import estimate
from audio_vaegan.dataset.make import Made, Maker, Turn
from audio_vaegan.dataset.plan import Plan, in_turn
from audio_vaegan.dataset.spec import load_spec
from audio_vaegan.dataset.work import make_dataset
from audio_vaegan.descriptors import measure
from audio_vaegan.errors import UserError
from audio_vaegan.files import kind_of, printable
from audio_vaegan.models.bundle import PACKAGED
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.address import Address, parse_address
from audio_vaegan.sound_model.fingerprints import Fingerprints, load_fingerprints, prints_of, save_fingerprints

SMALL = "count: 20\ncontrols: {pitch: {grid: [50, 69]}}\nsplits: {train: 0.7, test: 0.3}\n"


@pytest.fixture(scope="module")
def model():
    return SoundModel.from_pretrained("notes16k")


@pytest.fixture
def spec(tmp_path):
    def make(text, name="spec.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return make


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small data set, made by the command."""
    folder = tmp_path_factory.mktemp("made")
    text = "name: tones\nlicense: CC0-1.0\nloudness: -23\nattempts: 50\n" + SMALL.replace("}}", "}, brightness: data}")
    (folder / "spec.yaml").write_text(text)
    done = cli("dataset", "notes16k", folder / "spec.yaml", "--out", folder / "ds", "--processes", 1)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def make(spec, out, processes=1, say=lambda line: None):
    return make_dataset(Path("notes16k"), spec, out, processes=processes, say=say)


def rows_of(folder):
    tables = sorted(folder.glob("*/metadata.jsonl"))
    rows = [(json.loads(line), t.parent) for t in tables for line in t.read_text().splitlines()]
    return sorted(rows, key=lambda r: r[0]["id"])


def tree(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


# -- what comes out


def test_every_sound_is_what_its_row_says(made):
    folder, said = made
    rows = rows_of(folder / "ds")
    assert "20 of 20 sounds delivered" in said and [int(r["id"]) for r, _ in rows] == [*range(20)]
    assert [r["pitch_requested"] for r, _ in rows] == [*np.arange(50.0, 70.0)]
    for row, place in rows:
        file = place / row["file_name"]
        audio, rate = soundfile.read(file)
        assert place.name == row["split"] and row["synthetic"] is True and row["license"] == "CC0-1.0"
        assert (rate, len(audio)) == (row["sample_rate"], row["num_samples"])
        assert row["audio_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert abs(row["pitch_achieved"] - row["pitch_requested"]) <= 0.25
        assert abs(row["brightness_achieved"] - row["brightness_requested"]) <= 1.0
        assert row["loudness_lufs"] == pytest.approx(-23, abs=0.2) and row["peak_dbfs"] < 0
        assert (
            "AI-generated" in soundfile.SoundFile(file).comment and row["address"] in soundfile.SoundFile(file).comment
        )


def test_a_meter_that_had_no_part_in_it_hears_the_same_pitches(made):
    """Praat, by autocorrelation."""
    away = []
    for row, place in rows_of(made[0] / "ds"):
        sound = parselmouth.Sound(str(place / row["file_name"]))
        hertz = sound.to_pitch_ac(pitch_floor=75, pitch_ceiling=800).selected_array["frequency"]
        away.append(69 + 12 * np.log2(np.median(hertz[hertz > 0]) / 440) - row["pitch_requested"])
    assert (np.abs(away) < 0.5).mean() >= 0.95


def test_the_card_and_what_lies_beside_it(made):
    ds = made[0] / "ds"
    facts, card = json.loads((ds / "dataset.json").read_text()), (ds / "README.md").read_text()
    assert facts["delivered"] == 20 and sum(facts["splits"].values()) == 20 and facts["fingerprints"] > 1000
    assert "machine" in card and "tones" in card and "cc0-1.0" in card and facts["model_hash"] in card
    assert kind_of(ds) == "dataset" and not (ds / ".work").exists()
    for line in (ds / "rejected.jsonl").read_text().splitlines():
        assert json.loads(line)["reasons"]
    assert {"croissant.json", "balance.png", "accuracy.png"} <= {p.name for p in ds.iterdir()}


def test_an_address_makes_the_same_samples_again(made, tmp_path, model):
    rows = rows_of(made[0] / "ds")
    retried = max(rows, key=lambda r: r[0]["attempt"])
    for k, (row, place) in enumerate((rows[3], retried)):
        address = row["address"] if k else soundfile.SoundFile(place / row["file_name"]).comment
        assert main(["generate", "notes16k", "--address", address, "--out", str(tmp_path / f"{k}")]) == 0
        wanted, again = soundfile.read(place / row["file_name"])[0], soundfile.read(tmp_path / f"{k}" / "00000.wav")[0]
        assert np.array_equal(wanted, again)
    assert "pitch" in parse_address(rows[0][0]["address"], model.controls).controls


def test_another_command_leaves_a_finished_data_set_alone(made, tmp_path, spec, mistake):
    folder, _ = made
    before, said = tree(folder / "ds"), []
    assert make(folder / "spec.yaml", folder / "ds", say=said.append) == 0 and "there already" in said[0]
    with pytest.raises(UserError, match="--overwrite"):
        make(spec(SMALL), folder / "ds")
    assert tree(folder / "ds") == before
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.txt").write_text("mine")
    words = ("dataset", "notes16k", spec(SMALL), "--out", mine, "--overwrite")
    assert "did not write" in mistake(*words)
    assert [p.name for p in mine.iterdir()] == ["a.txt"]


# -- the same bytes


def test_killed_and_gone_on_with_by_any_number_of_processes_it_is_the_same(tmp_path, spec):
    """One process; two, killed; two of a launch, which cannot share out evenly. A block holds one group: here three."""
    group = "  - {count: 9, controls: {pitch: {uniform: [48, 72]}}}\n"
    text = "attempts: 2\ngroups:\n" + 3 * group
    path = spec(text)
    make(path, tmp_path / "one")
    command = [sys.executable, "-m", "audio_vaegan", "dataset", "notes16k", path, "--out", tmp_path / "two"]
    words = [*map(str, command), "--processes", "2"]
    job = subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL)
    while job.poll() is None and not [*tmp_path.glob("two/.work/blocks/*.block")]:
        time.sleep(0.02)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert kind_of(tmp_path / "two") == "unfinished-dataset"
    with pytest.raises(UserError, match="another spec"):
        make(spec(text.replace("72", "71"), "other.yaml"), tmp_path / "two")
    (tmp_path / "two" / "README.md").write_text("mine")
    with pytest.raises(UserError, match="'README\\.md', which audio-vaegan did not write"):
        make(path, tmp_path / "two")
    (tmp_path / "two" / "README.md").unlink()
    make(path, tmp_path / "two", processes=2)
    assert tree(tmp_path / "two") == tree(tmp_path / "one")
    done = launched("notes16k", path, "--out", tmp_path / "three", script="generate_dataset")
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "three") == tree(tmp_path / "one")


def test_what_becomes_of_the_spec_during_a_run_changes_nothing(tmp_path, spec, monkeypatch):
    path = spec("groups:\n" + 2 * "  - {count: 2, controls: {pitch: {uniform: [48, 72]}}}\n")

    def shared_out(*words):
        path.write_text("count: 1")
        share_out(*words)

    monkeypatch.setattr("audio_vaegan.dataset.work.share_out", shared_out)
    make(path, tmp_path / "ds", processes=2)
    assert path.read_text() == "count: 1" and len(rows_of(tmp_path / "ds")) == 4


def test_a_sound_is_the_same_in_any_company(model, spec):
    plan = Plan(load_spec(spec(SMALL)), model)
    maker, whole = Maker(plan), plan.blocks()[0]
    torch.set_num_threads(1)
    all_of, few = maker.make(whole), maker.make(type(whole)(0, 0, (7, 3)))
    wanted = {row["id"]: audio for row, audio in zip(all_of.rows, all_of.audio, strict=True)}
    assert len(few.rows) == 2
    assert all(wanted[row["id"]] == audio for row, audio in zip(few.rows, few.audio, strict=True))


# -- what is asked


def test_what_is_asked_of_a_sound_depends_on_its_number_alone(model, spec):
    text = "count: 400\ncontrols: {pitch: {uniform: [48, 72]}, decay: {normal: [20, 10]}, attack: data, loudness: -20}"
    plan = Plan(load_spec(spec(text)), model)
    asked = plan.asked(range(400))
    assert plan.asked([17])[0] == asked[17] and plan.asked([399, 3]) == [asked[399], asked[3]]
    pitch = np.array([a["pitch"] for a in asked])
    assert pitch.min() >= 48 and pitch.max() <= 72 and np.histogram(pitch, 4, (48, 72))[0].min() > 70
    decay = np.array([a["decay"] for a in asked])
    assert decay.mean() == pytest.approx(20.3, abs=1.5) and decay.min() >= model.controls["decay"].low
    assert {a["loudness"] for a in asked} == {-20.0} and np.std([a["attack"] for a in asked]) > 0.2
    other = Plan(load_spec(spec(text), seed=1), model).asked(range(400))
    assert all(a["pitch"] != b["pitch"] for a, b in zip(asked, other, strict=True))


def test_grids_and_lists_are_worked_through_evenly(model, spec):
    text = "count: 60\ncontrols: {pitch: {grid: [50, 60, 2.5]}, loudness: {list: [-30, -20, -25]}}"
    plan = Plan(load_spec(spec(text)), model)
    pairs = Counter((a["pitch"], a["loudness"]) for a in plan.asked(range(60)))
    assert len(pairs) == 15 and set(pairs.values()) == {4}


def test_every_list_is_covered_whatever_the_count_and_every_combination_once():
    for lengths in [(3,), (4, 6), (6, 4, 3), (2, 2, 2), (6, 10, 15), (5, 1, 7), (3, 0, 9), (8, 4, 2, 6)]:
        own = [n for n in lengths if n]
        total = int(np.prod(own))
        taken = [tuple(in_turn(place, lengths)) for place in range(2 * total)]
        assert len(set(taken[:total])) == total and taken[total:] == taken[:total]
        for k, n in enumerate(own):
            for count in range(1, total + 1):
                times = Counter(t[k] for t in taken[:count])
                assert max(times.values()) - min(times[v] for v in range(n)) <= 1


def test_a_count_below_the_product_of_the_lists_asks_for_every_value_of_each(make_task, model, spec):
    text = "count: 49\ncontrols: {pitch: {grid: [36, 84]}, brightness: {grid: [0, 30]}}"
    asked = Plan(load_spec(spec(text)), model).asked(range(49))
    assert len({a["pitch"] for a in asked}) == 49 and len({a["brightness"] for a in asked}) == 31
    classed = SoundModel(make_task("--model.class_label", "instrument_str").bundle(1))
    names = classed.controls["instrument_str"].classes[:2]
    text = f"count: 8\nclass: [{', '.join(names)}]\ncontrols: {{pitch: {{grid: [61, 68]}}}}"
    asked = Plan(load_spec(spec(text)), classed).asked(range(8))
    assert Counter(a["instrument_str"] for a in asked) == dict.fromkeys(names, 4)


def test_splits_are_about_as_large_as_asked_and_hold_a_sources_variations_together(model, spec, tmp_path):
    plan = Plan(load_spec(spec("count: 4000\nsplits: {train: 0.8, test: 0.2}")), model)
    assert Counter(plan.split(i) for i in range(4000))["test"] == pytest.approx(800, abs=80)
    (tmp_path / "in").mkdir()
    for k in range(12):
        write_recording(tmp_path / "in" / f"{k:02d}.wav", tone(60 + k // 2, 0.3), RATE)  # each twice
    text = "augment: {folder: in, factor: 4}\nsplits: {train: 0.5, test: 0.5}"
    plan = Plan(load_spec(spec(text)), model)
    groups = [{plan.split(4 * k + i) for i in range(4)} for k in range(12)]
    assert all(len(g) == 1 for g in groups) and len(set().union(*groups)) == 2
    assert groups[::2] == groups[1::2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 3", "count is missing"),
        ("count: ten", ": count:"),
        ("count: 5\ncolor: red", "unknown key 'color'"),
        ("count: 5\ncontrols: {pitch: {uniform: [72, 48]}}", "pitch: uniform: the lower end first"),
        ("count: 5\ncontrols: {pitch: {uniform: [48, 72], list: [5]}}", "exactly one of"),
        ("count: 5\ncontrols: {pitch: high}", "expected a number, the word data"),
        ("count: 5\ncontrols: {pitch: {uniform: [48, 172]}}", "outside the trained range"),
        ("count: 5\ncontrols: {pitch: .nan}", "finite"),
        ("count: 5\ncontrols: {picth: 60}", "Did you mean 'pitch'?"),
        ("count: 5\nclass: brass", "without classes"),
        ("count: 5\nseconds: 3", "sounds are 1.024 s long"),
        ("count: 5\nseconds: 0.00001", "less than a sample"),
        ("count: 5\nsplits: {train: 0.5}", "add up to 1"),
        ("count: 5\nsplits: {../up: 1}", "splits"),
        ("count: 5\nloudness: -20\ncontrols: {loudness: -20}", "not both"),
        ("count: 5\nlayout: nsynth\nformat: flac", "WAV"),
        ("count: 5\ncontrols: {pitch: {normal: [300, 1]}}", "nearly nothing of normal"),
        ("augment: {folder: nowhere}", "no such folder"),
        ("count: 5\naugment: {folder: nowhere}", "unknown key 'count'"),
        ("[1, 2]", "key: value"),
        ("count: {", "not valid YAML"),
    ],
)
def test_a_mistake_in_a_spec_is_one_line(model, spec, text, words):
    with pytest.raises(UserError) as e:
        Plan(load_spec(spec(text)), model)
    assert words in str(e.value) and "\n" not in str(e.value)


def test_a_dry_run_says_what_would_be(spec):
    said = estimate(Path("notes16k"), spec(SMALL), processes=2)
    assert "20 sounds" in said and "MB" in said and "pitch grid" in said


def test_a_dry_run_tries_sounds_of_every_group(spec, monkeypatch):
    """A group in forty cannot be made: it is one of those tried, is said to be so, and counts by its size."""
    group = "  - {count: 4, controls: {pitch: {uniform: [60, 72]}}}\n"
    hard = "  - {count: 400, controls: {pitch: 90, brightness: -20}}\n"
    easy = estimate(Path("notes16k"), spec("attempts: 2\ngroups:\n" + 2 * group))
    said = estimate(Path("notes16k"), spec("attempts: 2\ngroups:\n" + group + hard))
    assert "4 of 4 tried came right" in easy and "0 of 64 tried came right" in said and "of 68 tried now" in said
    tried = []
    monkeypatch.setattr(Maker, "make", lambda self, block, show: tried.append(block) or show(1) or Made())
    said = estimate(Path("notes16k"), spec("groups:\n" + 40 * group))
    assert len(tried) == 16 and {len(b.slots) for b in tried} == {4} and said.count("none tried") == 24
    assert [b.group for b in tried] == [s // 4 for b in tried for s in b.slots[:1]] and tried[-1].group == 39


def test_what_is_drawn_anew_is_told(tmp_path, spec, monkeypatch):
    """No sound below 60 is let through: those asked so low come in another turn, asked for something else."""
    faults = Maker._faults

    def low(self, asked, heard, copy):
        return ["low"] if asked["pitch"] < 60 else faults(self, asked, heard, copy)

    monkeypatch.setattr(Maker, "_faults", low)
    path = spec(
        "name: it's\ncount: 20\ncontrols: {pitch: {uniform: [48, 72]}}\nattempts: 2\nsplits: {none: 1e-9, all: 1}"
    )
    vocoder = PACKAGED / "notes-16k-128.safetensors"
    make_dataset(Path("notes16k"), path, tmp_path / "ds", vocoder=str(vocoder), say=lambda line: None)
    told = json.loads((tmp_path / "ds" / "dataset.json").read_text())["measured"]
    plan = Plan(load_spec(path), SoundModel.from_pretrained("notes16k"))
    first = [a["pitch"] for a in plan.asked(range(20))]
    anew = [r for r, _ in rows_of(tmp_path / "ds") if r["pitch_requested"] != first[int(r["id"])]]
    assert told["requested_anew"] == len(anew) >= sum(p < 60 for p in first) - told["missing"] > 3
    counts = np.array(told["controls"]["pitch"]["asked_histogram"]["counts"])
    edges = np.linspace(plan.model.controls["pitch"].low, plan.model.controls["pitch"].high, 41)
    assert counts.tolist() == np.histogram(first, edges)[0].tolist()
    card = (tmp_path / "ds" / "README.md").read_text()
    assert "load_dataset('DS')" in card and "SPEC.yaml --out DS --vocoder " in card and vocoder.name in card


# -- what is refused


def test_sounds_that_are_not_as_asked_are_refused_with_the_reason(model, spec):
    maker = Maker(Plan(load_spec(spec(SMALL)), model))
    right = {"peak": -6.0, "effective_duration": 0.4, "pitch": 60.1, "confidence": 0.95, "guess": 0.0}
    nan = float("nan")

    def faults(copy=False, **heard):
        return maker._faults({"pitch": 60.0}, right | heard, copy)

    assert not faults()
    assert faults(pitch=60.3) == ["pitch"] == faults(pitch=nan)
    assert faults(peak=nan) == ["silent"] == faults(peak=-70.0)
    assert faults(peak=0.0) == ["clipped"] and faults(effective_duration=0.001) == ["too short"]
    assert faults(confidence=0.6) == ["pitch unclear"] == faults(confidence=nan)
    assert faults(copy=True) == ["near-copy of a training sound"]


def test_copies_of_training_sounds_are_known_at_any_gain_and_shift(model, tmp_path):
    sounds = torch.from_numpy(np.stack([tone(m, 1.024, h)[:16384] for m, h in ((50, 3), (57, 8), (64, 5))]))
    save_fingerprints(prints_of(sounds, model.mel).numpy(), tmp_path, "abc")
    known = load_fingerprints(tmp_path, "abc", 5)
    assert isinstance(known, Fingerprints) and len(known) == 3
    moved = torch.nn.functional.pad(0.2 * sounds, (500, 0))[:, :16384]
    near, copies = known.nearest(prints_of(moved, model.mel))
    assert copies.all() and (near > 0.97).all()
    others = torch.from_numpy(np.stack([tone(m, 1.024, h)[:16384] for m, h in ((53, 3), (60, 8), (71, 5))]))
    near, copies = known.nearest(prints_of(others, model.mel))
    assert not copies.any() and prints_of(others, model.mel)[:, :COARSE].norm(dim=1) == pytest.approx(1, abs=1e-4)
    with pytest.raises(UserError, match="of another model"):
        load_fingerprints(tmp_path, "abd", 5)
    (tmp_path / "fingerprints.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="damaged"):
        load_fingerprints(tmp_path, "abc", 5)


def test_of_sounds_that_are_the_same_the_first_stays(tmp_path, spec):
    """Without any spread the prior has one sound for each request: the others are never delivered."""
    text = "count: 9\ncontrols: {pitch: {list: [60, 60, 67]}, loudness: -20, brightness: 12, noisiness: -30, "
    text += "attack: -1.5, decay: 20}\ntruncation: 0\nprior: normal\nattempts: 1\ncorrect: false\ncopies: keep\n"
    text += "tolerance: {noisiness: 60, brightness: 9, attack: 2, decay: 200, loudness: 9}\n"
    said = []
    assert make(spec(text), tmp_path / "ds", say=said.append) == 2 and "7 duplicate" in said[0]
    assert [int(r["id"]) for r, _ in rows_of(tmp_path / "ds")] == [0, 2]
    twins = [json.loads(line) for line in (tmp_path / "ds" / "rejected.jsonl").read_text().splitlines()]
    assert {(int(t["id"]) % 3 == 2, t["duplicate_of"]) for t in twins} == {(False, "00000"), (True, "00002")}


def test_classes_are_asked_in_turn_and_heard_by_the_models_own_classifier(make_task, spec):
    model = SoundModel(make_task("--model.class_label", "instrument_str").bundle(1))
    names = model.controls["instrument_str"].classes
    plan = Plan(load_spec(spec(f"count: 6\nclass: [{names[2]}, {names[0]}]\nattempts: 2")), model)
    assert [a["instrument_str"] for a in plan.asked(range(6))] == [names[2], names[0]] * 3
    maker, right = Maker(plan), {"peak": -6.0, "effective_duration": 0.4, "guess": 2.0}
    assert not maker._faults({"instrument_str": names[2]}, right, False)
    assert maker._faults({"instrument_str": names[0]}, right, False) == ["instrument_str"]
    made = maker.make(plan.blocks()[0])
    assert made.rejects or made.rows
    for row in made.rows:
        assert row["label"] == row["instrument_str_requested"] == row["instrument_str_achieved"]


def test_what_is_nearly_right_is_corrected_and_what_is_not_is_drawn_anew(model, spec):
    maker = Maker(Plan(load_spec(spec(SMALL)), model))
    first, asked = Turn(3, 0, 0), {"pitch": 60.0, "brightness": 10.0}
    nearly = {"pitch": 60.7, "brightness": 10.5}
    once = maker._next(first, asked, nearly, ["pitch"])
    assert (once.draw, once.attempt, once.corrections) == (0, 1, 1)
    assert once.more == {"pitch": pytest.approx(-0.7), "brightness": pytest.approx(-0.5)}
    assert maker._told(asked, once) == {"pitch": pytest.approx(59.3), "brightness": pytest.approx(9.5)}
    twice = maker._next(once, asked, {"pitch": 59.5, "brightness": 10.0}, ["pitch"])
    assert twice.more["pitch"] == pytest.approx(-0.2) and twice.corrections == 2
    anew = Turn(3, 1, 1)
    assert maker._next(first, asked, nearly | {"pitch": 67.0}, ["pitch"]) == anew
    assert maker._next(first, asked, nearly | {"pitch": float("nan")}, ["pitch"]) == anew
    assert maker._next(first, asked, nearly, ["pitch", "clipped"]) == anew
    assert maker._next(twice, asked, nearly, ["pitch"]) == Turn(3, 1, 3)


# -- variations of real sounds


def test_variations_keep_pitch_and_length_of_their_source_and_name_it(tmp_path, spec, notes):
    source = tmp_path / "in"
    source.mkdir()
    other = "n1.wav" if sys.platform == "darwin" else os.fsdecode(b"n\xf6.wav")  # no UTF-8
    write_recording(source / "n0.wav", tone(55, 0.6), RATE)
    write_recording(source / other, tone(62, 0.8), RATE)
    (source / "bad.wav").write_bytes(b"RIFF no sound")
    text = "augment: {folder: in, factor: 3, timbre: 1.0}\nattempts: 8\nseconds: 0.7\n"
    text += "controls: {brightness: {uniform: [-3, 3]}, noisiness: {uniform: [1, 2]}}\n"
    said = []
    make(spec(text), tmp_path / "ds", say=said.append)
    assert "missing: 3 unreadable" in said[0]
    rows = rows_of(tmp_path / "ds")
    assert {r["source"] for r, _ in rows} == {"n0.wav", printable(other)} and len(rows) >= 5
    for row, place in rows:
        assert row["num_samples"] == round(RATE * (0.6 if row["source"] == "n0.wav" else 0.7))
        assert row["pitch_achieved"] == pytest.approx(55 if row["source"] == "n0.wav" else 62, abs=0.3)
        assert len(soundfile.read(place / row["file_name"])[0]) == row["num_samples"]
        clip = SoundModel.from_pretrained("notes16k").recall(row["address"])
        wanted = soundfile.read(place / row["file_name"], dtype="int16")[0]
        assert np.array_equal(np.rint(clip.audio[0].numpy() * 32768).astype(np.int16), wanted)
    rejected = [json.loads(line) for line in (tmp_path / "ds" / "rejected.jsonl").read_text().splitlines()]
    assert any(r["source"] == "bad.wav" and r["reasons"] == ["unreadable"] for r in rejected)
    card = (tmp_path / "ds" / "README.md").read_text()
    assert f"{len(rows)} sounds of 0.6 to 0.7 s, mono" in card and "2 sound files" in card and "was varied: 1." in card
    assert "0.6 to 0.7 s" in json.loads((tmp_path / "ds" / "croissant.json").read_text())["description"]
    assert make(spec(text), tmp_path / "ds", say=said.append) == 0 and "there already" in said[-1]
    write_recording(source / "n0.wav", tone(57, 0.6), RATE)  # as many bytes
    with pytest.raises(UserError, match="holds a data set of other sounds in augment's folder; add --overwrite"):
        make(spec(text), tmp_path / "ds")


def test_other_rates_and_layouts_come_out_whole(tmp_path, spec):
    text = SMALL.replace("20", "8") + "sample_rate: 44100\nseconds: 0.5\nformat: flac\nlayout: webdataset\n"
    make(spec(text), tmp_path / "ds")
    shutil.unpack_archive(next((tmp_path / "ds").glob("train-*.tar")), tmp_path / "out", "tar")
    for file in (tmp_path / "out").glob("*.flac"):
        row, (audio, rate) = json.loads(file.with_suffix(".json").read_text()), soundfile.read(file)
        assert rate == row["sample_rate"] == 44100 and len(audio) == row["num_samples"] == 22050
        hertz = parselmouth.Sound(audio, rate).to_pitch_ac(pitch_floor=75, pitch_ceiling=800)
        found = hertz.selected_array["frequency"]
        assert 69 + 12 * np.log2(np.median(found[found > 0]) / 440) == pytest.approx(row["pitch_requested"], abs=0.5)


def test_the_loudness_is_that_of_what_is_written(tmp_path, spec, model):
    """At 8 kHz these sounds lose half their energy, by the spec's rate and cut; the files are measured."""
    text = "count: 8\ncontrols: {pitch: {uniform: [60, 84]}, brightness: {uniform: [30, 38]}}\nloudness: -23\n"
    make(spec(text + "sample_rate: 8000\nseconds: 0.6\ntolerance: {brightness: 40}\n"), tmp_path / "ds")
    rows = rows_of(tmp_path / "ds")
    for row, place in rows:
        audio, rate = soundfile.read(place / row["file_name"], dtype="float32")
        level = measure(torch.from_numpy(audio)[None], rate)["loudness"][0]
        assert row["loudness_lufs"] == pytest.approx(-23, abs=0.2) and level == pytest.approx(-23, abs=0.2)
        again = model.recall(row["address"]).audio[0].numpy()
        assert np.array_equal(np.rint(again * 32768), np.rint(audio * 32768))
    maker = Maker(Plan(load_spec(spec(text)), model))
    heard = {"peak": -6.0, "effective_duration": 0.4, "loudness": -23.4}
    assert not maker._faults({}, heard, False)
    assert maker._faults({}, heard | {"loudness": -23.6}, False) == ["loudness"]
    assert maker._faults({}, heard | {"loudness": float("nan")}, False) == ["loudness"]


# -- addresses


def test_an_address_reads_back_as_it_was_written(model):
    controls = {"pitch": 60.0, "brightness": -3.25}
    address = Address("abc", "def", 7, 3, "fitted", 0.5, True, controls, None, False, 16000, -1.5, 44100)
    assert parse_address(str(address), model.controls) == address
    assert parse_address(",".join(str(address).split(",")[::-1]), model.controls) == address  # in any order
    z = np.random.default_rng(0).standard_normal(70).astype(np.float32)
    again = parse_address(str(Address("abc", "def", z=z)), model.controls)
    assert np.array_equal(again.z, z) and not again.noise
    assert parse_address(str(Address("abc", "def", z=z, noise=True)), model.controls).noise
    assert str(Address("abc", "def", controls={"family": "a,b=c"})).endswith("family=a%2Cb%3Dc")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "files that were made have one"),
        ("model=abc", "cut off or mistyped"),
        ("model=abc,vocoder=d,seed=x", "cut off or mistyped"),
        ("model=abc,vocoder=d,color=3", "no control"),
        ("model=abcd,vocoder=d", "made by model abcd"),
        ("model=,vocoder=", "made by model"),
        ("model=abc,vocoder=d,z=%%%", "cut off or mistyped"),
        ("model=abc,vocoder=d,gain=inf", "cut off or mistyped"),
        ("model=abc,model=abc,vocoder=d", "key=value"),
    ],
)
def test_a_wrong_address_is_one_line(model, text, words):
    with pytest.raises(UserError, match=words):
        model.recall(text)
