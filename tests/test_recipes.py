"""The recipes and launch files that come with the package: each through the real command line, at tiny size."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from conftest import ROOT, cli, run, tone, trainer

from audio_vaegan.data.store import Store
from audio_vaegan.recipe import load_recipe
from audio_vaegan.sound_model import SoundModel

LISTS = ("ablation",)  # lists of recipes: tests/test_ablation.py
RECIPES = sorted(p for p in (ROOT / "recipes").glob("*.yaml") if p.stem not in LISTS)
LAUNCHES = sorted((ROOT / "recipes" / "launch").glob("*.yaml"))
TINY = [
    "--model.width", "16", "--model.timbre_dim", "4", "--model.encoder_blocks", "3", "--model.generator_blocks", "2",
    "--model.head_blocks", "1", "--model.disc_channels", "[4, 8]", "--train.steps", "2", "--train.batch_size", "4",
    "--train.log_every", "1",
]  # fmt: skip


def say(root):
    """A few spoken words; without eSpeak NG the test of the speech recipe is skipped."""
    if not shutil.which("espeak-ng"):
        pytest.skip("espeak-ng is not installed")
    for i, word in enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]):
        subprocess.run(["espeak-ng", "-p", str(30 + 5 * i), "-w", str(root / f"{word}.wav"), word], check=True)


def hit(root):
    """Bursts of noise and falling tones at 44.1 kHz."""
    rng = np.random.default_rng(0)
    for i in range(10):
        t = np.arange(20000) / 44100
        sound = rng.standard_normal(20000) * np.exp(-t * 20 * (i + 1)) * 0.2 + 0.3 * tone(
            50 + i, 20000 / 44100, 2, 8, 44100
        )
        soundfile.write(root / f"{i}.wav", sound, 44100)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_whole_and_explained(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem and path.read_text().startswith("#")
    readme = (ROOT / "README.md").read_text()
    assert f"`{path.stem}`" in readme


@pytest.mark.parametrize("name", ["notes16k", "drums16k", "nsynth", "oneshots44k", "speech22k", "loops16k"])
def test_every_recipe_prepares_trains_and_samples(tmp_path, notes, name):
    sounds = notes
    if name in ("drums16k", "oneshots44k", "speech22k", "loops16k"):
        sounds = tmp_path / "sounds"
        sounds.mkdir()
        (say if name == "speech22k" else hit)(sounds)
    change = []
    if name == "drums16k":
        for kind in ("kick", "snare"):
            (sounds / kind).mkdir()
        for i, file in enumerate(sorted(sounds.glob("*.wav"))):
            file.rename(sounds / ("kick", "snare")[i % 2] / file.name)
        change = ["--model.class_label", "folder"]
    if name == "nsynth":  # the notes of the tests are synthetic: the protocol leaves all of them out
        words = ["--recipe", ROOT / "recipes" / "nsynth.yaml", "--out", tmp_path / "none"]
        assert "data.keep, instrument_source_str is another (synthetic)" in cli("prepare", sounds, *words).stderr
        change = ["--data.keep", "{instrument_source_str: [synthetic]}", "--data.keep_pitch", "[61, 84]"]
    recipe = ["--recipe", ROOT / "recipes" / f"{name}.yaml", *change]
    store, run = tmp_path / "store", tmp_path / "run"
    done = cli("prepare", sounds, *recipe, "--out", store)
    assert done.returncode == 0, done.stderr
    if name == "nsynth":
        assert "dropped 4: left out by data.keep_pitch, outside MIDI 61 ... 84" in done.stdout
        assert set(Store(store).column("split")) == {"train", "test_note"}
    done = trainer(*recipe, "--store", store, "--out", run, *TINY)
    assert done.returncode == 0, done.stderr
    model = SoundModel.from_pretrained(run)
    clip = model.sample(1)
    assert name != "drums16k" or model.controls["folder"].classes == ("kick", "snare")
    seconds = {"nsynth": 4.0, "loops16k": 2.048}.get(name, 1.02)
    assert clip.audio.shape[1] / clip.sample_rate == pytest.approx(seconds, abs=0.03)
    assert (run / "samples" / "step-00000002.png").is_file()


def test_the_recipe_of_the_vocoder_prepares_trains_and_copies(tmp_path, notes):
    recipe = ROOT / "recipes" / "vocoder16k.yaml"
    store, out = tmp_path / "store", tmp_path / "run"
    done = cli("prepare", notes, "--recipe", recipe, "--out", store)
    assert done.returncode == 0, done.stderr
    assert set(Store(store).column("split")) == {"train"}
    tiny = ["--vocoder.width", "16", "--vocoder.blocks", "1", "--train.steps", "2", "--train.batch_size", "4"]
    script = [sys.executable, ROOT / "recipes" / "train_vocoder.py", "--recipe", recipe]
    done = run([*map(str, script), "--store", str(store), "--out", str(out), *tiny])
    assert done.returncode == 0, done.stderr
    sound = next((notes / "audio").glob("*.wav"))
    done = cli("vocode", sound, "--vocoder", out, "--out", tmp_path / "copy.wav")
    assert done.returncode == 0, done.stderr
    assert soundfile.info(tmp_path / "copy.wav").frames == soundfile.info(sound).frames


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda p: p.stem)
def test_every_launch_file_is_one_that_accelerate_reads(path):
    config = load_config_from_file(str(path))
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "script.py"])
    assert arguments.config_file == str(path)
    several = path.stem != "one_gpu_bf16"
    assert str(config.distributed_type.value) == ("MULTI_GPU" if several else "NO")
    assert (config.num_processes > 1) is several and config.mixed_precision in ("no", "bf16")
    assert config.use_cpu is (path.stem == "two_cpu_processes")
    for page in (path, ROOT / "docs" / "training.md"):
        assert f"recipes/launch/{path.name}" in page.read_text()
