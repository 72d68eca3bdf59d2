"""Which clips belong together, and which new files cannot be taken into a store that grows."""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_vaegan.data.groups import HELD, Sides, connected

Entry = dict[str, Any]


class Joining:
    """Joins files to groups and clips to units, file by file, the old store's first.

    A file is joined to others of its group, of equal bytes, or that hold a sound of its own (`pairs` of clips). A unit
    is the copies of one sound and, where windows overlap, all clips of a file. Clips whose split is known stay there: a
    new file that would join both sides is refused, with the reason.

    `columns` has source, group and known split of every clip; clips that are not `alive` count for nothing.
    """

    def __init__(
        self,
        files: list[Entry],
        columns: dict[str, list[Any]],
        alive: NDArray[np.bool_],
        pairs: list[tuple[int, int]],
        overlapping: bool,
    ) -> None:
        self.source, self.group, self.known = columns["source"], columns["group"], columns["known"]
        self.overlapping = overlapping
        self.clips: dict[str, list[int]] = defaultdict(list)
        for i in np.flatnonzero(alive).tolist():
            self.clips[self.source[i]].append(i)
        self.copies: dict[int, list[int]] = defaultdict(list)
        for a, b in pairs:
            self.copies[a].append(b)
            self.copies[b].append(a)
        self.together, self.units = Sides(), Sides()
        self.first: dict[str, str] = {}  # file with some bytes
        self.taken: set[str] = set()
        self.refused: dict[str, str] = {}
        here = [f for f in files if f["file"] in self.clips]
        for entry in here:
            if self.known[self.clips[entry["file"]][0]] is not None:
                self._place(entry)
        for entry in here:
            if self.known[self.clips[entry["file"]][0]] is None:
                self._add(entry)

    def group_of(self, clip: int) -> str:
        return self.together.root(self.group[clip])

    def unit_of(self, clip: int) -> str:
        return self.units.root(str(clip))

    def _place(self, entry: Entry) -> None:
        """A file of the old store stands where it stands."""
        clips = self.clips[entry["file"]]
        split = self.known[clips[0]]
        self.first.setdefault(entry["sha256"], entry["file"])
        self.together.join({entry["group"], self.group[clips[0]]})
        self.together.place(entry["group"], HELD if split == HELD else "train")
        for i in clips:
            if self.known[i] != HELD:
                self.units.place(str(i), self.known[i])
        self.taken.add(entry["file"])

    def _add(self, entry: Entry) -> None:
        """A new file is joined to what it belongs to, unless that stands on both sides."""
        name, clips = entry["file"], self.clips[entry["file"]]
        twin = self.first.setdefault(entry["sha256"], name)
        if twin in self.refused:
            self.refused[name] = self.refused[twin]
            return
        same = {i: [j for j in self.copies[i] if self.source[j] in self.taken] for i in clips}
        if twin != name:
            for i, j in zip(clips, self.clips[twin], strict=True):
                same[i].append(j)
        groups = {entry["group"], *(self.group[j] for copies in same.values() for j in copies)}
        units = self._units(same)
        if len(self.together.sides(groups)) > 1 or any(len(self.units.sides(u)) > 1 for u in units):
            sides = {self.known[j]: self.source[j] for copies in same.values() for j in copies if self.known[j]}
            told = [f"{split}: {file}" for split, file in sorted(sides.items())]
            own = self.together.sides({entry["group"]})
            told += [f"its group {entry['group']}: {side}" for side in own]
            self.refused[name] = f"would put copies of a sound on both sides of the store's split ({', '.join(told)})"
            return
        self.taken.add(name)
        self.together.join(groups)
        for unit in units:
            self.units.join(unit)

    def _units(self, same: dict[int, list[int]]) -> list[set[str]]:
        """Clips of a new file with those that they are copies of, as sets that must not be torn apart."""
        whole = {"file"} if self.overlapping else set()
        holds = {str(i): {self.unit_of(j) for j in copies} | whole for i, copies in same.items()}
        found: dict[str, set[str]] = defaultdict(set)
        for clip, root in connected(holds).items():
            found[root] |= {clip} | (holds[clip] - {"file"})
        return list(found.values())
