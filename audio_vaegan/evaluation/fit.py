"""What is fitted to a trained model on a store, and written beside it: the prior, the maps of the controls with their
errors and leakage, and directions for any label."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audio_vaegan.control.calibration import IDENTITY, Map, fit_map
from audio_vaegan.control.directions import METHODS, Direction, find_direction, principal_directions
from audio_vaegan.control.fitted import Calibration, Fitted, load_fitted, save_fitted
from audio_vaegan.control.layout import lay_out
from audio_vaegan.control.prior import LEAST, fit_prior
from audio_vaegan.control.usual import FEWEST
from audio_vaegan.data.store import Store
from audio_vaegan.descriptors import DESCRIPTORS, measure
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.evaluation.controls import control_figures
from audio_vaegan.evaluation.held import Held, Rows, check_fits, codes, pick
from audio_vaegan.evaluation.sweep import Meter, judged, listen, sweep
from audio_vaegan.models.bundle import bundle_folder, load_bundle, packaged_models
from audio_vaegan.models.level import READ
from audio_vaegan.models.vocoder import open_vocoder
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.fingerprints import TimbreMap, prints_of, save_fingerprints
from audio_vaegan.sound_model.scoring import learn_usual
from audio_vaegan.sound_model.sounds import Sound

CONFIRMED = 0.5  # semitones by which a decoded sound may differ from its label
MAP_STEPS = (-1.5, -0.75, 0.0, 0.75, 1.5)  # deviations around a clip's own value at which the map is measured
MOST_CODES = 20_000  # training clips that directions are fitted to
MOST_TRIED = 3000  # of them, for the prior, which keeps at most 1,500
MOST_HEARD, MOST_SCORED = 2048, 512  # training clips whose features, held-out ones whose scores are learned
MOST_ON_MAP = 800  # training clips on the map of timbres
COLOURED_BY = ("instrument_family_str", "folder", "label", "kit")  # labels, the first that the store has
BATCH = 256


def fit_controls(
    path: Path, store: Store, judge: Meter, clips: int = 48, vocoder: str = "auto", say: Callable[[str], None] = print
) -> Fitted:
    """Fit and measure, on at most `clips` clips a split, and write controls.json into the bundle.

    The prior is fitted to the codes of the training clips; the maps to clips of the split `test_note` (training clips
    if it is empty), and errors and leakage are measured on `test_instrument`, instruments that training never saw.
    Directions that were fitted before stay.
    """
    folder = _own_folder(path)
    bundle = load_bundle(folder)
    model = SoundModel(bundle, open_vocoder(vocoder, bundle.recipe.mel, folder))
    check_fits(model, store)
    if not model.encodes:
        raise UserError(f"{path}: a GAN has no encoder, so that no code of a real sound is known; nothing to fit")
    if bundle.about.get("store") not in (None, store.content_hash):
        say("note: not the store that it was trained on; its prior and its maps become those of these sounds")
    rows = pick(store, "train", MOST_CODES)
    fitted = Fitted(model.hash, directions=_kept(folder, model.hash), ceiling=_ceiling(model, store, rows))
    z = codes(model, store, rows)
    first = rows[(store.column("copy_of") == store.column("source"))[rows]]
    save_fingerprints(_prints(model, store, first), folder, model.hash, _map_of(model, store, rows, z))
    alike = _in_tune(model, store, rows, z, say)
    if len(alike) >= LEAST:
        classes = [k for k, c in enumerate(model.controls.values()) if c.classes]
        fitted = replace(fitted, prior=fit_prior(z[alike], len(model.controls), classes))
        say(f"prior: fitted to the codes of {len(alike)} of {len(rows)} training sounds")
    model.fitted = fitted
    apart = pick(store, "test_note", MOST_SCORED, fallback=True)
    if len(apart) >= FEWEST and len(rows) >= FEWEST:
        say(f"scoring {len(apart)} held-out sounds ...")
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_HEARD)).round().astype(np.int64)]
        learned, unheard = (torch.from_numpy(store.read(r)) for r in (some, apart))
        length = torch.from_numpy(store.column("length")[apart])
        fitted = replace(fitted, usual=learn_usual(model, learned, unheard, length))
    else:
        say(f"scores: left out; {FEWEST} clips of test_note are needed, there are {len(apart)} (data.test_notes)")
    names = judged(model)
    about: dict[str, Any] = {"store": store.content_hash, "vocoder": model.vocoder_title, "codes": len(rows)}
    if names:
        say(f"measuring {', '.join(names)} ...")
        at = pick(store, "test_note", clips, fallback=True)
        for_maps = Held(model, store, at)
        maps = {n: _map(model, for_maps, n, judge) for n in names}
        controls = {n: model.controls[n] for n in names}
        calibrations = {n: Calibration(c.unit, c.low, c.high, maps[n]) for n, c in controls.items()}
        model.fitted = replace(fitted, controls=calibrations)
        held = pick(store, "test_instrument", clips, fallback=True)
        about |= {"map_clips": len(at), "clips": len(held), "split": str(store.column("split")[held[0]])}
        sounds = Held(model, store, held)
        heard = listen(model, sounds, names, judge)
        loops = [sweep(model, sounds, names, judge, closed_loop=loop, heard=heard) for loop in (False, True)]
        calibrations = {n: _with_errors(c, *(control_figures(s, n) for s in loops)) for n, c in calibrations.items()}
        fitted = replace(fitted, controls=calibrations)
    fitted = replace(fitted, about=about)
    save_fitted(fitted, folder)
    return fitted


def _own_folder(path: Path) -> Path:
    """The folder of a bundle that is the user's to write into. Raises UserError for a name of the package."""
    folder = bundle_folder(path)
    if folder in packaged_models().values() and not path.exists():
        raise UserError(f"{path}: a model of the package stays as it is; copy {folder}, and fit the copy")
    return folder


