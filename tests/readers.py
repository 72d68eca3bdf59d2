"""Every parser of files that come from elsewhere, as a function of one file's bytes, for the fuzzers.

Each ends well, or with the UserError (or BadAudio) that becomes one line; anything else is a fault.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from conftest import TINY, tone
from safetensors.numpy import load_file, save

from audio_vaegan import audio
from audio_vaegan.config import MelConfig, Recipe, VocoderConfig
from audio_vaegan.control.fitted import Fitted, load_fitted, save_fitted
from audio_vaegan.data.sources.tables import read_table
from audio_vaegan.data.store import Store
from audio_vaegan.dataset.spec import load_spec
from audio_vaegan.errors import UserError
from audio_vaegan.models.bundle import Bundle, load_bundle, save_bundle
from audio_vaegan.models.controls import Control
from audio_vaegan.models.critic import ControlHeads
from audio_vaegan.models.vaegan import Normalisation, VaeGan
from audio_vaegan.models.vocoder.network import VocoderNetwork
from audio_vaegan.models.vocoder.saved import TrainedVocoder, load_vocoder, save_vocoder
from audio_vaegan.recipe import load_recipe
from audio_vaegan.sound_model.fingerprints import load_fingerprints, save_fingerprints

Reader = Callable[[bytes], object]


def readers(folder: Path, store: Path) -> dict[str, tuple[bytes, Reader]]:
    """By name: the bytes of a good file, and what reads it in the place of the good one."""
    folder.mkdir(exist_ok=True)
    bundle = _bundle(folder / "bundle")
    model_hash = load_bundle(bundle).hash
    shutil.copytree(store, folder / "store")
    save_vocoder(TrainedVocoder(VocoderNetwork(MelConfig(n_mels=16), VocoderConfig(width=8, blocks=1))), folder / "v")
    sounds = {}
    for kind, ending in (("WAV", "wav"), ("FLAC", "flac"), ("OGG", "ogg"), ("MP3", "mp3"), ("AIFF", "aiff")):
        soundfile.write(folder / f"tone.{ending}", tone(60, 0.2), 16000, format=kind)
        sounds[ending] = (folder / f"tone.{ending}", audio.read)
    (folder / "r.yaml").write_text(TINY)
    (folder / "s.yaml").write_text(
        "name: x\ncount: 9\ncontrols: {pitch: {grid: [60, 70, 2]}}\nsplits: {train: 0.9, test: 0.1}"
    )
    (folder / "labels.csv").write_text("file,pitch,x\na.wav,60,left\nb.wav,C#4,\n")
    (folder / "labels.jsonl").write_text('{"file": "a.wav", "pitch": 60}\n{"file": "b.wav", "x": [1, {"y": null}]}\n')
    (folder / "latent").write_bytes(save({"x": np.zeros(3, np.float32)}))
    files: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "recipe": (folder / "r.yaml", load_recipe),
        "spec": (folder / "s.yaml", load_spec),
        "csv": (folder / "labels.csv", read_table),
        "jsonl": (folder / "labels.jsonl", read_table),
        "config": (bundle / "config.json", lambda p: load_bundle(p.parent)),
        "weights": (bundle / "vaegan.safetensors", lambda p: load_bundle(p.parent)),
        "controls": (bundle / "controls.json", lambda p: load_fitted(p.parent, model_hash)),
        "prints": (bundle / "fingerprints.safetensors", lambda p: load_fingerprints(p.parent, model_hash, 6)),
        "vocoder": (folder / "v", load_vocoder),
        "store": (folder / "store" / "store.json", lambda p: Store(p.parent)),
        "items": (folder / "store" / "items.parquet", lambda p: list(Store(p.parent).rows())),
        "shard": (folder / "store" / "shard-00000.npy", lambda p: Store(p.parent).read([0])),
        **sounds,
    }
    return {name: (path.read_bytes(), _reader(path, read)) for name, (path, read) in files.items()}


def _reader(path: Path, read: Callable[[Path], object]) -> Reader:
    good = path.read_bytes()

    def once(content: bytes) -> object:
        # A new file each time: one that is still mapped must not change.
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as f:
            f.write(content)
        try:
            Path(f.name).replace(path)
            return read(path)
        except (UserError, audio.BadAudio) as e:
            assert str(e) and "Traceback" not in str(e)
            return None
        finally:
            path.unlink()
            path.write_bytes(good)

    return once


def _bundle(folder: Path) -> Path:
    """A model of a few thousand weights, with all that lies beside one."""
    tree = {
        "mel": {"preset": "notes-16k-128", "n_mels": 8},
        "data": {"clip_samples": 2048},
        "model": {"timbre_dim": 5, "width": 8, "encoder_blocks": 1, "generator_blocks": 1, "head_blocks": 1},
    }
    recipe = Recipe.model_validate(tree)
    controls = [Control("pitch", "semitones", 60, 70, 65, 3, 11)]
    heads = ControlHeads(recipe.model, controls, 8, 8)
    bundle = Bundle(recipe, VaeGan(recipe, controls, Normalisation(-5.0, 2.0)), heads, {"steps": 1})
    save_bundle(bundle, folder)
    save_fitted(Fitted(bundle.hash), folder)
    save_fingerprints(np.ones((2, 192), np.float32) / 14, folder, bundle.hash)
    assert load_file(folder / "vaegan.safetensors")
    return folder
