"""What a run sounds and looks like on the way: a picture and a few sounds at every checkpoint."""

from pathlib import Path

import numpy as np

from audio_vaegan.audio import write
from audio_vaegan.data.store import Store
from audio_vaegan.evaluation.evaluate import Held, pick
from audio_vaegan.evaluation.pictures import mel_grid
from audio_vaegan.files import write_atomic
from audio_vaegan.models.bundle import Bundle
from audio_vaegan.sound_model import SoundModel


def write_samples(bundle: Bundle, store: Store, folder: Path, step: int, count: int = 4) -> None:
    """`step-N.png` (real, reconstructed, moved, sampled) and `step-N-sample-K.wav` in `folder`."""
    model = SoundModel(bundle)
    held = Held(model, store, pick(store, "test_note", count, fallback=True))
    sampled = model.sample(len(held.clips), seed=0)
    columns = [held.mel, model.decode_mel(held.sound).cpu()]
    titles = ["real", "reconstructed"]
    for name, control in model.controls.items():
        target = np.where(held.sound.controls[name].numpy() < control.mean, control.high, control.low)
        moved = held.sound.controls | {name: held.sound.controls[name].new_tensor(target)}
        columns.append(model.decode_mel(model.replace_controls(held.sound, moved)).cpu())
        titles.append(f"{name} moved")
    columns.append(sampled.mel)
    titles.append("sampled")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [[c[i].numpy() for c in columns] for i in range(len(held.clips))]
    write_atomic(folder / f"step-{step:08d}.png", mel_grid(rows, titles, held.names, model.recipe.mel))
    for i, audio in enumerate(sampled.audio):
        write(folder / f"step-{step:08d}-sample-{i}.wav", audio.numpy(), model.sample_rate, f"step {step}")
