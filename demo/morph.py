"""Morph: the way from one sound to another, and a map of the training sounds' timbres."""

import shutil
from typing import Any

import gradio as gr
import torch

from audio_vaegan.edits import write_path
from audio_vaegan.errors import UserError
from audio_vaegan.sound_model import Clip, Sound
from audio_vaegan.sound_model.writing import turned_down

from .desk import Desk, number, plainly
from .pictures import side_by_side, spectrogram, timbre_map
from .play import Player

MOST_STEPS = 33
HEAVY: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "minimal"}
LIGHT: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
CLICKS = """
const at = (place) => trigger('click', {x: place.x, y: place.y});
let cross = {x: 0.5, y: 0.5};
const draw = () => {
    const mark = element.querySelector('.cross');
    if (mark) mark.setAttribute('transform', `translate(${20 + 960 * cross.x} ${620 - 600 * cross.y})`);
};
const clamp = (v) => Math.min(1, Math.max(0, v));
element.addEventListener('click', (event) => {
    const map = event.target.closest('svg.map');
    if (!map) return;
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
    cross = {x: clamp((point.x - 20) / 960), y: clamp((620 - point.y) / 600)};
    if (event.target.tagName === 'circle') {
        cross = {x: (event.target.getAttribute('cx') - 20) / 960, y: (620 - event.target.getAttribute('cy')) / 600};
    }
    draw();
    at(cross);
});
element.addEventListener('keydown', (event) => {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key];
    if (step) {
        cross = {x: clamp(cross.x + 0.02 * step[0]), y: clamp(cross.y + 0.02 * step[1])};
        draw();
    } else if (event.key === 'Enter' || event.key === ' ') at(cross);
    else return;
    event.preventDefault();
});
"""


def tab(desk: Desk, player: Player) -> None:
    """Build the tab."""
    if desk.model.fingerprints is not None and desk.model.fingerprints.map is not None:
        _map(desk)
    else:
        gr.Markdown(
            "A map of the training sounds stands here once `audio-vaegan fit-controls MODEL --store STORE` has made it."
        )
    _way(desk, player)


def _way(desk: Desk, player: Player) -> None:
    model = desk.model
    gr.Markdown("### From one sound to another\nThe timbre goes round, the controls go straight.", elem_classes="tight")
    with gr.Row():
        ends: list[Any] = []
        news: list[Any] = []
        for name, first in (("A", 1), ("B", 2)):
            with gr.Column(min_width=280), gr.Group():
                seed = gr.Number(first, label=f"Seed of {name}", precision=0, minimum=0)
                with gr.Row():
                    drawn = gr.Button(f"{name}: sound of this seed", size="sm")
                    taken = gr.Button(f"{name}: the sound on Play", size="sm")
                address = gr.Textbox(
                    desk.drawn(first, 1.0, {}), label=f"Address of {name}", lines=1, max_lines=1,
                    elem_id=f"end-{name.lower()}",
                )  # fmt: skip
                news += [
                    drawn.click(lambda s: desk.drawn(max(0, int(s or 0)), 1.0, {}), seed, address, **LIGHT).then,
                    taken.click(lambda a: a, player.address, address, **LIGHT).then,
                ]
                ends.append(address)
    place = gr.Slider(0, 1, 0.5, step=0.01, label="Place between A (0) and B (1)", buttons=[], elem_id="between")
    hear = gr.Button("Hear this place")
    with gr.Row():
        steps = gr.Slider(2, MOST_STEPS, 9, step=1, label="Sounds on the way, both ends included", buttons=[])
        make = gr.Button("Make the whole way", variant="primary")
    with gr.Row():
        one = gr.Audio(label="This place", interactive=False, autoplay=True, elem_id="place", buttons=["download"])
        whole = gr.Audio(label="The whole way as one sound", interactive=False, elem_id="sweep", buttons=["download"])
    picture = gr.HTML()
    archive = gr.DownloadButton("Download all sounds (ZIP)", interactive=False)

    def between(first: str, second: str, share: float) -> tuple[str, str]:
        try:
            a, b = desk.open(first).sound, desk.open(second).sound
            sound = model.morph(a, b, torch.tensor([number(share, "the place")]))
            clip, gain = desk.decode(sound)
        except UserError as e:
            raise plainly(e) from None
        file = desk.wav(clip, sound, desk.address(sound, gain), f"morph-{share:.2f}")
        return file, _picture(desk, clip, "; ".join([f"at {share:.2f}", *turned_down(gain)]))

    def way(first: str, second: str, steps: float) -> tuple[str, Any]:
        try:
            a, b = desk.open(first).sound, desk.open(second).sound
            count = int(number(steps, "the number of sounds"))
            folder = desk.request()
            sounds = folder / "morph"
            sounds.mkdir()
            write_path(model, a, b, count, sounds, sweep=True)
        except UserError as e:
            raise plainly(e) from None
        packed = shutil.make_archive(str(folder / "morph"), "zip", sounds)
        return str(sounds / "sweep.wav"), gr.update(value=packed, interactive=True)

    act: dict[str, Any] = {"fn": between, "inputs": [*ends, place], "outputs": [one, picture], **HEAVY}
    hear.click(**act, api_name="morph")
    for event in (place.release, *news):
        event(**act, api_visibility="private", trigger_mode="always_last")
    make.click(way, [*ends, steps], [whole, archive], api_name="morph_path", **HEAVY)


