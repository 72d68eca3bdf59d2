"""Which clips belong together, and which new files cannot be taken into a store that grows."""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_vaegan.data.groups import HELD, Sides

Entry = dict[str, Any]


class Joining:
    """Joins files to groups and clips to units, file by file, the old store's first.

    Clips that are the same sound (`pairs`, and clips of equal files) are one sound, whether their files are taken or
    not. A file is joined to others of its group and to its sounds. A unit is a sound and, where windows overlap, all
    sounds of a file. Clips whose split is known stay there: a new file that would join both sides is refused, with the
    reason.

    `columns` has source, sha256, start, group and known split of every clip; clips that are not `alive` count for
    nothing.
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
        self.sounds, self.together, self.units = Sides(), Sides(), Sides()
        self.clips: dict[str, list[int]] = defaultdict(list)
        first: dict[tuple[str, int], int] = {}
        for i in np.flatnonzero(alive).tolist():
            self.clips[self.source[i]].append(i)
            twin = first.setdefault((columns["sha256"][i], columns["start"][i]), i)
            if twin != i:
                self.sounds.join({str(twin), str(i)})
        for a, b in pairs:
            self.sounds.join({str(a), str(b)})
        self.example: dict[tuple[str, str], str] = {}  # a file of the store that holds a sound, by split
        self.refused: dict[str, str] = {}
        here = [f for f in files if f["file"] in self.clips]
        old = {f["file"]: self.known[self.clips[f["file"]][0]] is not None for f in here}
        for entry in here:
            if old[entry["file"]]:
                self._place(entry)
        for entry in here:
            if not old[entry["file"]]:
                self._add(entry)

    def sound_of(self, clip: int) -> str:
        return self.sounds.root(str(clip))

    def group_of(self, clip: int) -> str:
        return self.together.root(self.group[clip])

    def unit_of(self, clip: int) -> str:
        return self.units.root(self.sound_of(clip))

    def _place(self, entry: Entry) -> None:
        """A file of the old store stands where it stands."""
        clips = self.clips[entry["file"]]
        self.together.join({entry["group"], self.group[clips[0]]})
        for i in clips:
            sound, split = self.sound_of(i), self.known[i]
            side = HELD if split == HELD else "train"
            self.together.place(entry["group"], side)
            self.together.place(_node(sound), side)
            if split != HELD:
                self.units.place(sound, split)
            self.example.setdefault((sound, split), entry["file"])

    def _add(self, entry: Entry) -> None:
        """A new file is joined to what it belongs to, unless that stands on both sides."""
        sounds = {self.sound_of(i) for i in self.clips[entry["file"]]}
        belongs = {entry["group"], *map(_node, sounds)}
        units = [sounds] if self.overlapping else [{sound} for sound in sounds]
        if len(self.together.sides(belongs)) > 1 or any(len(self.units.sides(unit)) > 1 for unit in units):
            told = {split: file for (sound, split), file in sorted(self.example.items()) if sound in sounds}
            words = [f"{split}: {file}" for split, file in sorted(told.items())]
            words += [f"its group {entry['group']}: {side}" for side in self.together.sides({entry["group"]})]
            self.refused[entry["file"]] = (
                f"would put copies of a sound on both sides of the store's split ({', '.join(words)})"
            )
            return
        self.together.join(belongs)
        for unit in units:
            self.units.join(unit)


def _node(sound: str) -> str:
    """A sound among the names of groups; it sorts behind them, and so never names what it is joined to."""
    return f"\U0010ffff{sound}"
