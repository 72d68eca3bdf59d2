"""Play: a new sound or your own, a slider for each control in its unit, before and after."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import torch

from audio_vaegan.descriptors import pitch_track
from audio_vaegan.errors import UserError
from audio_vaegan.files import share
from audio_vaegan.sound_model.address import parse_address

from .desk import SEEDS, Desk, Opened, number, plainly, seed_of
from .pictures import bars, side_by_side, spectrogram
from .sliders import ends_of, push, slider, standing, step_of

EXAMPLES = 4
ANY = ""  # no class is asked for
MOST_TRUNCATION = 1.5
REMEMBER = """(address) => {
    const url = new URL(window.location);
    url.searchParams.set("sound", address);
    history.replaceState(null, "", url);
}"""


@dataclass(frozen=True)
class Player:
    """What other tabs take from this one: the address of the sound that was heard last."""

    address: gr.Textbox
    load: Callable[[gr.Blocks], None]


def tab(desk: Desk) -> Player:
    """Build the tab."""
    model = desk.model
    numbers = [c for c in model.controls.values() if not c.classes]
    classes = [c for c in model.controls.values() if c.classes]
    directions = list(model.directions.values())
    labelled, found = ([d for d in directions if (d.method == "pca") is pca] for pca in (False, True))
    moves = [*labelled, *found]

    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            with gr.Group():
                with gr.Row():
                    seed = gr.Number(
                        1, label="Seed", info="the same seed is the same sound", precision=0, minimum=0, min_width=120
                    )
                    truncation = gr.Slider(
                        0, MOST_TRUNCATION, 1.0, step=0.05, label="Truncation", info="less: safer, plainer", buttons=[],
                        elem_classes="control",
                    )  # fmt: skip
                kinds = [
                    gr.Dropdown([("any", ANY), *c.classes], value=ANY, label=c.name.replace("_", " ")) for c in classes
                ]
                fresh = gr.Button("New sound", variant="primary")
                with gr.Row():
                    before = gr.Button("Previous seed", size="sm")
                    after = gr.Button("Next seed", size="sm")
            own = None
            if model.encodes:
                with gr.Accordion("Or your own sound", open=False):
                    own = gr.Audio(
                        label="Your sound", sources=["upload", "microphone"], type="filepath", editable=False,
                        buttons=[], elem_id="own",
                    )  # fmt: skip
                    samples = _examples()
                    if samples:
                        gr.Examples(samples, own, label="Examples", cache_examples=False, api_visibility="private")
                    use = gr.Button("Use this sound")
        with gr.Column(scale=7, min_width=320), gr.Row():
            heard = gr.Audio(label="Before", interactive=False, elem_id="before", buttons=["download"], min_width=240)
            changed = gr.Audio(
                label="After", interactive=False, elem_id="after", buttons=["download"], autoplay=True, min_width=240
            )
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            sliders = [slider(desk, c) for c in numbers]
            pushes = [push(d) for d in labelled]
            if found:
                with gr.Accordion(f"Discovered directions ({len(found)})", open=False):
                    pushes += [push(d) for d in found]
            closed = gr.Checkbox(
                False, label="Closed loop", info="measure what came of it, and correct it: truer, and slower"
            )
            with gr.Row():
                go = gr.Button("Apply")
                reset = gr.Button("Reset")
        with gr.Column(scale=7, min_width=320):
            picture = gr.HTML(elem_id="mels")
            table = gr.HTML(elem_id="bars")
            status = gr.Markdown(elem_id="status", elem_classes="tight")
            with gr.Accordion("Address of this sound (what the link of this page holds)", open=False):
                result = gr.Textbox(label="After", buttons=["copy"], lines=2, interactive=False, elem_id="address")
                origin = gr.Textbox(label="Before", buttons=["copy"], lines=2, interactive=True, elem_id="origin")
                back = gr.Button("Open the address under “Before”", size="sm")

    def show(opened: Opened, notes: Iterable[str] = ()) -> list[Any]:
        """A sound that was opened: sliders at its values, both players on it."""
        file = desk.wav(opened.clip, opened.sound, opened.address, "sound")
        values = [standing(c, opened.sound) for c in numbers]
        updates = [
            gr.update(value=v if v is not None else ends_of(c)[0], interactive=v is not None)
            for v, c in zip(values, numbers, strict=True)
        ]
        rows = {n: float(v[0]) for n, v in opened.measured.items()}
        stand = _stand(desk, [*notes, *opened.notes])
        figure = _picture(desk, opened, opened, None)
        stay = bars(model.controls, rows, {}, rows, False)
        return [opened.address, *updates, *[0.0] * len(moves), file, file, figure, stay, stand, opened.address]

    shown = [origin, *sliders, *pushes, heard, changed, picture, table, status, result]
    drawn = [seed, truncation, *kinds]

    def back_to(text: str) -> list[Any]:
        """The sound at an address, and what it was drawn with where the address says it."""
        opened = desk.open(text)
        address = parse_address(opened.address, model.controls)
        asked = {c.name: str(address.controls[c.name]) for c in classes if c.name in address.controls}
        plain = desk.drawn(address.seed, address.truncation, asked)  # what the form can say
        if str(replace(address, gain=0.0)) != plain or address.seed >= SEEDS or address.truncation > MOST_TRUNCATION:
            return [*show(opened), *[gr.skip()] * len(drawn)]
        return [*show(opened), address.seed, address.truncation, *(asked.get(c.name, ANY) for c in classes)]

    def sample(seed: float, truncation: float, *chosen: str) -> list[Any]:
        try:
            asked = {c.name: k for c, k in zip(classes, chosen, strict=True) if k != ANY}
            return show(desk.open(desk.drawn(seed_of(seed), number(truncation, "truncation"), asked)))
        except UserError as e:
            raise plainly(e) from None

    def upload(path: str | None) -> list[Any]:
        if not path:
            raise gr.Error("Give a sound first: upload a file or record one.", print_exception=False)
        try:
            sound, notes = desk.upload(path)
            return show(desk.open(desk.address(sound)), notes)
        except UserError as e:
            raise plainly(e) from None

    def open_address(address: str) -> list[Any]:
        try:
            return back_to(address)
        except UserError as e:
            raise plainly(e) from None

    def edit(address: str, *given: Any) -> list[Any]:
        try:
            values, pushed = given[: len(numbers)], given[len(numbers) : len(numbers) + len(moves)]
            return change(desk.open(address), values, pushed, bool(given[-1]))
        except UserError as e:
            raise plainly(e) from None

    def change(opened: Opened, values: tuple[Any, ...], pushed: tuple[Any, ...], closed: bool) -> list[Any]:
        to: dict[str, float | str] = {}
        for control, value in zip(numbers, values, strict=True):
            now, value = standing(control, opened.sound), number(value, control.name)
            if now is not None and abs(value - now) > step_of(control) / 2:
                to[control.name] = value
        go_along = {d.name: number(v, d.name) for d, v in zip(moves, pushed, strict=True) if v}
        made, asked = desk.change(opened, to, go_along, closed)
        was, got = ({n: float(v[0]) for n, v in one.measured.items()} for one in (opened, made))
        wanted = {n: v for n, v in asked.items() if not isinstance(v, str)}
        figure = _picture(desk, opened, made, wanted.get("pitch"))
        table = bars(model.controls, was, wanted, got, bool(asked or go_along))
        file = desk.wav(made.clip, made.sound, made.address, "changed")
        return [file, figure, table, _stand(desk, made.notes), made.address]

    heavy: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "minimal"}
    light: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    draw: dict[str, Any] = {"fn": sample, "inputs": [seed, truncation, *kinds], "outputs": shown, **heavy}
    remember: dict[str, Any] = {"fn": None, "inputs": [result], "js": REMEMBER, **light}
    fresh.click(**draw, api_visibility="private").then(**remember)
    for button, step in ((before, -1), (after, 1)):
        button.click(lambda s, step=step: max(0, int(s or 0) + step), seed, seed, **light).then(
            **draw, api_visibility="private"
        ).then(**remember)
    for widget in (seed, *kinds):
        widget.input(**draw, api_visibility="private", trigger_mode="always_last").then(**remember)
    truncation.release(**draw, api_visibility="private", trigger_mode="always_last").then(**remember)
    if own is not None:
        act: dict[str, Any] = {"fn": upload, "inputs": [own], "outputs": shown, **heavy}
        use.click(**act, api_visibility="private").then(**remember)
        for event in (own.upload, own.stop_recording):
            event(**act, api_visibility="private").then(**remember)
    for button in (back, reset):
        button.click(open_address, [origin], [*shown, *drawn], api_visibility="private", **heavy).then(**remember)
    outputs = [changed, picture, table, status, result]
    make: dict[str, Any] = {
        "fn": edit, "inputs": [origin, *sliders, *pushes, closed], "outputs": outputs, **heavy,
        "trigger_mode": "always_last",
    }  # fmt: skip
    go.click(**make, api_visibility="private").then(**remember)
    for one in (*sliders, *pushes):
        one.release(**make, api_visibility="private").then(**remember)

    def first(request: gr.Request) -> list[Any]:
        """The sound that the page's address names, else the first of seed 1."""
        asked = str(request.query_params.get("sound", "")) if request else ""
        try:
            if asked:
                return back_to(asked)
        except UserError as e:
            gr.Warning(str(e), title="The sound of this link")
        return back_to(desk.drawn(1, 1.0, {}))

    def load(page: gr.Blocks) -> None:
        page.load(first, None, [*shown, *drawn], api_visibility="private", **heavy)

    return Player(result, load)


