"""Generator and vocoder as one file: the same sounds as the model's, for any number of them."""

import json

import pytest
import torch
from conftest import TINY, cli, one_line

from audio_vaegan.models.bundle import Bundle, save_bundle
from audio_vaegan.models.controls import Control
from audio_vaegan.models.critic import ControlHeads
from audio_vaegan.models.vaegan import Normalisation, VaeGan
from audio_vaegan.models.vocoder.portable import PortableVocoder
from audio_vaegan.recipe import load_recipe
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.uses.export import check, example_inputs, run

CONTROLS = (
    Control("pitch", "semitones (MIDI)", 48, 84, 60, 10, 36),
    Control("kind", "class", 0, 2, 0, 1, 3, classes=("a", "b", "c")),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model that no training has touched, with a control and a class; its vocoder is the package's."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("export")
    (folder / "recipe.yaml").write_text(TINY)
    recipe = load_recipe(
        folder / "recipe.yaml", ["--mel", "notes-16k-128", "--model.controls", "[pitch]", "--model.class_label", "kind"]
    )
    heads = ControlHeads(recipe.model, CONTROLS, recipe.mel.n_mels, recipe.mel.frames(recipe.data.clip_samples))
    net = VaeGan(recipe, CONTROLS, Normalisation(-8.0, 2.5))
    torch.nn.init.normal_(net.generator.leave.weight, std=0.1)
    save_bundle(Bundle(recipe, net, heads), folder / "model")
    return folder


def test_the_portable_vocoder_makes_the_same_sound():
    """Peaks, phases, transforms and corrections in other operations: equal to rounding, on real notes' mels."""
    model = SoundModel.from_pretrained("notes16k")
    mel = model.sample(5, pitch=[40.0, 50.0, 60.0, 70.0, 80.0], seed=1).mel
    silent = torch.full_like(mel[:1], float(mel.min()))
    mel = torch.cat([mel, silent])
    portable = PortableVocoder(model.vocoder.network, mel.shape[2]).eval()
    with torch.no_grad():
        made = portable(mel)
    assert (made - model.vocode(mel, limit=False)).abs().max() < 1e-5 and made[:5].abs().amax(dim=1).min() > 0.01


@pytest.mark.parametrize("kind", ["onnx", pytest.param("pt2", marks=pytest.mark.slow)])
def test_an_exported_file_makes_the_models_sounds_for_any_number_of_them(folder, kind):
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="optional extra `export`")
    out = folder / f"model.{kind}"
    done = cli("export", folder / "model", "--out", out)
    assert done.returncode == 0, done.stderr
    model = SoundModel.from_pretrained(folder / "model")
    assert check(out, model) < 1e-4
    timbre, controls = example_inputs(model, 7)
    controls[3, 0] = torch.nan  # no pitch
    audio = run(out, timbre, controls)
    assert audio.shape == (7, model.clip_samples) and torch.isfinite(audio).all()
    alone = run(out, timbre[3:4], controls[3:4])
    assert (alone - audio[3:4]).abs().max() < 1e-4 and audio.abs().max() > 1e-3
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["model_hash"] == model.hash and about["inputs"]["controls"][1]["classes"] == ["a", "b", "c"]


def test_mistakes(folder, tmp_path):
    model = folder / "model"
    assert ".onnx or .pt2" in one_line(cli("export", model, "--out", tmp_path / "a.bin"))
    assert "no folder" in one_line(cli("export", model, "--out", tmp_path / "none" / "a.onnx"))
    line = one_line(cli("export", model, "--vocoder", "griffin-lim", "--out", tmp_path / "a.onnx"))
    assert "only the vocoder that is trained here" in line and not (tmp_path / "a.onnx").exists()
    (tmp_path / "config.json").write_text("mine")
    assert "config.json exists" in one_line(cli("export", model, "--out", tmp_path / "config.onnx"))
    assert (tmp_path / "config.json").read_text() == "mine"
