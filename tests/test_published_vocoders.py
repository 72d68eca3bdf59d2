"""Checkpoints in the published layouts, with weights made here: nothing is downloaded.

The names and shapes of the tensors are written out below, apart from the code that reads them, and so are a few
samples that the authors' own code (gemelo-ai/vocos c859e3b, NVIDIA/BigVGAN 7d2b454, jik876/hifi-gan 4769534) makes of
the same weights and mels.
"""

import copy
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import torch
import yaml
from huggingface_hub.utils import filter_repo_objects

from audio_vaegan.config import MEL_PRESETS
from audio_vaegan.errors import UserError
from audio_vaegan.mel import mel_basis
from audio_vaegan.models.vocoder import open_vocoder
from audio_vaegan.models.vocoder.published import find_published, load_published
from audio_vaegan.models.vocoder.published.antialias import AntiAliased, Downsample, Snake, Upsample, low_pass
from audio_vaegan.models.vocoder.published.folder import read_config

Shapes = dict[str, tuple[int, ...]]
Config = dict[str, Any]

HIFIGAN: Config = {
    "resblock": "1",
    "upsample_rates": [8, 8, 2, 2],
    "upsample_kernel_sizes": [16, 16, 4, 4],
    "upsample_initial_channel": 512,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    "num_mels": 80,
    "n_fft": 1024,
    "hop_size": 256,
    "win_size": 1024,
    "sampling_rate": 22050,
    "fmin": 0,
    "fmax": 8000,
    "fmax_for_loss": None,
    "num_workers": 4,
}
V3: Config = {
    "resblock": "2",
    "upsample_rates": [8, 8, 4],
    "upsample_kernel_sizes": [16, 16, 8],
    "upsample_initial_channel": 256,
    "resblock_kernel_sizes": [3, 5, 7],
    "resblock_dilation_sizes": [[1, 2], [2, 6], [3, 12]],
}
BASE: Config = HIFIGAN | {"activation": "snakebeta", "snake_logscale": True}
LARGE: Config = BASE | {
    "upsample_rates": [4, 4, 2, 2, 2, 2],
    "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4],
    "upsample_initial_channel": 1536,
}
V2: Config = LARGE | {"use_tanh_at_final": False, "use_bias_at_final": False, "fmax": None}
X512: Config = {
    "upsample_rates": [8, 4, 2, 2, 2, 2],
    "upsample_kernel_sizes": [16, 8, 4, 4, 4, 4],
    "n_fft": 2048,
    "hop_size": 512,
    "win_size": 2048,
}
VOCOS: Config = {
    "feature_extractor": {
        "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
        "init_args": {"sample_rate": 24000, "n_fft": 1024, "hop_length": 256, "n_mels": 100, "padding": "center"},
    },
    "backbone": {
        "class_path": "vocos.models.VocosBackbone",
        "init_args": {"input_channels": 100, "dim": 512, "intermediate_dim": 1536, "num_layers": 8},
    },
    "head": {
        "class_path": "vocos.heads.ISTFTHead",
        "init_args": {"dim": 512, "n_fft": 1024, "hop_length": 256, "padding": "center"},
    },
}

# The published models: config, millions of parameters, mel (a preset and what differs from it).
PUBLISHED: dict[str, tuple[Config, float, str, Config]] = {
    "vocos-mel-24khz": (VOCOS, 13.53, "vocos-24k-100", {}),
    "hifigan-v1": (HIFIGAN, 13.93, "hifigan-22k-80", {}),
    "hifigan-v2": (HIFIGAN | {"upsample_initial_channel": 128}, 0.93, "hifigan-22k-80", {}),
    "hifigan-v3": (HIFIGAN | V3, 1.46, "hifigan-22k-80", {}),
    "bigvgan-base-22k": (BASE, 14.01, "hifigan-22k-80", {}),
    "bigvgan-24k": (LARGE | {"num_mels": 100, "sampling_rate": 24000, "fmax": 12000}, 112.4, "bigvgan-24k-100", {}),
    "bigvgan-v2-22k": (V2, 112.4, "hifigan-22k-80", {"f_max": 11025.0}),
    "bigvgan-v2-22k-fmax8k": (V2 | {"fmax": 8000}, 112.4, "hifigan-22k-80", {}),
    "bigvgan-v2-24k": (V2 | {"num_mels": 100, "sampling_rate": 24000}, 112.4, "bigvgan-24k-100", {}),
    "bigvgan-v2-44k-x256": (
        V2 | {"num_mels": 128, "sampling_rate": 44100},
        112.4,
        "bigvgan-44k-128",
        {"n_fft": 1024, "win_length": 1024, "hop_length": 256},
    ),
    "bigvgan-v2-44k-x512": (V2 | X512 | {"num_mels": 128, "sampling_rate": 44100}, 122.2, "bigvgan-44k-128", {}),
}

