"""What belongs together when data is split, and the splits."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from audio_vaegan.config import Recipe

HELD = "test_instrument"


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


class Sides:
    """Things that are joined step by step, some of which stand on a side, or on several."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}
        self.side: dict[str, set[str]] = {}

    def root(self, name: str) -> str:
        self.parent.setdefault(name, name)
        while self.parent[name] != name:
            self.parent[name] = name = self.parent[self.parent[name]]
        return name

    def place(self, name: str, side: str) -> None:
        self.side.setdefault(self.root(name), set()).add(side)

    def sides(self, names: set[str]) -> set[str]:
        """The sides on which some names stand."""
        return set().union(*(self.side.get(self.root(name), set()) for name in names))

    def join(self, names: set[str]) -> None:
        """Make one of some names; the smallest names it."""
        first, *others = sorted({self.root(n) for n in names})
        for other in others:
            self.parent[other] = first
            for side in self.side.pop(other, set()):
                self.place(first, side)


def splits(
    groups: Sequence[str], units: Sequence[str], known: Sequence[str | None], apart: Sequence[bool], recipe: Recipe
) -> list[str]:
    """A split for each clip: whole groups into test_instrument, then units of the other groups into test_note.

    A unit is a set of clips that must not be torn apart (copies of one sound, windows that overlap); one that makes up
    its whole group is never in test_note. `known` holds the splits of clips of an older store; they stay. The groups of
    clips that are `apart` are held out (`data.hold_out`). Which of the others are, is decided by hashes of names, so
    that the same data always splits the same way.
    """
    names = sorted(set(groups), key=lambda g: _rank(recipe.seed, g))
    held = {g for g, k in zip(groups, known, strict=True) if k == HELD}
    trained = {g for g, k in zip(groups, known, strict=True) if k and k != HELD}
    if len(names) > 1:
        held |= {g for g, a in zip(groups, apart, strict=True) if a} - trained
        wanted = round(recipe.data.test_instruments * len(names)) - len(held)
        held |= set([g for g in names if g not in held | trained][: max(0, wanted)])
    first: dict[str, int] = {}
    members: dict[str, list[int]] = defaultdict(list)
    units_of: dict[str, set[str]] = defaultdict(set)
    for i, (group, unit) in enumerate(zip(groups, units, strict=True)):
        first.setdefault(group, i)
        if group not in held:
            members[unit].append(i)
            units_of[group].add(unit)
    split = [HELD if g in held else "train" for g in groups]
    wanted = round(recipe.data.test_notes * sum(map(len, members.values())))
    free = []
    for unit, clips in members.items():
        there = {known[i] for i in clips} - {None}
        if "test_note" in there:
            for i in clips:
                split[i] = "test_note"
            wanted -= len(clips)
        elif not there and all(len(units_of[groups[i]]) > 1 for i in clips):
            free.append(unit)
    ranked = sorted(free, key=lambda u: _rank(recipe.seed, _place(members[u][0], groups, first)))
    for unit in ranked:
        if wanted <= 0:
            break
        if len(members[unit]) <= wanted:
            wanted -= len(members[unit])
            for i in members[unit]:
                split[i] = "test_note"
    return split


def _place(clip: int, groups: Sequence[str], first: dict[str, int]) -> str:
    return f"{groups[clip]}#{clip - first[groups[clip]]}"


def _rank(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
