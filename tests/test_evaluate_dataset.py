"""The check of a finished data set finds what is wrong with it, and its use is measured on notes nobody heard."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import parselmouth
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import RATE, tone

from audio_vaegan.audio import read, write
from audio_vaegan.config import MelConfig
from audio_vaegan.data.store import Store
from audio_vaegan.dataset.facts import Facts, Measured
from audio_vaegan.descriptors.judge_controls import judge_control
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.classifier import Classifier, Notes, train_and_test, usefulness
from audio_vaegan.evaluation.dataset import check_files, describe, judge_dataset, read_rows
from audio_vaegan.evaluation.pitch import Judge

PITCHES = (45.0, 52.5, 60.0, 66.9, 75.0, 84.0)


def make(folder: Path, sounds: list[np.ndarray], rows: list[dict[str, Any]], **facts: Any) -> Path:
    """A data set in audiofolder layout, in two splits: the table of one is Parquet, as written, of the other JSON."""
    controls = {"pitch": Measured("semitones (MIDI)", 40, 90, 0.5), "brightness": Measured("semitones", 0, 60, 1.0)}
    about: dict[str, Any] = {"name": "tones", "layout": "audiofolder", "format": "wav", "sample_rate": RATE}
    about |= {"seconds": 0.5, "license": None, "asked": len(rows), "delivered": len(rows), "splits": {}}
    about |= {"controls": controls, "classes": (), "rejected": {}, "missing": {}, "seed": 0, "spec": {}}
    about |= {"spec_sha256": "0" * 64, "model_name": "m", "model_hash": "1" * 64, "vocoder": "v"}
    tables: dict[Path, list[dict[str, Any]]] = {}
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps(Facts(**about | facts).to_json()))
    for i, (audio, row) in enumerate(zip(sounds, rows, strict=True)):
        split = folder / ("test" if i % 5 == 4 else "train")
        split.mkdir(exist_ok=True)
        file = split / f"{i:06d}.wav"
        write(file, audio, RATE)
        known = {"id": file.stem, "split": split.name, "file_name": file.name, "num_samples": len(audio)}
        known |= {"sample_rate": RATE, "audio_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        tables.setdefault(split, []).append(known | row)
    for split, table in tables.items():
        if split.name == "train":
            (split / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in table))
        else:
            pq.write_table(pa.Table.from_pylist(table), split / "metadata.parquet")
    return folder


def labels(pitch: float, audio: np.ndarray, shift: float = 0.0) -> dict[str, Any]:
    bright = judge_control("brightness", audio, RATE)
    return {"pitch_requested": pitch + shift, "pitch_achieved": pitch, "brightness_requested": bright + 1.5 * shift}


@pytest.fixture(scope="module")
def judge():
    with Judge(1) as judge:
        yield judge


@pytest.fixture
def tones() -> list[np.ndarray]:
    return [tone(pitch, 0.5) for pitch in PITCHES]


def test_true_labels_score_all_and_praat_agrees(tmp_path, judge, tones):
    folder = make(tmp_path / "ds", tones, [labels(p, a) for p, a in zip(PITCHES, tones, strict=True)])
    figures = judge_dataset(folder, judge, None)
    json.dumps(figures, allow_nan=False)
    meters = figures["controls"]["pitch"]["meters"]
    assert set(meters) >= {"pYIN"}
    for found in meters.values():
        assert found["n"] == 6 and found["unmeasurable"] == 0
        for share in ("within_50_cents", "within_tolerance", "as_written"):
            assert found[share] == {"value": 100, "low": 100, "high": 100}
        assert found["median"]["value"] < 10 and found["p95"]["high"] < 30
    bright = figures["controls"]["brightness"]["meters"]["judge"]
    assert bright["within_tolerance"]["value"] == 100 and bright["as_written"]["value"] == 0  # nothing was written
    assert all(figures["files"][f]["count"] == 0 for f in ("unreadable", "length", "rate", "changed", "copies"))
    text = describe(figures)
    assert "every file decodes" in text and "pitch by pYIN, 6 requests: 100 (100 - 100) % within 50 cents" in text
    assert "swift-f0 is the meter of pitch that had no part" in text
    for row, path in read_rows(folder):
        audio, rate = read(path)
        f0 = parselmouth.Sound(audio.astype(np.float64), rate).to_pitch_ac(None, 40, pitch_ceiling=1500)
        hz = f0.selected_array["frequency"]
        assert 69 + 12 * np.log2(np.median(hz[hz > 0]) / 440) == pytest.approx(row["pitch_requested"], abs=0.1)


def test_labels_a_semitone_off_score_nothing(tmp_path, judge, tones):
    rows = [labels(p, a, shift=1.0) for p, a in zip(PITCHES, tones, strict=True)]
    controls = judge_dataset(make(tmp_path / "ds", tones, rows), judge, 3)["controls"]
    for found in controls["pitch"]["meters"].values():
        assert found["n"] == 3 and found["within_50_cents"]["value"] == 0 and found["within_tolerance"]["high"] == 0
        assert found["median"]["value"] == pytest.approx(100, abs=10) and found["as_written"]["value"] == 100
    assert controls["brightness"]["meters"]["judge"]["within_tolerance"]["value"] == 0


def test_classes_have_no_judge_and_the_specs_loudness_has_one(tmp_path, judge, tones):
    """Whose only requests are classes is not judged at all, and said to be so; a loudness of all is heard."""
    rows = [{"kind_requested": "organ", "kind_achieved": "organ", "loudness_lufs": -20.0} for _ in tones]
    figures = judge_dataset(make(tmp_path / "a", tones, rows, classes=("organ",)), judge, None)
    assert figures["judged"] == 0 and figures["controls"] == {} and figures["not_judged"] == ["kind"]
    text = describe(figures)
    assert "6 sounds, 0 of them judged" in text and "kind: was asked for, and there is no judge of it" in text
    level = float(judge_control("loudness", tones[0], RATE))
    tones = [a * 10 ** ((level - judge_control("loudness", a, RATE)) / 20) for a in tones]
    tones[5] = 0.9 * tones[5]  # 0.9 dB softer
    rows = [row | {"loudness_lufs": level} for row in rows]
    folder = make(tmp_path / "b", tones, rows, spec={"loudness": level}, loudness_tolerance=0.5)
    figures = judge_dataset(folder, judge, None)
    found = figures["controls"]["loudness"]["meters"]["judge"]
    assert figures["judged"] == found["n"] == 6 and figures["not_judged"] == ["kind"]
    assert found["within_tolerance"]["value"] == found["as_written"]["value"] == pytest.approx(500 / 6)
    assert "loudness by judge, 6 requests: 83.33" in describe(figures)


class FakeJudge:
    """Finds the same pitch everywhere, and none in silence."""

    def __init__(self) -> None:
        self.heard = 0

    def measure_controls(self, audio, sample_rate, names, lengths=None, name="judge", fine=False):
        assert fine and set(names) == {"pitch"}
        self.heard += len(audio)
        return {"pitch": np.array([60.0 if np.any(a) else np.nan for a in audio])}


def test_what_cannot_be_heard_is_a_failure(tmp_path, tones):
    sounds = [tones[2], np.zeros(8000, dtype=np.float32), *(tone(60, 0.5, h) for h in (1, 2, 3))]
    folder = make(tmp_path / "ds", sounds, [{"pitch_requested": 60.0, "pitch_achieved": 60.0}] * 5)
    (folder / "train" / "000002.wav").unlink()
    judge = FakeJudge()
    figures = judge_dataset(folder, judge, None)
    found = figures["controls"]["pitch"]["meters"]["pYIN"]
    assert judge.heard == found["n"] == 5 and found["unmeasurable"] == pytest.approx(40)
    assert found["within_50_cents"]["value"] == pytest.approx(60) and found["p95"]["value"] is None
    json.dumps(figures, allow_nan=False)
    assert "P95 inf" in describe(figures)
    assert figures["files"]["unreadable"] == {"count": 1, "ids": ["000002"]}


def test_only_what_was_requested_is_judged(tmp_path, tones):
    rows: list[dict[str, Any]] = [{"pitch_requested": None, "pitch_achieved": 60.0, "label": "organ"} for _ in tones]
    rows[0]["pitch_requested"] = 60.0
    rows[1]["pitch_requested"] = 20.0  # swift-f0 does not hear so low
    figures = judge_dataset(make(tmp_path / "ds", tones, rows), FakeJudge(), None)
    assert list(figures["controls"]) == ["pitch"]
    meters = figures["controls"]["pitch"]["meters"]
    assert [meters[m]["n"] for m in meters] == [2, 1][: len(meters)]


def test_files_that_are_not_what_their_rows_say_are_found(tmp_path, tones):
    tones[5] = tones[0]
    folder = make(tmp_path / "ds", tones, [{} for _ in tones])
    changed, short, faster = (folder / "train" / f"{i:06d}.wav" for i in (1, 2, 3))
    data = bytearray(changed.read_bytes())
    data[5000] ^= 1  # one bit of one sample
    changed.write_bytes(data)
    write(short, tones[2][:-1], RATE)
    write(faster, tones[3], 2 * RATE)
    (folder / "test" / "000004.wav").write_bytes(b"RIFF")
    found = {k: v["ids"] for k, v in check_files(read_rows(folder)).items() if k != "checked"}
    assert found.pop("changed") == ["000001", "000002", "000003"]
    assert found == {"unreadable": ["000004"], "length": ["000002"], "rate": ["000003"], "copies": ["000005"]}


@pytest.mark.parametrize("name", ["../out.wav", "/etc/passwd", "a/../../../out.wav", "link.wav", "\0"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, tones, name):
    folder = make(tmp_path / "ds", tones[:1], [{}])
    (tmp_path / "out.wav").write_bytes(b"")
    (folder / "train" / "link.wav").symlink_to(tmp_path / "out.wav")
    table = folder / "train" / "metadata.jsonl"
    table.write_text(json.dumps(json.loads(table.read_text()) | {"file_name": name}) + "\n")
    with pytest.raises(UserError, match=r"row 1: file_name .* leads out of its folder"):
        read_rows(folder)


def test_what_is_no_data_set_is_said_in_one_line(tmp_path, tones):
    with pytest.raises(UserError, match=r"no dataset\.json"):
        read_rows(tmp_path)
    for layout in ("parquet", "webdataset"):
        with pytest.raises(UserError, match=f"layout {layout}; only audiofolder"):
            read_rows(make(tmp_path / layout, [], [], layout=layout))
    with pytest.raises(UserError, match="without sounds"):
        read_rows(make(tmp_path / "empty", [], []))
    folder = make(tmp_path / "ds", tones[:2], [{}, {}])
    table = folder / "train" / "metadata.jsonl"
    whole = table.read_text()
    for line in ("[1]", '{"id": 3}', whole.split("\n")[1].replace("8000", '"8000"'), "{"):
        table.write_text(f"{whole}\n{line}\n")
        with pytest.raises(UserError, match=r"cannot be read" if line == "{" else r"row 3: .*needs id, file_name") as e:
            read_rows(folder)
        assert "\n" not in str(e.value)
    table.write_text(whole)
    (folder / "train" / "metadata.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"metadata\.parquet: cannot be read"):
        read_rows(folder)
    (folder / "dataset.json").write_text('{"controls": []}')
    with pytest.raises(UserError, match="damaged"):
        read_rows(folder)


def generated(folder: Path, move: int = 0, **facts: Any) -> Path:
    """Tones of other instruments than the store's; `move` puts the labels on other notes, round in a circle."""
    made = [(p, tone(p, 0.5, h, decay=d)) for p in range(60, 70) for h, d in ((1, 9), (2, 2), (4, 0), (9, 4))]
    rows = [{"pitch_requested": 60.0 + (p - 60 + move) % 10, "label": "organ"} for p, _ in made]
    return make(folder, [a for _, a in made], rows, **facts)