SMALL: Config = {
    "upsample_rates": [4, 2],
    "upsample_kernel_sizes": [8, 4],
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3], [2, 1]],
    "num_mels": 80,
    "n_fft": 32,
    "hop_size": 8,
    "win_size": 32,
    "sampling_rate": 8000,
    "fmax": None,
}


def small_vocos(padding: str) -> Config:
    config = copy.deepcopy(VOCOS)
    config["feature_extractor"]["init_args"] |= {"n_fft": 32, "hop_length": 8, "n_mels": 6, "padding": padding}
    config["backbone"]["init_args"] |= {"input_channels": 6, "dim": 12, "intermediate_dim": 24, "num_layers": 2}
    config["head"]["init_args"] |= {"dim": 12, "n_fft": 32, "hop_length": 8, "padding": padding}
    return config


TINY: dict[str, Config] = {
    "vocos-center": small_vocos("center"),
    "vocos-same": small_vocos("same"),
    "bigvgan-v2": V2 | SMALL,
    "bigvgan-snake": BASE | SMALL | {"resblock": "2", "activation": "snake", "snake_logscale": False},
    "hifigan-1": HIFIGAN | SMALL | {"resblock_dilation_sizes": [[1, 3, 5], [2, 1, 1]]},
    "hifigan-2": HIFIGAN | SMALL | {"resblock": "2"},
}


def norm_conv(name: str, first: int, second: int, kernel: int, bias: int) -> Shapes:
    shapes: Shapes = {f"{name}.weight_g": (first, 1, 1), f"{name}.weight_v": (first, second, kernel)}
    return shapes | ({f"{name}.bias": (bias,)} if bias else {})


