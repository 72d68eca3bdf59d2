"""The hostile corpus through `prepare`: one line for every file, nothing lost, nothing that stops the others."""

import json
import re

import pytest
from conftest import cli, one_line
from corpus import build

RECIPE = "name: corpus\nmel: notes-16k-128\ndata: {clip_samples: 8192, test_instruments: 0.1}\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """(what was written, what `prepare` said, its report by file)."""
    root = tmp_path_factory.mktemp("corpus")
    odd = build(root / "odd")
    (root / "recipe.yaml").write_text(RECIPE)
    done = cli("prepare", root / "odd", "--recipe", root / "recipe.yaml", "--out", root / "store")
    assert done.returncode == 0, done.stderr
    report = json.loads((root / "store" / "report.json").read_text())
    return odd, done, {f["file"]: f for f in report["files"]}


def test_the_corpus_holds_the_kinds_that_matter(corpus):
    odd = corpus[0]
    assert len(odd) > 250 and len({o.name.split("/")[0] for o in odd}) >= 15


def test_every_file_has_one_line_and_there_is_no_other(corpus):
    odd, _, files = corpus
    assert set(files) == {o.name for o in odd}
    assert all(f["used"] == (f["clips"] > 0) for f in files.values())
    assert all(bool(f.get("reason")) != f["used"] for f in files.values())


def test_what_sounds_is_used_and_what_does_not_is_named(corpus):
    odd, _, files = corpus
    wrong = [(o.name, o.why, files[o.name]) for o in odd if files[o.name]["used"] != o.used]
    assert not wrong, wrong


def test_what_is_odd_is_told(corpus):
    odd, _, files = corpus
    untold = []
    for o in odd:
        said = [files[o.name].get("reason", ""), *files[o.name].get("notes", [])]
        if o.says and not any(re.search(o.says, text, re.IGNORECASE) for text in said):
            untold.append((o.name, o.says, said))
    assert not untold, untold


def test_decoders_do_not_print_to_the_terminal(corpus):
    assert "mpg123" not in corpus[1].stderr and "Illegal" not in corpus[1].stderr


def test_the_names_cannot_steer_the_terminal(tmp_path):
    root = tmp_path / "odd"
    root.mkdir()
    (root / "\x1b[31mred\n.wav").write_bytes(b"no sound")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    line = one_line(cli("prepare", root, "--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "store"))
    assert "\\x1b" in line and "\x1b" not in line