def test_a_classifier_learns_from_true_labels_and_not_from_false_ones(tmp_path, tiny_store):
    store, said = Store(tiny_store), []
    facts = {"trained_on": {"store": store.content_hash}}
    good = usefulness(store, generated(tmp_path / "good", **facts), steps=160, seeds=1, say=said.append)
    json.dumps(good, allow_nan=False)
    own = good["trainings"]
    assert set(own) == {"real", "generated", "real + generated"} and good["classes"] == 10
    assert own["generated"]["clips"] == 40 and own["real + generated"]["clips"] == 40 + own["real"]["clips"]
    assert all(t["accuracy"]["mean"] >= 50 > 3 * good["chance"] for t in own.values()), own
    assert all(t["within_a_semitone"]["mean"] >= t["accuracy"]["mean"] for t in own.values())
    assert all(t["untaught"] == 0 for t in own.values())
    gain = own["real + generated"]["accuracy"]["mean"] - own["real"]["accuracy"]["mean"]
    assert good["gain"]["mean"] == pytest.approx(gain)
    assert len(said) == 6 and "never heard" in said[-1]

    bad = usefulness(store, generated(tmp_path / "bad", move=5), real=12, steps=50, seeds=1, say=said.append)
    assert bad["trainings"]["generated"]["accuracy"]["mean"] <= 2 * bad["chance"]
    assert bad["trainings"]["real"]["clips"] == 12 and "not known" in said[-1]


