"""What is passed on to others (bundles, stores, data sets, sounds) says nothing of whose machine it comes from."""

import os
import shutil
import socket

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import TINY, cli, trainer

from audio_vaegan.control.fitted import Fitted, save_fitted
from audio_vaegan.models.bundle import load_bundle, packaged_models
from audio_vaegan.sound_model.fingerprints import save_fingerprints

NAME = "zephyrina-quill"  # in the path of everything; nowhere in what is written


@pytest.fixture(scope="module")
def home(tmp_path_factory, notes):
    """Everything, made in somebody's home: the layouts of NSynth and of sub-folders, three layouts of data sets."""
    home = tmp_path_factory.mktemp("private") / NAME
    shutil.copytree(notes, home / "sounds")
    (home / "tiny.yaml").write_text(TINY)
    (home / "own").mkdir()
    for path in sorted((notes / "audio").iterdir())[:6]:
        shutil.copy(path, home / "own" / path.name)

    def run(*words):
        done = cli(*words)
        assert done.returncode == 0, done.stderr

    for source in ("sounds", "own"):
        recipe = ["--recipe", home / "tiny.yaml", "--out", home / f"{source}-store"]
        run("prepare", home / source, *recipe, *(["--data.test_instruments", "0.3"] if source == "own" else []))
    words = ["--recipe", home / "tiny.yaml", "--store", home / "sounds-store", "--out", home / "run"]
    env = {"HOME": str(home), "USER": NAME, "LOGNAME": NAME}
    assert trainer(*words, "--train.steps", "4", env=env).returncode == 0
    model = load_bundle(home / "run")
    save_fitted(Fitted(model.hash), home / "run" / "bundle")
    save_fingerprints(np.ones((2, 192), np.float32) / 14, home / "run" / "bundle", model.hash)
    run("generate", home / "run", "--count", "2", "--out", home / "generated")
    run("edit", home / "run", home / "own" / sorted(os.listdir(home / "own"))[0], "--out", home / "edited.wav")
    shutil.copytree(packaged_models()["notes16k"], home / "model")
    for layout in ("audiofolder", "parquet", "nsynth"):
        more = "augment: {folder: own, factor: 1}\n" if layout == "audiofolder" else "count: 2\n"
        spec = f"name: tones\nlayout: {layout}\n{more}"
        (home / f"{layout}.yaml").write_text(spec)
        run("dataset", home / "model", home / f"{layout}.yaml", "--out", home / f"data-{layout}", "--processes", "1")
    return home


@pytest.mark.parametrize(
    "what",
    [
        "sounds-store",
        "own-store",
        "run/bundle",
        "run/best",
        "generated",
        "model",
        "data-audiofolder",
        "data-parquet",
        "data-nsynth",
    ],
)
def test_nothing_tells_whose_machine_it_was(home, what):
    files = [p for p in (home / what).rglob("*") if p.is_file()]
    assert len(files) >= 3
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += repr(pq.read_table(path).drop_columns(_sounds(path)).to_pylist()).encode()
            content += repr(pq.read_schema(path).metadata).encode()
        for secret in (NAME, str(home.parent), socket.gethostname()):
            assert len(secret) < 5 or secret.encode() not in content, (path.relative_to(home), secret)


def _sounds(path):
    return [name for name in pq.read_schema(path).names if name == "audio"]


def test_a_single_sound_tells_nothing_either(home):
    assert NAME.encode() not in (home / "edited.wav").read_bytes()
