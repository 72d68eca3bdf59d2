"""What is missing, filled in: gaps, bandwidth, and what noise covers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from audio_vaegan.data.store import Store
from audio_vaegan.evaluation.held import Rows, pick
from audio_vaegan.evaluation.uses.rows import Row, interval
from audio_vaegan.sound_model import BATCH, SoundModel
from audio_vaegan.sound_model.restoring import restore

N_FFT, HOP, FLOOR = 1024, 256, 1e-5
AT = 0.3  # seconds where gaps begin


@dataclass(frozen=True)
class Damage:
    """What is done to a clip, how it is told to `restore`, what the baseline is called, and which part is measured
    (seconds, hertz)."""

    name: str
    baseline: str
    harm: Callable[[Tensor, int], Tensor]
    told: dict[str, Any]
    seconds: tuple[float, float] = (0.0, 1e9)
    hertz: tuple[float, float] = (0.0, 1e9)


def _gap(seconds: float) -> Damage:
    def harm(audio: Tensor, rate: int) -> Tensor:
        out = audio.clone()
        out[:, round(AT * rate) : round((AT + seconds) * rate)] = 0
        return out

    told = {"gaps": [(AT, AT + seconds)]}
    return Damage(f"a gap of {1000 * seconds:.0f} ms", "straight lines in the mel", harm, told, (AT, AT + seconds))


def _narrow(hertz: float) -> Damage:
    def harm(audio: Tensor, rate: int) -> Tensor:
        spectrum = torch.fft.rfft(audio)
        spectrum[:, torch.fft.rfftfreq(audio.shape[1], 1 / rate) > hertz] = 0
        return torch.fft.irfft(spectrum, n=audio.shape[1])

    above = (1.05 * hertz, 1e9)
    return Damage(f"nothing above {hertz:.0f} Hz", "band replication", harm, {"bandwidth": hertz}, hertz=above)


def _noisy(decibel: float) -> Damage:
    def harm(audio: Tensor, rate: int) -> Tensor:
        noise = torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
        level = audio.square().mean(dim=1, keepdim=True).sqrt() * 10 ** (-decibel / 20)
        return audio + noise * level

    return Damage(f"white noise {decibel:g} dB below", "spectral subtraction", harm, {"noise": True})


DAMAGES = (_gap(0.1), _gap(0.25), _narrow(4000.0), _narrow(2000.0), _noisy(20.0), _noisy(10.0))


def spectral_distance(output: Tensor, target: Tensor, rate: int, damage: Damage) -> NDArray[np.float64]:
    """The log-spectral distance in dB (`distances.log_spectral_distance`) of a part of each clip `[B]`: of the frames
    whose centre lies in the seconds that are missing, over the bins that are."""
    window = torch.hann_window(N_FFT) * (2 / N_FFT)
    a, b = (
        20 * torch.stft(x, N_FFT, HOP, N_FFT, window, return_complex=True).abs().clamp_min(FLOOR).log10()
        for x in (output, target)
    )
    time, hertz = torch.arange(a.shape[2]) * HOP / rate, torch.arange(a.shape[1]) * rate / N_FFT
    when, where = ((damage.seconds, time), (damage.hertz, hertz))
    frames, bins = ((x >= low) & (x <= high) for (low, high), x in (when, where))
    return (a - b)[:, bins][:, :, frames].square().mean(dim=1).sqrt().mean(dim=1).double().numpy()


def restored(model: SoundModel, store: Store, most: int) -> list[Row]:
    """A row for each kind of damage: the distance of what is missing, by the model and by the baseline."""
    rows = pick(store, "test_instrument", most)
    groups = store.column("group")[rows]
    found = []
    for damage in DAMAGES:
        away = _distances(model, store, rows, damage)
        found.append(
            Row(
                "restore",
                damage.name,
                "log-spectral distance of what is missing, dB",
                interval(away["model"], groups),
                damage.baseline,
                interval(away["baseline"], groups),
                len(rows),
                better="less",
                difference=interval(away["model"] - away["baseline"], groups),
                note=f"left as it is: {away['damaged'].mean():.2f}",
            )
        )
    return found


def _distances(model: SoundModel, store: Store, rows: Rows, damage: Damage) -> dict[str, NDArray[np.float64]]:
    rate = model.sample_rate
    pitch = torch.from_numpy(store.values("pitch")).float()
    found: dict[str, list[NDArray[np.float64]]] = {"damaged": [], "baseline": [], "model": []}
    for part in tqdm(np.array_split(rows, -(-len(rows) // BATCH)), desc=damage.name, unit="batch", leave=False):
        audio = torch.from_numpy(store.read(part))
        harmed = damage.harm(audio, rate)
        known = {"pitch": pitch[part]} if "pitch" in model.controls else {}
        made = {
            "damaged": harmed,
            "baseline": restore(model, harmed, **damage.told, fill=False)[0],
            "model": restore(model, harmed, **damage.told, known=known)[0],
        }
        for name, output in made.items():
            found[name].append(spectral_distance(output, audio, rate, damage))
    return {name: np.concatenate(parts) for name, parts in found.items()}
