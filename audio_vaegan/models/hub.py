"""Files from the model hub: from its cache, else downloaded."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from audio_vaegan.errors import UserError

REASONS = {  # of errors of the hub's client, in short
    "LocalEntryNotFoundError": "it cannot be reached, and no copy is kept here",
    "RepositoryNotFoundError": "no such model, or a private one",
}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_on_hub(
    name: str, wanted: Sequence[str], unwanted: Sequence[str], complete: Callable[[Path], bool], mend: str
) -> Path | None:
    """The folder of a hub id `owner/name` with the files of the patterns `wanted`, less `unwanted`. None if the name is
    no such id.

    A cached folder that is not `complete` is fetched again: another program may have fetched only some of the files.
    Raises UserError, with the `mend`, if the hub cannot be reached, or has no such model.
    """
    if not HUB_ID.fullmatch(name):
        return None
    from huggingface_hub import snapshot_download

    def fetch(local: bool) -> Path:
        allow, ignore = list(wanted), list(unwanted)
        return Path(snapshot_download(name, allow_patterns=allow, ignore_patterns=ignore, local_files_only=local))

    try:
        folder = fetch(local=True)
        if complete(folder):
            return folder
    except Exception:  # not in the cache: the hub's client says so in several ways
        pass
    try:
        return fetch(local=False)
    except Exception as e:  # of the hub's client or of the libraries below it
        kind = type(e).__name__
        reason = REASONS.get(kind) or f"{kind}: {(str(e).strip().splitlines() or [''])[0][:120]}"
        missing = f"no such file or folder, and not to be had from the model hub ({reason})"
        raise UserError(f"{name}: {missing}; {mend}") from None
