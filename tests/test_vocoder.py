"""The vocoder that is trained here: physics of its network, its file, its contract, its training."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import RATE, ROOT, cli, one_line, ranks, run, tone, trainer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from audio_vaegan import losses
from audio_vaegan.config import MEL_PRESETS, MelConfig, Recipe, VocoderConfig
from audio_vaegan.data.batches import positions
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.mel import Mel
from audio_vaegan.models.bundle import load_bundle
from audio_vaegan.models.vocoder import (
    GriffinLim,
    TrainedVocoder,
    load_vocoder,
    multiply_adds,
    open_vocoder,
    packaged,
    save_vocoder,
)
from audio_vaegan.models.vocoder.discriminators import VocoderDiscriminator
from audio_vaegan.models.vocoder.istft import full_window, inverse_stft
from audio_vaegan.models.vocoder.network import VocoderNetwork
from audio_vaegan.models.vocoder.phase import bin_advance, lock_phases, nearest_peaks, wrap
from audio_vaegan.models.vocoder.saved import HEADER
from audio_vaegan.recipe import load_recipe
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.training.accelerator import make_accelerator
from audio_vaegan.training.vaegan import VaeGanTask
from audio_vaegan.training.vocoder import VocoderTask
from audio_vaegan.training.vocoder_feed import Reconstructions

TINY = VocoderConfig(width=16, blocks=2, windows=(512, 256), disc_windows=(256,), disc_channels=(4, 8))
MELS = {
    **MEL_PRESETS,
    "power 2, log10": MelConfig(power=2, log="log10", floor=1e-8),
    "short window": MelConfig(win_length=800, hop_length=200, n_mels=80, f_max=7600.0),
}


def network(mel: MelConfig = MelConfig(), size: VocoderConfig = TINY, seed: int = 0) -> VocoderNetwork:  # noqa: B008
    torch.manual_seed(seed)
    return VocoderNetwork(mel, size).eval()


def shaken(mel: MelConfig = MelConfig(), seed: int = 0) -> VocoderNetwork:  # noqa: B008
    """A network whose weights are far from where they start."""
    net = network(mel, seed=seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return net


@torch.no_grad()
def copy(net: VocoderNetwork, audio: torch.Tensor) -> torch.Tensor:
    return net.synthesise(Mel(net.config)(audio), audio.shape[1])


def loudest(audio: torch.Tensor, rate: int = RATE) -> float:
    """Frequency in Hz of the strongest partial of one clip, between bins by a parabola."""
    spectrum = (audio * torch.hann_window(len(audio))).double()
    power = torch.fft.rfft(spectrum, 8 * len(audio)).abs().log()
    k = int(power.argmax())
    a, b, c = power[k - 1 : k + 2].tolist()
    return (k + 0.5 * (a - c) / (a - 2 * b + c)) * rate / (8 * len(audio))


# --- inverse STFT ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MELS)
def test_the_inverse_of_the_stft_is_the_clip(name):
    """From the complex spectrum of a mel, for both paddings and a window shorter than the FFT: the samples again."""
    c = MELS[name]
    mel = Mel(c)
    audio = torch.randn(2, 40 * c.hop_length, generator=torch.Generator().manual_seed(1))
    back = inverse_stft(mel.spectrum(audio).transpose(1, 2), full_window(mel.window, c.n_fft), c, audio.shape[1])
    assert back.shape == audio.shape
    assert torch.allclose(back, audio, atol=2e-4)


# --- phases ---------------------------------------------------------------------------------------------------------


def nearest(magnitude):
    """The bin of the peak that every bin follows."""
    peaks = nearest_peaks(magnitude, 2)
    return (peaks.place[peaks.owner] % magnitude.shape[-1]).view(magnitude.shape)


def test_every_bin_follows_the_nearest_peak_of_its_own_frame():
    g = torch.Generator().manual_seed(1)
    magnitude = torch.rand(3, 40, 33, generator=g)
    magnitude[0, 5] = torch.linspace(1, 0, 33)  # one peak at the lower end, one at the upper
    magnitude[0, 6] = torch.linspace(0, 1, 33)
    found = nearest(magnitude)
    for frame, own in zip(magnitude.flatten(0, 1), found.flatten(0, 1), strict=True):
        peaks = [k for k in range(33) if frame[k] >= frame[max(0, k - 2) : k + 3].max()]
        assert own.tolist() == [min(peaks, key=lambda p, k=k: (abs(p - k), p)) for k in range(33)]
    magnitude[0, 0], magnitude[1, 7] = torch.nan, torch.nan  # frames without peaks leave the others alone
    again = nearest(magnitude)
    assert again.min() >= 0 and again.max() < 33
    fine = ~magnitude.isnan().any(dim=-1)
    assert torch.equal(again[fine], found[fine])
    nothing = torch.full((1, 2, 9), torch.nan)
    assert lock_phases(nothing, nearest_peaks(nothing, 2)).isnan().any()


def test_locked_phases_are_what_a_loop_over_frames_finds():
    g = torch.Generator().manual_seed(3)
    advance = 20 * torch.rand(2, 37, 50, generator=g) - 10
    magnitude = torch.rand(2, 37, 50, generator=g)
    peaks, bins = nearest_peaks(magnitude, 2), nearest(magnitude)
    phase = torch.zeros(2, 50)
    for t in range(37):
        phase = (phase + advance[:, t]).gather(-1, bins[:, t])
        assert wrap(lock_phases(advance, peaks)[:, t] - phase).abs().max() < 1e-4


def test_the_nearest_peak_is_the_loudest_bin_around():
    bins = torch.arange(30)
    magnitude = torch.maximum(2 * 0.5 ** (bins - 5).abs(), 3 * 0.5 ** (bins - 20).abs())[None, None]
    assert nearest(magnitude)[0, 0].tolist() == [5] * 13 + [20] * 17  # bin 12 lies 7 from the one and 8 from the other


def test_the_advance_of_a_sinusoid_costs_nothing_and_a_wrong_one_its_error():
    c = MelConfig()
    hz = 1234.5
    audio = torch.sin(2 * torch.pi * hz * torch.arange(16384) / RATE)[None]
    spectrum = Mel(c).spectrum(audio).transpose(1, 2)
    centre = bin_advance(c.n_fft, c.hop_length)
    right = wrap(torch.tensor(2 * np.pi * hz * c.hop_length / RATE) - centre).expand(1, 64, -1)
    # The first and last frames hold the onset and the end, whose phases move otherwise.
    inner = slice(4, 60)
    assert losses.advance_error(right[:, inner], spectrum[:, inner], centre) < 0.01
    off = losses.advance_error(right[:, inner] + 0.5, spectrum[:, inner], centre)
    assert off == pytest.approx(0.5, abs=0.02)
    around = losses.advance_error(right[:, inner] + 2 * torch.pi, spectrum[:, inner], centre)
    assert around < 0.01


# --- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hz", [187.3, 445.3, 671.9, 913.0])
def test_a_steady_tone_keeps_its_frequency_untrained(hz):
    """445.3 Hz is no multiple of 62.5 Hz, the rate of the frames: what repeats its frames cannot make it. Untrained,
    the network knows a frequency to the nearest bin, 15.6 Hz apart, where bands are not much wider than that."""
    t = torch.arange(16384) / RATE
    made = copy(network(), 0.5 * torch.sin(2 * torch.pi * hz * t)[None])[0]
    assert abs(loudest(made[2048:-2048]) - hz) < 8.5


def test_a_frequency_that_is_written_is_what_sounds():
    """With the advance of a frequency between two bins, the tone has that frequency, exactly."""
    net = network()
    hz = 445.3
    wanted = wrap(torch.tensor(2 * np.pi * hz * 256 / RATE) - net.centre)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.zero_()
        net.head.bias[513:1026] = wanted / 3
    t = torch.arange(16384) / RATE
    made = copy(net, 0.5 * torch.sin(2 * torch.pi * hz * t)[None])[0]
    assert loudest(made[2048:-2048]) == pytest.approx(hz, abs=0.05)


@pytest.mark.parametrize("name", MELS)
def test_silence_stays_silent_whatever_the_weights(name):
    c = MELS[name]
    audio = torch.zeros(1, 32 * c.hop_length)
    assert copy(shaken(c), audio).abs().max() == 0.0


@pytest.mark.parametrize("gain", [1e-3, 1.0, 10.0])
def test_the_silence_after_a_sound_is_silent_at_any_gain(gain):
    audio = torch.zeros(1, 16384)
    audio[0, :4096] = torch.from_numpy(gain * tone(60, 4096 / RATE))
    made = copy(shaken(), audio)
    assert made[0, :4096].abs().max() > 0
    assert made[0, 4096 + 1024 :].abs().max() == 0.0


@pytest.mark.parametrize("name", MELS)
@pytest.mark.parametrize("more", [0, 1, 100])
def test_as_many_samples_come_out_as_are_asked_for(name, more):
    c = MELS[name]
    samples = 20 * c.hop_length + more
    net = network(c)
    audio = torch.randn(2, samples)
    with torch.no_grad():
        made = net.synthesise(Mel(c)(audio), samples)
        assert net(Mel(c)(audio), samples).audio.shape == made.shape
    assert made.shape == (2, samples)
    assert torch.isfinite(made).all()


def test_a_clip_is_the_same_alone_and_among_others():
    net = network()
    audio = torch.from_numpy(np.stack([tone(p, 0.512) for p in (48, 60, 72)]))
    assert torch.allclose(copy(net, audio)[1], copy(net, audio[1:2])[0], atol=1e-4)


def test_every_part_of_the_network_learns_and_downhill():
    """A step along the gradient lowers each loss: a sign that is wrong anywhere on the way would raise it."""
    audio = torch.from_numpy(np.stack([tone(p, 0.512, decay=4) for p in (50, 61)]))
    for loss in ("stft", "mel", "frequency"):
        net = network().train()
        mel = net.mel(audio)

        def value(net=net, mel=mel, loss=loss):
            out = net(mel, audio.shape[1])
            if loss == "stft":
                return losses.stft_distance(out.audio, audio, [(512, 128, 512), (256, 64, 256)])
            if loss == "mel":
                return (net.mel(out.audio) - mel).abs().mean()
            return losses.advance_error(out.advance, net.mel.spectrum(audio).transpose(1, 2), net.centre)

        before = value()
        before.backward()
        missing = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()]
        assert not missing
        size = sum(float(p.grad.square().sum()) for p in net.parameters())
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.002 * float(before) / size * p.grad
        assert float(value().detach()) < float(before.detach())


def test_sizes_and_their_cost():
    names = ("small", "base", "fast")
    small, base, fast = (Recipe.model_validate({"vocoder": size}).vocoder for size in names)
    counts = [sum(p.numel() for p in VocoderNetwork(MelConfig(), s).parameters()) for s in (small, base, fast)]
    assert 3.0e6 < counts[0] < 4.0e6 and 12e6 < counts[1] < 15e6 and 0.8e6 < counts[2] < 1.0e6
    net = network(size=small)
    cost = multiply_adds(net)
    assert cost <= 0.3e9
    # Every weight is used once a frame, 62.5 times a second, and of the mel basis, there and back, less than half.
    parts = [part for banded in (net.bands, net.spread, net.pseudo_inverse) for part in banded.parts]
    banded = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in parts)
    assert banded < 1.5 * 513 * 128
    assert cost == pytest.approx(62.5 * (counts[0] + banded), rel=0.02)


# --- discriminators -------------------------------------------------------------------------------------------------


def test_discriminators_see_every_resolution_and_period():
    config = VocoderConfig(disc_windows=(1024, 512, 256), disc_channels=(4, 8, 16), disc_periods=(2, 3))
    judge = VocoderDiscriminator(config)
    scores, features = judge(torch.randn(2, 4096))
    assert len(scores) == 5 and len(features) == 5 * 2
    assert all(s.shape[0] == 2 and s.shape[1] == 1 for s in scores)
    assert not [name for name, b in judge.named_buffers() if not name.endswith("window")]  # nothing that DDP must share


def test_a_discriminator_sees_phase():
    """Two clips of one magnitude spectrum, one of them turned by a quarter: different images."""
    judge = VocoderDiscriminator(VocoderConfig(disc_windows=(256,))).judges[0]
    t = torch.arange(4096) / RATE
    a, b = judge.image(torch.sin(2 * torch.pi * 1000 * t)[None]), judge.image(torch.cos(2 * torch.pi * 1000 * t)[None])
    inner = (slice(None), slice(None), slice(None), slice(4, -4))
    assert torch.allclose(a.square().sum(1)[..., 4:-4], b.square().sum(1)[..., 4:-4], atol=1e-2)
    assert (a[inner] - b[inner]).abs().max() > 0.5


# --- losses ---------------------------------------------------------------------------------------------------------


def test_the_clamped_hinge_stops_at_what_passes_for_real():
    assert losses.clamped_generator_loss([torch.tensor([-1.0, 0.0, 1.0, 5.0])]) == pytest.approx((2 + 1 + 0 + 0) / 4)


def test_the_stft_distance_is_zero_only_for_the_same_sound():
    x = torch.from_numpy(tone(60))[None]
    sizes = [(512, 128, 512)]
    assert losses.stft_distance(x, x, sizes) == 0
    half = losses.stft_distance(0.5 * x, x, sizes)
    # Half the amplitude: convergence 1/2, and ln 2 wherever the real magnitude and its half lie above the floor.
    assert 0.5 < half <= 0.5 + np.log(2) + 1e-6
    assert losses.stft_distance(torch.zeros_like(x), torch.zeros_like(x), sizes) == 0
    noisy = [losses.stft_distance(x + s * torch.randn_like(x), x, sizes) for s in (1e-3, 1e-2)]
    assert 0 < noisy[0] < noisy[1]


# --- file and contract ----------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "v.safetensors"
    save_vocoder(TrainedVocoder(shaken(), "mine", {"steps": 3}), path)
    return path


def test_a_saved_vocoder_is_the_same_vocoder(file, tmp_path):
    audio = torch.from_numpy(tone(60, 0.512))[None]
    mel = Mel(MelConfig())(audio)
    original, again = TrainedVocoder(shaken()), load_vocoder(file)
    assert torch.equal(original(mel, 8192), again(mel, 8192))
    assert (again.name, again.about) == ("mine", {"steps": 3})
    assert again.config == MelConfig()
    assert save_vocoder(again, tmp_path / "again.safetensors") == again.hash
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_half_precision_takes_half_the_space_and_says_the_same(file, tmp_path):
    half = tmp_path / "half.safetensors"
    save_vocoder(load_vocoder(file), half, half=True)
    assert half.stat().st_size < 0.6 * file.stat().st_size
    audio = torch.from_numpy(tone(60, 0.512))[None]
    mel = Mel(MelConfig())(audio)
    assert losses.stft_distance(load_vocoder(half)(mel, 8192), load_vocoder(file)(mel, 8192), [(512, 128, 512)]) < 0.5


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-100]), "damaged vocoder"),
        (lambda p: p.write_bytes(b""), "damaged vocoder"),
        (lambda p: save_file(load_file(p), p), "not a vocoder of this program"),
        (lambda p: p.unlink(), "no such file"),
        (lambda p: _replace(p, b"16000", b"22050"), "(the hash differs)"),
        (lambda p: _replace(p, b'blocks\\": 2', b'blocks\\": 3'), "missing or unknown"),
        (lambda p: _with(p, header=lambda h: h["network"].update(width=8192)), "smaller than the network"),
        (lambda p: _with(p, header=lambda h: h.update(version=9)), "a vocoder of version 9"),
        (lambda p: _with(p, header=lambda h: h.pop("mel")), "damaged vocoder"),
        (lambda p: _replace(p, b'{\\"version\\": 1', b"[" * 15), "damaged vocoder"),
        (lambda p: _with(p, lambda t: t["head.bias"].fill_(np.nan)), "NaN"),
        (lambda p: _with(p, lambda t: t["head.bias"].add_(1)), "the hash differs"),
    ],
)
def test_a_damaged_file_is_one_line(file, damage, says):
    damage(file)
    with pytest.raises(UserError) as error:
        load_vocoder(file)
    assert says in str(error.value) and str(file) in str(error.value) and "\n" not in str(error.value)


def _replace(path, old, new):
    data = path.read_bytes()
    assert old in data and len(old) == len(new)
    path.write_bytes(data.replace(old, new, 1))


def _with(path, tensors=lambda t: None, header=lambda h: None):
    """The same file with other tensors or another header, and the old hash."""
    with safe_open(path, framework="pt") as f:
        about = json.loads(f.metadata()[HEADER])
    values = load_file(path)
    tensors(values)
    header(about)
    save_file(values, path, {HEADER: json.dumps(about)})


def test_a_vocoder_for_another_mel_is_refused_by_every_field(file):
    other = MelConfig(hop_length=128, f_min=0.0)
    with pytest.raises(UserError) as error:
        open_vocoder(str(file), other)
    text = str(error.value)
    assert "hop_length: 256 != 128" in text and "f_min: 20.0 != 0.0" in text and "n_mels" not in text
    assert "\n" not in text


def test_which_vocoder_is_taken(file, tmp_path):
    mel = MelConfig()
    assert isinstance(open_vocoder("griffin-lim", mel), GriffinLim)
    assert open_vocoder(str(file), mel).hash == load_vocoder(file).hash
    assert open_vocoder("auto", mel).hash == load_vocoder(packaged()["notes-16k-128"]).hash
    assert isinstance(open_vocoder("auto", MelConfig(f_min=0.0)), GriffinLim)  # none fits that mel
    (tmp_path / "bundle").mkdir()
    file.rename(tmp_path / "bundle" / "vocoder.safetensors")
    own = open_vocoder("auto", mel, beside=tmp_path / "bundle")  # a model's own goes before the package's
    assert own.name == "mine"
    assert open_vocoder(str(tmp_path), mel).hash == own.hash  # a run folder
    with pytest.raises(UserError, match=r"grifin-lim: no such file.*griffin-lim"):
        open_vocoder("grifin-lim", mel)


def test_the_packaged_vocoder_is_small_and_says_where_it_comes_from():
    path = packaged()["notes-16k-128"]
    assert path.stat().st_size <= 8_000_000
    vocoder = load_vocoder(path)
    assert vocoder.config == MEL_PRESETS["notes-16k-128"]
    assert vocoder.about["giga_multiply_adds_per_second"] <= 0.3
    recipe = load_recipe(ROOT / "recipes" / "vocoder16k.yaml")
    assert vocoder.name == recipe.name and vocoder.about["steps"] > 0
    assert vocoder.about["training_clips"] > 5000 and vocoder.about["store"]


# --- what it sounds like --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled():
    """Notes of the package, which share no sample with what its vocoder was trained on, and their copies."""
    import soundfile

    folder = ROOT / "recipes" / "notes" / "audio"
    files = sorted(folder.glob("*.flac"))[::40]
    audio = torch.from_numpy(np.stack([soundfile.read(f, dtype="float32")[0][:16384] for f in files]))
    mel = Mel(MelConfig())(audio)
    return audio, open_vocoder("auto", MelConfig())(mel, 16384), GriffinLim(MelConfig())(mel, 16384)


def test_the_packaged_vocoder_is_closer_than_griffin_lim(bundled):
    real, ours, theirs = bundled
    sizes = [(1024, 120, 600), (2048, 240, 1200), (512, 50, 240)]
    assert losses.stft_distance(ours, real, sizes) < losses.stft_distance(theirs, real, sizes)


def test_the_packaged_vocoder_keeps_pitch(bundled):
    from audio_vaegan.descriptors import pyin

    real, ours, _ = bundled
    errors = [abs(pyin(a.numpy(), RATE) - pyin(b.numpy(), RATE)) * 100 for a, b in zip(real, ours, strict=True)]
    errors = [e for e in errors if np.isfinite(e)]
    assert len(errors) > 15
    assert np.median(errors) <= 10 and max(errors) < 50  # the meter's grid is 10 cents


def test_no_stripes(bundled):
    """Transposed convolutions, and networks that repeat their frames, leave lines at fixed frequencies, whatever the
    sound: multiples of the frame rate, 62.5 Hz. Averaged over clips whose partials lie elsewhere, those bins are no
    louder than their neighbours."""
    real, ours, _ = bundled

    def stripes(audio):
        power = torch.fft.rfft(audio * torch.hann_window(16384)).abs().clamp_min(1e-4).log().mean(dim=0)
        comb = torch.arange(1, 120) * 64  # 62.5 Hz is 64 bins of 16,384 samples
        around = torch.stack([power[comb + d] for d in (-24, -20, -16, 16, 20, 24)]).mean(dim=0)
        return float((power[comb] - around).mean())

    assert stripes(ours) - stripes(real) < 0.15  # nats: 1.3 dB
    repeated = ours[:, 4096 : 4096 + 256].repeat(1, 64)
    assert stripes(repeated) > 1  # what repeats its frames is found out


def test_quiet_bands_come_as_loud_as_they_are(bundled):
    """Just above the mel's floor, as tails and weak partials lie. (They came half a nat too soft once.)"""
    real, ours, _ = bundled
    mel, floor = Mel(MelConfig()), np.log(MelConfig().floor)
    before, after = mel(real), mel(ours)
    for low, high in ((1.5, 2), (2, 5)):
        quiet = (before > floor + np.log(low)) & (before < floor + np.log(high))
        assert quiet.float().mean() > 0.02 and abs(float((after - before)[quiet].mean())) < 0.15