def test_pitches_between_notes_are_left_out_and_counted(tmp_path, tiny_store):
    store = Store(tiny_store)
    rows: list[dict[str, Any]] = [{"pitch_requested": p} for p in (60.2, 60.4, None, 61.0, 66.8)]
    rows[0]["source"] = f"elsewhere/{store.column('source')[store.split('test_instrument')[0]].split('/')[-1]}"
    folder = make(tmp_path / "ds", [tone(60, 0.2)] * 5, rows)
    found = usefulness(store, folder, steps=1, seeds=1, say=lambda text: None)
    assert found["left_out"] == {"real": 0, "generated": 2, "test": 0}
    assert found["trainings"]["generated"]["clips"] == 3
    assert found["trainings"]["generated"]["untaught"] == 7  # only 60, 61 and 67 were asked for
    assert found["notes"][-1].startswith("1 sounds are variations of files named as notes of the test")


def test_a_class_label_can_be_learned(tmp_path, tiny_store):
    store = Store(tiny_store)
    folder = make(tmp_path / "ds", [tone(60, 1.0), tone(64, 0.2)], [{"label": "organ"}, {"label": "bell"}])
    found = usefulness(store, folder, "instrument_family_str", steps=1, seeds=1, say=lambda text: None)
    assert found["classes"] == 2 and found["chance"] == 100 and "within_a_semitone" not in found["trainings"]["real"]


