"""A trained vocoder as one file: its weights as safetensors, its mel and size in the file's header."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from audio_vaegan.compiled import only_torch
from audio_vaegan.config import MelConfig, VocoderConfig
from audio_vaegan.errors import UserError
from audio_vaegan.files import read_bytes, write_atomic
from audio_vaegan.models.vocoder.network import VocoderNetwork
from audio_vaegan.version import __version__

FILE = "vocoder.safetensors"
HEADER = "audio-vaegan vocoder"
VERSION = 1
FRAMES = 512


class TrainedVocoder(nn.Module):
    """A network of this package behind the call of every vocoder. `about` holds the facts of its training."""

    def __init__(self, network: VocoderNetwork, name: str = "vocoder", about: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.name, self.about, self.hash = name, about or {}, ""
        self.bytes: int | None = None  # of the file that it was loaded from

    @property
    def config(self) -> MelConfig:
        return self.network.config

    @torch.no_grad()
    def forward(self, log_mel: Tensor, samples: int) -> Tensor:
        clips = len(log_mel)
        if log_mel.device.type == "cpu":  # so many frames stay in the caches; more at once is slower
            clips = max(1, FRAMES // max(1, log_mel.shape[-1]))
        return torch.cat([self.network.synthesise(m, samples) for m in log_mel.split(clips)])


def multiply_adds(network: VocoderNetwork, seconds: float = 4.0) -> float:
    """Multiply-adds of a second of audio, counted as the network runs: all matrix products and convolutions."""
    frames = network.config.frames(round(seconds * network.config.sample_rate))
    mel = torch.zeros(1, network.config.n_mels, frames, device=network.window.device)
    with torch.no_grad(), only_torch(), FlopCounterMode(display=False) as counter:
        network.synthesise(mel, frames * network.config.hop_length)

    return counter.get_total_flops() / 2 / seconds


def save_vocoder(vocoder: TrainedVocoder, path: Path, half: bool = False) -> str:
    """Write a vocoder, whole or not at all; with `half` its weights take half the space. Returns its hash."""
    network = vocoder.network
    kind = torch.float16 if half else torch.float32
    tensors = {k: v.detach().to("cpu", kind).contiguous() for k, v in network.state_dict().items()}
    inference = {"mel": network.config.model_dump(), "network": network_shape(network.size)}
    vocoder.hash = _hash(tensors, inference)
    about = {
        "version": VERSION,
        "name": vocoder.name,
        "hash": vocoder.hash,
        **inference,
        "about": vocoder.about,
        "audio_vaegan": __version__,
    }
    write_atomic(path, save(tensors, {HEADER: json.dumps(about)}))
    return vocoder.hash


def network_shape(size: VocoderConfig) -> dict[str, int]:
    """What of the recipe decides the network."""
    return {name: getattr(size, name) for name in ("width", "blocks", "kernel", "expansion")}


def _hash(tensors: dict[str, Tensor], inference: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(inference, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def load_vocoder(path: Path) -> TrainedVocoder:
    """Open a vocoder file. Checks version, shapes, finiteness and hash; runs no code from it."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        about = json.loads(_header(path))
        if about["version"] != VERSION:
            raise UserError(f"{path}: a vocoder of version {about['version']}, this program reads {VERSION}")
        inference = {"mel": about["mel"], "network": about["network"]}
        if _least_bytes(VocoderConfig(**about["network"])) > path.stat().st_size:
            raise ValueError("it is smaller than the network that its header tells of")
        network = VocoderNetwork(MelConfig.model_validate(about["mel"]), VocoderConfig(**about["network"]))
        tensors = load(read_bytes(path))
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError, OSError, SafetensorError) as e:
        raise UserError(f"{path}: damaged vocoder ({type(e).__name__}: {' '.join(str(e).split())[:200]})") from None
    wanted = network.state_dict()
    if wanted.keys() != tensors.keys():
        odd = sorted(wanted.keys() ^ tensors.keys())
        raise UserError(f"{path}: {len(odd)} tensors missing or unknown (first: {odd[0]})")
    for name, value in tensors.items():
        if wanted[name].shape != value.shape:
            shapes = f"{list(value.shape)}, its header says {list(wanted[name].shape)}"
            raise UserError(f"{path}: {name} has shape {shapes}")
        if not torch.isfinite(value).all():
            raise UserError(f"{path}: {name} holds NaN or infinite values")
    if _hash(tensors, inference) != about.get("hash"):
        raise UserError(f"{path}: its weights or its header were changed after saving (the hash differs)")
    network.load_state_dict(tensors)
    vocoder = TrainedVocoder(network, str(about.get("name", "vocoder")), about.get("about"))
    vocoder.hash, vocoder.bytes = str(about["hash"]), path.stat().st_size
    return vocoder


def is_ours(path: Path) -> bool:
    """Whether a file is a vocoder of this program, by its header. Raises UserError for one that ends in .safetensors
    and is none."""
    try:
        return bool(_header(path))
    except (OSError, SafetensorError) as e:
        if path.suffix == ".safetensors":
            raise UserError(f"{path}: damaged, or no safetensors file ({' '.join(str(e).split())[:120]})") from None
        return False
    except UserError:
        return False


def _header(path: Path) -> str:
    with safe_open(path, framework="pt") as f:
        header = (f.metadata() or {}).get(HEADER)
    if header is None:
        raise UserError(f"{path}: not a vocoder of this program (its header does not say so)")
    return str(header)


def _least_bytes(size: VocoderConfig) -> int:
    """Fewer bytes than the kernels and the two big matrices of every block take in half precision."""
    return (4 * size.width**2 * size.expansion + 2 * size.width * size.kernel) * size.blocks
