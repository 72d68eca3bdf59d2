"""The card of a data set: what is counted, what it says of it, and that nothing a user names breaks it."""

import io
import json
import pickle
import re
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
import yaml

from audio_vaegan.dataset.card import card, license_fields, plain
from audio_vaegan.dataset.facts import Facts, Measured
from audio_vaegan.dataset.pictures import pictures
from audio_vaegan.dataset.tally import Histogram, Tally, octave, spaced

CONTROLS = {
    "pitch": Measured("semitones (MIDI)", 36, 84, 0.5),
    "brightness": Measured("semitones re 440 Hz", -20, 40, 2.0),
    "onset_rate": Measured("1/s", 0, 12, None),
}
FACTS = Facts(
    name="notes",
    layout="audiofolder",
    format="wav",
    sample_rate=16000,
    seconds=1.024,
    license="CC-BY-4.0",
    asked=3000,
    delivered=2900,
    splits={"train": 2300, "test": 600},
    controls=CONTROLS,
    classes=("brass", "string"),
    rejected={"pitch": 321, "near-copy of a training sound": 7},
    missing={"pitch": 100},
    seed=5,
    spec={"name": "notes", "groups": [{"count": 3000}]},
    spec_sha256="5" * 64,
    model_name="notes16k",
    model_hash="a" * 64,
    vocoder="own",
    trained_on={"training_clips": 4103},
    fingerprints=4103,
    version="0.1",
    torch="2.13",
)
DATA_FILES = [{"split": "train", "path": "train/**"}, {"split": "test", "path": "test/**"}]
LOAD = 'from datasets import load_dataset\nload_dataset("audiofolder", data_dir="DS")'


def sounds(count, seed=0):
    """Rows of random sounds, the worse the farther off: as they are written, with four digits."""
    random = np.random.default_rng(seed)
    for i in range(count):
        pitch = float(random.uniform(36, 84))
        bright = float(random.normal(10, 8)) if random.random() < 0.7 else None
        heard = None if random.random() < 0.02 else pitch + float(random.laplace(0.01, 0.08))
        yield {
            "id": f"{i:06d}",
            "split": "train" if random.random() < 0.8 else "test",
            "label": str(random.choice(["brass", "string"])),
            "pitch_requested": round(pitch, 4),
            "pitch_achieved": None if heard is None else round(heard, 4),
            "brightness_requested": None if bright is None else round(bright, 4),
            "brightness_achieved": round((bright or 5) + float(random.normal(0, 0.5)), 4),
            "onset_rate_requested": None,
            "onset_rate_achieved": round(float(random.uniform(0, 5)), 4),
            "attempt": int(random.geometric(0.8)) - 1,
            "nearest_training": round(float(random.beta(8, 3)), 4),
            "peak_dbfs": round(float(random.uniform(-12, -1)), 4),
            "loudness_lufs": round(float(random.normal(-25, 3)), 4),
        }


def tallied(rows, missing=(), controls=CONTROLS):
    tally = Tally(controls)
    for row in rows:
        tally.add(row)
    for row in missing:
        tally.add_missing(row)
    return tally


@pytest.fixture(scope="module")
def rows():
    return list(sounds(3000))


@pytest.fixture(scope="module")
def tally(rows):
    return tallied(rows[100:], rows[:100])


def column(rows, name):
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=float)


