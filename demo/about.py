"""About this model: its card, its figures, what it was trained on."""

import re
from typing import Any

import gradio as gr

from .desk import Desk


def tab(desk: Desk) -> None:
    """Build the tab."""
    model = desk.model
    folder = model.folder
    card = folder / "README.md" if folder is not None else None
    text = card.read_text(encoding="utf-8") if card is not None and card.is_file() else f"# {model.recipe.name}"
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)  # what a hub reads, not a person
    known = model.fingerprints
    copies = (
        f"It knows prints of {len(known)} training sounds: near-copies of them are left out of data sets."
        if known is not None
        else "It holds no prints of its training sounds."
    )
    fitted = model.fitted
    about = fitted.about
    if fitted.controls:
        rows = [_row(name, c) for name, c in fitted.controls.items()]
        heads = ["control", "unit", "from", "to", "edits", "r open", "r closed", "off by P50", "off by P95", "monotone"]
        gr.Markdown(
            f"### Controls, as measured\nOn {about.get('clips', '?')} clips of the split `{about.get('split', '?')}` "
            "of the training store, from the audio, by meters that label and correct nothing. Each slider of **Play** "
            "says its own.",
            elem_classes="tight",
        )
        gr.Dataframe({"headers": heads, "data": rows}, interactive=False, label="Controls")
    else:
        gr.Markdown("Its controls were not measured: `audio-vaegan fit-controls MODEL --store STORE` does it.")
    gr.Markdown(
        f"{copies} Samples are drawn from {model.prior_title}; the vocoder is {model.vocoder_title}.  \n"
        "Everything made on this page is **AI-generated**; each file says so in its tags, with the address from which "
        "`audio-vaegan generate MODEL --address ...` makes it again."
    )
    with gr.Accordion("The model's card", open=True):
        gr.Markdown(text)


def _row(name: str, c: Any) -> list[Any]:
    numbers = (c.low, c.high, c.n, c.r, c.closed_r, c.p50, c.p95, c.monotone)
    return [name.replace("_", " "), c.unit, *(None if v is None else float(f"{v:.4g}") for v in numbers)]
