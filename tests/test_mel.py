import librosa
import numpy as np
import pytest
import torch
from conftest import tone

from audio_vaegan.config import MEL_PRESETS, MelConfig
from audio_vaegan.descriptors import midi_to_hz, yin
from audio_vaegan.mel import HarmonicComb, Mel
from audio_vaegan.models.vocoder import GriffinLim


def librosa_log_mel(x: np.ndarray, c: MelConfig) -> np.ndarray:
    """The same spectrogram, from librosa alone."""
    side = c.n_fft // 2 if c.padding == "center" else (c.n_fft - c.hop_length) // 2
    x = np.pad(x, side, mode="reflect" if c.pad_mode == "reflect" else "constant")
    spectrum = librosa.stft(x, n_fft=c.n_fft, hop_length=c.hop_length, win_length=c.win_length, center=False)
    magnitude = np.sqrt(np.abs(spectrum) ** 2 + c.magnitude_eps) ** c.power
    basis = librosa.filters.mel(
        sr=c.sample_rate,
        n_fft=c.n_fft,
        n_mels=c.n_mels,
        fmin=c.f_min,
        fmax=c.f_max,
        htk=c.mel_scale == "htk",
        norm=c.norm,
    )
    mel = np.maximum(basis @ magnitude, c.floor)
    return np.log(mel) if c.log == "ln" else np.log10(mel)


@pytest.mark.parametrize("preset", MEL_PRESETS)
def test_each_preset_equals_librosa(preset):
    c = MEL_PRESETS[preset]
    rng = np.random.default_rng(0)
    x = tone(62, 1.0, harmonics=20, rate=c.sample_rate) + 0.01 * rng.standard_normal(c.sample_rate).astype(np.float32)
    x = x[: len(x) // c.hop_length * c.hop_length]
    ours = Mel(c)(torch.from_numpy(x)[None])[0].numpy()
    assert ours.shape == (c.n_mels, c.frames(len(x)))
    np.testing.assert_allclose(ours, librosa_log_mel(x, c), atol=1e-4)


@pytest.mark.parametrize("preset", MEL_PRESETS)
def test_silence_is_the_floor(preset):
    c = MEL_PRESETS[preset]
    mel = Mel(c)
    value = mel(torch.zeros(1, 16 * c.hop_length))
    least = max(c.floor, float(mel.basis.sum(dim=0).max()) * c.magnitude_eps**0.5)
    assert torch.isfinite(value).all()
    assert float(value.max()) == pytest.approx(np.log(least), abs=1e-4)


@pytest.mark.parametrize("preset", MEL_PRESETS)
def test_where_a_gradient_is_wanted_it_is_the_same_and_silence_has_one(preset):
    c = MEL_PRESETS[preset]
    audio = torch.from_numpy(tone(60, 0.5, rate=c.sample_rate))[: 16 * c.hop_length].repeat(2, 1)
    audio[1] = 0
    wanted = Mel(c)(audio)
    found = Mel(c)(audio.requires_grad_())
    torch.testing.assert_close(found.detach(), wanted, rtol=1e-5, atol=1e-5)
    found.sum().backward()
    assert audio.grad.isfinite().all() and audio.grad[0].any()


def test_bfloat16_autocast_changes_nothing():
    x = torch.from_numpy(tone(60))[None]
    mel = Mel(MelConfig())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mel(x)
    assert inside.dtype == torch.float32 and torch.equal(inside, mel(x))


def test_the_comb_is_where_the_harmonics_are():
    c = MelConfig()
    for midi in (45.0, 60.3, 75.0):
        x = torch.from_numpy(tone(midi, 0.5, harmonics=60))[None]
        comb = HarmonicComb(c)(midi_to_hz(torch.tensor([midi])))[0]
        mel = Mel(c)(x)[0, :, 10]
        for harmonic in range(1, 6):  # where single harmonics are resolved
            one = Mel(c)(torch.from_numpy(tone(midi + 12 * np.log2(harmonic), 0.5, harmonics=1))[None])[0, :, 10]
            band = int(one.argmax())
            half = tone(midi + 12 * np.log2(harmonic + 0.5), 0.5, harmonics=1)
            gap = int(Mel(c)(torch.from_numpy(half)[None])[0, :, 10].argmax())
            assert comb[band] > comb[gap] + 0.5  # on a harmonic, against halfway to the next
            near = slice(band - 1, band + 2)
            assert int(comb[near].argmax()) == int(mel[near].argmax())
        assert torch.isfinite(comb).all() and comb.abs().max() < 1.1


def test_linear_magnitude_has_the_mel_it_was_made_from():
    mel = Mel(MelConfig())
    x = torch.from_numpy(tone(57, 1.024, harmonics=12))[None]
    log_mel = mel(x)
    again = mel.compress(mel.linear_magnitude(log_mel).transpose(1, 2) @ mel.basis).transpose(1, 2)
    loud = log_mel > log_mel.max() - 9  # 78 dB
    assert float((again - log_mel)[loud].abs().median()) < 0.05


@pytest.mark.parametrize("preset", ["notes-16k-128", "vocos-24k-100", "hifigan-22k-80"])
def test_griffin_lim_keeps_pitch_length_and_place(preset):
    c = MEL_PRESETS[preset]
    samples = 48 * c.hop_length
    x = torch.zeros(1, samples)
    start = 20 * c.hop_length
    x[0, start:] = torch.from_numpy(tone(64, 2.0, rate=c.sample_rate)[: samples - start])
    y = GriffinLim(c)(Mel(c)(x), samples)
    assert y.shape == x.shape
    assert abs(float(yin(y, c.sample_rate).midi) - 64) < 0.1
    loud = (y[0].abs() > 0.1).nonzero()[0].item()
    assert abs(loud - start) < c.hop_length
    assert float(y[0, : start - 2 * c.n_fft // 2].abs().max()) < 0.02


def test_griffin_lim_of_silence_is_silence():
    c = MelConfig()
    assert float(GriffinLim(c)(Mel(c)(torch.zeros(1, 8192)), 8192).abs().max()) < 1e-4
