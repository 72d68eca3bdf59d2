"""A sound of any length becomes clips; what is left out is told."""

import json

import numpy as np
import pytest
import soundfile
from conftest import RATE, cli, tone

from audio_vaegan.config import DataConfig, Recipe
from audio_vaegan.data.cutting import Cutter
from audio_vaegan.data.prepare import prepare
from audio_vaegan.data.store import Store


def cut(audio, block=5000, **how):
    """(windows, cutter) of a sound given in blocks."""
    cutter = Cutter(DataConfig(clip_samples=8192, **how), RATE)
    return list(cutter.cut(audio[i : i + block] for i in range(0, len(audio), block))), cutter


@pytest.mark.parametrize("length", [1, 100, 8191, 8192, 8193, 9010, 9011, 20000, 24576])
@pytest.mark.parametrize("block", [3000, 100_000])
def test_regular_windows_lie_side_by_side_and_lose_less_than_a_tenth(length, block):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, length).astype(np.float32)
    windows, cutter = cut(noise, block)
    if length == 1:
        assert not windows and cutter.silent == 1  # a constant is no sound
        return
    assert [start for start, _ in windows] == list(range(0, len(windows) * 8192, 8192))
    whole = np.concatenate([piece for _, piece in windows])
    np.testing.assert_array_equal(whole, noise[: len(whole)])
    assert len(whole) + cutter.tail == length and cutter.tail < 819


def test_windows_overlap_as_asked():
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20000).astype(np.float32)
    windows, _ = cut(noise, overlap=0.75)
    assert [start for start, _ in windows] == [0, 2048, 4096, 6144, 8192, 10240, 12288]
    assert all(np.array_equal(piece, noise[start : start + 8192]) for start, piece in windows)
    assert windows[-1][0] + len(windows[-1][1]) == 20000


def test_silence_is_trimmed_at_the_stated_level():
    x = np.full(40000, 10 ** (-66 / 20), dtype=np.float32) * np.tile([1, -1], 20000)
    x[20000:23000] = tone(60)[:3000]
    ((start, piece),), cutter = cut(x.astype(np.float32), trim_dbfs=-60)
    assert abs(start - (20000 - 80)) < 20 and abs(len(piece) - 3160) < 40
    assert cutter.silent == 2  # the windows after it
    assert len(cut(x.astype(np.float32), trim_dbfs=-80)[0]) == 5


def test_clips_begin_at_onsets_and_end_at_the_next():
    at = [0.3, 0.8, 2.0, 2.2, 5.0]
    x = np.zeros(7 * RATE, dtype=np.float32)
    for i, t in enumerate(at):
        note = tone(55 + 5 * i, 1.0, decay=8)
        first = round(t * RATE)
        x[first : first + len(note)] += note[: len(x) - first]
    windows, cutter = cut(x, windows="onsets")
    starts = np.array([start / RATE for start, _ in windows])
    assert len(starts) == len(at) and np.abs(starts - at).max() < 0.03
    lengths = [len(piece) for _, piece in windows]
    assert lengths[0] == windows[1][0] - windows[0][0] and lengths[2] == windows[3][0] - windows[2][0]
    assert lengths[1] == lengths[4] == 8192
    assert sum(lengths) + cutter.between == len(x) and "onset-aligned" in cutter.notes()[0]


def test_onsets_are_found_alike_in_a_long_sound():
    x = np.zeros(70 * RATE, dtype=np.float32)
    at = np.arange(0.5, 69, 0.75)
    for t in at:
        x[round(t * RATE) : round(t * RATE) + 4000] = tone(60, 0.25, decay=20)
    windows, _ = cut(x, block=30011, windows="onsets")
    starts = np.array([start / RATE for start, _ in windows])
    assert len(starts) == len(at) and np.abs(starts - at).max() < 0.03


def test_a_sound_without_onset_is_cut_regularly(tmp_path):
    swell = tone(60, 2.0) * np.linspace(0, 1, 2 * RATE, dtype=np.float32) ** 2
    soundfile.write(tmp_path / "swell.wav", swell, RATE)
    recipe = Recipe.model_validate({"data": {"clip_samples": 8192, "windows": "onsets"}})
    assert prepare([tmp_path], recipe, tmp_path / "store")["clips"] >= 1


