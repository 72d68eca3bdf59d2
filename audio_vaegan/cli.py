"""The command line: one verb a task. Thin: each verb reads its words and calls the package."""

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from audio_vaegan.arguments import Help, Parser, midi, port
from audio_vaegan.config import split_overrides
from audio_vaegan.errors import Failure, UserError
from audio_vaegan.files import share
from audio_vaegan.version import __version__

INTERRUPTED = 130


def _out(p: argparse.ArgumentParser, what: str) -> None:
    p.add_argument("--out", type=Path, required=True, help=what)
    p.add_argument("--overwrite", action="store_true", help="replace what an earlier run of this program wrote there")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="audio-vaegan", description="Learn a steerable sound generator from a folder of sounds.")
    parser.add_argument("--version", action="version", version=f"audio-vaegan {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        p = verbs.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=Help,
            allow_abbrev=False,
        )
        p.set_defaults(run=run)
        return p

    p = verb("quickstart", _quickstart, "the whole main job on the bundled notes: prepare, train, generate, report")
    p.add_argument("--out", type=Path, default=Path("quickstart"), help="folder for everything it makes")

    p = verb("prepare", _prepare, "sounds -> store, with a report of every file")
    p.add_argument("sounds", nargs="+", type=Path, help="sound files, folders of them, or a folder in NSynth layout")
    p.add_argument(
        "--recipe",
        type=Path,
        required=True,
        help="YAML file; change its values like: --mel NAME --data.clip_samples 32768",
    )
    _out(p, "the store, a new folder")

    p = verb("render-soundfont", _render, "labelled notes from a SoundFont, in NSynth layout")
    p.add_argument("soundfont", type=Path, help="an .sf2 file")
    p.add_argument("--programs", default="all", help="MIDI programs like 0,4,8:11; 'all' melodic ones, or 'none'")
    p.add_argument("--drum-kits", type=midi, default=(), help="drum kits of bank 128, like 0,8")
    p.add_argument("--pitches", type=midi, default="36:84", help="MIDI pitches, first:last[:step]")
    p.add_argument("--velocities", type=midi, default="100", help="MIDI velocities")
    p.add_argument("--hold", type=float, default=0.8, help="seconds the key is down")
    p.add_argument("--duration", type=float, default=1.024, help="seconds of a file, release included")
    p.add_argument("--sample-rate", type=int, default=16000, help="Hz")
    p.add_argument("--gain", type=float, default=0.4, help="FluidSynth's gain; too large a one is refused, not clipped")
    p.add_argument("--format", choices=("flac", "wav"), default="flac", help="16 bit, mono")
    _out(p, "a new folder: examples.json and audio/")

    p = verb("generate", _generate, "new sounds from a trained model")
    p.add_argument("model", type=Path, help="bundle or run folder")
    p.add_argument("--count", type=int, default=16, help="how many sounds")
    p.add_argument("--pitch", type=float, nargs="+", help="MIDI; one for all, or a list that is repeated")
    p.add_argument("--seed", type=int, default=0, help="same seed, same bytes")
    p.add_argument("--truncation", type=float, default=1.0, help="deviation of the timbre prior; less is safer")
    _out(p, "a new folder of WAV files, with metadata.jsonl")

    p = verb("edit", _edit, "change a sound's controls, keep its timbre")
    p.add_argument("model", type=Path, help="bundle or run folder")
    p.add_argument("input", type=Path, help="a sound file")
    p.add_argument("--pitch", type=float, help="semitones to move by, like +7 or -3.5")
    p.add_argument("--set-pitch", type=float, help="MIDI pitch to move to, like 60")
    p.add_argument("--input-pitch", type=float, help="MIDI pitch of the input, if the meter should not decide")
    p.add_argument("--out", type=Path, required=True, help="the WAV file to write")
    p.add_argument("--overwrite", action="store_true", help="replace an existing file")

    p = verb(
        "evaluate",
        _evaluate,
        "measure a model on held-out sounds, and write a report with pictures and players",
    )
    p.add_argument("model", type=Path, help="bundle or run folder")
    p.add_argument("--store", type=Path, required=True, help="folder made by prepare")
    p.add_argument("--clips", type=int, help="at most so many clips a split; all if not given")
    p.add_argument("--samples", type=int, default=128, help="sampled sounds to judge")
    _out(p, "a new folder: report.html, report.json, audio/")

    p = verb("demo", _demo, "a page in the browser that plays a model")
    p.add_argument("model", type=Path, help="bundle or run folder")
    p.add_argument("--port", type=port, default=7860, help="on localhost")

    p = verb("doctor", _doctor, "what this machine has, what is missing, and the mend")
    p.add_argument("--fix", action="store_true", help="mend what can be mended here")
    return parser


