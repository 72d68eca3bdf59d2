"""A run's folder: whose it is, and its metrics.

RUN/run.json        recipe, and the hash of the store
    metrics.jsonl   one record a line
    checkpoints/    the last few and the best
    samples/        pictures and sounds on the way
    trackers/       what TensorBoard reads
    bundle/ best/   the model after the last step, and the one with the best validation figure
"""

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from pydantic import ValidationError

from audio_vaegan.config import FREE, Recipe
from audio_vaegan.errors import UserError
from audio_vaegan.files import mark, read_json, recover, sweep, write_atomic, write_json

MADE_OF = {  # what decides a run besides the recipe, and how it is called
    "kind": "what is trained: a vocoder or a VAE-GAN",
    "store": "the store's content",
    "decoder": "the model of --on-decoded",
    "start": "what --start-from names",
}


def claim(run: Path, recipe: Recipe, made_of: dict[str, str], accelerator: Accelerator) -> None:
    """Make the run folder, or check that it belongs to the same recipe, and to the same things by hash."""
    mine = {"recipe": recipe.model_dump(mode="json"), **made_of}
    if (run / "run.json").exists():
        check_same(run, recipe, made_of)
    elif run.exists() and (not run.is_dir() or any(not p.name.startswith(".") for p in run.iterdir())):
        raise UserError(f"--out {run}: exists and is not a run folder; choose another name")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        models = (run / "bundle", run / "best")
        for folder in models:
            recover(folder, "bundle")
        for folder in (run, run / "samples", *models):
            sweep(folder)
    if accelerator.is_main_process and not (run / "run.json").exists():
        run.mkdir(parents=True, exist_ok=True)
        mark(run, "run")
        write_json(run / "run.json", mine)
    accelerator.wait_for_everyone()


def check_same(run: Path, recipe: Recipe, made_of: dict[str, str]) -> None:
    """Raise UserError that says what differs, if a run that is there is of another recipe (but for FREE), or of other
    things by hash."""
    theirs: Any = read_json(run / "run.json", "--out")
    if not isinstance(theirs, dict) or not isinstance(theirs.get("recipe"), dict):
        raise UserError(f"--out {run}: damaged (run.json); choose another --out")
    known, mine = _whole(theirs["recipe"]), recipe.model_dump(mode="json")
    differences = [text for key, text in _differences(known, mine) if key not in FREE]
    differences += [words for key, words in MADE_OF.items() if theirs.get(key) != made_of.get(key)]
    if differences:
        raise UserError(
            f"--out {run}: was trained with another recipe ({'; '.join(differences)}); choose another --out"
        )


def _whole(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe with the defaults of keys that came after it was written."""
    try:
        return Recipe.model_validate(recipe).model_dump(mode="json")
    except ValidationError:
        return recipe


def _differences(a: Any, b: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [d for k in keys for d in _differences(a.get(k), b.get(k), f"{path}.{k}".lstrip("."))]
    return [] if a == b else [(path, f"{path}: {a} != {b}")]


class Log:
    """`metrics.jsonl`, one line a record; lines that a resumed run will write again are dropped first."""

    def __init__(self, path: Path, start: int) -> None:
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    continue  # the line that a sudden death cut short
                if record["step"] <= start:
                    kept.append(line)
        write_atomic(path, "".join(line + "\n" for line in kept))
        self.file = path.open("a", buffering=1)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, record: dict[str, Any]) -> None:
        self.file.write(json.dumps(record) + "\n")
