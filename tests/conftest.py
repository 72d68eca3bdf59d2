"""Sounds of known value, a tiny store and a tiny trained run, and real processes to run things in."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parent.parent
RATE = 16000

TINY = """
name: tiny
seed: 1
mel: {preset: notes-16k-128, n_mels: 32}
data: {clip_samples: 8192, test_instruments: 0.25, test_notes: 0.1}
model:
  {timbre_dim: 8, width: 24, encoder_blocks: 3, generator_blocks: 2, head_blocks: 1, disc_channels: [4, 8]}
train: {steps: 12, batch_size: 8, checkpoint_every: 4, log_every: 1, warmup_steps: 2}
"""


def tone(midi: float, seconds: float = 0.5, harmonics: int = 6, decay: float = 0.0, rate: int = RATE) -> np.ndarray:
    """A harmonic tone of known pitch, amplitudes 1/k, peak 0.5."""
    t = np.arange(round(seconds * rate)) / rate
    hz = 440 * 2 ** ((midi - 69) / 12)
    x = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, harmonics + 1) if hz * k < rate / 2)
    x = x * np.exp(-decay * t)
    return (0.5 * x / np.abs(x).max()).astype(np.float32)


def cli(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a verb in a process of its own, as a user does."""
    command = [sys.executable, "-m", "audio_vaegan.cli", *map(str, words)]
    return run(command, env)


def trainer(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return run(train_command(*words), env)


def train_command(*words: object) -> list[str]:
    return [sys.executable, str(ROOT / "recipes" / "train_vaegan.py"), *map(str, words)]


def launched(processes: int, *words: object) -> subprocess.CompletedProcess[str]:
    """The training script through `accelerate launch` on CPU processes (gloo)."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", f"--num_processes={processes}",
        "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0",
        str(ROOT / "recipes" / "train_vaegan.py"), *map(str, words),
    ]  # fmt: skip
    return run(command, {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"} | _loopback())


def _loopback() -> dict[str, str]:
    return {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform.startswith("linux") else {}


def run(
    command: list[str], env: dict[str, str] | None = None, timeout: float = 200
) -> subprocess.CompletedProcess[str]:
    full = os.environ | {"CUDA_VISIBLE_DEVICES": ""} | (env or {})
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=full, check=False)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The single line of a user's mistake; fails on anything else."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty labelled tones of four instruments in NSynth layout; some are shorter than the tiny clip."""
    root = tmp_path_factory.mktemp("notes")
    (root / "audio").mkdir()
    entries = {}
    for instrument in range(4):
        for pitch in range(60, 70):
            name = f"organ_synthetic_{instrument:03d}-{pitch:03d}-100"
            audio = tone(pitch, 0.512 if pitch % 2 else 0.3, harmonics=2 + 2 * instrument, decay=instrument)
            soundfile.write(root / "audio" / f"{name}.wav", audio, RATE, subtype="PCM_16")
            entries[name] = {"instrument_str": name.split("-")[0], "pitch": pitch, "velocity": 100}
    (root / "examples.json").write_text(json.dumps(entries))
    return root


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory, notes: Path, tiny_recipe: Path) -> Path:
    out = tmp_path_factory.mktemp("store") / "store"
    done = cli("prepare", notes, "--recipe", tiny_recipe, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Path, tiny_store: Path) -> Path:
    """A run of twelve steps, never stopped."""
    out = tmp_path_factory.mktemp("run") / "run"
    done = trainer("--recipe", tiny_recipe, "--store", tiny_store, "--out", out)
    assert done.returncode == 0, done.stderr
    return out
