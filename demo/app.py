"""The page: its tabs, its looks, how it is served."""

import os
import signal
import socket
import tempfile
from pathlib import Path

import gradio as gr

from audio_vaegan.errors import UserError
from audio_vaegan.sound_model import SoundModel

from . import about, api, data, keys, morph, play
from .desk import Desk

MAX_FILE = "10mb"
WAITING = 32  # requests in the queue
KEEP = 3600  # seconds that files which the page has shown stay
FONT = ["system-ui", "sans-serif"]  # none that would be fetched
LOOKS = Path(__file__).with_name("page.css")


def build(desk: Desk) -> gr.Blocks:
    """The page of a model."""
    name = desk.model.recipe.name
    with gr.Blocks(title=f"{name} · audio-vaegan", delete_cache=(600, KEEP), analytics_enabled=False) as page:
        api.serve(desk)  # first: an event without a name of its own takes that of its function
        gr.Markdown(
            f"# {name}\nSounds with controls in real units. Everything made here is **AI-generated**, and its "
            "files say so.",
            elem_id="title",
        )
        with gr.Tab("Play", id="play"):
            player = play.tab(desk)
        if desk.model.encodes or desk.model.fingerprints is not None:
            with gr.Tab("Morph", id="morph"):
                morph.tab(desk, player)
        with gr.Tab("Keyboard", id="keyboard"):
            keys.tab(desk, player)
        with gr.Tab("Make a data set", id="data"):
            data.tab(desk)
        with gr.Tab("About this model", id="about"):
            about.tab(desk)
        player.load(page)
    return page.queue(max_size=WAITING, default_concurrency_limit=4)


def launch(path: Path, port: int, vocoder: str = "auto", share: bool = False, auth: str | None = None) -> None:
    """Serve the page of the model at `path` on localhost until Ctrl-C; with `share` also under a public address.
    `auth` is USER:PASSWORD."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a page that has just ended is none
        try:
            s.bind(("127.0.0.1", port))
        except OSError as e:
            raise UserError(f"--port {port}: cannot be used ({e.strerror}); choose another") from None
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: nothing of a user is left behind
    with tempfile.TemporaryDirectory(prefix="audio-vaegan-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "page")  # what gradio keeps goes with it
        page = build(Desk(model, Path(folder) / "work", path, vocoder))
        print(f"http://127.0.0.1:{port}   (Ctrl-C ends it)", flush=True)
        page.launch(
            quiet=True,
            server_name="127.0.0.1",
            server_port=port,
            share=share,
            auth=None if auth is None else (auth.partition(":")[0], auth.partition(":")[2]),
            max_file_size=MAX_FILE,
            allowed_paths=[str(Path(folder) / "work")],
            theme=gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=FONT, font_mono="monospace"),
            css_paths=[LOOKS],
            footer_links=["api", "settings"],
            run_history=None,
            ssr_mode=False,
            mcp_server=False,
        )
