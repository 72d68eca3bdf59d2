import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, cli, one_line, tone

from audio_vaegan.config import Recipe
from audio_vaegan.data.duplicates import SAME, correlation
from audio_vaegan.data.prepare import prepare
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError

RECIPE = Recipe.model_validate({"data": {"clip_samples": 8192}})


def snapshot(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.fixture
def mess(tmp_path):
    """A folder with good sounds and many that are not."""
    root = tmp_path / "mess"
    (root / "drums" / "деревня").mkdir(parents=True)
    soundfile.write(root / "good.wav", tone(60), RATE)
    soundfile.write(root / "drums" / "звук 音.flac", tone(72, 1.5, rate=44100), 44100)
    soundfile.write(root / "stereo.ogg", np.stack([tone(50), tone(50)], 1), RATE)
    soundfile.write(root / "wrong-ending.txt", tone(50), RATE, format="WAV")
    soundfile.write(root / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(root / "empty.wav", np.zeros(0), RATE)
    x = tone(60)
    x[5] = np.nan
    soundfile.write(root / "nan.wav", x, RATE, subtype="FLOAT")
    (root / "text.wav").write_text("not a sound")
    (root / "zero.wav").write_bytes(b"")
    (root / "truncated.wav").write_bytes((root / "good.wav").read_bytes()[:2000])
    os.symlink(root, root / "drums" / "loop")
    os.symlink(root / "nowhere.wav", root / "dangling.wav")
    return root


def test_every_file_is_accounted_for(mess, tmp_path):
    summary = prepare([mess], RECIPE, tmp_path / "store")
    files = {f["file"]: f for f in json.loads((tmp_path / "store" / "report.json").read_text())["files"]}
    there = {p.relative_to(mess).as_posix() for p in mess.rglob("*") if p.is_symlink() or not p.is_dir()}
    assert set(files) == there
    used = {name for name, f in files.items() if f["used"]}
    assert used == {"good.wav", "drums/звук 音.flac", "stereo.ogg", "truncated.wav"}
    for name, f in files.items():
        assert f["used"] or f["reason"], name
    assert "silent" in files["silent.wav"]["reason"] and "NaN" in files["nan.wav"]["reason"]
    assert "link" in files["drums/loop"]["reason"] and "ending .txt" in files["wrong-ending.txt"]["reason"]
    assert summary["files"] == len(files) and sum(summary["dropped"].values()) == len(files) - 4


def test_clips_hold_the_sound_and_its_true_length(mess, tmp_path):
    prepare([mess], RECIPE, tmp_path / "store")
    store = Store(tmp_path / "store")
    rows = store.items.to_pylist()
    good = next(r for r in rows if r["source"] == "good.wav")
    clip = store.read([good["clip"]])[0]
    assert good["length"] == 8000
    np.testing.assert_allclose(clip[:8000], tone(60), atol=2 / 32768)
    assert not clip[8000:].any()
    long = [r for r in rows if r["source"].startswith("drums")]
    assert [r["start"] for r in long] == [0, 8192, 16384] and sum(r["length"] for r in long) == 24000
    assert all(r["pitch"] == pytest.approx(72, abs=0.1) and r["pitch_from"] == "meter" for r in long)
    assert json.loads(long[0]["labels"]) == {"folder": "drums"}
    assert len({r["split"] for r in long}) == 1 or {r["split"] for r in long} <= {"train", "test_note"}


def test_labels_win_over_the_meter(tiny_store):
    store = Store(tiny_store)
    assert set(store.column("pitch_from")) == {"label"}
    assert np.abs(store.column("pitch") - store.column("pitch_measured")).max() < 0.1
    assert sorted(set(store.column("pitch"))) == list(range(60, 70))


def test_no_instrument_stands_on_both_sides(tiny_store):
    store = Store(tiny_store)
    split, group = store.column("split"), store.column("group")
    held = set(group[split == "test_instrument"])
    assert len(held) == 1 and not held & set(group[split != "test_instrument"])
    assert (split == "test_note").sum() == 3


def test_the_same_input_gives_the_same_bytes_and_a_second_call_does_nothing(notes, tiny_recipe, tiny_store, tmp_path):
    again = tmp_path / "again"
    assert cli("prepare", notes, "--recipe", tiny_recipe, "--out", again).returncode == 0
    assert snapshot(again) == snapshot(tiny_store)
    before = {p: p.stat().st_mtime_ns for p in again.iterdir()}
    done = cli("prepare", notes, "--recipe", tiny_recipe, "--out", again)
    assert done.returncode == 0 and "up to date" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in again.iterdir()} == before


def test_a_killed_prepare_leaves_no_half_store_and_goes_on(tmp_path, tiny_recipe):
    root = tmp_path / "many"
    root.mkdir()
    for i in range(700):
        soundfile.write(root / f"{i:04d}.wav", tone(50 + i % 30, 0.3), RATE)
    words = [str(root), "--recipe", str(tiny_recipe)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "audio_vaegan", "prepare", *words, "--out", str(killed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = tmp_path / ".killed.partial" / "part-00000.json"
    deadline = time.monotonic() + 60
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists() and not killed.exists()
    (first.parent / ".half.npy.1.tmp").write_text("what a kill leaves")
    kept = {p.name: p.stat().st_ino for p in first.parent.glob("part-*.json")}
    again = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    later = tmp_path / ".killed.partial" / f"part-{len(kept):05d}.json"
    while not later.exists() and again.poll() is None:
        time.sleep(0.001)
    now = {p.name: p.stat().st_ino for p in first.parent.glob("part-*.json")}
    assert len(now) > len(kept) and {n: now[n] for n in kept} == kept  # finished parts are kept, not made again
    assert again.wait(60) == 0
    assert cli("prepare", *words, "--out", whole).returncode == 0
    assert snapshot(killed) == snapshot(whole)


def test_nothing_of_the_users_is_overwritten(notes, tiny_recipe, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious.txt").write_text("x")
    for extra in ([], ["--overwrite"]):
        line = one_line(cli("prepare", notes, "--recipe", tiny_recipe, "--out", mine, *extra))
        assert "did not write" in line
    assert (mine / "precious.txt").read_text() == "x"


def test_an_older_store_is_replaced_only_when_told(notes, tiny_recipe, tmp_path):
    out = tmp_path / "store"
    base = ["prepare", notes, "--recipe", tiny_recipe, "--out", out]
    assert cli(*base).returncode == 0
    before = snapshot(out)
    assert "--overwrite" in one_line(cli(*base, "--seed", "9"))
    assert snapshot(out) == before
    assert cli(*base, "--seed", "9", "--overwrite").returncode == 0


def test_when_nothing_is_usable_the_error_says_what_was_seen(tmp_path):
    root = tmp_path / "none"
    root.mkdir()
    with pytest.raises(UserError, match=r"no files there; looked for .*\.wav"):
        prepare([root], RECIPE, tmp_path / "store")
    (root / "a.wav").write_text("text")
    with pytest.raises(UserError, match=r"none of 1 files is usable.*found: 1 cannot be decoded.*a\.wav: cannot"):
        prepare([root], RECIPE, tmp_path / "store")
    with pytest.raises(UserError, match="no such file or folder"):
        prepare([tmp_path / "missing"], RECIPE, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_nsynth_entries_without_files_and_files_without_entries_are_reported(tmp_path):
    root = tmp_path / "nsynth"
    (root / "audio").mkdir(parents=True)
    for name in ("a", "extra"):
        soundfile.write(root / "audio" / f"{name}.wav", tone(60), RATE)
    (root / "examples.json").write_text(json.dumps({"a": {"pitch": 60}, "gone": {"pitch": 61}}))
    prepare([root], RECIPE, tmp_path / "store")
    report = json.loads((tmp_path / "store" / "report.json").read_text())["files"]
    reasons = {f["file"]: f.get("reason") for f in report}
    assert reasons["audio/a.wav"] is None
    assert "not in audio/" in reasons["audio/gone"] and "not listed" in reasons["audio/extra.wav"]


@pytest.mark.parametrize("harm", ["table", "shard", "json"])
def test_a_damaged_store_is_named(tmp_path, notes, tiny_recipe, harm):
    out = tmp_path / "store"
    cli("prepare", notes, "--recipe", tiny_recipe, "--out", out)
    file = {"table": "items.parquet", "shard": "shard-00000.npy", "json": "store.json"}[harm]
    (out / file).write_bytes((out / file).read_bytes()[:100])
    with pytest.raises(UserError, match=r"damaged|cannot be read|do not agree"):
        Store(out)


def test_a_damaged_store_can_be_made_again_by_the_same_command(tmp_path, notes, tiny_recipe):
    out = tmp_path / "store"
    words = ["prepare", notes, "--recipe", tiny_recipe, "--out", out]
    cli(*words)
    whole = snapshot(out)
    for file in ("items.parquet", "store.json"):
        (out / file).write_bytes((out / file).read_bytes()[:50])
        assert "prepare it again" in one_line(cli(*words)) or "cannot be read" in one_line(cli(*words))
        assert cli(*words, "--overwrite").returncode == 0
        assert snapshot(out) == whole


def test_names_in_another_encoding_and_with_dollars(tmp_path):
    root = tmp_path / "odd"
    root.mkdir()
    for name in (b"Fl\xf6te.wav", b"cash$$x $_$.wav", b"ok.wav"):
        buffer = io.BytesIO()
        soundfile.write(buffer, tone(60), RATE, format="WAV")
        with open(os.path.join(os.fsencode(root), name), "wb") as f:
            f.write(buffer.getvalue())
    summary = prepare([root], RECIPE, tmp_path / "store")
    assert summary["files_used"] == 3
    names = Store(tmp_path / "store").column("source").tolist()
    assert "Fl\\xf6te.wav" in names and "cash$$x $_$.wav" in names


def test_what_this_program_wrote_is_not_taken_for_recordings(tmp_path, tiny_recipe):
    root = tmp_path / "sounds"
    root.mkdir()
    soundfile.write(root / "a.wav", tone(60), RATE)
    soundfile.write(root / ".hidden.wav", tone(60), RATE)
    words = ["prepare", root, "--recipe", tiny_recipe, "--out", root / "store"]
    assert cli(*words).returncode == 0
    done = cli(*words, "--overwrite")
    assert done.returncode == 0 and "1 of 2 files used" in done.stdout and "a hidden file" in done.stdout
    again = cli("prepare", root, "--recipe", tiny_recipe, "--out", tmp_path / "another")
    assert "1 of 3 files used" in again.stdout and "a folder that audio-vaegan wrote" in again.stdout


def test_equal_names_in_two_sources_stay_apart(tmp_path):
    for parent, pitch in (("x", 60), ("y", 61)):
        (tmp_path / parent / "drums").mkdir(parents=True)
        soundfile.write(tmp_path / parent / "drums" / "k.wav", tone(pitch), RATE)
    prepare([tmp_path / "x" / "drums", tmp_path / "y" / "drums"], RECIPE, tmp_path / "store")
    store = Store(tmp_path / "store")
    assert store.column("source").tolist() == ["drums~2/k.wav", "k.wav"]
    assert len(set(store.column("group"))) == 2


def test_a_short_tail_is_left_out_and_reported(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(60, 8300 / RATE), RATE)
    soundfile.write(tmp_path / "tiny.wav", tone(60, 300 / RATE), RATE)
    prepare([tmp_path], RECIPE, tmp_path / "store")
    files = json.loads((tmp_path / "store" / "report.json").read_text())["files"]
    assert files[0]["clips"] == 1 and "left out: 0.007 s" in files[0]["notes"][0]
    assert files[1]["clips"] == 1  # a whole sound is never too short


def test_a_drum_kits_key_is_no_pitch(tmp_path):
    root = tmp_path / "kit"
    (root / "audio").mkdir(parents=True)
    noise = np.random.default_rng(0).standard_normal(8000) * 0.1
    soundfile.write(root / "audio" / "kick.wav", noise, RATE)
    (root / "examples.json").write_text(json.dumps({"kick": {"pitch": 36, "bank": 128}}))
    prepare([root], RECIPE, tmp_path / "store")
    assert np.isnan(Store(tmp_path / "store").column("pitch").astype(float)).all()


def test_chunks_end_by_size_too(tmp_path, monkeypatch):
    module = importlib.import_module("audio_vaegan.data.prepare")
    for i in range(6):
        soundfile.write(tmp_path / f"{i}.wav", tone(60 + i, 1.0), RATE)
    prepare([tmp_path], RECIPE, tmp_path / "one")
    monkeypatch.setattr(module, "BYTES_A_CHUNK", 2 * 2 * RATE)
    files = [tmp_path / f"{i}.wav" for i in range(6)]
    prepare(files, RECIPE, tmp_path / "several")
    store = Store(tmp_path / "several")
    assert len(list((tmp_path / "several").glob("shard-*.npy"))) == 3 and len(store) == 12
    np.testing.assert_array_equal(store.read(range(12)), Store(tmp_path / "one").read(range(12)))


def test_overrides_may_stand_before_the_sounds(tmp_path, notes, tiny_recipe):
    words = ["prepare", "--seed", "9", notes, "--recipe", tiny_recipe, "--mel.n_mels", "40", "--out", tmp_path / "s"]
    assert cli(*words).returncode == 0
    assert Store(tmp_path / "s").mel.n_mels == 40


def test_equal_files_are_one_source(tmp_path):
    for i in range(6):
        soundfile.write(tmp_path / f"copy{i}.wav", tone(60), RATE)
        soundfile.write(tmp_path / f"other{i}.wav", tone(61 + i), RATE)
    prepare([tmp_path], RECIPE, tmp_path / "store")
    rows = Store(tmp_path / "store").items.to_pylist()
    copies = [r for r in rows if r["source"].startswith("copy")]
    assert {r["group"] for r in copies} == {"copy0.wav"}
    assert len({r["split"] == "test_instrument" for r in copies}) == 1
    files = json.loads((tmp_path / "store" / "report.json").read_text())["files"]
    assert files[0]["pitch"] == [pytest.approx(60, abs=0.1)] and files[0]["split"] in (["train"], ["test_instrument"])


def test_overwriting_spares_what_the_user_put_there(tmp_path, notes, tiny_recipe):
    out = tmp_path / "store"
    words = ["prepare", notes, "--recipe", tiny_recipe, "--out", out]
    assert cli(*words).returncode == 0
    (out / "mine").mkdir()
    (out / "mine" / "notes.txt").write_text("precious")
    line = one_line(cli(*words, "--overwrite"))
    assert "mine/notes.txt" in line and (out / "mine" / "notes.txt").read_text() == "precious"


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, notes, monkeypatch):
    module = importlib.import_module("audio_vaegan.data.prepare")
    monkeypatch.setattr(module, "BYTES_A_CHUNK", 64 * 1024)
    monkeypatch.setattr("audio_vaegan.data.chunk.BYTES_FOR_WORKERS", 0)
    recipe = Recipe.model_validate({"data": {"clip_samples": 8192, "loudness": -20}})
    for workers in (1, 2):
        prepare([notes], recipe, tmp_path / str(workers), workers=workers)
    assert len(list((tmp_path / "1").glob("shard-*.npy"))) >= 6
    assert snapshot(tmp_path / "1") == snapshot(tmp_path / "2")


def test_what_a_shift_pushes_out_of_a_clip_is_not_held_against_a_copy():
    t, random = np.arange(16384) / RATE, np.random.default_rng(0)
    noise = random.standard_normal(16384).astype(np.float32)
    late = np.concatenate([np.zeros(960, dtype=np.float32), noise])[:16384]
    kicks = [np.sin(2 * np.pi * np.cumsum(50 + s * np.exp(-40 * t)) / RATE) * np.exp(-9 * t) for s in (80, 280)]
    one, other = (torch.from_numpy(np.stack(x)).float() for x in ([noise, late, kicks[0]], [late, noise, kicks[1]]))
    found = correlation(one, other, RATE)
    assert (found[:2] > 0.999).all() and found[2] < SAME
    assert correlation(one, one, RATE) == pytest.approx(1, abs=1e-4) and not correlation(0 * one, one, RATE).any()


def interrupted(monkeypatch, name, *words):
    """A prepare that is killed where it calls `name`, the second time."""
    module = importlib.import_module("audio_vaegan.data.chunk")
    kept, calls = getattr(module, name), []

    def call(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return kept(*args)

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(module, name, call)
        prepare(*words)


def test_two_kills_with_a_change_taken_back_keep_sound_and_rows_together(tmp_path, monkeypatch):
    root, out = tmp_path / "in", tmp_path / "store"
    root.mkdir()
    for midi in (50, 60):
        soundfile.write(root / f"{midi}.wav", tone(midi), RATE)
    assemble = "audio_vaegan.data.prepare.assemble"
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(assemble, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare([root], RECIPE, out)
    (root / "50.wav").rename(tmp_path / "aside.wav")
    soundfile.write(root / "55.wav", tone(55), RATE)
    interrupted(monkeypatch, "save_array", [root], RECIPE, out)  # the clips are written, their prints are not
    (root / "55.wav").unlink()
    (tmp_path / "aside.wav").rename(root / "50.wav")
    prepare([root], RECIPE, out)
    store = Store(out)
    np.testing.assert_allclose(store.read([0])[0][:8000], tone(50), atol=2 / 32768)
    assert store.column("source").tolist() == ["50.wav", "60.wav"]


def test_what_a_kill_left_of_another_folder_is_not_taken(tmp_path, monkeypatch):
    for name, midi in (("one", 50), ("two", 62)):
        path = tmp_path / name / "kit" / "a.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, tone(midi), RATE)
        os.utime(path, (1, 1))
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr("audio_vaegan.data.prepare.assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare([tmp_path / "one"], RECIPE, tmp_path / "store")
    prepare([tmp_path / "two"], RECIPE, tmp_path / "store")
    assert Store(tmp_path / "store").column("pitch")[0] == pytest.approx(62, abs=0.1)
    prepare([tmp_path / "two"], RECIPE, tmp_path / "clean")
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "clean")


@pytest.mark.parametrize(
    "spoilt",
    ['{"summary": {}, "duplicates": [], "files": {}}', '{"summary": {}, "duplicates": {"near": []}, "files": [7]}'],
)
def test_a_report_of_another_shape_is_damaged(tmp_path, notes, tiny_recipe, spoilt):
    out = tmp_path / "store"
    assert cli("prepare", notes, "--recipe", tiny_recipe, "--out", out).returncode == 0
    (out / "report.json").write_text(spoilt)
    assert "report.json is damaged" in one_line(cli("prepare", notes, "--recipe", tiny_recipe, "--out", out))


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names are Unicode there")
def test_a_store_whose_name_is_no_text_is_refused_at_once(tmp_path, notes):
    with pytest.raises(UserError, match=r"--out .*a\\xff: its name is not written in UTF-8"):
        prepare([notes], RECIPE, tmp_path / os.fsdecode(b"a\xff"))
