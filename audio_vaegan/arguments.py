"""What the command lines share: a parser whose mistakes are one line, its help, and types of arguments."""

import argparse
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from audio_vaegan.errors import UserError, near

CONTROLS = {  # every control and the unit of its descriptor; reading that there would import torch
    "pitch": "semitones (MIDI)",
    "loudness": "LUFS",
    "brightness": "semitones re 440 Hz",
    "noisiness": "dB",
    "attack": "log10 s",
    "decay": "dB/s",
    "onset_rate": "1/s",
}
USES = ("restore", "anomaly", "few-labels", "compression", "transfer")  # what evaluate-uses measures
BENCH = ("sounds", "training", "prepare", "dataset", "peers", "options", "scale")  # groups; the first four by default
MODEL = "a model of the package (notes16k, drums16k), a run's folder, a bundle, or OWNER/NAME of the hub"
TRAIN = "a script trains: accelerate launch recipes/train_{}.py --recipe R --store STORE --out RUN"
NO_VERBS = {  # what looks like a verb, and what does it
    "train": f"{TRAIN.format('vaegan')} (a vocoder: recipes/train_vocoder.py)",
    "train-vaegan": TRAIN.format("vaegan"),
    "train-vocoder": TRAIN.format("vocoder"),
}
HINTS = {"pitch": "60 or C4, the middle C", "brightness": "12 is 880 Hz", "attack": "-2 is 10 ms"}


class Parser(argparse.ArgumentParser):
    """A command line whose mistakes are one line too, and whose values may be negative: -3, -1e-2, -5:15."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"^-\.?\d")

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As its parent, but what is not known is refused here, where the verb is known, and before what is missing."""
        words = list(sys.argv[1:] if args is None else args)
        if self._subparsers is None:  # what follows a verb is for the verb's own parser
            for option in self._unknown(words):
                self.error(f"unrecognized option {option}.{near(option, self._option_string_actions)}")
        found, rest = super().parse_known_args(words, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest

    def _unknown(self, words: Sequence[str]) -> Iterator[str]:
        """The long options among words that this parser does not have."""
        for word in words:
            if word == "--":
                return
            option = word.partition("=")[0]
            if option.startswith("--") and " " not in option and option not in self._option_string_actions:
                yield option

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        verbs = action.choices if isinstance(action, argparse._SubParsersAction) else None
        if verbs is None or value in verbs:
            super()._check_value(action, value)
        elif (other := value.replace("_", "-")) in NO_VERBS:
            raise UserError(f"no verb {value!r}; {NO_VERBS[other]}")
        else:
            self.error(f"no verb {value!r}.{near(value, verbs)}")

    def error(self, message: str) -> NoReturn:
        files = [w for w in sys.argv[1:] if w.startswith("-") and not w.startswith("--") and os.path.lexists(w)]
        if files:
            message += f"; a name that begins with a dash is written ./{files[0]}"
        raise UserError(f"{message.removesuffix('.')} (see: {self.prog} --help)")


def numbers(text: str) -> tuple[int, ...]:
    """`"0,4,8:11"` -> 0 4 8 9 10 11; `"36:84:2"` -> 36 38 ... 84. Ends are included."""
    found: list[int] = []
    for part in text.split(","):
        try:
            ends = [int(x) for x in part.split(":")]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: expected numbers like 60, 36:84 or 0,4,8:11") from None
        if len(ends) > 3 or (len(ends) == 3 and ends[2] < 1):
            raise argparse.ArgumentTypeError(f"{part!r}: expected first:last or first:last:step")
        found += range(ends[0], ends[-1 if len(ends) < 3 else 1] + 1, ends[2] if len(ends) == 3 else 1)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no number")
    return tuple(found)


def midi(text: str) -> tuple[int, ...]:
    values = numbers(text)
    if min(values) < 0 or max(values) > 127:
        raise argparse.ArgumentTypeError(f"{text!r}: MIDI numbers lie in 0 ... 127")
    return values


def keys(text: str) -> tuple[int, ...]:
    """As `midi`; notes by their names, too: `"C2:C6"`."""
    try:
        return midi(_numbered(text))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected MIDI numbers in 0 ... 127, or notes, like 60, 36:84:2 or C3:C5"
        ) from None


def pitch(text: str) -> float:
    """`"60.5"` -> 60.5; `"C4"` -> 60.0, `"F#3"`, `"Bb-1"`."""
    value = pitch_or_range(text)
    if isinstance(value, tuple):
        raise argparse.ArgumentTypeError(f"{text!r}: expected one MIDI number or note, like 60 or C4")
    return value


