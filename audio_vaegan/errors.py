"""The exceptions that end a command with one line, and how a near miss is named."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What is wrong, where, and the mend, in one line. The command line prints it and exits with code 2."""


class Failure(Exception):
    """A job that went wrong in a way that is no mistake of the command, in one line. Exit code 1."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for a close match, else a list of what is known."""
    known = list(known)
    return near(word, known) or f" Known: {', '.join(known)}."


def near(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for a close match, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