def _map(desk: Desk) -> None:
    model = desk.model
    timbres = model.fingerprints.map if model.fingerprints else None
    assert timbres is not None
    pitch = model.controls.get("pitch")
    gr.Markdown(
        f"### Map of timbres\nEach dot is one of {len(timbres)} training sounds, as the model plays it; alike timbres "
        "are near each other. Click a dot, or anywhere between.",
        elem_classes="tight",
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=320):
            shown = gr.HTML(
                timbre_map(timbres.place.numpy(), timbres.labels, timbres.label), js_on_load=CLICKS, elem_id="map"
            )
        with gr.Column(scale=4, min_width=280):
            low, high = (pitch.low, pitch.high) if pitch else (0.0, 1.0)
            own = gr.Checkbox(not pitch, label="Each at its own pitch", visible=pitch is not None)
            at = gr.Slider(
                low, high, round((low + high) / 2), step=1, label="All at this pitch (semitones, MIDI)", buttons=[],
                visible=pitch is not None,
            )  # fmt: skip
            heard = gr.Audio(label="This place", interactive=False, autoplay=True, elem_id="map-sound",
                             buttons=["download"])  # fmt: skip
            picture = gr.HTML()
            x, y = (gr.Number(0.5, label=name, visible=False) for name in ("x", "y"))
            address = gr.Textbox(label="Its address", lines=1, max_lines=1, buttons=["copy"], elem_id="map-address")

    def click(event: gr.EventData) -> tuple[float, float]:
        return float(event.x), float(event.y)

    def hear(x: float, y: float, pitch_at: float, as_it_is: bool) -> tuple[str, str, str]:
        try:
            across, up = (number(v, "a place") for v in (x, y))
            z = timbres.at(across, up, [*model.controls.values()])
            values = {n: c.value(z[:, i]) for i, (n, c) in enumerate(model.controls.items())}
            sound = Sound(z, values, torch.tensor([model.clip_samples]), values.get("noisiness"))
            if pitch and not as_it_is:
                sound = model.replace_controls(sound, {"pitch": pitch.wanted(pitch_at, 1)})
            clip, gain = desk.decode(sound)
        except UserError as e:
            raise plainly(e) from None
        address = desk.address(sound, gain)
        picture = _picture(desk, clip, "; ".join([f"{across:.2f}, {up:.2f}", *turned_down(gain)]))
        return desk.wav(clip, sound, address, "place"), picture, address

    outputs = [heard, picture, address]
    shown.click(click, None, [x, y], **LIGHT).then(
        hear, [x, y, at, own], outputs, api_name="place", trigger_mode="always_last", **HEAVY
    )
    for event in (at.release, own.input):
        event(hear, [x, y, at, own], outputs, api_visibility="private", trigger_mode="always_last", **HEAVY)


def _picture(desk: Desk, clip: Clip, title: str) -> str:
    config = desk.model.recipe.mel
    seconds = clip.mel.shape[-1] * config.hop_length / desk.model.sample_rate
    return side_by_side(spectrogram(title, clip.mel[0].numpy(), config, seconds)).split('<p class="legend">')[0]
