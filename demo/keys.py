"""Keyboard: one timbre over the keys, played with the mouse, a finger or the computer's keys."""

import shutil
from pathlib import Path
from typing import Any

import gradio as gr

from audio_vaegan.errors import UserError
from audio_vaegan.keyboard import note_name, write_keys

from .desk import Desk, plainly
from .pictures import piano
from .play import Player

MOST = 49
PLAYING = Path(__file__).with_name("keys.js")


def tab(desk: Desk, player: Player) -> None:
    """Build the tab; a model without pitch has no keys."""
    control = desk.model.controls.get("pitch")
    if control is None:
        gr.Markdown("This model was trained without control of pitch: it has no keys.")
        return
    lowest, highest = int(-(-control.low // 1)), int(control.high // 1)
    middle = min(max(60, lowest), highest)
    gr.Markdown(
        "### One timbre on every key\nThe sound on **Play**, at the pitch of each key. Mouse or finger, or the keys "
        "**A W S E D F T G Y H U J K**; **Z** and **X** shift the octave.",
        elem_classes="tight",
    )
    with gr.Row():
        first = gr.Slider(
            lowest, highest, max(lowest, middle - 12), step=1, label="First key (MIDI)", buttons=[], min_width=140
        )
        last = gr.Slider(
            lowest, highest, min(highest, middle + 12), step=1, label="Last key (MIDI)", buttons=[], min_width=140
        )
    make = gr.Button("Make the keys", variant="primary")
    board = gr.HTML(elem_id="keys", js_on_load=PLAYING.read_text())
    archive = gr.DownloadButton("Download for samplers (SFZ, ZIP)", interactive=False)

    def keys(address: str, first: float, last: float) -> tuple[str, Any]:
        try:
            wanted = range(int(first), int(last) + 1)
            if not 1 <= len(wanted) <= MOST:
                raise UserError(f"From the first key to the last there must be 1 to {MOST}, got {len(wanted)}")
            desk.model.check(pitch=[float(k) for k in wanted])
            opened = desk.open(address)
            folder = desk.request()
            sounds = folder / "instrument"
            sounds.mkdir()
            files, _ = write_keys(desk.model, opened.sound, wanted, sounds, "demo", {"timbre": opened.address})
        except UserError as e:
            raise plainly(e) from None
        packed = shutil.make_archive(str(folder / "instrument"), "zip", sounds)
        shown = piano(wanted, [note_name(k) for k in wanted], [f.read_bytes() for f in files])
        return shown, gr.update(value=packed, interactive=True)

    make.click(
        keys, [player.address, first, last], [board, archive], api_name="keyboard",
        concurrency_id="model", concurrency_limit=1,
    )  # fmt: skip
