"""Two networks that learned to name sounds, Cnn14 of the PANNs and VGGish, in the names of their published weights.

Their sizes are read from the weights (Cnn14 was also published with fewer features); what stands beside the weights in
the files, classifier and constants, is used to check them or left alone.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from audio_vaegan.config import MelConfig
from audio_vaegan.errors import UserError
from audio_vaegan.mel import Mel, mel_basis

BATCH = 32
CNN14_RATES = {1024: (32000, 14000.0), 512: (16000, 8000.0), 256: (8000, 4000.0)}  # by window: sample rate, top in Hz
CNN14_BESIDE = ("fc_audioset.", "spectrogram_extractor.", "logmel_extractor.")
VGGISH_POOLED = (True, True, False, True, False, True)  # whether a maximum over 2 by 2 follows a convolution
Tensors = dict[str, Tensor]
Hear = Callable[[Tensor], Tensor]  # audio `[B, samples]` at the sample rate of a network -> features `[B, d]`


class ConvBlock(nn.Module):
    """Two convolutions with batch norm, then a mean over `pool` by `pool`. `[B, C, T, F]` -> `[B, width, T/pool,
    F/pool]`."""

    def __init__(self, before: int, width: int, pool: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1, self.bn2, self.pool = nn.BatchNorm2d(width), nn.BatchNorm2d(width), pool

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return F.avg_pool2d(self.bn2(self.conv2(x)).relu(), self.pool)


class Cnn14(nn.Module):
    """Log-mel in dB `[B, 64, T]` -> what its classifier reads, `[B, size]`, 2048 as a rule (Kong et al. 2020)."""

    def __init__(self, widths: list[int], size: int) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(64)
        for n, (before, width) in enumerate(zip([1, *widths], widths, strict=False), start=1):
            self.add_module(f"conv_block{n}", ConvBlock(before, width, 1 if n == len(widths) else 2))
        self.fc1 = nn.Linear(widths[-1], size)

    def forward(self, log_mel: Tensor) -> Tensor:
        x = self.bn0(log_mel.unsqueeze(3)).transpose(1, 3)
        for block in self.children():
            x = block(x) if isinstance(block, ConvBlock) else x
        x = x.mean(dim=3)
        out: Tensor = self.fc1(x.amax(dim=2) + x.mean(dim=2)).relu()
        return out


def open_panns(path: Path) -> tuple[Hear, int, Path]:
    """Cnn14 and its sample rate. Clips shorter than a second are filled with silence, as in its authors' entry to HEAR
    2021. Raises UserError if the file is not one of theirs."""
    tensors = _tensors(path)
    network = _filled(
        path,
        {name: value for name, value in tensors.items() if not name.startswith(CNN14_BESIDE)},
        lambda t: Cnn14([len(t[f"conv_block{n}.conv1.weight"]) for n in range(1, 7)], len(t["fc1.weight"])),
    )
    basis = tensors.get("logmel_extractor.melW", torch.zeros(1, 1))  # nothing else in the file tells the sample rate
    rate, top = CNN14_RATES.get(window := 2 * (len(basis) - 1), (0, 0.0))
    if not rate:
        raise UserError(f"{path}: no Cnn14 of 32, 16 or 8 kHz (logmel_extractor.melW: {list(basis.shape)})")
    frames: dict[str, Any] = {"n_fft": window, "win_length": window, "hop_length": rate // 100, "padding": "center"}
    scale: dict[str, Any] = {"f_min": 50.0, "f_max": top, "n_mels": 64, "power": 2, "log": "log10", "floor": 1e-10}
    config = MelConfig(sample_rate=rate, pad_mode="reflect", **frames, **scale)
    mel, expected = Mel(config), mel_basis(config)
    if basis.shape != expected.shape or (basis - expected).abs().max() > 0.01 * expected.max():
        raise UserError(f"{path}: its bands (logmel_extractor.melW) are not those of Cnn14 at {rate} Hz")

    def hear(audio: Tensor) -> Tensor:
        out: Tensor = network(10 * mel(F.pad(audio, (0, max(0, rate - audio.shape[1])))))
        return out

    return hear, rate, path


class Vggish(nn.Module):
    """Log-mels of 0.96 s `[N, 1, 96, 64]` -> `[N, 128]` (Hershey et al. 2017): the values before the last ReLU, as its
    authors' code gives them and FAD (Kilgour et al. 2019) takes them, without the PCA of AudioSet's own features."""

    def __init__(self, widths: list[int], sizes: list[int]) -> None:
        super().__init__()
        maps: list[nn.Module] = []
        for before, width, pooled in zip([1, *widths], widths, VGGISH_POOLED, strict=False):
            maps += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if pooled else [])]
        layers: list[nn.Module] = []
        for before, size in zip([6 * 4 * widths[-1], *sizes], sizes, strict=False):
            layers += [nn.Linear(before, size), nn.ReLU()]
        self.features, self.embeddings = nn.Sequential(*maps), nn.Sequential(*layers[:-1])

    def forward(self, log_mel: Tensor) -> Tensor:
        maps = self.features(log_mel).permute(0, 2, 3, 1)  # TensorFlow's order, in which the weights were learned
        out: Tensor = self.embeddings(maps.flatten(1))
        return out


def vggish_log_mel(audio: Tensor) -> Tensor:
    """`[B, samples]` at 16 kHz -> `[B, T, 64]`: 25 ms every 10 ms, nothing padded; bands whose sides are straight in
    mel, where those of `mel.py` are straight in Hz."""
    low, high = (1127 * torch.tensor([125.0, 7500.0], dtype=torch.float64).div(700).log1p()).tolist()
    edges = torch.linspace(low, high, 66, dtype=torch.float64)
    bins = 1127 * torch.linspace(0, 8000, 257, dtype=torch.float64).div(700).log1p().unsqueeze(1)
    rise, fall = (bins - edges[:64]) / edges.diff()[0], (edges[2:] - bins) / edges.diff()[0]
    basis = torch.minimum(rise, fall).clamp_min(0).float()
    spectrum = torch.fft.rfft(audio.unfold(1, 400, 160) * torch.hann_window(400), 512).abs()
    return (spectrum @ basis + 0.01).log()


def open_vggish(path: Path) -> tuple[Hear, int, Path]:
    """VGGish and its sample rate: a mean over whole stretches of 0.96 s, one at least (silence fills it); of what is
    left over nothing is heard, as in its authors' code. Raises UserError if the weights do not fit."""
    network = _filled(
        path,
        {name: value for name, value in _tensors(path).items() if not name.startswith("pproc.")},  # the PCA
        lambda t: Vggish(
            [len(t[f"features.{n}.weight"]) for n in (0, 3, 6, 8, 11, 13)],
            [len(t[f"embeddings.{n}.weight"]) for n in (0, 2, 4)],
        ),
    )

    def hear(audio: Tensor) -> Tensor:
        log_mel = vggish_log_mel(F.pad(audio, (0, max(0, 95 * 160 + 400 - audio.shape[1]))))
        count = log_mel.shape[1] // 96
        stretches = log_mel[:, : 96 * count].reshape(-1, 1, 96, 64)
        return torch.cat([network(part) for part in stretches.split(BATCH)]).view(len(audio), count, -1).mean(dim=1)

    return hear, 16000, path


