"""An ablation: runs that differ in a few lines of their recipe, trained, measured and compared as one job."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from audio_vaegan.config import Recipe
from audio_vaegan.data.store import Store, check_mel
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.assess import Options
from audio_vaegan.evaluation.side_by_side import PICTURES, compare_runs, table
from audio_vaegan.files import alone, share, work_folder, write_atomic
from audio_vaegan.recipe import load_yaml, parse_recipe
from audio_vaegan.training.run_folder import check_same

KIND = "ablation"
RESULTS = "results"
INTERRUPTED = 130


def read_spec(path: Path) -> dict[str, Recipe]:
    """The recipes of an ablation by their names: `recipe`, with what each of `runs` says on top.

    Raises UserError in one line: not such a file, a name that is no plain word, a key or value that no recipe has.
    """
    spec = load_yaml(path, "SPEC")
    if set(spec) != {"recipe", "runs"} or not all(isinstance(part, dict) for part in spec.values()):
        raise UserError(f"SPEC {path}: needs `recipe:`, `runs:` (NAME: {{what differs}}), and nothing else")
    found = {}
    for name, own in spec["runs"].items():
        if not str(name).replace("_", "").replace("-", "").isalnum() or name in (RESULTS, PICTURES):
            raise UserError(f"SPEC {path}: run {name!r}: a name has letters, digits, _, -; not {RESULTS}, {PICTURES}")
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


def ablation(
    spec: Path,
    store_path: Path,
    out: Path,
    launch: Path | None = None,
    dry_run: bool = False,
    options: Options = Options(),  # noqa: B008 - frozen
) -> int:
    """Train the runs of a spec one after the other, evaluate (as `options` say) and compare them in the folder `out`.
    What is there already is not done again. Returns the exit code."""
    recipes, store = read_spec(spec), Store(store_path)
    for name, recipe in recipes.items():
        check_mel(store, recipe.mel, f"run {name}")
    if launch is not None and not launch.is_file():
        raise UserError(f"--launch {launch}: no such file")
    done = [name for name in recipes if (out / name / "bundle").exists()]
    for name in done:  # before hours are spent on the others
        check_same(out / name, recipes[name], {"store": store.content_hash})
    if dry_run:
        with tempfile.TemporaryDirectory() as folder:
            return next(
                filter(None, (_run(n, r, store_path, Path(folder), launch, True) for n, r in recipes.items())), 0
            )
    with alone(out.resolve(), KIND):
        work_folder(out, KIND)
        began = time.monotonic()
        for i, (name, recipe) in enumerate(recipes.items(), 1):
            print(f"\n== {i}/{len(recipes)} {name}", flush=True)
            if name in done:
                print(f"{out / name}: already there", flush=True)
                continue
            code = _run(name, recipe, store_path, out, launch)
            if code:
                print(f"ablation stopped (exit code {code}); the same command goes on from here", file=sys.stderr)
                return code
        print("\n== side by side", flush=True)
        found = compare_runs([out / name for name in recipes], store, options, out / RESULTS, overwrite=True)
    print(table(found))
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes; look: {out / RESULTS / 'compare.html'}")
    return 0


def _run(name: str, recipe: Recipe, store: Path, out: Path, launch: Path | None, dry_run: bool = False) -> int:
    """Train one run in processes of its own, by the recipe OUT/NAME.yaml. Ctrl-C is theirs to handle; this process
    waits. Returns the exit code; 130 after Ctrl-C, however far they came."""
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    write_atomic(out / f"{name}.yaml", text)
    script = str(share("recipes") / "train_vaegan.py")
    launcher = ["-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(launch)]
    command = [sys.executable, *([] if launch is None else launcher), script]
    command += ["--recipe", str(out / f"{name}.yaml"), "--store", str(store), "--out", str(out / name)]
    pressed: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        code = subprocess.run([*command, *(["--dry-run"] if dry_run else [])], check=False).returncode
    finally:
        signal.signal(signal.SIGINT, handler)
    return INTERRUPTED if pressed else code
