import librosa
import numpy as np
import parselmouth
import pyloudnorm
import pytest
import torch
from conftest import RATE, tone

from audio_vaegan.descriptors import DESCRIPTORS, hz_to_midi, measure, midi_to_hz, onsets, pyin, sounding_middle, yin
from audio_vaegan.descriptors.loudness import k_weighting
from audio_vaegan.evaluation.pitch import second_meter

RATES = (RATE, 44100)


def read(name: str, x: np.ndarray, rate: int = RATE) -> float:
    """One descriptor of one clip."""
    return float(measure(torch.as_tensor(x, dtype=torch.float32)[None], rate)[name])


def clock(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.arange(round(seconds * rate)) / rate


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))


def noisy(x: np.ndarray, snr: float, seed: int = 1) -> np.ndarray:
    """`x` and white noise, `snr` dB apart."""
    n = np.random.default_rng(seed).standard_normal(len(x))
    return x + n * np.sqrt(np.mean(x**2) / np.mean(n**2) / 10 ** (snr / 10))


def clicks(a_second: float, seconds: float, rate: int = RATE) -> np.ndarray:
    x = np.zeros(round(seconds * rate))
    x[((np.arange(round(a_second * seconds)) + 0.25) / a_second * rate).astype(int)] = 0.9
    return x


def notes_in_turn(rate: int = RATE, decay: float = 8.0) -> np.ndarray:
    return np.concatenate([tone(m, 0.25, decay=decay, rate=rate) for m in (60, 64, 67, 72, 67, 64, 60, 62)])


def variety(rate: int = RATE, seconds: float = 1.024) -> dict[str, np.ndarray]:
    t, n = clock(seconds, rate), noise(seconds, rate)
    wobble = 2 * np.pi * np.cumsum(440 * 2 ** (0.5 * np.sin(2 * np.pi * 6 * t) / 12)) / rate
    return {
        "tone": tone(60, seconds, rate=rate),
        "low tone": tone(36, seconds, rate=rate, harmonics=30),
        "decaying": tone(67, seconds, decay=4, rate=rate),
        "swelling": tone(55, seconds, rate=rate) * np.minimum(1, t / 0.3),
        "noise": n,
        "noisy tone": noisy(tone(72, seconds, rate=rate), 10),
        "tremolo": n * (0.5 - 0.5 * np.cos(2 * np.pi * 4 * t)),
        "vibrato": 0.2 * sum(np.sin(k * wobble) / k for k in range(1, 6)),
        "chord": sum(tone(m, seconds, rate=rate) for m in (60, 64, 67)) / 3,
        "clicks": clicks(5, seconds, rate),
        "notes": notes_in_turn(rate)[: len(t)],
    }


# The older meters of pitch


def test_midi_and_hertz():
    assert midi_to_hz(torch.tensor([69.0, 57.0])).tolist() == pytest.approx([440.0, 220.0])
    assert hz_to_midi(torch.tensor([880.0])).item() == pytest.approx(81.0)


@pytest.mark.parametrize("midi", [36, 45.5, 57, 69, 75.25, 84, 96])
def test_both_meters_measure_a_tone(midi):
    x = tone(midi, 1.0)
    assert float(yin(torch.from_numpy(x)[None], RATE).midi) == pytest.approx(midi, abs=0.05)
    assert pyin(x, RATE) == pytest.approx(midi, abs=0.15)  # its grid is a tenth of a semitone


@pytest.mark.parametrize("samples", [8.5, 11.5, 15.5])
def test_a_bright_tone_whose_period_ends_between_two_samples_is_not_taken_for_an_octave_below(samples):
    f = RATE / samples
    k = np.arange(1, int(7600 / f) + 1)
    parts = np.sin(2 * np.pi * np.outer(np.arange(RATE) / RATE, f * k) + k**2)
    midi = float(hz_to_midi(torch.tensor(f)))
    saw, alike = ((0.1 * p).sum(axis=1).astype(np.float32) for p in (parts / k, parts))
    assert pyin(alike, RATE) == pytest.approx(midi, abs=0.15)
    assert pyin(saw, RATE) == pytest.approx(midi, abs=0.15)
    assert float(yin(torch.from_numpy(saw)[None], RATE).midi) == pytest.approx(midi, abs=0.05)


