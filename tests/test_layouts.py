"""A data set on the disk, read back by the libraries that its users have."""

import hashlib
import json
import sys
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import RATE, tone

from audio_vaegan.audio import encode_recording, encode_wav
from audio_vaegan.config import Recipe
from audio_vaegan.data.nsynth import KEYS
from audio_vaegan.data.sources import find
from audio_vaegan.dataset import layouts
from audio_vaegan.dataset.columns import card_features, columns, written_columns
from audio_vaegan.dataset.croissant import croissant
from audio_vaegan.dataset.facts import Facts, Measured
from audio_vaegan.dataset.layouts import LAYOUTS, data_files, write_layout
from audio_vaegan.files import sha256_file, write_json

RECIPE = Recipe.model_validate({"data": {"clip_samples": 8192}})
# None first and a number later; None throughout a split; a class; a float without decimals; a word that looks a number.
SPLITS = ("train", "test", "train", "validation", "train", "test", "train")
PITCH = (None, None, 60, 61.4, 62.5, None, 90.0)
LABELS = ("organ", "kazoo", "kazoo", "organ", "bass", "bass", "kazoo")
COUNTS = {"train": 4, "validation": 1, "test": 2}
CONTROLS = {
    "pitch": Measured("semitones (MIDI)", 40, 90, 0.5),
    "attack": Measured("log10 s", -3, 0, None),
    "folder": Measured("class", 0, 2, None),
}


def facts_of(layout, ending="wav", **more):
    known = {
        "name": "Seven sines", "layout": layout, "format": ending, "sample_rate": RATE, "seconds": 0.2,
        "license": "CC0-1.0", "asked": 8, "delivered": 7, "splits": COUNTS, "controls": CONTROLS,
        "classes": ("bass", "kazoo", "organ"), "rejected": {"pitch": 3}, "missing": {"pitch": 1}, "seed": 5,
        "spec": {"count": 8}, "spec_sha256": "ab" * 32, "model_name": "tiny", "model_hash": "cd" * 32,
        "vocoder": "griffin-lim", "trained_on": {"clips": 12}, "fingerprints": 0, "version": "0.1.0", "torch": "2.13",
    }  # fmt: skip
    return Facts(**(known | more))


def made(ending="wav"):
    """Seven sounds as the factory delivers them."""
    for i, (split, pitch, label) in enumerate(zip(SPLITS, PITCH, LABELS, strict=True)):
        audio = tone(pitch or 50 + i, 0.2, harmonics=1)
        file = encode_wav(audio, RATE, "ü") if ending == "wav" else encode_recording(audio, RATE, "FLAC")
        row = {
            "id": f"{i:06d}",
            "split": split,
            "label": label,
            "pitch_requested": pitch,
            "pitch_achieved": None if pitch is None else pitch + 0.25,
            "pitch_unit": "semitones (MIDI)",
            "attack_requested": None,
            "attack_achieved": -2.5,
            "attack_unit": "log10 s",
            "folder_requested": label if i else None,
            "folder_achieved": label if i == 4 else None,
            "folder_unit": "class",
            "model_hash": "cd" * 32,
            "vocoder": "griffin-lim",
            "seed": 2**62 - 1,
            "item": i,
            "attempt": 0,
            "address": f"s={i}",
            "sample_rate": RATE,
            "num_samples": 3200,
            "peak_dbfs": -6,
            "loudness_lufs": None if i == 1 else -6.0 - 10 * i,
            "nearest_training": None,
            "audio_sha256": hashlib.sha256(file).hexdigest(),
            "synthetic": True,
            "license": None,
        }
        yield row, file


def write(tmp_path, layout, ending="wav", name="set"):
    """A data set with its card, as much of it as loaders read."""
    folder = tmp_path / name
    folder.mkdir()
    write_layout(layout, folder, made(ending), facts_of(layout, ending))
    files = data_files(layout, facts_of(layout, ending))
    card = {"configs": [{"config_name": "default", "data_files": files}]} if files else {}
    if features := card_features(layout, folder, facts_of(layout, ending)):
        card["dataset_info"] = {"features": features}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\nA card.\n")
    return folder


