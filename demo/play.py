"""Play: a new sound or your own, a slider for each control in its unit, before and after."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
import torch

from audio_vaegan.control.directions import Direction
from audio_vaegan.descriptors import pitch_track
from audio_vaegan.edits import raised, too_dark
from audio_vaegan.errors import UserError
from audio_vaegan.files import share
from audio_vaegan.models.controls import Control
from audio_vaegan.sound_model import Clip, Sound

from .desk import PITCH_STEP, Desk, Opened, plainly
from .pictures import bars, side_by_side, spectrogram

EXAMPLES = 4
ANY = ""  # no class is asked for
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
                        0, 1.5, 1.0, step=0.05, label="Truncation", info="less: safer, plainer", buttons=[],
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
            sliders = [_slider(desk, c) for c in numbers]
            pushes = [_push(d) for d in labelled]
            if found:
                with gr.Accordion(f"Discovered directions ({len(found)})", open=False):
                    pushes += [_push(d) for d in found]
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

    def show(opened: Opened, notes: str = "") -> list[Any]:
        """A sound that was opened: sliders at its values, both players on it."""
        file = desk.wav(opened.clip, opened.sound, opened.address, "sound")
        values = [_standing(c, opened.sound) for c in numbers]
        updates = [
            gr.update(value=v if v is not None else ends_of(c)[0], interactive=v is not None)
            for v, c in zip(values, numbers, strict=True)
        ]
        rows = {n: float(v[0]) for n, v in opened.measured.items()}
        stand = "  \n".join(filter(None, [notes, _written(desk)]))
        figure = _picture(desk, opened, opened.clip, opened.sound, None)
        stay = bars(model.controls, rows, {}, rows, False)
        return [opened.address, *updates, *[0.0] * len(moves), file, file, figure, stay, stand, opened.address]

    shown = [origin, *sliders, *pushes, heard, changed, picture, table, status, result]

    def sample(seed: float, truncation: float, *chosen: str) -> list[Any]:
        try:
            asked = {c.name: k for c, k in zip(classes, chosen, strict=True) if k != ANY}
            return show(desk.open(desk.drawn(_whole(seed), truncation, asked)))
        except UserError as e:
            raise plainly(e) from None

    def upload(path: str | None) -> list[Any]:
        if not path:
            raise gr.Error("Give a sound first: upload a file or record one.", print_exception=False)
        try:
            sound, notes = desk.upload(path)
            return show(desk.open(desk.address(sound)), "  \n".join(notes))
        except UserError as e:
            raise plainly(e) from None

    def open_address(address: str) -> list[Any]:
        try:
            return show(desk.open(address))
        except UserError as e:
            raise plainly(e) from None

    def edit(address: str, *given: Any) -> list[Any]:
        try:
            values, pushed = given[: len(numbers)], given[len(numbers) : len(numbers) + len(moves)]
            return change(desk.open(address), values, pushed, bool(given[-1]))
        except UserError as e:
            raise plainly(e) from None

    def change(opened: Opened, values: tuple[Any, ...], pushed: tuple[Any, ...], closed: bool) -> list[Any]:
        to = {}
        for control, value in zip(numbers, values, strict=True):
            standing = _standing(control, opened.sound)
            if value is None or not math.isfinite(value):
                raise UserError(f"{control.name} must be a number")
            if standing is not None and abs(value - standing) > step_of(control) / 2:
                to[control.name] = float(value)
        go_along = {d.name: float(v) for d, v in zip(moves, pushed, strict=True) if v}
        if not all(map(math.isfinite, go_along.values())):
            raise UserError("directions move by numbers")
        lowest = too_dark(model, opened.sound, {}, to) if to else None
        status = _written(desk)
        if lowest is not None:
            to["brightness"], status = lowest, f"{raised(lowest)}  \n{status}"
        made = model.edit(opened.sound, set=to, move=go_along, closed_loop=closed)
        whole = made.sound(opened.sound.samples)
        address = desk.address(whole) if to or go_along else opened.address
        file = desk.wav(made, whole, address, "changed")
        was, got = ({n: float(v[0]) for n, v in m.items()} for m in (opened.measured, made.achieved))
        asked = to.get("pitch")
        figure = _picture(desk, opened, made, whole, asked)
        return [file, figure, bars(model.controls, was, to, got, bool(to or go_along)), status, address]

    heavy: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "minimal"}
    light: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    draw: dict[str, Any] = {"fn": sample, "inputs": [seed, truncation, *kinds], "outputs": shown, **heavy}
    remember: dict[str, Any] = {"fn": None, "inputs": [result], "js": REMEMBER, **light}
    fresh.click(**draw, api_name="sample").then(**remember)
    for button, step in ((before, -1), (after, 1)):
        button.click(lambda s, step=step: max(0, int(s or 0) + step), seed, seed, **light).then(
            **draw, api_visibility="private"
        ).then(**remember)
    for widget in (seed, *kinds):
        widget.input(**draw, api_visibility="private", trigger_mode="always_last").then(**remember)
    truncation.release(**draw, api_visibility="private", trigger_mode="always_last").then(**remember)
    if own is not None:
        act: dict[str, Any] = {"fn": upload, "inputs": [own], "outputs": shown, **heavy}
        use.click(**act, api_name="upload").then(**remember)
        for event in (own.upload, own.stop_recording):
            event(**act, api_visibility="private").then(**remember)
    back.click(open_address, [origin], shown, api_name="open", **heavy).then(**remember)
    reset.click(open_address, [origin], shown, api_visibility="private", **heavy).then(**remember)
    outputs = [changed, picture, table, status, result]
    make: dict[str, Any] = {
        "fn": edit, "inputs": [origin, *sliders, *pushes, closed], "outputs": outputs, **heavy,
        "trigger_mode": "always_last",
    }  # fmt: skip
    go.click(**make, api_name="edit").then(**remember)
    for slider in (*sliders, *pushes):
        slider.release(**make, api_visibility="private").then(**remember)

    def first(request: gr.Request) -> list[Any]:
        """The sound that the page's address names, else the first of seed 1."""
        asked = str(request.query_params.get("sound", "")) if request else ""
        try:
            if asked:
                return show(desk.open(asked))
        except UserError as e:
            gr.Warning(f"The link's sound cannot be opened: {e}")
        return show(desk.open(desk.drawn(1, 1.0, {})))

    def load(page: gr.Blocks) -> None:
        page.load(first, None, shown, api_visibility="private", **heavy)

    return Player(result, load)