def test_a_search_of_short_periods_alone_finds_the_tone():
    assert float(yin(torch.from_numpy(tone(84, 1.0))[None], RATE, f_min=500).midi) == pytest.approx(84, abs=0.05)


def test_a_missing_fundamental_is_heard():
    t = np.arange(RATE) / RATE
    x = sum(np.sin(2 * np.pi * 200 * k * t) for k in (2, 3, 4, 5)).astype(np.float32) * 0.1
    assert float(yin(torch.from_numpy(x)[None], RATE).midi) == pytest.approx(
        float(hz_to_midi(torch.tensor(200.0))), abs=0.05
    )


def test_pitch_does_not_depend_on_gain_or_on_the_batch():
    x = torch.from_numpy(np.stack([tone(60, 1.0), tone(72, 1.0) * 0.01, tone(50, 1.0) * 2]))
    together = yin(x, RATE).midi
    assert together.tolist() == pytest.approx([60, 72, 50], abs=0.05)
    assert torch.allclose(together, torch.cat([yin(row[None], RATE).midi for row in x]), atol=1e-3)


def test_noise_and_silence_have_no_pitch():
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    both = torch.from_numpy(np.stack([noise, np.zeros(RATE, dtype=np.float32)]))
    assert yin(both, RATE).midi.isnan().all()
    assert np.isnan(pyin(np.zeros(RATE, dtype=np.float32), RATE))
    found = pyin(noise, RATE)  # pYIN's model may call noise a rumble near its lowest pitch, never a note
    assert np.isnan(found) or found < 30


def test_a_short_sound_in_a_long_clip_is_measured():
    x = np.zeros(RATE, dtype=np.float32)
    x[:4000] = tone(65, 0.25)
    assert float(yin(torch.from_numpy(x)[None], RATE).midi) == pytest.approx(65, abs=0.1)
    assert pyin(x, RATE) == pytest.approx(65, abs=0.11)


def test_the_sounding_middle_leaves_silence_out():
    x = np.zeros(RATE * 2, dtype=np.float32)
    x[8000:24000] = tone(60, 1.0)
    middle = sounding_middle(x, RATE)
    assert len(middle) == RATE // 2 and np.abs(middle).max() > 0.4
    assert np.abs(middle[:1000]).max() > 0.1 and np.abs(middle[-1000:]).max() > 0.1


def test_the_second_meter_agrees():
    pytest.importorskip("swift_f0", reason="optional extra `evaluate`")
    found = second_meter(np.stack([tone(57, 1.0), tone(69, 1.0)]), RATE)
    assert found == pytest.approx([57, 69], abs=0.3)


# All of them: the contract


def test_every_descriptor_is_measured_in_order_and_explained():
    found = measure(torch.from_numpy(tone(60))[None].repeat(3, 1), RATE)
    assert list(found) == list(DESCRIPTORS)
    assert all(v.shape == (3,) and v.dtype == torch.float32 and v.isfinite().all() for v in found.values())
    for name, d in DESCRIPTORS.items():
        assert d.name == name and d.unit and d.text.endswith(".") and d.tolerance > 0


@pytest.mark.parametrize("rate", RATES)
def test_gain_changes_loudness_and_peak_alone(rate):
    x = torch.tensor(np.stack(list(variety(rate).values())), dtype=torch.float32)
    loud, quiet = measure(x, rate), measure(x * 0.1, rate)
    for name in DESCRIPTORS:
        change = -20.0 if name in ("loudness", "peak") else 0.0
        torch.testing.assert_close(quiet[name], loud[name] + change, atol=2e-3, rtol=1e-4, equal_nan=True, msg=name)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seconds", [0.01, 0.04, 0.15, 0.5, 1.024])