def stored(tmp_path, audio, rate=RATE, name="a.wav", **how):
    """(clips, rows) of one file."""
    (tmp_path / "in").mkdir(exist_ok=True)
    soundfile.write(tmp_path / "in" / name, audio, rate, subtype="FLOAT")
    prepare([tmp_path / "in"], Recipe.model_validate({"data": {"clip_samples": 8192} | how}), tmp_path / "store")
    store = Store(tmp_path / "store")
    return store.read(range(len(store))), store.items.to_pylist()


@pytest.mark.parametrize(("channel", "pitch"), [("left", 50), ("right", 57), ("loudest", 64)])
def test_the_channel_can_be_chosen(tmp_path, channel, pitch):
    x = np.stack([0.2 * tone(50), 0.2 * tone(57), tone(64)], axis=1)
    _, (row,) = stored(tmp_path, x, channel=channel)
    assert row["pitch"] == pytest.approx(pitch, abs=0.1)


@pytest.mark.parametrize("level", [0.003, 0.2, 1.9])
def test_loudness_is_brought_to_a_level_and_the_old_one_stays_a_label(tmp_path, level):
    x = level * np.random.default_rng(0).standard_normal(8192) / 3
    clips, (row,) = stored(tmp_path, x, loudness=-23)
    gain = 20 * np.log10(np.abs(clips[0]).max() / np.abs(x).max())
    assert row["gain_db"] == pytest.approx(gain, abs=0.05)
    assert row["loudness"] + row["gain_db"] == pytest.approx(-23, abs=0.01)


def test_a_sound_above_full_scale_is_lowered_not_cut_off(tmp_path):
    clips, (row,) = stored(tmp_path, 8 * tone(60))
    assert row["peak"] == pytest.approx(20 * np.log10(4), abs=0.01) and np.abs(clips).max() == pytest.approx(
        1, abs=0.002
    )
    np.testing.assert_allclose(clips[0][:8000], 2 * tone(60), atol=0.01)
    (file,) = json.loads((tmp_path / "store" / "report.json").read_text())["files"]
    assert "above full scale" in file["notes"][0]


def test_a_dry_run_reports_and_makes_no_store(tmp_path, notes, tiny_recipe):
    done = cli("prepare", notes, "--recipe", tiny_recipe, "--out", tmp_path / "store", "--dry-run")
    assert done.returncode == 0 and "40 of 41 files used" in done.stdout
    assert {p.name for p in tmp_path.iterdir()} == {"store.report"}
    assert {p.name for p in (tmp_path / "store.report").iterdir()} == {".audio-vaegan", "report.json", "report.html"}
    assert cli("prepare", notes, "--recipe", tiny_recipe, "--out", tmp_path / "store").returncode == 0
    told = [json.loads((tmp_path / d / "report.json").read_text()) for d in ("store.report", "store")]
    assert told[0] == told[1]


@pytest.mark.parametrize("seed", range(6))
def test_windows_at_onsets_never_overlap(seed):
    """Quiet events between loud ones, which the detector may see only when the loud ones have gone by."""
    random = np.random.default_rng(seed)
    x = np.zeros(60 * RATE, dtype=np.float32)
    for _ in range(80):
        first, level = int(random.uniform(0, 59 * RATE)), 10 ** random.uniform(-3.5, -0.1)
        note = level * tone(random.uniform(40, 80), random.uniform(0.05, 0.9), decay=6)
        x[first : first + len(note)] += note[: len(x) - first]
    cutter = Cutter(DataConfig(clip_samples=16384, windows="onsets"), RATE)
    windows = [(start, len(piece)) for start, piece in cutter.cut(x[i : i + 70_000] for i in range(0, len(x), 70_000))]
    ends = [start + length for start, length in windows]
    assert len(windows) > 20 and all(b >= a for a, (b, _) in zip(ends, windows[1:], strict=False))
    assert not cutter.silent and sum(length for _, length in windows) + cutter.between == len(x)
