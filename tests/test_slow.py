"""Minutes long: the README's first command and its figures, sudden deaths, and the wheel that users install."""

import json
import os
import signal
import subprocess
import sys
import time
import venv

import numpy as np
import psutil
import pytest
import torch
from conftest import LOOPBACK, ROOT, launch_command, run, train_command
from safetensors.torch import load_file

from audio_vaegan.training import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def test_the_quickstart_reaches_its_figures(tmp_path):
    command = [sys.executable, "-m", "audio_vaegan", "quickstart", "--out", str(tmp_path / "q")]
    done = run(command, timeout=2300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "listen:" in done.stdout and "audio-vaegan generate" in done.stdout
    figures = json.loads((tmp_path / "q" / "report" / "report.json").read_text())
    notes = figures["splits"]["test_note"]["pitch"]
    assert notes["reconstructed"]["within"] >= 90
    for shift in ("-7", "-3", "+3", "+7"):
        assert notes[f"edit {shift}"]["within"] >= 90, shift
    assert figures["samples"]["within"] >= 85
    assert len(list((tmp_path / "q" / "sounds").glob("*.wav"))) == 32
    again = run(command)
    assert again.returncode == 0 and again.stdout.count("already there") == 4


@pytest.mark.parametrize("objective", ["vaegan", "vae_disl"])
@pytest.mark.parametrize("processes", [1, 2])
def test_five_kills_at_random_steps_leave_the_same_bits(tmp_path, tiny_recipe, tiny_store, processes, objective):
    """SIGKILL to every process of the launch at five random moments, in both stages where there are two; the same
    command each time."""
    command = launch_command if processes == 2 else train_command
    words = ["--recipe", tiny_recipe, "--store", tiny_store, "--train.steps", "40", "--objective", objective]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(command(*words, "--out", whole), LOOPBACK).returncode == 0
    random = np.random.default_rng(processes)
    deaths = sorted(random.choice(np.arange(2, 39), 5, replace=False).tolist())
    for step in deaths:
        process = subprocess.Popen(
            command(*words, "--out", killed),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | LOOPBACK,
        )
        while _steps(killed) < step:
            assert process.poll() is None, f"ended before step {step}"
            time.sleep(0.002)
        everyone = [*psutil.Process(process.pid).children(recursive=True), process]  # ranks have sessions of their own
        for one in everyone:
            one.send_signal(signal.SIGKILL)
        for one in everyone:
            one.wait()
    assert run(command(*words, "--out", killed), LOOPBACK).returncode == 0
    a, b = (load_file(checkpoint.latest(r) / "state.safetensors") for r in (whole, killed))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert (whole / "bundle" / "vaegan.safetensors").read_bytes() == (
        killed / "bundle" / "vaegan.safetensors"
    ).read_bytes()


def _steps(run):
    """Steps recorded so far, in all stages."""
    files = [run / "metrics.jsonl", run / "gan" / "metrics.jsonl"]
    return sum(len(p.read_text().splitlines()) for p in files if p.exists())


def test_the_wheel_carries_recipes_notes_and_page(tmp_path):
    built = run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], timeout=600
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True, system_site_packages=False)
    python = tmp_path / "env" / "bin" / "python"
    installed = run([str(python), "-m", "pip", "install", "--no-deps", str(wheel)], timeout=600)
    assert installed.returncode == 0, installed.stderr
    # The wheel's own files, the dependencies from this environment.
    site = next(p for p in sys.path if p.endswith("site-packages"))
    code = (
        f"import sys; sys.path.append({site!r})\n"
        "import audio_vaegan\n"
        "from audio_vaegan.files import share\n"
        "print(audio_vaegan.__file__)\n"
        "assert (share('recipes') / 'quickstart.yaml').is_file() and (share('demo') / 'app.py').is_file()\n"
        "assert (share('recipes') / 'train_vaegan.py').is_file()\n"
        "from pathlib import Path\n"
        "from audio_vaegan.recipe import load_recipe\n"
        "from audio_vaegan.data.sources import find\n"
        "import audio_vaegan.data.page\n"
        "recipe = load_recipe(share('recipes') / 'quickstart.yaml')\n"
        "assert sum(f.refused is None for f in find([share('recipes') / 'notes'], recipe)) >= 600\n"
        "assert (share('recipes') / 'prepare.py').is_file()\n"
        "assert (share('recipes') / 'train_vocoder.py').is_file()\n"
        "from audio_vaegan.models.vocoder import open_vocoder\n"
        "assert open_vocoder('auto', recipe.mel).name == 'vocoder16k'\n"
        "import audio_vaegan.evaluation.vocoder\n"
        "page = Path(audio_vaegan.evaluation.vocoder.__file__).parent\n"
        "assert (page / 'vocoder.html.jinja').is_file() and (page / 'report.html.jinja').is_file()\n"
        "assert (Path(audio_vaegan.data.page.__file__).parent / 'page.html.jinja').is_file()\n"
    )
    done = run([str(python), "-I", "-c", code])  # not the checkout that the tests stand in
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "env") in done.stdout
