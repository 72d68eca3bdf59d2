"""Where sounds come from: each layout lists every file, with its labels."""

import io
import json
import os
import shutil
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import RATE, tone
from sf2 import write_sf2
from test_soundfont import needs_fluidsynth

from audio_vaegan.config import Recipe
from audio_vaegan.data.prepare import prepare
from audio_vaegan.data.sources import find
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError

RECIPE = Recipe.model_validate({"data": {"clip_samples": 8192}})


def sounds(root, *names):
    """Different tones under some names."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(50 + 3 * i), RATE)
    return root


def listed(root, recipe=RECIPE):
    return {f.name: f for f in find([root], recipe)}


def test_sub_folders_are_labels(tmp_path):
    found = listed(sounds(tmp_path, "a.wav", "kick/b.wav", "drums/snare/c.wav", "drums/x/y/d.wav"))
    assert [found[n].labels for n in ("a.wav", "kick/b.wav", "drums/snare/c.wav", "drums/x/y/d.wav")] == [
        {},
        {"folder": "kick"},
        {"folder": "drums", "subfolder": "snare"},
        {"folder": "drums", "subfolder": "y"},
    ]


TABLE = (
    "filename;pitch;speaker;note\nx/a.wav;60.5;anna;\nb;61;ben;soft\nb;7;;\ngone.wav;1;;\n../out.wav;1;;\n/etc/x;1;;\n"
)


@pytest.mark.parametrize("place", ["sounds/labels.csv", "sounds.csv"])
def test_a_table_beside_the_sounds_gives_labels_and_every_row_is_accounted_for(tmp_path, place):
    root = sounds(tmp_path / "sounds", "x/a.wav", "b.wav", "c.wav")
    (tmp_path / place).write_text("\ufeff" + TABLE, encoding="utf-8")
    found = listed(root)
    assert found["x/a.wav"].labels == {"folder": "x", "pitch": 60.5, "speaker": "anna"}
    assert found["b.wav"].labels == {"pitch": 61, "speaker": "ben", "note": "soft"}
    assert found["c.wav"].labels == {} and not found["c.wav"].refused
    refused = {n.split(": ")[-1]: f.refused for n, f in found.items() if f.refused}
    assert "twice" in refused["b"] and "no such" in refused["gone.wav"]
    assert "outside" in refused["../out.wav"] and "outside" in refused["/etc/x"]
    assert ("labels.csv" in refused) == (place == "sounds/labels.csv")


def test_a_name_that_fits_two_files_is_not_guessed(tmp_path):
    root = sounds(tmp_path, "x/a.wav", "y/a.wav")
    (root / "labels.tsv").write_text("file\tpitch\na.wav\t60\ny/a.wav\t61\n")
    found = listed(root)
    assert found["x/a.wav"].labels == {"folder": "x"} and found["y/a.wav"].labels == {"folder": "y", "pitch": 61}
    assert "several files bear that name" in found["labels.tsv: a.wav"].refused


@pytest.mark.parametrize("text", ["pitch,who\n60,x\n", "", "file,pitch\n", "file,pitch\n\xff,1\n"])
def test_a_table_that_names_no_files_is_a_mistake_in_one_line(tmp_path, text):
    root = sounds(tmp_path, "a.wav")
    (root / "labels.csv").write_text(text, encoding="latin-1")
    with pytest.raises(
        UserError, match=r"labels\.csv.*(no column names the files|cannot be read|without rows|not written in UTF-8)"
    ):
        listed(root)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_audio_folder(tmp_path, kind):
    root = sounds(tmp_path, "train/a.wav", "train/kick/b.wav", "test/c.wav", "test/d.wav")
    tables = {
        "train": [{"file_name": "a.wav", "pitch": 60}, {"file_name": "kick/b.wav", "pitch": 61}],
        "test": [
            {"file_name": "c.wav", "pitch": 62},
            {"file_name": "../train/a.wav", "pitch": 1},
            {"file_name": "no.wav"},
        ],
    }
    for split, rows in tables.items():
        path = root / split / f"metadata.{kind}"
        if kind == "jsonl":
            path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        elif kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            path.write_text("file_name,pitch\n" + "".join(f"{r['file_name']},{r.get('pitch', '')}\n" for r in rows))
    found = listed(root)
    assert found["train/a.wav"].labels == {"split": "train", "pitch": 60}
    assert found["train/kick/b.wav"].labels == {"split": "train", "subfolder": "kick", "pitch": 61}
    assert found["test/c.wav"].labels == {"split": "test", "pitch": 62} and not found["test/c.wav"].refused
    assert "not listed" in found["test/d.wav"].refused
    assert "outside" in found[f"test/metadata.{kind}: ../train/a.wav"].refused
    assert "no such file" in found[f"test/metadata.{kind}: no.wav"].refused
    assert "table of labels" in found[f"train/metadata.{kind}"].refused


def shard(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def flac(midi):
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(midi), RATE, format="FLAC")
    return buffer.getvalue()


def test_webdataset_tars_are_read_where_they_lie(tmp_path):
    root = tmp_path / "shards"
    root.mkdir()
    members = [("a.flac", flac(60)), ("a.json", b'{"pitch": 60, "who": "x", "none": null}'), ("b.json", b"{broken")]
    shard(root / "0.tar", [*members, ("b.flac", flac(64)), ("b.cls", b"7"), ("c.png", b"png"), ("../d.flac", flac(67))])
    shard(root / "1.tar", [("a.flac", flac(72)), ("lonely.txt", b"words")])
    (root / "2.tar").write_bytes((root / "0.tar").read_bytes()[:9000])
    (root / "3.tar.gz").write_bytes(b"\x1f\x8b")
    prepare([root], RECIPE, tmp_path / "store")
    files = {f["file"]: f for f in json.loads((tmp_path / "store" / "report.json").read_text())["files"]}
    used = {n for n, f in files.items() if f["used"]}
    assert used >= {"0.tar/a.flac", "0.tar/b.flac", "0.tar/../d.flac", "1.tar/a.flac"}
    reasons = {n: f["reason"] for n, f in files.items() if not f["used"]}
    assert "ending .png" in reasons["0.tar/c.png"] and "JSON" in reasons["0.tar/b.json"]
    assert "without a sound" in reasons["1.tar/lonely"] and "compressed" in reasons["3.tar.gz"]
    assert any(n.startswith("2.tar") and "breaks off" in r for n, r in reasons.items())
    rows = {r["source"]: r for r in Store(tmp_path / "store").items.to_pylist()}
    assert json.loads(rows["0.tar/a.flac"]["labels"]) == {"pitch": 60, "who": "x"}
    assert json.loads(rows["0.tar/b.flac"]["labels"]) == {"class": 7}
    assert rows["1.tar/a.flac"]["pitch"] == pytest.approx(72, abs=0.1)
    assert not list(tmp_path.rglob("d.flac"))  # nothing was unpacked


@needs_fluidsynth
def test_a_soundfont_is_a_source(tmp_path):
    font = tmp_path / "two.sf2"
    write_sf2(font, {"a": tone(60), "b": tone(60, harmonics=1)}, [(0, "One", "a"), (40, "Two", "b")], RATE)
    recipe = Recipe.model_validate({"data": {"clip_samples": 8192, "keep_pitch": [58, 62]}})
    prepare([font], recipe, tmp_path / "store")
    store = Store(tmp_path / "store")
    assert set(store.column("pitch")) <= {58, 59, 60, 61, 62} and len(store) >= 5
    off = np.abs(store.column("pitch_measured") - store.column("pitch"))
    assert np.nanmax(off) < 0.3 and set(store.column("pitch_from")) == {"label"}
    assert prepare([font], recipe, tmp_path / "store")["up_to_date"]


def test_files_of_one_label_stay_on_one_side(tmp_path):
    names = [f"{i}.wav" for i in range(12)]
    root = sounds(tmp_path / "s", *names)
    (root / "labels.csv").write_text("file,speaker\n" + "".join(f"{n},{i % 3}\n" for i, n in enumerate(names)))
    recipe = Recipe.model_validate({"data": {"clip_samples": 8192, "group_by": "speaker", "test_instruments": 0.34}})
    prepare([root], recipe, tmp_path / "store")
    store = Store(tmp_path / "store")
    split, speaker = store.column("split"), np.array(store.label("speaker"))
    held = set(speaker[split == "test_instrument"])
    assert len(held) == 1 and not held & set(speaker[split != "test_instrument"])


def test_labels_win_and_what_the_meter_doubts_is_told(tmp_path):
    root = sounds(tmp_path / "s", "right.wav", "wrong.wav", "named.wav", "hertz.wav", "words.wav")
    (root / "labels.csv").write_text(
        "file,pitch,pitch_hz,attack\nright,50,,slow\nwrong,70,,\nnamed,G#3,,\nhertz,,246.9417,-1.5\nwords,high,,\n"
    )
    summary = prepare([root], RECIPE, tmp_path / "store")
    files = {f["file"]: f for f in json.loads((tmp_path / "store" / "report.json").read_text())["files"]}
    assert (
        "its label of pitch is no MIDI number" in files["words.wav"]["notes"][0] and "notes" not in files["named.wav"]
    )
    rows = {r["source"]: r for r in Store(tmp_path / "store").items.to_pylist()}
    assert [rows[f"{n}.wav"]["pitch"] for n in ("right", "wrong", "named")] == [50, 70, 56]
    assert rows["hertz.wav"]["pitch"] == pytest.approx(59, abs=1e-3) and rows["hertz.wav"]["attack"] == -1.5
    assert rows["words.wav"]["pitch_from"] == "meter" and rows["words.wav"]["pitch"] == pytest.approx(62, abs=0.1)
    assert rows["right.wav"]["attack"] == rows["right.wav"]["attack_measured"]  # a word is no number
    assert summary["doubts"]["pitch"] == 1 and rows["wrong.wav"]["pitch_measured"] == pytest.approx(53, abs=0.1)


ODD_CELLS = [
    ".",
    "9" * 400,
    "C99999",
    "\ud800",
    "nan",
    "inf",
    "true",
    "0012",
    "1_2",
    "-0",
    "2020-01-01",
    "\x1b]0;x\x07",
    "1e999",
]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_odd_values_in_a_table_stop_nothing(tmp_path, kind):
    root = sounds(tmp_path / "s", *(f"{i}.wav" for i in range(len(ODD_CELLS))))
    names = ("pitch", "centroid", "pitch_hz", "who", "file")
    if kind == "csv":
        rows = ["file_name,pitch,centroid,pitch_hz,who"]
        rows += [f"{i}.wav" + f",{cell}" * 4 for i, cell in enumerate(ODD_CELLS)]
        (root / "labels.csv").write_bytes("\n".join([*rows, ".,1,1,1,1", "short"]).encode("utf-8", "replace"))
    else:
        odd = [*ODD_CELLS[:-2], {"nested": [1]}, -1.5]
        lines = [json.dumps({"file_name": f"{i}.wav"} | dict.fromkeys(names[:4], cell)) for i, cell in enumerate(odd)]
        lines += ['{"file_name": ".", "a": "line\u2028break"}', '{"pitch": 1}', '{"file_name": null, "x": NaN}']
        (root / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    summary = prepare([root], RECIPE, tmp_path / "store")
    assert summary["files_used"] == len(ODD_CELLS) - (kind == "jsonl")  # a pitch of -1.5 lies outside data.keep_pitch
    rows = {r["source"]: r for r in Store(tmp_path / "store").items.to_pylist()}
    assert all(
        r["pitch_from"] == "meter" and -36 <= r["pitch"] <= 152
        for r in rows.values()
        if r["pitch"] is not None and r["source"] not in ("9.wav", "12.wav")
    )
    who = [json.loads(rows[f"{i}.wav"]["labels"]).get("who") for i in range(9)]
    assert who[0] == "." and who[4] is None and who[7:9] == ["0012", "1_2"]


def test_a_group_that_no_file_has_is_a_mistake(tmp_path):
    root = sounds(tmp_path, "a/1.wav")
    recipe = Recipe.model_validate({"data": {"clip_samples": 8192, "group_by": "speeker"}})
    with pytest.raises(UserError, match=r"group_by speeker: no file has that label \(labels there: folder\)"):
        listed(root, recipe)


def test_pitch_labels_of_every_kind_are_kept_or_left_out_alike(tmp_path):
    root = sounds(tmp_path, "a.wav", "b.wav", "c.wav", "d.wav")
    (root / "labels.csv").write_text("file,pitch,pitch_hz\na,C2,\nb,,65.4\nc,60,\nd,C4,\n")
    recipe = Recipe.model_validate({"data": {"keep_pitch": [58, 62]}})
    refused = {n: bool(f.refused) for n, f in listed(root, recipe).items() if n.endswith(".wav")}
    assert refused == {"a.wav": True, "b.wav": True, "c.wav": False, "d.wav": False}


def test_other_tables_and_tars_do_not_hide_sounds(tmp_path):
    root = sounds(tmp_path, "set/a.wav", "made/b.wav")
    (root / "labels.csv").write_text("file,pitch\nset/a.wav,60\n")
    (root / "made" / "metadata.jsonl").write_text(json.dumps({"file_name": "b.wav"}))
    shard(root / "set.tar", [("a.flac", flac(60))])
    found = listed(root)
    assert found["set/a.wav"].labels["pitch"] == 60 and not found["made/b.wav"].refused and found["set.tar"].refused


def test_everything_in_an_nsynth_folder_is_accounted_for(tmp_path):
    root = sounds(tmp_path, "audio/a.wav", "audio/extra.wav", "audio/deep/b.wav", "beside.wav")
    (root / "examples.json").write_text(json.dumps({"a": {"pitch": 60, "qualities_str": 5, "velocity": 1e400}}))
    reasons = {n: f.refused for n, f in listed(root).items()}
    assert reasons.pop("audio/a.wav") is None
    assert set(reasons) == {"audio/extra.wav", "audio/deep", "audio/deep/b.wav", "beside.wav", "examples.json"}
    assert all(reasons.values())


@pytest.mark.parametrize("size", [-600, 10**13, 10**30])
def test_sizes_that_a_tar_invents_are_not_believed(tmp_path, size):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, claimed in (("a.flac", None), ("b.flac", size)):
            info, data = tarfile.TarInfo(name), flac(60)
            info.size = len(data)
            info.pax_headers = {"size": str(claimed)} if claimed else {}
            tar.addfile(info, io.BytesIO(data))
    prepare([tmp_path / "a.tar"], RECIPE, tmp_path / "store")
    assert Store(tmp_path / "store").column("source").tolist() == ["a.flac"]


def test_equal_names_are_told_apart(tmp_path):
    shard(tmp_path / "a.tar", [("a.wav", b"x"), ("a.wav", b"x"), ("a.wav~2", b"x"), ("a.wav", b"x")])
    assert len(listed(tmp_path / "a.tar")) == len({f.name for f in find([tmp_path / "a.tar"], RECIPE)}) == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('file,a\n0.wav,"kick\n1.wav,x\n2.wav,y\n', "line 2: unexpected end of data"),
        ('file,a\n0.wav,x\n1.wav,"kick\n2.wav,"snare"\n', "line 3: .*expected after"),
        ("file,a,a\n0.wav,x,y\n", "line 1: the column a is there twice"),
        ("file,a\n0.wav,x\n1.wav,x,y\n", "line 3: more cells than"),
    ],
)
def test_a_table_whose_rows_cannot_be_told_apart_is_a_mistake(tmp_path, text, says):
    root = sounds(tmp_path, "0.wav", "1.wav", "2.wav")
    (root / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=r"labels\.csv: cannot be read as a table of labels \(" + says):
        listed(root)
    (root / "labels.csv").write_text('file,a,\n0.wav,5" drum,,\n1.wav,"a ""b"" c"\n')  # lone quotes, empty cells
    assert [listed(root)[f"{i}.wav"].labels for i in (0, 1)] == [{"a": '5" drum'}, {"a": 'a "b" c'}]
    (root / "labels.csv").unlink()
    (root / "labels.tsv").write_text('file\ta\n0.wav\t"Hello," he said.\n1.wav\tx\n')  # by tabs a quote may be text
    assert [listed(root)[f"{i}.wav"].labels for i in (0, 1)] == [{"a": '"Hello," he said.'}, {"a": "x"}]


@pytest.mark.parametrize("zone", ["years", "Mars/Base"])
def test_dates_that_python_cannot_hold_are_a_mistake_in_one_line(tmp_path, zone):
    root = sounds(tmp_path, "a.wav")
    when = pa.array([253402300800], pa.timestamp("s")) if zone == "years" else pa.array([0], pa.timestamp("s", zone))
    pq.write_table(pa.table({"file": ["a.wav"], "when": when}), root / "labels.parquet")
    with pytest.raises(UserError, match=r"labels\.parquet: cannot be read as a table of labels") as e:
        listed(root)
    assert "\n" not in str(e.value)


def test_tars_that_were_joined_are_read_to_the_end(tmp_path):
    for i in (0, 1):
        shard(tmp_path / f"{i}.tar", [("a.flac", flac(60 + i)), ("a.json", b'{"n": %d}' % i), (f"b{i}.flac", flac(70))])
    joined = (tmp_path / "0.tar").read_bytes() + (tmp_path / "1.tar").read_bytes()
    (tmp_path / "all.tar").write_bytes(joined)
    found = listed(tmp_path / "all.tar")
    assert {n: f.labels for n, f in found.items()} == {
        "a.flac": {"n": 0},
        "a.flac~2": {"n": 1},
        "b0.flac": {},
        "b1.flac": {},
    }
    assert found["a.flac~2"].source.sound(found["a.flac~2"]) == flac(61)
    (tmp_path / "all.tar").write_bytes(joined[:20480] + b"junk" * 200)
    assert "breaks off" in listed(tmp_path / "all.tar")["all.tar"].refused


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names are Unicode there")
def test_names_that_print_alike_are_both_accounted_for(tmp_path):
    root = sounds(tmp_path, "a\\x80.wav", "b.wav")
    shutil.copy(root / "b.wav", os.fsencode(root) + b"/a\x80.wav")
    (root / "metadata.csv").write_text("file_name,n\na\\x80.wav,1\nb.wav,2\n")
    assert sum(f.path.suffix == ".wav" for f in listed(root).values()) == 3


def test_what_lies_beside_a_note_does_not_take_its_place_and_a_number_names_an_instrument(tmp_path):
    root = sounds(tmp_path, "audio/n0.wav", "audio/n1.wav")
    (root / "audio" / "n0.json").write_text("{}")
    (root / "audio" / "n1.txt").write_text("x")
    (root / "examples.json").write_text(json.dumps({f"n{i}": {"pitch": 60, "instrument": 0} for i in (0, 1)}))
    found = listed(root)
    assert all(
        not found[f"audio/n{i}.wav"].refused and found[f"audio/n{i}.wav"].group == "instrument 0" for i in (0, 1)
    )
    assert "not a sound" in found["audio/n0.json"].refused and "not a sound" in found["audio/n1.txt"].refused


def test_a_link_gives_the_name_and_its_target_the_identity(tmp_path):
    real = sounds(tmp_path / "real", "a.wav")
    (tmp_path / "sounds").symlink_to(real)
    (tmp_path / "sounds.csv").write_text("file,who\na,anna\n")
    prepare([tmp_path / "sounds", real], RECIPE, tmp_path / "store")
    files = {f["file"]: f for f in json.loads((tmp_path / "store" / "report.json").read_text())["files"]}
    assert files["a.wav"]["used"] and "given twice" in files["real/a.wav"]["reason"]
    assert Store(tmp_path / "store").label("who") == ["anna"]
    (tmp_path / "way").symlink_to(tmp_path / "real")
    sounds(tmp_path / "beside", "c.wav")
    prepare([tmp_path / "way" / ".." / "beside"], RECIPE, tmp_path / "followed")  # beside where the link leads
    shard(tmp_path / "0a1b", [("b.flac", flac(60))])
    (tmp_path / "train.tar").symlink_to("0a1b")
    prepare([tmp_path / "train.tar"], RECIPE, tmp_path / "tarred")
    assert Store(tmp_path / "tarred").column("source").tolist() == ["b.flac"]


def test_numbers_keep_and_hold_out_folders_of_that_name(tmp_path):
    root = sounds(tmp_path / "in", "808/a.wav", "808/b.wav", "909/c.wav", "7/d.wav")
    recipe = {"data": {"clip_samples": 8192, "keep": {"folder": [808, 909]}, "hold_out": {"folder": [909]}}}
    prepare([root], Recipe.model_validate(recipe), tmp_path / "store")
    store = Store(tmp_path / "store")
    side = dict(zip(store.column("source"), store.column("split"), strict=True))
    assert set(side) == {"808/a.wav", "808/b.wav", "909/c.wav"} and side["909/c.wav"] == "test_instrument"
