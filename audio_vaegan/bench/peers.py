"""Other generators of sound beside this one: those that are installed, with random weights, in the same process.

A decoder's speed does not depend on its weights. Each makes the same seconds of sound, on the same threads, in turns;
weight norm, where a peer has it, is folded in beforehand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from audio_vaegan.bench.machine import Call, Machine, in_turns, median, operations, percentile
from audio_vaegan.bench.sounds import latent_to_waveform
from audio_vaegan.sound_model import SoundModel

ROUNDS = 3  # turns at least: a batch takes some of them half a minute
Builder = Callable[[torch.device], Callable[[int, float], Call]]


@dataclass(frozen=True)
class Peer:
    """A peer's decoder. `build(device)` gives what makes so many sounds of so many seconds; it raises ImportError where
    the package is not installed."""

    name: str
    rate: int
    package: str
    build: Builder


def _frames(seconds: float, rate: int, hop: int) -> int:
    return -(-round(seconds * rate) // hop)


def _vocos(device: torch.device) -> Callable[[int, float], Call]:
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    backbone = VocosBackbone(100, 512, 1536, 8).eval().to(device)  # its 24 kHz mel model
    head = ISTFTHead(512, 1024, 256).eval().to(device)

    def of(batch: int, seconds: float) -> Call:
        mel = torch.randn(batch, 100, _frames(seconds, 24000, 256), device=device)
        return lambda: head(backbone(mel))

    return of


def _hifigan(device: torch.device) -> Callable[[int, float], Call]:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = SpeechT5HifiGanConfig(  # V1 of the paper, 22 kHz
        model_in_dim=80,
        sampling_rate=22050,
        upsample_initial_channel=512,
        upsample_rates=[8, 8, 2, 2],
        upsample_kernel_sizes=[16, 16, 4, 4],
        resblock_kernel_sizes=[3, 7, 11],
        resblock_dilation_sizes=[[1, 3, 5]] * 3,
        normalize_before=False,
    )
    network = SpeechT5HifiGan(config).eval().to(device)

    def of(batch: int, seconds: float) -> Call:
        mel = torch.randn(batch, _frames(seconds, 22050, 256), 80, device=device)
        return lambda: network(mel)

    return of


def _encodec(device: torch.device) -> Callable[[int, float], Call]:
    from transformers import EncodecConfig, EncodecModel

    decoder = EncodecModel(EncodecConfig()).decoder.eval().to(device)
    _fold(decoder)

    def of(batch: int, seconds: float) -> Call:
        codes = torch.randn(batch, 128, _frames(seconds, 24000, 320), device=device)
        return lambda: decoder(codes)

    return of


def _dac(device: torch.device) -> Callable[[int, float], Call]:
    from transformers import DacConfig, DacModel

    config = DacConfig(  # 44.1 kHz
        encoder_hidden_size=64,
        downsampling_ratios=[2, 4, 8, 8],
        decoder_hidden_size=1536,
        n_codebooks=9,
        sampling_rate=44100,
    )
    decoder = DacModel(config).decoder.eval().to(device)

    def of(batch: int, seconds: float) -> Call:
        latent = torch.randn(batch, config.hidden_size, _frames(seconds, 44100, 512), device=device)
        return lambda: decoder(latent)

    return of


def _rave(device: torch.device) -> Callable[[int, float], Call]:
    from rave.blocks import GeneratorV2
    from rave.pqmf import CachedPQMF

    network = GeneratorV2(  # configs/v2.gin
        capacity=96,
        ratios=[4, 4, 4, 2],
        latent_size=128,
        kernel_size=3,
        dilations=[[1, 3, 9], [1, 3, 9], [1, 3, 9], [1, 3]],
        data_size=16,
        amplitude_modulation=True,
    )
    network, bank = network.eval().to(device), CachedPQMF(attenuation=100, n_band=16).to(device)
    _fold(network)

    def of(batch: int, seconds: float) -> Call:
        latent = torch.randn(batch, 128, _frames(seconds, 48000, 2048), device=device)
        return lambda: bank.inverse(network(latent))

    return of


def _fold(network: torch.nn.Module) -> None:
    """Weight norm out of the way, as for inference."""
    for module in network.modules():
        if hasattr(module, "weight_g"):
            torch.nn.utils.remove_weight_norm(module)
        if "weight" in getattr(module, "parametrizations", {}):
            torch.nn.utils.parametrize.remove_parametrizations(module, "weight")


PEERS = (
    Peer("Vocos 24 kHz", 24000, "vocos", _vocos),
    Peer("EnCodec 24 kHz decoder", 24000, "transformers", _encodec),
    Peer("HiFi-GAN V1 22 kHz", 22050, "transformers", _hifigan),
    Peer("DAC 44.1 kHz decoder", 44100, "transformers", _dac),
    Peer("RAVE v2 48 kHz decoder", 48000, "acids-rave", _rave),
)


def bench_peers(model: SoundModel, machine: Machine, batch: int, seconds: float) -> list[dict[str, Any]]:
    """Our latent to waveform first, then the peers: times real time, and how many times as fast as each we are.
    A peer that is not installed, or that does not run here, has a row that says so. In a turn each has `seconds`, or
    one call where that takes longer."""
    clip, device = model.clip_samples / model.sample_rate, model.device
    builders: dict[str, Callable[[int, float], Call]] = {OURS: lambda count, _: latent_to_waveform(model, count)}
    missing: list[dict[str, Any]] = []
    for peer in PEERS:
        try:
            builders[peer.name] = peer.build(device)
            with torch.no_grad():
                builders[peer.name](1, 0.25)()
        except ImportError as e:
            missing.append({"name": peer.name, "missing": f"pip install {peer.package} ({e})"})
        except Exception as e:  # another version of it, that is built otherwise
            missing.append({"name": peer.name, "missing": f"does not run here ({type(e).__name__}: {e})"[:200]})
    rates = {peer.name: peer.rate for peer in PEERS} | {OURS: model.sample_rate}
    rows = []
    with torch.no_grad():
        many = {name: of(batch, clip) for name, of in builders.items()}
        one = {name: of(1, clip) for name, of in builders.items()}
        took = in_turns(many, device, seconds, f"peers, {batch} sounds", ROUNDS, stay=seconds)
        each = in_turns(one, device, seconds, "peers, one sound", ROUNDS, stay=seconds)
        for name in many:
            took_all, count = median(took[name]), batch * operations(one[name])
            rows.append(
                {
                    "name": name,
                    "sample_rate": rates[name],
                    "times_real_time": batch * clip / took_all,
                    "ours_is_times_as_fast": took_all / median(took[OURS]),
                    "one_p50_ms": 1e3 * median(each[name]),
                    "one_p95_ms": 1e3 * percentile(each[name], 0.95),
                    "giga_operations_a_second_of_sound": count / batch / clip / 1e9,
                    "share_of_roof": machine.floor(count) / took_all,
                    "turns": len(took[name]),
                }
            )
    return rows + missing


OURS = "latent to waveform (this model)"
