"""A full disk, a folder that cannot be written: one line says so, nothing is half done, the same command goes on."""

import os
import subprocess

import pytest
from conftest import TINY
from deaths import tree
from test_deaths import SPEC, known_classes, whole_run, whole_sounds, whole_store

COMMANDS = {
    "prepare": (["prepare", "NOTES", "--recipe", "RECIPE", "--out", "ROOT/store", "--workers", "1"], whole_store),
    "train_vaegan": (["train_vaegan", "--recipe", "RECIPE", "--store", "STORE", "--out", "ROOT/run"], whole_run),
    "dataset": (
        ["dataset", "notes16k", "SPEC", "--out", "ROOT/out", "--processes", "1"],
        lambda _: None,
    ),
    "classify": (["classify", "notes16k", "KNOWN", "SOUNDS", "--copy", "--out", "ROOT/out"], lambda _: None),
    "generate": (["generate", "RUN", "--count", "4", "--out", "ROOT/out", "--vocoder", "griffin-lim"], whole_sounds),
}


def mount(*words):
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, whose size and rights can be changed: `disk(options)`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)):
        pytest.skip("this user may not mount a small disk")

    def options(text):
        assert mount("-o", f"remount,{text}", str(folder))
        return folder

    yield options
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def words(request, tmp_path, tiny_store, tiny_run, notes):
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "spec.yaml").write_text(SPEC)
    places = {"NOTES": notes, "RECIPE": tmp_path / "tiny.yaml", "STORE": tiny_store, "RUN": tiny_run}
    places |= {"SPEC": tmp_path / "spec.yaml", "KNOWN": tmp_path / "known", "SOUNDS": notes / "audio"}
    known_classes(tmp_path, notes)
    command, check = COMMANDS[request.param]
    return lambda root: [str(places.get(w, w.replace("ROOT", str(root)))) for w in command], check


def error(end):
    """The one line in which a mistake is told."""
    assert end.code == 2 and "Traceback" not in end.said, end.said
    (line,) = [line for line in end.said.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("words", COMMANDS, indirect=True)
def test_a_full_disk_is_told_and_loses_nothing(words, disk, preloaded, tmp_path, record_property):
    command, check = words
    whole = tmp_path / "whole"
    whole.mkdir()
    assert preloaded.run(command(whole), whole).code == 0
    size = sum(os.path.getsize(p) for p in whole.rglob("*") if p.is_file())
    folder = disk("size=64m")
    told = 0
    for share in (0.1, 0.5, 0.9):
        root = disk(f"size={max(4096, int(share * size) // 4096 * 4096)}")
        end = preloaded.run(command(root), root)
        told += "No space left on device; make room, then the same command goes on" in error(end)
        check(root)
    disk("size=64m")
    end = preloaded.run(command(folder), folder)
    assert end.code == 0, end.said
    assert told == 3 and tree(folder) == tree(whole)
    record_property("full", told)


@pytest.mark.parametrize("words", COMMANDS, indirect=True)
def test_a_folder_that_cannot_be_written_is_told_and_loses_nothing(words, disk, preloaded, record_property):
    command, check = words
    root = disk("ro")
    assert "Read-only file system" in error(preloaded.run(command(root), root))
    check(root)
    assert tree(root) == {}
    record_property("read_only", 1)
