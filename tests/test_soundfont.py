import argparse
import ctypes.util
import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, cli, cli_process, one_line
from sf2 import write_sf2

from audio_vaegan.arguments import midi, numbers
from audio_vaegan.data.groups import connected
from audio_vaegan.data.loops import TEMPO, draw_loop
from audio_vaegan.data.nsynth import FAMILIES, KEYS, SOURCES, drum_of, family_of, source_of
from audio_vaegan.data.soundfont import read_presets
from audio_vaegan.descriptors import measure, yin

PERIOD = 61  # samples; 16000 / 61 = 262.3 Hz, 4.4 cents above MIDI 60

needs_fluidsynth = pytest.mark.skipif(
    ctypes.util.find_library("fluidsynth") is None, reason="the system library libfluidsynth is not installed"
)


@pytest.fixture
def font(tmp_path):
    t = np.arange(PERIOD * 40) / PERIOD
    waves = {"sine": 0.5 * np.sin(2 * np.pi * t), "rich": 0.3 * (np.sin(2 * np.pi * t) + np.sin(4 * np.pi * t))}
    path = tmp_path / "small.sf2"
    write_sf2(path, waves, [(0, "One", "sine"), (40, "Two", "rich"), (73, "Three", "sine")], RATE)
    return path


def test_number_lists():
    assert numbers("0,4,8:11") == (0, 4, 8, 9, 10, 11)
    assert numbers("36:42:3") == (36, 39, 42)
    for bad in ("x", "1:2:3:4", "5:1", "1:9:0"):
        with pytest.raises(argparse.ArgumentTypeError):
            numbers(bad)
    with pytest.raises(argparse.ArgumentTypeError, match=r"0 \.\.\. 127"):
        midi("120:130")


def test_programs_that_share_samples_become_one_group():
    samples = {"a": {"1"}, "b": {"2"}, "c": {"1", "3"}, "d": {"3"}, "e": {"4"}}
    assert connected(samples) == {"a": "a", "b": "b", "c": "a", "d": "a", "e": "e"}


def test_every_program_has_a_family_and_a_source():
    assert {family_of(p) for p in range(128)} <= set(FAMILIES)
    assert {source_of(p) for p in range(128)} <= set(SOURCES)
    assert (family_of(0), family_of(40), family_of(73), family_of(52)) == ("keyboard", "string", "flute", "vocal")


def test_the_structure_of_a_soundfont_is_read(font):
    presets = read_presets(font)
    assert {k: (p.name, p.samples(60, 100)) for k, p in presets.items()} == {
        (0, 0): ("One", ["sine"]),
        (0, 40): ("Two", ["rich"]),
        (0, 73): ("Three", ["sine"]),
    }


@needs_fluidsynth
def test_rendered_notes_have_their_pitch_their_labels_and_their_groups(font, tmp_path):
    pytest.importorskip("fluidsynth", reason="optional extra `soundfont`")
    out = tmp_path / "notes"
    done = cli("render-soundfont", font, "--pitches", "57:63:3", "--gain", "0.5", "--out", out)
    assert done.returncode == 0, done.stderr
    notes = json.loads((out / "examples.json").read_text())
    assert len(notes) == 9 and "9 notes" in done.stdout
    for name, note in notes.items():
        assert set(KEYS) <= note.keys() and note["note_str"] == name
        audio, rate = soundfile.read(out / "audio" / f"{name}.flac", dtype="float32")
        assert rate == RATE and audio.shape == (16384,)
        measured = float(yin(torch.from_numpy(audio)[None], rate).midi)
        assert measured == pytest.approx(note["pitch"] + 0.044, abs=0.08)
        assert abs(audio[-1]) < 1e-3  # ends without a click
    groups = {n["preset_name"]: n["split_group"] for n in notes.values()}
    assert groups["One"] == groups["Three"] != groups["Two"]

    again = tmp_path / "again"
    cli("render-soundfont", font, "--pitches", "57:63:3", "--gain", "0.5", "--out", again)
    assert (again / "examples.json").read_bytes() == (out / "examples.json").read_bytes()

    named = tmp_path / "named"  # a second SoundFont, whose instruments must not pass for those of the first
    cli("render-soundfont", font, "--pitches", "60", "--gain", "0.5", "--name", "second", "--out", named)
    others = json.loads((named / "examples.json").read_text())
    assert len(others) == 3
    for name, note in others.items():
        assert (named / "audio" / f"{name}.flac").is_file() and name.startswith(note["instrument_str"])
        first = note["instrument_str"].removeprefix("second_")
        assert first in {n["instrument_str"] for n in notes.values()} and first != note["instrument_str"]
        assert note["split_group"].startswith("second_")


@needs_fluidsynth
def test_a_gain_that_clips_is_refused(font, tmp_path):
    pytest.importorskip("fluidsynth", reason="optional extra `soundfont`")
    line = one_line(cli("render-soundfont", font, "--pitches", "60", "--gain", "10", "--out", tmp_path / "out"))
    assert "clip at --gain 10" in line and not (tmp_path / "out").exists()


