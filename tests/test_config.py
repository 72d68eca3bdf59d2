import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from audio_vaegan.config import MEL_PRESETS, MelConfig, Recipe
from audio_vaegan.errors import UserError
from audio_vaegan.recipe import load_recipe


def write(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def test_defaults_are_a_valid_recipe(tmp_path):
    assert load_recipe(write(tmp_path, "")) == Recipe()


def test_overrides_by_dotted_name(tmp_path):
    path = write(tmp_path, "train: {steps: 10}\nmel: notes-16k-128\n")
    recipe = load_recipe(path, ["--train.steps", "200", "--mel.hop_length=128", "--model.disc_channels", "[4, 8]"])
    assert (recipe.train.steps, recipe.mel.hop_length, recipe.model.disc_channels) == (200, 128, (4, 8))
    assert recipe.mel.n_mels == 128  # the rest of the preset stays


@pytest.mark.parametrize(
    ("text", "overrides", "says"),
    [
        ("train: {stepps: 3}", [], "unknown key 'train.stepps'. Did you mean 'steps'?"),
        ("trian: {}", [], "unknown key 'trian'. Did you mean 'train'?"),
        ("train: {steps: many}", [], "train.steps"),
        ("train: {steps: 0}", [], "train.steps"),
        ("train: {learning_rate: .nan}", [], "train.learning_rate"),
        ("mel: hifigan-22k", [], "Did you mean 'hifigan-22k-80'?"),
        ("mel: {f_max: 9000}", [], "f_max <= sample_rate / 2"),
        ("data: {clip_samples: 1000}", [], "multiple of mel.hop_length"),
        ("seed: -1", [], "seed"),
        ("seed: 1.5", [], "seed: "),
        ("seed: !!int abc", [], "not valid YAML"),
        ("name: 2020-99-99", [], "not valid YAML"),
        ("name: !!timestamp abc", [], "not valid YAML"),
        ("a: " + "[" * 5000, [], "not valid YAML"),
        ("model: {width: 1000000}", [], "model.width"),
        ("train: {batch_size: 100000000}", [], "train.batch_size"),
        ("", ["--name", "9" * 5000], "cannot read the value"),
        ("seed: 8589934592", [], "seed"),
        ("model: {kernel: 8}", [], "kernel must be odd"),
        ("model: {disc_channels: []}", [], "model.disc_channels"),
        ("model: {width: 1}", [], "model.width"),
        ("model: {disc_scales: 9}", [], "needs 256 frames and bands"),
        ("{model: {disc_scales: 2}, train: {growing: 0.5}}", [], "disc_scales of 3 or more, got 2"),
        ("{model: {generator_blocks: 1}, train: {growing: 0.5}}", [], "begins with coarse blocks"),
        ("train: {betas: [0.8, 1.0]}", [], "train.betas"),
        ("- a\n- b", [], "expected `key: value`"),
        ("train: [", [], "not valid YAML at line"),
        ("", ["--train.steps"], "a value is missing"),
        ("", ["train.steps", "3"], "overrides are written --section.key value"),
        ("", ["--train.nothing", "3"], "unknown key 'train.nothing'"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, text, overrides, says):
    with pytest.raises(UserError) as e:
        load_recipe(write(tmp_path, text), overrides)
    assert says in str(e.value)
    assert "\n" not in str(e.value)


def test_recipes_of_the_package_are_known_by_name_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("quickstart", "recipes/quickstart.yaml", "quickstart.yaml"):
        assert load_recipe(Path(name)) == load_recipe(ROOT / "recipes" / "quickstart.yaml")
    (tmp_path / "quickstart").mkdir()  # a run's folder, say
    assert load_recipe(Path("quickstart")).name == "quickstart"
    (tmp_path / "quickstart").rmdir()
    (tmp_path / "quickstart").write_text("name: mine\ntrain: {steps: 7}\n")
    assert load_recipe(Path("quickstart")).train.steps == 7  # one's own comes first


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no such file.*nothing\.yaml.*quickstart"):
        load_recipe(tmp_path / "nothing.yaml")


def test_differences_name_each_field_and_both_values():
    a, b = MEL_PRESETS["vocos-24k-100"], MEL_PRESETS["bigvgan-24k-100"]
    named = {d.split(":")[0] for d in a.differences(b)}
    assert named == {"mel_scale", "norm", "magnitude_eps", "floor", "padding"}
    assert "mel_scale: htk != slaney" in a.differences(b)
    assert MelConfig().differences(MelConfig()) == []


def test_the_recipe_needs_no_torch():
    code = "import sys, audio_vaegan.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_and_off_are_words_and_no_key_stands_twice(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("train: {mixed_precision: no, monitor: off}\n")
    recipe = load_recipe(path, ["--train.mixed_precision", "no"])
    assert (recipe.train.mixed_precision, recipe.train.monitor) == ("no", "off")
    path.write_text("train: {steps: 5}\nseed: 1\ntrain: {steps: 6}\n")
    with pytest.raises(UserError, match="key 'train' twice"):
        load_recipe(path)