def test_no_tones_in_silence(bundled):
    vocoder = open_vocoder("auto", MelConfig())
    audio = torch.zeros(1, 16384)
    audio[0, :3000] = torch.from_numpy(tone(64, 3000 / RATE, decay=10))
    made = vocoder(Mel(MelConfig())(audio), 16384)
    assert made[0, 3000 + 1024 :].abs().max() == 0.0
    assert vocoder(Mel(MelConfig())(torch.zeros(1, 16384)), 16384).abs().max() == 0.0


@pytest.mark.parametrize("level", [-60, -40, -20])
def test_no_tones_in_noise(level):
    """The loudest of the 8,000 bins of a second of steady noise lies about three times above their root mean square."""
    noise = 10 ** (level / 20) * torch.randn(1, 16384, generator=torch.Generator().manual_seed(0))
    made = open_vocoder("auto", MelConfig())(Mel(MelConfig())(noise), 16384)

    def line(audio):
        spectrum = torch.fft.rfft(audio * torch.hann_window(16384)).abs()[0, 100:-100]
        return float(spectrum.max() / spectrum.square().mean().sqrt())

    assert line(noise) < 3.5
    assert line(made) < 6
    assert float(made.square().mean() / noise.square().mean()) == pytest.approx(1, abs=0.3)


