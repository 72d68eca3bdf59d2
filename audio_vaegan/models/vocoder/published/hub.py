"""Published checkpoints on the model hub."""

from pathlib import Path

from audio_vaegan.models.hub import find_on_hub
from audio_vaegan.models.vocoder.published.folder import CONFIGS, FAMILIES, find_config, find_weights, read_config

PATTERNS = sorted({*CONFIGS, *(pattern for family in FAMILIES for pattern in family.files)})
TRAINING = ["*discriminator*", "*optimizer*"]


def find_published(name: str) -> Path | None:
    """The folder of a hub id `owner/name`: from the hub's cache, else downloaded. None if the name is no such id.

    Only the config and the generator are fetched. Raises UserError if the hub cannot be reached, or has no such model.
    """
    mend = "download its config and generator elsewhere and give the folder"
    return find_on_hub(name, PATTERNS, TRAINING, _complete, mend)


def _complete(folder: Path) -> bool:
    """Whether a cached folder has a config and weights; another program may have fetched only some of the files."""
    config = find_config(folder)
    return config is not None and bool(find_weights(folder, read_config(config)[0]))
