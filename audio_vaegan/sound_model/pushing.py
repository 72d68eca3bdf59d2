"""A model on the model hub, whole, with its card."""

from pathlib import Path

from audio_vaegan.errors import UserError
from audio_vaegan.models.bundle import bundle_folder, load_bundle
from audio_vaegan.models.hub import HUB_ID
from audio_vaegan.models.vocoder import packaged
from audio_vaegan.models.vocoder.saved import FILE, load_vocoder


def push_model(path: Path, name: str, *, private: bool = False) -> str:
    """Upload a model's bundle to the hub id `owner/name`, with the vocoder that it uses, so that the id can be given
    wherever a model is asked for. The token is the one that `hf auth login` or HF_TOKEN left. Returns a line."""
    if not HUB_ID.fullmatch(name):
        raise UserError(f"{name}: a name on the hub is like owner/name")
    folder = bundle_folder(path)
    bundle = load_bundle(folder)
    from huggingface_hub import HfApi

    api = HfApi(library_name="audio-vaegan")
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, ignore_patterns=[".*"], commit_message=f"model {bundle.hash[:12]}"
        )
        if not (folder / FILE).is_file():
            fitting = (file for file in packaged().values() if load_vocoder(file).config == bundle.recipe.mel)
            for file in fitting:
                api.upload_file(repo_id=name, path_or_fileobj=file, path_in_repo=FILE, commit_message="its vocoder")
                break
    except Exception as e:  # of the hub's client or of the libraries below it
        reason = (str(e).strip().splitlines() or [""])[0][:160]
        raise UserError(f"{name}: could not be uploaded ({type(e).__name__}: {reason}); try: hf auth login") from None
    return f"uploaded: {address}"
