"""Nothing is lost by a kill, at whatever moment: the same command ends with the same bytes."""

import json
import shutil

import pytest
from conftest import TINY
from deaths import survive

from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.models.bundle import load_bundle
from audio_vaegan.models.vocoder.saved import load_vocoder
from audio_vaegan.training import checkpoint

SPEC = """
name: tones
layout: audiofolder
count: 5
controls: {pitch: {uniform: [61, 68]}}
attempts: 2
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


def whole_store(root):
    if (root / "store" / "store.json").exists():
        store = Store(root / "store")
        assert len(store.read(range(len(store)))) == len(store) and store.report()["files"]


def whole_run(root):
    last = checkpoint.latest(root / "run")
    if last is not None:
        assert checkpoint.read(last)
    for name in ("bundle", "best"):
        folder = root / "run" / name
        if (folder / "vocoder.safetensors").exists():
            load_vocoder(folder / "vocoder.safetensors")
        elif folder.exists() and any(not p.name.startswith(".") for p in folder.iterdir()):
            load_bundle(folder)


def whole_sounds(root):
    if (root / "out").exists():
        rows = (root / "out" / "metadata.jsonl").read_text().splitlines()
        assert rows and all((root / "out" / json.loads(row)["file_name"]).is_file() for row in rows)


def whole_model(root):
    from audio_vaegan.sound_model import SoundModel

    try:
        SoundModel.from_pretrained(root / "bundle")
    except UserError as e:  # between its two files; never a wrong one taken
        assert "fit it again" in str(e)


@pytest.fixture
def case(request, recipe, notes, tiny_store, tiny_run):
    """(command in a root, what must be whole after each kill, what the root begins with)"""

    def nothing(_):
        return None

    several = 2 if request.node.get_closest_marker("slow") else 1  # starting another takes seconds
    run = {
        "prepare": (
            lambda root: ["prepare", notes, "--recipe", recipe, "--out", root / "store", "--workers", several],
            whole_store,
            nothing,
        ),
        "train_vaegan": (
            lambda root: ["train_vaegan", "--recipe", recipe, "--store", tiny_store, "--out", root / "run"],
            whole_run,
            nothing,
        ),
        "train_vocoder": (
            lambda root: [
                *("train_vocoder", "--recipe", recipe, "--store", tiny_store, "--out", root / "run"),
                *("--vocoder.width", "16", "--vocoder.blocks", "1", "--train.steps", "8"),
            ],
            whole_run,
            nothing,
        ),
        "dataset": (
            lambda root: [
                *("dataset", "notes16k", root.parent / "spec.yaml", "--out", root / "out"),
                *("--processes", several),
            ],
            nothing,
            lambda root: (root.parent / "spec.yaml").write_text(SPEC),
        ),
        "generate": (
            lambda root: ["generate", tiny_run, "--count", "4", "--out", root / "out", "--vocoder", "griffin-lim"],
            whole_sounds,
            nothing,
        ),
        "fit-controls": (
            lambda root: [
                *("fit-controls", root / "bundle", "--store", tiny_store),
                *("--clips", "2", "--vocoder", "griffin-lim"),
            ],
            whole_model,
            lambda root: shutil.copytree(tiny_run / "bundle", root / "bundle"),
        ),
        "classify": (
            lambda root: [
                *("classify", "notes16k", root.parent / "known", notes / "audio"),
                *("--copy", "--out", root / "out"),
            ],
            nothing,
            lambda root: known_classes(root.parent, notes),
        ),
    }[request.param]
    return (lambda root: [*map(str, run[0](root))], *run[1:])


def known_classes(root, notes):
    """A few notes in two sub-folders of `known`."""
    for kind, share in (("a", 0), ("b", 1)):
        (root / "known" / kind).mkdir(parents=True, exist_ok=True)
        for file in sorted((notes / "audio").glob("*.wav"))[share:8:2]:
            shutil.copy(file, root / "known" / kind)


SHORT = ["train_vaegan", "generate"]  # prepare and data sets are killed in their own tests, too
LONG = [*SHORT, "prepare", "dataset", "train_vocoder", "fit-controls", "classify"]


@pytest.mark.parametrize("case", SHORT, indirect=True)
def test_five_kills_lose_nothing(case, preloaded, tmp_path, record_property):
    command, check, start = case
    record_property("kills", survive(preloaded, command, tmp_path, 5, seed=1, check=check, start=start))


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("case", LONG, indirect=True)
def test_fifty_kills_lose_nothing(case, preloaded, tmp_path, record_property):
    command, check, start = case
    record_property("kills", survive(preloaded, command, tmp_path, 50, seed=2, check=check, start=start))