def _examples() -> list[str]:
    files = sorted((share("recipes") / "notes" / "audio").glob("*.flac"))
    return [str(f) for f in files[:: max(1, len(files) // EXAMPLES)][:EXAMPLES]]


def _stand(desk: Desk, notes: Iterable[str]) -> str:
    """The line under the pictures: what should be known of a sound, and what made it."""
    made = f"<small>AI-generated · model {desk.model.hash[:12]} · vocoder {desk.model.vocoder_title}</small>"
    return "  \n".join([*notes, made])


def _picture(desk: Desk, opened: Opened, made: Opened, asked: float | None) -> str:
    """Both spectrograms with their pitch tracks, on one scale."""
    config, rate = desk.model.recipe.mel, desk.model.sample_rate
    seconds = made.clip.mel.shape[-1] * config.hop_length / rate
    scale = 20 / math.log(10) if config.log == "ln" else 20.0
    top = scale * float(torch.maximum(opened.clip.mel.max(), made.clip.mel.max()))
    figures = []
    for name, one, line in (("before", opened, None), ("after", made, asked)):
        audio = one.clip.audio[0, : int(one.sound.samples[0])]
        times, midi = pitch_track(audio, rate)
        track = (times.numpy(), midi.numpy())
        figures.append(spectrogram(name, one.clip.mel[0].numpy(), config, seconds, track, line, top))
    return side_by_side(*figures)
