"""The bundle: everything that inference needs, as a folder without any pickle.

BUNDLE/config.json            recipe, controls, normalisation, versions, hashes of the tensor files
       vaegan.safetensors     encoder, generator, heads, discriminator (where there was one)
       README.md              the card
       controls.*             what fit-controls measured and fitted (control/fitted.py)
       fingerprints.*         prints of the training sounds (sound_model/fingerprints.py)
"""

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from audio_vaegan.config import ModelConfig, Recipe
from audio_vaegan.errors import UserError
from audio_vaegan.files import new_folder, read_bytes, read_json, write_atomic, write_json
from audio_vaegan.models.controls import Control
from audio_vaegan.models.critic import ControlHeads, Discriminator
from audio_vaegan.models.hub import find_on_hub
from audio_vaegan.models.vaegan import Normalisation, VaeGan
from audio_vaegan.recipe import parse_recipe
from audio_vaegan.version import __version__

VERSION = 3  # 3: several controls
WEIGHTS = "vaegan.safetensors"
MOST_CONFIG, MOST_CONTROLS = 2**24, 64  # bytes of config.json, controls
FILES = ("config.json", "README.md", "*.safetensors", "controls.json", "fingerprints.json")  # of a bundle
QUICKSTART = Path("quickstart/run")  # which is no hub id
PACKAGED = Path(__file__).parents[1] / "pretrained"  # NAME/config.json ...


class Bundle(nn.Module):
    """The networks of a bundle and what they need to know; `hash` names weights and inference configuration."""

    def __init__(
        self,
        recipe: Recipe,
        vaegan: VaeGan,
        heads: ControlHeads,
        about: dict[str, Any] | None = None,
        discriminator: Discriminator | None = None,
    ) -> None:
        super().__init__()
        self.recipe, self.vaegan, self.heads, self.discriminator = recipe, vaegan, heads, discriminator
        self.about = about or {}
        self.hash = ""

    @torch.no_grad()
    def hear_classes(self, log_mel: Tensor) -> dict[str, Tensor]:
        """The classes that the heads, trained on real sounds, hear in a log-mel `[B, n_mels, T]`: `[B]` by name."""
        if not any(c.classes for c in self.vaegan.controls):
            return {}
        logits = self.heads(self.vaegan.normalise(log_mel))
        pairs = zip(self.vaegan.controls, logits, strict=True)
        return {c.name: found.argmax(dim=-1).float().cpu() for c, found in pairs if c.classes}


def _inference_config(bundle: Bundle) -> dict[str, Any]:
    recipe = bundle.recipe
    return {
        "mel": recipe.mel.model_dump(),
        "clip_samples": recipe.data.clip_samples,
        "encoder": recipe.encodes,
        "model": recipe.model.model_dump(mode="json"),
        "controls": [c.to_json() for c in bundle.vaegan.controls],
        "normalisation": asdict(bundle.vaegan.normalisation),
    }


def _hash(weights: bytes, inference: dict[str, Any]) -> str:
    digest = hashlib.sha256(weights)
    digest.update(json.dumps(inference, sort_keys=True).encode())
    return digest.hexdigest()


def save_bundle(bundle: Bundle, out: Path, overwrite: bool = True, half: bool = False) -> str:
    """Write a bundle, whole or not at all; with `half` its weights take half the space. Returns its model hash."""
    kind = torch.float16 if half else torch.float32
    tensors = {f"{part}.{k}": v.detach().to("cpu", kind).contiguous() for part, k, v in _parts(bundle)}
    weights = save(tensors)
    inference = _inference_config(bundle)
    bundle.hash = _hash(weights, inference)
    with new_folder(out, "bundle", overwrite) as folder:
        write_atomic(folder / WEIGHTS, weights)
        write_json(
            folder / "config.json",
            {
                "version": VERSION,
                "model_hash": bundle.hash,
                "inference": inference,
                "recipe": bundle.recipe.model_dump(mode="json"),
                "about": bundle.about,
                "versions": {"audio_vaegan": __version__, "torch": torch.__version__},
            },
        )
        write_atomic(folder / "README.md", _card(bundle))
    return bundle.hash


def _parts(bundle: Bundle) -> list[tuple[str, str, Tensor]]:
    modules = {
        "encoder": bundle.vaegan.encoder,
        "generator": bundle.vaegan.generator,
        "heads": bundle.heads,
        "discriminator": bundle.discriminator,
    }
    return [(name, k, v) for name, m in modules.items() if m is not None for k, v in m.state_dict().items()]


def packaged_models() -> dict[str, Path]:
    """The models that come with the package, by name."""
    return {p.parent.name: p.parent for p in sorted(PACKAGED.glob("*/config.json"))}


def bundle_folder(path: Path) -> Path:
    """A bundle's own folder, of a bundle, of a run that holds one, or of the name of a model that comes with the
    package (where no file has that name), or of a hub id `owner/name` (where there is no folder `owner`)."""
    if not path.exists():
        path = packaged_models().get(str(path), path)
    if path == QUICKSTART and not path.exists():
        raise UserError(f"{path}: there is no such folder; run `make quickstart` first, or `audio-vaegan quickstart`")
    if not path.exists() and not path.parent.exists():
        path = find_on_hub(str(path), FILES, (), lambda p: (p / WEIGHTS).is_file(), "give a bundle or a run") or path
    inside = path / "bundle"
    return inside if not (path / "config.json").is_file() and (inside / "config.json").is_file() else path


