"""Sounds of a model by the command line: conditions, keyboards, edits of several controls, morphs and transfers."""

import json
import re
from argparse import ArgumentTypeError
from typing import get_args

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, TINY, tone

from audio_vaegan.arguments import CONTROLS, keys, named_amount, number_or_range, pitch, pitch_or_range
from audio_vaegan.cli import build_parser, main
from audio_vaegan.config import ControlName
from audio_vaegan.control.directions import Direction
from audio_vaegan.control.fitted import Fitted, save_fitted
from audio_vaegan.descriptors import DESCRIPTORS, note_number
from audio_vaegan.keyboard import note_name, sfz
from audio_vaegan.models.bundle import Bundle, save_bundle
from audio_vaegan.models.controls import Control
from audio_vaegan.models.critic import ControlHeads
from audio_vaegan.models.vaegan import Normalisation, VaeGan
from audio_vaegan.recipe import load_recipe
from audio_vaegan.sound_model import SoundModel

THREE = (
    Control("pitch", "semitones (MIDI)", 48, 84, 60, 10, 36),
    Control("brightness", "semitones re 440 Hz", -20, 40, 12, 8, 20),
    Control("decay", "dB/s", -20, 400, 30, 40, 20, bend=50),
)


def bundle(folder, controls):
    """A model of some controls that no training has touched, with one direction."""
    torch.manual_seed(0)
    recipe = folder / "recipe.yaml"
    recipe.write_text(TINY)
    recipe = load_recipe(recipe, ["--model.controls", f"[{', '.join(c.name for c in controls)}]"])
    heads = ControlHeads(recipe.model, controls, recipe.mel.n_mels, recipe.mel.frames(recipe.data.clip_samples))
    digest = save_bundle(Bundle(recipe, VaeGan(recipe, controls, Normalisation(-8.0, 2.5)), heads), folder / "model")
    step = np.zeros(8 + len(controls))
    step[-1] = 2.0
    brass = Direction("brass", "joint", step, 0.0, 1.0, True, 0.9, 40)
    save_fitted(Fitted(digest, directions={"brass": brass}), folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return bundle(tmp_path_factory.mktemp("three"), THREE)


@pytest.fixture(scope="module")
def none(tmp_path_factory):
    return bundle(tmp_path_factory.mktemp("none"), ())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A short low tone, a longer high one, and noise."""
    folder = tmp_path_factory.mktemp("inputs")
    noise = 0.1 * np.random.default_rng(0).standard_normal(8192)
    sounds = {"low": tone(61, 0.3), "high": tone(68, 0.5, harmonics=2, decay=8), "noise": noise}
    sounds |= {"silent": np.zeros(4800), "late": np.concatenate([np.zeros(9000), noise])}
    for name, audio in sounds.items():
        soundfile.write(folder / f"{name}.wav", audio, RATE)
    return folder


@pytest.fixture
def say(capfd):
    """What a verb says that goes well."""

    def run(*words):
        assert main([*map(str, words)]) == 0, capfd.readouterr().err
        return capfd.readouterr().out

    return run


def strict(text):
    """JSON as the standard has it."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def rows_of(folder):
    rows = [strict(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        with soundfile.SoundFile(folder / row["file_name"]) as f:
            assert f.samplerate == RATE and "AI-generated" in f.comment and row["synthetic"] is True
    assert {p.name for p in folder.glob("*.wav")} == {row["file_name"] for row in rows}
    return rows


@pytest.fixture
def decoded(monkeypatch):
    """The latents of all that is decoded, in order."""
    kept, decode = [], SoundModel.decode

    def keep(model, sound, *how, **named):
        kept.append(sound)
        return decode(model, sound, *how, **named)

    monkeypatch.setattr(SoundModel, "decode", keep)
    return kept


# -- words


def test_every_control_has_its_flags_with_the_unit_of_its_descriptor():
    assert set(CONTROLS) == set(get_args(ControlName))
    assert {name: DESCRIPTORS[name].unit for name in CONTROLS} == CONTROLS
    verbs = next(a for a in build_parser()._actions if a.dest == "verb").choices
    for name, unit in CONTROLS.items():
        flag = name.replace("_", "-")
        text = " ".join(verbs["generate"].format_help().split())
        assert re.search(rf"--{flag} VALUE.*{re.escape(unit)}", text)
        text = " ".join(verbs["edit"].format_help().split())
        assert f"--{flag} AMOUNT" in text and re.search(rf"--set-{flag} VALUE.*{re.escape(unit)}", text)


def test_values_may_be_negative_numbers_and_ranges():
    assert [number_or_range(t) for t in ("60", "-5:15", "-1e-2")] == [60.0, (-5.0, 15.0), -0.01]
    assert named_amount("a=b=-1.5") == ("a=b", -1.5)
    words = "generate m --out o --attack -1e-1 -.5 --brightness -5:15 --onset_rate 2"
    args = build_parser().parse_args(words.split())
    assert args.attack == [-0.1, -0.5] and args.brightness == [(-5.0, 15.0)] and args.onset_rate == [2.0]


def test_notes_have_names():
    notes = "C4", "f#3", "Bb-1", "60.5", "C3:C5", "36:B♭2"
    assert [pitch_or_range(t) for t in notes] == [60.0, 54.0, 10.0, 60.5, (48.0, 72.0), (36.0, 46.0)]
    assert keys("C3:C4:4,B8") == (48, 52, 56, 60, 119) and pitch("A4") == 69.0
    for take, text in ((pitch, "C3:C5"), (pitch, "H4"), (pitch_or_range, "C"), (keys, "C44"), (keys, "G#9")):
        with pytest.raises(ArgumentTypeError, match=re.escape(text)):
            take(text)
    words = "edit m in.wav --set-pitch Eb4 --pitch -3 --input-pitch A4 --out o"
    args = build_parser().parse_args(words.split())
    assert (args.set_pitch, args.pitch, args.input_pitch) == (63.0, -3.0, 69.0)


def test_a_name_that_begins_with_a_dash_is_told_how_to_be_written(tmp_path, monkeypatch, mistake):
    (tmp_path / "-k.wav").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", words := ["audio-vaegan", "edit", "m", "-k.wav", "--pitch", "1", "--out", "x.wav"])
    assert "a name that begins with a dash is written ./-k.wav" in mistake(*words[1:])


# -- generate


def test_conditions_of_several_controls(tmp_path, three, say):
    words = ["generate", three, "--count", 12, "--pitch", 60, 72.5, "--brightness", "-5:15", "--truncation", 0.8]
    for name in ("a", "b"):
        assert "12 sounds" in say(*words, "--seed", 7, "--prior", "normal", "--out", tmp_path / name)
    rows = rows_of(tmp_path / "a")
    assert [r["pitch_requested"] for r in rows] == pytest.approx([60, 72.5] * 6)
    bright = [r["brightness_requested"] for r in rows]
    assert -5 <= min(bright) < 2 and 8 < max(bright) <= 15 and len(set(bright)) == 12
    assert all(-20 <= r["decay_requested"] <= 400 and r["decay_unit"] == "dB/s" for r in rows)
    assert rows[1]["file_name"] == "00001-pitch72.5.wav" and rows[0]["truncation"] == 0.8
    files = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert files == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}


def test_a_model_without_controls_generates_too(tmp_path, none, say):
    say("generate", none, "--count", 2, "--out", tmp_path / "x")
    assert [r["file_name"] for r in rows_of(tmp_path / "x")] == ["00000.wav", "00001.wav"]


# -- keyboard


def read_sfz(path):
    """Regions of an SFZ file as dictionaries, with what their group says."""
    text = "\n".join(line.split("//")[0] for line in path.read_text().splitlines())
    regions, shared = [], {}
    for header, body in re.findall(r"<(\w+)>([^<]*)", text):
        opcodes = dict(re.findall(r"(\w+)=(.*?)(?=\s+\w+=|\s*$)", body.strip(), flags=re.S))
        if header == "region":
            regions.append(shared | opcodes)
        else:
            shared = opcodes
    return regions


def covered(regions):
    return sorted(k for r in regions for k in range(int(r["lokey"]), int(r["hikey"]) + 1))


def test_a_keyboard_of_one_timbre(tmp_path, three, say, decoded):
    words = ["generate", three, "--keyboard", "59:62", "--seed", 3, "--brightness", 5]
    assert say(*words, "--out", tmp_path / "k").startswith("4 keys in")
    rows = rows_of(tmp_path / "k")
    assert [r["file_name"] for r in rows] == ["059-B3.wav", "060-C4.wav", "061-Db4.wav", "062-D4.wav"]
    assert [r["pitch_requested"] for r in rows] == [r["key"] for r in rows] == [59, 60, 61, 62]
    assert {r["brightness_requested"] for r in rows} == {5.0} and len({r["decay_requested"] for r in rows}) == 1
    sounds = [soundfile.read(tmp_path / "k" / r["file_name"])[0] for r in rows]
    assert all(len(s) == 8192 for s in sounds) and not np.array_equal(sounds[0], sounds[1])
    text = (tmp_path / "k" / "instrument.sfz").read_text()
    assert text.startswith("// AI-generated") and text.isascii()
    regions = read_sfz(tmp_path / "k" / "instrument.sfz")
    assert covered(regions) == [59, 60, 61, 62]
    for region, row in zip(regions, rows, strict=True):
        assert region["sample"] == row["file_name"] and int(region["pitch_keycenter"]) == row["key"]
        assert region["loop_mode"] == "no_loop"
    SoundModel.from_pretrained(three).sample(1, seed=3, pitch=61.0, brightness=5.0)
    first, keys, again = decoded
    assert torch.allclose(keys.z[2], again.z[0], atol=1e-5)  # the first sound of the seed, at another pitch
    assert torch.equal(keys.z[:, 1:], again.z[:, 1:].expand(4, -1)) and torch.equal(first.z[:, 1:], again.z[:, 1:])


def test_a_keyboard_like_a_sound(tmp_path, three, inputs, say):
    words = ["generate", three, "--keyboard", "60,64,67", "--decay", 50]
    said = say(*words, "--like", inputs / "low.wav", "--out", tmp_path / "k")
    rows = rows_of(tmp_path / "k")
    assert {r["decay_requested"] for r in rows} == {50.0} and rows[0]["seed"] is None
    assert soundfile.info(tmp_path / "k" / rows[0]["file_name"]).frames == 4800
    assert covered(read_sfz(tmp_path / "k" / "instrument.sfz")) == [*range(60, 68)] and "3 keys" in said
    own = SoundModel.from_pretrained(three).encode(inputs / "low.wav").controls["brightness"].item()
    assert [r["brightness_requested"] for r in rows] == pytest.approx([own] * 3, abs=1e-3)


def test_a_keyboard_of_the_trained_model(tmp_path, tiny_run, inputs, say):
    said = say("generate", tiny_run, "--keyboard", "60:69", "--like", inputs / "noise.wav", "--out", tmp_path / "k")
    assert "undefined for noise.wav: pitch" in said and len(rows_of(tmp_path / "k")) == 10
    assert covered(read_sfz(tmp_path / "k" / "instrument.sfz")) == [*range(60, 70)]


def test_every_key_between_the_ends_sounds_once(tmp_path):
    for ks in ([0], [127], [*range(128)], [*range(36, 85, 12)], [40, 41, 43, 50]):
        (tmp_path / "i.sfz").write_text(sfz(ks, [f"{k}.wav" for k in ks], "a\nb"))
        regions = read_sfz(tmp_path / "i.sfz")
        assert covered(regions) == [*range(ks[0], ks[-1] + 1)]
        for region, key in zip(regions, ks, strict=True):
            assert int(region["lokey"]) <= key <= int(region["hikey"])
    assert [note_name(k) for k in (0, 60, 61, 69, 127)] == ["C-1", "C4", "Db4", "A4", "G9"]
    assert all(note_number(note_name(k)) == k for k in range(128))


# -- edit


def test_several_changes_at_once(tmp_path, three, inputs, say):
    words = ["edit", three, inputs / "low.wav", "--out", tmp_path / "o.wav", "--input-pitch", 60, "--pitch", "+7"]
    said = say(*words, "--brightness", "-2", "--set-decay", 40, "--move", "brass=-0.5", "--closed-loop")
    assert "pitch: input 60.00, requested 67.00, measured" in said
    assert "decay: input" in said and "requested 40.00" in said and "dB/s" in said and "brass: moved by -0.5" in said
    number = r"(-?[\d.]+)"
    own, asked = re.search(rf"brightness: input {number}, requested {number}", said).groups()
    assert float(asked) == pytest.approx(float(own) - 2, abs=0.011)
    assert soundfile.info(tmp_path / "o.wav").frames == 4800


def test_an_undefined_control_is_said_and_can_be_set(tmp_path, three, inputs, say, mistake):
    words = ["edit", three, inputs / "noise.wav", "--out", tmp_path / "o.wav"]
    said = mistake(*words, "--pitch", 1)
    assert "pitch is undefined for this sound" in said
    assert said.endswith("; set it (--set-pitch), or say what it is (--input-pitch)")
    assert not list(tmp_path.iterdir())
    said = say(*words, "--set-brightness", 20)
    assert "note: undefined for noise.wav: pitch" in said and "pitch: input undefined, requested undefined" in said
    said = say(*words, "--set-pitch", 60, "--overwrite")
    assert "pitch: input undefined, requested 60.00, measured" in said


def test_a_move_changes_the_sound_and_nothing_asked_is_the_plain_reconstruction(tmp_path, three, inputs, say):
    words = ["edit", three, inputs / "low.wav", "--overwrite", "--out"]
    assert "plain reconstruction" in say(*words, tmp_path / "a.wav")
    assert "plain" not in say(*words, tmp_path / "b.wav", "--move", "brass=1")
    assert (tmp_path / "a.wav").read_bytes() != (tmp_path / "b.wav").read_bytes()


# -- morph


def test_a_morph_is_a_folder_of_steps(tmp_path, three, inputs, say, decoded):
    say("morph", three, inputs / "low.wav", inputs / "high.wav", "--steps", 5, "--sweep", "--out", tmp_path / "m")
    *rows, sweep = rows_of(tmp_path / "m")
    assert [r["file_name"] for r in rows] == [f"{i:02d}.wav" for i in range(5)]
    assert [r["share"] for r in rows] == [0, 0.25, 0.5, 0.75, 1]
    pitch = [r["pitch_requested"] for r in rows]
    assert np.diff(pitch) == pytest.approx([1.75] * 4, abs=0.05)
    frames = [soundfile.info(tmp_path / "m" / r["file_name"]).frames for r in rows]
    assert frames == [4800, 5600, 6400, 7200, 8000]
    assert sweep["file_name"] == "sweep.wav" and sweep["share"] is None and sweep["pitch_requested"] is None
    whole = soundfile.read(tmp_path / "m" / "sweep.wav")[0]
    assert sum(frames) - 4 * 960 <= len(whole) <= sum(frames) - 4 * 800
    model = SoundModel.from_pretrained(three)
    low, high = (model.encode(inputs / f"{name}.wav") for name in ("low", "high"))
    assert torch.equal(decoded[0].z[[0, 4]], torch.cat([low.z, high.z]))  # the ends are the plain reconstructions


def test_a_morph_into_noise_keeps_its_rows_json(tmp_path, tiny_run, inputs, say):
    words = ["morph", tiny_run, inputs / "low.wav", inputs / "noise.wav", "--steps", 13]
    said = say(*words, "--out", tmp_path / "m")
    assert "undefined for noise.wav: pitch" in said and "13 sounds" in said
    undefined = [r["pitch_requested"] is None for r in rows_of(tmp_path / "m")]
    assert undefined == [False] * 6 + [True] * 7


# -- transfer


def test_a_transfer_says_what_came_from_where(tmp_path, three, inputs, say):
    low, high = inputs / "low.wav", inputs / "high.wav"
    said = say("transfer", three, high, low, "--out", tmp_path / "o.wav")
    assert re.search(r"^pitch: 6[01]\.\d\d of low.wav, measured .* semitones \(MIDI\)$", said, flags=re.M)
    assert re.search(r"^brightness: .* of high.wav", said, flags=re.M) and "decay: " in said
    assert soundfile.info(tmp_path / "o.wav").frames == 4800 and "AI-generated" in said


# -- mistakes


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("generate THREE --out x --brightness 41", "trained range -20 ... 40"),
        ("generate THREE --out x --brightness 0:41", "trained range -20 ... 40"),
        ("generate THREE --out x --brightness nan:5", "must be a number"),
        ("generate THREE --out x --brightness 9:5", "9:5"),
        ("generate THREE --out x --brightness 5:9 10", "one range LOW:HIGH"),
        ("generate THREE --out x --brightness 1:2:3", "two ends"),
        ("generate THREE --out x --brightness soft", "expected a number, or a range"),
        ("generate THREE --out x --noisiness 1", "Known: pitch, brightness, decay"),
        ("generate THREE --out x --truncation 3", "0 ... 2"),
        ("generate THREE --out x --truncation nan", "0 ... 2"),
        ("generate THREE --out x --prior gauss", "invalid choice"),
        ("generate THREE --out x --prior fitted", "no fitted prior"),
        ("generate THREE --out x --like low.wav", "--like goes with --keyboard"),
        ("generate THREE --out x --keyboard 40:60", "--keyboard: pitch 40 lies outside the trained range 48 ... 84"),
        ("generate THREE --out x --keyboard 60:200", "0 ... 127"),
        ("generate THREE --out x --keyboard H4", "expected MIDI numbers"),
        ("generate THREE --out x --keyboard 60:62 --count 4", "give one of the two"),
        ("generate THREE --out x --keyboard 60:62 --pitch 60", "give one of the two"),
        ("generate THREE --out x --keyboard 60:62 --normalize", "use --loudness -20 (LUFS)"),
        ("generate THREE --out x --keyboard 60:62 --like silent.wav", "silent.wav: silent"),
        ("generate THREE --out x --keyboard 60:62 --decay 1 2", "all keys share one value"),
        ("generate THREE --out x --keyboard 60:62 --like nowhere.wav", "nowhere.wav"),
        ("generate NONE --out x --keyboard 60:62", "without control of pitch"),
        ("edit THREE low.wav --out x.wav --noisiness 3", "Known: pitch, brightness, decay"),
        ("edit THREE low.wav --out x.wav --set-brightness 99", "trained range -20 ... 40"),
        ("edit THREE low.wav --out x.wav --brightness nan", "must be a number"),
        ("edit THREE low.wav --out x.wav --pitch 1 --set-pitch 60", "not both"),
        ("edit THREE low.wav --out x.wav --pitch 60", ", and is moved by 60; to set it to 60: --set-pitch 60)"),
        ("edit THREE low.wav --out x.wav --pitch 40", ", and is moved by 40)"),
        ("edit THREE silent.wav --out x.wav --pitch +7", "silent.wav: silent"),
        ("edit THREE late.wav --out x.wav", "late.wav: silent in its first 0.512 s, which are used"),
        ("edit THREE low.wav --out x.wav --move brass", "NAME=AMOUNT"),
        ("edit THREE low.wav --out x.wav --move brass=nan", "NAME=AMOUNT"),
        ("edit THREE low.wav --out x.wav --move brass=9", "-1 ... 1"),
        ("edit THREE low.wav --out x.wav --move bras=1", "Did you mean 'brass'"),
        ("edit THREE low.wav --out x.wav --move brass=1 brass=1", "twice"),
        ("edit THREE low.wav --out x.wav --input-pitch 200", "0 ... 127"),
        ("morph THREE low.wav high.wav --out x --steps 1", "2 ... 1000"),
        ("morph THREE low.wav high.wav --out x --steps 1001", "2 ... 1000"),
        ("morph THREE low.wav nowhere.wav --out x", "nowhere.wav"),
        ("morph THREE low.wav silent.wav --out x", "silent.wav: silent"),
        ("morph nowhere low.wav high.wav --out x", "not a model"),
        ("transfer THREE low.wav nowhere.wav --out x.wav", "nowhere.wav"),
        ("transfer THREE low.wav silent.wav --out x.wav", "silent.wav: silent"),
        ("transfer THREE silent.wav low.wav --out x.wav", "silent.wav: silent"),
        ("transfer THREE low.wav high.wav --out x.mp3", "ends in .wav"),
        ("transfer THREE low.wav high.wav --out low.wav", "that is the input"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(tmp_path, three, none, inputs, mistake, words, says):
    places = {"THREE": three, "NONE": none, **{p.name: p for p in inputs.iterdir()}}
    places |= {name: tmp_path / name for name in ("x", "x.wav", "x.mp3", "nowhere.wav", "nowhere")}
    before = (inputs / "low.wav").read_bytes()
    assert says in mistake(*(places.get(word, word) for word in words.split()))
    assert not list(tmp_path.iterdir()) and (inputs / "low.wav").read_bytes() == before
