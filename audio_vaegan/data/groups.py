"""What belongs together when data is split, and the splits."""

import hashlib

from audio_vaegan.config import Recipe


def connected(holds: dict[str, set[str]]) -> dict[str, str]:
    """Connected components of names that hold something in common (instruments a sample, sources equal files).

    Returns for each name the smallest name of its component.
    """
    parent = {name: name for name in holds}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    owner: dict[str, str] = {}
    for name in sorted(holds):
        for thing in holds[name]:
            a, b = sorted((root(name), root(owner.setdefault(thing, name))))
            parent[b] = a
    return {name: root(name) for name in holds}


def splits(groups: list[str], recipe: Recipe) -> list[str]:
    """A split for each clip: whole groups into test_instrument, then single clips of the rest into test_note.

    Which ones is decided by hashes of names, not by order, so that the same data always splits the same way. With one
    clip a group, holding out clips would be the same as holding out groups: test_note stays empty.
    """
    names = sorted(set(groups), key=lambda g: _rank(recipe.seed, g))
    held = set(names[: round(recipe.data.test_instruments * len(names))]) if len(names) > 1 else set()
    rest = [i for i, g in enumerate(groups) if g not in held]
    first = {g: i for i, g in reversed(list(enumerate(groups)))}
    several = len(names) < len(groups)
    order = sorted(rest, key=lambda i: _rank(recipe.seed, f"{groups[i]}#{i - first[groups[i]]}"))
    notes = set(order[: round(recipe.data.test_notes * len(rest))]) if several and len(rest) > 1 else set()
    return ["test_instrument" if g in held else "test_note" if i in notes else "train" for i, g in enumerate(groups)]


def _rank(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
