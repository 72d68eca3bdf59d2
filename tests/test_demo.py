"""The page through its API, as scripts use it, and what it must not do. One page for all, of the package's model."""

import json
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, cli, one_line, tone
from pages import connect, served

from audio_vaegan.audio import read
from audio_vaegan.descriptors import measure, pyin
from audio_vaegan.sound_model import SoundModel

pytest.importorskip("gradio", reason="optional extra `demo`")
NAMES = ("sample", "upload", "open", "edit", "morph", "morph_path", "place", "keyboard", "dataset")


@pytest.fixture(scope="module")
def model():
    return SoundModel.from_pretrained("notes16k")


@pytest.fixture(scope="module")
def page():
    with served("notes16k") as (address, _):
        yield address


@pytest.fixture(scope="module")
def client(page):
    return connect(page)


def clip(path):
    return read(Path(path))[0]


class Shown:
    """What `/sample`, `/upload` and `/open` return."""

    def __init__(self, model, out):
        numbers = [c for c in model.controls.values() if not c.classes]
        moves = len(model.directions)
        self.address = out[0]
        self.controls = {
            c.name: v["value"] if isinstance(v, dict) else v
            for c, v in zip(numbers, out[1 : 1 + len(numbers)], strict=True)
        }
        rest = out[1 + len(numbers) + moves :]
        self.before, self.after, self.picture, self.table, self.status, self.result = rest

    def edit(self, client, model, closed=False, **changes):
        values = [self.controls[n] + changes.get(n, 0.0) for n in self.controls]
        return client.predict(self.address, *values, *[0.0] * len(model.directions), closed, api_name="/edit")


def test_every_action_has_a_name_and_no_other_has(client):
    assert sorted(client.view_api(return_format="dict")["named_endpoints"]) == sorted(f"/{n}" for n in NAMES)


def test_a_sound_of_a_seed_is_16_bit_tagged_and_the_same_again(client, model):
    shown = Shown(model, client.predict(3, 1.0, api_name="/sample"))
    info = soundfile.info(shown.after)
    assert info.subtype == "PCM_16" and "AI-generated" in info.extra_info
    assert shown.picture.count("<svg") == 2 and "AI-generated" in shown.status
    same = Shown(model, client.predict(3, 1.0, api_name="/sample"))
    assert np.array_equal(clip(shown.after), clip(same.after))
    # and the address is the one of the package: the same sound, up to the rounding of another batch size
    again = model.recall(shown.address).audio[0].numpy()
    assert np.abs(again - clip(shown.after)).max() < 1e-3


def test_an_edit_is_heard_and_told_and_opens_again_from_its_address(client, model):
    shown = Shown(model, client.predict(5, 1.0, api_name="/sample"))
    move = 7.0 if shown.controls["pitch"] + 7 < model.controls["pitch"].high else -7.0
    file, picture, table, _, address = shown.edit(client, model, pitch=move)
    rose = 100 * (pyin(clip(file), RATE) - pyin(clip(shown.before), RATE))
    assert rose == pytest.approx(100 * move, abs=50)
    assert "asked pitch" in picture and "off by" in table and "leaked" in table
    again = Shown(model, client.predict(address, api_name="/open"))
    assert np.abs(clip(again.before) - clip(file)).max() < 1e-3
    assert again.controls["pitch"] == pytest.approx(shown.controls["pitch"] + move, abs=0.02)


def test_an_untouched_edit_is_the_plain_sound_to_the_byte(client, model):
    shown = Shown(model, client.predict(8, 1.0, api_name="/sample"))
    file, *_, address = shown.edit(client, model)
    assert address == shown.address
    assert np.array_equal(clip(file), clip(shown.before))


def test_a_quiet_sound_stays_quiet(client, model):
    shown = Shown(model, client.predict(8, 1.0, api_name="/sample"))
    low = model.controls["loudness"].low + 4
    file, *_ = shown.edit(client, model, loudness=low - shown.controls["loudness"])
    found = measure(torch.from_numpy(clip(file))[None], RATE)
    assert float(found["loudness"]) == pytest.approx(low, abs=3) and float(found["peak"]) < -20


def test_your_own_sound_is_taken_as_it_is(client, model, tmp_path):
    from gradio_client import handle_file

    loud = np.stack([tone(57, 0.6, rate=192_000)] * 8, axis=1)
    soundfile.write(tmp_path / "eight channels at 192 kHz.wav", loud, 192_000)
    shown = Shown(model, client.predict(handle_file(tmp_path / "eight channels at 192 kHz.wav"), api_name="/upload"))
    assert shown.controls["pitch"] == pytest.approx(57, abs=0.3)
    assert len(clip(shown.before)) == pytest.approx(0.6 * RATE, abs=400)


def hostile(folder):
    (folder / "words.wav").write_text("not audio at all")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "huge.wav").write_bytes(
        b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00" + b"\x80>\0\0" * 2
    )
    soundfile.write(folder / "nothing.wav", np.zeros(0, np.float32), RATE)
    soundfile.write(folder / "nan.wav", np.full(4000, np.nan, np.float32), RATE, subtype="FLOAT")
    soundfile.write(folder / "long.flac", np.zeros(RATE * 200, np.int16), RATE)
    return sorted(folder.iterdir())


