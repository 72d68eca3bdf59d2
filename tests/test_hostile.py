"""Spoilt files of every kind get one line, at once, in little memory; nothing in them runs, nothing is written."""

import re
import shutil
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from conftest import cli, tone
from spoilt import GROUPS

from audio_vaegan.config import MelConfig, VocoderConfig
from audio_vaegan.control.directions import Direction
from audio_vaegan.control.fitted import Fitted, save_fitted
from audio_vaegan.models.bundle import load_bundle
from audio_vaegan.models.vocoder.network import VocoderNetwork
from audio_vaegan.models.vocoder.saved import TrainedVocoder, save_vocoder
from audio_vaegan.sound_model.fingerprints import save_fingerprints
from audio_vaegan.training import checkpoint

OWNED = Path("/tmp/audio-vaegan-owned")
ROWS = [
    pytest.param(group, says, harm, id=f"{group}: {what}") for group, f in GROUPS.items() for what, says, harm in f()
]


@pytest.fixture(scope="module")
def good(tmp_path_factory, tiny_recipe, tiny_store, tiny_run):
    """One of everything, as it should be, by group."""
    root = tmp_path_factory.mktemp("good")
    shutil.copy(tiny_recipe, root / "recipes.yaml")
    (root / "specs.yaml").write_text("name: x\ncount: 3\n")
    sounds = root / "tables"
    sounds.mkdir()
    for i in range(4):
        soundfile.write(sounds / f"s{i}.wav", tone(60 + i), 16000)
    shutil.copytree(tiny_run / "bundle", root / "bundles")
    model = load_bundle(root / "bundles")
    vector = np.ones(len(model.vaegan.controls) + model.recipe.model.timbre_dim)
    slider = Direction("bright", "joint", vector, 0.0, 1.0, False, 0.9, 12)
    save_fitted(Fitted(model.hash, directions={"bright": slider}), root / "bundles")
    save_fingerprints(
        np.random.default_rng(0).normal(size=(5, 192)).astype(np.float32) / 14, root / "bundles", model.hash
    )
    network = VocoderNetwork(MelConfig(n_mels=32), VocoderConfig(width=16, blocks=1))
    save_vocoder(TrainedVocoder(network), root / "vocoders.safetensors")
    shutil.copytree(root / "bundles", root / "prints")
    shutil.copytree(tiny_store, root / "stores")
    shutil.copytree(tiny_run, root / "checkpoints")
    return root


def words_of(group, path, good, tiny_recipe, tmp_path):
    """The command that reads a spoilt file, and whether it is the training script."""
    out = ["--out", tmp_path / "out"]
    train = ["--recipe", tiny_recipe, "--store"]
    return {
        "recipes": (["prepare", good / "tables", "--recipe", path, *out], False),
        "specs": (["dataset", good / "bundles", path, *out], False),
        "tables": (["prepare", path, "--recipe", tiny_recipe, *out], False),
        "bundles": (["generate", path, "--count", "1", *out], False),
        "prints": (["dataset", path, good / "specs.yaml", *out], False),
        "vocoders": (["generate", good / "bundles", "--count", "1", "--vocoder", path, *out], False),
        "stores": ([*train, path, *out], True),
        "checkpoints": ([*train, good / "stores", "--out", path], True),
    }[group]


def test_there_are_many_kinds_and_the_good_ones_are_good(good, tiny_recipe, tmp_path):
    assert len(ROWS) >= 130 and {group.values[0] for group in ROWS} == set(GROUPS)
    done = cli(
        "generate",
        good / "bundles",
        "--count",
        "1",
        "--vocoder",
        good / "vocoders.safetensors",
        "--out",
        tmp_path / "o",
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("group", "says", "harm"), ROWS)
def test_what_is_spoilt_gets_its_line(group, says, harm, good, tiny_recipe, tmp_path, mistake, record_property):
    (source,) = good.glob(f"{group}*")
    path = tmp_path / source.name
    (shutil.copytree if source.is_dir() else shutil.copy)(source, path)
    harm(checkpoint.latest(path) if group == "checkpoints" else path)
    words, train = words_of(group, path, good, tiny_recipe, tmp_path)
    began, before = time.monotonic(), psutil.Process().memory_info().rss
    if group == "tables":  # goes on with what it can read, and reports the rest
        done = cli(*words)
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert (done.returncode, len(lines)) in ((0, 0), (2, 1)), done.stderr
        report = tmp_path / "out" / "report.json"
        said = done.stderr + (report.read_text() if report.exists() else "")
    else:
        said = mistake(*words, train=train)
        assert not (tmp_path / "out").exists()
        assert len(said) < 1200
    assert re.search(says, said, re.IGNORECASE | re.DOTALL), said
    assert time.monotonic() - began < 20
    assert psutil.Process().memory_info().rss - before < 2**30
    assert not OWNED.exists() and "Traceback" not in said
    record_property("spoilt", 1)