# --- training -------------------------------------------------------------------------------------------------------

RECIPE = """
name: tiny-vocoder
seed: 1
mel: {preset: notes-16k-128, n_mels: 32}
data: {clip_samples: 8192}
vocoder:
  {width: 16, blocks: 2, windows: [512, 256], disc_windows: [256, 128], disc_channels: [4, 8], adversarial_start: 0.4,
   silence: 0.3}
augment: {gain_db: 12, shift: 0.2, semitones: 2}
train: {steps: 10, batch_size: 8, checkpoint_every: 5, log_every: 1, warmup_steps: 2}
"""
SCRIPT = ROOT / "recipes" / "train_vocoder.py"


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocoder") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def train(*words, env=None):
    return trainer(*words, script="train_vocoder", env=env)


@pytest.fixture(scope="module")
def vocoder_run(tmp_path_factory, recipe_file, tiny_store):
    out = tmp_path_factory.mktemp("run") / "run"
    done = train("--recipe", recipe_file, "--store", tiny_store, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def make_task(recipe_file, tiny_store, *overrides):
    recipe = load_recipe(recipe_file, [*overrides, "--train.weight_decay", "0", "--train.warmup_steps", "0"])
    return VocoderTask(recipe, Store(tiny_store), make_accelerator(recipe))


def test_training_writes_a_vocoder_metrics_and_samples(vocoder_run):
    vocoder = load_vocoder(vocoder_run / "bundle" / "vocoder.safetensors")
    assert vocoder.about["steps"] == 10 and vocoder.about["training_clips"] > 0
    records = [json.loads(line) for line in (vocoder_run / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == list(range(1, 11))
    assert {"stft", "mel", "frequency", "grad_g"} <= records[0].keys()
    assert "adversarial" not in records[3] and "disc" not in records[3]  # until 0.4 of ten steps the judges rest
    assert {"adversarial", "feature", "disc", "ranking", "grad_d"} <= records[4].keys()
    assert {"val_stft", "val_mel"} <= records[4].keys()
    assert (vocoder_run / "samples" / "step-00000010.png").is_file()
    assert list((vocoder_run / "samples").glob("step-00000010-copy-*.wav"))
    assert load_vocoder(vocoder_run / "best" / "vocoder.safetensors")


@pytest.mark.slow  # the engine is that of the VAE-GAN, whose runs are killed in the usual tests
def test_a_killed_run_ends_as_one_that_was_not(vocoder_run, recipe_file, tiny_store, tmp_path):
    """kill -9 between checkpoints; the same command goes on, to the same bytes."""
    command = [sys.executable, str(SCRIPT)]
    command += ["--recipe", str(recipe_file), "--store", str(tiny_store), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "run" / "metrics.jsonl"
    until = time.monotonic() + 120
    while time.monotonic() < until and not (log.is_file() and log.read_text().count("\n") >= 7):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert "going on from step 5" in done.stdout
    ends = [p / "bundle" / "vocoder.safetensors" for p in (vocoder_run, tmp_path / "run")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


@pytest.mark.slow
def test_two_processes_train_what_one_does(vocoder_run, recipe_file, tiny_store, tmp_path):
    """Loss by loss. Weights cannot be compared with those of one process after steps of Adam, which turns the rounding
    of a gradient near zero into a whole step; both processes of a launch hold the same ones, to the bit."""
    words = ["--recipe", recipe_file, "--store", tiny_store, "--out", tmp_path / "run"]
    done = ranks("train_vocoder", *words, hashes=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert len(first) > 10 and first == second
    one, two = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (vocoder_run, tmp_path / "run")
    )
    for a, b in zip(one[:6], two[:6], strict=True):
        assert a.keys() == b.keys()
        for name in ("stft", "mel", "frequency", "disc", "adversarial", "feature"):
            if name in a:
                assert b[name] == pytest.approx(a[name], rel=0.01), (a["step"], name)
    for name in ("stft", "mel", "frequency", "grad_g"):
        assert two[0][name] == pytest.approx(one[0][name], rel=1e-4), name


def test_micro_batches_make_the_same_step(recipe_file, tiny_store):
    whole, parts = (make_task(recipe_file, tiny_store, "--train.accumulate", n) for n in ("1", "4"))
    for task in (whole, parts):
        for step in (0, 9):
            task.step(step)
    for (name, a), b in zip(whole.net.named_parameters(), parts.net.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4), name


def test_what_judges_learns_only_from_its_own_loss(recipe_file, tiny_store):
    """The vocoder's step leaves the discriminators as they are, and without gradients; and the other way round."""
    task = make_task(recipe_file, tiny_store)
    parts = task.feed.parts(9)
    judge = [p.detach().clone() for p in task.judge.parameters()]
    task._update_vocoder(parts, None, True)
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(judge, task.judge.parameters(), strict=True))
    net = [p.detach().clone() for p in task.net.parameters()]
    task._update_discriminators(parts, None)
    assert all(torch.equal(a, b) for a, b in zip(net, task.net.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(judge, task.judge.parameters(), strict=True))


def test_training_brings_it_closer(recipe_file, tiny_store):
    quick = ["--train.steps", "60", "--train.learning_rate", "5e-3", "--vocoder.adversarial_start", "1"]
    task = make_task(recipe_file, tiny_store, *quick)
    (part,) = task.feed.parts(1000)

    def now():
        with torch.no_grad():
            return {k: float(v) for k, v in task._terms(part, task._decode(part), False).items()}

    before = now()
    for step in range(60):
        task.step(step)
    after = now()
    assert after["total"] < 0.9 * before["total"]
    assert after["frequency"] < before["frequency"] and after["stft"] < before["stft"]


def test_it_learns_on_what_a_model_decodes(tiny_run, recipe_file, tiny_store, vocoder_run, tmp_path):
    """--on-decoded: the mels come from the model, the sounds are the real ones."""
    model = load_bundle(tiny_run)
    words = ["--recipe", recipe_file, "--store", tiny_store, "--on-decoded", tiny_run, "--start-from", vocoder_run]
    done = train(*words, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    about = load_vocoder(tmp_path / "run" / "bundle" / "vocoder.safetensors").about
    assert about["on_decoded"] == model.hash
    assert about["started_from"] == load_vocoder(vocoder_run / "bundle" / "vocoder.safetensors").hash
    # The same folder is refused for other beginnings.
    refused = train(*words[:4], "--out", tmp_path / "run")
    assert "--on-decoded" in one_line(refused) and "--start-from" in one_line(refused)

    # What it is given is what the model makes of the clips under the controls of their labels.
    recipe = load_recipe(recipe_file, ["--vocoder.decoded_share", "1", "--augment.gain_db", "0"])
    recipe = recipe.model_copy(update={"vocoder": recipe.vocoder.model_copy(update={"silence": 0.0})})
    task = VocoderTask(recipe, Store(tiny_store), make_accelerator(recipe), model)
    (pair,) = task.feed.parts(0)
    rows = positions(recipe.seed, 0, 8, len(task.clips))
    audio, values, length = task.clips.read(rows)
    assert torch.equal(pair.audio, audio)
    decode = SoundModel(load_bundle(tiny_run), GriffinLim(recipe.mel))
    sound = decode.encode_batch(audio, {"pitch": values[:, list(task.clips.names).index("pitch")]}, length)
    assert torch.allclose(pair.mel, decode.decode_mel(sound).clamp_min(np.log(1e-5)), atol=1e-4)
    assert (pair.mel - task.mel(audio)).abs().mean() > 0.1


def test_a_decoded_mel_is_the_one_that_a_model_plays():
    """Of a model with all controls, whose mels are set to read as these say."""
    model = SoundModel.from_pretrained("notes16k")
    files = [
        ROOT / f"recipes/notes/audio/{name}-060-100.flac" for name in ("flute_acoustic_022", "string_acoustic_014")
    ]
    audio = torch.stack([model.heard(f)[: model.clip_samples] for f in files])
    sound = model.encode(audio)
    values = torch.stack([*sound.controls.values()], dim=1)
    decoded = Reconstructions(model.bundle, [*model.controls], torch.device("cpu"))(model.log_mel(audio), values)
    assert torch.allclose(decoded, model.decode_mel(sound), atol=1e-3)


def test_a_decoder_s_classes_are_numbered_as_it_learnt_them(recipe_file, tiny_recipe, tiny_store, tmp_path):
    recipe = load_recipe(tiny_recipe, ["--model.class_label", "instrument_str"])
    trained = VaeGanTask(recipe, Store(tiny_store), make_accelerator(recipe)).bundle(1)
    control = trained.vaegan.controls[1]
    assert control.classes
    moved = dataclasses.replace(control, classes=("aardvark", *control.classes[:-1]))
    trained.vaegan.controls = (trained.vaegan.controls[0], moved)
    task = VocoderTask(load_recipe(recipe_file), Store(tiny_store), make_accelerator(recipe), trained)
    labels = np.array(task.store.label("instrument_str"))[task.clips.clips]
    given = task.clips.controls[:, list(task.clips.names).index(control.name)]
    for label, number in zip(labels, given, strict=True):
        assert np.isnan(number) if label not in moved.classes else moved.classes[int(number)] == label
    assert np.isfinite(given).any()


@pytest.mark.parametrize(
    "change",
    [
        ["--vocoder.disc_periods", "[2, 3]", "--vocoder.adversarial_start", "0"],
        ["--vocoder.adversarial", "0", "--vocoder.feature", "0"],
    ],
)
def test_a_step_of_every_kind_is_finite(recipe_file, tiny_store, change):
    task = make_task(recipe_file, tiny_store, *change)
    terms = task.step(9)
    assert all(torch.isfinite(v) for v in terms.values())
    assert ("disc" in terms) == ("--vocoder.adversarial" not in change)


@pytest.mark.slow
def test_it_trains_in_bfloat16(recipe_file, tiny_store, tmp_path):
    words = ["--recipe", recipe_file, "--store", tiny_store, "--out", tmp_path / "run", "--train.steps", "2"]
    done = train(*words, "--train.mixed_precision", "bf16", "--vocoder.adversarial_start", "0")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(r["total"]) and "disc" in r for r in records)


@pytest.mark.slow
def test_a_run_that_diverges_says_so(recipe_file, tiny_store, tmp_path):
    words = ["--recipe", recipe_file, "--store", tiny_store, "--out", tmp_path / "run"]
    done = train(*words, "--train.learning_rate", "1e30", "--train.warmup_steps", "0")
    assert done.returncode == 1 and "became NaN or infinite" in done.stderr and "Traceback" not in done.stderr


def test_a_resting_judge_does_not_move(recipe_file, tiny_store):
    task = make_task(recipe_file, tiny_store, "--train.disc_rest_above", "0", "--vocoder.adversarial_start", "0")
    before = [p.detach().clone() for p in task.judge.parameters()]
    assert task.step(5)["ranking"] > 0
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, task.judge.parameters(), strict=True))


def test_a_dry_run_says_what_it_costs(recipe_file, tiny_store, tmp_path):
    done = train("--recipe", recipe_file, "--store", tiny_store, "--out", tmp_path / "run", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "multiply-adds:" in done.stdout and "parameters: vocoder" in done.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--vocoder.size", "smal"], "Did you mean 'small'"),
        (["--mel.hop_length", "128"], "hop_length: 256 != 128"),
        (["--data.clip_samples", "4096"], "4096"),
        (["--train.batch_size", "7", "--train.accumulate", "2"], "must be a multiple"),
        (["--vocoder.disc_windows", "[16384]"], "longer than the clips"),
        (["--vocoder.windows", "[50]"], "multiples of 4"),
        (["--vocoder.windows", "[16384]"], "longer than the clips"),
        (["--vocoder.disc_periods", "[4000]"], "disc_periods must be at most half"),
        (["--train.disc_updates", "2"], "train.disc_updates is for VAE-GANs"),
        (["--train.best_by", "val_samples"], "val_samples"),
        (["--start-from", "griffin-lim"], "not a vocoder that this program trained"),
        (["--start-from", "nowhere"], "nowhere"),
        (["--on-decoded", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(recipe_file, tiny_store, tmp_path, capfd, words, says):
    from audio_vaegan.cli import train_vocoder

    common = ["--recipe", str(recipe_file), "--store", str(tiny_store), "--out", str(tmp_path / "run")]
    assert train_vocoder([*common, *words]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert line.startswith("error: ") and says in line


def test_a_stretch_of_some_clips_falls_silent(recipe_file, tiny_store):
    """Of the clips, and of the mels that a model made of them: there both are at rest, elsewhere as they were."""
    changed, plain = (make_task(recipe_file, tiny_store, "--vocoder.silence", share) for share in ("1", "0"))
    (a,), (b,) = changed.feed.parts(3), plain.feed.parts(3)
    quiet = a.audio != b.audio
    assert quiet.any(dim=1).float().mean() > 0.5
    assert (a.audio[quiet] == 0).all()
    silent = torch.zeros(1, 8192, dtype=torch.bool)
    silent[0, 2000:6000] = True
    mel = torch.zeros(1, 32, 32)
    made = changed.feed._changed(mel, torch.tensor([[20.0]]), silent)
    real = changed.mel(torch.where(silent, 0.0, torch.randn(1, 8192)))
    floor = np.log(1e-5)
    assert torch.equal(made[0].amin(dim=0) <= floor + 1e-5, real[0].amax(dim=0) <= floor + 1e-5)
    assert made.max() == pytest.approx(np.log(10), abs=1e-5)  # 20 dB


def test_some_clips_are_replaced_by_noise_which_no_model_decodes(recipe_file, tiny_store, tiny_run):
    still = ["--vocoder.silence", "0", "--vocoder.noise"]
    (plain,), (some,), (every,) = (
        make_task(recipe_file, tiny_store, *still, n).feed.parts(3) for n in ("0", "0.5", "1")
    )
    replaced = (some.audio != plain.audio).any(dim=1)
    assert 0 < replaced.sum() < len(replaced)
    assert torch.equal(some.audio[replaced], every.audio[replaced])
    assert (every.audio != plain.audio).any(dim=1).all()
    halves = [10 * a.square().mean(dim=1).log10() for a in every.audio.split(4096, dim=1)]
    assert all((h > -82).all() and (h < -8).all() for h in halves)  # drawn from -80 to -10 dB
    assert (halves[0] - halves[1]).abs().max() < 4  # steady

    recipe = load_recipe(recipe_file, [*still, "1", "--vocoder.decoded_share", "1"])
    task = VocoderTask(recipe, Store(tiny_store), make_accelerator(recipe), load_bundle(tiny_run))
    (pair,) = task.feed.parts(3)
    assert torch.equal(pair.mel, task.mel(pair.audio))


def test_the_pages_of_a_model_name_its_vocoder(tiny_run, tiny_store, vocoder_run, tmp_path):
    done = cli("generate", tiny_run, "--count", 2, "--vocoder", vocoder_run, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "a" / "metadata.jsonl").read_text().splitlines()]
    assert all(r["vocoder"].startswith("tiny-vocoder ") for r in rows)
    done = cli("generate", tiny_run, "--count", 2, "--vocoder", "griffin-lim", "--out", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    a, b = ((tmp_path / x / rows[0]["file_name"]).read_bytes() for x in "ab")
    assert a != b
    line = one_line(cli("generate", tiny_run, "--vocoder", "notes-16k-128", "--out", tmp_path / "c"))
    assert "n_mels: 128 != 32" in line
    assert not os.path.exists(tmp_path / "c")
