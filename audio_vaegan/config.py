"""The recipe: everything that decides what is trained, as frozen, checked values. Imports no torch.

A recipe is a YAML file whose keys mirror the classes below. Any value can be changed on the command
line by its dotted name: `--train.steps 200`, `--mel hifigan-22k-80`, `--model.width 256`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from audio_vaegan.errors import UserError, did_you_mean

Positive = Annotated[int, Field(gt=0, lt=2**31)]
Size = Annotated[int, Field(gt=0, le=8192)]  # of a layer, a batch, a filterbank: larger ones are slips of the pen
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A frozen part of the recipe that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MelConfig(Section):
    """Everything that decides a log-mel spectrogram. Two spectrograms are comparable only if all of it is equal."""

    sample_rate: Positive = 16000
    n_fft: Positive = 1024
    win_length: Positive = 1024
    hop_length: Positive = 256
    n_mels: Size = 128
    f_min: Weight = 20.0
    f_max: Weight = 8000.0
    mel_scale: Literal["slaney", "htk"] = "slaney"
    norm: Literal["slaney"] | None = "slaney"
    power: Literal[1, 2] = 1
    magnitude_eps: Weight = 0.0  # added to re^2 + im^2 under the root (HiFi-GAN: 1e-9)
    log: Literal["ln", "log10"] = "ln"
    floor: Annotated[float, Field(gt=0)] = 1e-5  # smallest mel magnitude before the logarithm
    padding: Literal["same", "center"] = "same"  # same: (n_fft - hop) / 2 a side; center: n_fft / 2 a side
    pad_mode: Literal["reflect", "constant"] = "constant"

    @model_validator(mode="after")
    def _consistent(self) -> "MelConfig":
        if self.win_length > self.n_fft or self.hop_length > self.win_length:
            raise ValueError("needs hop_length <= win_length <= n_fft")
        if not self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(f"needs f_min < f_max <= sample_rate / 2 = {self.sample_rate / 2:g} Hz")
        if (self.n_fft - self.hop_length) % 2:
            raise ValueError("needs n_fft - hop_length even")
        return self

    def frames(self, samples: int) -> int:
        """Number of frames of a clip: samples / hop for `same` padding, one more for `center`."""
        return samples // self.hop_length + (1 if self.padding == "center" else 0)

    def differences(self, other: "MelConfig") -> list[str]:
        """`["hop_length: 256 != 512", ...]` for each field that differs."""
        return [
            f"{name}: {getattr(self, name)} != {getattr(other, name)}"
            for name in type(self).model_fields
            if getattr(self, name) != getattr(other, name)
        ]


_HIFIGAN: dict[str, Any] = {"magnitude_eps": 1e-9, "pad_mode": "reflect", "f_min": 0.0}
MEL_PRESETS: dict[str, MelConfig] = {
    "notes-16k-128": MelConfig(),
    "hifigan-22k-80": MelConfig(sample_rate=22050, n_mels=80, f_max=8000.0, **_HIFIGAN),
    "bigvgan-24k-100": MelConfig(sample_rate=24000, n_mels=100, f_max=12000.0, **_HIFIGAN),
    "bigvgan-44k-128": MelConfig(
        sample_rate=44100, n_fft=2048, win_length=2048, hop_length=512, n_mels=128, f_max=22050.0, **_HIFIGAN
    ),
    "vocos-24k-100": MelConfig(
        sample_rate=24000,
        n_mels=100,
        f_min=0.0,
        f_max=12000.0,
        mel_scale="htk",
        norm=None,
        floor=1e-7,
        padding="center",
        pad_mode="reflect",
    ),
}


def _mel_preset(value: Any) -> Any:
    """Let `mel:` be a preset's name, or a mapping that may start from one (`preset: name`)."""
    if isinstance(value, str):
        value = {"preset": value}
    if isinstance(value, dict) and "preset" in value:
        name = value["preset"]
        if name not in MEL_PRESETS:
            raise ValueError(f"no mel preset {name!r}.{did_you_mean(str(name), MEL_PRESETS)}")
        return MEL_PRESETS[name].model_dump() | {k: v for k, v in value.items() if k != "preset"}
    return value


class DataConfig(Section):
    """How files become clips, and how clips are split."""

    clip_samples: Positive = 16384
    silence_dbfs: float = -70.0  # a clip whose peak lies below this is dropped as silent
    test_instruments: Share = 0.15  # share of instruments (files, where there are none) held out whole
    test_notes: Share = 0.1  # share of the remaining clips held out


class ModelConfig(Section):
    """The networks. Widths and depths are frame-rate ConvNeXt stacks with mel bins as channels."""

    controls: tuple[Literal["pitch"], ...] = ("pitch",)
    timbre_dim: Size = 64
    width: Annotated[int, Field(ge=8, le=8192)] = 192
    kernel: Size = 7
    expansion: Size = 2
    encoder_blocks: Size = 6
    generator_blocks: Size = 8
    head_blocks: Size = 3
    disc_channels: Annotated[tuple[Size, ...], Field(min_length=1)] = (16, 32, 64, 96)
    disc_scales: Size = 3

    @model_validator(mode="after")
    def _centred(self) -> "ModelConfig":
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        return self


