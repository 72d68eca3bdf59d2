import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, tone
from test_evaluation import Links

from audio_vaegan.cli import main
from audio_vaegan.config import MEL_PRESETS, MelConfig, VocoderConfig
from audio_vaegan.data.store import Store
from audio_vaegan.descriptors import yin
from audio_vaegan.evaluation.distances import log_spectral_distance
from audio_vaegan.evaluation.pictures import spectrogram, spectrogram_grid
from audio_vaegan.evaluation.pitch import _one, mean_interval, refine
from audio_vaegan.evaluation.vocoder import (
    describe,
    distances,
    evaluate_vocoder,
    griffin_lim,
    held,
    write_report,
)
from audio_vaegan.mel import Mel
from audio_vaegan.models.bundle import Bundle, save_bundle
from audio_vaegan.models.controls import Control
from audio_vaegan.models.critic import ControlHeads
from audio_vaegan.models.vaegan import Normalisation, VaeGan
from audio_vaegan.models.vocoder import TrainedVocoder, save_vocoder
from audio_vaegan.models.vocoder.network import VocoderNetwork
from audio_vaegan.recipe import load_recipe
from audio_vaegan.vocode import copies

SMALL = MelConfig(sample_rate=8000, n_fft=512, win_length=512, hop_length=128, n_mels=64, f_max=4000.0)
TINY = VocoderConfig(width=8, blocks=1, kernel=3)


def untrained(mel, about=None):
    torch.manual_seed(0)
    return TrainedVocoder(VocoderNetwork(mel, TINY), "untrained", about)


class Ear:
    """Measures pitch in this process, by another meter than the judge, refined alike."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def measure(self, audio, sample_rate, name="", fine=False):
        assert fine and not name
        rough = yin(torch.from_numpy(audio), sample_rate).midi.double().numpy()
        return np.array([refine(a, sample_rate, m) for a, m in zip(audio, rough, strict=True)])


class Perfect:
    """Knows the clips of a store by their mels."""

    name, hash = "perfect", ""

    def __init__(self, store):
        self.config = store.mel
        self.audio = torch.from_numpy(store.read(np.arange(len(store))))
        self.mels = Mel(store.mel)(self.audio).flatten(1)

    def __call__(self, log_mel, samples):
        return self.audio[torch.cdist(log_mel.flatten(1), self.mels).argmin(dim=1), :samples]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("audio_vaegan.evaluation.vocoder.BATCH", 4)  # of the passes that are timed


@pytest.fixture(scope="module")
def store(tiny_store):
    return Store(tiny_store)


@pytest.fixture(scope="module")
def vocoder_file(store, tmp_path_factory):
    """An untrained vocoder for the tiny store, said to be trained on it."""
    path = tmp_path_factory.mktemp("vocoder") / "tiny.safetensors"
    save_vocoder(untrained(store.mel, {"store": store.content_hash}), path)
    return path


@pytest.fixture(scope="module")
def preset_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocoder") / "notes.safetensors"
    save_vocoder(untrained(MEL_PRESETS["notes-16k-128"]), path)
    return path


@pytest.fixture
def model(tiny_recipe, tmp_path):
    """An untrained model with the tiny store's mel."""
    recipe = load_recipe(tiny_recipe, [])
    pitch = Control("pitch", "semitone", 60.0, 69.0, 64.5, 3.0, 8)
    heads = ControlHeads(recipe.model, [pitch], recipe.mel.n_mels, recipe.mel.frames(recipe.data.clip_samples))
    save_bundle(Bundle(recipe, VaeGan(recipe, [pitch], Normalisation(-8.0, 2.5)), heads), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def sound(tmp_path):
    """A stereo file at another rate than the mel's: 445 Hz on the left, the same softer on the right."""
    left = tone(69 + 12 * np.log2(445 / 440), 0.7, rate=22050)
    soundfile.write(tmp_path / "in.wav", np.stack([left, 0.5 * left], axis=1), 22050)
    return tmp_path / "in.wav"


# distances


def test_distances_are_zero_for_the_same_sound_and_rise_with_noise():
    clip = torch.from_numpy(tone(60, 0.5))[None]
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((1, clip.shape[1]))).float()
    found = [distances(clip + gain * noise, clip) for gain in (0, 1e-3, 1e-2, 1e-1)]
    for key in ("stft", "lsd"):
        values = [float(f[key][0]) for f in found]
        assert values[0] == 0 and values == sorted(set(values)), (key, values)


