"""Embeddings by pretrained networks, with weights made here under the published names: nothing is downloaded.

The names and shapes of the tensors are written out below, apart from the code that reads them, and so are features that
other code (panns-hear 0.2.1 with torchlibrosa 0.1.0; torchvggish 0.2) makes of the same weights and sounds.
"""

import hashlib
import math
import os
import socket
import sys
import zlib
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import tone

from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.audioset import Cnn14, Vggish, vggish_log_mel
from audio_vaegan.evaluation.embeddings import Embedding, PretrainedEmbedding, open_embedding

Tensors = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]
WIDTHS, FEATURES, CLASSES = (4, 6, 8, 8, 10, 12), 20, 5  # published: 64 128 256 512 1024 2048, 2048, 527
VGG_WIDTHS, VGG_SIZES = (4, 6, 8, 8, 10, 10), (24, 24, 16)  # published: 64 128 256 256 512 512, 4096 4096 128
CLAP_FEATURES = 24
KINDS = ("clap", "clap-fused", "panns", "vggish")


def noise(shape: tuple[int, ...], name: str) -> torch.Tensor:
    """Numbers in [-1, 1] that are the same everywhere."""
    return torch.tensor(np.random.default_rng(zlib.crc32(name.encode())).random(shape) * 2 - 1).float()


