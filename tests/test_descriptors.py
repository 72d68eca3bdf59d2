import numpy as np
import pytest
import torch
from conftest import RATE, tone

from audio_vaegan.descriptors import hz_to_midi, midi_to_hz, pyin, sounding_middle, yin
from audio_vaegan.evaluation.pitch import second_meter


def test_midi_and_hertz():
    assert midi_to_hz(torch.tensor([69.0, 57.0])).tolist() == pytest.approx([440.0, 220.0])
    assert hz_to_midi(torch.tensor([880.0])).item() == pytest.approx(81.0)


@pytest.mark.parametrize("midi", [36, 45.5, 57, 69, 75.25, 84, 96])
def test_both_meters_measure_a_tone(midi):
    x = tone(midi, 1.0)
    assert float(yin(torch.from_numpy(x)[None], RATE).midi) == pytest.approx(midi, abs=0.05)
    assert pyin(x, RATE) == pytest.approx(midi, abs=0.15)  # its grid is a tenth of a semitone


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
