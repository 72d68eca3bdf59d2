"""What the command lines share: a parser whose mistakes are one line, its help, and types of arguments."""

import argparse
from typing import NoReturn

from audio_vaegan.errors import UserError


class Parser(argparse.ArgumentParser):
    """A command line whose mistakes are one line too."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see: {self.prog} --help)")


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


def port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r}: a port lies in 1 ... 65535")
    return int(text)


class Help(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help
