"""A model on the model hub, whole, with its card."""

from pathlib import Path

from audio_vaegan.errors import UserError
from audio_vaegan.models.hub import HUB_ID
from audio_vaegan.sound_model.model import SoundModel


def push_model(path: Path, name: str, *, private: bool = False) -> str:
    """Upload a model to the hub id `owner/name` (`SoundModel.push_to_hub`). The token is the one that `hf auth login`
    or HF_TOKEN left. Returns a line."""
    if not HUB_ID.fullmatch(name):
        raise UserError(f"{name}: a name on the hub is like owner/name")
    model = SoundModel.from_pretrained(path)
    try:
        address = model.push_to_hub(name, private=private, commit_message=f"model {model.hash[:12]}")
    except Exception as e:  # of the hub's client or of the libraries below it
        reason = (str(e).strip().splitlines() or [""])[0][:160]
        raise UserError(f"{name}: could not be uploaded ({type(e).__name__}: {reason}); try: hf auth login") from None
    return f"uploaded: {address}"
