"""The recorded notes in the repository: what they claim is measured."""

import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT

from audio_vaegan.data.nsynth import KEYS
from audio_vaegan.descriptors import pyin, yin

NOTES = ROOT / "recipes" / "notes"


@pytest.fixture(scope="module")
def entries():
    return json.loads((NOTES / "examples.json").read_text())


def test_enough_notes_of_enough_instruments_in_a_small_folder(entries):
    assert len(entries) >= 600
    instruments = {e["instrument_str"] for e in entries.values()}
    assert len(instruments) >= 24
    for instrument in instruments:
        pitches = [e["pitch"] for e in entries.values() if e["instrument_str"] == instrument]
        assert max(pitches) - min(pitches) >= 24
    assert sum(p.stat().st_size for p in NOTES.rglob("*") if p.is_file()) <= 10_000_000
    assert "Permission is hereby granted" in (NOTES / "LICENSE-FluidR3.txt").read_text()


def test_every_entry_is_complete_and_names_its_samples(entries):
    for name, e in entries.items():
        assert set(KEYS) <= e.keys() and e["note_str"] == name and e["soundfont_samples"]
    owners: dict[str, set[str]] = {}
    for e in entries.values():
        for sample in e["soundfont_samples"]:
            owners.setdefault(sample, set()).add(e["split_group"])
    assert all(len(groups) == 1 for groups in owners.values())  # no sample stands on both sides of a split


def test_every_file_sounds_at_its_pitch(entries):
    names = list(entries)
    clips = []
    for name in names:
        audio, rate = soundfile.read(NOTES / "audio" / f"{name}.flac", dtype="float32")
        assert rate == 16000 and audio.shape == (16384,) and 0.01 < np.abs(audio).max() < 1.0
        clips.append(audio)
    batches = torch.from_numpy(np.stack(clips)).split(64)
    measured = torch.cat([yin(b, 16000).midi for b in batches]).numpy()
    labels = np.array([entries[n]["pitch"] for n in names])
    assert np.abs(measured - labels).max() < 0.5
    for i in range(0, len(names), 53):
        assert pyin(clips[i], 16000) == pytest.approx(labels[i], abs=0.5)