def test_the_figures_are_those_of_numpy(rows, tally):
    rows, told = rows[100:], tally.to_json()
    for name, resolution in (("pitch", 0.5), ("brightness", 2.0)):
        asked, came = column(rows, f"{name}_requested"), column(rows, f"{name}_achieved")
        error = (came - asked)[~np.isnan(came - asked)]
        figures = told["controls"][name]
        assert figures["error"]["n"] == len(error)
        assert figures["requested"] == np.sum(~np.isnan(asked)) and figures["undefined"] == np.sum(np.isnan(came))
        for key, wanted in (("median", np.median(abs(error))), ("p95", np.quantile(abs(error), 0.95))):
            assert figures["error"][key] == pytest.approx(wanted, rel=0.02), (name, key)
        assert figures["error"]["max"] == pytest.approx(abs(error).max())
        assert figures["error"]["mean"] == pytest.approx(error.mean())
        assert figures["within_tolerance"] == np.sum(abs(error) <= resolution)
    pitch, cents = told["controls"]["pitch"], abs(column(rows, "pitch_achieved") - column(rows, "pitch_requested"))
    assert (pitch["within_50_cents"], pitch["within_10_cents"]) == (np.sum(cents <= 0.5), np.sum(cents <= 0.1001))
    assert pitch["undefined_though_requested"] == pitch["undefined"] == told["no_pitch"] > 0
    counts, _ = np.histogram(column(rows, "onset_rate_achieved"), bins=40, range=(0, 12))
    assert told["controls"]["onset_rate"]["achieved_histogram"]["counts"] == counts.tolist()
    assert told["controls"]["onset_rate"]["within_tolerance"] is None
    for key, name, width in (("median", "nearest_training", 0.001), ("p95", "loudness_lufs", 0.1)):
        wanted = np.quantile(column(rows, name), {"median": 0.5, "p95": 0.95}[key])
        assert told[name][key] == pytest.approx(wanted, abs=2 * width)
    assert told["peak_dbfs"]["min"] == column(rows, "peak_dbfs").min()
    assert told["attempts"]["0"] == sum(row["attempt"] == 0 for row in rows)
    assert sum(told["attempts"].values()) == told["delivered"] == 2900
    json.dumps(told, allow_nan=False)


def test_missing_sounds_are_asked_for_and_not_delivered(rows, tally):
    told = tally.to_json()
    for part in ("splits", "classes"):
        assert sum(c["asked"] for c in told[part].values()) == 3000, part
        assert sum(c["delivered"] for c in told[part].values()) == 2900, part
    assert told["missing"] == 100 and sum(c["asked"] for c in told["octaves"].values()) == 3000
    assert sum(c["delivered"] for c in told["octaves"].values()) == 2900 - told["no_pitch"]
    assert told["controls"]["pitch"]["asked"] == sum(told["controls"]["pitch"]["asked_histogram"]["counts"]) == 3000
    assert told["controls"]["pitch"]["requested"] == 2900
    named = tallied([], [{"split": "test", "family_requested": "brass", "pitch_requested": 60.0}]).to_json()
    assert named["classes"] == {"brass": {"asked": 1, "delivered": 0}}
    only = tallied([], rows[:5]).to_json()
    assert only["delivered"] == 0 and only["controls"]["pitch"]["error"]["median"] is None
    json.dumps(only, allow_nan=False)


def test_octaves_go_by_the_nearest_key():
    assert [octave(p) for p in (59.4, 59.5, 60, 71.49, 71.5, -20, 400)] == [3, 4, 4, 4, 5, -1, 9]
    row = {"pitch_requested": 60.0, "pitch_achieved": 59.8, "split": "train"}
    assert tallied([row]).to_json()["octaves"] == {"C4": {"asked": 1, "delivered": 1}}


def test_memory_does_not_grow_with_the_rows():
    few, many = (len(pickle.dumps(tallied(sounds(n, seed=1)))) for n in (200, 2000))
    assert many < 1.3 * few  # counts have more digits, and nothing else


def test_a_histogram_keeps_what_lies_outside_and_its_ends():
    histogram = Histogram(spaced(0, 10, 10))
    assert histogram.quantile(0.5) is None
    for value in (-3.0, 0.0, 10.0, 12.5):
        histogram.add(value)
    assert histogram.counts == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert (histogram.quantile(0), histogram.quantile(1)) == (-3.0, 12.5)


def test_what_was_asked_first_is_what_counts_as_asked(rows):
    """Thirty sounds were asked for in C2 and given up; they are delivered in C6, under another request."""
    moved = [row | {"pitch_requested": 84.0, "pitch_achieved": 84.1} for row in rows[:30]]
    tally = Tally(CONTROLS)
    for row in moved:
        tally.add(row, {"pitch_requested": 36.5})
    for row in rows[30:40]:
        tally.add(row, {})
    told = tally.to_json()
    asked = [row["pitch_requested"] for row in rows[30:40]]
    assert told["requested_anew"] == 30 and told["controls"]["pitch"]["requested"] == 40
    assert told["octaves"]["C2"]["asked"] == 30 + sum(octave(p) == 2 for p in asked)
    assert told["octaves"]["C6"] == {"asked": sum(octave(p) == 6 for p in asked), "delivered": pytest.approx(30, abs=2)}
    assert told["controls"]["pitch"]["asked_histogram"]["counts"][0] >= 30
    assert told["controls"]["pitch"]["error"]["max"] < 2  # of what it was delivered under
    text = card(FACTS, tally, DATA_FILES, LOAD)
    assert "under a request drawn anew: 30 (" in text and "| octave | asked first | delivered |" in text


