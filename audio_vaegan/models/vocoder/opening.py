"""Which vocoder: one that is named, or the one that fits."""

from pathlib import Path

from audio_vaegan.config import MelConfig
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.models.vocoder.contract import Vocoder, check_contract
from audio_vaegan.models.vocoder.griffin_lim import GriffinLim
from audio_vaegan.models.vocoder.published import find_published, load_published
from audio_vaegan.models.vocoder.saved import FILE, is_ours, load_vocoder

AUTO = "auto"
PACKAGED = Path(__file__).parents[2] / "pretrained"  # NAME.safetensors, NAME a mel preset


def packaged() -> dict[str, Path]:
    """The vocoders that come with the package, by name."""
    return {p.stem: p for p in sorted(PACKAGED.glob("*.safetensors"))}


def open_vocoder(name: str, mel: MelConfig, beside: Path | None = None, what: str = "the model") -> Vocoder:
    """The vocoder of a name, for the mel of `what`.

    - `auto`: `vocoder.safetensors` in the folder `beside` (a model's own), else one that comes with the package and
      fits the mel, else Griffin-Lim
    - `griffin-lim`
    - the name of one that comes with the package
    - a path: a vocoder file, a run of recipes/train_vocoder.py, a folder with a published checkpoint
    - a hub id, `owner/name`, of a published checkpoint; it is downloaded if it is not in the hub's cache

    Raises UserError if there is no such vocoder, or its mel differs from `mel`.
    """
    if name == "griffin-lim":
        return GriffinLim(mel)
    if name == AUTO:
        return _fitting(mel, beside)
    vocoder = named_vocoder(name)
    check_contract(vocoder.config, mel, name, what)
    return vocoder


def _fitting(mel: MelConfig, beside: Path | None) -> Vocoder:
    if beside is not None and (beside / FILE).is_file():
        own = load_vocoder(beside / FILE)
        check_contract(own.config, mel, str(beside / FILE))
        return own
    for path in packaged().values():
        vocoder = load_vocoder(path)
        if vocoder.config == mel:
            return vocoder
    return GriffinLim(mel)


def named_vocoder(name: str) -> Vocoder:
    """The vocoder of a name that is its own, whatever its mel: packaged, a path, or a hub id."""
    if name in packaged():
        return load_vocoder(packaged()[name])
    path = Path(name)
    for file in (path / FILE, path / "bundle" / FILE):
        if file.is_file():
            return load_vocoder(file)
    if path.is_file() and is_ours(path):
        return load_vocoder(path)
    if path.exists():
        return load_published(path)
    folder = find_published(name)
    if folder is None:
        known = [AUTO, "griffin-lim", *packaged()]
        raise UserError(f"vocoder {name}: no such file, folder or vocoder.{did_you_mean(name, known)}")
    return load_published(folder)
