"""Copies, splits that hold, and stores that grow."""

import json
import sys

import numpy as np
import pytest
import soundfile
import soxr
from conftest import LOOPBACK, RATE, ROOT, cli, one_line, run, tone

from audio_vaegan.config import Recipe
from audio_vaegan.data.prepare import prepare
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError

RECIPE = Recipe.model_validate({"data": {"clip_samples": 8192, "test_instruments": 0.3}})


def report(store):
    return json.loads((store / "report.json").read_text())


def many(root, count, first=40, shift=0.0):
    """Sounds that differ from each other."""
    root.mkdir(exist_ok=True)
    for i in range(count):
        soundfile.write(root / f"{first + i}.wav", tone(first + i + shift, 0.4, harmonics=1 + i % 7, decay=3), RATE)
    return root


def splits(store):
    s = Store(store)
    return dict(zip(s.column("source").tolist(), s.column("split").tolist(), strict=True))


def altered(x):
    """The same sound in other clothes."""
    late = np.concatenate([np.zeros(400), x])
    return {
        "quiet.wav": (0.1 * x, RATE, {}),
        "upside down.wav": (-x, RATE, {}),
        "late.wav": (late, RATE, {}),
        "fast rate.wav": (soxr.resample(x, RATE, 44100), 44100, {"subtype": "PCM_24"}),
        "eight bits.wav": (x, RATE, {"subtype": "PCM_U8"}),
        "mp3.mp3": (x, RATE, {}),
        "vorbis.ogg": (x, RATE, {}),
        "noisy.wav": (x + 0.001 * np.random.default_rng(0).standard_normal(len(x)), RATE, {}),
    }


def test_copies_in_other_clothes_are_found_and_stand_on_one_side(tmp_path):
    root = many(tmp_path / "in", 20)
    original = tone(57, 0.5, harmonics=8, decay=5)
    soundfile.write(root / "original.wav", original, RATE)
    for name, (x, rate, how) in altered(original).items():
        soundfile.write(root / name, x, rate, **how)
    prepare([root], RECIPE, tmp_path / "store")
    (cluster,) = report(tmp_path / "store")["duplicates"]["near"]
    assert set(cluster) == {"original.wav", *altered(original)}
    side = splits(tmp_path / "store")
    assert len({side[name] for name in cluster}) == 1
    copies = dict(zip(*(Store(tmp_path / "store").column(c) for c in ("source", "copy_of")), strict=True))
    assert {copies[name] for name in cluster} == {min(cluster)} and copies["45.wav"] == "45.wav"
    assert len(set(Store(tmp_path / "store").column("group"))) == 21  # nothing else was joined


@pytest.mark.parametrize("seed", range(4))
def test_overlapping_windows_and_repeated_sounds_stay_in_one_split(tmp_path, seed):
    root = tmp_path / "in"
    root.mkdir()
    noise = np.random.default_rng(5)
    loop = noise.uniform(-0.5, 0.5, 8192)
    for i in range(3):  # a loop in each file of one group, and windows of its own that overlap
        soundfile.write(root / f"{i}.wav", np.concatenate([loop, noise.uniform(-0.5, 0.5, 30000)]), RATE)
    for i in range(30):
        soundfile.write(root / f"other{i}.wav", noise.uniform(-0.5, 0.5, 4000), RATE)
    (root / "labels.csv").write_text(
        "file,g\n" + "".join(f"{i},one\n" for i in range(3)) + "".join(f"other{i},{i % 2}\n" for i in range(30))
    )
    how = {"clip_samples": 8192, "overlap": 0.5, "group_by": "g", "test_instruments": 0.0, "test_notes": 0.3}
    prepare([root], Recipe.model_validate({"seed": seed, "data": how}), tmp_path / "store")
    store = Store(tmp_path / "store")
    split, source = store.column("split"), store.column("source")
    for i in range(3):
        assert len(set(split[source == f"{i}.wav"])) == 1
    assert (split == "test_note").sum() >= 5


def test_a_store_grows_by_what_is_new_and_keeps_its_splits(tmp_path):
    root = many(tmp_path / "in", 20)
    out = tmp_path / "store"
    prepare([root], RECIPE, out)
    before, shard = splits(out), out / "shard-00000.npy"
    inode, content = shard.stat().st_ino, shard.read_bytes()
    assert prepare([root], RECIPE, out)["up_to_date"]
    many(root, 20, 70, 0.5)
    summary = prepare([root], RECIPE, out)
    after = splits(out)
    assert summary["added"] == 20 and summary["files_used"] == 40 and len(after) == 40
    assert {n: s for n, s in after.items() if n in before} == before
    assert shard.stat().st_ino == inode and shard.read_bytes() == content  # not written anew
    held = [n for n in after if n not in before and after[n] == "test_instrument"]
    assert 3 <= len(held) <= 9
    store = Store(out)
    assert store.column("clip").tolist() == list(range(40))
    for name in ("70.wav", "45.wav"):
        (clip,) = np.flatnonzero(store.column("source") == name)
        written, _ = soundfile.read(root / name)
        np.testing.assert_allclose(store.read([clip])[0][: len(written)], written, atol=2 / 32768)
    assert prepare([root], RECIPE, out)["up_to_date"]