def test_padding_changes_nothing(rate, seconds):
    clips = [torch.tensor(x, dtype=torch.float32)[: round(seconds * rate)] for x in variety(rate).values()]
    samples = len(clips[0])
    padded = torch.randn(len(clips) + 1, round(1.5 * rate), generator=torch.manual_seed(0))  # rubbish behind
    padded[:-1, :samples] = torch.stack(clips)  # the last is as long as the batch, which else would be cut
    length = torch.tensor([samples] * len(clips) + [padded.shape[1]])
    bare, found = measure(torch.stack(clips), rate), measure(padded, rate, length)
    for name in DESCRIPTORS:
        torch.testing.assert_close(found[name][:-1], bare[name], atol=1e-3, rtol=1e-4, equal_nan=True, msg=name)


def test_the_batch_changes_nothing():
    """Alone, together with others of other lengths, and in batches that are cut inside."""
    x = torch.tensor(np.stack(list(variety().values())), dtype=torch.float32)
    length = torch.linspace(4000, x.shape[1], len(x)).long()
    together = measure(x.repeat(5, 1), RATE, length.repeat(5))
    for i in range(len(x)):
        alone = measure(x[i : i + 1, : length[i]], RATE)
        for name in DESCRIPTORS:
            for copy in (i, i + 4 * len(x)):
                assert float(alone[name]) == pytest.approx(
                    float(together[name][copy]), abs=1e-3, rel=1e-4, nan_ok=True
                ), name


def test_the_sample_rate_changes_nothing():
    """The same sound, of partials below 5 kHz, taken at two rates; within the tolerance of a label, mostly far."""
    sounds = [variety(rate) for rate in RATES]
    near = {"pitch": 0.05, "voicing": 0.05, "confidence": 0.05, "loudness": 0.1, "centroid": 30, "brightness": 0.3}
    near |= {"noisiness": 1, "attack": 0.02, "decay": 1, "effective_duration": 0.01, "onset_rate": 0.05, "peak": 0.1}
    for sound in ("tone", "decaying", "swelling", "chord"):
        low, high = (
            measure(torch.tensor(s[sound], dtype=torch.float32)[None], r) for s, r in zip(sounds, RATES, strict=True)
        )
        for name, tolerance in near.items():
            assert float(low[name]) == pytest.approx(float(high[name]), abs=tolerance, nan_ok=True), (sound, name)


@pytest.mark.parametrize("rate", [4000, RATE, 44100, 192000])
def test_hostile_clips_are_measured_or_undefined(rate):
    square = torch.sign(torch.sin(torch.arange(rate) * 2 * torch.pi * 220 / rate))
    cases = {
        "silence": (torch.zeros(2, rate), None),
        "constant": (torch.full((1, rate), 0.3), None),
        "one sample": (torch.full((2, 1), 0.5), None),
        "no sample": (torch.zeros(2, 0), None),
        "no clip": (torch.zeros(0, 100), None),
        "no length": (torch.rand(2, rate), torch.tensor([0, rate])),
        "square": (square[None], None),
        "short": (torch.rand(1, 7), None),
        "beyond all": (torch.full((1, 999), 1e30), None),
        "loud rubbish": (torch.randn(1, rate) * 1e5, None),
        "not numbers": (torch.tensor([[0.1, float("nan")], [float("inf"), 0.0]]), None),
    }
    for name, (x, length) in cases.items():
        found = measure(x, rate, length)
        assert list(found) == list(DESCRIPTORS)
        assert all(v.shape == (len(x),) and not v.isinf().any() for v in found.values()), name
        if name in ("silence", "no sample", "beyond all", "not numbers"):
            assert all(v.isnan().all() for v in found.values()), name
        if name == "no length":
            assert all(v[0].isnan() for v in found.values()) and found["centroid"][1] > 0
        if name == "constant":
            assert float(found["peak"]) == pytest.approx(-10.46, abs=0.01)
            assert all(v.isnan().all() for k, v in found.items() if k not in ("peak", "loudness"))
        if name == "square":
            assert float(found["peak"]) == 0 and float(found["pitch"]) == pytest.approx(57, abs=0.1)
        for clip in x:
            times = onsets(clip, rate)
            assert times.ndim == 1 and times.isfinite().all()


