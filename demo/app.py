"""The page: a model's controls as sliders, over SoundModel. No model code here; the only user of gradio."""

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from audio_vaegan.audio import write
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.pictures import mel_grid
from audio_vaegan.files import write_atomic
from audio_vaegan.sound_model import Clip, SoundModel

MAX_FILE = "10mb"


def build(model: SoundModel, folder: Path) -> gr.Blocks:
    """The page of a model. Every request writes files of its own below `folder`."""
    control = model.controls.get("pitch")
    low, high = (control.low, control.high) if control else (0.0, 0.0)
    middle = round((low + high) / 2)

    def files(clip: Clip, title: str) -> tuple[str, str]:
        here = Path(tempfile.mkdtemp(dir=folder))
        write(here / "sound.wav", clip.audio[0].numpy(), model.sample_rate, f"model {model.hash[:12]}")
        write_atomic(here / "mel.png", mel_grid([[clip.mel[0].numpy()]], [title], [""], model.recipe.mel))
        return str(here / "sound.wav"), str(here / "mel.png")

    def sample(seed: float, pitch: float, truncation: float) -> tuple[str, str, str]:
        try:
            asked: dict[str, Any] = {"pitch": pitch} if control else {}
            clip = model.sample(1, seed=int(seed), truncation=truncation, **asked)
        except UserError as e:
            raise gr.Error(str(e)) from None
        found = model.measure(clip.audio)
        said = f"asked {pitch:.2f}, measured {float(found['pitch'][0]):.2f} (MIDI)" if control else ""
        return *files(clip, "mel spectrogram"), said

    def edit(path: str | None, shift: float) -> tuple[str, str, str, str]:
        if not path:
            raise gr.Error("Give a sound first: upload a file or record one.")
        try:
            sound = model.encode(path)
            plain = model.decode(sound)
            change = {"pitch": shift} if control and shift else {}
            clip = model.edit(sound, shift=change)
        except UserError as e:
            raise gr.Error(str(e).replace(path, Path(path).name)) from None
        said = ""
        if control:
            said = f"requested {float(clip.requested['pitch'][0]):.2f}, "
            said += f"measured {float(clip.achieved['pitch'][0]):.2f} (MIDI)"
        before, _ = files(plain, "reconstructed")
        after, picture = files(clip, f"moved by {shift:g} semitones")
        return before, after, picture, said

    with gr.Blocks(title=f"audio-vaegan: {model.recipe.name}", delete_cache=(3600, 3600)) as page:
        gr.Markdown(
            f"# {model.recipe.name}\nAll sounds made on this page are **AI-generated** and marked so in their files. "
            f"Model `{model.hash[:12]}`, vocoder: {model.vocoder_title}."
        )
        with gr.Tab("New sound"):
            with gr.Row():
                seed = gr.Number(1, label="Seed", info="the same seed is the same timbre", precision=0, minimum=0)
                pitch = gr.Slider(low, high, middle, step=0.01, label="Pitch (MIDI semitones)", visible=bool(control))
                truncation = gr.Slider(0, 1.5, 1.0, step=0.05, label="Truncation", info="less: closer to the average")
            make = gr.Button("Make a sound", variant="primary")
            audio = gr.Audio(label="Sound", interactive=False, autoplay=True)
            text = gr.Textbox(label="Pitch", interactive=False)
            image = gr.Image(label="Mel spectrogram", interactive=False)
            event = {"fn": sample, "inputs": [seed, pitch, truncation], "outputs": [audio, image, text]}
            make.click(**event, api_name="sample", concurrency_id="model", concurrency_limit=1)
            pitch.release(**event, api_name=False, concurrency_id="model", concurrency_limit=1)
        with gr.Tab("Your sound"):
            source = gr.Audio(label="A sound", sources=["upload", "microphone"], type="filepath")
            shift = gr.Slider(-12, 12, 0, step=0.01, label="Move pitch by (semitones)", visible=bool(control))
            go = gr.Button("Decode", variant="primary")
            with gr.Row():
                before = gr.Audio(label="Reconstructed", interactive=False)
                after = gr.Audio(label="Moved", interactive=False)
            moved = gr.Textbox(label="Pitch", interactive=False)
            picture = gr.Image(label="Mel spectrogram", interactive=False)
            event = {"fn": edit, "inputs": [source, shift], "outputs": [before, after, picture, moved]}
            go.click(**event, api_name="edit", concurrency_id="model", concurrency_limit=1)
            shift.release(**event, api_name=False, concurrency_id="model", concurrency_limit=1)
    return page.queue(max_size=32)


def launch(path: Path, port: int, vocoder: str = "auto") -> None:
    """Serve the page of the model at `path` on localhost until Ctrl-C."""
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    with tempfile.TemporaryDirectory(prefix="audio-vaegan-demo-") as folder:
        page = build(model, Path(folder))
        print(f"http://127.0.0.1:{port}   (Ctrl-C ends it)", flush=True)
        page.launch(
            quiet=True, server_name="127.0.0.1", server_port=port, max_file_size=MAX_FILE, allowed_paths=[folder]
        )
