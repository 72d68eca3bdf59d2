"""The page of a store: every dropped file with its reason, words that follow from the numbers, hostile names."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audio_vaegan.data.health import headline, health
from audio_vaegan.data.page import ROWS, write_page

RATE = 16000
NUMBERS = (
    "peak",
    "loudness",
    "centroid",
    "brightness",
    "noisiness",
    "attack",
    "decay",
    "effective_duration",
    "onset_rate",
)


def table(n: int = 240, **columns: Any) -> pa.Table:
    """Clips of a clean set: four octaves evenly, no silence, nothing clipped."""
    r = np.random.default_rng(0)
    clean = {
        "clip": np.arange(n),
        "source": [f"{i}.wav" for i in range(n)],
        "length": r.integers(8000, 64000, n),
        "split": [("train", "train", "test_instrument", "test_note")[i % 4] for i in range(n)],
        "group": [f"g{i % 20}" for i in range(n)],
        "pitch": 36.0 + np.arange(n) % 48,
        "silence": np.zeros(n),
        "clipped": np.zeros(n, dtype=np.int64),
        "labels": ["{}"] * n,
        **{name: r.uniform(0.1, 1, n) for name in NUMBERS},
    }
    return pa.table({**clean, **columns})


def summary(**changes: Any) -> dict[str, Any]:
    clean = {
        "files": 242,
        "files_used": 240,
        "dropped": {"silent": 1, "cannot be read": 1},
        "noted": {"mixed down": 3},
        "clips": 240,
        "seconds": 600.0,
        "splits": {"train": 120, "test_instrument": 60, "test_note": 60},
        "groups": 20,
        "unpitched_clips": 0,
        "doubts": {"pitch": 0},
        "labels": {"family": {"bass": 140, "keys": 100}},
        "duplicates": {"exact": [], "near": []},
        "clipped_files": 0,
        "descriptors": {
            "decay": {"unit": "s", "text": "time to fall by 60 dB", "defined": 0.5, "min": 0.1, "p5": 0.2}
            | {"median": 0.3, "p95": 0.4, "max": None}
        },
    }
    return {**clean, **changes}


def files(n: int = 240) -> list[dict[str, Any]]:
    used = [{"file": f"a/{i}.wav", "used": True, "clips": 1, "seconds": 1.5, "pitch": [60.0]} for i in range(n)]
    bad = [
        {"file": "b/quiet.wav", "used": False, "clips": 0, "reason": "silent"},
        {"file": "b/broken.wav", "used": False, "clips": 0, "reason": "cannot be read"},
    ]
    return used + bad


def page(tmp_path: Path, s: dict[str, Any], f: Any, items: pa.Table) -> str:
    path = tmp_path / "page.html"
    write_page(path, s, f, items, RATE)
    return path.read_text(encoding="utf-8")


def shown(html: str) -> list[str]:
    """Rows of the table of files."""
    return html.split('<tbody id="files">')[1].split("</tbody>")[0].split("<tr")[1:]


def test_every_dropped_file_stands_first_with_its_reason(tmp_path: Path) -> None:
    rows = shown(page(tmp_path, summary(), files(), table()))
    assert len(rows) == 242
    assert "b/quiet.wav" in rows[0] and "silent" in rows[0]
    assert "b/broken.wav" in rows[1] and "cannot be read" in rows[1]
    assert "dropped" not in "".join(rows[2:])


def test_hostile_text_is_escaped_wherever_it_stands(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    s = summary(
        dropped={evil: 1},
        noted={evil: 1},
        labels={evil: {evil: 200, "x": 1}},
        duplicates={"exact": [[evil, evil]], "near": [[evil, "a"]]},
        doubts={evil: 3},
        descriptors={evil: {"unit": evil, "text": evil, "defined": 1.0}},
    )
    file = {"file": evil, "used": False, "clips": 0, "reason": evil, "notes": [evil], "split": [evil]}
    html = page(tmp_path, s, [file], table(**{evil: np.ones(240)}))
    assert html.count("<script>") == 1 and "<script>alert" not in html and '"><script' not in html
    assert html.count("&lt;script&gt;") >= 12 and "&amp;lt;" not in html
    assert not re.search(r"""(src|href)=["'](?!data:)""", html)