class LossConfig(Section):
    """Weights of the objective; see `losses.py` for the equations."""

    mel: Weight = 1.0
    padding: Share = 0.1  # what a padded frame weighs in the mel term, against 1 for a frame that sounds
    kl: Weight = 4e-3
    free_bits: Weight = 0.0  # nats a timbre coordinate may carry at no cost
    adversarial: Weight = 0.1
    feature: Weight = 0.5
    control: Weight = 0.1
    kl_warmup: Share = 0.2  # share of the run over which the KL weight rises from zero
    adversarial_start: Share = 0.15  # share of the run after which the discriminator judges the generator


class TrainConfig(Section):
    """The optimisation. The learning rate is a pure function of the step: linear warm-up, then cosine."""

    steps: Positive = 2000
    batch_size: Size = 32  # over all processes
    learning_rate: Annotated[float, Field(gt=0)] = 6e-4
    disc_learning_rate: Annotated[float, Field(gt=0)] = 6e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    final_learning_rate: Share = 0.02  # of the peak, at the last step
    betas: tuple[Beta, Beta] = (0.8, 0.99)
    weight_decay: Weight = 1e-2
    grad_clip: Annotated[float, Field(gt=0)] = 5.0
    ema: Share = 0.999
    mixed_precision: Literal["no", "bf16"] = "no"
    prior_share: Share = 0.5  # of a batch: fakes decoded from the prior
    repitch_share: Share = 0.25  # of a batch: fakes decoded from real codes under other controls
    judged_share: Share = 0.25  # of a batch: reconstructions (code detached) judged by the discriminator
    checkpoint_every: Positive = 250
    keep_checkpoints: Positive = 2
    log_every: Positive = 10


class Recipe(Section):
    """The whole recipe."""

    name: str = "unnamed"
    seed: Seed = 0
    mel: Annotated[MelConfig, BeforeValidator(_mel_preset)] = MelConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _whole_frames(self) -> "Recipe":
        hop, samples = self.mel.hop_length, self.data.clip_samples
        if samples % hop:
            raise ValueError(f"data.clip_samples must be a multiple of mel.hop_length ({hop}), got {samples}")
        frames, smallest = self.mel.frames(samples), 2 ** (self.model.disc_scales - 1)
        if min(frames, self.mel.n_mels) < smallest:
            raise ValueError(
                f"model.disc_scales {self.model.disc_scales} needs {smallest} frames and bands, "
                f"there are {frames} and {self.mel.n_mels}"
            )
        return self


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe and apply `--section.key value` overrides. Raises UserError in one line."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise UserError(f"--recipe: no such file: {path}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"--recipe {path}: cannot be read ({e})") from None
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError, OverflowError) as e:
        where = getattr(e, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise UserError(f"--recipe {path}: not valid YAML{line} ({getattr(e, 'problem', e)})") from None
    if not isinstance(tree, dict):
        raise UserError(f"--recipe {path}: expected `key: value` lines, found {type(tree).__name__}")
    for key, value in _pairs(overrides):
        _put(tree, key, value)
    return parse_recipe(tree, str(path))


def parse_recipe(tree: dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as e:
        raise UserError(f"recipe {where}: " + "; ".join(_explain(error) for error in e.errors())) from None


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into its own words and the recipe's overrides: `--section.key value`, `--mel`, `--seed`,
    `--name`, each with its value, so that other words can stand on either side.
    """
    own: list[str] = []
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, _ = word.removeprefix("--").partition("=")
        if word.startswith("--") and ("." in key or key in ("mel", "seed", "name")):
            overrides.append(word)
            if not equals and rest:
                overrides.append(rest.pop(0))
        else:
            own.append(word)
    return own, overrides


def _pairs(words: Sequence[str]) -> list[tuple[str, Any]]:
    """`["--a.b", "1", "--c=2"]` -> `[("a.b", 1), ("c", 2)]`, values read as YAML."""
    pairs: list[tuple[str, Any]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UserError(f"unexpected word {word!r}: overrides are written --section.key value")
        key, equals, text = word[2:].partition("=")
        if not equals:
            if not rest:
                raise UserError(f"{word}: a value is missing")
            text = rest.pop(0)
        try:
            pairs.append((key, yaml.safe_load(text)))
        except (yaml.YAMLError, ValueError, RecursionError, AttributeError, OverflowError):
            raise UserError(f"--{key}: cannot read the value {text[:40]!r}") from None
    return pairs


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        below = tree.get(name)
        if name == "mel" and isinstance(below, str):
            below = {"preset": below}
        tree[name] = tree = dict(below) if isinstance(below, dict) else {}
    tree[last] = value


def _explain(error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        section: Any = Recipe
        for name in path[:-1]:
            section = section.model_fields[name].annotation
        return f"unknown key {key!r}.{did_you_mean(path[-1], section.model_fields)}"
    message = error["msg"].removeprefix("Value error, ")
    if not key or not path[-1:] or isinstance(error["input"], dict):
        return message
    return f"{key}: {message}" + ("" if "got" in message else f" (got {str(error['input'])[:60]!r})")
