"""What a run sounds and looks like on the way: a picture and a few sounds at every checkpoint."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audio_vaegan.audio import write
from audio_vaegan.data.store import Store
from audio_vaegan.evaluation.held import Held, pick
from audio_vaegan.evaluation.pictures import mel_grid
from audio_vaegan.files import write_atomic
from audio_vaegan.mel import Mel
from audio_vaegan.models.bundle import Bundle
from audio_vaegan.models.vocoder import TrainedVocoder
from audio_vaegan.sound_model import SoundModel


def write_samples(bundle: Bundle, store: Store, folder: Path, step: int, count: int = 4) -> None:
    """`step-N.png` (real, reconstructed, moved, sampled) and `step-N-sample-K.wav` in `folder`."""
    model = SoundModel(bundle)
    rows = pick(store, "test_note", count, fallback=True)
    sampled = model.sample(len(rows), seed=0)
    columns, titles = [model.log_mel(torch.from_numpy(store.read(rows)))], ["real"]
    if model.encodes:
        sound = Held(model, store, rows).sound
        columns.append(model.decode_mel(sound).cpu())
        titles.append("reconstructed")
        for name, control in model.controls.items():
            target = np.where(
                sound.controls[name].numpy() < (control.low + control.high) / 2, control.high, control.low
            )
            moved = sound.controls | {name: sound.controls[name].new_tensor(target)}
            columns.append(model.decode_mel(model.replace_controls(sound, moved)).cpu())
            titles.append(f"{name} moved")
    columns.append(sampled.mel)
    titles.append("sampled")
    folder.mkdir(parents=True, exist_ok=True)
    grid = [[c[i].numpy() for c in columns] for i in range(len(rows))]
    names = [str(s).split("/")[-1].rsplit(".", 1)[0] for s in store.column("source")[rows]]
    write_atomic(folder / f"step-{step:08d}.png", mel_grid(grid, titles, names, model.recipe.mel))
    for i, audio in enumerate(sampled.audio):
        write(folder / f"step-{step:08d}-sample-{i}.wav", audio.numpy(), model.sample_rate, f"step {step}")


def write_copies(vocoder: TrainedVocoder, real: Tensor, mel: Tensor, names: list[str], folder: Path, step: int) -> None:
    """`step-N.png` (real, given, copied) and `step-N-copy-K.wav` in `folder`: what a vocoder makes of mels
    `[B, n_mels, T]`, beside the clips `[B, samples]` that it should.
    """
    show = Mel(vocoder.config)
    real, mel = real.cpu(), mel.cpu()
    copy = vocoder.cpu()(mel, real.shape[1]).clamp(-1, 1)
    grid = [[a.numpy(), m.numpy(), b.numpy()] for a, m, b in zip(show(real), mel, show(copy), strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"step-{step:08d}.png", mel_grid(grid, ["real", "given", "copied"], names, vocoder.config))
    for i, audio in enumerate(copy):
        write(folder / f"step-{step:08d}-copy-{i}.wav", audio.numpy(), vocoder.config.sample_rate, f"step {step}")
