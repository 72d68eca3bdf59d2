"""The verbs that measure: `evaluate`, `compare`, `ablation` and their kin. Heavy imports wait."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audio_vaegan.arguments import MODEL, USES, out_words, say, vocoder_words
from audio_vaegan.errors import UserError

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add(verb: Verb) -> None:
    """Add the verbs to the command line."""
    p = verb("train-judge", train_judge, "train the small network that evaluate hears with, on real sounds alone")
    p.add_argument("store", type=Path, help="folder made by prepare")
    p.add_argument(
        "--label", help="the label that names instruments; instrument_str, instrument, class or folder if left out"
    )
    p.add_argument("--steps", type=int, help="of 64 sounds; default 1000, but each sound at most 128 times")
    p.add_argument("--seed", type=int, default=0, help="same seed, same judge")
    p.add_argument("--out", type=Path, help="a new folder (default: STORE.judge, where evaluate looks)")
    p.add_argument("--overwrite", action="store_true", help="replace a judge that is there")

    p = verb(
        "evaluate",
        evaluate,
        "measure a model on held-out sounds, and write a report with pictures and players",
    )
    p.add_argument("model", type=Path, nargs="?", help=MODEL)
    p.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="instead of MODEL: runs side by side, "
        "differences from the first with their intervals; goes on where it was stopped",
    )
    p.add_argument("--store", type=Path, required=True, help="folder made by prepare")
    _amounts(p)
    p.add_argument("--truncation", type=float, default=1.0, help="of the samples: less is safer and less varied")
    p.add_argument("--judge", type=Path, help="folder made by train-judge (default: STORE.judge, trained if not there)")
    p.add_argument(
        "--embedding",
        metavar="KIND:PATH",
        help="for KAD, FAD and the like instead of the judge's: your own "
        "weights, clap:FOLDER, panns:FILE or vggish:FILE",
    )
    p.add_argument("--controls", action="store_true", help="also every control: error, leakage, range, open and closed")
    p.add_argument("--methods", action="store_true", help="with --controls: against directions fitted after training")
    p.add_argument(
        "--identity", metavar="LABEL", help="also whether notes at other pitches keep it, like instrument_str"
    )
    vocoder_words(p)
    out_words(p, "a new folder: report.html, report.json, audio/")

    p = verb("evaluate-uses", evaluate_uses, "what else a model is good for, each beside the obvious baseline")
    p.add_argument("model", type=Path, help=MODEL)
    p.add_argument("--store", type=Path, required=True, help="folder made by prepare, with sources held out")
    p.add_argument("--uses", nargs="+", choices=USES, default=USES, help="which of them")
    p.add_argument("--clips", type=int, default=128, help="at most so many held-out clips each")
    p.add_argument("--label", default="instrument_family_str", help="the classes of few labels")
    p.add_argument("--odd", nargs="+", default=(), metavar="NAME=FOLDER", help="odd sounds, to be told apart")
    p.add_argument("--judge", type=Path, help="folder made by train-judge (default: STORE.judge, trained if not there)")
    out_words(p, "a new folder: uses.json, uses.md")

    p = verb("showcase", showcase, "a dozen short sounds and a picture: what a model does with a sound of yours")
    p.add_argument("model", type=Path, help=MODEL)
    p.add_argument("first", type=Path, help="a sound file: copied, reconstructed, changed")
    p.add_argument("second", type=Path, help="another: where the morph ends")
    p.add_argument("--seed", type=int, default=0, help="of the new sounds")
    vocoder_words(p)
    out_words(p, "a new folder of OGG files, and sounds.png")

    p = verb("bias", bias, "what a store is made of, by class, pitch, loudness, duration; a generated set beside it")
    p.add_argument("store", type=Path, help="folder made by prepare")
    p.add_argument("--dataset", type=Path, help="a generated data set (layout audiofolder)")
    p.add_argument("--label", help="the label that names classes")
    p.add_argument("--split", choices=("train", "test_instrument", "test_note"), help="of the store (default: all)")
    out_words(p, "a new folder: bias.html, bias.json")

    p = verb("ablation", ablation, "train, measure and compare the runs that a YAML file lists")
    p.add_argument("spec", type=Path, help="like recipes/ablation.yaml")
    p.add_argument("--store", type=Path, required=True, help="folder made by prepare")
    _amounts(p)
    p.add_argument("--launch", type=Path, metavar="FILE", help="Accelerate's launch file, for several devices")
    p.add_argument("--dry-run", action="store_true", help="say how long each run takes, and train nothing")
    p.add_argument(
        "--out", type=Path, required=True, help="folder for recipes, runs, reports; the same command goes on"
    )

    p = verb(
        "evaluate-vocoder",
        evaluate_vocoder,
        "measure a vocoder against Griffin-Lim on copies of a store's clips, and write a report",
    )
    p.add_argument("vocoder", nargs="?", default="auto", help="as --vocoder of the other verbs")
    p.add_argument("--store", type=Path, required=True, help="folder made by prepare")
    p.add_argument("--split", choices=("held-out", "all"), default="held-out", help="which clips")
    p.add_argument("--clips", type=int, help="at most so many, spread evenly; all if not given")
    out_words(p, "a new folder: report.html, report.json, audio/")

    p = verb("compare", compare, "several models on the same held-out sounds: pictures and sounds side by side")
    p.add_argument("models", nargs="+", type=Path, help="run folders; their names become the columns")
    p.add_argument("--store", type=Path, required=True, help="folder made by prepare")
    p.add_argument("--clips", type=int, default=4, help="how many clips and samples")
    vocoder_words(p)
    out_words(p, "a new folder: reconstructed.png, sampled.png, audio/, compare.json")


def _amounts(p: argparse.ArgumentParser) -> None:
    p.add_argument("--clips", type=int, default=128, help="at most so many clips a split, whose pitch pYIN judges")
    p.add_argument("--samples", type=int, default=128, help="sampled sounds that pYIN judges")
    p.add_argument(
        "--sounds", type=int, default=1000, help="at most so many in each set: real, copied, reconstructed, sampled"
    )


def train_judge(args: argparse.Namespace) -> int:
    from audio_vaegan.data.store import Store
    from audio_vaegan.evaluation.trained_judge import KIND, default_folder, save_judge
    from audio_vaegan.evaluation.trained_judge import train_judge as train
    from audio_vaegan.files import check_out_folder

    if args.steps is not None and args.steps < 1:
        raise UserError("--steps must be at least 1")
    store = Store(args.store)
    out = default_folder(store) if args.out is None else args.out
    check_out_folder(out, KIND, args.overwrite)
    judge = train(store, args.label, args.steps, args.seed, say)
    save_judge(judge, out, args.overwrite)
    say(judge.note, f"judge: {out}")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    from dataclasses import fields

    from audio_vaegan.data.store import Store
    from audio_vaegan.evaluation.assess import Options, assess
    from audio_vaegan.evaluation.bias import describe as describe_bias
    from audio_vaegan.evaluation.control_table import table as controls_table
    from audio_vaegan.evaluation.evaluate import table
    from audio_vaegan.evaluation.health import describe as describe_health
    from audio_vaegan.evaluation.identity import table as identity_table
    from audio_vaegan.evaluation.methods import table as methods_table
    from audio_vaegan.evaluation.set_table import table as sets_table

    names = [field.name for field in fields(Options)]
    options, store = Options(**{name: getattr(args, name) for name in names}), Store(args.store)
    if (args.model is None) == (args.compare is None):
        raise UserError("evaluate: give a MODEL, or --compare RUN_A RUN_B, and not both")
    if args.compare is not None:
        return _compare_whole(args.compare, store, options, args.out, args.overwrite)
    figures = assess(args.model, store, options, args.out, args.overwrite, say)
    say(table(figures))
    for name, text in (
        ("sets", sets_table),
        ("health", describe_health),
        ("bias", describe_bias),
        ("controls", controls_table),
        ("methods", methods_table),
        ("identity", identity_table),
    ):
        if name in figures:
            say(text(figures[name]))
    print(f"report: {args.out / 'report.html'}")
    return 0


def _compare_whole(runs: list[Path], store: Any, options: Any, out: Path, overwrite: bool) -> int:
    from audio_vaegan.evaluation.side_by_side import compare_runs, table

    say(table(compare_runs(runs, store, options, out, overwrite, say)))
    print(f"side by side: {out / 'compare.html'}")
    return 0


def ablation(args: argparse.Namespace) -> int:
    from audio_vaegan.ablation import ablation as run
    from audio_vaegan.evaluation.assess import Options

    options = Options(clips=args.clips, samples=args.samples, sounds=args.sounds)
    return run(args.spec, args.store, args.out, args.launch, args.dry_run, options)


def evaluate_uses(args: argparse.Namespace) -> int:
    from audio_vaegan.data.store import Store
    from audio_vaegan.evaluation.uses import evaluate_uses as measure
    from audio_vaegan.evaluation.uses.rows import table

    odd = {}
    for pair in args.odd:
        name, _, folder = pair.partition("=")
        if not name or not folder:
            raise UserError(f"--odd {pair}: expected NAME=FOLDER")
        odd[name] = Path(folder)
    how = {name: getattr(args, name) for name in ("clips", "label", "judge", "overwrite")}
    say(table(measure(args.model, Store(args.store), args.out, uses=tuple(args.uses), odd=odd, **how)))
    print(f"figures: {args.out / 'uses.json'}")
    return 0


def showcase(args: argparse.Namespace) -> int:
    from audio_vaegan.evaluation.showcase import showcase as write_showcase

    how = {name: getattr(args, name) for name in ("seed", "overwrite", "vocoder")}
    say(*write_showcase(args.model, args.first, args.second, args.out, **how), f"picture: {args.out / 'sounds.png'}")
    return 0


def bias(args: argparse.Namespace) -> int:
    from audio_vaegan.data.store import Store
    from audio_vaegan.evaluation.bias import describe, write_bias

    page, figures = write_bias(Store(args.store), args.out, args.dataset, args.label, args.split, args.overwrite)
    say(describe(figures))
    print(f"report: {page}")
    return 0


def evaluate_vocoder(args: argparse.Namespace) -> int:
    from audio_vaegan.data.store import Store
    from audio_vaegan.evaluation.pitch import Judge
    from audio_vaegan.evaluation.vocoder import describe, held, write_report
    from audio_vaegan.evaluation.vocoder import evaluate_vocoder as judge_vocoder
    from audio_vaegan.files import check_out_folder
    from audio_vaegan.models.vocoder import open_vocoder

    if args.clips is not None and args.clips < 1:
        raise UserError("--clips must be at least 1")
    store = Store(args.store)
    vocoder = open_vocoder(args.vocoder, store.mel, what=f"--store {args.store}")
    check_out_folder(args.out, "report", args.overwrite)
    rows = held(store, args.split, args.clips)
    with Judge() as judge:
        figures, values = judge_vocoder(vocoder, store, args.split, rows, judge)
    page = write_report(figures, values, vocoder, store, rows, args.out, args.overwrite)
    say(describe(figures))
    print(f"report: {page}")
    return 0


def compare(args: argparse.Namespace) -> int:
    from audio_vaegan.data.store import Store
    from audio_vaegan.evaluation.compare import compare as side_by_side
    from audio_vaegan.evaluation.compare import table

    if args.clips < 1:
        raise UserError("--clips must be at least 1")
    say(table(side_by_side(args.models, Store(args.store), args.out, args.clips, args.overwrite, args.vocoder)))
    print(f"pictures and sounds: {args.out}")
    return 0
