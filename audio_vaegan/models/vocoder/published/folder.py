"""A folder with a published checkpoint: which family it is, its config, its file of weights."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel, ValidationError

from audio_vaegan.errors import UserError
from audio_vaegan.models.vocoder.contract import Vocoder
from audio_vaegan.models.vocoder.published.adapter import PublishedVocoder
from audio_vaegan.models.vocoder.published.bigvgan import BigVgan, BigVganSettings
from audio_vaegan.models.vocoder.published.generator import GeneratorSettings
from audio_vaegan.models.vocoder.published.hifigan import HifiGan
from audio_vaegan.models.vocoder.published.vocos import Vocos
from audio_vaegan.models.vocoder.published.vocos_settings import VocosSettings
from audio_vaegan.models.vocoder.published.weights import fit, fuse_weight_norm, read_tensors

CONFIGS = ("config.yaml", "config.yml", "config.json")
STEPS = "g_[0-9]*"  # HiFi-GAN and BigVGAN write g_STEPS as they train


@dataclass(frozen=True)
class Family:
    """`marks`: the keys of a config by which the family is known. `files`: patterns for the weights, best first."""

    name: str
    marks: frozenset[str]
    settings: type[BaseModel]
    network: Callable[[Any], Any]
    files: tuple[str, ...]


FAMILIES = (
    Family(
        "vocos",
        frozenset({"feature_extractor", "backbone", "head"}),
        VocosSettings,
        Vocos,
        ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin"),
    ),
    Family(
        "bigvgan",
        frozenset({"upsample_rates", "activation"}),
        BigVganSettings,
        BigVgan,
        ("bigvgan_generator.safetensors", "model.safetensors", "bigvgan_generator.pt", STEPS),
    ),
    Family(
        "hifigan",
        frozenset({"upsample_rates", "resblock"}),
        GeneratorSettings,
        HifiGan,
        ("generator*.safetensors", "model.safetensors", "generator_*", STEPS),
    ),
)


def find_config(folder: Path) -> Path | None:
    return next((folder / name for name in CONFIGS if (folder / name).is_file()), None)


def find_weights(folder: Path, family: Family) -> list[Path]:
    """The files that may hold the generator: of one's own training steps the last, else all that fit equally well."""
    for pattern in family.files:
        found = sorted(p for p in folder.glob(pattern) if p.is_file())
        if found:
            return found[-1:] if pattern == STEPS else found
    return []


def load_published(path: Path) -> Vocoder:
    """Open a published checkpoint: its folder, or one of the files in it. Runs no code from it.

    Raises UserError if there is none, its family is not known, or its tensors are not those of its config.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    folder = path if path.is_dir() else path.parent
    config = path if path.suffix in (".yaml", ".yml", ".json") and path.is_file() else find_config(folder)
    if config is None:
        raise UserError(f"{folder}: no config of a published vocoder ({', '.join(CONFIGS)}); put it beside the weights")
    family, settings = read_config(config)
    weights = path if path.is_file() and path != config else _only(folder, family)
    try:
        mel = settings.mel()
    except ValidationError as e:
        raise UserError(f"{config}: no mel of this program: {_explain(e)}; take another vocoder") from None
    tensors = fuse_weight_norm(read_tensors(weights), weights)
    with torch.device("meta"):
        network = family.network(settings)
    fit(network, tensors, network.constants(), weights)
    with weights.open("rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    return PublishedVocoder(network, mel, family.name, digest)


def read_config(path: Path) -> tuple[Family, Any]:
    """The family of a config file, and its settings."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as e:
        raise UserError(f"{path}: unreadable ({' '.join(str(e).split())[:150]}); fetch the file again") from None
    keys = content.keys() if isinstance(content, dict) else set()
    family = next((f for f in FAMILIES if f.marks <= keys), None)
    if family is None:
        known = ", ".join(f.name for f in FAMILIES)
        raise UserError(f"{path}: not the config of a known vocoder; take one of these families: {known}")
    try:
        return family, family.settings.model_validate(content)
    except ValidationError as e:
        raise UserError(f"{path}: no {family.name} of a known kind: {_explain(e)}; take a published model") from None


def _only(folder: Path, family: Family) -> Path:
    found = find_weights(folder, family)
    if not found:
        names = ", ".join(family.files)
        raise UserError(f"{folder}: no weights of {family.name} ({names}); put the file beside the config")
    if len(found) > 1:
        raise UserError(f"{folder}: several generators ({', '.join(p.name for p in found)}); give the path of one")
    return found[0]


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
