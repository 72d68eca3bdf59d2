"""A whole evaluation of one model: every figure, the report, and what its intervals were drawn from.

REPORT/report.html           to look at and listen to
       report.json           every figure
       draws.safetensors     resampled means of the figures, by which two reports are compared
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.balance import balance_of_store
from audio_vaegan.evaluation.bias import bias
from audio_vaegan.evaluation.compare import read_metrics
from audio_vaegan.evaluation.controls import evaluate_controls
from audio_vaegan.evaluation.embeddings import open_embedding
from audio_vaegan.evaluation.evaluate import CLIPS, Measured, evaluate
from audio_vaegan.evaluation.health import training_health
from audio_vaegan.evaluation.held import check_fits
from audio_vaegan.evaluation.identity import check_identity, same_instrument
from audio_vaegan.evaluation.methods import compare_methods
from audio_vaegan.evaluation.metrics import RESAMPLES
from audio_vaegan.evaluation.pitch import WITHIN, Judge, mean_draws
from audio_vaegan.evaluation.report import write_report
from audio_vaegan.evaluation.rungs import FEWEST, SOUNDS, TooFew, choose
from audio_vaegan.evaluation.sets import Draws, drawn, measure_sets
from audio_vaegan.evaluation.sweep import judged
from audio_vaegan.evaluation.trained_judge import default_folder, judge_of, load_judge
from audio_vaegan.files import check_out_folder, read_json, sha256_file
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.version import __version__

Say = Callable[[str], None]
DRAWS = "draws.safetensors"


@dataclass(frozen=True)
class Options:
    """What is measured, and on how many sounds."""

    clips: int = CLIPS  # a split, whose pitch pYIN judges
    samples: int = 128
    sounds: int = SOUNDS  # in each of the sets
    controls: bool = False
    methods: bool = False
    truncation: float = 1.0  # of the samples
    identity: str | None = None
    judge: Path | None = None
    embedding: str | None = None
    vocoder: str = "auto"

    def __post_init__(self) -> None:
        if min(self.clips, self.samples) < 1:
            raise UserError("--samples and --clips must be at least 1")
        if self.sounds < FEWEST:
            raise UserError(f"--sounds must be at least {FEWEST}")
        if not 0 <= self.truncation <= 2:
            raise UserError("--truncation must lie in 0 ... 2")
        if self.methods and not self.controls:
            raise UserError("--methods goes with --controls")

    def to_json(self) -> dict[str, Any]:
        return {k: str(v.resolve()) if isinstance(v, Path) else v for k, v in asdict(self).items()}


def assess(
    path: Path, store: Store, options: Options, out: Path, overwrite: bool = False, say: Say = print
) -> dict[str, Any]:
    """Measure a model on a store and write the report into the new folder `out`. Returns the figures."""
    model = SoundModel.from_pretrained(path, vocoder=options.vocoder)
    check_out_folder(out, "report", overwrite)
    check(model, store, options)
    embedding = open_embedding(options.embedding) if options.embedding else None
    try:
        choose(store, options.sounds)
        judge = judge_of(store, options.judge, say)
    except TooFew as e:
        say(f"no sets are compared: {e}")
        judge = None
    records = read_metrics(path)
    figures, measured = evaluate(model, store, options.clips, options.samples, options.truncation, say)
    draws, sets_picture = pitch_draws(measured), b""
    figures |= {"asked": options.to_json(), "version": __version__, "fitted": _fitted(model)}
    figures["judge"] = judge.about["hash"] if judge else None
    recipe = model.recipe
    figures["trained"] = {"objective": recipe.objective, "routing": recipe.routing, "controls": list(model.controls)}
    figures["trained"] |= {k: v for k, v in model.bundle.about.items() if k != "store"}
    if judge is not None:
        figures["sets"], own, sets_picture = measure_sets(
            model, store, judge, embedding, options.sounds, options.truncation, say
        )
        draws |= own
    figures["health"] = training_health(model, store, records)
    figures["bias"] = bias(balance_of_store(store, "train" if len(store.split("train")) else None), None)
    if options.controls:
        with Judge() as ears:
            few = options.clips
            figures["controls"] = evaluate_controls(model, store, clips=few, judge=ears, samples=options.samples)
            if options.methods:
                figures["methods"] = compare_methods(model, store, clips=few, judge=ears)
    if options.identity:
        figures["identity"] = same_instrument(model, store, options.identity, say=say)
    files = {DRAWS: save({k: v.astype(np.float32) for k, v in draws.items()})}
    write_report(model, store, figures, measured, out, records, files, sets_picture, overwrite)
    return figures


def check(model: SoundModel, store: Store, options: Options) -> None:
    """Raise UserError where something that is asked for cannot be measured, before any long work."""
    check_fits(model, store)
    if options.identity:
        check_identity(model, store, options.identity)
    if options.controls:
        if not judged(model) or not model.encodes:
            raise UserError("--controls: this model has no control that a meter can judge, or no encoder")
        if not len(store.split("test_instrument")):
            raise UserError(f"--controls: --store {store.path} has no instruments held out (split test_instrument)")


def assess_once(
    path: Path, store: Store, options: Options, out: Path, overwrite: bool = False, say: Say = print
) -> None:
    """`assess`, unless `out` already holds its report of this very model, store, judge and options. A report of
    something else is replaced with `overwrite` only."""
    if (out / "report.json").is_file():
        model = SoundModel.from_pretrained(path, vocoder=options.vocoder)
        try:
            there = read_report(out)[0]
        except UserError:
            there = {}
        own = options.judge or default_folder(store)
        wanted: dict[str, Any] = {"model_hash": model.hash, "vocoder": model.vocoder_title, "store": store.content_hash}
        wanted |= {"asked": options.to_json(), "version": __version__, "fitted": _fitted(model)}
        wanted |= {"judge": load_judge(own).about["hash"]} if own.exists() and there.get("judge") else {}
        different = [name for name, value in wanted.items() if there.get(name) != value]
        if not different:
            say(f"{out}: already there")
            return
        if not overwrite:
            raise UserError(
                f"--out {out}: a report of another {', '.join(different)}; add --overwrite, or another --out"
            )
    assess(path, store, options, out, overwrite=True, say=say)


def _fitted(model: SoundModel) -> str | None:
    """The hash of what fit-controls wrote beside the model: samples are drawn by it."""
    path = None if model.folder is None else model.folder / "controls.json"
    return sha256_file(path) if path is not None and path.is_file() else None


def pitch_draws(measured: dict[str, list[Measured]]) -> Draws:
    """Of each set of sounds the resampled share within 50 cents, in percent: `split/name/within` -> `[R]`."""
    draws: Draws = {}
    for split, lines in measured.items():
        for m in lines:
            if m.allowed.any():
                error = 100 * np.abs(np.nan_to_num(m.found - m.asked, nan=np.inf))[m.allowed]
                groups = np.asarray(m.groups)[m.allowed]
                draws[drawn(f"{split}/{m.name}/within", groups)] = mean_draws(
                    np.where(error <= WITHIN, 100.0, 0.0), groups, RESAMPLES
                )
    return draws


def read_report(folder: Path) -> tuple[dict[str, Any], Draws]:
    """The figures and the draws of a report. Raises UserError in one line if it is none."""
    figures = read_json(folder / "report.json", f"report {folder}")
    if not isinstance(figures, dict):
        raise UserError(f"report {folder}: report.json is damaged; evaluate that model again")
    try:
        return figures, load((folder / DRAWS).read_bytes())
    except (OSError, SafetensorError) as e:
        raise UserError(f"report {folder}: {DRAWS} cannot be read ({e}); evaluate that model again") from None
