"""An ablation: runs that differ in a few lines of their recipe, trained, measured and compared as one job."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from audio_vaegan.config import Recipe
from audio_vaegan.data.store import Store, check_mel
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.assess import Options
from audio_vaegan.evaluation.side_by_side import compare_runs, table
from audio_vaegan.files import MARK, check_out_folder, kind_of, mark, share, write_atomic
from audio_vaegan.recipe import load_yaml, parse_recipe

KIND = "ablation"
RESULTS = "results"


def read_spec(path: Path) -> dict[str, Recipe]:
    """The recipes of an ablation by their names: `recipe`, with what each of `runs` says on top.

    Raises UserError in one line: not such a file, a name that is no plain word, a key or value that no recipe has.
    """
    spec = load_yaml(path, "SPEC")
    if set(spec) != {"recipe", "runs"} or not all(isinstance(part, dict) for part in spec.values()):
        raise UserError(f"SPEC {path}: needs `recipe:`, `runs:` (NAME: {{what differs}}), and nothing else")
    found = {}
    for name, own in spec["runs"].items():
        if not str(name).replace("_", "").replace("-", "").isalnum() or str(name) == RESULTS:
            raise UserError(f"SPEC {path}: run {name!r}: a name has letters, digits, _ and - (and is not {RESULTS})")
        if not isinstance(own, dict | None):
            raise UserError(f"SPEC {path}: run {name}: expected `key: value` lines")
        found[str(name)] = parse_recipe(_merge(spec["recipe"], own or {}) | {"name": str(name)}, f"{path}, run {name}")
    if len(found) < 2:
        raise UserError(f"SPEC {path}: needs two runs or more, to compare")
    return found


def _merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`base` with what `own` says on top, section by section."""
    both = dict(base)
    for key, value in own.items():
        there = both.get(key)
        both[key] = _merge(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return both


def ablation(spec: Path, store_path: Path, out: Path, launch: Path | None = None, dry_run: bool = False) -> int:
    """Train the runs of a spec one after the other, evaluate and compare them in the folder `out`. What is there
    already is not done again. Returns the exit code."""
    recipes, store = read_spec(spec), Store(store_path)
    for name, recipe in recipes.items():
        check_mel(store, recipe.mel, f"run {name}")
    if launch is not None and not launch.is_file():
        raise UserError(f"--launch {launch}: no such file")
    if not (out / MARK).exists():
        check_out_folder(out, KIND)
    elif kind_of(out) != KIND:
        raise UserError(f"--out {out}: a folder of another kind ({kind_of(out)}, not {KIND}); choose another name")
    out.mkdir(parents=True, exist_ok=True)
    mark(out, KIND)
    began = time.monotonic()
    for i, (name, recipe) in enumerate(recipes.items(), 1):
        print(f"\n== {i}/{len(recipes)} {name}", flush=True)
        if (out / name / "bundle").exists() and not dry_run:
            print(f"{out / name}: already there", flush=True)  # a run of another recipe is found out by its report
            _check_same(out / f"{name}.yaml", recipe)
            continue
        write_atomic(out / f"{name}.yaml", _text(recipe))
        code = _train(out / f"{name}.yaml", store_path, out / name, launch, dry_run)
        if code:
            print(f"ablation stopped (exit code {code}); the same command goes on from here", file=sys.stderr)
            return code
    if dry_run:
        return 0
    print("\n== side by side", flush=True)
    found = compare_runs([out / name for name in recipes], store, Options(), out / RESULTS)
    print(table(found))
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes; look: {out / RESULTS / 'compare.html'}")
    return 0


def _text(recipe: Recipe) -> str:
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _check_same(path: Path, recipe: Recipe) -> None:
    """Raise UserError when a run that is there was trained by another recipe."""
    if not path.is_file() or path.read_text(encoding="utf-8") != _text(recipe):
        raise UserError(f"{path}: that run was trained by another recipe; give another --out")


def _train(recipe: Path, store: Path, run: Path, launch: Path | None, dry_run: bool) -> int:
    """Train one run in processes of its own. Ctrl-C is theirs to handle; this process waits."""
    script = str(share("recipes") / "train_vaegan.py")
    with_accelerate = [
        sys.executable,
        "-m",
        "accelerate.commands.accelerate_cli",
        "launch",
        "--config_file",
        str(launch),
    ]
    command = [sys.executable] if launch is None else with_accelerate
    command += [script, "--recipe", str(recipe), "--store", str(store), "--out", str(run)]
    handler = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run([*command, *(["--dry-run"] if dry_run else [])], check=False).returncode
    finally:
        signal.signal(signal.SIGINT, handler)
