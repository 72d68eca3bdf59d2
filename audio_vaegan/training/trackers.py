"""TensorBoard and the other trackers that Accelerate knows, beside `metrics.jsonl`."""

from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from matplotlib.image import imread

from audio_vaegan.audio import read
from audio_vaegan.config import Recipe


class Trackers:
    """The recipe's `train.trackers`. All get the figures; TensorBoard also gets the pictures and sounds."""

    def __init__(self, accelerator: Accelerator, recipe: Recipe, start: int) -> None:
        self.accelerator, self.names, self.rate = accelerator, recipe.train.trackers, recipe.mel.sample_rate
        if self.names:
            # Steps that a resumed run does again replace those that TensorBoard has seen.
            purge = {"tensorboard": {"purge_step": start + 1}} if "tensorboard" in self.names else {}
            accelerator.init_trackers(recipe.name, _flat(recipe.model_dump(mode="json")), init_kwargs=purge)

    def log(self, record: dict[str, Any], step: int) -> None:
        if self.names:
            self.accelerator.log({k: v for k, v in record.items() if isinstance(v, float)}, step=step)

    def close(self) -> None:
        """End them: a second stage starts its own."""
        for tracker in self.accelerator.trackers if self.names else ():
            tracker.finish()
        self.accelerator.trackers = []

    def show(self, folder: Path, step: int) -> None:
        """Hand TensorBoard the picture and the sounds that were written for a step."""
        if "tensorboard" not in self.names or not self.accelerator.is_main_process:
            return
        writer = self.accelerator.get_tracker("tensorboard", unwrap=True)
        for path in sorted(folder.glob(f"step-{step:08d}*.png")):
            writer.add_image("samples", imread(path)[..., :3], step, dataformats="HWC")
        for number, path in enumerate(sorted(folder.glob(f"step-{step:08d}*.wav"))):
            audio, _ = read(path, self.rate)
            writer.add_audio(f"sample-{number}", np.asarray(audio)[None], step, sample_rate=self.rate)


def _flat(tree: dict[str, Any], path: str = "") -> dict[str, str | float | int | bool]:
    """The recipe as `{"train.steps": 1200, ...}` of plain values, which every tracker takes."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{path}{key}.")
        else:
            found[path + key] = value if isinstance(value, str | float | int | bool) else str(value)
    return found
