import json
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import RATE, cli, tone

from audio_vaegan.config import MelConfig
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.evaluate import table
from audio_vaegan.evaluation.identity import same_instrument
from audio_vaegan.evaluation.identity import table as identity_table
from audio_vaegan.evaluation.pictures import curves, mel_grid, pitch_scatter
from audio_vaegan.evaluation.pitch import Judge, score
from audio_vaegan.sound_model import SoundModel


def test_the_score_counts_what_the_protocol_says():
    asked = np.array([60.0, 60.0, 60.0, 60.0, 60.0])
    found = np.array([60.1, 60.6, np.nan, 72.0, 60.0])
    allowed = np.array([True, True, True, True, False])
    s = score(found, asked, ["a", "a", "b", "b", "c"], allowed)
    assert s.n == 4 and s.excluded == pytest.approx(20)
    assert s.within == pytest.approx(25)  # only the first: an unmeasurable output is a failure
    assert s.unmeasurable == pytest.approx(25) and s.median > 60
    assert s.low == 0 and s.high == 50  # bootstrap over instruments a (1 of 2) and b (0 of 2)


def test_a_perfect_and_an_empty_set():
    asked = np.linspace(50, 60, 11)
    s = score(asked + 0.04, asked, ["x"] * 11)
    assert (s.within, s.low, s.high) == (100, 100, 100) and s.median == pytest.approx(4) and s.p90 == pytest.approx(4)
    assert score(asked, asked, ["x"] * 11, np.zeros(11, dtype=bool)).n == 0


def test_the_judge_hears_the_pitch_of_tones_in_its_own_processes():
    asked = np.array([45.0, 52.5, 60.0, 75.0])
    with Judge(2) as judge:
        found = judge.measure([tone(m, 1.0) for m in asked], RATE)
    assert score(found, asked, list("abcd")).within == 100
    assert np.abs(found - asked).max() < 0.15


def test_pictures_are_pictures():
    mel = np.random.default_rng(0).normal(-6, 2, (32, 20)).astype(np.float32)
    for png in (
        mel_grid([[mel, mel]], ["a", "b"], ["row"], MelConfig(n_mels=32)),
        curves([{"step": 1, "mel": 0.5}, {"step": 2, "mel": 0.4}], {"reconstruction": ("mel", "absent")}),
        pitch_scatter({"all": (np.array([60.0, 62.0]), np.array([60.0, np.nan]))}),
    ):
        assert png.startswith(b"\x89PNG")


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [v for k, v in attrs if k in ("src", "href")]


def test_evaluate_writes_a_report_that_holds_together(tiny_run, tiny_store, tmp_path):
    out = tmp_path / "report"
    done = cli("evaluate", tiny_run, "--store", tiny_store, "--clips", "4", "--samples", "4", "--out", out)
    assert done.returncode == 0, done.stderr
    figures = json.loads((out / "report.json").read_text())
    for split in ("test_note", "test_instrument"):
        pitch = figures["splits"][split]["pitch"]
        assert pitch["real"]["within"] == 100 and pitch["copy"]["n"] == figures["splits"][split]["clips"]
        assert {"reconstructed", "edit +3", "all edits"} <= pitch.keys()
    assert figures["samples"]["n"] == 4
    page = (out / "report.html").read_text()
    links = Links()
    links.feed(page)
    sounds = [f for f in links.found if not f.startswith("data:image/png")]
    assert len(sounds) >= 12 and all((out / f).is_file() for f in sounds)
    assert sum(f.startswith("data:image/png") for f in links.found) >= 4
    assert "AI-generated" in page and figures["model_hash"][:12] in page
    assert "within 50 c" in done.stdout and str(out / "report.html") in done.stdout


def test_names_with_dollars_are_drawn_as_they_are():
    mel = np.zeros((8, 8), dtype=np.float32)
    assert mel_grid([[mel]], ["cash$$x"], ["a$_$b"], MelConfig(n_mels=8)).startswith(b"\x89PNG")


def test_what_has_no_pitch_leaves_no_panel_and_no_number():
    nothing = np.full(3, np.nan)
    assert pitch_scatter({"x": (nothing, nothing)}).startswith(b"\x89PNG")
    row = {"clips": 2, "mel_l1": 0.5, "pitch": {"copy": score(nothing, nothing, ["a"] * 3).to_json()}}
    row["meters_agree"] = {"meter": "m", "clips": 0, "within_50_cents": None}
    samples = score(nothing, np.zeros(3), ["a"] * 3).to_json()
    figures = {"splits": {"test_note": row}, "samples": samples, "samples_by": {"drawn": samples}, "prior": "N(0, I)"}
    text = table(figures)
    assert "no clip that both measure" in text and json.dumps(samples, allow_nan=False)


def test_a_note_that_is_moved_is_asked_whether_it_is_still_its_instrument(tiny_run, tiny_store):
    """The real notes are told apart; what an untrained model makes of them is told from them."""
    model, store = SoundModel.from_pretrained(tiny_run), Store(tiny_store)
    figures = same_instrument(model, store, "instrument_str", steps=120, say=lambda line: None)
    share = figures["share"]
    assert {"real", "copy", "reconstructed", "moved by +3"} <= share.keys() and figures["classes"] == 3
    assert share["real"]["n"] == len(store.split("test_note")) and share["real"]["mean"] > 60
    assert share["moved by +3"]["n"] < share["real"]["n"] + 1
    assert "taken for the same instrument_str" in identity_table(figures)
    with pytest.raises(UserError, match="needs two of them"):
        same_instrument(model, store, "instrument_family_str", say=lambda line: None)
