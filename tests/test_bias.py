"""The balance of a data set: figures of known value, no false alarms, and what is skewed or missing is named."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RATE
from PIL import Image

from audio_vaegan.data.store import Store
from audio_vaegan.dataset.facts import Facts, Measured
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.bias import (
    balance_of_arrays,
    balance_of_dataset,
    balance_of_store,
    bias,
    bias_picture,
    describe,
    findings,
    write_bias,
)

HOSTILE = "<script>alert(1)</script>"


def classes(**counts: int) -> list[str]:
    return [name for name, count in counts.items() for _ in range(count)]


def of(name: str = "real", **counts: int) -> Any:
    return balance_of_arrays(name, classes(**counts))


def make(folder: Path, rows: list[dict[str, Any]], **facts: Any) -> Path:
    """A generated data set without its sounds: the balance needs its tables alone."""
    about: dict[str, Any] = {"name": "made", "layout": "audiofolder", "format": "wav", "sample_rate": RATE}
    about |= {"seconds": 0.5, "license": None, "asked": len(rows), "delivered": len(rows), "splits": {}}
    about |= {"controls": {"pitch": Measured("semitones (MIDI)", 40, 90, 0.5)}, "classes": (), "rejected": {}}
    about |= {"missing": {}, "seed": 0, "spec": {}, "spec_sha256": "0" * 64, "model_name": "m"}
    about |= {"model_hash": "1" * 64, "vocoder": "v"}
    (folder / "train").mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(Facts(**about | facts).to_json()))
    known = {"audio_sha256": "0" * 64, "sample_rate": RATE, "num_samples": RATE // 2, "loudness_lufs": -23.0}
    lines = [known | {"id": f"{i:04d}", "file_name": f"{i:04d}.wav"} | row for i, row in enumerate(rows)]
    (folder / "train" / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def test_an_even_set_has_evenness_one_and_one_class_of_two_has_none():
    even = bias(of(a=50, b=50, c=50), None)["aspects"]["class"]["real"]
    assert even["evenness"] == pytest.approx(1) and even["imbalance"] == 1
    one = bias(of(a=50, b=50), of("made", a=40))["aspects"]["class"]["generated"]
    assert (one["evenness"], one["empty"], one["largest"]) == (0, 1, {"name": "a", "share": 1.0})
    skewed = bias(of(a=75, b=25), None)["aspects"]["class"]["real"]
    assert skewed["evenness"] == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    assert skewed["imbalance"] == 3 and skewed["largest"] == {"name": "a", "share": 0.75}
    assert bias(of(a=50), None)["aspects"]["class"]["real"]["evenness"] is None


def test_total_variation_is_as_computed_by_hand():
    aspect = bias(of(a=60, b=30, c=10), of("made", a=20, b=15, d=15))["aspects"]["class"]
    d = aspect["distance"]
    assert d["value"] == pytest.approx((0.2 + 0.0 + 0.1 + 0.3) / 2)
    assert d["low"] < d["value"] < d["high"] and 0 < d["floor"] < d["value"]
    assert aspect["over"] == [{"name": "d", "real": 0, "generated": 0.3}]
    assert [c["name"] for c in aspect["under"]] == ["a", "c"]
    apart = bias(of(a=500), of("made", b=500))["aspects"]["class"]["distance"]
    assert apart["value"] == apart["high"] == 1


def test_bins_of_pitch_level_and_length_have_the_names_of_what_they_hold():
    # 59.5 is the semitone 60, as everywhere; 400 is no pitch, and neither is NaN.
    real = balance_of_arrays("x", pitch=[59.4, 59.5, 71.4, 400, np.nan], loudness=[-23.2, -23, -14, -120.5, np.nan])
    aspects = bias(real, None)["aspects"]
    assert aspects["pitch"]["categories"] == ["C3-B3 (48-59)", "C4-B4 (60-71)"]
    assert aspects["pitch"]["real"]["counts"] == [1, 2] and aspects["pitch"]["real"]["widths"] == [1, 12]
    assert aspects["semitone"]["categories"][:2] == ["B3 (59)", "C4 (60)"]
    assert aspects["semitone"]["real"]["empty"] == 10
    assert aspects["loudness"]["categories"] == [f"{a} to {a + 3} LUFS" for a in (-25.5, -22.5, -19.5, -16.5)]
    assert aspects["loudness"]["real"]["counts"] == [2, 0, 0, 1] and "duration" not in aspects
    assert bias(real, None)["sets"]["real"]["unknown"] == {"pitch": 2, "loudness": 2}
    lengths = bias(balance_of_arrays("x", duration=[1.0, 1.02, 0.99, 2.0]), None)["aspects"]["duration"]
    assert lengths["categories"][0] == "0.84 to 1.2 s" and lengths["real"]["counts"] == [3, 0, 1]
    wide = bias(balance_of_arrays("x", duration=np.geomspace(0.01, 60, 200)), None)["aspects"]["duration"]
    assert 6 <= len(wide["categories"]) <= 9


def test_an_octave_of_which_the_range_has_one_note_counts_as_one_note():
    figures = bias(balance_of_arrays("x", pitch=np.repeat(np.arange(48, 85), 5)), None)
    octaves = figures["aspects"]["pitch"]["real"]
    assert octaves["counts"][-1] == 5 and octaves["evenness"] == pytest.approx(1) and octaves["empty"] == 0
    assert findings(figures) == []


def some(count: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    names = rng.choice(["bass", "flute", "organ", "reed"], count, p=[0.4, 0.3, 0.2, 0.1])
    pitch = np.where(rng.random(count) < 0.1, np.nan, rng.normal(60, 8, count))
    columns = {"loudness": rng.normal(-25, 5, count), "duration": np.exp(rng.normal(0, 0.6, count))}
    return balance_of_arrays(f"set {seed}", names, pitch=pitch, **columns)


@pytest.mark.parametrize("counts", [(30, 30), (600, 40), (40, 600), (1500, 1500)])
def test_sets_of_one_source_raise_no_finding_and_differ_as_chance_makes(counts):
    for seed in range(0, 6, 2):
        real, made = some(counts[0], seed), some(counts[1], seed + 1)
        figures = bias(real, made)
        assert not [line for line in findings(figures) if "generated set" in line or "generated sounds" in line]
        for aspect in figures["aspects"].values():
            d = aspect["distance"]
            assert abs(d["value"] - d["floor"]) < 5 * d["floor_sd"] and d["low"] < d["floor"]
    same = bias(real, real)["aspects"]["class"]["distance"]
    assert same["value"] == same["low"] == 0 < same["floor"]


def test_a_class_that_dominates_and_one_that_is_rare_are_named():
    (said,) = findings(bias(of(reed=410, **{f"c{i}": 59 for i in range(10)}), None))
    assert said == "class: reed is 41 % of the sounds, the commonest of 11 (an even share would be 9.1 %)."
    (said,) = findings(bias(of(bass=100, flute=90, organ=80, reed=4), None))
    assert said == "class: few or no sounds of reed (4), beside 100 of bass."
    again = findings(bias(of(bass=300, flute=40, organ=30), of("made", bass=160, flute=22, organ=16)))
    assert len(again) == 1 and again[0].endswith("(an even share would be 33 %); 81 % of the generated ones.")
    assert findings(bias(of(a=6, b=1), None)) == ["Only 7 sounds: too few to say anything of their balance."]


def test_what_the_generated_set_lacks_adds_or_shifts_is_named():
    real = of(bass=400, flute=310, organ=90, reed=200)
    said = findings(bias(real, of("made", bass=800, flute=100, reed=60, kazoo=40)))
    assert said[0] == "class: the generated set has no organ (9.0 % of the real ones)."
    assert said[1] == "class: the real sounds have no kazoo (4.0 % of the generated ones)."
    assert said[2].startswith("class: the generated set is shifted, distance 0.44 where chance makes 0.0")
    assert "more bass (80 % instead of 40 %)" in said[2] and "less flute (10 % instead of 31 %)" in said[2]
    # Ten sounds of which none is an organ do not show that there are no organs.
    assert findings(bias(real, of("made", bass=4, flute=4, reed=2))) == []


def test_octaves_gaps_and_levels_are_named():
    low, high = np.repeat(np.arange(36, 84), 10), np.repeat(np.arange(48, 84), 10)
    said = findings(bias(balance_of_arrays("a", pitch=low), balance_of_arrays("b", pitch=high)))
    assert said[0] == "pitch: the generated set has nothing in C2-B2 (36-47) (25 % of the real ones)."
    gap = np.concatenate([np.repeat(np.arange(36, 48), 20), np.repeat(np.arange(60, 72), 20)])
    said = findings(bias(balance_of_arrays("a", pitch=gap), None))
    assert said[0] == "pitch: few or no sounds of C3-B3 (48-59) (0), beside 240 of C2-B2 (36-47)."
    assert said[1] == "pitch: 12 of the 36 semitones from C2 (36) to B4 (71) have no sound."
    narrow = balance_of_arrays("a", pitch=np.repeat([60, 61, 62], 20), loudness=np.full(60, -23.0))
    assert findings(bias(narrow, None)) == [
        "pitch: nothing below C4 (60) or above D4 (62).",
        "loudness: 100 % of the sounds lie in -25.5 to -22.5 LUFS: hardly any are softer or louder.",
    ]
    level = balance_of_arrays("a", loudness=np.linspace(-50, -14, 500))
    (said,) = findings(bias(level, balance_of_arrays("b", loudness=np.full(300, -23.0))))
    assert said.startswith("loudness: 100 % of the generated sounds lie in -25.5 to -22.5 LUFS, 8.")


def test_sounds_without_a_value_are_told():
    pitch = np.where(np.arange(100) < 30, np.nan, 40 + np.arange(100) % 40)
    assert "pitch: 30 % of the sounds have no measurable pitch." in findings(
        bias(balance_of_arrays("a", pitch=pitch), None)
    )
    full = balance_of_arrays("a", pitch=np.nan_to_num(pitch, nan=50))
    said = findings(bias(full, balance_of_arrays("b", pitch=pitch)))
    assert "pitch: 30 % of the generated sounds have no measurable pitch, but only 0 % of the real ones." in said
    labelled = balance_of_arrays("a", [None] * 10 + [""] * 10 + ["a", "b"] * 40)
    assert "class: 20 % of the sounds have no label." in findings(bias(labelled, None))
    with pytest.raises(ValueError, match="one length"):
        balance_of_arrays("a", ["a"], pitch=[60, 61])
    odd = bias(of(**{"鼓": 30, "$x_{": 30, "\ud800": 30}), None)
    assert bias_picture(odd) and describe(odd).encode()
    nothing = bias(balance_of_arrays("a"), balance_of_arrays("b"))
    assert nothing["aspects"] == {} and describe(nothing) and bias_picture(nothing)


def test_a_store_is_described_whole_or_by_split(tiny_store):
    store = Store(tiny_store)
    balance = balance_of_store(store)
    assert (len(balance), balance.label, balance.name) == (len(store), "instrument_family_str", "store")
    assert set(balance.classes) == {"organ"} and set(np.unique(balance.pitch)) == set(range(60, 70))
    assert np.unique(np.round(balance.duration, 3)).tolist() == [0.3, 0.512]
    np.testing.assert_allclose(balance.loudness, store.values("loudness"), rtol=1e-6)
    train = balance_of_store(store, "train", "instrument_str")
    assert len(train) == len(store.split("train")) and len(set(train.classes)) == 3
    figures = bias(balance, None)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["aspects"]["semitone"]["real"]["evenness"] == pytest.approx(1)
    assert describe(figures).splitlines()[0] == "balance of store: 40 sounds"
    assert Image.open(io.BytesIO(bias_picture(figures))).format == "PNG"


def test_mistakes_get_one_line(tiny_store, tmp_path):
    store = Store(tiny_store)
    with pytest.raises(UserError, match=r"--label instrumnt_str: .* has none\. Did you mean 'instrument_str'\?"):
        write_bias(store, tmp_path / "out", label="instrumnt_str")
    with pytest.raises(UserError, match=r"--split trian: no such split\. Did you mean 'train'\?"):
        write_bias(store, tmp_path / "out", split="trian")
    with pytest.raises(UserError, match=r"not a data set"):
        write_bias(store, tmp_path / "out", dataset=tmp_path)
    assert not (tmp_path / "out").exists()

    class Empty(Store):
        def __len__(self) -> int:
            return 0

    empty = Empty.__new__(Empty)
    empty.__dict__.update(store.__dict__)
    with pytest.raises(UserError, match=r"holds no clips"):
        balance_of_store(empty)


def test_a_generated_folder_stands_beside_the_store_on_the_page(tiny_store, tmp_path):
    store = Store(tiny_store)
    names = sorted(set(store.label("instrument_str")))
    rows = [{"pitch_achieved": 60.0 + i % 5, "pitch_requested": None} for i in range(60)]
    rows = [r | {"label": (*names[:2], HOSTILE)[i % 3], "instrument_str_unit": "class"} for i, r in enumerate(rows)]
    folder = make(tmp_path / "made", rows, name=f"set {HOSTILE}")
    page, figures = write_bias(store, tmp_path / "out", folder)
    assert (
        page == tmp_path / "out" / "bias.html" and json.loads((tmp_path / "out" / "bias.json").read_text()) == figures
    )
    # The label is the one that the data set was made by, not the store's first.
    assert figures["sets"]["real"]["label"] == figures["sets"]["generated"]["label"] == "instrument_str"
    assert f"class: the real sounds have no {HOSTILE} (33 % of the generated ones)." in figures["findings"]
    assert any(line.startswith(f"class: the generated set has no {names[2]} (25 %") for line in figures["findings"])
    html = page.read_text()
    assert "AI-generated" in html and "<script" not in html and "&lt;script&gt;" in html
    assert html.count("data:image/png;base64,") == 1 and "http" not in html
    with pytest.raises(UserError, match=r"already written; add --overwrite"):
        write_bias(store, tmp_path / "out", folder)
    write_bias(store, tmp_path / "out", overwrite=True)
    alone = page.read_text()
    assert "AI-generated" not in alone and "generated</th>" not in alone


def test_classes_of_another_label_are_not_compared(tmp_path):
    rows = [{"label": "a", "kind_unit": "class", "num_samples": RATE}]
    folder = make(tmp_path / "made", rows)
    own = balance_of_dataset(folder)
    assert (own.classes, own.label, own.duration.tolist(), own.loudness.tolist()) == (["a"], "kind", [1.0], [-23.0])
    other = balance_of_dataset(folder, "instrument_str")
    assert (other.classes, other.label) == ([None], None) and np.isnan(other.pitch).all()
