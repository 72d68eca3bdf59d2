"""The judges of the controls: physics first, then agreement with `measure`, with which they share no code."""

import ast
import inspect

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, ROOT, tone
from scipy.signal import butter, sosfilt

from audio_vaegan.descriptors import judge_controls, measure
from audio_vaegan.descriptors.judge_controls import JUDGED, judge_control

RATES = (RATE, 44100)
# Median and largest difference allowed on the bundled notes, in the control's unit.
AGREE = {
    "loudness": (0.03, 0.1),
    "brightness": (0.15, 0.6),
    "noisiness": (0.5, 7.0),
    "attack": (0.005, 0.1),
    "decay": (0.5, 6.0),
    "onset_rate": (0.01, 1.1),
}


def clock(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.arange(round(seconds * rate)) / rate


def sine(hz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hz * clock(seconds, rate))


def noise(seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))


@pytest.fixture(scope="module")
def notes() -> np.ndarray:
    """Bundled notes from all over the folder."""
    paths = sorted((ROOT / "recipes" / "notes" / "audio").iterdir())[7::54][:12]
    return np.stack([np.resize(soundfile.read(p, dtype="float32")[0], RATE) for p in paths])


@pytest.mark.parametrize("rate", RATES)
def test_loudness_of_the_standards_tone(rate):
    # BS.1770-4: a 997 Hz sine of 0 dBFS reads -3.01, so one of -20 dBFS reads -23.01, a short one as well.
    for seconds in (1.0, 0.2):
        assert judge_control("loudness", 0.1 * sine(997, seconds, rate), rate) == pytest.approx(-23.01, abs=0.06)
    assert np.isnan(judge_control("loudness", 1e-4 * sine(997, rate=rate), rate))  # below -70 LUFS


def test_loudness_leaves_out_the_pauses():
    x = 0.1 * sine(997)
    assert judge_control("loudness", np.pad(x, (0, 3 * RATE)), RATE) == pytest.approx(-23.01, abs=1.0)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hz", (220, 440, 3520))
