"""Sounds sorted into classes, of which a few sounds each are known."""

import csv

import numpy as np
import pytest
import soundfile
from conftest import cli, one_line, tone

from audio_vaegan.sound_model.probing import fit_probe


def test_a_probe_knows_what_it_was_shown():
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(3, 20))
    labels = np.arange(30) % 3
    probe = fit_probe(centres[labels] + rng.normal(size=(30, 20)), [f"class {k}" for k in labels])
    more = np.arange(300) % 3
    share = probe.probabilities(centres[more] + rng.normal(size=(300, 20)))
    assert probe.classes == ("class 0", "class 1", "class 2") and share.sum(axis=1) == pytest.approx(1)
    assert (share.argmax(axis=1) == more).mean() > 0.95


def make(folder, kind, numbers):
    """Dull plucked tones, bright ones, or noises."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in numbers:
        rng = np.random.default_rng(i)
        if kind == "noise":
            sound = 0.2 * rng.standard_normal(12000) * np.exp(-np.arange(12000) / rng.uniform(1000, 6000))
        else:
            sound = 0.4 * tone(45 + i % 20, 0.75, 2 if kind == "dull" else 14, rng.uniform(2, 8), 16000)
        soundfile.write(folder / f"{kind}{i}.wav", sound, 16000)


def test_files_are_sorted_by_what_a_few_labelled_ones_sound_like(tmp_path):
    for kind in ("dull", "bright", "noise"):
        make(tmp_path / "known" / kind, kind, range(0, 20, 4))
        make(tmp_path / "all", kind, range(21, 37, 2))
    (tmp_path / "all" / "broken.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "all" / "silent.wav", np.zeros(12000), 16000)
    soundfile.write(tmp_path / "all" / "nothing.wav", np.full(1, 0.5), 96000)  # no sample is left of it at 16 kHz
    long, rate = soundfile.read(tmp_path / "all" / "noise21.wav")
    soundfile.write(tmp_path / "all" / "noise21.wav", np.pad(long, (0, 12000)), rate)
    out = tmp_path / "sorted"
    words = ("classify", "notes16k", tmp_path / "known", tmp_path / "all", "--copy", "--out", out)
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((out / "classes.csv").open()))
    assert len(rows) == 24 and "left out:" in done.stdout and "15 labelled sounds of 3 classes" in done.stdout
    assert "silent.wav: silent" in done.stdout and "nothing.wav: shorter than one sample" in done.stdout
    assert "of 1 files longer than 1.024 s the beginning was heard" in done.stdout
    right = [r["class"] in r["file"].rsplit("/", 1)[1] for r in rows]
    assert np.mean(right) > 0.9
    assert all(float(r["probability"]) >= float(r["second_probability"]) for r in rows)
    copies = {f.relative_to(out).as_posix() for f in out.rglob("*.wav")}
    assert copies == {f"{r['class']}/{r['file'].rsplit('/', 1)[1]}" for r in rows}
    assert "overwrite" in one_line(cli(*words))


def test_mistakes(tmp_path):
    out = ("--out", tmp_path / "out")
    make(tmp_path / "known" / "dull", "dull", range(2))
    assert "two classes" in one_line(cli("classify", "notes16k", tmp_path / "known", tmp_path / "known", *out))
    make(tmp_path / "known" / "noise", "noise", range(2))
    assert "labelled already" in one_line(cli("classify", "notes16k", tmp_path / "known", tmp_path / "known", *out))
    assert "no such folder" in one_line(cli("classify", "notes16k", tmp_path / "none", tmp_path / "known", *out))
    for file in (tmp_path / "known" / "noise").iterdir():
        file.write_bytes(b"no sound")
    make(tmp_path / "all", "dull", range(3, 5))
    assert "only one class can be read" in one_line(
        cli("classify", "notes16k", tmp_path / "known", tmp_path / "all", *out)
    )
    assert not (tmp_path / "out").exists()
