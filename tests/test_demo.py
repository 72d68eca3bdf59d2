"""The page through its API, as scripts use it, and what it must not do. One page for all, of the package's model."""

import json
import socket
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
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.dataset import read_rows
from audio_vaegan.sound_model import SoundModel
from demo.app import launch

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


class Made:
    """What an action of Play returns to a script."""

    def __init__(self, client, action, **given):
        self.client = client
        self.file, self.address, self.controls, self.notes = client.predict(**given, api_name=f"/{action}")

    def edit(self, **changes):
        return Made(self.client, "edit", address=self.address, **changes)


def test_every_action_and_its_values_have_names_and_no_other_has(client, model):
    actions = client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(actions) == sorted(f"/{n}" for n in NAMES)
    values = {name: [p["parameter_name"] for p in action["parameters"]] for name, action in actions.items()}
    assert not [v for given in values.values() for v in given if v.startswith("param")], values
    assert values["/edit"] == ["address", "closed_loop", "move", *model.controls]


def test_the_example_of_the_docs_runs(page, tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "docs" / "page.md").read_text()
    said, found = text.split("```python\n")[1].split("```")[0], {}
    soundfile.write(tmp_path / "mine.wav", tone(57, 0.6), RATE)
    monkeypatch.chdir(tmp_path)
    exec(said.replace("http://127.0.0.1:7860", page), found)
    assert found["measured"]["pitch"] == pytest.approx(67, abs=0.5) and soundfile.info(found["file"]).frames


def test_a_sound_of_a_seed_is_16_bit_tagged_and_the_same_again(client, model):
    made, same = (Made(client, "sample", seed=3) for _ in range(2))
    info = soundfile.info(made.file)
    assert info.subtype == "PCM_16" and "AI-generated" in info.extra_info
    assert np.array_equal(clip(made.file), clip(same.file))
    # and the address is the one of the package: the same sound, up to the rounding of another batch size
    again = model.recall(made.address).audio[0].numpy()
    assert np.abs(again - clip(made.file)).max() < 1e-3


def test_an_edit_is_heard_and_told_and_opens_again_from_its_address(client, model):
    made = Made(client, "sample", seed=5)
    move = 7.0 if made.controls["pitch"] + 7 < model.controls["pitch"].high else -7.0
    edited = made.edit(pitch=made.controls["pitch"] + move)
    rose = 100 * (pyin(clip(edited.file), RATE) - pyin(clip(made.file), RATE))
    assert rose == pytest.approx(100 * move, abs=50)
    assert edited.controls["pitch"] == pytest.approx(made.controls["pitch"] + move, abs=0.5)
    again = Made(client, "open", address=edited.address)
    assert np.abs(clip(again.file) - clip(edited.file)).max() < 1e-3
    assert again.controls == pytest.approx(edited.controls, abs=0.02)
    pushed = made.edit(move={next(iter(model.directions)): 0.5})
    assert pushed.address != made.address and np.abs(clip(pushed.file) - clip(made.file)).max() > 1e-3


def test_an_untouched_edit_is_the_plain_sound_to_the_byte(client):
    made = Made(client, "sample", seed=8)
    same = made.edit(pitch=None)
    assert (same.address, same.controls, same.notes) == (made.address, made.controls, "")
    assert np.array_equal(clip(same.file), clip(made.file))


def test_a_quiet_sound_stays_quiet_and_one_too_loud_for_a_file_is_turned_down(client, model):
    low = model.controls["loudness"].low + 4
    found = measure(torch.from_numpy(clip(Made(client, "sample", seed=8).edit(loudness=low).file))[None], RATE)
    assert float(found["loudness"]) == pytest.approx(low, abs=3) and float(found["peak"]) < -20
    loud = Made(client, "sample", seed=4).edit(loudness=model.controls["loudness"].high)
    assert np.abs(clip(loud.file)).max() == pytest.approx(10 ** (-1 / 20), abs=1e-3) and "turned down by" in loud.notes
    assert np.abs(model.recall(loud.address).audio[0].numpy() - clip(loud.file)).max() < 1e-3
    assert Made(client, "open", address=loud.address).notes == loud.notes