def test_a_second_folder_can_be_added(tmp_path):
    out = tmp_path / "store"
    a, b = many(tmp_path / "a", 6), many(tmp_path / "b", 6, 70)
    prepare([a], RECIPE, out)
    before = splits(out)
    assert prepare([a, b], RECIPE, out)["added"] == 6
    after = splits(out)
    assert {n: after[n] for n in before} == before and "b/70.wav" in after


def test_a_new_file_that_would_stand_on_both_sides_is_refused(tmp_path):
    root, out = many(tmp_path / "in", 20), tmp_path / "store"
    prepare([root], RECIPE, out)
    side = splits(out)
    train = next(n for n in side if side[n] == "train")
    held = next(n for n in side if side[n] == "test_instrument")
    one, other = (soundfile.read(root / n)[0] for n in (train, held))
    pad = np.zeros(8192 - len(one))
    soundfile.write(root / "both.wav", np.concatenate([0.5 * one, pad, 0.5 * other]), RATE)
    soundfile.write(root / "both again.wav", np.concatenate([0.5 * one, pad, 0.5 * other]), RATE)
    soundfile.write(root / "like held.wav", 0.7 * other, RATE)
    soundfile.write(root / "new.wav", tone(100, 0.4), RATE)
    summary = prepare([root], RECIPE, out)
    files = {f["file"]: f for f in report(out)["files"]}
    assert summary["files_used"] == 22 and summary["files"] == 24
    for name in ("both.wav", "both again.wav"):
        assert not files[name]["used"] and "both sides" in files[name]["reason"]
        assert train in files[name]["reason"] and held in files[name]["reason"]
    after = splits(out)
    assert after["like held.wav"] == "test_instrument" and {n: after[n] for n in side} == side
    assert len(Store(out)) == 22
    assert prepare([root], RECIPE, out)["up_to_date"]


def test_what_has_changed_or_gone_is_named(tmp_path):
    root, out = many(tmp_path / "in", 4), tmp_path / "store"
    prepare([root], RECIPE, out)
    (root / "40.wav").rename(tmp_path / "40.wav")
    with pytest.raises(UserError, match=r"1 of its files have gone since \(40\.wav\)"):
        prepare([root], RECIPE, out)
    soundfile.write(root / "40.wav", tone(80), RATE)
    with pytest.raises(UserError, match=r"1 of its files have changed since \(40\.wav\)"):
        prepare([root], RECIPE, out)
    assert splits(out).keys() == {f"{i}.wav" for i in range(40, 44)}
    with pytest.raises(UserError, match="another recipe"):
        prepare([root], RECIPE.model_copy(update={"seed": 5}), out)


def test_two_processes_of_a_launch_make_the_same_bytes_as_one(tmp_path, tiny_recipe):
    root = many(tmp_path / "in", 60)
    for i in range(540):  # several chunks
        (root / f"broken{i}.wav").write_text("no sound")
    words = [root, "--recipe", tiny_recipe, "--workers", "1"]
    assert cli("prepare", *words, "--out", tmp_path / "one").returncode == 0
    launch = ["-m", "accelerate.commands.launch", "--config_file", ROOT / "recipes/launch/two_cpu_processes.yaml"]
    script = ROOT / "recipes" / "prepare.py"
    command = [sys.executable, *map(str, [*launch, script, *words, "--out", tmp_path / "two"])]
    done = run(command, LOOPBACK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("60 of 600 files used") == 1
    assert {p.name: p.read_bytes() for p in (tmp_path / "one").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "two").iterdir()
    }
    assert not list(tmp_path.glob(".*"))
    done = run(command, LOOPBACK)
    assert done.returncode == 0 and done.stdout.count("up to date") == 1, done.stderr


def test_inspect_shows_a_store(tmp_path, tiny_store):
    done = cli("inspect", tiny_store)
    assert done.returncode == 0
    for words in ("40 of 40 files used", "splits: train", "loudness", "LUFS", "label instrument_str", "content hash"):
        assert words in done.stdout
    name = Store(tiny_store).column("source")[0]
    told = json.loads(cli("inspect", tiny_store, "--file", name).stdout)
    assert told["file"] == name and told["used"] and told["split"]
    assert "none of 40 files" in one_line(cli("inspect", tiny_store, "--file", "nothing"))
    assert "not a store" in one_line(cli("inspect", tmp_path))
