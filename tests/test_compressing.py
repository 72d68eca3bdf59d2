"""A sound as a few dozen bytes: what comes back is the reconstruction, nearly; other bytes get their line."""

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, cli, one_line, tone

from audio_vaegan.descriptors import pyin
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.distances import log_spectral_distance
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.compressing import HEAD, _packed, _unpacked


@pytest.fixture(scope="module")
def model():
    return SoundModel.from_pretrained("notes16k")


def note(model, midi=60):
    return model.heard(sorted((ROOT / "recipes" / "notes" / "audio").glob(f"*-{midi:03d}-100.flac"))[0])[:16384]


@pytest.mark.parametrize("bits", [1, 3, 6, 11, 16])
def test_bits_come_back(bits):
    values = np.random.default_rng(bits).integers(0, 2**bits, 64).astype(np.uint16)
    packed = _packed(values, bits)
    assert len(packed) == -(-64 * bits // 8)
    assert (_unpacked(np.frombuffer(packed, np.uint8), 64, bits) == values).all()


def test_many_bits_are_the_reconstruction_and_few_are_near(model):
    audio = note(model)
    plain = model.decode(model.encode(audio, pitch=60.0)).audio
    away = {}
    for bits in (2, 6, 16):
        packed = model.compress(audio, bits, pitch=60.0)
        count = len(model.controls)
        assert len(packed) == HEAD.size + 2 * count + -(-model.vaegan.timbre_dim * bits // 8)
        back = model.decompress(packed)
        assert len(back) == len(audio)
        away[bits] = float(log_spectral_distance(back[None], plain))
    assert away[16] < away[6] < away[2] and away[16] < 0.5 and away[6] < 3
    assert pyin(back.numpy(), 16000) == pytest.approx(60, abs=0.3)


def test_a_long_sound_is_as_long_when_it_comes_back(model, tmp_path):
    sound = np.concatenate([0.3 * tone(57, 1.024, decay=2), 0.3 * tone(64, 1.024, decay=2), 0.3 * tone(60, 0.4)])
    soundfile.write(tmp_path / "in.wav", sound, 16000)
    done = cli("compress", "notes16k", tmp_path / "in.wav", "--out", tmp_path / "in.avg")
    assert done.returncode == 0 and "kbit/s" in done.stdout, done.stderr
    assert (tmp_path / "in.avg").stat().st_size < 250
    done = cli("decompress", "notes16k", tmp_path / "in.avg", "--out", tmp_path / "back.wav")
    assert done.returncode == 0 and "AI-generated" in done.stdout, done.stderr
    back, _ = soundfile.read(tmp_path / "back.wav", dtype="float32")
    assert len(back) == len(sound)
    assert pyin(back[16384:32768], 16000) == pytest.approx(64, abs=0.5)


def test_mistakes(model, tmp_path):
    packed = model.compress(note(model))
    for spoilt, told in (
        (b"RIFF" + packed[4:], "not a sound"),
        (packed[:-1], "damaged"),
        (packed[:4] + bytes(8) + packed[12:], "another model"),
        (packed[:16] + bytes([40]) + packed[17:], "damaged"),
        (b"", "not a sound"),
    ):
        with pytest.raises(UserError, match=told):
            model.decompress(spoilt)
    (tmp_path / "bad.avg").write_bytes(packed[:-1])
    assert "bad.avg: damaged" in one_line(
        cli("decompress", "notes16k", tmp_path / "bad.avg", "--out", tmp_path / "o.wav")
    )
    soundfile.write(tmp_path / "in.wav", np.zeros(100), 16000)
    assert ".avg" in one_line(cli("compress", "notes16k", tmp_path / "in.wav", "--out", tmp_path / "o.wav"))
    out = ("--out", tmp_path / "o.avg")
    assert "1 ... 16" in one_line(cli("compress", "notes16k", tmp_path / "in.wav", "--bits", "20", *out))
    assert torch.isfinite(model.decompress(model.compress(torch.zeros(100)))).all()
