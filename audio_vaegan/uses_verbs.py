"""The verbs of other uses: `restore`, `score`, `classify`, `compress`, `export` and their kin. Heavy imports wait."""

import argparse
from collections.abc import Callable
from pathlib import Path

from audio_vaegan.arguments import MODEL, out_words, pitch, say, sound_out_words, span, vocoder_words

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add(verb: Verb) -> None:
    """Add the verbs to the command line."""
    p = verb("restore", restore, "fill what a sound lacks: gaps, high frequencies, or what noise covers")
    p.add_argument("model", type=Path, help=MODEL)
    p.add_argument("input", type=Path, help="a sound file, no longer than the model's clips")
    p.add_argument(
        "--gap", type=span, nargs="+", action="extend", metavar="FROM:TO", help="seconds to fill in, like 0.3:0.45"
    )
    p.add_argument(
        "--bandwidth", type=float, metavar="HZ", help="the sound ends at this frequency; make what lies above"
    )
    p.add_argument(
        "--noise",
        type=span,
        nargs="?",
        const=True,
        default=False,
        metavar="FROM:TO",
        help="press its steady noise, learned from these seconds, or from the quietest moments",
    )
    p.add_argument(
        "--input-pitch", type=pitch, help="pitch of the input (MIDI or a note), if the meter should not decide"
    )
    vocoder_words(p)
    sound_out_words(p)

    p = verb("score", score, "how unlike the training sounds each file is: the oddest first")
    p.add_argument("model", type=Path, help=MODEL)
    p.add_argument("sounds", type=Path, nargs="+", help="sound files, or folders of them")
    p.add_argument(
        "--false-alarms", type=float, default=0.05, help="share of real sounds that may count as odd, by mistake"
    )
    vocoder_words(p)
    p.add_argument("--out", type=Path, help="a CSV file with the scores of every file")
    p.add_argument("--overwrite", action="store_true", help="replace the CSV file")

    p = verb("classify", classify, "sort sounds into classes, of which a few sounds each are known")
    p.add_argument("model", type=Path, help=MODEL)
    p.add_argument("labelled", type=Path, help="a folder with a sub-folder of sounds for each class")
    p.add_argument("sounds", type=Path, nargs="+", help="sound files, or folders of them")
    p.add_argument("--copy", action="store_true", help="also copy the files into a folder for each class")
    out_words(p, "a new folder: classes.csv")

    p = verb("compress", compress, "a sound as a few dozen bytes: its latent, rounded")
    p.add_argument("model", type=Path, help=f"{MODEL}; decompress needs the same")
    p.add_argument("input", type=Path, help="a sound file of any length")
    p.add_argument("--bits", type=int, default=6, help="a coordinate of the timbre code, 1 to 16")
    p.add_argument(
        "--input-pitch", type=pitch, help="pitch of the input (MIDI or a note), if the meter should not decide"
    )
    vocoder_words(p)
    p.add_argument("--out", type=Path, required=True, help="a new .avg file")
    p.add_argument("--overwrite", action="store_true", help="replace the file")

    p = verb("decompress", decompress, "the sound of a file that compress wrote")
    p.add_argument("model", type=Path, help="the model that it was compressed by")
    p.add_argument("input", type=Path, help="an .avg file")
    vocoder_words(p)
    sound_out_words(p)

    p = verb("export", export, "generator and vocoder as one file for other programs: ONNX or torch.export")
    p.add_argument("model", type=Path, help=MODEL)
    vocoder_words(p)
    p.add_argument("--out", type=Path, required=True, help="a new file: .onnx or .pt2; a .json beside it describes it")
    p.add_argument("--overwrite", action="store_true", help="replace the files")

    p = verb("push", push, "upload a model to the model hub, with its vocoder and its card")
    p.add_argument("model", type=Path, help=MODEL)
    p.add_argument("name", help="owner/name on the hub")
    p.add_argument("--private", action="store_true", help="for you alone, where it is new")


def restore(args: argparse.Namespace) -> int:
    from audio_vaegan.uses.restore import restore_file

    how = {name: getattr(args, name) for name in ("bandwidth", "input_pitch", "overwrite", "vocoder")}
    say(restore_file(args.model, args.input, args.out, gaps=args.gap or (), noise=args.noise, **how))
    return 0


def score(args: argparse.Namespace) -> int:
    from audio_vaegan.uses.score import score_files

    how = {name: getattr(args, name) for name in ("false_alarms", "out", "overwrite", "vocoder")}
    say(*score_files(args.model, args.sounds, **how))
    return 0


def classify(args: argparse.Namespace) -> int:
    from audio_vaegan.uses.classify import classify_files

    how = {"copy": args.copy, "overwrite": args.overwrite}
    say(*classify_files(args.model, args.labelled, args.sounds, args.out, **how))
    return 0


def compress(args: argparse.Namespace) -> int:
    from audio_vaegan.uses.compress import compress_file

    how = {name: getattr(args, name) for name in ("bits", "input_pitch", "overwrite", "vocoder")}
    say(compress_file(args.model, args.input, args.out, **how))
    return 0


def decompress(args: argparse.Namespace) -> int:
    from audio_vaegan.uses.compress import decompress_file

    say(decompress_file(args.model, args.input, args.out, overwrite=args.overwrite, vocoder=args.vocoder))
    return 0


def export(args: argparse.Namespace) -> int:
    from audio_vaegan.uses.export import export_model

    say(*export_model(args.model, args.out, overwrite=args.overwrite, vocoder=args.vocoder))
    return 0


def push(args: argparse.Namespace) -> int:
    from audio_vaegan.sound_model.pushing import push_model

    say(push_model(args.model, args.name, private=args.private))
    return 0
