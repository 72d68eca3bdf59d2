"""The table of uses: every row has a model's figure and a baseline's on the same sounds, and says who wins."""

import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, cli, one_line

from audio_vaegan.data.store import Store
from audio_vaegan.evaluation.uses import evaluate_uses
from audio_vaegan.evaluation.uses.odd import noises
from audio_vaegan.evaluation.uses.rows import Row, mfcc, table, winner
from audio_vaegan.sound_model import SoundModel


def interval(value, low, high):
    return {"value": value, "low": low, "high": high}


def test_who_wins_is_said_only_where_the_interval_says_so():
    def row(ours, theirs, **more):
        return Row("u", "w", "m", interval(*ours), "b", interval(*theirs), 9, **more)

    assert winner(row((3, 2.8, 3.2), (2, 1.8, 2.2))) == "ours"
    assert winner(row((3, 2.8, 3.2), (2, 1.8, 2.2), better="less")) == "baseline"
    assert winner(row((3, 2, 4), (2, 1, 3))) == "open"
    # sound by sound the difference may be sure where the two intervals overlap
    assert winner(row((3, 2, 4), (2, 1, 3), difference=interval(1, 0.5, 1.5))) == "ours"
    assert winner(row((3, 2, 4), (2, 1, 3), difference=interval(1, 0.5, 1.5), better="less")) == "baseline"
    assert winner(row((3, 2, 4), (2, 1, 3), difference=interval(1, -0.5, 2.5))) == "open"
    text = table([row((3, 2.8, 3.2), (2, 1.8, 2.2))])
    assert "3.00 (2.80-3.20) | b | 2.00 (1.80-2.20) | 9 | ours |" in text


def test_the_coefficients_of_the_baselines_do_not_hear_level_but_in_the_first():
    model = SoundModel.from_pretrained("notes16k")
    audio = noises(3, model.clip_samples)
    loud, soft = mfcc(model, audio), mfcc(model, 0.5 * audio)
    assert loud.shape == (3, 40) and np.abs(loud[:, 1:20] - soft[:, 1:20]).max() < 1e-3
    assert (loud[:, 0] - soft[:, 0]) == pytest.approx(np.sqrt(128) * np.log(2), abs=1e-2)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A store of the bundled notes of a few keys, half of the instruments held out."""
    folder = tmp_path_factory.mktemp("uses")
    words = ("--recipe", ROOT / "recipes" / "notes16k.yaml", "--data.keep_pitch", "[52, 66]")
    words += ("--data.test_instruments", "0.5", "--data.test_notes", "0.3")
    done = cli("prepare", ROOT / "recipes" / "notes", *words, "--out", folder / "store")
    assert done.returncode == 0, done.stderr
    return folder


def test_every_use_has_its_rows(small):
    odd = small / "odd"
    odd.mkdir()
    for i, audio in enumerate(torch.rand(4, 16384) - 0.5):
        soundfile.write(odd / f"{i}.wav", audio.numpy(), 16000)
    out = small / "report"
    words = (
        "--uses",
        "anomaly",
        "few-labels",
        "compression",
        "--clips",
        "32",
        "--label",
        "pitch",
        "--odd",
        f"rustle={odd}",
        "--out",
        out,
    )
    done = cli("evaluate-uses", "notes16k", "--store", small / "store", *words)
    assert done.returncode == 0, done.stderr
    rows = json.loads((out / "uses.json").read_text())["rows"]
    assert [r["use"] for r in rows] == ["anomaly"] * 2 + ["few labels"] * 3 + ["compression"] * 4
    for r in rows:
        assert r["ours"]["low"] - 1e-9 <= r["ours"]["value"] <= r["ours"]["high"] + 1e-9, r
    by = {r["what"]: r for r in rows}
    assert by["noise among instruments never heard"]["ours"]["value"] > 0.8
    few = [r["ours"]["value"] for r in rows if r["use"] == "few labels"]
    assert few[0] < few[2] and few[2] > 45  # the pitch of a dozen keys: more labels help
    packed = [r for r in rows if r["use"] == "compression"]
    sizes = [int(r["what"].split(" ")[0]) for r in packed]
    assert sizes == sorted(sizes) and sizes[-1] < 100 < int(packed[0]["baseline"].split(" ")[1])  # bytes, and Opus'
    assert max(r["ours"]["value"] for r in packed) < 6
    assert (out / "uses.md").read_text().count("\n") == len(rows) + 2


def test_mistakes(small, tmp_path):
    store = ("--store", small / "store", "--out", tmp_path / "out")
    assert "NAME=FOLDER" in one_line(cli("evaluate-uses", "notes16k", *store, "--odd", "x"))
    assert "there must be two" in one_line(
        cli("evaluate-uses", "notes16k", *store, "--uses", "few-labels", "--label", "velocity")
    )
    assert len(Store(small / "store").split("test_instrument")) and evaluate_uses