def _in_tune(model: SoundModel, store: Store, rows: Rows, z: NDArray[np.float64], say: Callable[[str], None]) -> Rows:
    """Places of the training codes `z` `[N, C + D]` that samples shall be like: no copies of others, and of those with
    a pitch the ones that the model itself decodes to a sound of that pitch (others would make samples that sound at
    another pitch than asked)."""
    own = np.flatnonzero((store.column("copy_of") == store.column("source"))[rows])
    own = own[np.linspace(0, len(own) - 1, min(len(own), MOST_TRIED)).round().astype(np.int64)]
    if "pitch" not in model.controls or not np.isfinite(pitch := store.values("pitch")[rows[own]]).any():
        return own
    say(f"listening to {len(own)} training sounds as the model decodes them ...")
    latent = torch.from_numpy(z[own]).float()
    values = {n: c.value(latent[:, k]) for k, (n, c) in enumerate(model.controls.items())}
    whole = Sound(latent, values, torch.from_numpy(store.column("length")[rows[own]]))
    heard = []
    for i in range(0, len(own), BATCH):
        some = whole.rows(np.arange(i, min(i + BATCH, len(own))))
        audio = model.decode(some).audio
        heard.append(measure(audio, model.sample_rate, some.samples, ["pitch"])["pitch"].numpy())
    kept = own[~np.isfinite(pitch) | (np.abs(np.concatenate(heard) - pitch) < CONFIRMED)]
    return kept if len(kept) >= LEAST else own


