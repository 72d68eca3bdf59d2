"""The specification of a data set: what a SPEC.yaml says, typed and checked."""

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from audio_vaegan.config import Section
from audio_vaegan.errors import UserError
from audio_vaegan.recipe import explain, load_yaml

KINDS = ("uniform", "normal", "grid", "list")
Number = Annotated[float, Field(allow_inf_nan=False)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Split = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,40}$")]
Name = Annotated[str, Field(min_length=1, max_length=80)]


class Values(Section):
    """How a control's values are distributed over the sounds of a group. Exactly one of them:

    `uniform: [low, high]`; `normal: [mean, deviation]`, cut off at the model's range; `grid: [low, high]` or
    `[low, high, step]` (default step 1) and `list: [...]`: every value equally often, if the count allows;
    `data: true`: as in the training data. A number alone is a list of one, the word `data` is `data: true`.
    """

    uniform: tuple[Number, Number] | None = None
    normal: tuple[Number, Above] | None = None
    grid: tuple[Number, Number] | tuple[Number, Number, Above] | None = None
    list: Annotated[tuple[Number, ...], Field(min_length=1, max_length=100_000)] | None = None
    data: Literal[True] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if value == "data":
            return {"data": True}
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"list": [value]}
        if not isinstance(value, dict):
            raise ValueError("expected a number, the word data, or one of " + ", ".join(f"{k}: [...]" for k in KINDS))
        return value

    @model_validator(mode="after")
    def _one(self) -> "Values":
        given = [k for k in (*KINDS, "data") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}, data; got {', '.join(given) or 'none'}")
        for name in ("uniform", "grid"):
            ends = getattr(self, name)
            if ends and ends[0] > ends[1]:
                raise ValueError(f"{name}: the lower end first, got {ends[0]:g}, {ends[1]:g}")
        if self.grid and (self.grid[1] - self.grid[0]) / self._step > 100_000:
            raise ValueError("grid: more than 100000 values")
        return self

    @property
    def _step(self) -> float:
        return self.grid[2] if self.grid and len(self.grid) == 3 else 1.0

    @property
    def points(self) -> tuple[float, ...] | None:
        """The values themselves, where there are finitely many."""
        if self.list is not None:
            return self.list
        if self.grid is None:
            return None
        count = math.floor((self.grid[1] - self.grid[0]) / self._step + 1e-9) + 1
        return tuple(round(self.grid[0] + k * self._step, 6) for k in range(count))

    @property
    def ends(self) -> tuple[float, float] | None:
        """The least and the largest value that can be asked for; None: as the model's range says."""
        if self.points:
            return min(self.points), max(self.points)
        return self.uniform


