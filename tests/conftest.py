"""Sounds of known value, a tiny store and a tiny trained run, and real processes to run things in."""

import atexit
import contextlib
import functools
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from preloaded import Preloaded

# Several workers share the cores; more threads than cores would spin. Set before torch is loaded, and inherited.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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


def pytest_configure(config: pytest.Config) -> None:
    """Before the workers start, so that they find librosa compiled."""
    if not hasattr(config, "workerinput"):
        from audio_vaegan.descriptors import load_librosa

        load_librosa()


LONGEST = ("distributed", "training", "browser", "vocoder", "growth", "dataset", "full_disk", "prepare", "hostile")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker is left with one of them when the others have ended."""
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


FAULTS = {
    "kills": "kill -9",
    "full": "a full disk",
    "read_only": "a disk that cannot be written",
    "spoilt": "spoilt files",
    "fuzzed": "mutated files",
}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many faults the tests of this run have injected, and how many lost data or ended in a traceback: those whose
    test failed."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])]
    for name, words in FAULTS.items():
        counts = [value for r in reports for key, value in r.user_properties if key == name and r.when == "call"]
        if counts:
            terminalreporter.write_line(f"faults injected: {words} {sum(counts)}")
    lost = [r.nodeid for r in terminalreporter.stats.get("failed", []) if "lose" in r.nodeid or "spoilt" in r.nodeid]
    if lost:
        terminalreporter.write_line(f"faults that lost something: {len(lost)}")


def cli(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a verb, in this process: starting one takes longer than most verbs do."""
    from audio_vaegan.cli import main

    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained), warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        try:
            code = main([*map(str, words)])
        except SystemExit as e:  # --help
            code = int(e.code or 0)
    return subprocess.CompletedProcess([*map(str, words)], code, said.getvalue(), complained.getvalue())


def cli_process(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a verb in a process of its own, as a user does."""
    return run([sys.executable, "-m", "audio_vaegan", *map(str, words)], env)


def trainer(
    *words: object, script: str = "train_vaegan", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a training script in a process of its own, which costs no start-up unless it wants another environment."""
    command = [script, *map(str, words)]
    if env:
        return run(train_command(*words, script=script), env)
    end = preloader().run(command)
    return subprocess.CompletedProcess(command, end.code, end.out, end.err)


def train_command(*words: object, script: str = "train_vaegan") -> list[str]:
    return [sys.executable, str(ROOT / "recipes" / f"{script}.py"), *map(str, words)]


@functools.cache
def preloader() -> Preloaded:
    folder = tempfile.TemporaryDirectory()
    server = Preloaded(Path(folder.name))
    atexit.register(folder.cleanup)
    atexit.register(server.close)
    return server


@pytest.fixture(scope="session")
def preloaded() -> Preloaded:
    """Commands in processes of their own that cost no start-up, and can be killed at a given change to a file."""
    return preloader()


def launch_command(*words: object, script: str = "train_vaegan") -> list[str]:
    """A script of the recipes through `accelerate launch` with the launch file for two CPU processes (gloo)."""
    file = ROOT / "recipes" / "launch" / "two_cpu_processes.yaml"
    path = ROOT / "recipes" / f"{script}.py"
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", *map(str, (file, path, *words))]


def launched(*words: object, script: str = "train_vaegan") -> subprocess.CompletedProcess[str]:
    return run(launch_command(*words, script=script), LOOPBACK)


def ranks(
    *words: object, processes: int = 2, hashes: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A training script in several processes, through `ranks.py`: with faults, or hashes of what each ends with."""
    command = launch_command(*words)
    place = command.index("--config_file")
    command[place + 2] = str(ROOT / "tests" / "ranks.py")
    command[place:place] = ["--num_processes", str(processes)]
    found = {"HASHES": str(hashes)} if hashes else {}
    return run(command, LOOPBACK | {"PYTHONPATH": str(ROOT)} | found | (env or {}))


LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform.startswith("linux") else {}


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


@pytest.fixture
def mistake(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a verb, or with `train` the training script, says to a mistake: its one line.

    In this process, where starting up takes no time; `one_line(cli(...))` is the same in a process of its own.
    """

    def say(*words: object, train: bool = False) -> str:
        from audio_vaegan.cli import main, train_vaegan

        assert (train_vaegan if train else main)([*map(str, words)]) == 2
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
        assert line.startswith("error: ")
        return line

    return say


@pytest.fixture
def make_task(tiny_recipe: Path, tiny_store: Path) -> Callable[..., Any]:
    """Builds the task of the tiny recipe, changed by overrides; the discriminator judges from the first step."""
    from audio_vaegan.data.store import Store
    from audio_vaegan.recipe import load_recipe
    from audio_vaegan.training.accelerator import make_accelerator
    from audio_vaegan.training.vaegan import VaeGanTask

    def make(*overrides: str, similarity: Any = None) -> VaeGanTask:
        # Without weight decay: it moves weights that no gradient reaches.
        usual = ["--loss.adversarial_start", "0", "--train.warmup_steps", "0", "--train.weight_decay", "0"]
        recipe = load_recipe(tiny_recipe, [*usual, *overrides])
        return VaeGanTask(recipe, Store(tiny_store), make_accelerator(recipe), similarity)

    return make


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty labelled tones of four instruments in NSynth layout; some are shorter than the tiny clip."""
    root = tmp_path_factory.mktemp("notes")
    (root / "audio").mkdir()
    entries = {}
    for instrument in range(4):
        for pitch in range(60, 70):
            name = f"organ_synthetic_{instrument:03d}-{pitch:03d}-100"
            harmonics = (1, 3, 6, 12)[instrument]  # far enough apart not to count as copies of one sound
            audio = tone(pitch, 0.512 if pitch % 2 else 0.3, harmonics, decay=6 * instrument)
            soundfile.write(root / "audio" / f"{name}.wav", audio, RATE, subtype="PCM_16")
            entries[name] = {"instrument_str": name.split("-")[0], "pitch": pitch, "velocity": 100}
            entries[name] |= {"instrument_family_str": "organ", "instrument_source_str": "synthetic"}
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
