"""The model that comes with the package: there, small enough, and true to what is asked of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, cli, one_line, tone

from audio_vaegan.audio import write_recording
from audio_vaegan.descriptors import pyin
from audio_vaegan.descriptors.judge_controls import judge_control
from audio_vaegan.edits import edit_file, morph_files
from audio_vaegan.errors import UserError
from audio_vaegan.generate import write_sounds
from audio_vaegan.keyboard import keyboard
from audio_vaegan.models.bundle import PACKAGED, packaged_models
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.address import address_of, latent_of, parse_address
from audio_vaegan.sound_model.compressing import decompress
from audio_vaegan.sound_model.decoding import below

NOTES = Path("notes16k")


@pytest.fixture(scope="module")
def model():
    return SoundModel.from_pretrained("notes16k")


def test_it_is_small_with_its_vocoder_and_controls(model):
    assert set(packaged_models()) == {"drums16k", "notes16k"}
    files = [*(PACKAGED / "notes16k").iterdir(), PACKAGED / "notes-16k-128.safetensors"]
    assert sum(f.stat().st_size for f in files) <= 16e6
    assert model.vocoder.name == "vocoder16k" and model.prior is not None
    assert set(model.fitted.controls) == set(model.controls)
    assert all(c.n > 20 and c.p50 is not None for c in model.fitted.controls.values())


def test_samples_sound_at_the_pitch_that_is_asked(model):
    """The lowest octave, whose harmonics the mel hardly resolves, is not in this; README has its figure."""
    asked = np.linspace(36, 96, 24)
    clip = model.sample(24, seed=5, pitch=asked, closed_loop=True)
    found = np.array([pyin(a, 16000) for a in clip.audio.numpy()])
    assert (np.abs(found - asked) < 0.5).mean() >= 0.85


def test_instruments_that_it_never_heard_follow_several_controls_at_once(model):
    files = sorted((ROOT / "recipes" / "notes" / "audio").glob("*-060-100.flac"))[::5]
    one = [model.encode(f, pitch=60.0) for f in files]
    for sound in one:
        up = model.edit(sound, shift={"pitch": 5.0, "loudness": -4.0}, closed_loop=True)
        assert pyin(up.audio[0].numpy(), 16000) == pytest.approx(65, abs=0.5)
        assert float(up.residual["loudness"]) == pytest.approx(0, abs=1.5)
    assert len(one) >= 5 and torch.equal(model.edit(one[0]).audio, model.decode(one[0]).audio)


def test_a_note_darker_than_its_fundamental_is_no_rumble(tmp_path):
    """Asked for a centroid below the fundamental, the model raised what lies below it by 17 dB."""
    file = ROOT / "recipes" / "notes" / "audio" / "bass_synthetic_013-067-100.flac"
    done = cli("edit", "notes16k", file, "--pitch", "+7", "--brightness", "-5", "--out", tmp_path / "out.wav")
    assert "brightness set to 5.0" in done.stdout and "(missed)" not in done.stdout.split("loudness")[0]
    assert pyin(soundfile.read(tmp_path / "out.wav", dtype="float32")[0], 16000) == pytest.approx(74, abs=0.3)


def test_no_key_of_a_keyboard_is_darker_than_its_fundamental(model, tmp_path):
    file = ROOT / "recipes" / "notes" / "audio" / "bass_synthetic_013-067-100.flac"
    done = cli("generate", "notes16k", "--keyboard", "74,79", "--like", file, "--out", tmp_path / "keys")
    assert done.returncode == 0, done.stderr
    for line in (tmp_path / "keys" / "metadata.jsonl").read_text().splitlines():
        told = json.loads(line)
        assert told["brightness_requested"] >= told["key"] - 69.1
        audio = soundfile.read(tmp_path / "keys" / told["file_name"], dtype="float32")[0]
        assert pyin(audio, 16000) == pytest.approx(told["key"], abs=0.5)


def test_a_sound_darker_than_all_that_the_model_knows_is_moved_as_before(tmp_path):
    """Its brightness is no range's business where it was not asked for."""
    soundfile.write(tmp_path / "bass.wav", tone(33, 1.0, harmonics=1, decay=3), 16000)
    done = cli("edit", "notes16k", tmp_path / "bass.wav", "--pitch", "+2", "--out", tmp_path / "out.wav")
    assert done.returncode == 0, done.stderr
    words = ("--keyboard", "30,37", "--like", tmp_path / "bass.wav")
    done = cli("generate", "notes16k", *words, "--out", tmp_path / "keys")
    assert done.returncode == 0, done.stderr