def test_the_card_says_what_it_was_made_by_and_from():
    tally = tallied([{"split": "train"}])
    text = card(replace(FACTS, vocoder_asked="griffin lim"), tally, [], LOAD)
    assert "notes16k SPEC.yaml --out DS --vocoder 'griffin lim'\n" in text and "synth_lead" not in text
    assert "2,900 sounds of 1.024 s, mono" in text and "variations" not in text.split("## Load")[0]
    text = card(replace(FACTS, layout="nsynth", shortest=0.4, sources=7, cut=2), tally, [], LOAD)
    assert "2,900 sounds of 0.4 to 1.024 s, mono" in text and "--vocoder" not in text
    assert "variations of 7 sound files" in text and "only the beginning was varied: 2." in text
    assert "it is 9, `synth_lead`, then" in text.split("## What each row says")[1].split("##")[0]


def front(text):
    """The front matter as the hub finds it."""
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, flags=re.S)[1])


def table_row(text, first):
    return next(line for line in text.splitlines() if line.startswith(f"| {first} |"))


def test_the_card_says_what_was_measured(rows, tally):
    text, told = card(FACTS, tally, DATA_FILES, LOAD), tally.to_json()
    assert front(text) == {
        "license": "cc-by-4.0",
        "pretty_name": "notes",
        "tags": ["audio", "synthetic", "audio-vaegan"],
        "task_categories": ["audio-classification"],
        "size_categories": ["1K<n<10K"],
        "configs": [{"config_name": "default", "data_files": DATA_FILES}],
    }
    pitch, bright = told["controls"]["pitch"], told["controls"]["brightness"]
    line = table_row(text, "pitch")
    assert "semitones (MIDI)" in line and "| 2,900 |" in line and "| 50 cents |" in line
    assert f"| {100 * pitch['error']['median']:.3g} cents | {100 * pitch['error']['p95']:.3g} cents |" in line
    assert f"| {100 * pitch['within_tolerance'] / 2900:.1f} % |" in line and f"| {pitch['undefined']} |" in line
    line = table_row(text, "brightness")
    assert f"| {bright['error']['median']:.3g} semitones re 440 Hz |" in line and line.endswith("| -20 to 40 |")
    line = table_row(text, "onset_rate")
    assert "| 1/s | 0 |" in line and "not asked for" in line
    for part, show in (("splits", str), ("classes", str), ("octaves", lambda k: f"{k} to B{k[1:]}")):
        for kind, counts in told[part].items():
            assert f"| {show(kind)} | {counts['asked']:,} | {counts['delivered']:,} |" in text
    for said in (
        "**Every sound in this data set was generated by a machine**",
        "delivered: 2,900 (96.7 %)",
        f"by the attempt that was good: 1: {told['attempts']['0']:,}, 2: ",
        "pitch 321, near-copy of a training sound 7",
        "rejected as near-copies: 7",
        f"median {told['nearest_training']['median']:.4g}",
        f"{np.sum(column(rows[100:], 'nearest_training') >= 0.97):,} at 0.97 or above",
        "4,103 fingerprints",
        "training_clips: 4103",
        "**CC-BY-4.0**",
        "audio-vaegan evaluate-dataset DS",
        "audio-vaegan dataset notes16k SPEC.yaml --out DS",
        "- count: 3000",
        "5" * 64,
        "a" * 64,
        "(balance.png)",
        "(accuracy.png)",
        LOAD,
    ):
        assert said in text, said
    assert "nan" not in text.split("## Load")[1].replace("resonan", "").lower()