def _prepare(args: argparse.Namespace) -> int:
    from audio_vaegan.config import load_recipe
    from audio_vaegan.data.prepare import prepare

    recipe = load_recipe(args.recipe, args.overrides)
    summary = prepare(args.sounds, recipe, args.out, args.overwrite)
    if summary.get("up_to_date"):
        print(f"{args.out}: up to date")
    splits = ", ".join(f"{k} {v}" for k, v in summary["splits"].items())
    used = f"{summary['files_used']} of {summary['files']} files used"
    print(f"{used}, {summary['clips']} clips, {summary['seconds']:.0f} s of sound")
    rate, size = recipe.mel.sample_rate, recipe.data.clip_samples
    print(f"stored as {rate} Hz mono clips of {size / rate:.3f} s")
    print(f"splits: {splits}; unpitched: {summary['unpitched_clips']}")
    for reason, count in summary["dropped"].items():
        print(f"dropped {count}: {reason}")
    if summary["labels_that_the_meter_doubts"]:
        print(f"pitch labels that the meter doubts: {summary['labels_that_the_meter_doubts']} (labels were kept)")
    print(f"every file: {args.out / 'report.json'}")
    return 0


def _render(args: argparse.Namespace) -> int:
    from audio_vaegan.data.soundfont import Rendering, render

    if args.programs == "all":
        programs = None
    else:
        try:
            programs = () if args.programs == "none" else midi(args.programs)
        except argparse.ArgumentTypeError as e:
            raise UserError(f"--programs {e}") from None
    if not 0 < args.hold <= args.duration <= 60 or not 8000 <= args.sample_rate <= 96000 or not 0 < args.gain <= 10:
        raise UserError(
            "needs 0 < --hold <= --duration <= 60 s, --sample-rate in 8000 ... 96000 Hz, --gain in 0 ... 10"
        )
    what = Rendering(
        programs=programs,
        drum_kits=args.drum_kits,
        pitches=args.pitches,
        velocities=args.velocities,
        hold=args.hold,
        duration=args.duration,
        sample_rate=args.sample_rate,
        gain=args.gain,
        format=args.format,
    )
    count = render(args.soundfont, args.out, what, args.overwrite)
    print(f"{count} notes in {args.out}")
    return 0


def _generate(args: argparse.Namespace) -> int:
    from audio_vaegan.generate import generate

    count = generate(args.model, args.out, args.count, args.pitch, args.seed, args.truncation, args.overwrite)
    print(f"{count} sounds in {args.out}")
    return 0


def _edit(args: argparse.Namespace) -> int:
    from audio_vaegan.generate import edit_file

    print(edit_file(args.model, args.input, args.out, args.pitch, args.set_pitch, args.input_pitch, args.overwrite))
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from audio_vaegan.data.store import Store
    from audio_vaegan.evaluation.evaluate import evaluate, table
    from audio_vaegan.evaluation.report import write_report
    from audio_vaegan.files import check_out_folder
    from audio_vaegan.sound_model import SoundModel

    if args.samples < 1 or (args.clips is not None and args.clips < 1):
        raise UserError("--samples and --clips must be at least 1")
    model, store = SoundModel.from_pretrained(args.model), Store(args.store)
    check_out_folder(args.out, "report", args.overwrite)
    figures, measured = evaluate(model, store, args.clips, args.samples)
    metrics = args.model / "metrics.jsonl"
    page = write_report(
        model, store, figures, measured, args.out, metrics if metrics.is_file() else None, args.overwrite
    )
    print(table(figures))
    print(f"report: {page}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    path = share("demo") / "app.py"
    spec = importlib.util.spec_from_file_location("audio_vaegan_demo", path)
    if spec is None or spec.loader is None:
        raise UserError(f"demo: {path} is missing from this installation")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as e:
        raise UserError(f"demo needs gradio ({e}); install it with: pip install 'audio-vaegan[demo]'") from None
    try:
        module.launch(args.model, args.port)
    except OSError as e:
        raise UserError(f"demo: {e}") from None
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from audio_vaegan.doctor import run

    return run(fix=args.fix)


def _quickstart(args: argparse.Namespace) -> int:
    from audio_vaegan.quickstart import quickstart

    return quickstart(args.out)


def train_vaegan(argv: Sequence[str] | None = None) -> int:
    """What recipes/train_vaegan.py runs on every process of a launch; the first one speaks."""

    def run() -> int:
        from audio_vaegan.evaluation.samples import write_samples
        from audio_vaegan.training.launch import main as launch

        return launch(write_samples, argv)

    return guarded(run, speak=os.environ.get("RANK", "0") == "0")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb. Exit code 0: done, 1: a fault of ours, 2: a user's mistake, 130: interrupted."""

    def run() -> int:
        words = list(sys.argv[1:] if argv is None else argv)
        overrides: list[str] = []
        if words[:1] == ["prepare"]:
            words, overrides = split_overrides(words)
        args = build_parser().parse_args(words)
        args.overrides = overrides
        return int(args.run(args))

    return guarded(run)


def guarded(run: Callable[[], int], speak: bool = True) -> int:
    """Turn what a user can mend into one line and an exit code."""

    def end(line: str, code: int) -> int:
        if speak:
            print(" ".join(line.split("\n")), file=sys.stderr)
        return code

    try:
        return run()
    except UserError as e:
        return end(f"error: {e}", 2)
    except Failure as e:
        return end(f"error: {e}", 1)
    except KeyboardInterrupt:
        return end("interrupted; the same command goes on", INTERRUPTED)
    except OSError as e:
        if "torchaudio" in str(e):
            return end("error: torchaudio does not fit this build of torch; mend it: audio-vaegan doctor --fix", 2)
        if e.errno is None:
            raise
        return end(f"error: {e.filename or 'file system'}: {e.strerror}", 2)


if __name__ == "__main__":
    sys.exit(main())