def gan_shapes(c: Config) -> Shapes:
    """HiFi-GAN's and BigVGAN's tensors, weight norm in its two parts."""
    periodic = c.get("activation")

    def activation(name: str, channels: int) -> Shapes:
        if periodic is None:
            return {}
        learned = ("alpha", "beta") if periodic == "snakebeta" else ("alpha",)
        filters = {f"{name}.{part}.filter": (1, 1, 12) for part in ("upsample", "downsample.lowpass")}
        return {f"{name}.act.{p}": (channels,) for p in learned} | filters

    channels = c["upsample_initial_channel"]
    shapes = norm_conv("conv_pre", channels, c["num_mels"], 7, channels)
    block = 0
    for i, kernel in enumerate(c["upsample_kernel_sizes"]):
        up = f"ups.{i}.0" if periodic else f"ups.{i}"
        shapes |= norm_conv(up, channels, channels // 2, kernel, channels // 2)
        channels //= 2
        for size, dilations in zip(c["resblock_kernel_sizes"], c["resblock_dilation_sizes"], strict=True):
            groups = ("convs1", "convs2") if c["resblock"] == "1" else ("convs",)
            for j in range(len(dilations)):
                for group in groups:
                    shapes |= norm_conv(f"resblocks.{block}.{group}.{j}", channels, channels, size, channels)
            for j in range(len(dilations) * len(groups)):
                shapes |= activation(f"resblocks.{block}.activations.{j}", channels)
            block += 1
    bias = 1 if c.get("use_bias_at_final", True) else 0
    return shapes | activation("activation_post", channels) | norm_conv("conv_post", 1, channels, 7, bias)


def vocos_shapes(c: Config) -> Shapes:
    mel, b = c["feature_extractor"]["init_args"], c["backbone"]["init_args"]
    dim, hidden, n_fft, n_mels = b["dim"], b["intermediate_dim"], mel["n_fft"], mel["n_mels"]
    shapes: Shapes = {
        "feature_extractor.mel_spec.spectrogram.window": (n_fft,),
        "feature_extractor.mel_spec.mel_scale.fb": (n_fft // 2 + 1, n_mels),
        "head.istft.window": (n_fft,),
        "backbone.embed.weight": (dim, n_mels, 7),
        "head.out.weight": (n_fft + 2, dim),
    }
    sizes = {"backbone.embed": dim, "backbone.norm": dim, "backbone.final_layer_norm": dim, "head.out": n_fft + 2}
    for i in range(b["num_layers"]):
        block = f"backbone.convnext.{i}"
        sizes |= {f"{block}.dwconv": dim, f"{block}.norm": dim, f"{block}.pwconv1": hidden, f"{block}.pwconv2": dim}
        shapes |= {
            f"{block}.dwconv.weight": (dim, 1, 7),
            f"{block}.pwconv1.weight": (hidden, dim),
            f"{block}.pwconv2.weight": (dim, hidden),
            f"{block}.gamma": (dim,),
        }
    return {f"{k}.weight": (v,) for k, v in sizes.items()} | {f"{k}.bias": (v,) for k, v in sizes.items()} | shapes


def shapes_of(config: Config) -> Shapes:
    return vocos_shapes(config) if "backbone" in config else gan_shapes(config)


def wave(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Numbers in [-1, 1] that are the same everywhere."""
    n = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(n * (1.3 + 0.37 * (seed % 7)) + seed).float().view(shape)


def made_tensors(config: Config) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors, the constants with the values that the authors' code gives them."""
    tensors = {}
    for seed, (name, shape) in enumerate(sorted(shapes_of(config).items())):
        if name.endswith(".filter"):
            value = low_pass().clone()
        elif name.endswith("window"):
            value = torch.hann_window(*shape)
        elif name.endswith(".fb"):
            args = config["feature_extractor"]["init_args"]
            mel = MEL_PRESETS["vocos-24k-100"].model_copy(update={"n_fft": args["n_fft"], "n_mels": args["n_mels"]})
            value = mel_basis(mel)
        elif name.endswith("weight_g") or ("norm" in name and name.endswith(".weight")):
            value = 1 + 0.3 * wave(shape, seed)
        elif name == "head.out.bias":
            value = wave(shape, seed)
        else:
            value = 0.4 * wave(shape, seed)
            if name.endswith(".alpha") and not config["snake_logscale"]:
                value = value + 1
        tensors[name] = value
    return tensors


def made_mel(config: Config, batch: int = 2, frames: int = 12) -> torch.Tensor:
    n_mels = config["backbone"]["init_args"]["input_channels"] if "backbone" in config else config["num_mels"]
    return 2 * wave((batch, n_mels, frames), 3) - 4


def weights_name(config: Config) -> str:
    if "backbone" in config:
        return "pytorch_model.bin"
    return "bigvgan_generator.pt" if "activation" in config else "generator_v1"


def write(folder: Path, config: Config, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """A folder in the published layout. HiFi-GAN's files are of the format before torch 1.6."""
    folder.mkdir(exist_ok=True)
    tensors = made_tensors(config) if tensors is None else tensors
    name = weights_name(config)
    if "backbone" in config:
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        torch.save(tensors, folder / name)
    else:
        (folder / "config.json").write_text(json.dumps(config))
        zipped = name != "generator_v1"
        torch.save({"generator": tensors}, folder / name, _use_new_zipfile_serialization=zipped)
    return folder


def fused_tensors(config: Config) -> dict[str, torch.Tensor]:
    tensors = made_tensors(config)
    for name in [n for n in tensors if n.endswith("weight_v")]:
        layer = name.removesuffix("weight_v")
        fixed = torch._weight_norm(tensors.pop(name), tensors.pop(layer + "weight_g"), 0)
        tensors[layer + "weight"] = fixed
    return tensors


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as e:
        load_published(path)
    assert "\n" not in str(e.value) and str(path) in str(e.value)
    return str(e.value)


@pytest.mark.parametrize("model", PUBLISHED)
def test_a_published_config_gives_exactly_its_mel_and_its_network(model, tmp_path):
    config, millions, preset, changed = PUBLISHED[model]
    file = tmp_path / ("config.yaml" if "backbone" in config else "config.json")
    file.write_text(yaml.safe_dump(config) if "backbone" in config else json.dumps(config))
    family, settings = read_config(file)
    assert model.startswith(family.name)
    assert settings.mel() == MEL_PRESETS[preset].model_copy(update=changed)
    with torch.device("meta"):
        network = family.network(settings)
    wanted = {}
    for name, shape in shapes_of(config).items():
        if name.endswith("weight_v"):
            wanted[name.replace("weight_v", "weight")] = shape
        elif not name.endswith(("weight_g", ".filter", "window", ".fb")):
            wanted[name] = shape
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == wanted
    assert {k: tuple(v.shape) for k, v in network.constants().items()}.items() <= shapes_of(config).items()
    assert wanted.keys() | network.constants().keys() == {
        k.replace("weight_v", "weight") for k in shapes_of(config) if not k.endswith("weight_g")
    }
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(millions * 1e6, rel=0.01)


# Samples 5, 20, ... of the second clip, from the authors' code.
GOLDEN: dict[str, list[float]] = {
    "vocos-center": [-0.378337, -0.134928, 0.230667, -0.184872, 0.345265, 0.026798],
    "vocos-same": [-0.293559, -0.758676, -0.033757, 0.386148, 0.024103, 0.219349],
    "bigvgan-v2": [0.076064, -0.087938, 0.450313, -0.301338, 0.488712, -0.1804],
    "bigvgan-snake": [-0.274359, -0.044674, -0.002578, 0.115929, 0.076431, -0.021204],
    "hifigan-1": [0.55493, -0.360424, 0.209242, -0.23058, 0.303259, -0.25234],
    "hifigan-2": [0.150498, 0.167225, 0.133657, 0.156291, 0.125908, 0.184681],
}


@pytest.mark.parametrize("name", TINY)
def test_the_output_is_that_of_the_authors_code(name, tmp_path):
    out = load_published(write(tmp_path / name, TINY[name]))(made_mel(TINY[name]), 88)
    assert out[1, 5:88:15].tolist() == pytest.approx(GOLDEN[name], abs=2e-5)


@pytest.mark.parametrize("name", TINY)
def test_the_call_of_every_vocoder(name, tmp_path):
    config = TINY[name]
    vocoder = load_published(write(tmp_path / name, config))
    file = tmp_path / name / weights_name(config)
    assert vocoder.name == name.split("-")[0] and vocoder.hash == hashlib.sha256(file.read_bytes()).hexdigest()
    mel = made_mel(config, batch=3)
    whole = vocoder(mel, 96)
    assert whole.shape == (3, 96) and whole.dtype == torch.float32 and not whole.requires_grad
    assert torch.isfinite(whole).all() and whole[:, 80:].std(dim=1).min() > 1e-3
    assert torch.equal(vocoder(mel, 96), whole)
    for samples in (1, 41, 96):
        assert torch.equal(vocoder(mel, samples), whole[:, :samples])
    longer = vocoder(mel, 130)
    assert torch.equal(longer[:, :96], whole) and not longer[:, 96:].any() and longer.shape == (3, 130)
    alone = torch.cat([vocoder(m[None], 96) for m in mel])
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-5)
    assert (whole[0] - whole[1]).abs().max() > 1e-3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(vocoder(mel, 96), whole)
    assert vocoder(mel.double(), 96).dtype == torch.float32


@pytest.mark.parametrize("name", ["bigvgan-v2", "bigvgan-snake", "hifigan-1"])
def test_a_loud_output_is_clipped_by_bigvgan_v2_and_bent_by_the_others(name, tmp_path):
    tensors = made_tensors(TINY[name])
    quiet = load_published(write(tmp_path / "quiet", TINY[name], tensors))(made_mel(TINY[name]), 96)
    tensors |= {k: 4 * v for k, v in tensors.items() if k in ("conv_post.weight_g", "conv_post.bias")}
    loud = load_published(write(tmp_path / "loud", TINY[name], tensors))(made_mel(TINY[name]), 96)
    wanted = (4 * quiet).clamp(-1, 1) if name == "bigvgan-v2" else (4 * quiet.double().atanh()).tanh().float()
    torch.testing.assert_close(loud, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["bigvgan-v2", "hifigan-2"])
def test_fused_weight_norm_and_its_newer_names_sound_the_same(name, tmp_path):
    config = TINY[name]
    tensors, mel = made_tensors(config), made_mel(config)
    renamed = {
        k.replace("weight_g", "parametrizations.weight.original0").replace(
            "weight_v", "parametrizations.weight.original1"
        ): v
        for k, v in tensors.items()
    }
    first, fused, newer = (
        load_published(write(tmp_path / f"{i}", config, t))(mel, 96)
        for i, t in enumerate([tensors, fused_tensors(config), renamed])
    )
    torch.testing.assert_close(fused, first, rtol=0, atol=1e-5)
    assert torch.equal(newer, first)
    louder = {k: 1.5 * v if k.endswith("weight_g") else v for k, v in tensors.items()}
    assert (load_published(write(tmp_path / "louder", config, louder))(mel, 96) - first).abs().max() > 1e-2


@pytest.mark.parametrize("name", TINY)
def test_safetensors_half_precision_and_a_file_without_the_constants_open_too(name, tmp_path):
    config = TINY[name]
    tensors, mel = made_tensors(config), made_mel(config)
    whole = load_published(write(tmp_path / "a", config))(mel, 96)
    folder = write(tmp_path / "b", config)
    (folder / weights_name(config)).unlink()
    bare = {k: v for k, v in tensors.items() if not k.endswith((".filter", "window", ".fb"))}
    safetensors.torch.save_file(bare, folder / "model.safetensors")
    assert torch.equal(load_published(folder)(mel, 96), whole)
    assert torch.equal(load_published(folder / "model.safetensors")(mel, 96), whole)
    halves = load_published(write(tmp_path / "c", config, {k: v.half() for k, v in tensors.items()}))(mel, 96)
    assert halves.dtype == torch.float32
    torch.testing.assert_close(halves, whole, rtol=0, atol=0.1)


def test_of_the_steps_of_a_training_the_last_is_taken_and_of_several_models_none(tmp_path):
    config = TINY["hifigan-1"]
    folder = write(tmp_path / "run", config)
    (folder / "generator_v1").rename(folder / "g_02500000")
    (folder / "g_00010000").write_bytes(b"older")
    (folder / "do_02500000").write_bytes(b"discriminators")
    assert load_published(folder).hash == load_published(folder / "g_02500000").hash
    (folder / "g_02500000").rename(folder / "generator_LJSpeech.pth.tar")
    (folder / "generator_universal.pth.tar").write_bytes(b"another")
    assert "generator_LJSpeech.pth.tar, generator_universal.pth.tar" in refusal(folder)
    assert load_published(folder / "generator_LJSpeech.pth.tar").config.n_mels == 80


MISTAKES = {
    "missing": "1 tensors missing (first: conv_pre.bias)",
    "unknown": "2 tensors unknown (first: extra)",
    "shape": "conv_pre.bias has shape [17], its config says [16]",
    "length": "conv_pre.weight_g and conv_pre.weight_v have shapes [5, 1, 1] and [16, 80, 7]",
    "nan": "conv_pre.bias holds NaN or infinite values",
    "zero": "conv_pre.weight holds NaN or infinite values",
    "filter": "activation_post.upsample.filter is not what its config says",
    "half a norm": "1 tensors missing (first: conv_pre.weight) and 1 tensors unknown (first: conv_pre.weight_v)",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_tensors_that_are_not_those_of_the_config_are_refused(mistake, tmp_path):
    config = TINY["bigvgan-v2"]
    tensors = made_tensors(config)
    if mistake == "missing":
        del tensors["conv_pre.bias"]
    elif mistake == "unknown":
        tensors |= {"m_source.weight": torch.zeros(1), "extra": torch.zeros(1)}
    elif mistake == "shape":
        tensors["conv_pre.bias"] = torch.zeros(17)
    elif mistake == "length":
        tensors["conv_pre.weight_g"] = torch.ones(5, 1, 1)
    elif mistake == "nan":
        tensors["conv_pre.bias"][3] = math.inf
    elif mistake == "zero":
        tensors["conv_pre.weight_v"][0] = 0
    elif mistake == "filter":
        tensors["activation_post.upsample.filter"] += 0.01
    else:
        del tensors["conv_pre.weight_g"]
    folder = write(tmp_path / "model", config, tensors)
    assert MISTAKES[mistake] in refusal(folder / weights_name(config))


def test_a_vocos_with_another_filterbank_than_its_config_says_is_refused(tmp_path):
    config = TINY["vocos-center"]
    slaney = MEL_PRESETS["vocos-24k-100"].model_copy(update={"n_fft": 32, "n_mels": 6, "mel_scale": "slaney"})
    tensors = made_tensors(config) | {"feature_extractor.mel_spec.mel_scale.fb": mel_basis(slaney)}
    folder = write(tmp_path / "model", config, tensors)
    assert "mel_scale.fb is not what its config says" in refusal(folder / "pytorch_model.bin")


class Harm:
    """Pickles to a call that makes a folder."""

    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.at),)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_of_a_file_runs(zipped, tmp_path):
    config, harm = TINY["bigvgan-v2"], tmp_path / "harm"
    folder = write(tmp_path / "model", config)
    file = folder / weights_name(config)
    content = {"generator": made_tensors(config), "more": Harm(harm)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    assert "holds more than tensors" in refusal(file)
    assert not harm.exists()
    torch.load(file, weights_only=False)
    assert harm.exists()  # it would have


@pytest.mark.parametrize("name", ["vocos-center", "bigvgan-v2", "hifigan-1"])
def test_a_file_cut_short_or_of_another_kind_is_refused(name, tmp_path):
    folder = write(tmp_path / "model", TINY[name])
    file = folder / weights_name(TINY[name])
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-20], b"", b"<html>not found</html>", b"\0" * 1000):
        file.write_bytes(content)
        assert "damaged or no checkpoint" in refusal(file) and "fetch the file again" in refusal(file)
    for value in ([1, 2], {"optimizer": {"lr": 0.1}}, {"generator": {"a": 1.0}}, torch.zeros(2)):
        torch.save(value, file)
        assert "not a generator's tensors" in refusal(file)
    file.unlink()
    assert f"{folder}: no weights of" in refusal(folder)
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    assert "damaged or no checkpoint" in refusal(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hop_size": 16}, "upsample_rates multiply to 8, hop_size is 16"),
        ({"resblock": "3"}, "resblock: Input should be '1' or '2'"),
        ({"upsample_kernel_sizes": [8]}, "upsample_kernel_sizes needs one size for each rate"),
        ({"upsample_kernel_sizes": [8, 5]}, "more by an even number"),
        ({"resblock_kernel_sizes": [3]}, "resblock_dilation_sizes needs one list for each"),
        ({"resblock_kernel_sizes": [3, 4]}, "resblock_kernel_sizes must be odd"),
        ({"upsample_initial_channel": 18}, "upsample_initial_channel must be a multiple of 4"),
        ({"activation": "relu"}, "activation: Input should be 'snake' or 'snakebeta'"),
        ({"num_mels": "many"}, "num_mels: Input should be a valid integer"),
        ({"sampling_rate": 100}, "no mel of this program: sample_rate: Input should be greater"),
        ({"fmax": 9000}, "no mel of this program: needs f_min < f_max <= sample_rate / 2 = 4000 Hz"),
    ],
)
def test_a_gan_config_that_cannot_be_is_refused(change, said, tmp_path):
    folder = write(tmp_path / "model", TINY["bigvgan-v2"])
    (folder / "config.json").write_text(json.dumps(TINY["bigvgan-v2"] | change))
    assert said in refusal(folder / "config.json")


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("head", {"padding": "same"}, "padding is center in feature_extractor, same in head"),
        ("head", {"hop_length": 4}, "hop_length is 8 in feature_extractor, 4 in head"),
        ("head", {"dim": 13}, "dim is 12 in backbone, 13 in head"),
        ("backbone", {"input_channels": 7}, "backbone.input_channels is 7, n_mels is 6"),
        ("backbone", {"adanorm_num_embeddings": 4}, "backbone.init_args.adanorm_num_embeddings"),
        ("feature_extractor", {"mel_scale": "slaney"}, "feature_extractor.init_args.mel_scale: Extra inputs"),
    ],
)
def test_a_vocos_config_that_is_not_known_is_refused(part, change, said, tmp_path):
    config = small_vocos("center")
    config[part]["init_args"] |= change
    folder = write(tmp_path / "model", small_vocos("center"))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert said in refusal(folder / "config.yaml")