def test_a_name_that_is_not_utf8_does_not_cost_the_page(tmp_path: Path) -> None:
    html = page(tmp_path, summary(), [{"file": "caf\udce9.wav", "used": True, "clips": 1}], table())
    assert "caf\\udce9.wav" in html


def test_same_bytes_twice(tmp_path: Path) -> None:
    first = page(tmp_path, summary(), files(), table())
    assert first == page(tmp_path, summary(), iter(files()), table())


class Pitches(list[Any]):
    """A list that counts how many of its kind live."""

    alive = 0

    def __init__(self, values: Any) -> None:
        super().__init__(values)
        Pitches.alive += 1

    def __del__(self) -> None:
        Pitches.alive -= 1


def test_many_files_are_capped_and_the_page_says_how_many_more(tmp_path: Path) -> None:
    most = 0

    def many() -> Iterator[dict[str, Any]]:
        nonlocal most
        for i in range(12_000):
            most = max(most, Pitches.alive)
            yield {"file": f"{i}.wav", "used": True, "clips": 90, "pitch": Pitches([60.0, None, 69.0] * 30)}
        yield {"file": "late.wav", "used": False, "clips": 0, "reason": "empty"}

    html = page(tmp_path, summary(), many(), table())
    rows = shown(html)
    assert len(rows) == ROWS and "late.wav" in rows[0] and "empty" in rows[0]
    assert "7,001 more files stand in report.json" in html
    assert "60.0 ... 69.0 (60)" in rows[1]
    assert most < 5  # a file's pitches are not held while the next ones are read
    assert len(html) < 3e6


def test_a_clean_set_has_nothing_to_say(tmp_path: Path) -> None:
    assert health(summary(), table(), RATE) == []
    html = page(tmp_path, summary(), files(), table())
    assert "Nothing stands out" in html and "more files stand" not in html


@pytest.mark.parametrize(
    ("word", "changes", "columns"),
    [
        ("Silence: 60 of 240 clips (25 %)", {}, {"silence": np.arange(240) % 4 / 4}),
        ("Clipping: 2 files", {"clipped_files": 2}, {"clipped": [7, 9] + [0] * 238}),
        ("Short: 1 of 240 clips", {}, {"length": [799] + [16000] * 239}),
        ("Duplicates: 5 files in 2 clusters", {"duplicates": {"exact": [["a", "b"], ["c", "d", "e"]]}}, {}),
        ("Duplicates: 2 files in 1 cluster with a sound", {"duplicates": {"near": [["a", "b"]]}}, {}),
        ("Unpitched: 24 of 240 clips (10 %)", {"unpitched_clips": 24}, {}),
        ("Unpitched: no clip has a pitch", {"unpitched_clips": 240}, {"pitch": [None] * 240}),
        ("Labels: the meter doubts the pitch of 3 of", {"doubts": {"pitch": 3}}, {}),
        ('220 clips of "bass" and 20 of "keys" (11 : 1)', {"labels": {"f": {"keys": 20, "bass": 220}}}, {}),
        ("C7 to B7 (1), beside C4 to B4 (239)", {}, {"pitch": [96.0 + 3] + [60.0 + i % 12 for i in range(239)]}),
        (
            "One file: 0.wav holds 61 of 240 clips (25.4 %)",
            {},
            {"source": ["0.wav"] * 61 + [f"{i}.wav" for i in range(1, 180)]},
        ),
        ("Few groups: 9 groups", {"groups": 9}, {}),
        ("Empty split: test_note", {"splits": {"train": 180, "test_instrument": 60, "test_note": 0}}, {}),
        ("Empty split: train", {"splits": {"test_instrument": 60, "test_note": 180}}, {}),
    ],
)
def test_each_trouble_gives_its_sentence_and_no_other(word: str, changes: Any, columns: Any) -> None:
    said = health(summary(**changes), table(**columns), RATE)
    assert sum(word in sentence for sentence in said) == 1, said
    kind = word.split(":")[0] if word[0] in "SCDULFEO" and ":" in word else ""
    assert all(sentence.startswith(kind) for sentence in said) or not kind, said


def test_an_octave_met_only_in_part_is_not_taken_for_thin() -> None:
    """B3 to C6: one semitone of the octave below and one of that above, as full as the others."""
    assert health(summary(), table(pitch=[59.0 + i % 26 for i in range(240)]), RATE) == []


