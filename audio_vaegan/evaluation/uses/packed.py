"""Sounds as bytes: how many, and how far what comes back is from what was there, beside Opus at its lowest rate."""

import numpy as np
import torch

from audio_vaegan.audio import opus_and_back
from audio_vaegan.data.store import Store
from audio_vaegan.evaluation.distances import log_spectral_distance
from audio_vaegan.evaluation.held import pick
from audio_vaegan.evaluation.uses.rows import Row, interval
from audio_vaegan.sound_model import SoundModel

WIDTHS = (2, 4, 6, 8)  # bits a coordinate


def packed(model: SoundModel, store: Store, most: int) -> list[Row]:
    """Rows of log-spectral distance, whole clips; the bytes stand beside: ours are about a twentieth of Opus'."""
    rows = pick(store, "test_instrument", most)
    groups, audio = store.column("group")[rows], torch.from_numpy(store.read(rows))
    length = store.column("length")[rows].tolist()
    pitch = store.values("pitch")[rows] if "pitch" in model.controls else np.full(len(rows), np.nan)
    known = [{"pitch": float(p)} if np.isfinite(p) else {} for p in pitch]
    low = [opus_and_back(a[:n].numpy(), model.sample_rate) for a, n in zip(audio, length, strict=True)]
    opus = torch.stack([_whole(torch.from_numpy(x), audio.shape[1]) for x, _ in low])
    theirs = interval(log_spectral_distance(opus, audio).double().numpy(), groups)
    many = float(np.mean([size for _, size in low]))
    found = []
    for bits in WIDTHS:
        contents = [model.compress(a[:n], bits, **k) for a, n, k in zip(audio, length, known, strict=True)]
        back = torch.stack([_whole(model.decompress(c), audio.shape[1]) for c in contents])
        size = float(np.mean([len(c) for c in contents]))
        found.append(
            Row(
                "compression",
                f"{size:.0f} bytes a clip ({bits} bits a coordinate)",
                "log-spectral distance, dB",
                interval(log_spectral_distance(back, audio).double().numpy(), groups),
                f"Opus, {many:.0f} bytes a clip",
                theirs,
                len(rows),
                better="less",
            )
        )
    return found


def _whole(audio: torch.Tensor, samples: int) -> torch.Tensor:
    return torch.nn.functional.pad(audio[:samples], (0, max(0, samples - len(audio))))