# Each of them: physics


@pytest.mark.parametrize("rate", RATES)
def test_pitch_voicing_and_confidence(rate):
    x = np.stack([tone(63, 1.0, rate=rate), noisy(tone(63, 1.0, rate=rate), 13), noise(1.0, rate)])
    found = measure(torch.tensor(x, dtype=torch.float32), rate)
    assert found["pitch"][:2].tolist() == pytest.approx([63, 63], abs=0.05) and found["pitch"][2].isnan()
    assert found["pitch_hz"][:2].tolist() == pytest.approx([311.13, 311.13], abs=1)
    assert found["voicing"][0] > 0.99 and found["voicing"][2] < 0.05
    assert found["confidence"][0] > 0.98 and 0.8 < found["confidence"][1] < 0.96 and found["confidence"][2].isnan()


def test_half_a_tone_and_half_noise_is_half_voiced():
    x = np.concatenate([tone(60, 1.0), 2 * noise(1.0)])
    assert read("voicing", x) == pytest.approx(0.5, abs=0.05)


def test_a_glide_has_periods_but_no_pitch():
    t = clock(1.024)
    x = 0.3 * np.sin(2 * np.pi * np.cumsum(200 * 2**t) / RATE)  # an octave a second
    assert np.isnan(read("pitch", x)) and read("voicing", x) > 0.95
    assert np.isnan(read("confidence", x)) and read("noisiness", x) < -15


@pytest.mark.parametrize("rate", RATES)
def test_loudness_of_the_reference_sine_at_any_level_and_length(rate):
    sine = np.sin(2 * np.pi * 997 * clock(2.0, rate))
    assert read("loudness", sine, rate) == pytest.approx(-3.01, abs=0.1)
    assert read("loudness", 0.01 * sine, rate) == pytest.approx(-43.01, abs=0.1)
    assert read("loudness", sine[: round(0.15 * rate)], rate) == pytest.approx(-3.01, abs=0.1)
    assert np.isnan(read("loudness", 1e-4 * sine, rate))  # below the absolute gate
    assert read("peak", 0.5 * sine, rate) == pytest.approx(-6.02, abs=0.01)


def test_loudness_gates_the_pauses():
    x = np.concatenate([tone(69, 2.0), np.zeros(4 * RATE)])
    ungated = read("loudness", tone(69, 2.0)) + 10 * np.log10(2 / 6)
    # Of the blocks, three hold part of the end as well; all but one within 10 LU.
    assert read("loudness", tone(69, 2.0)) - 1 < read("loudness", x) < read("loudness", tone(69, 2.0))
    assert read("loudness", x) > ungated + 3


def test_k_weighting_is_the_recommendations_table():
    table = [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585],
        [1, -2, 1, 1, -1.99004745483398, 0.99007225036621],
    ]
    assert np.abs(k_weighting(48000) - table).max() < 1e-6


@pytest.mark.parametrize("rate", [8000, RATE, 44100, 48000])
def test_loudness_agrees_with_pyloudnorm(rate):
    # Whole tenths of a second: of a last block that is not whole, pyloudnorm takes what there is (the recommendation
    # leaves it out).
    for seconds in (0.4, 1.0, 2.0):
        for name, x in variety(rate, seconds).items():
            theirs = pyloudnorm.Meter(rate).integrated_loudness(np.asarray(x, dtype=np.float64))
            assert read("loudness", x, rate) == pytest.approx(theirs, abs=0.1), (name, seconds)