def test_a_model_of_the_package_stays_as_it_is(tiny_store):
    before = {f: f.read_bytes() for f in (PACKAGED / "notes16k").iterdir()}
    for verb in (["fit-controls"], ["directions", "--pca", "1"]):
        line = one_line(cli(verb[0], "notes16k", *verb[1:], "--store", tiny_store))
        assert "stays as it is; copy " in line
    assert before == {f: f.read_bytes() for f in (PACKAGED / "notes16k").iterdir()}


def test_what_a_model_can_be_asked_is_told():
    said = cli("inspect", "notes16k").stdout
    assert "--pitch: 22.00 to 98.00 semitones" in said and "brass (0.00 to 1.00)" in said
    assert "--class (drum_str): cymbal" in cli("inspect", "drums16k").stdout
    assert "for stores" in one_line(cli("inspect", "notes16k", "--verify"))


@pytest.mark.parametrize("more", [(), ("--normalize",)])
def test_no_sound_is_clipped_and_names_tell_classes(tmp_path, more):
    words = ("--class", "kick", "hand drum", "--count", 4, "--loudness", -18)
    done = cli("generate", "drums16k", *words, *more, "--out", tmp_path / "out")
    assert ("turned down to a peak of -1 dBFS" in done.stdout) != bool(more)
    rows = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert [r["file_name"] for r in rows] == [f"0000{k}-{('kick', 'hand_drum')[k % 2]}.wav" for k in range(4)]
    peaks = np.array([np.abs(soundfile.read(tmp_path / "out" / r["file_name"])[0]).max() for r in rows])
    moved = peaks if more else peaks[[r["gain_db"] < 0 for r in rows]]
    assert len(moved) and moved == pytest.approx(10 ** (-1 / 20), abs=1e-3) and peaks.max() < 1


def test_no_file_begins_or_ends_in_a_step(tmp_path):
    """Of README's first eight sounds one began at 0.37 of its peak."""
    done = cli("generate", "notes16k", "--count", 8, "--pitch", 60, "--normalize", "--out", tmp_path / "first")
    assert done.returncode == 0, done.stderr
    for file in (tmp_path / "first").glob("*.wav"):
        audio = np.abs(soundfile.read(file)[0])
        assert max(audio[0], audio[-1]) < 0.01 * audio.max() and audio[:5].max() < 0.2 * audio.max()


def test_every_file_is_made_again_by_its_tag(model, tmp_path):
    """Of a draw, a change, a step of a morph, a key; the change is of a sound shorter than a clip."""
    write_sounds(NOTES, tmp_path / "new", {"pitch": [60], "noisiness": [-20]}, count=2, normalize=True)
    first, second = sorted((tmp_path / "new").glob("*.wav"))
    write_recording(short := tmp_path / "short.wav", soundfile.read(first)[0][:9000], 16000)
    edit_file(NOTES, short, tmp_path / "edit.wav", shift={"pitch": 3.0})
    morph_files(NOTES, first, second, tmp_path / "way", steps=3)
    keyboard(NOTES, tmp_path / "keys", [60, 61], {})
    made = [*tmp_path.glob("new/*.wav"), *tmp_path.glob("way/*.wav"), *tmp_path.glob("keys/*.wav")]
    for file in (*made, tmp_path / "edit.wav"):
        was = soundfile.read(file)[0]
        again = model.recall(soundfile.SoundFile(file).comment).audio[0].numpy()
        assert len(was) == len(again) == (9000 if file.name == "edit.wav" else 16384)
        assert np.abs(was).max() > 1e-3 > 10 * np.abs(was[-1]) and was == pytest.approx(again, abs=1e-4)
    for rows in tmp_path.glob("*/metadata.jsonl"):
        for line in map(json.loads, rows.read_text().splitlines()):
            assert line["address"] in soundfile.SoundFile(rows.parent / line["file_name"]).comment