class Group(Section):
    """Some sounds of a data set under common conditions."""

    count: Annotated[int, Field(gt=0, le=10_000_000)]
    class_: Annotated[tuple[Name, ...] | None, Field(alias="class", max_length=1024)] = None
    controls: dict[Name, Values] = Field(default_factory=dict)

    @field_validator("class_", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class Augment(Section):
    """Variations of real sounds: of each file of `folder`, `factor` of them. `timbre` says how far the timbre code
    goes, in standard deviations of all sounds' codes."""

    folder: Path
    factor: Annotated[int, Field(gt=0, le=1000)] = 5
    timbre: Annotated[float, Field(ge=0, le=2)] = 0.3


class Spec(Section):
    """A data set to be made. With one group, its keys (`count`, `class`, `controls`) may stand at the top.

    With `augment`, `controls` are by how much each control is moved (`pitch: {uniform: [-2, 2]}`), and the count is
    that of the files times the factor.
    """

    name: Name = "dataset"
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    groups: Annotated[tuple[Group, ...], Field(max_length=10_000)] = ()
    augment: Augment | None = None
    controls: dict[Name, Values] = Field(
        default_factory=dict
    )  # with `augment`: how far to move; else it belongs to the one group
    splits: dict[Split, Share] = Field(default_factory=lambda: {"train": 1.0})
    seconds: Annotated[float, Field(gt=0, le=600)] | None = None  # default: the model's clip
    sample_rate: Annotated[int, Field(ge=4000, le=192_000)] | None = None  # default: the model's
    format: Literal["wav", "flac"] = "wav"
    layout: Literal["audiofolder", "nsynth", "parquet", "webdataset"] = "audiofolder"
    loudness: Annotated[float, Field(ge=-60, le=-6)] | None = None  # LUFS, of every sound as it is written
    tolerance: dict[Name, Above] = Field(default_factory=dict)  # of controls, in their units
    clarity: Annotated[float, Field(ge=0, le=1)] = 0.87  # of a sound with a pitch: how periodic it must be (YIN)
    prior: Literal["auto", "normal", "fitted"] = "auto"
    truncation: Annotated[float, Field(ge=0, le=2)] = 1.0
    attempts: Annotated[int, Field(ge=1, le=50)] = 8  # tries of each request before what of it is drawn is drawn anew
    correct: bool = True  # where a control comes out a little off, ask for as much more or less
    copies: Literal["reject", "keep"] = "reject"  # sounds that are near-copies of a training sound
    license: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_group(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or tree.get("augment") is not None:
            return tree
        own = {k: tree[k] for k in ("count", "class", "controls") if k in tree}
        if "groups" in tree:
            if own:
                raise ValueError(f"{', '.join(own)}: say it in each of the groups")
            return tree
        if "count" not in own:
            raise ValueError("count is missing: how many sounds?")
        return {k: v for k, v in tree.items() if k not in own} | {"groups": [own]}

    @model_validator(mode="after")
    def _consistent(self) -> "Spec":
        if not self.augment and not self.groups:
            raise ValueError("groups: at least one")
        if self.augment and self.groups:
            raise ValueError("augment: makes as many sounds as files times factor; leave groups, count and class out")
        if abs(sum(self.splits.values()) - 1) > 1e-6:
            raise ValueError(f"splits must add up to 1, got {sum(self.splits.values()):g}")
        if self.layout == "nsynth" and self.format != "wav":
            raise ValueError("layout nsynth holds WAV files; leave format out")
        asked = [{*g.controls} for g in self.groups] or [{*self.controls}]
        if self.loudness is not None and any("loudness" in names for names in asked):
            raise ValueError("loudness: give one level for all, or a control, not both")
        if self.total > 10_000_000:
            raise ValueError(f"{self.total} sounds: at most 10000000")
        return self

    @property
    def total(self) -> int:
        """Sounds asked for, but of `augment`."""
        return sum(g.count for g in self.groups)

    @property
    def hash(self) -> str:
        """Of everything that the spec says, defaults filled in."""
        return hashlib.sha256(json.dumps(self.told, sort_keys=True).encode()).hexdigest()

    @property
    def told(self) -> dict[str, Any]:
        """What the data set tells of it: everything, but of a folder of sounds its name alone, not where it lies."""
        own = self.model_dump(mode="json", by_alias=True)
        if self.augment:
            own["augment"]["folder"] = self.augment.folder.resolve().name
        return own


def load_spec(path: Path, seed: int | None = None) -> Spec:
    """Read a SPEC.yaml. A folder in it is relative to it. Raises UserError in one line."""
    tree = load_yaml(path, "SPEC")
    if seed is not None:
        tree["seed"] = seed
    try:
        spec = Spec.model_validate(tree)
    except ValidationError as e:
        said = "; ".join(explain(error, Spec) for error in e.errors()[:5])
        where = said if "groups" in tree else said.replace("groups.0.", "")  # as the user wrote it
        raise UserError(f"spec {path}: {where}") from None
    if spec.augment:
        folder = path.parent / spec.augment.folder
        spec = spec.model_copy(update={"augment": spec.augment.model_copy(update={"folder": folder})})
    return spec
