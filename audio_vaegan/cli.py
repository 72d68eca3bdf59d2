"""The command line: one verb a task. Thin: each verb reads its words and calls the package."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audio_vaegan import dataset_verbs, evaluation_verbs, uses_verbs, verbs
from audio_vaegan.arguments import (
    BENCH,
    MODEL,
    Help,
    Parser,
    change_words,
    control_words,
    keys,
    midi,
    out_words,
    pitch,
    port,
    sound_out_words,
    vocoder_words,
)
from audio_vaegan.config import DataConfig
from audio_vaegan.guard import guarded
from audio_vaegan.recipe import split_overrides
from audio_vaegan.version import __version__


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="audio-vaegan", description="Learn a steerable sound generator from a folder of sounds.")
    parser.add_argument("--version", action="version", version=f"audio-vaegan {__version__}")
    commands = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        p = commands.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=Help,
            allow_abbrev=False,
        )
        p.set_defaults(run=run)
        return p

    p = verb(
        "quickstart", verbs.quickstart, "the whole main job on the bundled notes: prepare, train, generate, report"
    )
    p.add_argument("--out", type=Path, default=Path("quickstart"), help="folder for everything it makes")

    _prepare_words(verb("prepare", verbs.prepare, "sounds -> store, with a report of every file"))

    p = verb("inspect", verbs.inspect, "what a store holds and what became of its files; what a model can be asked")
    p.add_argument("store", type=Path, metavar="store-or-model", help=f"folder made by prepare, or {MODEL}")
    p.add_argument("--verify", action="store_true", help="has a bit of it changed? reads everything")
    p.add_argument("--file", help="all that is known of the input files whose name holds this text")

    p = verb("render-soundfont", verbs.render, "labelled notes from a SoundFont, in NSynth layout")
    p.add_argument("soundfont", type=Path, help="an .sf2 file")
    p.add_argument("--programs", default="all", help="MIDI programs like 0,4,8:11; 'all' melodic ones, or 'none'")
    p.add_argument("--drum-kits", type=midi, default=(), help="drum kits of bank 128, like 0,8")
    p.add_argument("--loops", type=int, metavar="N", help="instead of notes, N drum loops of each kit, with labels.csv")
    p.add_argument("--seed", type=int, default=0, help="of the loops")
    p.add_argument("--pitches", type=keys, default="36:84", help="MIDI pitches or notes, first:last[:step]")
    p.add_argument("--velocities", type=midi, default="100", help="MIDI velocities")
    p.add_argument("--hold", type=float, default=0.8, help="seconds the key is down")
    p.add_argument("--duration", type=float, default=1.024, help="seconds of a file, release included")
    p.add_argument("--sample-rate", type=int, default=16000, help="Hz")
    p.add_argument("--gain", type=float, default=0.4, help="FluidSynth's gain; too large a one is refused, not clipped")
    p.add_argument("--format", choices=("flac", "wav"), default="flac", help="16 bit, mono")
    p.add_argument("--name", default="", help="goes before instruments' names; for a store of several SoundFonts")
    out_words(p, "a new folder: examples.json and audio/")

    p = verb("generate", verbs.generate, "new sounds from a trained model")
    p.add_argument("model", type=Path, help=MODEL)
    p.add_argument("--count", type=int, help="how many sounds in all (default: 16); classes and values take turns")
    control_words(p)
    p.add_argument("--class", dest="classes", nargs="+", help="class names, if trained with classes; repeated likewise")
    p.add_argument("--address", help="a sound again: the address in its file's tag, or in its row")
    p.add_argument("--normalize", action="store_true", help="bring the peak of every sound to -1 dBFS")
    p.add_argument(
        "--keyboard", type=keys, metavar="FIRST:LAST", help="keys, like 48:72 or C3:C5: one timbre, for samplers"
    )
    p.add_argument("--like", type=Path, metavar="FILE", help="a sound whose timbre the --keyboard has, not the seed's")
    p.add_argument("--seed", type=int, default=0, help="same seed, same bytes")
    p.add_argument("--truncation", type=float, default=1.0, help="deviation of the timbre prior; less is safer")
    p.add_argument(
        "--prior",
        choices=("auto", "fitted", "normal"),
        default="auto",
        help="where timbres are drawn: fitted to real sounds, N(0, I), or the first that there is",
    )
    p.add_argument("--closed-loop", action="store_true", help="measure what is asked for, and correct it; takes longer")
    vocoder_words(p)
    out_words(p, "a new folder of WAV files, with metadata.jsonl")

    p = verb("edit", verbs.edit, "change a sound's controls, keep its timbre")
    p.add_argument("model", type=Path, help=MODEL)
    p.add_argument("input", type=Path, help="a sound file")
    change_words(p)
    p.add_argument("--closed-loop", action="store_true", help="measure what became of it, and correct it; takes longer")
    p.add_argument(
        "--input-pitch", type=pitch, help="pitch of the input (MIDI or a note), if the meter should not decide"
    )
    vocoder_words(p)
    sound_out_words(p)

    p = verb("morph", verbs.morph, "sounds on the way from one sound to another")
    p.add_argument("model", type=Path, help=MODEL)
    p.add_argument("first", type=Path, help="the sound file where it begins")
    p.add_argument("second", type=Path, help="the sound file where it ends")
    p.add_argument("--steps", type=int, default=9, help="how many sounds, both ends included")
    p.add_argument("--sweep", action="store_true", help="also all of them as one sound, sweep.wav")
    vocoder_words(p)
    out_words(p, "a new folder of WAV files, with metadata.jsonl")

    p = verb("transfer", verbs.transfer, "the timbre of one sound under the pitch and envelope of another")
    p.add_argument("model", type=Path, help=MODEL)
    p.add_argument("timbre", type=Path, help="the sound file that gives timbre, brightness and noisiness")
    p.add_argument("envelope", type=Path, help="the one that gives pitch, loudness, attack, decay, onset rate, length")
    vocoder_words(p)
    sound_out_words(p)

    p = verb("fit-controls", verbs.fit_controls, "fit a trained model's prior, calibrate its controls, measure them")
    p.add_argument("model", type=Path, help="bundle or run folder; controls.json is written into it")
    p.add_argument("--store", type=Path, required=True, help="the one that it was trained on")
    p.add_argument("--clips", type=int, default=32, help="at most so many a split; more is surer and slower")
    vocoder_words(p)

    p = verb("directions", verbs.directions, "fit directions of the latent: sliders for any label, or for none")
    p.add_argument("model", type=Path, help="bundle or run folder; the directions are written into it")
    p.add_argument(
        "--store", type=Path, required=True, help="folder made by prepare; its labels are what can be fitted"
    )
    p.add_argument("--attribute", nargs="+", default=(), help="descriptors, columns of labels.csv, classes like brass")
    p.add_argument("--method", choices=("joint", "svm", "mean"), default="joint", help="which of those shown is kept")
    p.add_argument("--pca", type=int, default=0, help="so many principal components, pc1 ..., without labels")

    p = verb("vocode", verbs.vocode, "a sound through mel and vocoder and back: the ceiling of a model")
    p.add_argument("input", type=Path, help="a sound file of any length")
    p.add_argument("--model", type=Path, help="bundle or run folder, for its mel and its own vocoder")
    p.add_argument("--mel", help="mel preset, where there is no --model; the named vocoder's, else notes-16k-128")
    vocoder_words(p)
    sound_out_words(p)

    evaluation_verbs.add(verb)
    dataset_verbs.add(verb)
    uses_verbs.add(verb)

    p = verb("bench", verbs.bench, "how fast this machine does what the verbs do, beside what it could do")
    _bench_words(p)

    p = verb("demo", verbs.demo, "a page in the browser on which a model is played")
    p.add_argument("model", type=Path, nargs="?", default=Path("notes16k"), help=MODEL)
    p.add_argument("--port", type=port, default=7860, help="on localhost")
    p.add_argument("--share", action="store_true", help="also under a public address, by Gradio's tunnel")
    p.add_argument("--auth", metavar="USER:PASSWORD", help="ask for these first; others on this machine see them here")
    vocoder_words(p)

    p = verb("doctor", verbs.doctor, "what this machine has, what is missing, and the mend")
    p.add_argument("--fix", action="store_true", help="mend what can be mended here")
    return parser


def _bench_words(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", type=Path, nargs="?", default=Path("notes16k"), help=MODEL)
    p.add_argument(
        "--groups",
        nargs="+",
        choices=BENCH,
        default=BENCH[:4],
        help="what to measure: a model's sounds; a training step; files to a store; a model to a data set; other "
        "generators; what each option of training costs; stores of many clips",
    )
    p.add_argument("--peers", action="store_true", help="also other generators, those that are installed")
    p.add_argument("--recipe", type=Path, help="of training; quickstart.yaml if not given")
    p.add_argument("--store", type=Path, help="folder made by prepare; the notes of the package if not given")
    p.add_argument("--batch", type=int, default=16, help="sounds at once")
    p.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="of timing, for the quickest of what takes turns; of a peer, on every turn",
    )
    p.add_argument("--threads", type=int, help="of torch; as many as it takes by itself if not given")
    p.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...; training takes a GPU where there is one")
    vocoder_words(p)
    p.add_argument("--class-label", help="options: a label of the store, to measure class-conditional training with")
    p.add_argument("--only", nargs="+", default=(), help="options: those to measure, beside the default")
    p.add_argument("--steps", type=int, default=6, help="options: timed steps each; the median counts")
    clips = (1_000, 10_000, 100_000, 1_000_000)
    p.add_argument(
        "--clips", type=int, nargs="+", default=clips, help="scale: in the store, by links to the same shards"
    )
    p.add_argument("--out", type=Path, help="a JSON file for the figures")
    p.add_argument("--overwrite", action="store_true", help="replace the JSON file")


def _prepare_words(p: argparse.ArgumentParser) -> None:
    keys = ", ".join(f"--data.{name} {value}" for name, value in DataConfig().model_dump().items())
    p.epilog = f"What the recipe decides, and its defaults: {keys}. See DataConfig in audio_vaegan/config.py."
    p.add_argument(
        "sounds",
        nargs="+",
        type=Path,
        help="folders of sound files (with labels.csv or not), sound files, folders in NSynth or AudioFolder layout, "
        "WebDataset tars, a SoundFont",
    )
    p.add_argument(
        "--recipe",
        type=Path,
        required=True,
        help="YAML file; change its values like: --mel NAME --data.clip_samples 32768",
    )
    p.add_argument("--dry-run", action="store_true", help="only the report, in OUT.report")
    p.add_argument("--workers", type=int, help="processes; as many as there are cores if not given")
    out_words(p, "the store, a new folder; one that is there, made by the same recipe, grows by the files that are new")


def prepare(argv: Sequence[str] | None = None, **team: Any) -> int:
    """What recipes/prepare.py runs on every process of a launch: `prepare`, its work shared; the first one speaks."""

    def run() -> int:
        words, overrides = split_overrides(list(sys.argv[1:] if argv is None else argv))
        parser = Parser(prog="prepare.py", formatter_class=Help, allow_abbrev=False)
        _prepare_words(parser)
        args = parser.parse_args(words)
        args.overrides = overrides
        return verbs.prepare(args, **team)

    return guarded(run, speak=team.get("rank", 0) == 0)


def train_vaegan(argv: Sequence[str] | None = None) -> int:
    """What recipes/train_vaegan.py runs on every process of a launch; the first one speaks."""

    def run() -> int:
        from audio_vaegan.evaluation.samples import write_samples
        from audio_vaegan.training.launch import main as launch

        return launch(write_samples, argv)

    return guarded(run, speak=os.environ.get("RANK", "0") == "0")


def train_vocoder(argv: Sequence[str] | None = None) -> int:
    """What recipes/train_vocoder.py runs on every process of a launch; the first one speaks."""

    def run() -> int:
        from audio_vaegan.evaluation.samples import write_copies
        from audio_vaegan.training.launch import main_vocoder

        return main_vocoder(write_copies, argv)

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