def test_an_edit_that_is_too_loud_for_a_file_is_turned_down(model, tmp_path):
    write_sounds(NOTES, tmp_path / "new", {"pitch": [60]}, count=1, normalize=True)
    (sound,) = (tmp_path / "new").glob("*.wav")
    said = edit_file(NOTES, sound, out := tmp_path / "edit.wav", to={"pitch": 76.0})
    audio = soundfile.read(out)[0]
    assert "too loud for a file: turned down by" in said and np.abs(audio).max() == pytest.approx(
        10 ** (-1 / 20), abs=1e-4
    )
    assert audio == pytest.approx(model.recall(soundfile.SoundFile(out).comment).audio[0].numpy(), abs=1e-3)


def test_keys_that_are_too_loud_for_a_file_are_turned_down_alike(model, tmp_path):
    time = np.arange(16000) / 16000
    saw = sum(np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 12)) * np.exp(-2 * time)
    saw *= np.minimum(time / 0.05, 1)
    soundfile.write(tmp_path / "saw.wav", 0.9 * saw / np.abs(saw).max(), 16000)
    said = keyboard(NOTES, out := tmp_path / "keys", [*range(57, 64)], {}, like=tmp_path / "saw.wav")
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    (gain,) = {r["gain_db"] for r in rows}
    peaks = [np.abs(soundfile.read(out / r["file_name"])[0]).max() for r in rows]
    assert gain < 0 and max(peaks) == pytest.approx(10 ** (-1 / 20), abs=1e-3) and min(peaks) < 0.8
    assert any(f"all keys were turned down by {-gain:.1f} dB, to a peak of -1 dBFS" in line for line in said)
    assert all(f"gain={gain}" in r["address"] for r in rows)
    assert keyboard(NOTES, tmp_path / "soft", [60], {"loudness": [-40]}) == []
    assert json.loads((tmp_path / "soft" / "metadata.jsonl").read_text())["gain_db"] == 0


def test_noise_follows_wherever_a_sound_came_from(model):
    """Encoded, opened by its address (as the page does), unpacked, found by a restoration, drawn and recalled."""
    file = ROOT / "recipes" / "notes" / "audio" / "flute_acoustic_022-059-100.flac"
    encoded, audio = model.encode(file), model.heard(file)
    drawn = model.sample(1, seed=3, pitch=60.0)
    places = address_of(model, encoded), address_of(model, drawn.sound())
    opened = [latent_of(model, parse_address(a, model.controls)) for a in places]
    unpacked = decompress(model, model.compress(audio[: model.clip_samples], 16))[1]
    restored = model.restore(audio, gaps=[(0.4, 0.45)])[1]
    recalled = model.recall(places[1])
    for sound in (encoded, *opened, unpacked, restored, recalled.sound()):
        for noise in (-10.0, 0.0):
            assert float(model.edit(sound, set={"noisiness": noise}).achieved["noisiness"]) == pytest.approx(
                noise, abs=1
            )
    again = model.recall(address_of(model, model.sample(1, seed=3, pitch=60, noisiness=-5.0).sound()))
    apart = model.decode(again.sound()).audio - again.audio
    assert apart[:, 16:-80].abs().max() < 1e-4  # its latents are the sound's; the first ms and the last 5 are faded


def test_a_sound_recalled_at_another_rate_is_edited_whole(model):
    place = address_of(model, model.sample(1, seed=3, pitch=60.0).sound())
    for rate in (8000, 44100):
        assert model.recall(f"{place},rate={rate}").sound().samples.tolist() == [16384]
    assert model.recall(f"{place},samples=9000,rate=44100").sound().samples.tolist() == [9000]


def test_the_closed_loop_works_in_inference_mode():
    with torch.inference_mode():
        model = SoundModel.from_pretrained(NOTES)
        made = model.sample(1, pitch=60.0, brightness=10.0, closed_loop=True).sound()
        model.restore(torch.zeros(16000), gaps=[(0.3, 0.4)])
        assert float(model.edit(made, shift={"pitch": 3.0}, closed_loop=True).achieved["pitch"]) == pytest.approx(
            63, abs=0.5
        )


@pytest.fixture(scope="module")
def drums():
    return SoundModel.from_pretrained("drums16k")