def test_a_class_named_in_a_config_is_compared_and_never_imported(tmp_path):
    config = small_vocos("center")
    config["head"]["class_path"] = "vocos.heads.IMDCTSymExpHead"
    folder = write(tmp_path / "model", small_vocos("center"))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert "head.class_path: Input should be 'vocos.heads.ISTFTHead'" in refusal(folder / "config.yaml")
    (folder / "config.yaml").write_text(f"head: !!python/object/apply:os.mkdir ['{tmp_path}/harm']\n")
    assert "unreadable" in refusal(folder / "config.yaml") and not (tmp_path / "harm").exists()


def test_what_is_no_published_vocoder_is_refused(tmp_path):
    assert "no such file or folder" in refusal(tmp_path / "nowhere")
    assert "no config of a published vocoder (config.yaml, config.yml, config.json)" in refusal(tmp_path)
    for content in ('{"model_type": "bert"}', "[]", "3"):
        (tmp_path / "config.json").write_text(content)
        said = refusal(tmp_path / "config.json")
        assert "not the config of a known vocoder" in said and "vocos, bigvgan, hifigan" in said
    (tmp_path / "config.json").write_text('{"upsample_rates": ')
    assert "unreadable" in refusal(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("name", "preset", "fields"),
    [
        (
            "vocos-center",
            "bigvgan-24k-100",
            ["mel_scale: htk != slaney", "norm: None != slaney", "floor: 1e-07 != 1e-05"],
        ),
        (
            "vocos-center",
            "bigvgan-24k-100",
            ["padding: center != same", "magnitude_eps: 0.0 != 1e-09", "n_fft: 32 != 1024"],
        ),
        ("vocos-same", "vocos-24k-100", ["padding: same != center", "n_mels: 6 != 100", "hop_length: 8 != 256"]),
        ("bigvgan-v2", "vocos-24k-100", ["mel_scale: slaney != htk", "norm: slaney != None", "floor: 1e-05 != 1e-07"]),
        (
            "hifigan-1",
            "notes-16k-128",
            ["pad_mode: reflect != constant", "f_min: 0.0 != 20.0", "f_max: 4000.0 != 8000.0"],
        ),
    ],
)
def test_another_mel_is_refused_with_each_field_and_both_values(name, preset, fields, tmp_path):
    folder = write(tmp_path / name, TINY[name])
    with pytest.raises(UserError) as e:
        open_vocoder(str(folder), MEL_PRESETS[preset])
    assert all(field in str(e.value) for field in [*fields, str(folder)]), str(e.value)
    named = str(e.value).split("(")[1].split(")")[0].split("; ")
    assert named == load_published(folder).config.differences(MEL_PRESETS[preset])
    own = load_published(folder).config
    assert open_vocoder(str(folder), own).hash == load_published(folder).hash


