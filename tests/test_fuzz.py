"""Mutations of good files, thousands of them: no parser ends otherwise than well, or in one line."""

import json
import os
import subprocess
import sys
import time
from functools import cache

import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import readers

EXAMPLES = 200 if os.environ.get("FUZZ") is None else int(os.environ["FUZZ"])
NAMES = [
    *(
        "recipe",
        "spec",
        "csv",
        "jsonl",
        "config",
        "weights",
        "controls",
        "prints",
        "vocoder",
        "store",
        "items",
        "shard",
    ),
    *("wav", "flac", "ogg", "mp3", "aiff"),
]
ODD = [
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x" * 300,
    "../../x",
    "\ud800",
    [],
    {},
    [[]],
    {"": 0},
]


@pytest.fixture(scope="module")
def all_readers(tmp_path_factory, tiny_store):
    found = readers(tmp_path_factory.mktemp("readers"), tiny_store)
    assert set(found) == set(NAMES)
    return found


@st.composite
def mutations(draw, good: bytes):
    """A good file with some bits flipped, bytes put in, taken out or doubled, or cut short."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        # Headers decide most: half of the places lie in the first bytes.
        most = min(len(data), 200) if draw(st.booleans()) else len(data)
        at = draw(st.integers(0, max(0, most - 1)))
        how = draw(st.sampled_from(["flip", "put", "set", "take", "double", "cut"]))
        if how == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "put":
            data[at:at] = draw(st.binary(min_size=1, max_size=20))
        elif how == "set":
            data[at : at + 4] = draw(
                st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
            )
        elif how == "take":
            del data[at : at + draw(st.integers(1, 50))]
        elif how == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 200))]
        else:
            del data[at:]
    return bytes(data)


@cache
def places(text: str):
    """Every path into a JSON document."""

    def walk(value, path):
        yield path
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, below in items:
            yield from walk(below, (*path, key))

    return [p for p in walk(json.loads(text), ()) if p]


@st.composite
def documents(draw, good: bytes):
    """A good JSON document with odd values in some places, or without them."""
    text = good.decode()
    document = json.loads(text)
    for path in draw(st.lists(st.sampled_from(places(text)), min_size=1, max_size=3)):
        below = document
        try:
            for key in path[:-1]:
                below = below[key]
            if draw(st.booleans()):
                below[path[-1]] = draw(st.sampled_from(ODD))
            else:
                del below[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # what was there is gone by now
    return json.dumps(document).encode()


@pytest.mark.parametrize("name", NAMES)
def test_no_mutation_ends_in_a_traceback(all_readers, name, record_property):
    good, read = all_readers[name]
    assert read(good) is not None  # the good one is good
    count = 0

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(mutations(good) | documents(good) if name in ("config", "controls", "store") else mutations(good))
    def fuzz(content):
        nonlocal count
        count += 1
        began = time.monotonic()
        read(content)
        assert time.monotonic() - began < 10

    fuzz()
    record_property("fuzzed", count)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="atheris has wheels for Linux alone")
@pytest.mark.parametrize("name", NAMES)
def test_guided_by_coverage_no_input_ends_in_a_traceback(name, tiny_store, tmp_path, record_property):
    pytest.importorskip("atheris")
    command = [sys.executable, str(ROOT / "tests" / "fuzz_atheris.py"), name, str(tiny_store), str(tmp_path)]
    limits = ["-max_total_time=20", "-rss_limit_mb=4096", "-timeout=20", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run([*command, *limits], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    runs = int(done.stderr.rsplit("Done ", 1)[1].split()[0])
    assert runs > 50
    record_property("fuzzed", runs)