def test_a_hostile_upload_gets_words_and_no_trace_of_the_machine(client, tmp_path):
    from gradio_client import handle_file

    for file in hostile(tmp_path):
        with pytest.raises(Exception) as caught:
            client.predict(handle_file(file), api_name="/upload")
        text = str(caught.value)
        assert "cannot be used" in text, (file, text)
        assert not [w for w in ("Traceback", "audio-vaegan-demo", tempfile.gettempdir(), "site-packages") if w in text]


def post(page, name, data):
    """Call an action by raw HTTP, which can send what no slider gives. Returns the last words of the server."""
    call = urllib.request.Request(
        f"{page}/gradio_api/call/{name}", json.dumps({"data": data}).encode(), {"Content-Type": "application/json"}
    )
    event = json.load(urllib.request.urlopen(call, timeout=20))["event_id"]
    return urllib.request.urlopen(f"{page}/gradio_api/call/{name}/{event}", timeout=60).read().decode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 999.0, None])
def test_numbers_that_are_none_are_refused_and_the_page_goes_on(page, client, model, value):
    shown = Shown(model, client.predict(5, 1.0, api_name="/sample"))
    values = [value, *[*shown.controls.values()][1:], *[0.0] * len(model.directions), False]
    try:
        said = post(page, "edit", [shown.address, *values])
    except urllib.error.HTTPError as e:
        assert e.code in (400, 422)
    else:
        assert "event: error" in said and "Traceback" not in said, said
    assert len(shown.edit(client, model)) == 5


def test_an_address_of_another_model_is_refused_in_words(client):
    for text, says in (
        ("model=000000000000,vocoder=1", "another|made by model"),
        ("hello", "rows of a data set"),
    ):
        with pytest.raises(Exception, match=says):
            client.predict(text, api_name="/open")


def test_morph_map_and_keyboard(client, model):
    one, two = (Shown(model, client.predict(s, 1.0, api_name="/sample")) for s in (1, 2))
    ends = [client.predict(one.address, two.address, share, api_name="/morph")[0] for share in (0.0, 1.0)]
    assert np.array_equal(clip(ends[0]), clip(one.before)) and np.array_equal(clip(ends[1]), clip(two.before))
    sweep, packed = client.predict(one.address, two.address, 5, api_name="/morph_path")
    assert len(clip(sweep)) > 4 * 0.8 * RATE
    names = zipfile.ZipFile(packed["value"] if isinstance(packed, dict) else packed).namelist()
    assert {"00.wav", "04.wav", "sweep.wav", "metadata.jsonl"} <= set(names)

    timbres = model.fingerprints.map
    file, _, address = client.predict(*map(float, timbres.place[7]), 60, False, api_name="/place")
    assert address.startswith("model=") and np.abs(clip(file)).max() > 0.003
    low, high = (client.predict(*map(float, timbres.place[7]), p, False, api_name="/place")[0] for p in (55, 67))
    rose = pyin(clip(high), RATE) - pyin(clip(low), RATE)
    assert np.isnan(rose) or rose == pytest.approx(12, abs=0.6)

    board, packed = client.predict(one.address, 60, 72, api_name="/keyboard")
    assert board.count("data-key=") == 13 and board.count('class="key black"') == 5
    names = zipfile.ZipFile(packed["value"] if isinstance(packed, dict) else packed).namelist()
    assert "instrument.sfz" in names and "060-C4.wav" in names
    with pytest.raises(Exception, match="there must be 1 to"):
        client.predict(one.address, 72, 60, api_name="/keyboard")


def test_a_small_data_set_is_made_measured_and_packed(client, model):
    controls = [c for c in model.controls.values() if not c.classes and c.name != "loudness"]
    choices = [v for c in controls for v in (c.name == "pitch", 55.0 if c.name == "pitch" else round(c.low + 1, 1),
                                             67.0 if c.name == "pitch" else round(c.high - 1, 1))]  # fmt: skip
    said, packed, table = client.predict(6, 1, -23, *choices, api_name="/dataset")
    assert "of 6 sounds delivered" in said
    assert table["headers"][:3] == ["id", "pitch requested", "pitch achieved"]
    for _, asked, achieved in table["data"]:
        assert float(achieved) == pytest.approx(float(asked), abs=0.25)
    names = zipfile.ZipFile(packed["value"] if isinstance(packed, dict) else packed).namelist()
    assert {"README.md", "dataset.json", "spec.yaml"} <= set(names)
    choices[1], choices[2] = 66.0, 56.0
    with pytest.raises(Exception, match="the lower end first"):
        client.predict(6, 1, -23, *choices, api_name="/dataset")


@pytest.mark.parametrize("path", ["/etc/passwd", str(Path(__file__).resolve()), "/proc/self/environ"])
def test_nothing_outside_its_folder_can_be_fetched(page, path):
    for form in (f"{page}/gradio_api/file={path}", f"{page}/gradio_api/file=/tmp/../{path}", f"{page}/file={path}"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(form, timeout=10)
        assert caught.value.code in (403, 404)


def test_words_that_are_wrong_get_one_line(tmp_path):
    assert "USER:PASSWORD" in one_line(cli("demo", "notes16k", "--auth", "me"))
    assert "not a model" in one_line(cli("demo", tmp_path / "nowhere"))