def _ceiling(model: SoundModel, store: Store, rows: Rows) -> NDArray[np.float64] | None:
    """The most that each band lay above the mean of its frame in training clips, `[n_mels]` in normalised log-mel. Of
    sounds with a pitch none: their partials lie wherever one is asked for."""
    if "pitch" in model.controls:
        return None
    highest = torch.full((model.recipe.mel.n_mels,), -torch.inf)
    for some in np.array_split(rows, max(1, -(-len(rows) // BATCH))):
        mel = model.vaegan.normalise(model.log_mel(torch.from_numpy(store.read(some))))
        highest = highest.maximum((mel - mel.mean(dim=1, keepdim=True)).amax(dim=(0, 2)))
    return highest.double().numpy()


def _prints(model: SoundModel, store: Store, rows: Rows) -> NDArray[np.float32]:
    """Prints of training clips, by which copies of them are known; a clip that is a copy itself needs none."""
    parts = np.array_split(rows, max(1, -(-len(rows) // BATCH)))
    return np.concatenate([prints_of(torch.from_numpy(store.read(some)), model.mel).numpy() for some in parts])


def _map_of(model: SoundModel, store: Store, rows: Rows, z: NDArray[np.float64]) -> TimbreMap:
    """A map of some training clips by their timbre codes, coloured by a label that the store has."""
    some = np.linspace(0, len(rows) - 1, min(len(rows), MOST_ON_MAP)).round().astype(np.int64)
    known = store.label_names()
    label = next((n for n in (model.recipe.model.class_label, *COLOURED_BY) if n in known), "")
    labels = (
        tuple("" if v is None else str(v) for v in np.asarray(store.label(label), dtype=object)[rows[some]])
        if label
        else ()
    )
    place = lay_out(z[some, len(model.controls) :])
    return TimbreMap(torch.from_numpy(z[some]).float(), torch.from_numpy(place), label or "", labels)


def _kept(folder: Path, model_hash: str) -> dict[str, Direction]:
    """Directions that were fitted to this model before; none, if it was another."""
    try:
        found = load_fitted(folder, model_hash)
    except UserError:
        return {}
    return found.directions if found else {}


def _map(model: SoundModel, held: Held, name: str, judge: Meter) -> Map:
    """The map of one control from what was set and what was measured then, on clips whose label the meter confirms.
    Pitch needs none, the generator is built to have its harmonics where they are asked; nor does what a decoded sound
    is set to in closed form."""
    if name in ("pitch", "noisiness", *READ):
        return IDENTITY
    made = sweep(model, held, [name], judge, steps=MAP_STEPS)
    control, asked = made.heard.controls[name], made.requests[name]
    rows = made.heard.confirmed(name)[asked.clip]
    both = (asked.asked[rows], asked.found[name][rows])
    set_to, measured = (control.standard(torch.from_numpy(v)).numpy() for v in both)
    return fit_map(set_to, measured)


def _with_errors(c: Calibration, open_loop: dict[str, Any], closed: dict[str, Any]) -> Calibration:
    return replace(
        c,
        n=open_loop["n"],
        r=open_loop["r"]["value"],
        p50=open_loop["median"],
        p95=open_loop["p95"],
        closed_r=closed["r"]["value"],
        closed_p50=closed["median"],
        closed_p95=closed["p95"],
        monotone=open_loop["monotone"]["value"],
        leakage={name: leak["value"] for name, leak in open_loop["leakage"].items()},
    )


def describe(fitted: Fitted) -> str:
    """The calibration as text."""
    heads = ("r", "error P50", "P95", "closed: r", "P50", "P95", "monotone")
    lines = [f"{'control':12}{'range':>22}" + "".join(f"{h:>11}" for h in heads) + "  unit"]
    for name, c in fitted.controls.items():
        values = (c.r, c.p50, c.p95, c.closed_r, c.closed_p50, c.closed_p95, c.monotone)
        cells = "".join(f"{'-' if v is None else format(v, '.3g'):>11}" for v in values)
        lines.append(f"{name:12}{f'{c.low:.4g} ... {c.high:.4g}':>22}{cells}  {c.unit}")
    about = fitted.about
    if fitted.controls:
        lines.append(
            f"edits measured from the audio by independent meters, on {about['clips']} clips of {about['split']}; "
            f"maps from {about['map_clips']} others"
        )
    return "\n".join(lines)


def attribute_values(store: Store, name: str) -> NDArray[np.float64]:
    """An attribute of every clip, NaN where unknown: a descriptor, a label that is a number (any column of a user's
    table), or, for the name of a label's value or LABEL=VALUE, 1 where a clip has it and 0 where it has another."""
    if name in DESCRIPTORS:
        return store.values(name).astype(np.float64)
    labels = store.label_names()
    label, _, value = name.partition("=")
    if name in labels:
        try:
            return np.array([np.nan if v is None else float(v) for v in store.label(name)])
        except ValueError:
            found = sorted({v for v in store.label(name) if v is not None})
            raise UserError(
                f"--attribute {name}: its values are words; choose one: {', '.join(f'{name}={v}' for v in found[:8])}"
            ) from None
    having = [label] if value and label in labels else [n for n in labels if name in store.label(n)]
    wanted = value if value and label in labels else name
    if not having:
        known = [*DESCRIPTORS, *labels]
        raise UserError(
            f"--attribute {name}: no descriptor, label or value of a label in this store.{did_you_mean(name, known)} "
            f"Its labels: {', '.join(labels) or 'none'}"
        )
    if len(having) > 1:
        raise UserError(f"--attribute {name}: a value of {', '.join(having)}; say which: {having[0]}={name}")
    return np.array([np.nan if v is None else float(v == wanted) for v in store.label(having[0])])


def fit_directions(
    path: Path, store: Store, names: Sequence[str], method: str, components: int, say: Callable[[str], None] = print
) -> Fitted:
    """Fit a direction for each attribute, or `components` principal ones, and write them into the bundle. They move
    the timbre code alone, and hold the named controls."""
    folder = _own_folder(path)
    model = SoundModel.from_pretrained(folder)
    check_fits(model, store)
    if not model.encodes:
        raise UserError(f"{path}: a GAN has no encoder, so that no code of a real sound is known; nothing to fit")
    rows = pick(store, "train", MOST_CODES)
    z, count = codes(model, store, rows), len(model.controls)
    groups = store.column("group")[rows]
    full = np.nan_to_num(z)  # an undefined control stands at the mean
    free = np.arange(z.shape[1]) >= count
    others = {n: z[:, k] for k, (n, c) in enumerate(model.controls.items()) if not c.classes}
    found: dict[str, Direction] = {}
    for name in names:
        if name in model.controls:
            raise UserError(f"--attribute {name}: already a control of this model; edit it by its name")
        values = attribute_values(store, name)[rows]
        tried = {m: find_direction(full, values, name, others, m, groups, free) for m in METHODS}
        found[name] = tried[method]
        one = found[name]
        scale = "AUC" if one.binary else "r"
        say(
            f"{name}: readable with {scale} {one.score:.2f} on groups not fitted ({one.count} clips); one unit is "
            + ", ".join(f"{m} {np.linalg.norm(d.vector):.2f}" for m, d in tried.items())
            + " deviations of the timbre code"
        )
        if one.score < (0.7 if one.binary else 0.3):
            say(f"note: {name} can hardly be read from the codes of this model; expect little of the direction")
    if components:
        steps, shares = principal_directions(full[:, count:], components)
        for k, (step, share) in enumerate(zip(steps, shares, strict=True), 1):
            vector = np.concatenate([np.zeros(count), step])
            found[f"pc{k}"] = Direction(f"pc{k}", "pca", vector, -2.0, 2.0, False, float(share), len(full))
            say(f"pc{k}: {100 * share:.1f} % of the variance of the timbre codes; a unit is a standard deviation")
    fitted = model.fitted.with_directions(found)
    save_fitted(fitted, folder)
    return fitted