def pitch_or_range(text: str) -> float | tuple[float, float]:
    """As `number_or_range`; notes by their names, too: `"C3:C5"` -> (48.0, 72.0)."""
    try:
        return number_or_range(_numbered(text))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a MIDI number or a note, like 60 or C4, or a range LOW:HIGH"
        ) from None


def _numbered(text: str) -> str:
    """A text with MIDI numbers in the place of names of notes."""

    def number(note: re.Match[str]) -> str:
        from librosa import note_to_midi  # slow to import

        return str(int(note_to_midi(note[0])))

    return re.sub(r"(?<![\w.])[A-Ga-g][#b♯♭]?-?\d(?![\w.])", number, text)


def number_or_range(text: str) -> float | tuple[float, float]:
    """`"60"` -> 60.0; `"-5:15"` -> (-5.0, 15.0)."""
    try:
        first, *rest = [float(part) for part in text.split(":")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, or a range LOW:HIGH") from None
    if len(rest) > 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a range has two ends, LOW:HIGH")
    return (first, rest[0]) if rest else first


def span(text: str) -> tuple[float, float]:
    """`"0.3:0.45"` -> (0.3, 0.45): seconds from, to."""
    value = number_or_range(text)
    if not isinstance(value, tuple) or not 0 <= value[0] < value[1] < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds FROM:TO, like 0.3:0.45")
    return value


def named_amount(text: str) -> tuple[str, float]:
    """`"brass=-1.5"` -> ("brass", -1.5)."""
    name, _, amount = text.rpartition("=")
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=AMOUNT, like brass=1")
    return name, value


def port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r}: a port lies in 1 ... 65535")
    return int(text)


class Help(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


def out_words(p: argparse.ArgumentParser, what: str, overwrites: str = "") -> None:
    p.add_argument("--out", type=Path, required=True, help=what)
    p.add_argument(
        "--overwrite", action="store_true", help=overwrites or "replace what an earlier run of this program wrote there"
    )


def sound_out_words(p: argparse.ArgumentParser) -> None:
    out_words(p, "the WAV file to write", "replace an existing file")


def vocoder_words(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--vocoder",
        default="auto",
        help="auto (the model's own, else the package's for its mel, else griffin-lim), griffin-lim, a file, a run of "
        "train_vocoder.py, a folder with a published checkpoint, or its hub id",
    )


def _flags(prefix: str, name: str) -> list[str]:
    """`--set-onset-rate`, and as the recipe spells it, `--set-onset_rate`."""
    return list(dict.fromkeys(f"--{prefix}{spelt}" for spelt in (name.replace("_", "-"), name)))


def control_words(p: argparse.ArgumentParser) -> None:
    """A flag for each control: what new sounds shall have."""
    group = p.add_argument_group(
        "controls",
        "of those that the model was trained with: numbers, repeated over the sounds, or a range LOW:HIGH to draw from",
    )
    for name, unit in CONTROLS.items():
        group.add_argument(
            *_flags("", name),
            dest=name,
            type=pitch_or_range if name == "pitch" else number_or_range,
            nargs="+",
            metavar="VALUE",
            help=_unit(name, unit),
        )


def change_words(p: argparse.ArgumentParser) -> None:
    """Two flags for each control: what a sound is moved by, or to; and directions."""
    group = p.add_argument_group("changes", "several at once; of controls, those that the model was trained with")
    for name, unit in CONTROLS.items():
        step = unit.split(" (")[0].split(" re ")[0].replace("LUFS", "LU")
        group.add_argument(
            *_flags("", name), dest=name, type=float, metavar="AMOUNT", help=f"{step} to move by, like +3 or -0.5"
        )
    for name, unit in CONTROLS.items():
        group.add_argument(
            *_flags("set-", name),
            dest=f"set_{name}",
            type=pitch if name == "pitch" else float,
            metavar="VALUE",
            help=f"set to, in {_unit(name, unit)}",
        )
    group.add_argument(
        "--move",
        type=named_amount,
        nargs="+",
        action="extend",
        metavar="NAME=AMOUNT",
        help="move along a direction that was fitted after training, like brass=1",
    )


def _unit(name: str, unit: str) -> str:
    return f"{unit}; {HINTS[name]}" if name in HINTS else unit


def say(*lines: str) -> None:
    """Print lines that may hold names of files and labels, which must not steer the terminal."""
    for line in "\n".join(lines).split("\n"):
        print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))