def test_the_drums_are_small_and_share_the_vocoder(model, drums):
    assert sum(f.stat().st_size for f in (PACKAGED / "drums16k").iterdir()) <= 8e6
    assert drums.vocoder.hash == model.vocoder.hash and drums.prior is not None and drums.fitted.usual is not None
    assert "pitch" not in drums.controls and set(drums.controls["drum_str"].classes) >= {
        "kick",
        "snare",
        "hihat",
        "tom",
    }


def test_drums_are_of_the_kind_that_is_asked(drums):
    """A bass drum is darker than a snare, a snare a little darker than a hi-hat, by the judge's meter."""
    kinds = ("kick", "snare", "hihat")
    middle = {}
    for kind in kinds:
        audio = drums.sample(12, seed=2, drum_str=[kind] * 12).audio.numpy()
        assert np.abs(audio).max(axis=1).min() > 0.003  # none is silent
        found = np.array([judge_control("brightness", a, 16000) for a in audio])
        middle[kind] = np.nanmedian(found)
    assert middle["kick"] + 12 < middle["snare"] < middle["hihat"] - 2


@pytest.mark.parametrize("seconds", [0.03, 0.1, 0.35, 0.8])
def test_a_hit_is_as_loud_as_its_file(drums, seconds):
    """Set in the mel alone, which knows of no end, those shorter than a block of the meter came 2 to 10 dB too loud."""
    time = torch.arange(round(seconds * 16000)) / 16000
    noise = 0.1 * torch.randn(2, len(time), generator=torch.Generator().manual_seed(0))
    thud = 0.3 * torch.sin(2 * torch.pi * 180 * time)
    hits = torch.cat([noise, thud.unsqueeze(0)]) * torch.exp(-3 * time / seconds)
    sound = drums.encode(hits)
    for edited in (drums.edit(sound), drums.edit(sound, shift={"loudness": -3.0})):
        heard = drums.measure(edited.audio[:, : len(time)], sound.samples)["loudness"]
        torch.testing.assert_close(heard, edited.requested["loudness"], atol=0.1, rtol=0)


def test_samples_are_as_loud_as_asked_alone_or_among_others(model, drums):
    for one in (model, drums):
        clip = one.sample(5, seed=3, loudness=[-40.0, -35.0, -30.0, -25.0, -20.0], limit=False)
        heard = one.measure(clip.audio)["loudness"]
        torch.testing.assert_close(heard, torch.tensor([-40.0, -35.0, -30.0, -25.0, -20.0]), atol=0.02, rtol=0)
        alone = one.sample(1, first=4, seed=3, loudness=-20.0, limit=False)
        torch.testing.assert_close(alone.audio[0], clip.audio[4], atol=1e-5, rtol=1e-4)


def test_no_drum_whistles_at_the_edge_of_the_band(model, drums):
    """Real hits have nothing above 7.4 kHz that is louder than all else; of the samples one in twelve had, before no
    band might rise farther above the others than in training."""
    spectrum = torch.stft(drums.sample(100, seed=1).audio, 512, 128, window=torch.hann_window(512), return_complex=True)
    loudest = spectrum.abs().square().mean(dim=2).argmax(dim=1) * (16000 / 512)
    assert (loudest > 7400).float().mean() <= 0.02
    assert drums.fitted.ceiling is not None and drums.fitted.ceiling.shape == (128,)
    assert model.fitted.ceiling is None  # partials lie wherever they are asked for


def test_a_ceiling_holds_down_what_rises_above_it_and_nothing_else():
    mel = torch.zeros(1, 4, 3)
    mel[0, 3] = torch.tensor([8.0, 0.0, -8.0])  # 6 above the mean of the first frame, 6 below that of the last
    held = below(np.array([9.0, 9.0, 9.0, 2.0]), mel)
    np.testing.assert_array_equal(held[0, 3], [4.0, 0.0, -8.0])
    assert torch.equal(held[0, :3], mel[0, :3]) and below(None, mel) is mel


def test_both_know_how_usual_sounds_score(model, drums):
    for one in (model, drums):
        assert set(one.fitted.usual.names) == {"reconstruction", "latent", "features"}


def test_a_name_that_is_none_names_the_ones_there_are(tmp_path):
    with pytest.raises(UserError, match="one of the package's: drums16k, notes16k"):
        SoundModel.from_pretrained("notes17k")
    assert "notes16k" in one_line(cli("generate", "notes17k", "--out", tmp_path / "a"))
