"""Clips a second and memory of the training options, each beside the default."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audio_vaegan.errors import Failure, UserError

OPTIONS: dict[str, list[str]] = {
    "default": [],
    "objective vae": ["--objective", "vae"],
    "objective vae_disl (second stage)": ["--objective", "vae_disl"],
    "objective gan": ["--objective", "gan"],
    "routing joint": ["--routing", "joint"],
    "lsgan": ["--loss.gan", "lsgan"],
    "nonsaturating": ["--loss.gan", "nonsaturating"],
    "wgan_gp": ["--loss.gan", "wgan_gp"],
    "mel mse": ["--loss.reconstruction", "mse"],
    "free bits": ["--loss.free_bits", "0.1"],
    "2 discriminator updates": ["--train.disc_updates", "2"],
    "discriminator every 2nd step": ["--train.disc_every", "2"],
    "attention, 4 heads": ["--model.attention_heads", "4"],
    "classes": ["--model.class_label", "CLASS"],
    "4 micro-batches": ["--train.accumulate", "4"],
    "growing, first stage": ["--train.growing", "1"],
    "bf16": ["--train.mixed_precision", "bf16"],
}


def bench_options(
    recipe: Path, store: Path, label: str | None, only: Sequence[str], steps: int, alone: Callable[..., Any]
) -> list[dict[str, Any]]:
    """Measure each option; `alone(work, *args)` does so in a process of its own. Returns one row each."""
    chosen = {n: words for n, words in OPTIONS.items() if not only or n in only or n == "default"}
    if label is None:
        if "classes" in only:
            raise UserError("--only classes needs --class-label")
        chosen.pop("classes", None)
    rows = []
    for name, words in tqdm(chosen.items(), desc="options", unit="option"):
        change = [label or "" if w == "CLASS" else w for w in words]
        try:
            found = alone(_measure, recipe, store, change, steps)
        except (UserError, Failure) as e:
            if name == "default":
                raise
            found = {"failed": str(e)}
        rows.append({"option": name} | found)
    return rows


def _measure(recipe_path: Path, store: Path, change: list[str], steps: int) -> dict[str, Any]:
    from audio_vaegan.data.store import Store
    from audio_vaegan.recipe import load_recipe
    from audio_vaegan.training.accelerator import make_accelerator
    from audio_vaegan.training.launch import measure_recipe

    recipe = load_recipe(recipe_path, change)
    early = recipe.train.growing > 0  # growing is measured where it differs: at the coarsest resolution
    found = measure_recipe(recipe, Store(store), make_accelerator(recipe), steps, early)
    return {
        "clips_per_second": round(recipe.train.batch_size / found["seconds"], 1),
        "memory_gib": round(found["memory"] / 2**30, 2),
        "gpu_memory_gib": round(found["gpu_memory"] / 2**30, 2),
        "parameters": sum(found["parameters"].values()),
    }


def options_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table, with the ratio to the default."""
    usual = rows[0].get("clips_per_second", float("nan"))
    lines = ["| option | clips/s | against default | memory (GiB) | parameters |", "|---|---|---|---|---|"]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['option']} | {row['failed']} | | | |")
            continue
        memory = row["gpu_memory_gib"] or row["memory_gib"]
        ratio = row["clips_per_second"] / usual
        lines.append(
            f"| {row['option']} | {row['clips_per_second']:.0f} | {ratio:.2f} | {memory:.2f} | {row['parameters']:,} |"
        )
    return "\n".join(lines)
