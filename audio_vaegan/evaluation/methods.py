"""Ways to move a control, side by side on one checkpoint: its named coordinate, and directions found after training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.control.directions import METHODS, find_direction, principal_directions
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.control_table import show
from audio_vaegan.evaluation.controls import clean, control_figures
from audio_vaegan.evaluation.held import Held, codes, pick
from audio_vaegan.evaluation.sweep import STEPS, Edit, Meter, judged, listen, sweep
from audio_vaegan.models.controls import Control
from audio_vaegan.sound_model import Sound, SoundModel

TITLES = {
    "open": "named coordinate, open loop",
    "closed": "named coordinate, closed loop",
    "joint": "joint regression",
    "svm": "projected SVM normal",
    "mean": "mean difference",
    "pca": "best principal component",
}
MOST = 2000  # training clips that directions are fitted to
FAR = 3.0  # deviations of a principal component: beyond, no code of a real sound lies
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """z + a * vector asks for a deviations more of a control, |a| at most `most`."""

    vector: Floats  # [Z]
    most: float = np.inf


def fit(
    z: Floats, names: Sequence[str], controls: Mapping[str, Control], groups: Sequence[str]
) -> dict[str, dict[str, Step | str]]:
    """method -> control -> its step, or why there is none, from codes `[N, C + D]`.

    The first C columns are `controls`; all of z may move. An undefined control counts as 0, the mean, where it is a
    coordinate, and as unknown where it is the attribute.
    """
    attributes = {n: z[:, k] for k, n in enumerate(controls)}
    filled = np.nan_to_num(z)
    found: dict[str, dict[str, Step | str]] = {method: {} for method in (*METHODS, "pca")}
    for name in names:
        others = {n: a for n, a in attributes.items() if n != name}
        for method in METHODS:
            try:
                vector = find_direction(filled, attributes[name], name, others, method, groups).vector
                found[method][name] = Step(vector)
            except UserError as e:
                found[method][name] = str(e)
        found["pca"][name] = _component(filled, attributes[name])
    return found


def _component(z: Floats, attribute: Floats) -> Step | str:
    """The principal component that goes with the attribute best, as far as its regression on the component says."""
    known = np.isfinite(attribute)
    if known.sum() < 3 or np.ptp(attribute[known]) < 1e-9:
        return "too few sounds that differ in it"
    steps = principal_directions(z)[0]
    variance = np.square(steps).sum(1)
    score = ((z - z.mean(0)) @ steps.T / np.maximum(variance, 1e-12))[known]  # in deviations of the component
    away, y = score - score.mean(0), attribute[known] - attribute[known].mean()
    slope = y @ away / np.maximum(np.square(away).sum(0), 1e-12)
    best = int(np.abs(slope * away.std(0)).argmax())  # of r, but for a factor
    if abs(slope[best]) < 1e-6:
        return "no component goes with it"
    return Step(steps[best] / slope[best], FAR * abs(float(slope[best])))


def along(model: SoundModel, steps: Mapping[str, Step]) -> Edit:
    """An edit that moves z along a control's step from the label to the value asked. Undefined controls stay so."""

    def edit(sound: Sound, name: str, values: Tensor) -> Tensor:
        control, step = model.controls[name], steps[name]
        amount = (control.standard(values) - control.standard(sound.controls[name])).clamp(-step.most, step.most)
        moved = sound.z + amount[:, None] * torch.from_numpy(step.vector).float()
        z = torch.where(sound.z.isnan(), sound.z, moved)  # NaN + x is NaN already; said, since decoding relies on it
        return model.decode(replace(sound, z=z)).audio

    return edit


def compare_methods(
    model: SoundModel,
    store: Store,
    names: Sequence[str] | None = None,
    clips: int | None = None,
    *,
    judge: Meter,
    split: str = "test_instrument",
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Error, correlation of the change, range, leakage and order of every method on the same clips, as JSON.

    Every method is asked for the label plus and minus a half and a whole deviation, pitch too. Directions are fitted to
    the codes of at most MOST training clips. `names`: the controls to ask for (default: all that have a meter); the
    leakage is heard in all of them. Raises UserError when the split has no clips.
    """
    names = judged(model) if names is None else names
    rows = pick(store, split, clips)
    if not len(rows):
        raise UserError(f"--store {store.path}: no clip in its split {split}")
    train = pick(store, "train", MOST)
    say(f"methods: directions from {len(train)} training clips ...")
    groups = store.column("group")[train].tolist()
    fitted = fit(codes(model, store, train), names, model.controls, groups)
    held = Held(model, store, rows)
    others = judged(model)
    heard = listen(model, held, others, judge)
    figures: dict[str, Any] = {"split": split, "clips": len(rows), "fitted_to": len(train), "methods": {}}
    for method in TITLES:
        say(f"methods: {TITLES[method]} ...")
        steps = {n: s for n, s in fitted.get(method, {}).items() if isinstance(s, Step)}
        reasons = {n: {"reason": s} for n, s in fitted.get(method, {}).items() if isinstance(s, str)}
        able = [n for n in names if n not in reasons]
        made = sweep(
            model,
            held,
            others,
            judge,
            semitones=[s * model.controls["pitch"].deviation for s in STEPS] if "pitch" in names else (),
            closed_loop=method == "closed",
            edit=along(model, steps) if method in fitted else None,
            heard=heard,
            asked=able,
        )
        figures["methods"][method] = {n: _row(control_figures(made, n)) for n in able} | reasons
    return clean(figures)


def _row(f: dict[str, Any]) -> dict[str, Any]:
    """The figures of the table; leakage is the mean over the other controls."""
    kept = ("n", "rejected", "unmeasurable", "outside", "error", "change_r", "range", "monotone")
    leaks = [leak["value"] for leak in f["leakage"].values() if leak["value"] is not None]
    return {k: f[k] for k in kept} | {"leakage": float(np.mean(leaks)) if leaks else None}


def table(figures: dict[str, Any]) -> str:
    """What `compare_methods` found, as text: a block a control, a line a method."""
    about = f"{figures['clips']} clips of {figures['split']}, directions from {figures['fitted_to']} training clips"
    heads = "".join(f"{h:>10}" for h in ("n", "|err| sd", "r chg", "range", "leakage", "monotone"))
    lines = [f"methods, {about}", f"{'':32}{heads}"]
    for name in next(iter(figures["methods"].values())):
        lines.append(name)
        for method, part in figures["methods"].items():
            f = part[name]
            if "reason" in f:
                lines.append(f"  {TITLES[method]:30}  {f['reason']}")
                continue
            cells = [str(f["n"]), show(f["error"]["value"], 3), show(f["change_r"]["value"], 3)]
            cells += [show(f["range"]["value"]), show(f["leakage"], 3), show(f["monotone"]["value"], 3)]
            lines.append(f"  {TITLES[method]:30}" + "".join(f"{c:>10}" for c in cells))
    return "\n".join(lines)