def test_uneven_labels_are_summed_after_eight() -> None:
    labels = {f"label {i}": {"a": 100, "b": 1} for i in range(11)}
    said = health(summary(labels=labels), table(), RATE)
    assert len(said) == 9 and "3 more labels" in said[-1]


def test_clusters_and_their_files_are_capped(tmp_path: Path) -> None:
    exact = [[f"copy {i} {j}.wav" for j in range(25)] for i in range(60)]
    html = page(tmp_path, summary(duplicates={"exact": exact, "near": []}), files(), table())
    assert "copy 49 19.wav" in html and "copy 50 0.wav" not in html and "copy 0 20.wav" not in html
    assert "10 more clusters stand in report.json" in html and "and 5 more" in html


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -float("inf"), 0.0, 1e300, -3.5])
def test_any_column_of_one_value_gives_a_page(tmp_path: Path, value: float | None) -> None:
    columns = {name: pa.array([value] * 240, pa.float64()) for name in (*NUMBERS, "pitch", "silence")}
    html = page(tmp_path, summary(), files(), table(**columns))
    assert ("Histogram of decay" in html) == (value in (0.0, -3.5))


def test_columns_of_nulls_text_or_absent_leave_their_plot_out(tmp_path: Path) -> None:
    items = table(decay=pa.nulls(240), attack=["x"] * 240, split=[None] * 240).drop_columns(["loudness", "silence"])
    html = page(tmp_path, summary(), files(), items)
    for name in ("decay", "attack", "loudness", "silence", "pitch"):
        assert f"Histogram of {name}" not in html
    assert "Histogram of brightness" in html
    assert page(tmp_path, summary(), files(), items.drop_columns(["split", "length", "clipped"]))


def test_an_empty_store_and_the_fewest_keys(tmp_path: Path) -> None:
    bare = {"files": 1, "files_used": 0, "clips": 0, "seconds": 0.0}
    html = page(tmp_path, bare, [{"file": "a", "used": False, "clips": 0}], table(0))
    assert "no reason given" in html and "nothing to learn from" in html
    bare = {"files": 1, "files_used": 1, "clips": 1, "seconds": 0.5}
    assert "Empty split" in page(tmp_path, bare, [{"file": "a", "used": True, "clips": 1}], table(1))
    odd = {"file": "a", "used": True, "clips": 2, "pitch": [None, None], "peak": None, "loudness": float("-inf")}
    assert ">a</bdi>" in page(tmp_path, bare, [odd], table(1))


def test_a_wide_range_is_logarithmic_and_far_values_do_not_squeeze_the_rest(tmp_path: Path) -> None:
    r = np.random.default_rng(1)
    far = np.append(r.uniform(-1, 1, 239), 1e9)
    html = page(tmp_path, summary(), files(), table(attack=np.geomspace(1e-4, 10, 240), peak=far))
    peak = html.split("<b>peak</b>")[1].split("</figcaption>")[0]
    attack = html.split("<b>attack</b>")[1].split("</figcaption>")[0]
    assert "outside" in peak and "outside" not in attack


def test_a_label_of_many_values_shows_thirty_and_the_sum_of_the_rest(tmp_path: Path) -> None:
    html = page(tmp_path, summary(labels={"n": {f"value {i:03d}": 200 - i for i in range(200)}}), files(), table())
    assert "value 029<" in html and "value 030<" not in html and "170 others" in html
    assert f"{sum(range(1, 171)):,}" in html


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((500, 496, 1204, 1230.0), "496 of 500 files used: 1,204 clips, 20.5 minutes of sound; 4 dropped"),
        ((1, 1, 1, 2.0), "1 of 1 file used: 1 clip, 2.0 seconds of sound; none dropped"),
        ((2000, 0, 0, 0.0), "0 of 2,000 files used: 0 clips, 0.0 seconds of sound; 2,000 dropped"),
        ((3, 2, 5000, 9000.0), "2 of 3 files used: 5,000 clips, 2.5 hours of sound; 1 dropped"),
    ],
)
def test_headline(counts: tuple[int, int, int, float], words: str) -> None:
    assert headline(dict(zip(("files", "files_used", "clips", "seconds"), counts, strict=True))) == words


def test_endless_names_do_not_swell_the_page(tmp_path: Path) -> None:
    endless = ({"file": "x" * 4000, "used": False, "clips": 0, "reason": "y" * 4000} for _ in itertools.repeat(0, 5000))
    assert len(page(tmp_path, summary(), endless, table())) < 4e6