def test_the_same_seed_gives_the_same_answer():
    mel, rng = MelConfig(n_mels=32), np.random.default_rng(0)
    notes = Notes(torch.from_numpy(rng.normal(-6, 3, (40, 32, 9))).half(), rng.integers(0, 4, 40))
    first, again, other = (train_and_test([notes, notes], notes, mel, 4, 8, seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
    assert 80_000 < sum(p.numel() for p in Classifier(MelConfig(), 60).parameters()) < 120_000


def test_what_cannot_be_compared_is_said_in_one_line(tmp_path, tiny_store):
    store = Store(tiny_store)
    folder = make(tmp_path / "ds", [tone(60)], [{"pitch_requested": 60.0, "label": "organ"}])
    for label, line in (
        ("colour", "--label colour: --store .* has none. Known: pitch, instrument_family_str"),
        ("instrument_family_str", r"all have the same one \(organ\)"),
        ("instrument_str", "no note of its test_instrument has a known instrument_str"),
    ):
        with pytest.raises(UserError, match=line):
            usefulness(store, folder, label)
    with pytest.raises(UserError, match="no sound has a known pitch"):
        usefulness(store, make(tmp_path / "bare", [tone(60)], [{}]))
    write(folder / "train" / "000000.wav", tone(60), 8000)
    with pytest.raises(UserError, match=r"8000 Hz, but the notes of --store .* have 16000 Hz"):
        usefulness(store, folder)