def test_mistakes(font, tmp_path):
    text = tmp_path / "text.sf2"
    text.write_text("no SoundFont")
    out = tmp_path / "out"
    assert "no such SoundFont" in one_line(cli("render-soundfont", tmp_path / "none.sf2", "--out", out))
    assert "not a SoundFont" in one_line(cli("render-soundfont", text, "--out", out))
    assert "--name '../up'" in one_line(cli("render-soundfont", font, "--name", "../up", "--out", out))
    assert "it has: 0, 40, 73" in one_line(cli("render-soundfont", font, "--programs", "5", "--out", out))
    short = ("render-soundfont", font, "--hold", "0.00001", "--duration", "0.00001", "--out", out)
    assert "shorter than a sample" in one_line(cli(*short))
    assert "8000 ... 96000" in one_line(cli("render-soundfont", font, "--sample-rate", "192000", "--out", out))
    assert not out.exists()


def test_without_the_system_library_the_mend_is_named(font, tmp_path):
    """A stand-in for pyfluidsynth that fails as the real one does where libfluidsynth is missing."""
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in" / "fluidsynth.py").write_text(
        'raise ImportError("Couldn\'t find the FluidSynth library.")\n'
    )
    env = {"PYTHONPATH": str(tmp_path / "stand-in")}
    line = one_line(cli_process("render-soundfont", font, "--pitches", "60", "--out", tmp_path / "out", env=env))
    assert "Couldn't find the FluidSynth library" in line and "apt install libfluidsynth3" in line
    assert not (tmp_path / "out").exists()


def test_a_loop_is_drawn_from_its_seed_and_begins_at_once():
    tempo, hits = draw_loop(np.random.default_rng(4), 2.0)
    assert (tempo, hits) == draw_loop(np.random.default_rng(4), 2.0)
    assert hits[0].seconds == 0 and TEMPO[0] <= tempo <= TEMPO[1]
    step = 60 / tempo / 4
    for hit in hits:
        assert hit.seconds < 2.0 and hit.seconds / step == pytest.approx(round(hit.seconds / step), abs=1e-6)
    counts = [len(draw_loop(np.random.default_rng(i), 2.0)[1]) for i in range(50)]
    assert min(counts) <= 5 and max(counts) >= 14


@needs_fluidsynth
def test_rendered_loops_have_as_many_onsets_as_their_labels_say(tmp_path):
    """Bursts at the hits of each label: the meter finds their rate."""
    t = np.arange(1200)
    burst = 0.8 * np.random.default_rng(0).standard_normal(1200).clip(-1, 1) * np.exp(-t / 150)
    font = tmp_path / "drums.sf2"
    write_sf2(font, {"burst": burst}, [(0, "Kit", "burst")], RATE, bank=128, loop=False)
    done = cli(
        "render-soundfont", font, "--drum-kits", "0,0", "--loops", "12", "--duration", "2.048", "--out", tmp_path / "l"
    )
    assert done.returncode == 0, done.stderr
    assert "12 loops" in done.stdout
    rows = [line.split(",") for line in (tmp_path / "l" / "labels.csv").read_text().splitlines()[1:]]
    audio = np.stack([soundfile.read(tmp_path / "l" / row[0], dtype="float32")[0] for row in rows])
    found = measure(torch.from_numpy(audio), RATE)["onset_rate"].numpy()
    true = np.array([int(row[3]) for row in rows]) / 2.048
    assert np.corrcoef(found, true)[0, 1] > 0.9
    assert np.median(np.abs(found - true)) < 0.8
    assert one_line(cli("render-soundfont", font, "--loops", "3", "--out", tmp_path / "m"))


def test_what_is_struck_has_a_name():
    """General MIDI: key 36 is a bass drum, 38 a snare, program 126 applause; what has a pitch is none of them."""
    named = {key: drum_of(0, key, drums=True) for key in range(27, 88)}
    assert named[36] == "kick" and named[38] == "snare" and named[42] == "hihat" and named[49] == "cymbal"
    assert all(named.values()) and sum(kind == "tom" for kind in named.values()) == 6
    assert drum_of(126, 60) == "effect" and drum_of(0, 60) is None
    assert drum_of(48, 45, drums=True) is None  # the orchestra's kit has kettledrums where others have toms


@needs_fluidsynth
def test_keys_of_drum_kits_are_instruments_that_are_one_where_they_share_a_sample(tmp_path):
    wave = 0.5 * np.sin(np.arange(2000) / 9)
    font = tmp_path / "kits.sf2"
    write_sf2(
        font, {"a": wave, "b": wave / 2}, [(0, "One", "a"), (8, "Two", "a"), (16, "Three", "b")], RATE, 128, False
    )
    out = tmp_path / "hits"
    done = cli(
        "render-soundfont", font, "--programs", "none", "--drum-kits", "0,8,16", "--pitches", "36,38", "--out", out
    )
    assert done.returncode == 0, done.stderr
    notes = json.loads((out / "examples.json").read_text())
    groups = {(n["program"], n["pitch"]): n["split_group"] for n in notes.values()}
    assert groups[0, 36] == groups[8, 36] == groups[0, 38] != groups[16, 36] == groups[16, 38]
    assert {n["drum_str"] for n in notes.values()} == {"kick", "snare"}
