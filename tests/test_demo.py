import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile
from conftest import RATE, tone

from audio_vaegan.audio import read

pytest.importorskip("gradio", reason="optional extra `demo`")


@pytest.fixture(scope="module")
def client(tiny_run):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "audio_vaegan.cli", "demo", str(tiny_run), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield _connect(f"http://127.0.0.1:{port}", server)
    finally:
        server.terminate()
        server.wait(20)


def _connect(address, server):
    from gradio_client import Client

    deadline = time.monotonic() + 60
    while True:
        try:
            return Client(address, verbose=False)
        except Exception:
            if time.monotonic() > deadline or server.poll() is not None:
                raise
            time.sleep(0.5)


def clip(path):
    return read(Path(path))[0]


def test_the_page_samples_and_edits(client, tmp_path):
    audio, picture, text = client.predict(3, 64.0, 1.0, api_name="/sample")
    assert soundfile.info(audio).subtype == "PCM_16" and "asked 64.00" in text
    assert picture
    same, _, _ = client.predict(3, 64.0, 1.0, api_name="/sample")
    assert (clip(audio) == clip(same)).all()

    from gradio_client import handle_file

    soundfile.write(tmp_path / "in.wav", tone(64, 0.4), RATE)
    before, after, _, text = client.predict(handle_file(tmp_path / "in.wav"), 3.0, api_name="/edit")
    assert "requested 67" in text
    assert (clip(before) != clip(after)).any()
    assert len(clip(after)) == 8192


def test_a_bad_request_gets_words(client):
    with pytest.raises(Exception, match="Give a sound first"):
        client.predict(None, 3.0, api_name="/edit")