def test_half_the_amplitude_is_six_decibels_and_what_lies_below_the_floor_is_none():
    noise = torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))
    assert log_spectral_distance(0.5 * noise, noise).numpy() == pytest.approx(20 * np.log10(2), abs=1e-3)
    faint = 1e-6 * noise
    assert log_spectral_distance(0.5 * faint, faint).abs().max() == 0
    silent_half = torch.cat([noise[:, :4000], torch.zeros(3, 4000)], dim=1)
    assert (log_spectral_distance(0.5 * silent_half, silent_half) < 4).all()


def test_distances_are_of_each_clip_whatever_lies_beside_it_and_however_short():
    a, b = torch.randn(2, 2, 300, generator=torch.Generator().manual_seed(0)).unbind(0)
    both = distances(a, b)
    for i in range(2):
        alone = distances(a[i : i + 1], b[i : i + 1])
        assert {k: float(v[0]) for k, v in alone.items()} == pytest.approx({k: float(v[i]) for k, v in both.items()})
    assert both["stft"][0] != both["stft"][1]


# the refined pitch


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("shape", [{"harmonics": 1}, {"harmonics": 12}, {"harmonics": 8, "decay": 6.0}])
def test_refining_finds_the_pitch_of_a_tone_to_a_cent(rate, shape):
    rng = np.random.default_rng(0)
    for midi in (33.04, 45.12, 60.017, 84.33, 98.5):
        clip = tone(midi, 0.8, rate=rate, **shape)
        noisy = (clip + 0.005 * rng.standard_normal(len(clip))).astype(np.float32)
        for off in (-0.45, -0.05, 0.3):
            assert refine(clip, rate, midi + off) == pytest.approx(midi, abs=0.005)
            assert refine(noisy, rate, midi + off) == pytest.approx(midi, abs=0.015)


def test_refining_does_not_reach_beyond_sixty_cents():
    for midi in (40, 60, 80):
        clip = tone(midi, 0.8)
        for wrong in (midi + 1, midi - 1, midi + 0.7):
            assert refine(clip, RATE, wrong) == wrong  # neither to the tone, nor to a side lobe, nor to a harmonic
        assert abs(refine(clip, RATE, midi + 6.7) - midi - 6.7) <= 0.6
    noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    assert abs(refine(noise, RATE, 60.0) - 60) <= 0.6


def test_refining_nothing_finds_nothing():
    assert np.isnan(refine(tone(60), RATE, np.nan))
    assert refine(np.zeros(8000, dtype=np.float32), RATE, 60.0) == 60
    assert refine(tone(60, 0.001), RATE, 30.0) == 30  # too short to see anything


def test_the_judge_refines_if_asked():
    clip = tone(60.45, 0.6)
    assert abs(_one((clip, RATE, False)) - 60.45) > 0.01  # its grid has tenths of a semitone
    assert _one((clip, RATE, True)) == pytest.approx(60.45, abs=0.005)
    assert np.isnan(_one((0 * clip, RATE, True)))


def test_intervals_are_over_groups():
    values = np.array([0.0, 0.0, 0.0, 4.0])
    assert mean_interval(values, ["a", "a", "a", "b"]) == {"mean": 1.0, "low": 0.0, "high": 4.0}
    one = mean_interval(values, ["a"] * 4)
    assert one["low"] == one["high"] == 1.0


# evaluate-vocoder


