"""The second pitch meter: librosa's pYIN, which shares no code with ours and judges every published figure."""

import librosa
import numpy as np
from numpy.typing import NDArray

FINEST = 32000  # Hz: 17 lags, not 8, in a period of the highest C of a piano


def sounding_middle(audio: NDArray[np.float32], sample_rate: int, seconds: float = 0.5) -> NDArray[np.float32]:
    """At most `seconds` from the middle of what sounds: frames of 16 ms within 40 dB of the loudest, attack skipped."""
    hop = max(1, round(0.016 * sample_rate))
    n = len(audio) // hop
    if n < 4:
        return audio
    level = np.square(audio[: n * hop].reshape(n, hop)).mean(axis=1)
    loud = np.flatnonzero(level > 1e-4 * level.max())
    if not len(loud) or level.max() <= 0:
        return audio
    first, last = loud[0] * hop, (loud[-1] + 1) * hop
    first += (last - first) // 8
    size = min(last - first, round(seconds * sample_rate))
    start = first + (last - first - size) // 2
    return audio[start : start + size]


def load_librosa() -> None:
    """Load librosa's compiled functions; the first time on a machine they are compiled (12 s). For one process to do
    before several do at once: numba's cache of ufuncs mixes what they write, and they crash (numba issue 10128)."""
    _ = librosa.pyin  # librosa loads its parts when they are first named


def pyin(audio: NDArray[np.float32], sample_rate: int, f_min: float = 32.0, f_max: float | None = None) -> float:
    """Pitch of one clip by probabilistic YIN (Mauch & Dixon 2014; librosa): median over the voiced frames of the
    sounding middle, in MIDI semitones. NaN where fewer than a third of the frames are voiced.

    Searched from `f_min` to `f_max`, by default a quarter of the sample rate (4 kHz at 16 kHz). Heard at FINEST Hz or
    more: pYIN takes the depth of a dip at whole lags, and a bright tone whose period ends between two samples differs
    so much from itself there that it is taken for an octave below, or two.
    """
    middle = sounding_middle(audio, sample_rate)
    if not np.any(middle):
        return float("nan")
    f_max = f_max or sample_rate / 4
    if sample_rate < FINEST:
        middle = librosa.resample(middle, orig_sr=sample_rate, target_sr=FINEST)
        sample_rate = FINEST
    window = 1 << int(np.ceil(np.log2(3.8 * sample_rate / f_min)))
    f0, voiced, _ = librosa.pyin(
        middle,
        fmin=f_min,
        fmax=f_max,
        sr=sample_rate,
        frame_length=window,
        hop_length=window // 4,
    )
    f0 = f0[voiced & np.isfinite(f0)]
    if 3 * len(f0) < len(voiced):
        return float("nan")
    return float(librosa.hz_to_midi(np.median(f0)))