def _examples() -> list[str]:
    files = sorted((share("recipes") / "notes" / "audio").glob("*.flac"))
    return [str(f) for f in files[:: max(1, len(files) // EXAMPLES)][:EXAMPLES]]


def _whole(seed: Any) -> int:
    if seed is None or not math.isfinite(seed) or not 0 <= seed < 2**53:
        raise UserError("Seed must be a whole number, 0 or more")
    return int(seed)


def step_of(control: Control) -> float:
    """Of a slider: a hundredth to a thousandth of the range, round."""
    if control.name == "pitch":
        return PITCH_STEP
    return float(10 ** math.floor(math.log10((control.high - control.low) / 100)))


def ends_of(control: Control) -> tuple[float, float]:
    """Round ends of a slider within the control's range."""
    step = step_of(control)
    digits = max(0, -round(math.log10(step)))
    return round(math.ceil(control.low / step - 1e-6) * step, digits), round(
        math.floor(control.high / step + 1e-6) * step, digits
    )


def _standing(control: Control, sound: Sound) -> float | None:
    """Where a slider stands for a sound: at its value, within the range, round; None where it is undefined."""
    value = float(sound.controls[control.name][0])
    low, high = ends_of(control)
    return None if math.isnan(value) else _round(control, min(max(value, low), high))


def _round(control: Control, value: float) -> float:
    step = step_of(control)
    return round(round(value / step) * step, max(0, -round(math.log10(step))))


def _slider(desk: Desk, control: Control) -> gr.Slider:
    """A slider in the control's unit, with its range, and what was measured of its error and leakage."""
    fitted = desk.model.fitted.controls.get(control.name)
    low, high = ends_of(control)
    info = f"{low:g} … {high:g}"
    if fitted is not None and fitted.p50 is not None and fitted.p95 is not None:
        scale, unit = (100, " cents") if control.name == "pitch" else (1, "")
        info += f" · error: half within {_short(scale * fitted.p50)}, 95 % within {_short(scale * fitted.p95)}{unit}"
        leaks = {n: v for n, v in fitted.leakage.items() if v is not None}
        if leaks:
            worst = max(leaks, key=lambda n: leaks[n])
            per = "an octave" if control.name == "pitch" else "a deviation"
            info += f" · leaks most into {worst.replace('_', ' ')}: {leaks[worst]:.2g} deviations {per}"
    unit = "MIDI semitones" if control.name == "pitch" else control.unit
    return gr.Slider(
        low, high, _round(control, (low + high) / 2), step=step_of(control), buttons=[],
        label=f"{control.name.replace('_', ' ').capitalize()}, {unit}", info=info,
        elem_id=f"control-{control.name}", elem_classes="control",
    )  # fmt: skip


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _push(direction: Direction) -> gr.Slider:
    """A slider that moves a sound along a direction which was fitted after training."""
    most = direction.high - direction.low
    if direction.method == "pca":
        info = f"in standard deviations; {100 * direction.score:.0f} % of the variance of the timbres"
    else:
        score = f"{'AUC' if direction.binary else 'r'} {direction.score:.2f}"
        info = f"{direction.method}, from {direction.count} sounds; readable with {score} on sounds not fitted"
    return gr.Slider(
        -most, most, 0.0, step=most / 100, label=direction.name, info=info, buttons=[], elem_classes="control"
    )


def _written(desk: Desk) -> str:
    return f"<small>AI-generated · model {desk.model.hash[:12]} · vocoder {desk.model.vocoder_title}</small>"


def _picture(desk: Desk, opened: Opened, clip: Clip, sound: Sound, asked: float | None) -> str:
    """Both spectrograms with their pitch tracks, on one scale."""
    config, rate = desk.model.recipe.mel, desk.model.sample_rate
    seconds = clip.mel.shape[-1] * config.hop_length / rate
    scale = 20 / math.log(10) if config.log == "ln" else 20.0
    top = scale * float(torch.maximum(opened.clip.mel.max(), clip.mel.max()))
    figures = []
    for name, one, samples, line in (
        ("before", opened.clip, opened.sound.samples, None),
        ("after", clip, sound.samples, asked),
    ):
        audio = one.audio[0, : int(samples[0])]
        times, midi = pitch_track(audio, rate)
        track = (times.numpy(), midi.numpy())
        figures.append(spectrogram(name, one.mel[0].numpy(), config, seconds, track, line, top))
    return side_by_side(*figures)