def test_brightness_of_a_sine_is_its_frequency(hz, rate):
    x = 0.3 * sine(hz, rate=rate)
    for y in (x, x + 0.1, np.pad(x * np.hanning(rate), (0, rate // 2))):  # neither an offset nor silence is heard
        assert judge_control("brightness", y, rate) == pytest.approx(12 * np.log2(hz / 440), abs=0.05)


def test_brightness_is_the_mean_weighted_by_magnitude():
    x = 0.3 * sine(500) + 0.1 * sine(2500)
    assert judge_control("brightness", x, RATE) == pytest.approx(12 * np.log2(1000 / 440), abs=0.05)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hz", (82.4, 261.6, 987.8))
@pytest.mark.parametrize("hnr", (28, 20, 10, 0))
def test_noisiness_of_a_tone_and_noise_of_known_ratio(hz, hnr, rate):
    x = sum(sine(hz * k, rate=rate) / k for k in range(1, 7))
    n = noise(rate=rate)
    x = x + n * np.sqrt(np.mean(x**2) / np.mean(n**2) / 10 ** (hnr / 10))
    assert judge_control("noisiness", x, rate) == pytest.approx(-hnr, abs=1.0)


def test_noisiness_ends_at_pure_and_noise_is_noisy_and_a_decay_is_no_noise():
    assert judge_control("noisiness", tone(60, 1.0), RATE) == pytest.approx(-30, abs=0.1)
    assert judge_control("noisiness", tone(60, 1.0, decay=6.0), RATE) == pytest.approx(-30, abs=0.1)
    assert 7 < judge_control("noisiness", noise(), RATE) <= 20


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seconds", (0.05, 0.2, 0.5))
def test_attack_of_a_linear_ramp(seconds, rate):
    x = sine(997, rate=rate) * np.minimum(1, clock(1.0, rate) / seconds)
    assert judge_control("attack", x, rate) == pytest.approx(np.log10(0.8 * seconds), abs=0.03)


def test_attack_of_a_sound_that_starts_at_once_and_after_a_pause():
    for x in (sine(997), np.pad(sine(997), (RATE // 4, 0))):
        assert judge_control("attack", x, RATE) == pytest.approx(np.log10(0.011), abs=0.02)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("slope", (0, 10, 60, 200))
def test_decay_of_an_exponential(slope, rate):
    x = 0.5 * sine(997, rate=rate) * 10 ** (-slope * clock(1.0, rate) / 20)
    assert judge_control("decay", x, rate) == pytest.approx(slope, abs=0.1 + 0.02 * slope)


def test_decay_stops_before_a_cut_and_is_none_without_time():
    x = 0.5 * sine(997) * 10 ** (-clock(1.0) * 20 / 20)
    assert judge_control("decay", np.pad(x[: RATE // 2], (0, RATE // 2)), RATE) == pytest.approx(20, abs=2)
    assert np.isnan(judge_control("decay", x[:640], RATE))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("a_second", (2, 4, 8))
def test_onset_rate_of_clicks(a_second, rate):
    x = 1e-4 * noise(2.0, rate)
    at = ((np.arange(2 * a_second) + 0.25) / a_second * rate).astype(int)
    click = 0.5 * noise(0.01, rate) * np.hanning(round(0.01 * rate))
    for start in at:
        x[start : start + len(click)] += click
    sounding = (at[-1] - at[0] + len(click)) / rate
    assert judge_control("onset_rate", x, rate) == pytest.approx(2 * a_second / max(sounding, 1), rel=0.03)


def test_one_note_is_one_onset_and_its_end_is_none():
    assert judge_control("onset_rate", np.pad(tone(60, 0.4, decay=3), (0, 9600)), RATE) == 1.0
    high = sosfilt(butter(2, 2000, fs=RATE, output="sos"), np.concatenate([tone(m, 0.25) for m in (60, 65, 62, 67)]))
    assert judge_control("onset_rate", high, RATE) == pytest.approx(4, rel=0.02)


def test_gain_moves_loudness_by_itself_and_nothing_else(notes):
    for x in notes[:3]:
        for name in JUDGED:
            change = judge_control(name, 0.25 * x, RATE) - judge_control(name, x, RATE)
            assert change == pytest.approx(20 * np.log10(0.25) if name == "loudness" else 0, abs=1e-4), name


@pytest.mark.parametrize("name", JUDGED)
def test_what_is_no_sound_has_none(name):
    silence = np.zeros(RATE, np.float32)
    for x in (silence, silence[:0], silence + 0.5, silence + 1e-6, silence * np.nan, silence + np.inf):
        assert np.isnan(judge_control(name, x, RATE))


@pytest.mark.filterwarnings("error")
def test_short_sounds_raise_nothing():
    for x in (noise()[:1] + 1, noise()[:2], noise()[:100], tone(60, 0.03), np.pad(noise()[:50], (1150, 0))):
        for name in JUDGED:
            assert isinstance(judge_control(name, x, RATE), float)


def test_another_name_is_an_error():
    with pytest.raises(KeyError):
        judge_control("voicing", noise(), RATE)


def test_they_share_no_code_with_measure():
    tree = ast.walk(ast.parse(inspect.getsource(judge_controls)))
    modules = [n.module for n in tree if isinstance(n, ast.ImportFrom)]
    assert modules and not any(str(m).startswith(("audio_vaegan", "torch")) for m in modules)


@pytest.mark.parametrize("name", JUDGED)
def test_agrees_with_measure_on_the_bundled_notes(name, notes):
    ours = measure(torch.from_numpy(notes), RATE)
    expected = (12 * torch.log2(ours["centroid"] / 440) if name == "brightness" else ours[name]).numpy()
    found = np.array([judge_control(name, x, RATE) for x in notes])
    middle, largest = AGREE[name]
    assert np.median(np.abs(found - expected)) <= middle
    assert np.abs(found - expected).max() <= largest
