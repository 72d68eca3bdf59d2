"""The verbs of the data-set factory: `dataset` and `evaluate-dataset`, and the script that many processes run."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audio_vaegan.arguments import MODEL, Help, Parser, out_words, vocoder_words
from audio_vaegan.errors import UserError
from audio_vaegan.guard import guarded

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add(verb: Verb) -> None:
    """Add the verbs to the command line."""
    p = verb("dataset", dataset, "thousands of sounds whose labels are measured, sound by sound")
    _words(p)
    p.add_argument("--processes", type=int, help="as many as there are cores if not given; the bytes are the same")
    p.add_argument("--dry-run", action="store_true", help="say what would be made, how long it takes, how many bytes")

    p = verb("evaluate-dataset", evaluate_dataset, "are the labels of a data set true, and does it help a classifier")
    p.add_argument("dataset", type=Path, help="folder made by dataset (layout audiofolder)")
    p.add_argument("--clips", type=int, default=500, help="how many sounds the independent meters hear")
    p.add_argument("--store", type=Path, help="real sounds: train a classifier with and without the generated ones")
    p.add_argument("--label", default="pitch", help="what is classified: pitch, or a label of the store")
    p.add_argument("--real", type=int, help="how many real training sounds (default: all)")
    p.add_argument("--steps", type=int, default=600, help="training steps of each classifier")
    p.add_argument("--seeds", type=int, default=3, help="trainings of each")
    p.add_argument("--out", type=Path, help="a JSON file for all figures")


def _words(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", type=Path, help=MODEL)
    p.add_argument("spec", type=Path, help="YAML: what is to be made (docs/data-sets.md)")
    p.add_argument("--seed", type=int, help="instead of the spec's")
    vocoder_words(p)
    out_words(p, "the data set, a new folder; the same command goes on with one that was interrupted")


def dataset(args: argparse.Namespace) -> int:
    from audio_vaegan.dataset.estimate import estimate
    from audio_vaegan.dataset.work import make_dataset

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = cores if args.processes is None else args.processes
    if not 1 <= processes <= 1024:
        raise UserError(f"--processes must lie in 1 ... 1024, got {processes}")
    how: dict[str, Any] = {"seed": args.seed, "processes": processes, "vocoder": args.vocoder}
    if args.dry_run:
        print(estimate(args.model, args.spec, **how))
        return 0
    count = make_dataset(args.model, args.spec, args.out, overwrite=args.overwrite, **how)
    if count:
        print(f"data set: {args.out} (AI-generated; its card: {args.out / 'README.md'})")
    return 0


def generate_dataset(argv: Sequence[str] | None = None) -> int:
    """What recipes/generate_dataset.py runs on every process of a launch; the first one speaks."""

    def run() -> int:
        from datetime import timedelta

        import torch
        from accelerate import PartialState

        from audio_vaegan.dataset.work import Team, make_dataset

        parser = Parser(prog="generate_dataset.py", formatter_class=Help, allow_abbrev=False)
        _words(parser)
        args = parser.parse_args(sys.argv[1:] if argv is None else argv)
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
        team = Team(state.process_index, state.num_processes, state.wait_for_everyone)
        make_dataset(
            args.model,
            args.spec,
            args.out,
            seed=args.seed,
            device=str(state.device),
            vocoder=args.vocoder,
            overwrite=args.overwrite,
            team=team,
        )
        return 0

    return guarded(run, speak=os.environ.get("RANK", "0") == "0")


def evaluate_dataset(args: argparse.Namespace) -> int:
    from audio_vaegan.data.store import Store
    from audio_vaegan.evaluation.classifier import usefulness
    from audio_vaegan.evaluation.dataset import describe, judge_dataset
    from audio_vaegan.evaluation.pitch import Judge
    from audio_vaegan.files import write_json

    if min(args.clips, args.steps, args.seeds) < 1 or (args.real is not None and args.real < 1):
        raise UserError("--clips, --real, --steps and --seeds must be at least 1")
    if args.out is not None and args.out.exists():
        raise UserError(f"--out {args.out}: exists; choose another name")
    if args.out is not None and not args.out.parent.is_dir():
        raise UserError(f"--out {args.out}: there is no folder {args.out.parent}")
    store = None if args.store is None else Store(args.store)
    with Judge() as judge:
        figures: dict[str, Any] = {"labels": judge_dataset(args.dataset, judge, args.clips)}
    print(describe(figures["labels"]))
    if store is not None:
        figures["use"] = usefulness(store, args.dataset, args.label, args.real, args.steps, args.seeds)
    if args.out is not None:
        write_json(args.out, figures)
        print(f"figures: {args.out}")
    return 0
