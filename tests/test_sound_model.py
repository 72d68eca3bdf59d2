import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, cli, one_line, tone
from safetensors.torch import load_file, save_file

from audio_vaegan.config import MEL_PRESETS
from audio_vaegan.errors import UserError
from audio_vaegan.models.bundle import load_bundle, save_bundle
from audio_vaegan.models.controls import Between
from audio_vaegan.models.vocoder import GriffinLim
from audio_vaegan.sound_model import SoundModel, drawing, editing
from audio_vaegan.sound_model.threads import one_thread


@pytest.fixture(scope="module")
def model(tiny_run):
    return SoundModel.from_pretrained(tiny_run)


def test_the_same_seed_gives_the_same_sounds(model):
    a, b, c = model.sample(3, seed=5), model.sample(3, seed=5), model.sample(3, seed=6)
    assert torch.equal(a.audio, b.audio) and not torch.equal(a.audio, c.audio)
    assert a.audio.shape == (3, 8192) and a.sample_rate == RATE and a.audio.abs().max() <= 1
    assert a.z.shape == (3, 1 + 8) and torch.isfinite(a.audio).all()


def test_an_asked_pitch_is_the_first_coordinate(model):
    control = model.controls["pitch"]
    clip = model.sample(2, seed=1, pitch=[60.5, 66.0])
    assert clip.controls["pitch"].tolist() == [60.5, 66.0]
    assert clip.z[:, 0].tolist() == pytest.approx([(v - control.mean) / control.deviation for v in (60.5, 66.0)])
    assert torch.equal(model.sample(2, seed=1, pitch=62.0).z[:, 1:], clip.z[:, 1:])


def test_a_sound_of_a_seed_does_not_depend_on_the_count(model):
    whole, part = model.sample(5, seed=5), model.sample(2, seed=5, first=3)
    assert torch.equal(whole.z[3:], part.z)
    spread = model.sample(100, seed=2).controls["pitch"]
    assert spread.min() >= 60 and spread.max() <= 69 and abs(spread.mean() - 64.5) < 0.5


def test_a_sample_that_cannot_be_corrected_is_drawn_anew(model, monkeypatch):
    """Of five the second and the fourth miss; of their second codes the first misses, too."""
    missed, sizes = [[1, 3], [0], []], []

    def corrected(model, sound, wanted, changed):
        off = torch.zeros(len(sound))
        off[missed[len(sizes)]] = torch.inf
        sizes.append(len(sound))
        return sound, off

    asked = {"pitch": [60.0, 61.0, 62.0, 63.0, 64.0]}
    plain = drawing.sample(model, range(5), 3, 1.0, "auto", False, asked)
    monkeypatch.setattr(editing, "corrected", corrected)
    sound = drawing.sample(model, range(5), 3, 1.0, "auto", True, asked)
    assert sizes == [5, 2, 1] and torch.equal(sound.z[:, 0], plain.z[:, 0])
    same = (sound.z == plain.z).all(dim=1)
    assert same.tolist() == [True, False, True, False, True]
    monkeypatch.undo()
    alone = drawing.sample(model, [3], 3, 1.0, "auto", True, {"pitch": 63.0})
    many = drawing.sample(model, range(5), 3, 1.0, "auto", True, asked)
    assert torch.equal(alone.z[0], many.z[3])


def test_a_class_that_was_asked_is_not_taken_for_missed(monkeypatch):
    """No meter hears a class: a sound that is as asked else is not drawn anew for it."""
    drums, sizes = SoundModel.from_pretrained("drums16k"), []
    corrected = editing.corrected
    monkeypatch.setattr(editing, "corrected", lambda m, s, *rest: sizes.append(len(s)) or corrected(m, s, *rest))
    sound = drawing.sample(drums, range(2), 0, 1.0, "auto", True, {"drum_str": "kick"})
    assert (
        sizes == [2] and sound.controls["drum_str"].tolist() == [drums.controls["drum_str"].classes.index("kick")] * 2
    )


def test_no_truncation_left_means_one_timbre(model):
    z = model.sample(3, seed=1, truncation=0.0).z
    assert not z[:, 1:].any()


def test_an_edit_that_changes_nothing_is_the_plain_reconstruction(model):
    sound = model.encode(tone(64, 0.4))
    plain, edited = model.decode(sound), model.edit(sound)
    assert torch.equal(plain.audio, edited.audio)
    assert torch.equal(model.edit(sound, shift={"pitch": 0.0}).audio, plain.audio)


def test_there_and_back_again(model):
    sound = model.encode(tone(64, 0.4))
    up = model.edit(sound, shift={"pitch": 3.0})
    assert up.requested["pitch"].item() == pytest.approx(67, abs=0.05)
    assert torch.equal(up.z[:, 1:], sound.z[:, 1:]) and not torch.equal(up.z[:, 0], sound.z[:, 0])
    back = model.edit(model.replace_controls(sound, up.requested), shift={"pitch": -3.0})
    assert torch.allclose(back.z, sound.z, atol=1e-5)


