"""Published checkpoints on the model hub."""

import re
from pathlib import Path

from audio_vaegan.errors import UserError
from audio_vaegan.models.vocoder.published.folder import CONFIGS, FAMILIES, find_config, find_weights, read_config

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PATTERNS = sorted({*CONFIGS, *(pattern for family in FAMILIES for pattern in family.files)})
TRAINING = ["*discriminator*", "*optimizer*"]


def find_published(name: str) -> Path | None:
    """The folder of a hub id `owner/name`: from the hub's cache, else downloaded. None if the name is no such id.

    Only the config and the generator are fetched. Raises UserError if the hub cannot be reached, or has no such model.
    """
    if not HUB_ID.fullmatch(name):
        return None
    from huggingface_hub import snapshot_download

    def fetch(local: bool) -> Path:
        return Path(snapshot_download(name, allow_patterns=PATTERNS, ignore_patterns=TRAINING, local_files_only=local))

    try:
        folder = fetch(local=True)
        if _complete(folder):
            return folder
    except Exception:  # not in the cache: the hub's client says so in several ways
        pass
    try:
        return fetch(local=False)
    except Exception as e:  # of the hub's client or of the libraries below it
        reason = (str(e).strip().splitlines() or [""])[0][:120]
        raise UserError(
            f"{name}: no such file or folder, and not to be had from the model hub ({type(e).__name__}: {reason}); "
            "download its config and generator elsewhere and give the folder"
        ) from None


def _complete(folder: Path) -> bool:
    """Whether a cached folder has a config and weights; another program may have fetched only some of the files."""
    config = find_config(folder)
    return config is not None and bool(find_weights(folder, read_config(config)[0]))