def made(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor that keeps what passes it of the size of 1."""
    if name == "bn0.running_mean":
        return -30 + 5 * noise(shape, name)  # dB
    if name == "bn0.running_var":
        return 400 + 100 * noise(shape, name)
    if name.endswith("running_var") or ("bn" in name and name.endswith("weight")):
        return 1 + 0.3 * noise(shape, name)
    if len(shape) < 2:
        return 0.1 * noise(shape, name)
    return noise(shape, name) * (6 / math.prod(shape[1:])) ** 0.5


def norm(name: str, size: int) -> Shapes:
    return {f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")}


def panns_tensors(rate: int = 32000) -> Tensors:
    shapes: Shapes = norm("bn0", 64)
    for n, (before, width) in enumerate(zip((1, *WIDTHS), WIDTHS, strict=False), start=1):
        block = f"conv_block{n}"
        shapes |= {f"{block}.conv1.weight": (width, before, 3, 3), f"{block}.conv2.weight": (width, width, 3, 3)}
        shapes |= norm(f"{block}.bn1", width) | norm(f"{block}.bn2", width)
    shapes |= {"fc1.weight": (FEATURES, WIDTHS[-1]), "fc1.bias": (FEATURES,)}
    shapes |= {"fc_audioset.weight": (CLASSES, FEATURES), "fc_audioset.bias": (CLASSES,)}
    tensors = {name: made(name, shape) for name, shape in shapes.items()}
    counts = [name.replace("running_var", "num_batches_tracked") for name in shapes if name.endswith("running_var")]
    window, top = {32000: (1024, 14000), 16000: (512, 8000), 8000: (256, 4000)}[rate]
    basis = librosa.filters.mel(sr=rate, n_fft=window, n_mels=64, fmin=50, fmax=top)
    return {
        **tensors,
        **{name: torch.tensor(7) for name in counts},
        "spectrogram_extractor.stft.conv_real.weight": torch.zeros(window // 2 + 1, 1, window),
        "spectrogram_extractor.stft.conv_imag.weight": torch.zeros(window // 2 + 1, 1, window),
        "logmel_extractor.melW": torch.from_numpy(basis.T.copy()),
    }


def vggish_tensors() -> Tensors:
    shapes: Shapes = {}
    for n, before, width in zip((0, 3, 6, 8, 11, 13), (1, *VGG_WIDTHS), VGG_WIDTHS, strict=False):
        shapes |= {f"features.{n}.weight": (width, before, 3, 3), f"features.{n}.bias": (width,)}
    for n, before, size in zip((0, 2, 4), (VGG_WIDTHS[-1] * 24, *VGG_SIZES), VGG_SIZES, strict=False):
        shapes |= {f"embeddings.{n}.weight": (size, before), f"embeddings.{n}.bias": (size,)}
    return {name: made(name, shape) for name, shape in shapes.items()}


def save_panns(path: Path, tensors: Tensors, **more: Any) -> str:
    torch.save({"iteration": 1, "model": tensors, **more}, path)
    return f"panns:{path}"


def save_vggish(path: Path, tensors: Tensors) -> str:
    torch.save(tensors, path)
    return f"vggish:{path}"


def save_clap(folder: Path, fused: bool = False, seconds: int = 1) -> str:
    transformers = pytest.importorskip("transformers", reason="optional extra `embeddings`")
    text = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    audio = {"patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 32}
    audio |= {
        "spec_size": 128,
        "enable_fusion": fused,
        "fusion_type": "aff_2d" if fused else None,
        "hidden_dropout_prob": 0.1,
    }
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=CLAP_FEATURES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.ClapModel(config)
        for name, value in model.named_parameters():
            value.data = made(name, tuple(value.shape)) if "norm" not in name.lower() else value.data
        model.audio_model.audio_encoder.batch_norm.running_mean.fill_(-40)
        model.audio_model.audio_encoder.batch_norm.running_var.fill_(400)
    model.save_pretrained(folder)
    truncation = "fusion" if fused else "rand_trunc"
    transformers.ClapFeatureExtractor(max_length_s=seconds, truncation=truncation).save_pretrained(folder)
    return f"clap:{folder}"


def made_spec(kind: str, folder: Path) -> str:
    if kind == "panns":
        return save_panns(folder / "Cnn14_mAP=0.431.pth", panns_tensors())
    if kind == "vggish":
        return save_vggish(folder / "vggish-10086976.pth", vggish_tensors())
    return save_clap(folder / kind, fused=kind == "clap-fused")


@pytest.fixture(scope="module", params=KINDS)
def opened(request, tmp_path_factory) -> Embedding:
    return open_embedding(made_spec(request.param, tmp_path_factory.mktemp("weights")))


def sounds(rate: int, seconds: float) -> torch.Tensor:
    """A chirp, and a decaying tone with hiss, `[2, samples]`."""
    t = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    chirp = 0.4 * torch.sin(2 * math.pi * (200 * t + 900 * t**2))
    decay = 0.3 * torch.sin(2 * math.pi * 440 * t) * torch.exp(-3 * t) + 0.01 * torch.sin(7.7e6 * t**2)
    return torch.stack([chirp, decay]).float()


def tones(rate: int, seconds: float = 0.9, pitches: tuple[float, ...] = (50, 57, 64)) -> torch.Tensor:
    return torch.from_numpy(np.stack([tone(p, seconds, rate=rate, decay=1) for p in pitches]))


def refusal(spec: str) -> str:
    with pytest.raises(UserError) as e:
        open_embedding(spec)
    assert "\n" not in str(e.value) and len(str(e.value)) < 500
    return str(e.value)


def test_one_vector_a_clip_the_same_each_time_and_in_any_batch(opened):
    size = {"clap": CLAP_FEATURES, "panns": FEATURES, "vggish": VGG_SIZES[-1]}[opened.name.split()[0]]
    audio = torch.cat([tones(16000), sounds(16000, 0.9)]).repeat(7, 1)  # 35: more than one batch
    before = audio.clone()
    found = opened.features(audio, 16000)
    assert found.shape == (35, size) and found.dtype == torch.float32 and not found.requires_grad
    assert torch.isfinite(found).all() and torch.equal(audio, before)
    assert torch.equal(opened.features(audio, 16000), found)
    alone = torch.cat([opened.features(audio[n : n + 1], 16000) for n in range(5)])
    scale = found.std(dim=0).norm()
    assert scale > 1e-3 * found.norm(dim=1).mean()  # it hears a difference
    for repeat in found.split(5):
        assert (repeat - alone).norm(dim=1).max() < 1e-3 * scale
    assert str(size) in opened.note and opened.note.startswith(opened.name) and "\n" not in opened.note


def test_a_tone_is_the_same_at_any_sample_rate(opened):
    low, high = opened.features(tones(16000), 16000), opened.features(tones(48000), 48000)
    apart = torch.pdist(high).min()
    assert (low - high).norm(dim=1).max() < 0.1 * apart
    assert torch.equal(opened.features(tones(opened.sample_rate), opened.sample_rate).argmax(1), high.argmax(1))


@pytest.mark.parametrize("seconds", [0.01, 0.3, 5.3])
def test_short_and_long_clips_and_silence(opened, seconds):
    audio = torch.cat([sounds(44100, seconds), torch.zeros(1, round(44100 * seconds))])
    found = opened.features(audio, 44100)
    assert len(found) == 3 and torch.isfinite(found).all()
    assert torch.equal(opened.features(audio, 44100), found)


# Of the second sound, by others' code from the same tensors.
PANNS = {
    32000: [0.006, 0.0179, 0, 0, 0.1989, 0, 0, 0, 0, 0, 0, 0, 0.0667, 0, 0, 0.1937, 0.3144, 0, 0, 0.0535],
    16000: [0, 0.009, 0, 0, 0.1829, 0, 0, 0, 0, 0, 0, 0, 0.0548, 0, 0, 0.2056, 0.3054, 0, 0, 0.0679],
}
VGGISH = [
    *(0.0853, -0.3622, -0.5551, 0.3126, 0.5971, -0.1963, 0.9351, -0.1432),
    *(-0.0327, 0.129, -0.5683, -0.0453, 0.592, 0.7095, -0.0305, -0.4863),
]


@pytest.mark.parametrize("rate", PANNS)
def test_cnn14_gives_the_features_of_its_authors_code(rate, tmp_path):
    embedding = open_embedding(save_panns(tmp_path / "Cnn14.pth", panns_tensors(rate)))
    assert isinstance(embedding, PretrainedEmbedding) and embedding.sample_rate == rate
    assert embedding.features(sounds(rate, 1.2), rate)[1].tolist() == pytest.approx(PANNS[rate], abs=2e-4)


def test_vggish_gives_the_features_of_torchvggish(tmp_path):
    embedding = open_embedding(save_vggish(tmp_path / "vggish.pth", vggish_tensors()))
    found = embedding.features(sounds(16000, 2.5), 16000)
    assert found[1].tolist() == pytest.approx(VGGISH, abs=2e-4)
    # Stretches of 0.96 s: a third one begins at 1.92 s and is not whole; 0.96 s and one window is the least.
    assert torch.equal(embedding.features(sounds(16000, 2.5)[:, : 16000 * 2], 16000), found)
    short = torch.nn.functional.pad(sounds(16000, 0.5), (0, 15600 - 8000))
    assert torch.equal(embedding.features(sounds(16000, 0.5), 16000), embedding.features(short, 16000))


def test_the_bands_of_vggish_lie_where_they_should():
    assert vggish_log_mel(torch.zeros(1, 15600)).shape == (1, 96, 64)
    assert vggish_log_mel(torch.zeros(1, 16000)).unique().item() == pytest.approx(math.log(0.01))
    edges = 700 * np.expm1(np.linspace(np.log1p(125 / 700), np.log1p(7500 / 700), 66))
    for band in (20, 40, 60):
        t = torch.arange(15600) / 16000
        heard = vggish_log_mel(torch.sin(2 * math.pi * edges[band + 1] * t)[None])
        assert heard[0, 50].argmax() == band


@pytest.mark.parametrize("kind", ["panns", "vggish"])
def test_safetensors_half_precision_and_bare_tensors_open_too(kind, tmp_path):
    spec = made_spec(kind, tmp_path)
    wanted = open_embedding(spec).features(sounds(16000, 1.0), 16000)
    tensors = panns_tensors() if kind == "panns" else vggish_tensors()
    tensors = {name: value for name, value in tensors.items() if "num_batches" not in name}  # torch 0.4 had none
    file = tmp_path / "bare.safetensors"
    safetensors.torch.save_file(tensors, file)
    bare = open_embedding(f"{kind}:{file}")
    assert torch.equal(bare.features(sounds(16000, 1.0), 16000), wanted)
    assert bare.name == f"{kind} {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}" != open_embedding(spec).name
    torch.save({name: value.half() for name, value in tensors.items()}, tmp_path / "half.pt")
    half = open_embedding(f"{kind}:{tmp_path / 'half.pt'}").features(sounds(16000, 1.0), 16000)
    assert half.dtype == torch.float32 and torch.allclose(half, wanted, atol=0.05 * wanted.std().item() + 0.01)


def test_the_published_sizes_are_those_of_the_papers():
    """Parameters in millions: Kong et al. 2020, table IV; torchvggish's file has 72.1."""
    with torch.device("meta"):
        cnn14 = Cnn14([64, 128, 256, 512, 1024, 2048], 2048)
        vggish = Vggish([64, 128, 256, 256, 512, 512], [4096, 4096, 128])
    count = sum(p.numel() for p in cnn14.parameters()) + 2049 * 527
    assert count / 1e6 == pytest.approx(80.75, abs=0.01)
    assert sum(p.numel() for p in vggish.parameters()) / 1e6 == pytest.approx(72.14, abs=0.01)


@pytest.mark.parametrize("fused", [False, True])
def test_clap_gives_what_transformers_gives_and_nothing_random(fused, tmp_path):
    embedding = open_embedding(save_clap(tmp_path / "clap", fused, seconds=2))
    transformers = pytest.importorskip("transformers")
    model = transformers.ClapModel.from_pretrained(tmp_path / "clap")
    extractor = transformers.ClapFeatureExtractor.from_pretrained(tmp_path / "clap")
    mels = extractor(list(sounds(48000, 1.5).numpy()), sampling_rate=48000, return_tensors="pt")["input_features"]
    with torch.inference_mode():
        out = model.get_audio_features(input_features=mels, is_longer=torch.zeros(2, 1, dtype=torch.bool))
    found = embedding.features(sounds(48000, 1.5), 48000)
    assert torch.allclose(found, out.pooler_output, atol=1e-6)
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)
    long = sounds(48000, 3.0)  # longer than this extractor's 2 s: two halves
    halves = torch.stack([embedding.features(part, 48000) for part in long.split(72000, dim=1)]).mean(dim=0)
    assert torch.allclose(embedding.features(long, 48000), halves / halves.norm(dim=1, keepdim=True), atol=1e-5)


