"""What a model does with sounds: how long for one, how many a second in batches, and how near to what is possible."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from audio_vaegan.bench.machine import Call, Machine, in_turns, median, operations, percentile, tensor_bytes
from audio_vaegan.models.controls import Between
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.sounds import Sound

Task = Callable[[int], Call]  # a number of sounds -> what is timed for so many


def bench_sounds(model: SoundModel, machine: Machine, batch: int, seconds: float) -> list[dict[str, Any]]:
    """One row a thing that a model does: P50 and P95 for one sound, and of a batch the rates and the share of the roof.

    `latent to waveform` is generator and vocoder alone; `decode` is what a user gets: also set to read as asked, and as
    noisy.
    """
    tasks = _tasks(model)
    one = in_turns({name: task(1) for name, task in tasks.items()}, model.device, seconds, "one sound")
    many = in_turns({name: task(batch) for name, task in tasks.items()}, model.device, seconds, f"{batch} sounds")
    clip = model.clip_samples / model.sample_rate
    rows = []
    for name, task in tasks.items():
        took, count = median(many[name]), operations(task(batch))
        floor = machine.floor(count, _moved(model, name, batch))
        rows.append(
            {
                "name": name,
                "one_p50_ms": 1e3 * median(one[name]),
                "one_p95_ms": 1e3 * percentile(one[name], 0.95),
                "batch": batch,
                "clips_per_second": batch / took,
                "times_real_time": batch * clip / took,
                "giga_operations_a_sound": count / batch / 1e9,
                "share_of_roof": floor / took,
                "turns": [len(one[name]), len(many[name])],
            }
        )
    return rows


def _tasks(model: SoundModel) -> dict[str, Task]:
    made: dict[int, tuple[Sound, Tensor]] = {}

    def timed(of: Callable[[Sound, Tensor], Any]) -> Task:
        def task(count: int) -> Call:
            if count not in made:
                made[count] = _sounds(model, count)
            return lambda: of(*made[count])

        return task

    tasks: dict[str, Task] = {
        "generator": timed(lambda sound, _: _generate(model, sound)),
        "vocoder": timed(lambda _, mel: _vocode(model, mel)),
        "latent to waveform": lambda count: latent_to_waveform(model, count),
        "decode": timed(lambda sound, _: model.decode(sound)),
        "sample": lambda count: lambda: model.sample(count, seed=1, **_conditions(model)),
    }
    if model.encodes:

        def encode(count: int) -> Call:
            audio = model.vocode(_sounds(model, count)[1])
            return lambda: model.encode(audio)

        tasks["encode"] = encode
    if "pitch" in model.controls:
        tasks["edit"] = timed(lambda sound, _: model.edit(sound, shift={"pitch": 1.0}))
        tasks["edit, closed loop"] = timed(lambda sound, _: model.edit(sound, shift={"pitch": 1.0}, closed_loop=True))
    return tasks


def latent_to_waveform(model: SoundModel, count: int) -> Call:
    """Generator and vocoder, from latents to audio on the CPU."""
    sound, _ = _sounds(model, count)
    return lambda: _vocode(model, _generate(model, sound))


def _conditions(model: SoundModel) -> dict[str, Any]:
    pitch = model.controls.get("pitch")
    return {} if pitch is None else {"pitch": Between(pitch.low, pitch.high - 1)}


def _sounds(model: SoundModel, count: int) -> tuple[Sound, Tensor]:
    """Sounds of the prior, the same for every task, and their log-mels."""
    clip = model.sample(count, seed=1, **_conditions(model))
    return clip.sound(torch.full((count,), model.clip_samples)), clip.mel.to(model.device)


@torch.no_grad()
def _generate(model: SoundModel, sound: Sound) -> Tensor:
    controls, timbre = sound.z.to(model.device).tensor_split([len(model.controls)], dim=1)
    mel: Tensor = model.vaegan.generator(timbre, controls.nan_to_num(0.0), ~controls.isnan())
    return model.vaegan.denormalise(mel)


@torch.no_grad()
def _vocode(model: SoundModel, mel: Tensor) -> Tensor:
    return model.vocoder(mel, model.clip_samples).cpu()


def _moved(model: SoundModel, name: str, batch: int) -> float:
    """Bytes that have to be moved at least: weights, what goes in and what comes out, once each."""
    mel = model.recipe.mel.n_mels * model.recipe.mel.frames(model.clip_samples)
    latent = len(model.controls) + model.vaegan.timbre_dim
    weights: dict[str, tuple[list[Any], int]] = {
        "generator": ([model.vaegan.generator], latent + mel),
        "vocoder": ([model.vocoder], mel + model.clip_samples),
        "encode": ([model.vaegan.encoder], model.clip_samples + latent),
    }
    modules, numbers = weights.get(name, ([model.vaegan.generator, model.vocoder], latent + model.clip_samples))
    held = sum(tensor_bytes(*m.parameters()) for m in modules if isinstance(m, nn.Module))
    return held + 4.0 * batch * numbers
