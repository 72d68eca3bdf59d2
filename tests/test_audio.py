import io
import os
import signal

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, tone

from audio_vaegan.audio import BadAudio, decode, encode_wav, read, to_pcm16, write
from audio_vaegan.descriptors import yin


def level(x):
    return float(np.sqrt(np.mean(np.square(x))))


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [("wav", "PCM_U8"), ("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "PCM_32"), ("wav", "FLOAT"), ("flac", "PCM_16"),
     ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III"), ("aiff", "PCM_16")],
)  # fmt: skip
def test_every_format_keeps_pitch_and_level(tmp_path, suffix, subtype):
    x = tone(69, 1.0)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, x, RATE, subtype=subtype)
    y, rate = read(path)
    assert rate == RATE and y.dtype == np.float32
    assert abs(float(yin(torch.from_numpy(y)[None], rate).midi) - 69) < 0.05
    assert abs(20 * np.log10(level(y[2000:14000]) / level(x[2000:14000]))) < 0.3


def test_channels_are_averaged(tmp_path):
    x = tone(60)
    soundfile.write(tmp_path / "s.wav", np.stack([x, np.zeros_like(x), x, x], axis=1), RATE, subtype="FLOAT")
    assert np.allclose(read(tmp_path / "s.wav")[0], 0.75 * x, atol=1e-6)


def streamed(tmp_path, x, rate):
    """A signal `[samples]`, written at its rate and read at ours."""
    soundfile.write(tmp_path / "x.wav", x, rate, subtype="FLOAT")
    return read(tmp_path / "x.wav", RATE)[0]


@pytest.mark.parametrize("rate", [4000, 22050, 44100, 44101, 48000, 192000])
def test_resampling_keeps_a_tone_and_its_length(tmp_path, rate):
    x = tone(69, 1.0, harmonics=1, rate=rate)
    y = streamed(tmp_path, x, rate)
    assert len(y) == RATE
    assert abs(float(yin(torch.from_numpy(y)[None], RATE).midi) - 69) < 0.05
    assert abs(level(y[1000:-1000]) / level(x) - 1) < 0.01


def test_resampling_removes_what_would_alias(tmp_path):
    t = np.arange(44100) / 44100
    y = streamed(tmp_path, np.sin(2 * np.pi * 10000 * t), 44100)
    assert 20 * np.log10(level(y[1000:-1000]) / 0.7071) < -80


def test_loud_samples_are_limited_and_never_wrap():
    assert to_pcm16(np.array([2.0, 1.0, -1.0, -3.0, 0.0])).tolist() == [32767, 32767, -32768, -32768, 0]


def test_a_generated_file_says_so_and_is_the_same_every_time(tmp_path):
    x = tone(60)
    assert encode_wav(x, RATE, "seed 1") == encode_wav(x, RATE, "seed 1")
    write(tmp_path / "a.wav", x, RATE, "seed 1")
    with soundfile.SoundFile(tmp_path / "a.wav") as f:
        assert "AI-generated" in f.comment and "seed 1" in f.comment and f.subtype == "PCM_16"
    assert np.abs(read(tmp_path / "a.wav")[0] - x).max() <= 1 / 32768


def broken(tmp_path, kind):
    path = tmp_path / f"{kind}.wav"
    whole = io.BytesIO()
    soundfile.write(whole, tone(60), RATE, format="WAV", subtype="FLOAT")
    data = whole.getvalue()
    if kind == "zero-length":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no sound")
    elif kind == "header-only":
        path.write_bytes(data[:44])
    elif kind == "nan":
        x = tone(60)
        x[100] = np.nan
        soundfile.write(path, x, RATE, subtype="FLOAT")
    elif kind == "no-samples":
        soundfile.write(path, np.zeros(0), RATE)
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [("zero-length", "an empty file"), ("text", "cannot be decoded"),
     ("header-only", "cannot be decoded|none could be decoded|holds no samples"), ("nan", "NaN"),
     ("no-samples", "holds no samples")],
)  # fmt: skip
def test_a_broken_file_gives_its_reason(tmp_path, kind, says):
    with pytest.raises(BadAudio, match=says) as e:
        read(broken(tmp_path, kind))
    assert "\n" not in str(e.value) and str(tmp_path) not in str(e.value)


def test_a_file_that_is_too_long_is_refused_before_it_fills_memory(tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(RATE * 3), RATE)
    with pytest.raises(BadAudio, match="longer than 2 s"):
        read(tmp_path / "long.wav", max_seconds=2)


def test_an_interrupt_while_bytes_are_decoded_is_never_swallowed(monkeypatch):
    whole = encode_wav(tone(60, 2.0), RATE, kind="FLAC")

    class Pressed(io.BytesIO):
        reads, at = 0, 0

        def readinto(self, buffer):
            Pressed.reads += 1
            if Pressed.reads == Pressed.at:
                os.kill(os.getpid(), signal.SIGINT)
            return super().readinto(buffer)

    monkeypatch.setattr("audio_vaegan.audio.io.BytesIO", Pressed)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert len(decode(whole)) == 2 * RATE
        for at in range(1, Pressed.reads + 1):
            Pressed.reads, Pressed.at = 0, at
            with pytest.raises(KeyboardInterrupt):
                decode(whole)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_what_a_recorder_that_crashed_has_left_is_read(tmp_path, kind):
    path, x = tmp_path / "a.wav", tone(60)
    soundfile.write(path, x, RATE, format=kind, subtype="PCM_24")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = data[4:8] = bytes(4)
    path.write_bytes(data)
    np.testing.assert_allclose(read(path)[0], x, atol=1e-6)