@pytest.mark.parametrize("padding", ["center", "same"])
def test_the_istft_head_makes_the_tone_that_its_bias_names(padding, tmp_path):
    """One bin, the same phase in every frame: a bin whose period divides the hop goes on without a break. The window
    is in the overlap-add once and squared below it, and a Hann window in quarters sums to 2, squared to 1.5."""
    config, n_fft, bin_ = small_vocos(padding), 32, 4
    tensors = made_tensors(config)
    tensors["head.out.weight"] = torch.zeros_like(tensors["head.out.weight"])
    bias = torch.cat([torch.full((n_fft // 2 + 1,), -40.0), torch.full((n_fft // 2 + 1,), 0.3)])
    bias[bin_] = math.log(3.0)
    tensors["head.out.bias"] = bias
    out = load_published(write(tmp_path / "a", config, tensors))(made_mel(config, 1), 96)[0]
    n = torch.arange(96) + (0 if padding == "center" else (n_fft - 8) // 2)
    tone = 3.0 * 2 / n_fft * (2 / 1.5) * torch.cos(2 * math.pi * bin_ * n / n_fft + 0.3)
    torch.testing.assert_close(out[24:72], tone[24:72], rtol=0, atol=1e-6)
    tensors["head.out.bias"][bin_] = 30.0  # the magnitude is cut off at 100
    loud = load_published(write(tmp_path / "b", config, tensors))(made_mel(config, 1), 96)[0]
    torch.testing.assert_close(loud[24:72], tone[24:72] * 100 / 3, rtol=0, atol=1e-4)


def test_the_resampling_filters_pass_dc_and_low_tones_and_stop_high_ones():
    up, down = Upsample(), Downsample()
    assert float(low_pass().sum()) == pytest.approx(1.0, abs=1e-6)
    constant = torch.full((1, 2, 30), 0.7)
    assert up(constant).shape == (1, 2, 60) and down(constant).shape == (1, 2, 15)
    torch.testing.assert_close(up(constant)[..., 12:-12], torch.full((1, 2, 36), 0.7), rtol=0, atol=5e-3)
    assert float(up(constant).mean()) == pytest.approx(0.7, abs=1e-4)
    torch.testing.assert_close(down(constant), torch.full((1, 2, 15), 0.7), rtol=0, atol=1e-6)
    n = torch.arange(400)
    low = torch.sin(2 * math.pi * 0.02 * n).view(1, 1, -1)
    torch.testing.assert_close(down(up(low))[..., 10:-10], low[..., 10:-10], rtol=0, atol=0.02)
    high = torch.sin(2 * math.pi * 0.4 * n).view(1, 1, -1)  # above what the lower rate can hold
    assert down(high)[..., 10:-10].abs().max() < 0.02


def test_overtones_above_the_nyquist_frequency_do_not_fold_back():
    """The square of a tone at 0.4 cycles per sample is its second overtone at 0.8, which folds back to 0.2."""

    class Square(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.square()

    x = torch.cos(2 * math.pi * 0.4 * torch.arange(500)).view(1, 1, -1)

    def at(y: torch.Tensor, cycles: float) -> float:
        y = y.flatten()[50:450]
        return abs(complex((y * torch.exp(-2j * math.pi * cycles * torch.arange(len(y)))).mean()))

    assert at(x.square(), 0.2) == pytest.approx(0.25, abs=1e-3)
    assert at(AntiAliased(Square())(x), 0.2) < 0.1  # twelve taps let some of it through


@pytest.mark.parametrize("log_scale", [True, False])
def test_snake_equals_its_formula(log_scale):
    x = wave((2, 3, 5), 1)
    alpha, beta = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([4.0, 0.2, 1.0])
    for own in (True, False):
        snake = Snake(3, own_beta=own, log_scale=log_scale).requires_grad_(False)
        snake.alpha.copy_(alpha.log() if log_scale else alpha)
        if snake.beta is not None:
            snake.beta.copy_(beta.log() if log_scale else beta)
        a, b = alpha[:, None], (beta if own else alpha)[:, None]
        torch.testing.assert_close(snake(x), x + (a * x).sin() ** 2 / b, rtol=1e-5, atol=1e-6)
    snake.alpha.fill_(-math.inf if log_scale else 0.0)
    assert torch.equal(snake(x), x)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stands for the model hub: what it was asked, what lies in its cache, what it has."""

    class Hub:
        asked: list[dict[str, Any]]
        cached: Path | None = None
        online: Path | Exception = OSError("offline")

        def __init__(self) -> None:
            self.asked = []

        def __call__(self, name: str, **kw: Any) -> str:
            self.asked.append({"name": name, **kw})
            if kw["local_files_only"]:
                if self.cached is None:
                    raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")
                return str(self.cached)
            if isinstance(self.online, Exception):
                raise self.online
            return str(self.online)

    it = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", it)
    return it


def test_what_is_no_hub_id_is_not_asked_for(hub):
    for name in ("griffin", "", "/etc/passwd", "../up/file", "./here/it", "a/b/c", "owner/", "owner/na me", "a\\b"):
        assert find_published(name) is None
    assert hub.asked == []


def test_the_cache_comes_first_and_a_cache_without_the_weights_does_not_count(hub, tmp_path):
    whole = write(tmp_path / "whole", TINY["hifigan-1"])
    hub.cached = whole
    assert find_published("owner/model.v1") == whole
    assert [a["local_files_only"] for a in hub.asked] == [True]
    part = write(tmp_path / "part", TINY["hifigan-1"])
    (part / "generator_v1").unlink()
    hub.cached, hub.online = part, whole
    assert find_published("owner/model.v1") == whole
    hub.cached = None
    assert find_published("owner/model.v1") == whole
    assert [a["local_files_only"] for a in hub.asked] == [True, True, False, True, False]
    own = load_published(whole).config
    assert open_vocoder("owner/model.v1", own).hash == load_published(whole).hash


def test_only_the_config_and_the_generator_are_asked_for(hub, tmp_path):
    hub.cached = write(tmp_path / "whole", TINY["hifigan-1"])
    find_published("owner/model")
    wanted = {
        "config.yaml",
        "config.json",
        "pytorch_model.bin",
        "model.safetensors",
        "bigvgan_generator.pt",
        "generator_v1",
        "g_02500000",
    }
    others = {
        "README.md",
        "do_02500000",
        "bigvgan_discriminator_optimizer.pt",
        "bigvgan_discriminator.safetensors",
        "generator_optimizer.pt",
        "LICENSE",
        "sample.wav",
        "optimizer.bin",
    }
    (asked,) = hub.asked
    kept = filter_repo_objects(
        [*wanted, *others], allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"]
    )
    assert set(kept) == wanted


@pytest.mark.parametrize("error", [OSError("no route\nto host"), RuntimeError(""), ValueError("404 not found")])
def test_a_hub_that_has_nothing_is_said_in_one_line(error, hub):
    hub.online = error
    with pytest.raises(UserError) as e:
        open_vocoder("owner/model", MEL_PRESETS["hifigan-22k-80"])
    said = str(e.value)
    assert said.startswith("owner/model: no such file or folder") and "\n" not in said
    assert type(error).__name__ in said and "give the folder" in said
