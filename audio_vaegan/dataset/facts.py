"""What is known of a data set that was made: the facts that its card, its metadata and its layouts tell."""

from dataclasses import asdict, dataclass, field
from typing import Any

Row = dict[str, Any]
"""What is known of one sound. Always there:

id (digits, zero-padded), split, model_hash, vocoder, seed, item, attempt (0: the first try was good), address (by which
the model makes it again), sample_rate, num_samples, peak_dbfs, loudness_lufs, nearest_training (0..1, how alike the
nearest training sound is; None without fingerprints), audio_sha256 (of the file), synthetic (True), license.
For each control of the model: NAME_requested (None: not asked for), NAME_achieved (None: undefined), NAME_unit; a
class has its name in NAME_requested, and in NAME_achieved the one that the model's own classifier hears.
`label` is there when the model has classes; `source` (the file's name) for a variation of a real sound. A layout adds
`file_name`.
"""
NO_LABELS = (
    "Of NSynth's keys `instrument` (every sound its own), `instrument_source` (synthetic) and `qualities` (none) are "
    "no labels here, nor is `instrument_family` where the class is none of NSynth's families, or there is none: it is "
    "9, `synth_lead`, then; the class itself is in `label`."
)  # in the layout nsynth


@dataclass(frozen=True)
class Measured:
    """A control of the data set."""

    unit: str
    low: float  # of the model's trained range
    high: float
    tolerance: float | None  # how far from its request a sound may be; None: never asked for


@dataclass(frozen=True)
class Facts:
    """A data set that was made."""

    name: str
    layout: str  # audiofolder, nsynth, parquet, webdataset
    format: str  # wav, flac
    sample_rate: int
    seconds: float  # of the longest sound
    license: str | None  # as the user stated it
    asked: int
    delivered: int
    splits: dict[str, int]  # delivered, by split
    controls: dict[str, Measured]
    classes: tuple[str, ...]  # of the model's class label
    rejected: dict[str, int]  # how often each was a reason why an attempt failed; one may have several
    missing: dict[str, int]  # sounds never delivered, by the last reason
    seed: int
    spec: dict[str, Any]  # as the user wrote it, defaults filled in; of a folder its name alone
    spec_sha256: str
    model_name: str
    model_hash: str
    vocoder: str
    trained_on: dict[str, Any] = field(default_factory=dict)  # what the bundle says of its training data
    fingerprints: int = 0  # training sounds that copies were looked for among
    version: str = ""  # of audio-vaegan
    torch: str = ""
    vocoder_asked: str = "auto"  # as the command said it; of a path its name alone
    shortest: float | None = None  # seconds of the shortest sound; None: all are as long
    sources: int = 0  # real sounds that were varied
    cut: int = 0  # of them those that are longer than a sound here: only their beginning was varied
    loudness_tolerance: float | None = None  # LU that a sound may be off the spec's loudness; None: none was asked

    @property
    def length(self) -> str:
        """Of one sound."""
        alike = self.shortest is None or self.shortest == self.seconds
        return f"{self.seconds:g} s" if alike else f"{self.shortest:g} to {self.seconds:g} s"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