@pytest.mark.parametrize("rate", RATES)
def test_centroid_of_two_partials(rate):
    t = clock(1.0, rate)
    x = 0.3 * np.sin(2 * np.pi * 500 * t) + 0.1 * np.sin(2 * np.pi * 3000 * t)
    assert read("centroid", x, rate) == pytest.approx((3 * 500 + 3000) / 4, rel=0.01)
    found = 12 * np.log2(1125 / 440)
    assert read("brightness", x, rate) == pytest.approx(found, abs=0.2)
    quiet = np.round(x * 0.01 * 32768) / 32768  # 16 bit at -50 dBFS
    assert read("centroid", quiet, rate) == pytest.approx(1125, rel=0.03)


def test_brightness_is_the_centroid_as_a_pitch_re_440_hz_with_or_without_a_pitch():
    assert read("brightness", tone(69, 1.0, harmonics=1)) == pytest.approx(0, abs=0.1)
    assert read("brightness", tone(81, 1.0, harmonics=1)) == pytest.approx(12, abs=0.1)
    assert read("brightness", noise(1.0)) == pytest.approx(12 * np.log2(RATE / 4 / 440), abs=0.3)
    assert read("centroid", noise(1.0)) == pytest.approx(RATE / 4, rel=0.02)


@pytest.mark.parametrize("rate", RATES)
def test_centroid_agrees_with_librosa(rate):
    size = round(0.05 * rate)
    for name in ("tone", "low tone", "swelling", "noise", "noisy tone", "chord", "vibrato"):
        x = variety(rate)[name]
        theirs = librosa.feature.spectral_centroid(y=x, sr=rate, n_fft=size, hop_length=size // 5, center=False)
        assert read("centroid", x, rate) == pytest.approx(theirs.mean(), rel=0.03), name


@pytest.mark.parametrize("rate", RATES)
def test_a_clean_tone_has_no_noise(rate):
    pitches = np.arange(36, 96.1, 0.75)
    clips = np.stack([tone(m, 0.5, rate=rate) for m in pitches])
    hnr = -measure(torch.from_numpy(clips), rate)["noisiness"]
    assert hnr.min() >= 29.9, pitches[hnr < 29.9]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("snr", [0, 10, 20])
def test_noisiness_is_the_noise_that_was_added(rate, snr):
    x = np.stack([noisy(tone(m, 1.024, rate=rate), snr, seed=int(m)) for m in (36, 45.5, 57, 69, 75.25, 84, 96)])
    found = measure(torch.tensor(x, dtype=torch.float32), rate)["noisiness"]
    assert found.tolist() == pytest.approx([-snr] * len(x), abs=1.0)


def test_noisiness_is_that_of_the_greater_part():
    x = np.concatenate([tone(60, 0.7), noise(0.3)])
    assert read("noisiness", x) < -29.9


def test_noise_is_noisy_and_a_click_is_not_periodic():
    assert 8 < read("noisiness", noise(1.0)) < 13
    assert read("noisiness", clicks(5, 1.0)) > 10
    assert read("noisiness", clicks(5, 1.0, 44100), 44100) > 10


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("snr", [5, 15, 25])
def test_noisiness_and_pitch_agree_with_praat(rate, snr):
    for midi in (41.5, 60, 78.25):
        x = noisy(tone(midi, 1.0, rate=rate), snr)
        sound = parselmouth.Sound(np.asarray(x, dtype=np.float64), rate)
        hnr = sound.to_harmonicity_cc(minimum_pitch=50).values
        assert -read("noisiness", x, rate) == pytest.approx(np.median(hnr[hnr > -200]), abs=1.5)
        if snr > 5:
            hertz = sound.to_pitch_ac(pitch_floor=50, pitch_ceiling=1500).selected_array["frequency"]
            assert read("pitch_hz", x, rate) == pytest.approx(np.median(hertz[hertz > 0]), rel=0.005)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("rise", [0.05, 0.1, 0.4])
def test_attack_of_a_linear_ramp(rate, rise):
    x = tone(60, 1.0, rate=rate) * np.minimum(1, clock(1.0, rate) / rise)
    late = np.concatenate([np.zeros(rate // 4), x])
    assert 10 ** read("attack", x, rate) == pytest.approx(0.8 * rise, rel=0.1)
    assert 10 ** read("attack", late, rate) == pytest.approx(0.8 * rise, rel=0.1)


def test_an_attack_at_once_reads_the_floor_wherever_it_lies():
    x = tone(60, 0.5, decay=5)
    assert 10 ** read("attack", x) == pytest.approx(0.011, abs=0.001)
    assert 10 ** read("attack", np.concatenate([np.zeros(5000), x])) == pytest.approx(0.011, abs=0.001)
    knock = np.concatenate([tone(60, 0.05) * 0.3, np.zeros(3000), x])  # what came before is no attack
    assert 10 ** read("attack", knock) == pytest.approx(0.011, abs=0.002)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("decay", [0.5, 2, 8, 30])
def test_decay_of_an_exponential(rate, decay):
    x = tone(62, 1.024, decay=decay, rate=rate)
    assert read("decay", x, rate) == pytest.approx(8.686 * decay, rel=0.03)
    late = np.concatenate([np.zeros(rate // 10), x])
    assert read("decay", late, rate) == pytest.approx(8.686 * decay, rel=0.03)


def test_decay_of_what_does_not_fall():
    assert read("decay", tone(60, 1.0)) == pytest.approx(0, abs=0.1)
    assert np.isnan(read("decay", tone(60, 1.0) * clock(1.0) ** 4))  # loudest at its end
    assert read("decay", tone(60, 0.1)) == pytest.approx(0, abs=2)
    cut = np.concatenate([tone(60, 0.5), np.zeros(RATE // 2)])
    assert read("decay", cut) == pytest.approx(0, abs=1)


@pytest.mark.parametrize("rate", RATES)
def test_duration(rate):
    assert read("effective_duration", tone(60, 0.7, rate=rate), rate) == pytest.approx(0.7, abs=0.002)
    x = np.concatenate([np.zeros(rate // 3), tone(60, 0.3, rate=rate), np.zeros(rate // 3)])
    assert read("effective_duration", x, rate) == pytest.approx(0.3, abs=0.01)
    falling = tone(60, 1.0, decay=5, rate=rate)
    assert read("effective_duration", falling, rate) == pytest.approx(np.log(1 / 0.4) / 5, abs=0.01)
    swell = noise(4.0, rate) * (0.5 - 0.5 * np.cos(2 * np.pi * 2 * clock(4.0, rate)))  # 56 % of it above 0.4
    assert read("effective_duration", swell, rate) == pytest.approx(0.564 * 4, abs=0.25)


@pytest.mark.parametrize("rate", RATES)
def test_onset_rate(rate):
    t = clock(2.0, rate)
    for hertz in (2, 4, 8):
        swell = 0.5 - 0.5 * np.cos(2 * np.pi * hertz * t)
        assert read("onset_rate", noise(2.0, rate) * swell, rate) == pytest.approx(hertz, rel=0.05)
        assert read("onset_rate", tone(60, 2.0, rate=rate) * swell, rate) == pytest.approx(hertz, rel=0.05)
    assert read("onset_rate", clicks(5, 1.0, rate), rate) == pytest.approx(5)
    assert read("onset_rate", clicks(10, 4.0, rate), rate) == pytest.approx(10, rel=0.05)
    assert read("onset_rate", notes_in_turn(rate), rate) == pytest.approx(4, rel=0.02)
    assert read("onset_rate", notes_in_turn(rate, decay=0), rate) == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("rate", RATES)
def test_one_sound_has_one_onset(rate):
    for name in ("tone", "low tone", "decaying", "noise", "noisy tone", "vibrato", "chord"):
        assert read("onset_rate", variety(rate)[name], rate) == pytest.approx(1, abs=0.05), name
    brief = np.concatenate([np.zeros(rate // 2), tone(60, 0.1, rate=rate), np.zeros(rate // 2)])
    assert read("onset_rate", brief, rate) == 1  # not ten a second; and its end is no onset
    wide = 2 * np.pi * np.cumsum(440 * 2 ** (2 * np.sin(2 * np.pi * 8 * clock(1.0, rate)) / 12)) / rate
    assert read("onset_rate", sum(np.sin(k * wide) / k for k in range(1, 11)), rate) == pytest.approx(1, abs=0.02)
    trembling = tone(60, 2.0, rate=rate) * (1 + 0.2 * np.sin(2 * np.pi * 5 * clock(2.0, rate)))
    assert read("onset_rate", trembling, rate) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("rate", RATES)
def test_onsets_lie_just_before_the_rise(rate):
    starts = np.array([0.1, 0.4, 0.55, 1.2, 1.9])
    for make in (lambda: tone(60, 0.3, decay=12, rate=rate), lambda: noise(0.1, rate), lambda: np.ones(1)):
        x = 1e-3 * noise(2.5, rate, seed=3)
        for at in starts:
            sound, first = make(), round(at * rate)
            x[first : first + len(sound)] += sound
        found = onsets(torch.tensor(x, dtype=torch.float32), rate).numpy()
        found = found[found > 0.05]  # the hiss begins as well
        assert len(found) == len(starts)
        assert (found <= starts + 1e-3).all() and (found >= starts - 0.01).all()


@pytest.mark.parametrize("rate", RATES)
def test_onsets_agree_with_librosa(rate):
    pause = np.zeros(rate // 5)
    for x in (clicks(5, 3.0, rate), notes_in_turn(rate)):
        x = np.concatenate([pause, x])
        theirs = librosa.onset.onset_detect(y=x, sr=rate, units="time", hop_length=256)
        ours = onsets(torch.tensor(x, dtype=torch.float32), rate).numpy()
        assert len(ours) == len(theirs) and np.abs(ours - theirs).max() < 0.05


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e19, 1e30])
def test_what_is_not_a_sound_has_no_pitch_and_harms_nothing(value):
    """The loops do not check their indices: what is computed from such values must not become one."""
    x = torch.from_numpy(np.stack([tone(60), tone(60), tone(60)]))
    x[0, 3000:3010], x[1] = value, value
    found = yin(x, RATE).midi
    assert float(found[2]) == pytest.approx(60, abs=0.05)
    for middle in (True, False):  # in one sample, or in all but one
        y = x[2:].clone()
        y[0, 4000 if middle else slice(1, None)] = value
        assert yin(y, RATE).voiced.isfinite().all()


def test_meters_that_are_asked_for_read_as_all_of_them_do():
    g = torch.Generator().manual_seed(5)
    audio = torch.from_numpy(np.stack([tone(60, decay=3), tone(71), np.zeros(8000, dtype=np.float32)]))
    audio = torch.cat([audio, 0.1 * torch.randn(1, 8000, generator=g)])
    everything = measure(audio, RATE)
    assert set(everything) == set(DESCRIPTORS)
    for names in (("loudness",), ("decay", "pitch"), ("noisiness", "brightness", "attack")):
        found = measure(audio, RATE, names=names)
        assert set(found) == set(names)
        for name in names:
            torch.testing.assert_close(found[name], everything[name], rtol=0, atol=0, equal_nan=True)
    assert set(measure(audio[:0], RATE, names=("peak",))) == {"peak"}