def test_controls_come_from_the_meters_unless_given(model):
    assert model.encode(tone(64, 0.4)).controls["pitch"].item() == pytest.approx(64, abs=0.1)
    assert model.encode(tone(64, 0.4), pitch=61.0).controls["pitch"].item() == 61.0


def test_an_unpitched_sound_can_be_set_but_not_shifted(model):
    noise = np.random.default_rng(0).standard_normal(8192).astype(np.float32) * 0.1
    sound = model.encode(noise)
    assert sound.controls["pitch"].isnan().all()
    assert torch.isfinite(model.decode(sound).audio).all()
    with pytest.raises(UserError, match="undefined for this sound"):
        model.edit(sound, shift={"pitch": 2.0})
    assert model.edit(sound, set={"pitch": 62.0}).requested["pitch"].item() == 62.0


def test_a_short_sound_ends_where_it_ended(model):
    clip = model.decode(model.encode(tone(64, 0.2)))
    assert not clip.audio[0, 3200:].any() and clip.audio[0, :3200].any()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.sample(1, pitch=200.0), "lies outside the trained range 60 ... 69"),
        (lambda m: m.sample(1, pitch=float("nan")), "must be a number"),
        (lambda m: m.sample(1, pitsch=60.0), "Did you mean 'pitch'?"),
        (lambda m: m.sample(3, pitch=[60.0, 61.0]), "give one value, or 3"),
        (lambda m: m.sample(0), "at least 1"),
        (lambda m: m.sample(1, truncation=-1.0), "0 ... 2"),
        (lambda m: m.edit(m.encode(tone(64)), shift={"pitch": 50.0}), "outside the trained range"),
        (lambda m: m.edit(m.encode(tone(64)), shift={"pitch": 1.0}, set={"pitch": 60.0}), "not both"),
        (lambda m: m.encode(np.array([np.nan, 0.0])), "must be finite"),
        (lambda m: m.encode("nowhere.wav"), "nowhere.wav"),
        (lambda m: m.encode((tone(64) * 32767).astype(np.int16)), "divide 16-bit integers by 32768"),
        (lambda m: m.encode(np.stack([tone(64)] * 2, axis=1)), "of several channels take the mean"),
        (lambda m: m.encode((tone(64), RATE)), "audio must be a file, or numbers"),
        (lambda m: m.encode(tone(64)[None, None]), "got shape [1, 1, "),
        (lambda m: m.encode(tone(64), pitch=440.0), "0 ... 127 (MIDI; A4 is 69), got 440"),
        (lambda m: m.encode(tone(64), pitch=Between(50, 60)), "a range is for new sounds"),
        (lambda m: m.edit(m.encode(tone(64)), set={"pitch": Between(60, 69)}), "a range is for new sounds"),
        (lambda m: m.edit(m.encode(np.stack([tone(61), tone(66)])), shift={"pitch": 6.0}), "this sound has 66.0"),
        (lambda m: m.sample(1, first=-1), "counted from 0, got -1"),
        (lambda m: m.compress(tone(64), ptich=60.0), "Did you mean 'pitch'?"),
        (lambda m: m.compress(tone(64) * np.nan), "must be finite"),
        (lambda m: m.compress(np.stack([tone(64)] * 2)), "one sound [samples] at a time, got 2"),
        (lambda m: m.score(tone(64)[:0]), "must be finite"),
        (lambda m: m.restore(tone(64), gaps=(0.1, 0.2)), "pairs of seconds"),
        (lambda m: m.restore(tone(64), gaps=[(0.1, np.inf)]), "begins before it ends"),
    ],
)
def test_bad_requests_get_one_line(model, call, says):
    with pytest.raises(UserError) as e:
        call(model)
    assert says in str(e.value) and "\n" not in str(e.value)


def test_audio_may_be_of_any_float(model):
    sounds = tone(64), tone(64).astype(np.float64), torch.from_numpy(tone(64)), tone(64)[None].tolist()
    sounds += tone(64)[::-1].copy()[::-1], tone(64).astype(">f4")
    assert len({float(model.encode(s).controls["pitch"]) for s in sounds}) == 1
    assert model.encode(torch.from_numpy(tone(64)).bfloat16()).z.dtype == torch.float32