def expected(split):
    return [(row, file) for row, file in made() if row["split"] == split]


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    """Hugging Face's `datasets`, offline. It asks for torchcodec even where nothing is encoded; that package must fit
    torch, so a stand-in answers."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    library = pytest.importorskip("datasets")
    library.disable_progress_bars()
    for name in ("torchcodec", "torchcodec.encoders"):
        if name not in sys.modules:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
    if not hasattr(sys.modules["torchcodec.encoders"], "AudioEncoder"):
        monkeypatch.setattr(sys.modules["torchcodec.encoders"], "AudioEncoder", None, raising=False)

    return library


@pytest.fixture
def load(datasets, tmp_path):
    """`load_dataset` into a cache of its own; sounds come as they lie there, not decoded."""

    def run(*words, **options):
        loaded = datasets.load_dataset(*words, **options, cache_dir=str(tmp_path / "cache"))
        audio = next(name for name in next(iter(loaded.values())).features if name in ("audio", "wav", "flac"))
        return {split: part.cast_column(audio, datasets.Audio(decode=False)) for split, part in loaded.items()}

    return run


def check_types(features):
    """As the contract says, whatever the values."""
    types = {name: feature.dtype for name, feature in features.items() if name != "audio"}
    for name in ("pitch_requested", "pitch_achieved", "attack_requested", "nearest_training"):
        assert types[name] == "float64"
    assert {types[n] for n in ("id", "label", "folder_requested", "folder_achieved", "license")} == {"string"}
    assert {types[n] for n in ("seed", "item", "num_samples")} == {"int64"} and types["synthetic"] == "bool"


# -- what the libraries read


@pytest.mark.parametrize("by", ["builder", "card"])
def test_datasets_reads_an_audiofolder(tmp_path, load, by):
    folder = write(tmp_path, "audiofolder")
    loaded = load("audiofolder", data_dir=str(folder)) if by == "builder" else load(str(folder))
    assert {split: len(part) for split, part in loaded.items()} == COUNTS
    for split, part in loaded.items():
        check_types(part.features)
        for got, (row, file) in zip(part, expected(split), strict=True):
            path = got.pop("audio")["path"]
            assert got == row and path.endswith(f"{split}/{row['id']}.wav")
            assert (folder / split / f"{row['id']}.wav").read_bytes() == file


@pytest.mark.parametrize("by", ["builder", "card"])
def test_an_audiofolder_whose_columns_are_alike_throughout_has_json_lines(tmp_path, load, by):
    alike = [(r | {"pitch_requested": 60.5, "pitch_achieved": 60.0, "folder_requested": "bass"}, f) for r, f in made()]
    alike = [(r | {"folder_achieved": "bass", "loudness_lufs": -20.0}, f) for r, f in alike]
    facts = facts_of("audiofolder")
    write_layout("audiofolder", tmp_path, alike, facts)
    fields = {"configs": [{"config_name": "default", "data_files": data_files("audiofolder", facts)}]}
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump(fields)}---\n")
    assert not list(tmp_path.glob("*/*.parquet")) and len(list(tmp_path.glob("*/metadata.jsonl"))) == 3
    loaded = load("audiofolder", data_dir=str(tmp_path)) if by == "builder" else load(str(tmp_path))
    assert {split: len(part) for split, part in loaded.items()} == COUNTS
    assert all(row["pitch_requested"] == 60.5 for part in loaded.values() for row in part)
    (tmp_path / "croissant.json").write_text(json.dumps(croissant("audiofolder", tmp_path, facts)))
    mlcroissant = pytest.importorskip("mlcroissant")
    read = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    assert not read.metadata.ctx.issues.errors
    # mlcroissant reads JSON lines by pandas, to which digits are a number.
    assert sorted(int(r["sounds/id"]) for r in read.records("sounds")) == [*range(7)]


def test_an_audiofolder_of_one_split_keeps_its_name(tmp_path, load):
    sounds = [(row | {"split": "train"}, file) for row, file in made("flac")]
    write_layout("audiofolder", tmp_path, sounds, facts_of("audiofolder", "flac", splits={"train": 7}))
    (split,) = (loaded := load("audiofolder", data_dir=str(tmp_path)))
    assert split == "train" and len(loaded["train"]) == 7 and loaded["train"][3]["audio"]["path"].endswith("3.flac")


@pytest.mark.parametrize("by", ["builder", "card"])
def test_datasets_reads_parquet_in_many_shards(tmp_path, datasets, load, monkeypatch, by):
    monkeypatch.setattr(layouts, "PARQUET_ROWS", 3)
    monkeypatch.setattr(layouts, "AUDIO_GROUP", 2)
    folder = write(tmp_path, "parquet")
    assert sorted(p.name for p in (folder / "data").iterdir()) == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "validation-00000-of-00001.parquet",
    ]
    first = folder / "data" / "train-00000-of-00002.parquet"
    features = datasets.Features.from_arrow_schema(pq.read_schema(first))
    assert features["audio"] == datasets.Audio(sampling_rate=RATE) and pq.ParquetFile(first).num_row_groups == 2
    words = {"data_dir": str(folder)} if by == "builder" else {}
    loaded = load("parquet" if by == "builder" else str(folder), **words)
    assert {split: len(part) for split, part in loaded.items()} == COUNTS
    for split, part in loaded.items():
        check_types(part.features)
        for got, (row, file) in zip(part, expected(split), strict=True):
            assert got.pop("audio") == {"bytes": file, "path": f"{row['id']}.wav"} and got == row


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_webdataset_reads_its_shards(tmp_path, monkeypatch, ending):
    webdataset = pytest.importorskip("webdataset")
    monkeypatch.setattr(layouts, "WEBDATASET_BYTES", 6000)
    folder = write(tmp_path, "webdataset", ending)
    shards = sorted(str(p) for p in folder.glob("train-*.tar"))
    assert len(shards) > 1 and shards[1].endswith("train-000001.tar")
    read = list(webdataset.WebDataset(shards, shardshuffle=False))
    wanted = [(row, file) for row, file in made(ending) if row["split"] == "train"]
    for got, (row, file) in zip(read, wanted, strict=True):
        assert got["__key__"] == row["id"] and got[ending] == file and json.loads(got["json"]) == row
    own = find(sorted(folder.glob("*.tar")), RECIPE)
    assert len(own) == 7 and not any(f.refused for f in own) and {f.labels["label"] for f in own} == set(LABELS)


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_datasets_reads_webdataset_by_its_card(tmp_path, load, ending):
    loaded = load(str(write(tmp_path, "webdataset", ending)))
    assert {split: len(part) for split, part in loaded.items()} == COUNTS
    for split, part in loaded.items():
        check_types(part.features["json"])
        wanted = [(row, file) for row, file in made(ending) if row["split"] == split]
        for got, (row, file) in zip(part, wanted, strict=True):
            assert got["json"] == row and got[ending]["bytes"] == file and got["__key__"] == row["id"]


def test_the_projects_own_reader_reads_nsynth(tmp_path):
    folder = write(tmp_path, "nsynth")
    for split, count in COUNTS.items():
        notes = json.loads((folder / split / "examples.json").read_text(encoding="utf-8"))
        found = {f.name: f for f in find([folder / split], RECIPE)}
        assert found.pop("examples.json").refused and len(found) == len(notes) == count
        assert not any(f.refused for f in found.values()) and len({f.group for f in found.values()}) == count
        for (name, note), (row, file) in zip(notes.items(), expected(split), strict=True):
            assert tuple(note)[: len(KEYS)] == KEYS and {k: note[k] for k in row} == row
            assert note["note_str"] == name and note["instrument_source_str"] == "synthetic"
            assert (folder / split / "audio" / f"{name}.wav").read_bytes() == file
            labels = found[f"audio/{name}.wav"].labels
            assert labels.get("pitch") == (note["pitch"] if row["pitch_requested"] else None)
            assert labels["instrument_family_str"] == ("synth_lead" if row["label"] == "kazoo" else row["label"])
            assert labels["velocity"] == note["velocity"]
    notes = json.loads((folder / "train" / "examples.json").read_text(encoding="utf-8"))
    assert [n["pitch"] for n in notes.values()] == [-1, 60, 63, 90]
    assert [n["velocity"] for n in notes.values()] == [127, 40, 13, 4]  # 20, 40 and 60 dB softer: by 10, by 100 ...


# -- what holds for all


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_sounds_make_the_same_bytes(tmp_path, monkeypatch, layout):
    a = write(tmp_path, layout, name="a")
    monkeypatch.setattr("time.time", lambda: 4e9)
    b = write(tmp_path, layout, name="b")
    names = sorted(p.relative_to(a) for p in a.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(b) for p in b.rglob("*") if p.is_file())
    assert all((a / name).read_bytes() == (b / name).read_bytes() for name in names)
    described = [json.dumps(croissant(layout, folder, facts_of(layout))) for folder in (a, b)]
    assert described[0] == described[1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_columns_of_what_was_written_are_those_of_the_rows(tmp_path, layout):
    found = written_columns(layout, write(tmp_path, layout), facts_of(layout))
    row = next(made())[0]
    assert {k: v for k, v in found.items() if k in row} == columns(row)
    assert found["nearest_training"] == pa.float64() and found["folder_requested"] == pa.string()


def test_rows_that_break_the_contract_are_refused(tmp_path):
    (row, file), *_ = made()
    for i, odd in enumerate(({"peak_dbfs": float("nan")}, {"more": 1})):
        for layout in LAYOUTS:
            folder = tmp_path / f"{layout}{i}"
            folder.mkdir()
            with pytest.raises(ValueError, match="sound 000000: "):
                write_layout(layout, folder, [(row, file), (row | odd, file)], facts_of(layout))
    with pytest.raises(ValueError, match="without sounds"):
        write_layout("parquet", tmp_path, [], facts_of("parquet"))


# -- Croissant


@pytest.mark.parametrize("layout", LAYOUTS)
def test_croissant_is_valid_and_its_records_are_the_sounds(tmp_path, layout, monkeypatch):
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path / "cache"))
    mlcroissant = pytest.importorskip("mlcroissant")
    folder = write(tmp_path, layout)
    about = croissant(layout, folder, facts_of(layout))
    write_json(folder / "croissant.json", about)
    read = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    issues = read.metadata.ctx.issues
    assert not issues.errors
    (warning,) = issues.warnings
    assert "datePublished" in warning  # whoever publishes the data set knows
    assert read.metadata.license == ["CC0-1.0"] and read.metadata.data_use_cases and read.metadata.data_limitations
    for file in (f for f in about["distribution"] if f["@type"] == "cr:FileObject"):
        assert file["sha256"] == sha256_file(folder / file["contentUrl"])
    texts = {f["name"]: f["description"] for f in about["recordSet"][0]["field"]}
    assert "semitones (MIDI)" in texts["pitch_requested"] and "log10 s" in texts["attack_achieved"]
    assert "class" in texts["folder_requested"] and all(len(text) > 5 for text in texts.values())
    if layout == "webdataset":
        return  # mlcroissant 1.1 reads no FileSet inside another
    records = sorted(read.records("sounds"), key=lambda r: r["sounds/id"])
    for got, (row, file) in zip(records, made(), strict=True):
        assert got["sounds/id"] == row["id"].encode() and got["sounds/seed"] == row["seed"]
        assert got["sounds/pitch_requested"] == row["pitch_requested"] and got["sounds/synthetic"] is True
        assert got["sounds/split"] == row["split"].encode() and got["sounds/nearest_training"] is None
        assert layout != "parquet" or got["sounds/audio"] == file


def test_croissant_says_which_keys_of_nsynth_are_no_labels_and_how_long_sounds_are(tmp_path):
    for layout in ("nsynth", "parquet"):
        facts = facts_of(layout, shortest=0.1)
        about = croissant(layout, write(tmp_path, layout, name=layout), facts)
        assert any("`synth_lead`, then" in said for said in about["rai:dataLimitations"]) == (layout == "nsynth")
        assert "7 synthetic sounds of 0.1 to 0.2 s at" in about["description"]


def test_croissant_says_unknown_of_what_is_unknown(tmp_path):
    folder = write(tmp_path, "parquet")
    about = croissant("parquet", folder, facts_of("parquet", license=None, trained_on={}, rejected={}, missing={}))
    assert about["license"] == "unknown" and about["rai:dataCollectionRawData"].endswith("not known")
    assert about["rai:dataCollectionMissingData"] == "none" and "datePublished" not in about