def test_your_own_sound_is_taken_as_it_is(client, model, tmp_path):
    from gradio_client import handle_file

    loud = np.stack([tone(57, 0.6, rate=192_000)] * 8, axis=1)
    soundfile.write(tmp_path / "eight channels at 192 kHz.wav", loud, 192_000)
    made = Made(client, "upload", file=handle_file(tmp_path / "eight channels at 192 kHz.wav"))
    assert made.controls["pitch"] == pytest.approx(57, abs=0.3)
    assert len(clip(made.file)) == pytest.approx(0.6 * RATE, abs=400)


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 999.0, "high", [60]])
def test_numbers_that_are_none_are_refused_and_the_page_goes_on(page, client, model, value):
    made = Made(client, "sample", seed=5)
    try:
        said = post(page, "edit", [made.address, False, None, value, *[None] * (len(model.controls) - 1)])
    except urllib.error.HTTPError as e:
        assert e.code in (400, 422)
    else:
        assert "event: error" in said and "pitch" in said and "Traceback" not in said, said
    assert made.edit().address == made.address


def test_a_mistake_of_a_script_comes_back_as_one_sentence(client):
    address = client.predict(api_name="/sample")[1]
    for action, given, says in (
        ("sample", {"seed": None}, "Seed must be a whole number, 0 or more"),
        ("sample", {"truncation": None}, "truncation must be a number"),
        ("open", {"address": None}, "This is no address of a sound, which begins with model=: ''"),
        ("edit", {"address": address, "move": {"glitter": 1}}, "this model has no direction 'glitter'"),
        ("edit", {"address": address, "move": 3}, "move: give names of directions with numbers"),
        ("upload", {"file": None}, "Give a sound first: handle_file(path)"),
        ("upload", {"file": {"path": "/etc/passwd"}}, "Give a sound first: handle_file(path)"),
        ("dataset", {"controls": {"pitch": 60}}, "controls: give each a range"),
    ):
        with pytest.raises(Exception) as caught:
            client.predict(**given, api_name=f"/{action}")
        assert str(caught.value).startswith(says), (action, given, caught.value)


def test_an_address_of_another_model_is_refused_in_words(client):
    for text, says in (
        ("model=000000000000,vocoder=1", "another|made by model"),
        ("hello", "^This is no address of a sound, which begins with model=: 'hello'$"),
        ("model=1,seed", "^This address cannot be opened: 'seed' is not one of its key=value parts$"),
    ):
        with pytest.raises(Exception, match=says):
            client.predict(text, api_name="/open")


def test_morph_map_and_keyboard(client, model):
    one, two = (Made(client, "sample", seed=s) for s in (1, 2))
    ends = [client.predict(one.address, two.address, share, api_name="/morph")[0] for share in (0.0, 1.0)]
    assert np.array_equal(clip(ends[0]), clip(one.file)) and np.array_equal(clip(ends[1]), clip(two.file))
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


def test_a_small_data_set_is_made_measured_and_packed(client, tmp_path):
    packed, said = client.predict(controls={"pitch": [55, 67]}, count=6, seed=1, api_name="/dataset")
    assert "of 6 sounds delivered" in said
    zipfile.ZipFile(packed).extractall(tmp_path)
    assert {"README.md", "dataset.json", "spec.yaml"} <= {f.name for f in tmp_path.iterdir()}
    for row, _ in read_rows(tmp_path):
        assert row["pitch_achieved"] == pytest.approx(row["pitch_requested"], abs=0.25)
    with pytest.raises(Exception, match="the lower end first"):
        client.predict(controls={"pitch": [66, 56]}, api_name="/dataset")


@pytest.mark.parametrize("path", ["/etc/passwd", str(Path(__file__).resolve()), "/proc/self/environ"])
def test_nothing_outside_its_folder_can_be_fetched(page, path):
    said = post(page, "upload", [{"path": path, "meta": {"_type": "gradio.FileData"}}])
    assert "event: error" in said and "cannot be used" not in said, said  # it was not even read
    for form in (f"{page}/gradio_api/file={path}", f"{page}/gradio_api/file=/tmp/../{path}", f"{page}/file={path}"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(form, timeout=10)
        assert caught.value.code in (403, 404)


def test_words_that_are_wrong_get_one_line(tmp_path):
    assert "USER:PASSWORD" in one_line(cli("demo", "notes16k", "--auth", "me"))
    assert "not a model" in one_line(cli("demo", tmp_path / "nowhere"))


def test_a_port_in_use_is_told_before_anything_else():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        with pytest.raises(UserError, match=r"--port \d+: cannot be used \(.*\); choose another"):
            launch(Path("no model"), s.getsockname()[1])