def test_two_on_one_thread_leave_as_many_as_before():
    before, inside = torch.get_num_threads(), Barrier(2, timeout=2)

    def one():
        with one_thread():
            assert torch.get_num_threads() == 1
            with contextlib.suppress(BrokenBarrierError):
                inside.wait()  # the other is never inside, too
                pytest.fail("two at once")
        return torch.get_num_threads()

    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(one) for _ in range(2)]
            assert [b.result() for b in both] == [2, 2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_vocoder_of_another_mel_is_refused(tiny_run):
    with pytest.raises(UserError, match=r"differ in mel.*n_mels: 80 != 32"):
        SoundModel(load_bundle(tiny_run), GriffinLim(MEL_PRESETS["hifigan-22k-80"]))


def test_a_bundle_saved_again_is_the_same(tiny_run, tmp_path, model):
    bundle = load_bundle(tiny_run)
    digest = save_bundle(bundle, tmp_path / "copy")
    assert digest == model.hash
    again = SoundModel.from_pretrained(tmp_path / "copy")
    assert torch.equal(again.sample(1, seed=3).audio, model.sample(1, seed=3).audio)
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("*.pkl"))


def damage(bundle, kind):
    file, config = bundle / "vaegan.safetensors", bundle / "config.json"
    if kind == "flipped bit":
        data = bytearray(file.read_bytes())
        data[-10] ^= 1
        file.write_bytes(bytes(data))
    elif kind == "truncated":
        file.write_bytes(file.read_bytes()[:1000])
    elif kind == "nan":
        tensors = load_file(file)
        next(iter(tensors.values())).view(-1)[0] = float("nan")
        save_file(tensors, file)
    elif kind == "shape":
        tensors = load_file(file)
        name = next(iter(tensors))
        tensors[name] = torch.zeros(3)
        save_file(tensors, file)
    elif kind == "missing tensor":
        tensors = load_file(file)
        tensors.popitem()
        save_file(tensors, file)
    elif kind == "missing file":
        file.unlink()
    elif kind == "config":
        text = json.loads(config.read_text())
        text["inference"]["normalisation"]["mean"] += 1
        config.write_text(json.dumps(text))
    elif kind == "mel":
        text = json.loads(config.read_text())
        text["recipe"]["mel"]["hop_length"] = 128
        config.write_text(json.dumps(text))
    elif kind == "no json":
        config.write_text("{")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("flipped bit", "model_hash differs"),
        ("truncated", "damaged bundle"),
        ("nan", "NaN or infinite"),
        ("shape", "has shape"),
        ("missing tensor", "missing or unknown"),
        ("missing file", "damaged bundle"),
        ("config", "model_hash differs"),
        ("mel", "does not fit the recipe"),
        ("no json", "cannot be read as JSON"),
    ],
)
def test_a_damaged_bundle_is_never_used(tiny_run, tmp_path, kind, says):
    save_bundle(load_bundle(tiny_run), tmp_path / "b")
    damage(tmp_path / "b", kind)
    with pytest.raises(UserError) as e:
        load_bundle(tmp_path / "b")
    assert says in str(e.value)


def test_generate_writes_tagged_files_and_rows_and_the_same_bytes(tiny_run, tmp_path):
    words = ["generate", tiny_run, "--count", "3", "--pitch", "60", "64.5", "--seed", "7"]
    for name in ("a", "b"):
        done = cli(*words, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
    files = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert files == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}
    rows = [json.loads(line) for line in (tmp_path / "a" / "metadata.jsonl").read_text().splitlines()]
    assert [r["pitch_requested"] for r in rows] == [60, 64.5, 60]
    assert all(r["synthetic"] is True and r["pitch_unit"] == "semitones (MIDI)" and r["seed"] == 7 for r in rows)
    for row in rows:
        with soundfile.SoundFile(tmp_path / "a" / row["file_name"]) as f:
            assert f.samplerate == RATE and f.frames == 8192 and f.subtype == "PCM_16" and "AI-generated" in f.comment
    line = one_line(cli(*words, "--out", tmp_path / "a"))
    assert "--overwrite" in line
    assert cli(*words, "--out", tmp_path / "a", "--overwrite").returncode == 0


def test_a_folder_is_only_replaced_by_one_of_its_kind(tiny_run, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in tiny_run.rglob("*")}
    line = one_line(cli("generate", tiny_run, "--count", "1", "--out", tiny_run, "--overwrite"))
    assert "another kind (run, not sounds)" in line
    assert {p: p.stat().st_mtime_ns for p in tiny_run.rglob("*")} == before


def test_edit_writes_one_file_and_says_what_was_measured(tiny_run, tmp_path):
    soundfile.write(tmp_path / "in.flac", tone(64, 0.4, rate=22050), 22050)
    words = ["edit", tiny_run, tmp_path / "in.flac", "--out", tmp_path / "out.wav"]
    done = cli(*words, "--pitch", "-3")
    assert done.returncode == 0, done.stderr
    assert "input 64" in done.stdout and "requested 6" in done.stdout and "measured" in done.stdout
    with soundfile.SoundFile(tmp_path / "out.wav") as f:
        assert f.frames == 6400 and "AI-generated" in f.comment
    assert "exists" in one_line(cli(*words, "--pitch", "-3"))
    over = ["edit", tiny_run, tmp_path / "out.wav", "--out", tmp_path / "out.wav", "--overwrite", "--set-pitch", "62"]
    assert "that is the input" in one_line(cli(*over))