def test_evaluate_vocoder_writes_its_report(vocoder_file, tiny_store, store, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("audio_vaegan.evaluation.pitch.Judge", Ear)  # whose processes take seconds to start
    out = tmp_path / "report"
    words = ["evaluate-vocoder", vocoder_file, "--store", tiny_store, "--clips", 4, "--out", out]
    assert main([*map(str, words)]) == 0
    printed = capfd.readouterr().out
    figures = json.loads((out / "report.json").read_text())
    assert figures["clips"] == 4 and figures["store"] == store.content_hash and figures["notes"] == []
    for method in ("vocoder", "griffin_lim"):
        row = figures[method]
        assert row["pitch"]["n"] == figures["measurable"] == 4  # all real clips are tones
        for key in ("stft", "lsd", "mel_l1"):
            assert 0 < row[key]["low"] <= row[key]["mean"] <= row[key]["high"]
        assert row["times_real_time"] > 0
    own = figures["vocoder"]
    assert own["file_bytes"] == vocoder_file.stat().st_size and own["giga_multiply_adds"] > 0
    assert own["parameters"] == sum(p.numel() for p in untrained(store.mel).parameters())
    assert figures["faster"] == pytest.approx(own["times_real_time"] / figures["griffin_lim"]["times_real_time"])
    page = (out / "report.html").read_text()
    links = Links()
    links.feed(page)
    sounds = [f for f in links.found if not f.startswith("data:image/png")]
    assert sum(f.startswith("data:image/png") for f in links.found) == 3
    assert sorted(sounds) == sorted(f"audio/{p.name}" for p in (out / "audio").iterdir()) and len(sounds) == 9
    for file in sounds:
        with soundfile.SoundFile(out / file) as f:
            assert f.frames == store.clip_samples
            assert ("AI-generated" in f.comment) == ("real" not in file)
    assert own["hash"][:12] in page and own["hash"][:12] in printed and "griffin-lim" in printed
    assert printed.rstrip().endswith(f"report: {out / 'report.html'}")


def test_a_perfect_vocoder_beats_griffin_lim_and_batches_do_not_matter(store, tmp_path):
    rows = held(store, "held-out", 6)
    figures, values = evaluate_vocoder(Perfect(store), store, "held-out", rows, Ear(), passes=1)
    own, other = figures["vocoder"], figures["griffin_lim"]
    for key in ("stft", "lsd", "mel_l1"):
        assert own[key] == {"mean": 0, "low": 0, "high": 0} and other[key]["low"] > 0.05
        assert figures["closer"][key] == 100
    assert own["pitch"]["median"] == 0 and other["pitch"]["median"] > 0.01
    assert own["pitch"]["within"] == 100 and own["pitch"]["n"] == 6
    text = describe(figures)
    assert "perfect" in text and "within 50 cents" in text and "100.0 % of the clips by stft" in text

    again, same = evaluate_vocoder(Perfect(store), store, "held-out", rows, Ear(), batch=4, passes=1)
    for key in ("stft", "lsd", "mel_l1", "pitch"):
        assert same["griffin_lim"][key] == pytest.approx(values["griffin_lim"][key], rel=1e-3, abs=1e-3)
    assert again["griffin_lim"]["pitch"] == pytest.approx(other["pitch"], abs=0.1)

    page = write_report(figures, values, Perfect(store), store, rows[:1].repeat(6), tmp_path / "one")
    assert page.is_file() and "G multiply-adds" in page.read_text()


def test_clips_without_a_pitch_are_left_out_and_counted(store):
    class Deaf(Ear):
        def measure(self, *words, **options):
            found = super().measure(*words, **options)
            n = len(found) // 3
            found[0] = np.nan  # the first real clip has none
            found[n + 1] = np.nan  # the copy of the second has lost it
            return found

    rows = held(store, "all", 4)
    figures, _ = evaluate_vocoder(Perfect(store), store, "all", rows, Deaf(), passes=1)
    pitch = figures["vocoder"]["pitch"]
    assert figures["measurable"] == pitch["n"] == 3 and pitch["unmeasurable"] == pytest.approx(100 / 3)
    assert pitch["within"] == pytest.approx(200 / 3) and figures["griffin_lim"]["pitch"]["unmeasurable"] == 0
    assert "of the 3 whose real clip has one (1 left out)" in describe(figures)


def test_which_clips(store, vocoder_file):
    test = [i for i, s in enumerate(store.column("split")) if s != "train"]
    assert held(store, "held-out").tolist() == test and 0 < len(test) < len(store)
    assert held(store, "all").tolist() == list(range(len(store)))
    some = held(store, "all", 5)
    assert some[0] == 0 and some[-1] == len(store) - 1 and len(set(np.diff(some))) <= 2
    known = untrained(store.mel, {"store": store.content_hash})
    seen = [
        evaluate_vocoder(vocoder, store, split, some[:1], Ear(), passes=1)[0]["notes"]
        for vocoder, split in ((known, "all"), (known, "held-out"), (untrained(store.mel), "all"))
    ]
    assert len(seen[0]) == 1 and "trained on" in seen[0][0] and seen[1:] == [[], []]


def test_mistakes_of_evaluate_vocoder_are_one_line(mistake, vocoder_file, preset_file, tiny_store, store, tmp_path):
    out = tmp_path / "report"
    rest = ("--store", tiny_store, "--out", out)
    assert "nothing to compare" in mistake("evaluate-vocoder", *rest)  # auto, and there is none for this mel
    assert "a run of train_vocoder.py" in mistake("evaluate-vocoder", "griffin-lim", *rest)
    assert "n_mels: 128 != 32" in mistake("evaluate-vocoder", preset_file, *rest)
    assert "no such file" in mistake("evaluate-vocoder", "nowhere.safetensors", *rest)
    assert "--clips must be at least 1" in mistake("evaluate-vocoder", vocoder_file, *rest, "--clips", 0)
    assert "--split" in mistake("evaluate-vocoder", vocoder_file, *rest, "--split", "test")
    assert "not a store" in mistake("evaluate-vocoder", vocoder_file, "--store", tmp_path, "--out", out)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("x")
    assert "did not write" in mistake("evaluate-vocoder", vocoder_file, *rest, "--overwrite")


def test_spectrograms_have_decibels_of_a_sinusoid():
    t = np.arange(RATE) / RATE
    image = spectrogram((0.1 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32))
    assert image.shape == (1025, RATE // 256 + 1)
    middle = image[:, 30]
    assert middle.argmax() == 128 and middle.max() == pytest.approx(-20, abs=0.05)  # 1000 Hz * 2048 / 16000
    assert spectrogram_grid([[0 * tone(60), tone(60)]], ["a", "b$x$"], ["r"], RATE).startswith(b"\x89PNG")


# vocode


@pytest.mark.parametrize("samples", [1, 255, 256, 1023, 12345])
def test_the_copy_has_as_many_samples_as_were_read(samples, preset_file, tmp_path, capfd):
    soundfile.write(tmp_path / "in.wav", tone(60, 1.0)[:samples], RATE)
    out = tmp_path / "out.wav"
    assert main(["vocode", str(tmp_path / "in.wav"), "--out", str(out), "--vocoder", str(preset_file)]) == 0
    with soundfile.SoundFile(out) as f:
        assert (f.frames, f.samplerate, f.channels) == (samples, RATE, 1) and "AI-generated" in f.comment
    printed = capfd.readouterr().out
    assert "vocoder untrained" in printed and f"written: {out}" in printed and "lsd" in printed


@pytest.mark.parametrize("kind", ["network", "griffin-lim"])
def test_a_tone_of_445_hz_is_copied_at_445_hz(kind, preset_file, sound, tmp_path):
    out = tmp_path / "out.wav"
    name = preset_file if kind == "network" else kind
    assert main(["vocode", str(sound), "--out", str(out), "--vocoder", str(name)]) == 0
    copy, rate = soundfile.read(out, dtype="float32")
    assert (rate, len(copy)) == (RATE, round(0.7 * RATE))
    asked = 69 + 12 * np.log2(445 / 440)
    assert abs(refine(copy, RATE, asked + 0.3) - asked) < {"network": 0.15, "griffin-lim": 0.05}[kind]
    assert 0.3 < np.abs(copy).max() / 0.375 < 1.7  # the mean of both channels


def test_silence_stays_digital_silence(preset_file, tmp_path):
    soundfile.write(tmp_path / "in.wav", np.zeros(9000, dtype=np.float32), RATE)
    out = tmp_path / "out.wav"
    assert main(["vocode", str(tmp_path / "in.wav"), "--out", str(out), "--vocoder", str(preset_file)]) == 0
    assert not soundfile.read(out, dtype="int16")[0].any()
    words = ["vocode", str(tmp_path / "in.wav"), "--out", str(out), "--vocoder", "griffin-lim", "--overwrite"]
    assert main(words) == 0
    assert np.abs(soundfile.read(out, dtype="int16")[0]).max() <= 2  # it takes the mel's floor for faint sound


def test_the_mel_and_the_vocoder_may_be_a_models(model, vocoder_file, sound, tmp_path, capfd):
    words = ["vocode", str(sound), "--out", str(tmp_path / "out.wav"), "--overwrite", "--model", str(model)]
    assert main(words) == 0
    assert "vocoder griffin-lim:" in capfd.readouterr().out
    assert main([*words, "--vocoder", str(vocoder_file)]) == 0  # which has the tiny store's mel
    assert "vocoder untrained" in capfd.readouterr().out
    (model / "vocoder.safetensors").write_bytes(vocoder_file.read_bytes())
    assert main(words) == 0
    assert "vocoder untrained" in capfd.readouterr().out


def blocks_of(audio, size=5000):
    return (audio[i : i + size] for i in range(0, len(audio), size))


@pytest.mark.parametrize("midi", [57.45, 63.21, 72.3])  # whose phases would not meet by themselves
def test_a_long_sound_has_no_click_where_stretches_meet(midi):
    rate = SMALL.sample_rate
    audio = tone(midi, 70, rate=rate, harmonics=3)[:-7]
    pieces = list(copies(blocks_of(audio), untrained(SMALL)))
    assert len(pieces) == 3
    assert np.array_equal(np.concatenate([real for real, _ in pieces]), audio)
    assert all(len(real) == len(copy) for real, copy in pieces)
    copy = np.concatenate([copy for _, copy in pieces])
    bend = np.abs(np.diff(copy, 2))
    level = np.sqrt(np.square(copy[: len(copy) // 160 * 160]).reshape(-1, 160).mean(axis=1))  # 20 ms
    for seam in (29.5, 58.5):  # 30 s, one of them shared
        near, far = (slice(round(rate * a), round(rate * b)) for a, b in ((seam - 1, seam + 1), (5, 25)))
        assert bend[near].max() < 1.05 * bend[far].max()
        here, there = level[near.start // 160 : near.stop // 160], level[far.start // 160 : far.stop // 160]
        assert here.min() > 0.97 * there.min() and here.max() < 1.03 * there.max()


def test_stretches_share_what_they_should_whatever_the_blocks():
    """A vocoder that gives back what it hears: the copy is the sound, over every seam and at its end."""

    class Echo:
        name, hash, config = "echo", "", SMALL

        def __call__(self, log_mel, samples):
            self.asked.append(samples)
            got = torch.from_numpy(self.audio[self.at : self.at + samples])
            self.at += self.step
            return torch.nn.functional.pad(got, (0, samples - len(got)))[None]

    rng = np.random.default_rng(0)
    overlap = 8000
    for length in (1, 7999, 24000, 24001, 40000, 59999):
        audio = (0.1 * rng.standard_normal(length)).astype(np.float32)
        echo = Echo()
        echo.audio, echo.at, echo.step, echo.asked = audio, 0, 24000 - overlap, []
        pieces = list(copies(blocks_of(audio, 7001), echo, stretch=3.0))
        copy = np.concatenate([c for _, c in pieces])
        assert np.abs(copy - audio).max() < 1e-6 and len(copy) == length
        assert len(pieces) == max(1, -(-(length - overlap) // 16000)) and max(echo.asked) <= 24000 + 256


def test_mistakes_of_vocode_are_one_line(mistake, sound, preset_file, vocoder_file, model, tmp_path):
    out = tmp_path / "out.wav"
    assert "ends in .wav" in mistake("vocode", sound, "--out", tmp_path / "out.mp3")
    assert "never written over" in mistake("vocode", sound, "--out", sound, "--overwrite")
    (tmp_path / "d.wav").mkdir()
    assert "a folder of that name" in mistake("vocode", sound, "--out", tmp_path / "d.wav")
    assert "there is no folder" in mistake("vocode", sound, "--out", tmp_path / "no" / "out.wav")
    assert "give one of the two" in mistake("vocode", sound, "--out", out, "--model", model, "--mel", "x")
    assert "Did you mean 'notes-16k-128'?" in mistake("vocode", sound, "--out", out, "--mel", "notes-16k-12")
    preset = ("--mel", "notes-16k-128")
    assert "n_mels: 32 != 128" in mistake("vocode", sound, "--out", out, "--vocoder", vocoder_file, *preset)
    assert "not a model" in mistake("vocode", sound, "--out", out, "--model", tmp_path)
    assert "missing.wav: no such file" in mistake("vocode", tmp_path / "missing.wav", "--out", out)
    (tmp_path / "bad.wav").write_bytes(b"no sound at all")
    assert "bad.wav: cannot be decoded" in mistake("vocode", tmp_path / "bad.wav", "--out", out)
    soundfile.write(tmp_path / "nan.wav", np.full(2000, np.nan, dtype=np.float32), RATE, subtype="FLOAT")
    assert "NaN" in mistake("vocode", tmp_path / "nan.wav", "--out", out, "--vocoder", preset_file)
    assert not out.exists()
    out.write_bytes(b"mine")
    assert "add --overwrite" in mistake("vocode", sound, "--out", out)
    assert out.read_bytes() == b"mine"


def test_griffin_lim_is_no_vocoder_to_compare(store):
    assert griffin_lim(untrained(store.mel), store).iterations == 64
