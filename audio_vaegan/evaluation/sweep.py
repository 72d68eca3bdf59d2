"""Ask held-out clips for other values of each control, and let independent meters hear what came of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from audio_vaegan.descriptors.judge_controls import JUDGED
from audio_vaegan.evaluation.held import Held
from audio_vaegan.models.controls import Control
from audio_vaegan.sound_model import Sound, SoundModel

STEPS = (-1.0, -0.5, 0.5, 1.0)  # in standard deviations of the control
SEMITONES = (-7.0, -3.0, 3.0, 7.0)  # for pitch
BATCH = 32
CONFIRMED = 0.5  # deviations (pitch: semitones) within which the copy must have the label's value

Floats = NDArray[np.float64]
Values = dict[str, Floats]
Edit = Callable[[Sound, str, Tensor], Tensor]  # sounds, control, values in its unit [B] -> audio [B, samples]


class Meter(Protocol):
    """What measures controls: a `Judge`."""

    def measure_controls(
        self,
        audio: NDArray[np.float32],
        sample_rate: int,
        names: Sequence[str],
        lengths: NDArray[np.int64] | None = None,
        name: str = "judge",
        fine: bool = False,
    ) -> Values: ...


@dataclass(frozen=True)
class Heard:
    """Held-out clips before any edit: labels, and what the meters find, `[N]` each in the control's unit."""

    controls: dict[str, Control]  # those that are judged
    groups: NDArray[np.str_]
    own: Values  # labels of the store
    real: Values
    copy: Values
    plain: Values  # reconstructions

    def confirmed(self, name: str) -> NDArray[np.bool_]:
        """Clips on whose copy the meter finds the label."""
        away = standard(self.controls[name], self.copy[name]) - standard(self.controls[name], self.own[name])
        unit = self.controls[name].deviation if name == "pitch" else 1
        return np.nan_to_num(np.abs(away) * unit, nan=np.inf) <= CONFIRMED


@dataclass(frozen=True)
class Requests:
    """What was asked of one control, `[R]` each; a clip's requests stand together, ascending."""

    clip: NDArray[np.int64]
    asked: Floats  # in the unit
    found: Values  # every judged control of the outputs
    outside: float  # % of the steps that led out of the trained range, and were not asked


@dataclass(frozen=True)
class Sweep:
    """What came of asking each control, by one way of editing."""

    heard: Heard
    requests: dict[str, Requests]


def judged(model: SoundModel) -> list[str]:
    """The model's controls that the second meters can measure."""
    return [n for n in model.controls if n == "pitch" or n in JUDGED]


def listen(model: SoundModel, held: Held, names: Sequence[str], judge: Meter) -> Heard:
    """Judge the real clips, their copies through the vocoder and the plain reconstructions."""
    count = len(held.sound)
    rungs: dict[str, Callable[[Tensor], Tensor]] = {
        "real": lambda i: held.audio[i],
        "copy": lambda i: model.vocode(held.mel[i]),
        "plain": lambda i: model.decode(held.sound.rows(i)).audio,
    }
    found = {k: _judge(model, held, names, judge, np.arange(count), f, k) for k, f in rungs.items()}
    own = {n: held.sound.controls[n].double().numpy() for n in names}
    return Heard({n: model.controls[n] for n in names}, np.asarray(held.groups, dtype=np.str_), own, **found)


def sweep(
    model: SoundModel,
    held: Held,
    names: Sequence[str],
    judge: Meter,
    steps: Sequence[float] = STEPS,
    semitones: Sequence[float] = SEMITONES,
    closed_loop: bool = False,
    edit: Edit | None = None,
    heard: Heard | None = None,
    asked: Sequence[str] | None = None,
) -> Sweep:
    """Ask every clip that defines a control for its label plus each step, and judge all of `names` in the outputs.

    `steps` are in standard deviations, of pitch `semitones` in its unit; `edit` makes the audio (default: the model's
    own edit, with or without its closed loop); `heard` is what `listen` returned, if it was called before. `asked`
    leaves out some controls (default: all of `names` are asked for).
    """
    heard = heard or listen(model, held, names, judge)

    def own_edit(sound: Sound, name: str, values: Tensor) -> Tensor:
        return model.edit(sound, set={name: values}, closed_loop=closed_loop).audio

    make, requests = edit or own_edit, {}
    for name in names if asked is None else asked:
        control, own = model.controls[name], heard.own[name]
        step = np.sort(semitones) / control.deviation if name == "pitch" else np.sort(steps)
        target = unit(control, (standard(control, own)[:, None] + step).ravel())
        defined = np.isfinite(target)
        inside = np.flatnonzero(defined & (target >= control.low) & (target <= control.high))
        clip, wanted = inside // len(step), target[inside]
        values = torch.from_numpy(wanted).float()

        def audio(part: Tensor, name: str = name, clip: Any = clip, values: Tensor = values) -> Tensor:
            return make(held.sound.rows(clip[part.numpy()]), name, values[part])

        found = _judge(model, held, names, judge, clip, audio, f"ask {name}")
        outside = 100 * (1 - len(inside) / max(1, defined.sum())) if defined.any() else np.nan
        requests[name] = Requests(clip, wanted, found, float(outside))
    return Sweep(heard, requests)


def _judge(
    model: SoundModel,
    held: Held,
    names: Sequence[str],
    judge: Meter,
    clip: NDArray[np.int64],
    audio: Callable[[Tensor], Tensor],
    title: str,
) -> Values:
    """What the meters find in `audio(positions in clip)`, made and judged a batch at a time."""
    lengths, parts = held.sound.samples.numpy()[clip], []
    with tqdm(total=len(clip), desc=title, unit="clip", leave=False) as bar:
        for part in torch.arange(len(clip)).split(BATCH) if len(clip) else ():
            made, length = audio(part).numpy(), lengths[part.numpy()]
            parts.append(judge.measure_controls(made, model.sample_rate, names, length, name="", fine=True))
            bar.update(len(part))
    return {n: np.concatenate([np.zeros(0), *(p[n] for p in parts)]) for n in names}


def standard(control: Control, values: NDArray[np.floating]) -> Floats:
    return control.standard(torch.from_numpy(np.asarray(values, dtype=np.float64))).numpy()


def unit(control: Control, standard: Floats) -> Floats:
    return control.value(torch.from_numpy(np.asarray(standard, dtype=np.float64))).numpy()