def is_model(path: Path) -> bool:
    """Whether a path, or a name of the package, is that of a model; the hub is not asked."""
    named = path.exists() or str(path) in packaged_models()
    return named and (bundle_folder(path) / WEIGHTS).is_file()


def load_bundle(path: Path) -> Bundle:
    """Open a bundle, or the bundle of a run folder. Checks shapes, finiteness and hash; runs no code from it."""
    path = bundle_folder(path)
    if not (path / "config.json").is_file():
        known = ", ".join(packaged_models()) or "none"
        raise UserError(
            f"{path}: not a model (no config.json there; a model is a bundle or a run folder, or one of the package's: "
            f"{known})"
        )
    config = read_json(path / "config.json", "model", MOST_CONFIG)
    if not isinstance(config, dict) or config.get("version") != VERSION:
        raise UserError(f"{path / 'config.json'}: not a bundle of version {VERSION}")
    try:
        recipe = parse_recipe(config["recipe"], str(path / "config.json"))
        inference = config["inference"]
        model = ModelConfig.model_validate(inference["model"]).model_dump(mode="json")  # with keys that came after it
        if len(inference["controls"]) > MOST_CONTROLS:
            raise ValueError(f"config.json tells of more than {MOST_CONTROLS} controls")
        controls = [Control.from_json(c) for c in inference["controls"]]
        normalisation = Normalisation(**inference["normalisation"])
        if not (math.isfinite(normalisation.mean) and 0 < normalisation.deviation < math.inf):
            raise ValueError("its normalisation is none")
        weights = read_bytes(path / WEIGHTS)
        tensors = load(weights)
        _check_size(recipe, len(weights))
        vaegan = VaeGan(recipe, controls, normalisation)
        frames = recipe.mel.frames(recipe.data.clip_samples)
        heads = ControlHeads(recipe.model, controls, recipe.mel.n_mels, frames)
        judged = any(name.startswith("discriminator.") for name in tensors)
        classes = len(tensors.get("discriminator.kinds.bias", ()))
        discriminator = Discriminator(recipe.model, classes) if judged else None
        bundle = Bundle(recipe, vaegan, heads, dict(config.get("about") or {}), discriminator)
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError, OSError, SafetensorError) as e:
        raise UserError(f"{path}: damaged bundle ({type(e).__name__}: {' '.join(str(e).split())[:200]})") from None
    if _inference_config(bundle) != inference | {"model": model}:
        raise UserError(f"{path / 'config.json'}: its part `inference` does not fit the recipe in it")
    _fill(bundle, tensors, path)
    bundle.hash = _hash(weights, inference)
    if bundle.hash != config.get("model_hash"):
        raise UserError(f"{path}: the weights or the configuration were changed after saving (model_hash differs)")
    return bundle.eval()


def _check_size(recipe: Recipe, size: int) -> None:
    """Raise ValueError, before any network is made, where a file of so many bytes cannot hold those that the
    configuration tells of."""
    m = recipe.model
    block = m.width * m.kernel + 2 * m.expansion * m.width**2
    encoder = m.encoder_blocks if recipe.encodes else 0
    least = block * (encoder + m.generator_blocks) + m.width * m.timbre_dim
    if 2 * least > size:  # in half precision
        raise ValueError(f"{WEIGHTS} is smaller than the networks that config.json tells of")


def _fill(bundle: Bundle, tensors: dict[str, Tensor], path: Path) -> None:
    wanted = {f"{part}.{k}": v for part, k, v in _parts(bundle)}
    if wanted.keys() != tensors.keys():
        odd = sorted(wanted.keys() ^ tensors.keys())
        raise UserError(f"{path / WEIGHTS}: {len(odd)} tensors missing or unknown (first: {odd[0]})")
    for name, value in tensors.items():
        if wanted[name].shape != value.shape:
            raise UserError(
                f"{path / WEIGHTS}: {name} has shape {list(value.shape)}, the configuration says "
                f"{list(wanted[name].shape)}"
            )
        if not torch.isfinite(value).all():
            raise UserError(f"{path / WEIGHTS}: {name} holds NaN or infinite values")
        wanted[name].copy_(value)


def _card(bundle: Bundle) -> str:
    recipe, about = bundle.recipe, bundle.about
    controls = "\n".join(
        f"- {c.name}: {', '.join(c.classes)}" if c.classes else f"- {c.name}: {c.low:g} to {c.high:g} {c.unit}"
        for c in bundle.vaegan.controls
    )
    seconds = recipe.data.clip_samples / recipe.mel.sample_rate
    facts = "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in about.items())
    return f"""---
library_name: audio-vaegan
tags: [audio, sound-generation, vae-gan]
---

# {recipe.name}

A sound generator made by audio-vaegan {__version__} (objective {recipe.objective}, on log-mel spectrograms).
Every sound that it makes is generated by a machine and is marked so in its file.

Model hash: `{bundle.hash}`

## Sound

Mono, {recipe.mel.sample_rate} Hz, clips of {seconds:.3f} s. Vocoder: the file
`vocoder.safetensors` in this folder if there is one, else one that comes with audio-vaegan for this mel, else
Griffin-Lim.

## Controls

{controls or "none"}

## How it was made

{facts or "unknown"}
"""
