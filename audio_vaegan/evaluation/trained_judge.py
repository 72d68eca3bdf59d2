"""A small network that learned a store's own sounds, pitch and instrument, and judges others by what it learned.

JUDGE/judge.json           version, mel, classes, the store it learned from, how often it is right on held-out sounds
      judge.safetensors    its weights
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from tqdm import tqdm

from audio_vaegan.config import MelConfig
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.evaluation.classifier import whole_pitches
from audio_vaegan.evaluation.pitch import mean_interval
from audio_vaegan.files import check_out_folder, new_folder, read_bytes, read_json, write_atomic, write_json
from audio_vaegan.mel import Mel

KIND, VERSION = "judge", 2  # 2: hears RANGE below a sound's loudest
RANGE = 60.0  # dB below the loudest band and frame of a sound; what is softer is not heard
LABELS = ("instrument_str", "instrument", "class", "folder")  # the first of them that the clips have names instruments
QUALITIES = ("brightness", "noisiness", "attack", "decay")  # descriptors that are learned besides: they need no label
STEPS, BATCH, SEED = 1000, 64, 0
OFTEN = 128  # times that a sound comes in training at most: a small store is learned by heart long before STEPS
LEARNING_RATE, WARM_UP = 2e-3, 50
WIDTHS, FEATURES = (16, 32, 64, 96), 128
QUALITY = 0.5  # weight of the descriptors' error beside each cross-entropy
MOST = 2000  # clips of a split that it is tested on


@dataclass(frozen=True)
class Heard:
    """What the judge hears in sounds: `features` `[B, 128]`, and how likely each note `[B, notes]` and each instrument
    `[B, classes]` is; None where it learned none."""

    features: Tensor
    pitch: Tensor | None
    instrument: Tensor | None


class JudgeNetwork(nn.Module):
    """Four convolutions that halve frequency and time, mean and maximum over time (bands stay apart: they say the
    pitch), a linear layer to the 128 features, from which each head reads. Log-mel `[B, n_mels, T]` -> features
    `[B, 128]` and the heads' outputs. Norms over groups: a batch's statistics would be those of one kind of sound.

    It hears RANGE decibels, as a listener in a quiet room does: the mel of a soft sound ends at its floor, and a judge
    who turns it up hears that end, and in real sounds the hiss of their recording, before anything else.
    """

    def __init__(self, mel: MelConfig, notes: int, classes: int) -> None:
        super().__init__()
        self.scale = -(math.log(mel.floor) if mel.log == "ln" else math.log10(mel.floor))
        self.heard = RANGE / 20 * mel.power * (math.log(10) if mel.log == "ln" else 1.0)
        blocks: list[nn.Module] = []
        for before, width in zip((1, *WIDTHS), WIDTHS, strict=False):
            blocks += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.ReLU()]
        self.body = nn.Sequential(*blocks)
        self.embed = nn.Linear(2 * WIDTHS[-1] * math.ceil(mel.n_mels / 2 ** len(WIDTHS)), FEATURES)
        heads = {"pitch": notes, "instrument": classes, "qualities": len(QUALITIES)}
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, size) for name, size in heads.items() if size})

    def forward(self, log_mel: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        log_mel = log_mel.maximum(log_mel.amax(dim=(1, 2), keepdim=True) - self.heard)
        maps = self.body(log_mel.unsqueeze(1) / self.scale + 0.5)
        pooled = torch.cat([maps.mean(dim=3), maps.amax(dim=3)], dim=1).flatten(1)
        features = F.layer_norm(self.embed(pooled), (FEATURES,))  # all of one length: none is an outlier by its size
        return features, {name: head(features.relu()) for name, head in self.heads.items()}


class TrainedJudge:
    """The network with the facts of its training, `about`; an `Embedding` of audio at the sample rate of its mel."""

    def __init__(self, network: JudgeNetwork, mel: MelConfig, about: dict[str, Any]) -> None:
        self.network, self.about, self.config = network.eval(), about, mel
        self.mel = Mel(mel)
        self.at_home = True  # whether it learned from the store whose sounds it hears
        self.notes: NDArray[np.float64] = np.array(about["notes"], dtype=np.float64)

    @property
    def name(self) -> str:
        return f"judge {self.about['hash'][:12]}"

    @property
    def note(self) -> str:
        """Its own accuracy on sounds that it never heard, which limits what it can say of others."""
        where = "" if self.at_home else " of another store, which may hold what is held out here"
        return f"{self.name}, learned from {self.about['clips']} real sounds{where}: " + "; ".join(
            f"{a['what']} {a['mean']:.1f} % ({a['low']:.1f} - {a['high']:.1f}) of {a['n']} {a['of']}"
            for a in self.about["accuracy"]
        )

    @torch.inference_mode()
    def hear(self, audio: Tensor) -> Heard:
        """What it hears in clips `[B, samples]`; all are brought to one peak before."""
        features, out = self.network(self.mel(_level(audio)))
        pitch, instrument = (out[k].softmax(dim=1) if k in out else None for k in ("pitch", "instrument"))
        return Heard(features, pitch, instrument)

    def features(self, audio: Tensor, sample_rate: int) -> Tensor:
        """The features `[B, 128]` of clips `[B, samples]` at the sample rate of its mel."""
        if sample_rate != self.config.sample_rate:
            raise UserError(f"the judge heard sounds of {self.config.sample_rate} Hz, these have {sample_rate} Hz")
        return torch.cat([self.hear(part).features for part in audio.split(BATCH)])


def _level(audio: Tensor) -> Tensor:
    return audio / audio.abs().amax(dim=1, keepdim=True).clamp_min(1e-4)


@dataclass(frozen=True)
class _Targets:
    """What each clip of a store should be heard as; -1 and NaN where nothing is known."""

    notes: list[int]
    classes: list[str]
    pitch: NDArray[np.int64]
    instrument: NDArray[np.int64]
    qualities: Tensor


def train_judge(
    store: Store,
    label: str | None = None,
    steps: int | None = None,
    seed: int = SEED,
    say: Callable[[str], None] = print,
) -> TrainedJudge:
    """A judge that learned pitch, instrument (`label`; default: the first of LABELS that there is) and four
    descriptors of the real sounds of `train`, and was tested on the held-out ones: pitch on instruments that it never
    heard, instruments on other notes of theirs. The same seed gives the same judge on the same machine."""
    label, train = _label(store, label), store.split("train")
    if not len(train):
        raise UserError(f"--store {store.path}: has no training clips, from which a judge could learn")
    steps = steps or max(1, min(STEPS, OFTEN * len(train) // BATCH))
    targets, mel = _targets(store, label, train), Mel(store.mel)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = JudgeNetwork(store.mel, len(targets.notes), len(targets.classes))
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    say(f"training a judge of {len(targets.notes)} notes and {len(targets.classes)} instruments ({label}) ...")
    for step in tqdm(range(steps), desc="judge", unit="step", leave=False):
        rows = train[rng.integers(0, len(train), BATCH)]
        with torch.no_grad():
            x = mel(_level(torch.from_numpy(store.read(rows))))
        rate = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        _loss(network(x)[1], targets, rows).backward()
        optimiser.step()
    about: dict[str, Any] = {
        "version": VERSION,
        "mel": store.mel.model_dump(),
        "store": store.content_hash,
        "clips": len(train),
        "label": label,
        "notes": targets.notes,
        "classes": targets.classes,
        "steps": steps,
        "seed": seed,
        "hash": hashlib.sha256(save(network.state_dict())).hexdigest(),
        "accuracy": [],
    }
    judge = TrainedJudge(network, store.mel, about)
    about["accuracy"] = _accuracies(judge, store, targets)
    return judge


def _label(store: Store, label: str | None) -> str | None:
    there = store.label_names()
    if label is None:
        return next((name for name in LABELS if name in there), None)
    if label not in there:
        raise UserError(f"--label {label}: --store {store.path} has none.{did_you_mean(label, there)}")
    return label


def _targets(store: Store, label: str | None, train: NDArray[np.int64]) -> _Targets:
    pitch = whole_pitches(store.column("pitch"))
    names = store.label(label) if label else [None] * len(store)
    notes = sorted({p for i in train if (p := pitch[i]) is not None})
    classes = sorted({c for i in train if (c := names[i]) is not None})
    notes, classes = notes if len(notes) > 1 else [], classes if len(classes) > 1 else []
    note, place = ({v: k for k, v in enumerate(values)} for values in (notes, classes))
    values = np.stack([store.values(name) for name in QUALITIES], axis=1).astype(np.float64)
    known = np.isfinite(values[train])
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values[train], 0).sum(axis=0) / count
    deviation = np.sqrt(np.where(known, (values[train] - mean) ** 2, 0).sum(axis=0) / count)
    return _Targets(
        notes,
        classes,
        np.array([note.get(p, -1) for p in pitch], dtype=np.int64),
        np.array([place.get(c, -1) for c in names], dtype=np.int64),
        torch.from_numpy((values - mean) / np.maximum(deviation, 1e-6)).float(),
    )


def _loss(out: dict[str, Tensor], targets: _Targets, rows: NDArray[np.int64]) -> Tensor:
    wanted = targets.qualities[torch.from_numpy(rows)]
    known = wanted.isfinite()
    error = (out["qualities"] - wanted.nan_to_num(0.0)).clamp(-5, 5).square()
    loss = QUALITY * (error * known).sum() / known.sum().clamp_min(1)
    for name, places in (("pitch", targets.pitch), ("instrument", targets.instrument)):
        asked = torch.from_numpy(places[rows])
        if name in out and (asked >= 0).any():
            loss = loss + F.cross_entropy(out[name], asked, ignore_index=-1)
    return loss


def _accuracies(judge: TrainedJudge, store: Store, targets: _Targets) -> list[dict[str, Any]]:
    """How often it is right on sounds that it never heard, in percent, with the interval over instruments."""
    found: list[dict[str, Any]] = []
    for head, split, of in (
        ("pitch", "test_instrument", "sounds of instruments never heard"),
        ("pitch", "test_note", "other notes of instruments it heard"),
        ("instrument", "test_note", "other notes of instruments it heard"),
    ):
        asked = targets.pitch if head == "pitch" else targets.instrument
        rows = store.split(split)
        rows = rows[asked[rows] >= 0]
        if not len(rows):
            continue
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, MOST).round().astype(np.int64))]
        parts = np.array_split(rows, -(-len(rows) // BATCH))
        heard = [judge.hear(torch.from_numpy(store.read(part))) for part in parts]
        likely = torch.cat([p for h in heard if (p := getattr(h, head)) is not None])
        right = 100.0 * (likely.argmax(dim=1).numpy() == asked[rows])
        interval = mean_interval(right, store.column("group")[rows].tolist())
        found.append({"what": head, "split": split, "n": len(rows), "of": of, **interval})
    return found


def save_judge(judge: TrainedJudge, out: Path, overwrite: bool = False) -> None:
    """Write a judge as a folder."""
    with new_folder(out, KIND, overwrite) as folder:
        write_atomic(folder / "judge.safetensors", save(judge.network.state_dict()))
        write_json(folder / "judge.json", judge.about)


def load_judge(folder: Path) -> TrainedJudge:
    """Open a judge. Raises UserError in one line if it is none, or damaged."""
    if not (folder / "judge.json").is_file():
        raise UserError(f"--judge {folder}: not a judge (train one: audio-vaegan train-judge STORE)")
    again = "train it again: audio-vaegan train-judge STORE --overwrite"
    about = read_json(folder / "judge.json", "--judge")
    try:
        if about["version"] != VERSION:
            raise UserError(f"--judge {folder}: of version {about['version']}, not {VERSION}; {again}")
        mel = MelConfig.model_validate(about["mel"])
        data = read_bytes(folder / "judge.safetensors")
        if hashlib.sha256(data).hexdigest() != about["hash"]:
            raise UserError(f"--judge {folder}: its weights are not those that judge.json names; {again}")
        network = JudgeNetwork(mel, len(about["notes"]), len(about["classes"]))
        network.load_state_dict(load(data))
        judge = TrainedJudge(network, mel, about)
        judge.note  # noqa: B018 - reads every fact that is shown
        return judge
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError, ValidationError) as e:
        raise UserError(f"--judge {folder}: damaged ({' '.join(str(e).split())[:120]}); {again}") from None


def judge_of(store: Store, folder: Path | None, say: Callable[[str], None] = print) -> TrainedJudge:
    """The judge in `folder`, or that of the store, in STORE.judge. That one is trained if it is not there yet, and
    anew, as it was, if it is that of an earlier store of this name or of another version of this package; where it
    cannot be written, it serves this time."""
    own = default_folder(store)
    there = own.exists() and folder is None
    facts = read_json(own / "judge.json", "--judge") if there and (own / "judge.json").is_file() else {}
    earlier = isinstance(facts, dict) and facts.get("version") in range(VERSION)
    judge = load_judge(folder or own) if folder or (there and not earlier) else None
    if judge is not None and folder is not None:
        judge.at_home = judge.about["store"] == store.content_hash
    elif judge is None or judge.about["store"] != store.content_hash:
        how = {k: facts[k] for k in ("label", "steps", "seed") if k in facts}
        check_out_folder(own, KIND, overwrite=True)
        judge = train_judge(store, say=say, **how)
        try:
            save_judge(judge, own, overwrite=True)
        except (OSError, UserError) as e:
            say(
                f"note: the judge cannot be kept ({e}); keep one elsewhere: train-judge {store.path} --out J, --judge J"
            )
    different = judge.config.differences(store.mel)
    if different:
        raise UserError(f"--judge {folder or own}: of another mel than --store {store.path} ({'; '.join(different)})")
    return judge


def default_folder(store: Store) -> Path:
    """Where a store's judge stands: beside it."""
    path = store.path.resolve()
    return path.with_name(path.name + ".judge")
