"""Sounds as vectors, by pretrained networks from files that the user has: nothing is ever downloaded.

clap:FOLDER   a ClapModel as the model hub holds it (Wu et al. 2023), with its feature extractor; 48 kHz
panns:FILE    Cnn14 of the PANNs (Kong et al. 2020), as its authors published it; 32, 16 or 8 kHz
vggish:FILE   VGGish (Hershey et al. 2017) in PyTorch, as harritaylor/torchvggish published it; 16 kHz
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from audio_vaegan.audio import resample
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.evaluation.audioset import BATCH, Hear, open_panns, open_vggish, reason

CLAP_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order in which transformers takes them


class Embedding(Protocol):
    """What turns sounds into vectors. `name` tells its weights apart; `note` is the line to print with each score."""

    @property
    def name(self) -> str: ...

    @property
    def note(self) -> str: ...

    def features(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Clips `[B, samples]` float32 at `sample_rate` Hz -> `[B, d]` float32, one vector a clip."""


class PretrainedEmbedding:
    """A network with fixed weights, on the CPU. The same clips have the same features."""

    def __init__(self, name: str, note: str, hear: Hear, sample_rate: int) -> None:
        self.name, self.note, self.hear, self.sample_rate = name, note, hear, sample_rate

    @torch.inference_mode()
    def features(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Clips `[B, samples]` float32 at any `sample_rate` in Hz -> `[B, d]` float32."""
        return torch.cat([self.hear(self._at_its_rate(part, sample_rate)) for part in audio.float().split(BATCH)])

    def _at_its_rate(self, audio: Tensor, sample_rate: int) -> Tensor:
        if sample_rate == self.sample_rate:
            return audio
        return torch.stack([torch.from_numpy(resample(x, sample_rate, self.sample_rate)) for x in audio.numpy()])


def open_embedding(spec: str) -> Embedding:
    """Open `KIND:PATH`. Raises UserError in one line: no such kind or file, no library for it, weights that do not
    fit."""
    kind, _, place = spec.partition(":")
    if kind not in KINDS:
        raise UserError(f"{spec}: an embedding is KIND:PATH, and {kind!r} is no kind.{did_you_mean(kind, KINDS)}")
    title, opener = KINDS[kind]
    path = Path(place).expanduser()
    what = "folder" if kind == "clap" else "file"
    if not place or not (path.is_dir() if kind == "clap" else path.is_file()):
        raise UserError(f"{spec}: no such {what}; download the weights elsewhere and give {kind}:{what.upper()}")
    hear, rate, weights = opener(path)
    try:
        with torch.inference_mode():
            size = hear(torch.zeros(1, rate)).shape[1]
    except Exception as e:  # a config can promise anything
        raise UserError(f"{spec}: fails on a second of silence ({reason(e)}); take a published model") from None
    with weights.open("rb") as f:
        name = f"{kind} {hashlib.file_digest(f, 'sha256').hexdigest()[:12]}"
    return PretrainedEmbedding(name, f"{name}: {title}, {size} features of audio at {rate} Hz", hear, rate)


def _open_clap(folder: Path) -> tuple[Hear, int, Path]:
    """The audio half of a ClapModel: features of length 1. Its extractor repeats a clip until it fills 10 s; a longer
    clip is cut into equal parts here, and their mean taken (the extractor would take a random part)."""
    try:
        from transformers import ClapFeatureExtractor, ClapModel
        from transformers.utils import logging
    except ImportError:
        command = "pip install 'audio-vaegan[embeddings]'"
        raise UserError(f"clap:{folder} needs transformers; install it with: {command}") from None
    weights = next((folder / name for name in CLAP_FILES if (folder / name).is_file()), None)
    if weights is None:
        raise UserError(f"clap:{folder}: holds no weights ({', '.join(CLAP_FILES)}); give the folder of a ClapModel")
    try:
        with _quiet(logging):
            extractor: Any = ClapFeatureExtractor.from_pretrained(str(folder), local_files_only=True)
            model, info = ClapModel.from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
            )
    except Exception as e:  # of transformers, or of the libraries below it
        raise UserError(f"clap:{folder}: not a ClapModel with its feature extractor ({reason(e)})") from None
    learned = {name for name, value in model.state_dict().items() if value.is_floating_point()}
    absent = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])} & learned
    absent = {name for name in absent if name.startswith("audio_")}
    if absent:  # transformers would go on with random ones
        first = f"lacks {min(absent)}, or has it in another shape"
        raise UserError(f"{weights}: {first}, and {len(absent) - 1} more; take the config and the weights of one model")
    model.float()

    def hear(audio: Tensor) -> Tensor:
        found = []
        for part in audio.chunk(-(-audio.shape[1] // extractor.nb_max_samples), dim=1):
            mels = extractor(list(part.numpy()), sampling_rate=extractor.sampling_rate, return_tensors="pt")
            # By itself the extractor marks a random clip of the batch as longer than 10 s, and a fused model heeds it.
            longer = torch.zeros(len(part), 1, dtype=torch.bool)
            out = model.get_audio_features(input_features=mels["input_features"].float(), is_longer=longer)
            found.append(out.pooler_output)
        return F.normalize(torch.stack(found).mean(dim=0), dim=1)

    return hear, extractor.sampling_rate, weights


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Without the bars and tables of transformers."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


KINDS: dict[str, tuple[str, Callable[[Path], tuple[Hear, int, Path]]]] = {
    "clap": ("CLAP (Wu et al. 2023)", _open_clap),
    "panns": ("Cnn14 of the PANNs (Kong et al. 2020)", open_panns),
    "vggish": ("VGGish (Hershey et al. 2017)", open_vggish),
}