def test_the_card_of_nearly_nothing():
    """No controls, no classes, nothing rejected, no fingerprints; then nothing delivered at all."""
    bare = replace(FACTS, controls={}, classes=(), rejected={}, missing={}, trained_on={}, fingerprints=0, license=None)
    text = card(bare, tallied([{"split": "train"}], controls={}), [], "")
    assert front(text)["license"] == "unknown" and "configs" not in front(text)
    for said in ("no controls", "no classes", "nothing was checked", "not stated", "does not say", "several): none"):
        assert said in text, said
    for controls in ({}, CONTROLS):
        empty = replace(bare, asked=0, delivered=0, splits={}, controls=controls, fingerprints=3)
        tally = tallied([], controls=controls)
        assert "Of the sounds delivered (n 0)" in card(empty, tally, [], LOAD)
        assert all(png.startswith(b"\x89PNG") for png in pictures(empty, tally).values())
    unasked = tallied([{"split": "train", "pitch_requested": None, "pitch_achieved": 60.2}])
    assert "| pitch | semitones (MIDI) | 0 | – | – | – |" in card(FACTS, unasked, [], LOAD)
    assert pictures(FACTS, unasked)["accuracy.png"].startswith(b"\x89PNG")


def test_names_cannot_break_the_card():
    odd = ("a|b", "<script>", "C#\nminor", "__init__", "$x$", "日本", "bass_drum")
    facts = replace(
        FACTS,
        name="# two\n---\nlines: [x](y)",
        classes=odd,
        license="my own: `terms`\n",
        rejected={"pitch|*x*": 1},
        spec={"name": "````\n# out", "path": FACTS},
        model_name="it's; rm x",
    )
    tally = tallied([{"split": "train", "label": name, "pitch_requested": 60.0} for name in odd])
    text = card(facts, tally, [{"split": "train", "path": "a: b\n---\n*"}], LOAD + "\n```\n# out")
    told = front(text)
    assert told["configs"][0]["data_files"][0]["path"] == "a: b\n---\n*"
    assert told["pretty_name"] == "# two --- lines: [x](y)"
    assert (told["license"], told["license_name"]) == ("other", "my-own-terms")
    assert "\n# \\# two --- lines: \\[x\\](y)\n" in text
    assert "| a\\|b | 1 | 1 |" in text and "| bass_drum | 1 | 1 |" in text and "\\<script\\>" in text
    assert "pitch\\|\\*x\\* 1" in text and "'it'\"'\"'s; rm x' SPEC.yaml" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.split(r"(?<!\\)\|", line)) for line in rows} == {4, 5, 12}  # of two, three and ten columns
    # The headings are the card's own: none comes from inside a block, whose fence is longer than what it holds.
    outside = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.S | re.M)
    assert sum(line.startswith("# ") for line in outside.splitlines()) == 1
    assert all(png.startswith(b"\x89PNG") for png in pictures(facts, tally).values())


@pytest.mark.parametrize(
    ("stated", "fields"),
    [
        ("CC0-1.0", {"license": "cc0-1.0"}),
        ("CC BY 4.0", {"license": "cc-by-4.0"}),
        ("GPL-3.0-or-later", {"license": "gpl-3.0"}),
        ("ODbL-1.0", {"license": "odbl"}),
        ("Acme, internal", {"license": "other", "license_name": "acme-internal"}),
        ("日本", {"license": "other", "license_name": "custom"}),
        (" ", {"license": "unknown"}),
    ],
)
def test_a_licence_is_one_that_the_hub_knows_or_a_name(stated, fields):
    assert license_fields(stated) == fields


def test_plain_text_keeps_words_whole():
    assert plain("onset_rate") == "onset_rate" and plain("_x_") == r"\_x\_" and plain("a\\b") == r"a\\b"


def test_pictures_are_small_and_the_same_bytes_twice(tally):
    first, again = pictures(FACTS, tally), pictures(FACTS, tally)
    assert first == again and set(first) == {"balance.png", "accuracy.png"}
    for png in first.values():
        image = matplotlib.image.imread(io.BytesIO(png))
        assert image.min() < 0.5 and len(png) < 60_000 and b"Software" not in png and b"Date" not in png
        assert np.all(image[0, 0] == 1)  # white and opaque
