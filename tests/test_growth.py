"""Copies, splits that hold, and stores that grow."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from conftest import LOOPBACK, RATE, ROOT, cli, one_line, run, tone

from audio_vaegan.config import Recipe
from audio_vaegan.data.duplicates import candidates, fingerprints
from audio_vaegan.data.prepare import prepare
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.files import alone
from audio_vaegan.mel import Mel

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
    with pytest.raises(UserError, match=r"1 of its files have gone since \(40\.wav"):
        prepare([root], RECIPE, out)
    soundfile.write(root / "40.wav", tone(80), RATE)
    with pytest.raises(UserError, match=r"1 of its files have changed since \(40\.wav"):
        prepare([root], RECIPE, out)
    assert splits(out).keys() == {f"{i}.wav" for i in range(40, 44)}
    with pytest.raises(UserError, match=r"another recipe \(seed: 0 != 5\)"):
        prepare([root], RECIPE.model_copy(update={"seed": 5}), out)


@pytest.mark.slow
def test_two_processes_of_a_launch_make_the_same_bytes_as_one(tmp_path, tiny_recipe):
    root = many(tmp_path / "in", 60)
    for i in range(540):  # several chunks, with sounds in each
        (root / f"{40 + i % 60}-{i}.wav").write_text("no sound")
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
    for words in ("40 of 41 files used", "splits: train", "loudness", "LUFS", "label instrument_str", "content hash"):
        assert words in done.stdout
    name = Store(tiny_store).column("source")[0]
    told = json.loads(cli("inspect", tiny_store, "--file", name).stdout)
    assert told["file"] == name and told["used"] and told["split"]
    assert "none of 41 files" in one_line(cli("inspect", tiny_store, "--file", "nothing"))
    assert "not a store" in one_line(cli("inspect", tmp_path))


def test_one_bit_of_a_store_that_has_changed_is_found(tmp_path, tiny_store):
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    assert "as it was written" in cli("inspect", store, "--verify").stdout
    for name in ("shard-00000.npy", "prints-00000.npy", "items.parquet"):
        data = bytearray((store / name).read_bytes())
        data[len(data) // 2] ^= 1
        (store / name).write_bytes(data)
        assert f"not as it was written: {name}" in one_line(cli("inspect", store, "--verify"))
        data[len(data) // 2] ^= 1
        (store / name).write_bytes(data)
    about = json.loads((store / "store.json").read_text())
    del about["items_sha256"]
    (store / "store.json").write_text(json.dumps(about))
    assert "before stores knew hashes" in one_line(cli("inspect", store, "--verify"))


@pytest.mark.parametrize("seed", range(3))
def test_copies_of_copies_that_would_stand_on_both_sides_are_refused(tmp_path, seed):
    """Not the one file that happens to link them, but all that hold both sounds."""
    root, out = many(tmp_path / "in", 20), tmp_path / "store"
    recipe = RECIPE.model_copy(update={"seed": seed})
    prepare([root], recipe, out)
    side = splits(out)
    train, held = (next(n for n in side if side[n] == s) for s in ("train", "test_instrument"))
    noise = np.random.default_rng(seed)
    one, other = (np.pad(soundfile.read(root / n)[0], (0, 8192 - 6400)) for n in (train, held))
    for i in range(8):
        both = np.concatenate([one, other])
        soundfile.write(root / f"both{i}.wav", both + 0.003 * noise.standard_normal(len(both)), RATE)
    prepare([root], recipe, out)
    files = {f["file"]: f for f in report(out)["files"]}
    assert all("both sides" in files[f"both{i}.wav"]["reason"] for i in range(8))


def test_a_loop_within_a_file_is_not_torn_apart(tmp_path):
    root, noise = tmp_path / "in", np.random.default_rng(1)
    root.mkdir()
    soundfile.write(root / "loop.wav", np.tile(noise.uniform(-0.5, 0.5, 8192), 12), RATE)
    soundfile.write(root / "other.wav", noise.uniform(-0.5, 0.5, 12 * 8192), RATE)
    how = {"clip_samples": 8192, "test_instruments": 0.0, "test_notes": 0.3}
    prepare([root], Recipe.model_validate({"data": how}), tmp_path / "store")
    store = Store(tmp_path / "store")
    split, source = store.column("split"), store.column("source")
    assert set(split[source == "loop.wav"]) == {"train"} and set(split[source == "other.wav"]) == {"train", "test_note"}


def test_independent_noise_is_not_compared_pair_by_pair():
    noise = np.random.default_rng(0).standard_normal((200, 8192)).astype(np.float32) * 0.1
    noise[150] = -0.3 * noise[7]
    mel = Mel(RECIPE.mel)
    prints = fingerprints(torch.from_numpy(noise), mel(torch.from_numpy(noise)), RATE / 256).numpy()
    found = np.concatenate(list(candidates(prints, np.ones(200, dtype=bool), rows=64, columns=50)))
    assert found.tolist() == [[7, 150]]


def test_only_new_clips_are_compared():
    prints = np.random.default_rng(0).standard_normal((300, 192)).astype(np.float32)
    prints[:, :128] = 1 / np.sqrt(128)
    prints[:, 128:] = 1 / np.sqrt(64)  # all alike
    fresh = np.zeros(300, dtype=bool)
    fresh[[5, 250]] = True
    found = [tuple(p) for block in candidates(prints, fresh, rows=1, columns=70) for p in block.tolist()]
    wanted = {tuple(sorted((i, j))) for i in (5, 250) for j in range(300) if i != j}
    assert len(found) == len(wanted) == 597 and set(found) == wanted


def test_a_table_of_labels_may_grow_with_the_folder(tmp_path):
    root, out = many(tmp_path / "in", 6), tmp_path / "store"
    (root / "labels.csv").write_text("file,who\n" + "".join(f"{i},x\n" for i in range(40, 46)) + "46,y\n")
    (root / ".DS_Store").write_text("x")
    prepare([root], RECIPE, out)
    before = splits(out)
    assert prepare([root], RECIPE, out)["up_to_date"]
    (root / ".DS_Store").unlink()
    (root / "note.txt").write_text("x")
    soundfile.write(root / "46.wav", tone(46, 0.4), RATE)
    with (root / "labels.csv").open("a") as f:
        f.write("47,z\n")
    prepare([root], RECIPE, out)
    files = {f["file"]: f for f in report(out)["files"]}
    assert files["labels.csv"]["reason"] == "a table of labels (8 rows)"
    assert set(files) == {*(f"{i}.wav" for i in range(40, 47)), "labels.csv", "labels.csv: 47", "note.txt"}
    assert {n: s for n, s in splits(out).items() if n in before} == before and "46.wav" in splits(out)
    (root / "labels.csv").write_text("file,who\n" + "".join(f"{i},changed\n" for i in range(40, 48)))
    with pytest.raises(UserError, match=r"7 of its files have changed since"):
        prepare([root], RECIPE, out)


def test_a_store_inside_its_own_folder_is_left_out_however_the_folder_is_named(tmp_path, monkeypatch):
    many(tmp_path / "in", 4)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    monkeypatch.chdir(tmp_path / "in")
    out = tmp_path / "in" / "store"
    assert prepare([Path(".")], RECIPE, Path("store"))["files"] == 4
    assert prepare([Path(".")], RECIPE, Path("store"))["up_to_date"]
    assert prepare([tmp_path / "link"], RECIPE, out)["up_to_date"]


def test_a_kill_in_the_last_step_costs_nothing_and_what_it_set_aside_comes_back(tmp_path, monkeypatch):
    root, out = many(tmp_path / "in", 12), tmp_path / "store"
    module = importlib.import_module("audio_vaegan.data.prepare")
    prepare([root], RECIPE, tmp_path / "whole")
    for step in ("fsync_tree", "replace_folder", "write_page"):
        with monkeypatch.context() as m:
            m.setattr(module, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                prepare([root], RECIPE, out)
        assert not out.exists() and (tmp_path / ".store.partial").exists()
    prepare([root], RECIPE, out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()
    }
    out.rename(tmp_path / ".store.123.old")  # killed between the two renames of a replacement
    assert prepare([root], RECIPE, out)["up_to_date"]


def test_a_dry_run_spares_what_a_killed_run_has_done(tmp_path, monkeypatch):
    root, out = many(tmp_path / "in", 4), tmp_path / "store"
    module = importlib.import_module("audio_vaegan.data.prepare")
    with monkeypatch.context() as m:
        m.setattr(module, "assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare([root], RECIPE, out)
    part = tmp_path / ".store.partial" / "part-00000.json"
    inode = part.stat().st_ino
    prepare([root], RECIPE.model_copy(update={"seed": 3}), out, dry_run=True)
    assert part.stat().st_ino == inode and (tmp_path / "store.report" / "report.html").exists()
    assert not (tmp_path / ".store.dry-run").exists()


def test_two_at_once_on_one_store_are_told(tmp_path, mistake, tiny_recipe):
    root = many(tmp_path / "in", 2)
    with alone(tmp_path / "store", "prepare"):
        line = mistake("prepare", root, "--recipe", tiny_recipe, "--out", tmp_path / "store")
    assert "another prepare is at work" in line and not (tmp_path / "store").exists()


def test_what_a_user_put_into_a_store_keeps_it_from_growing(tmp_path):
    root, out = many(tmp_path / "in", 4), tmp_path / "store"
    prepare([root], RECIPE, out)
    (out / "run").mkdir()
    (out / "run" / "weights").write_text("precious")
    assert prepare([root], RECIPE, out)["up_to_date"]
    many(root, 2, 80)
    with pytest.raises(UserError, match=r"holds 'run/weights', which audio-vaegan did not write"):
        prepare([root], RECIPE, out)
    assert (out / "run" / "weights").read_text() == "precious"


def test_folders_of_the_user_with_names_like_ours_are_left_alone(tmp_path):
    root, out = many(tmp_path / "in", 2), tmp_path / "store"
    mine = [tmp_path / name for name in (".store.backup.old", ".store.12.old", ".store.partial")]
    for folder in mine:
        folder.mkdir()
        (folder / "x").write_text("precious")
    with pytest.raises(UserError, match="in the way"):
        prepare([root], RECIPE, out)
    (mine[2] / ".audio-vaegan").write_text("store\n")
    with pytest.raises(UserError, match="in the way"):
        prepare([root], RECIPE, out)
    (mine[2] / "x").rename(tmp_path / "kept")
    prepare([root], RECIPE, out)
    assert len(Store(out)) == 2 and all((folder / "x").read_text() == "precious" for folder in mine[:2])


@pytest.mark.parametrize("out", [".", "/"])
def test_the_current_folder_is_no_new_one(tmp_path, monkeypatch, out):
    many(tmp_path / "in", 2)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for dry_run in (False, True):
        with pytest.raises(UserError, match="is no new folder"):
            prepare([tmp_path / "in"], RECIPE, Path(out), dry_run=dry_run)


def test_files_may_be_listed_one_by_one_and_a_file_given_twice_counts_once(tmp_path):
    root, out = many(tmp_path / "in", 3), tmp_path / "store"
    prepare(sorted(root.iterdir()), RECIPE, out)
    soundfile.write(root / "0.wav", tone(80, 0.4), RATE)
    assert prepare(sorted(root.iterdir()), RECIPE, out)["added"] == 1
    summary = prepare([root, root / "40.wav", root], RECIPE, tmp_path / "twice")
    assert summary["files_used"] == 4 and summary["dropped"] == {"given twice": 5}


def test_kicks_that_differ_are_not_taken_for_copies(tmp_path):
    random, t = np.random.default_rng(0), np.arange(8192) / RATE
    (tmp_path / "in").mkdir()
    for i in range(60):
        base, sweep, decay = random.uniform(47, 53), random.uniform(60, 300), random.uniform(5, 15)
        hertz = base + sweep * np.exp(-40 * t)
        kick = 0.8 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE) * np.exp(-decay * t)
        soundfile.write(tmp_path / "in" / f"{i}.wav", kick, RATE)
    summary = prepare([tmp_path / "in"], RECIPE, tmp_path / "store")
    assert summary["groups"] >= 58


def test_clips_that_cannot_reach_a_loudness_are_told(tmp_path):
    clicks = np.zeros((3, 8000))
    clicks[np.arange(3), [100, 200, 300]] = 0.9
    for i, x in enumerate(clicks):
        (tmp_path / "in").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "in" / f"{i}.wav", x, RATE)
    recipe = Recipe.model_validate({"data": {"clip_samples": 8192, "loudness": -14}})
    told = [s for s in prepare([tmp_path / "in"], recipe, tmp_path / "store")["health"] if "Loudness" in s]
    assert "3 of 3 clips stay below -14 LUFS" in told[0]


def test_a_damaged_report_is_named(tmp_path, mistake):
    root, out = many(tmp_path / "in", 2), tmp_path / "store"
    prepare([root], RECIPE, out)
    (out / "report.json").write_text("{}")
    assert "report.json is damaged" in mistake("inspect", out)
    with pytest.raises(UserError, match=r"report\.json is damaged"):
        prepare([root], RECIPE, out)


def test_what_the_recipe_names_is_held_out_with_all_that_shares_its_group(tmp_path):
    root = many(tmp_path / "in", 12)
    rows = [f"{40 + i}.wav,{'ab' if i % 3 else 'a'}{i % 4},{i}" for i in range(12)]
    (root / "labels.csv").write_text("\n".join(["file,maker,number", *rows]))
    words = RECIPE.model_copy(
        update={
            "data": RECIPE.data.model_copy(
                update={"group_by": "maker", "hold_out": {"number": (3, 7)}, "test_instruments": 0.0}
            )
        }
    )
    prepare([root], words, tmp_path / "store")
    s = Store(tmp_path / "store")
    makers = dict(zip(s.label("number"), s.label("maker"), strict=True))
    held = {maker for number, maker in makers.items() if int(number) in (3, 7)}
    found = {m: set() for m in makers.values()}
    for maker, split in zip(s.label("maker"), s.column("split"), strict=True):
        found[maker].add(split == "test_instrument")
    assert found == {maker: {maker in held} for maker in found} and len(held) < len(found)