def test_clap_is_silent_and_leaves_the_settings_of_transformers(tmp_path, capfd):
    spec = save_clap(tmp_path / "clap")
    from transformers.utils import logging

    logging.set_verbosity_info()
    capfd.readouterr()
    open_embedding(spec)
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == logging.INFO and logging.is_progress_bar_enabled()
    logging.set_verbosity_warning()


def test_clap_reaches_for_nothing_outside_its_folder(tmp_path, monkeypatch):
    spec = save_clap(tmp_path / "clap")

    def connect(*_: Any) -> None:
        raise AssertionError("reached for the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    open_embedding(spec).features(sounds(48000, 0.5), 48000)
    assert "no such folder; download the weights elsewhere" in refusal("clap:laion/clap-htsat-unfused")


def test_a_clap_folder_that_is_not_whole_is_refused(tmp_path):
    folder = tmp_path / "clap"
    save_clap(folder)
    weights = folder / "model.safetensors"
    whole = safetensors.torch.load_file(weights)
    fewer = {name: value for name, value in whole.items() if "audio_projection" not in name}
    safetensors.torch.save_file(fewer, weights, {"format": "pt"})
    assert "lacks audio_projection" in refusal(f"clap:{folder}")
    wrong = whole | {"audio_projection.linear1.weight": torch.zeros(3, 3)}
    safetensors.torch.save_file(wrong, weights, {"format": "pt"})
    assert "lacks audio_projection.linear1.weight, or has it in another shape, and 0 more" in refusal(f"clap:{folder}")
    weights.write_bytes(b"<html>not found</html>")
    assert "not a ClapModel with its feature extractor" in refusal(f"clap:{folder}")
    weights.unlink()
    assert "holds no weights (model.safetensors, pytorch_model.bin)" in refusal(f"clap:{folder}")
    torch.save(whole, folder / "pytorch_model.bin")
    open_embedding(f"clap:{folder}")
    torch.save({"harm": Harm(tmp_path / "harm")}, folder / "pytorch_model.bin")
    assert "it holds more than tensors" in refusal(f"clap:{folder}") and not (tmp_path / "harm").exists()
    (folder / "preprocessor_config.json").unlink()
    assert "not a ClapModel with its feature extractor" in refusal(f"clap:{folder}")


def test_without_transformers_the_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    said = refusal(f"clap:{tmp_path}")
    assert said == f"clap:{tmp_path} needs transformers; install it with: pip install 'audio-vaegan[embeddings]'"


def test_what_is_no_embedding_is_refused(tmp_path):
    assert "'pann' is no kind. Did you mean 'panns'?" in refusal("pann:x.pth")
    assert "KIND:PATH, and 'openl3' is no kind. Known: clap, panns, vggish." in refusal("openl3:x")
    assert "is no kind" in refusal("") and "is no kind" in refusal("weights.pth")
    for spec in ("panns:", f"panns:{tmp_path}", f"vggish:{tmp_path / 'x.pth'}"):
        assert f"{spec}: no such file; download the weights elsewhere and give {spec.split(':')[0]}:FILE" in refusal(
            spec
        )
    (tmp_path / "file").write_bytes(b"")
    assert "no such folder" in refusal("clap:") and "no such folder" in refusal(f"clap:{tmp_path / 'file'}")


@pytest.mark.parametrize("kind", ["panns", "vggish"])
def test_a_file_that_holds_something_else_is_refused(kind, tmp_path):
    file = tmp_path / "weights.pth"
    made_spec(kind, tmp_path)
    whole = next(tmp_path.glob("*.pth")).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>not found</html>"):
        file.write_bytes(content)
        assert f"{file}: not opened: " in refusal(f"{kind}:{file}")
    for value in ([1, 2], {"model": {"a": 1.0}}, torch.zeros(2)):
        torch.save(value, file)
        assert "not the tensors of a network by name" in refusal(f"{kind}:{file}")
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 64)
    assert "not opened: SafetensorError" in refusal(f"{kind}:{tmp_path / 'x.safetensors'}")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    file, panns, vggish = tmp_path / "weights.pth", panns_tensors(), vggish_tensors()
    assert "lacks conv_block1.conv1.weight; take the published file" in refusal(save_panns(file, vggish))
    assert "lacks features.0.weight" in refusal(save_vggish(file, panns))
    assert "Missing key(s)" in refusal(save_panns(file, {k: v for k, v in panns.items() if k != "bn0.bias"}))
    assert "Unexpected key(s)" in refusal(save_panns(file, panns | {"att_block.att.weight": torch.zeros(2)}))
    assert "size mismatch" in refusal(save_panns(file, panns | {"conv_block2.conv1.weight": torch.zeros(6, 5, 3, 3)}))
    assert "take the published file" in refusal(save_panns(file, panns | {"fc1.weight": torch.tensor(1.0)}))
    assert "size mismatch" in refusal(save_vggish(file, vggish | {"embeddings.0.weight": torch.zeros(24, 7)}))
    nan = vggish["features.0.bias"].clone().fill_(math.nan)
    assert "all of them finite" in refusal(save_vggish(file, vggish | {"features.0.bias": nan}))
    melw = "logmel_extractor.melW"
    assert "no Cnn14 of 32, 16 or 8 kHz" in refusal(save_panns(file, {k: v for k, v in panns.items() if k != melw}))
    assert "its bands" in refusal(save_panns(file, panns | {melw: panns[melw].roll(1, dims=1)}))
    assert "its bands" in refusal(save_panns(file, panns | {melw: torch.zeros(513, 128)}))


class Harm:
    """Pickles to a call that makes a folder."""

    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.at),)


@pytest.mark.parametrize("kind", ["panns", "vggish"])
def test_no_code_of_a_file_runs(kind, tmp_path):
    file, harm = tmp_path / "weights.pth", tmp_path / "harm"
    save_panns(file, panns_tensors(), sampler=Harm(harm))
    assert "not opened: it holds more than tensors, which could run code" in refusal(f"{kind}:{file}")
    assert not harm.exists()
    torch.load(file, weights_only=False)
    assert harm.exists()  # it would have
