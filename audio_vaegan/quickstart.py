"""The main job from recorded notes to sounds, as the commands that a user would type."""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from audio_vaegan.files import share, work_folder

PITCHES = ("48", "52", "55", "60", "64", "67", "72", "74")


def quickstart(out: Path) -> int:
    """Prepare, train, generate and report on the bundled notes in the folder `out`. Returns the exit code."""
    work_folder(out, "quickstart")
    recipes = share("recipes")
    recipe = str(recipes / "quickstart.yaml")
    store, run, sounds, report = (str(out / n) for n in ("store", "run", "sounds", "report"))
    steps: list[tuple[str, list[str], Path]] = [
        (
            "1/5 prepare the bundled notes",
            _verb("prepare", str(recipes / "notes"), "--recipe", recipe, "--out", store),
            out / "store",
        ),
        (
            "2/5 train the VAE-GAN (six to nine minutes on two cores; Ctrl-C stops it, the same command goes on)",
            [
                sys.executable,
                str(recipes / "train_vaegan.py"),
                "--recipe",
                recipe,
                "--store",
                store,
                "--out",
                run,
            ],
            out / "run" / "bundle",
        ),
        (
            "3/5 fit the controls: prior, calibration, leakage",
            _verb("fit-controls", run, "--store", store, "--clips", "16"),
            out / "run" / "bundle" / "controls.json",
        ),
        (
            "4/5 generate 32 sounds at asked pitches",
            _verb("generate", run, "--count", "32", "--pitch", *PITCHES, "--seed", "7", "--out", sounds),
            out / "sounds",
        ),
        (
            "5/5 measure, and write the report",
            _verb("evaluate", run, "--store", store, "--out", report),
            out / "report",
        ),
    ]
    began = time.monotonic()
    for title, command, result in steps:
        print(f"\n== {title}", flush=True)
        if result.exists():
            print(f"{result}: already there", flush=True)
            continue
        print("$ " + _shown(command), flush=True)
        code = _run(command)
        if code:
            print(f"quickstart stopped (exit code {code}); the same command goes on from here", file=sys.stderr)
            return code
    print(
        f"""
Done in {(time.monotonic() - began) / 60:.1f} minutes.
  look:   {out / "report" / "report.html"}   (open it in a browser: pictures, players, measured pitch)
  listen: {out / "sounds"}
Next:
  audio-vaegan generate {run} --count 8 --pitch 60 --brightness 10:20 --seed 1 --out more
  audio-vaegan edit {run} YOUR.wav --pitch +7 --brightness -5 --closed-loop --out up.wav
  audio-vaegan evaluate {run} --store {store} --controls --out controls-report
  audio-vaegan demo {run}
  audio-vaegan prepare YOUR_FOLDER --recipe {recipe} --out my-store
"""
    )
    return 0


def _verb(*words: str) -> list[str]:
    return [sys.executable, "-m", "audio_vaegan", *words]


def _shown(command: Sequence[str]) -> str:
    words = list(command)
    words = ["audio-vaegan", *words[3:]] if words[1] == "-m" else ["python", *words[1:]]
    return shlex.join(words)


def _run(command: Sequence[str]) -> int:
    """Run a step. Ctrl-C is the step's to handle: it reaches the whole process group, and this process waits."""
    handler = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, handler)
