"""Make a data set: a small form, the same code as the verb `dataset`, its table and a ZIP."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import yaml

from audio_vaegan.dataset.work import make_dataset
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.dataset import read_rows

from .desk import Desk, number, plainly, seed_of
from .sliders import ends_of, step_of

MOST = 500
SHOWN = 100


def tab(desk: Desk) -> None:
    """Build the tab."""
    model = desk.model
    controls = [c for c in model.controls.values() if not c.classes]
    gr.Markdown(
        "### A data set whose labels are measured\nEvery sound is measured after it was made; what is not as it was "
        f"asked is made again. Here up to {MOST} sounds; `audio-vaegan dataset` makes thousands by the same code.",
        elem_classes="tight",
    )
    with gr.Row():
        count = gr.Slider(1, MOST, 24, step=1, label="Sounds", buttons=[])
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
        loudness = gr.Slider(-40, -10, -23, step=0.5, label="Loudness of all (LUFS)", buttons=[])
    gr.Markdown("Drawn evenly from these ranges; a control that is not asked for is as in the training data.")
    choices: list[Any] = []
    with gr.Row():
        for control in controls:
            if control.name == "loudness":
                continue
            with gr.Column(min_width=220), gr.Group():
                ends, step = ends_of(control), step_of(control)
                ask = gr.Checkbox(control.name == "pitch", label=f"Ask for {control.name.replace('_', ' ')}")
                low, high = (
                    gr.Slider(
                        *ends, value, step=step, label=f"{word}, {control.unit}", buttons=[], elem_classes="control"
                    )
                    for word, value in zip(("from", "to"), ends, strict=True)
                )
                choices += [ask, low, high]
    make = gr.Button("Make the data set", variant="primary")
    said = gr.Markdown(elem_classes="tight", elem_id="made")
    archive = gr.DownloadButton("Download (ZIP)", interactive=False, elem_id="dataset-zip")
    table = gr.Dataframe(interactive=False, label="Requested and achieved", wrap=False)
    names = [c.name for c in controls if c.name != "loudness"]

    def made(spec: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        with tempfile.TemporaryDirectory(dir=desk.folder.parent) as work:
            folder = Path(work)
            try:
                (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
                delivered = make_dataset(
                    desk.path, folder / "spec.yaml", folder / "dataset", vocoder=desk.vocoder, say=lambda line: None
                )
                if not delivered:
                    raise UserError("none of these sounds came out as asked; ask for less extreme values")
                rows = _table(folder / "dataset", desk)
            except UserError as e:
                raise UserError(str(e).replace(f"{folder}/", "")) from None
            shutil.copy(folder / "spec.yaml", folder / "dataset" / "spec.yaml")
            packed = shutil.make_archive(str(desk.request() / "dataset"), "zip", folder / "dataset")
        text = (
            f"**{delivered} of {spec['count']} sounds delivered**, each measured. The ZIP holds them as an AudioFolder "
            "with a card, Croissant metadata, what was rejected and why, and the spec that makes it again."
        )
        return text, packed, rows

    def by_hand(
        count: float, seed: float, loudness: float, *given: Any,
        progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008
    ) -> tuple[str, Any, Any]:  # fmt: skip
        ranges = zip(names, given[::3], given[1::3], given[2::3], strict=True)
        try:
            text, packed, rows = made(_spec(count, seed, loudness, {n: (a, b) for n, ask, a, b in ranges if ask}))
        except UserError as e:
            raise plainly(e) from None
        return text, gr.update(value=packed, interactive=True), rows

    def dataset(
        controls: dict[str, list[float]], count: int = 24, seed: int = 0, loudness: float = -23.0
    ) -> tuple[dict, str]:
        """Sounds drawn evenly from ranges of controls, as {"pitch": [55, 67]}: a ZIP of them, and how many there are"""
        try:
            if not isinstance(controls, dict) or not all(
                isinstance(v, list) and len(v) == 2 for v in controls.values()
            ):
                raise UserError('controls: give each a range, as {"pitch": [55, 67]}')
            text, packed, _ = made(_spec(count, seed, loudness, controls))
        except UserError as e:
            raise plainly(e) from None
        return gr.FileData(path=packed, orig_name="dataset.zip").model_dump(), text

    make.click(
        by_hand, [count, seed, loudness, *choices], [said, archive, table], api_visibility="private",
        concurrency_id="dataset", concurrency_limit=1,
    )  # fmt: skip
    gr.api(dataset, api_name="dataset", concurrency_id="dataset", concurrency_limit=1)


def _spec(count: float, seed: float, loudness: float, ranges: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    sounds = number(count, "Sounds")
    if not 1 <= sounds <= MOST:
        raise UserError(f"Sounds: 1 to {MOST}, got {sounds:g}")
    asked = {}
    for name, ends in ranges.items():
        low, high = (number(v, name) for v in ends)
        if low > high:
            raise UserError(f"{name}: the lower end first, got {low:g} to {high:g}")
        asked[name] = {"uniform": [low, high]}
    if not asked:
        raise UserError("Ask for one control at least: its values are the labels.")
    return {
        "name": "demo",
        "count": int(sounds),
        "seed": seed_of(seed),
        "loudness": number(loudness, "Loudness"),
        "controls": asked,
    }


def _table(folder: Path, desk: Desk) -> dict[str, Any]:
    """The first rows: the number, then each control that was asked for, requested and achieved."""
    rows = [row for row, _ in read_rows(folder)[:SHOWN]]
    asked = [n for n in desk.model.controls if rows[0].get(f"{n}_requested") is not None]
    columns = ["id", *(f"{n}_{what}" for n in asked for what in ("requested", "achieved"))]
    return {"headers": [c.replace("_", " ") for c in columns], "data": [[r.get(c) for c in columns] for r in rows]}
