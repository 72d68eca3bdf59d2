"""Models on the model hub: a stand-in for its client, which keeps what it is given in a folder."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from conftest import cli, one_line

from audio_vaegan.errors import UserError
from audio_vaegan.sound_model import SoundModel


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """What is pushed lies in a folder, from where it is fetched."""
    root = tmp_path / "hub"

    class Api:
        def __init__(self, token):
            assert token is None

        def create_repo(self, repo_id, private, exist_ok):
            (root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, repo_type, folder_path, commit_message, **rest):
            assert repo_type == "model" and not any(rest.values())
            for file in Path(folder_path).iterdir():
                shutil.copy(file, root / repo_id)
            return f"hub/{repo_id} {commit_message}"

    def fetch(name, allow_patterns, ignore_patterns, local_files_only):
        if local_files_only or not (root / name).is_dir():
            raise huggingface_hub.errors.LocalEntryNotFoundError("not there")
        kept = {f for pattern in allow_patterns for f in (root / name).glob(pattern)}
        assert kept == set((root / name).iterdir())  # nothing that is needed is left out
        return str(root / name)

    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.chdir(tmp_path)
    return root


def test_a_model_that_was_pushed_is_the_same_by_its_id(hub):
    done = cli("push", "notes16k", "someone/notes")
    assert done.returncode == 0 and "hub/someone/notes" in done.stdout, done.stderr
    there, own = SoundModel.from_pretrained("someone/notes"), SoundModel.from_pretrained("notes16k")
    assert there.hash == own.hash and there.vocoder.hash == own.vocoder.hash and there.prior is not None
    assert (there.sample(1, pitch=60.0).audio == own.sample(1, pitch=60.0).audio).all()
    assert (hub / "someone" / "notes" / "README.md").read_text().startswith("---\nlibrary_name: audio-vaegan\n")


def test_the_methods_are_those_of_the_hubs_mixin(hub, tmp_path):
    model = SoundModel.from_pretrained("notes16k")
    assert isinstance(model, huggingface_hub.ModelHubMixin)
    model.push_to_hub("someone/again")
    model.save_pretrained(tmp_path / "beside")
    for place in ("someone/again", tmp_path / "beside"):
        assert SoundModel.from_pretrained(place).hash == model.hash
    files = [sorted(f.name for f in place.iterdir()) for place in (hub / "someone" / "again", tmp_path / "beside")]
    assert files[0] == files[1] and {"README.md", "vocoder.safetensors", "controls.json"} <= set(files[0])
    assert (tmp_path / "beside" / "config.json").read_bytes() == (model.folder / "config.json").read_bytes()
    model.folder = None
    with pytest.raises(UserError, match="not opened from a bundle"):
        model.push_to_hub("someone/again")


def test_mistakes(hub, tmp_path):
    assert "owner/name" in one_line(cli("push", "notes16k", "notes"))
    said = one_line(cli("generate", "some/where", "--out", tmp_path / "out"))
    assert "some/where: no such file or folder, and not to be had from the model hub (it cannot be reached" in said
    (tmp_path / "some").mkdir()
    assert "not a model" in one_line(cli("generate", "some/where", "--out", tmp_path / "out"))  # a folder of the user's


def test_the_run_of_a_quickstart_that_never_ran_is_not_asked_of_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    for _ in range(2):
        said = one_line(cli("generate", "quickstart/run", "--out", tmp_path / "out"))
        assert "quickstart/run: there is no such folder; run `make quickstart` first" in said
        (tmp_path / "quickstart").mkdir(exist_ok=True)