def _tensors(path: Path) -> Tensors:
    """The tensors of a file by name: safetensors, or a pickle of tensors, bare or under `model`. Runs no code of it."""
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load(path.read_bytes())
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # a damaged file can raise anything
        raise UserError(f"{path}: not opened: {reason(e)}; take the published file of this network") from None
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) and v.isfinite().all() for v in content.values()):
        raise UserError(f"{path}: not the tensors of a network by name, all of them finite; fetch the file again")
    return {str(name): value.float() if value.is_floating_point() else value for name, value in content.items()}


def _filled(path: Path, tensors: Tensors, build: Callable[[Tensors], nn.Module]) -> nn.Module:
    """The network that `build` makes in the sizes of a checkpoint, with its tensors in it."""
    try:
        with torch.device("meta"):
            network = build(tensors)
        network.load_state_dict({name: value.contiguous() for name, value in tensors.items()}, assign=True)
    except KeyError as e:
        raise UserError(f"{path}: lacks {e.args[0]}; take the published file of this network") from None
    except (RuntimeError, TypeError) as e:
        raise UserError(f"{path}: {reason(e)}; take the published file of this network") from None
    return network.eval()


def reason(error: Exception) -> str:
    """An error of another library, short and in one line."""
    if isinstance(error, pickle.UnpicklingError):  # torch's words advise to run what the file holds
        more = "GLOBAL" in str(error) or "Unsupported class" in str(error)
        return "it holds more than tensors, which could run code" if more else "damaged, or no tensors"
    return f"{type(error).__name__}: {shorten(str(error), 160, placeholder=' ...').rstrip('.')}"
