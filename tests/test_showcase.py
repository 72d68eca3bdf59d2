"""`showcase`: what a model does with a sound of the user's, as short files and a picture."""

import numpy as np
import pytest
import soundfile
from conftest import RATE, cli, one_line, tone

from audio_vaegan.descriptors import pyin

SOUNDS = (
    "real", "copy", "reconstructed", "pitch+7", "brightness+8",
    "morph-1", "morph-2", "morph-3", "morph-4", "morph-5", "sample-1", "sample-2",
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name, midi in (("a", 60), ("b", 52)):
        soundfile.write(folder / f"{name}.wav", 0.5 * tone(midi, 0.8, decay=2.0), RATE)
    return folder


def test_a_dozen_short_files_and_a_picture(inputs, tmp_path):
    out = tmp_path / "shown"
    done = cli("showcase", "notes16k", inputs / "a.wav", inputs / "b.wav", "--out", out)
    assert done.returncode == 0, done.stderr
    assert {f.stem for f in out.glob("*.ogg")} == set(SOUNDS) and all(f"{name}.ogg: " in done.stdout for name in SOUNDS)
    assert (out / "sounds.png").read_bytes().startswith(b"\x89PNG")
    audio = {name: soundfile.read(out / f"{name}.ogg", dtype="float32") for name in SOUNDS}
    assert all(rate == 16000 and 0 < len(a) <= 16384 and np.abs(a).max() > 0.01 for a, rate in audio.values())
    heard = {name: pyin(a, 16000) for name, (a, _) in audio.items()}
    asked = {"real": 60, "copy": 60, "reconstructed": 60, "pitch+7": 67, "morph-1": 60, "morph-5": 52}
    assert {n: heard[n] for n in asked} == pytest.approx(asked, abs=0.5)
    marked = {name: "AI-generated" in soundfile.SoundFile(out / f"{name}.ogg").comment for name in SOUNDS}
    assert not marked.pop("real") and all(marked.values())
    assert "overwrite" in one_line(cli("showcase", "notes16k", inputs / "a.wav", inputs / "b.wav", "--out", out))


def test_mistakes(inputs, tmp_path):
    line = one_line(cli("showcase", "notes16k", inputs / "a.wav", tmp_path / "none.wav", "--out", tmp_path / "out"))
    assert "none.wav" in line and not (tmp_path / "out").exists()
