"""Sound files in and out, resampling and level. The only user of soundfile.

A clip is mono float32 `[samples]` in [-1, 1], a batch `[B, samples]`; `[channels, samples]` exists only in here.
"""

import io
import os
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional as AF
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.errors import UserError
from audio_vaegan.files import write_atomic
from audio_vaegan.version import __version__

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc")
MARK_AI = "AI-generated"
MAX_SECONDS = 3600.0
_BLOCK = 1 << 18  # frames decoded at a time


class BadAudio(UserError):
    """A file that cannot be used; the message is the reason, without the path."""


def read(
    path: Path, sample_rate: int | None = None, max_seconds: float = MAX_SECONDS
) -> tuple[NDArray[np.float32], int]:
    """Read a file as a mono clip (mean over channels), resampled to `sample_rate` if one is given.

    Returns the clip `[samples]` float32 and its sample rate in Hz.
    Raises BadAudio with the reason: unreadable, empty, longer than `max_seconds`, NaN or infinite samples.
    Decoding is by blocks, so that a header that promises too much costs no memory.
    """
    if not path.exists():
        raise BadAudio("no such file")
    try:
        name = os.fsencode(path) if os.name == "posix" else str(path)  # names in any encoding
        with soundfile.SoundFile(name) as f:
            rate = f.samplerate
            blocks, frames = [], 0
            while True:
                block = f.read(_BLOCK, dtype="float32", always_2d=True)
                if not len(block):
                    break
                frames += len(block)
                if frames > max_seconds * rate:
                    raise BadAudio(f"longer than {max_seconds:g} s")
                blocks.append(block.mean(axis=1) if block.shape[1] > 1 else block[:, 0])
            if not frames and f.frames:
                raise BadAudio("the header promises sound, but none could be decoded (truncated?)")
    except BadAudio:
        raise
    except (soundfile.SoundFileError, RuntimeError, OSError, TypeError, ValueError) as e:
        reason = str(e).split(": ", 1)[-1].strip().rstrip(".")
        raise BadAudio(f"cannot be decoded ({reason})") from None
    if not frames:
        raise BadAudio("holds no samples")
    clip = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    clip = np.ascontiguousarray(clip, dtype=np.float32)
    if not np.isfinite(clip).all():
        raise BadAudio("holds NaN or infinite samples")
    if sample_rate and sample_rate != rate:
        clip = resample(torch.from_numpy(clip), rate, sample_rate).numpy()
        rate = sample_rate
    return clip, rate


def resample(audio: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Band-limited resampling of `[..., samples]` by a Kaiser-windowed sinc of 64 zero crossings (torchaudio)."""
    if from_rate == to_rate:
        return audio
    divisor = gcd(from_rate, to_rate)
    return AF.resample(
        audio,
        from_rate // divisor,
        to_rate // divisor,
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )


def to_pcm16(audio: NDArray[np.floating] | Tensor) -> NDArray[np.int16]:
    """Round to 16 bit; values outside [-1, 1] are limited, never wrapped."""
    values = np.asarray(audio, dtype=np.float32)
    return np.clip(np.rint(values * 32768.0), -32768, 32767).astype(np.int16)


def encode_wav(audio: NDArray[np.floating] | Tensor, sample_rate: int, note: str = "") -> bytes:
    """The bytes of a 16-bit mono WAV file of `[samples]`, tagged as AI-generated. Same input, same bytes."""
    return _encode(audio, sample_rate, "WAV", f"{MARK_AI} by audio-vaegan. {note}".strip())


def write(path: Path, audio: NDArray[np.floating] | Tensor, sample_rate: int, note: str = "") -> None:
    """Write a generated clip `[samples]` as a 16-bit WAV, whole or not at all, tagged as AI-generated."""
    write_atomic(path, encode_wav(audio, sample_rate, note))


def write_recording(path: Path, audio: NDArray[np.floating] | Tensor, sample_rate: int) -> None:
    """Write a clip that was recorded or rendered, not generated, as 16-bit FLAC or WAV by the path's suffix."""
    write_atomic(path, _encode(audio, sample_rate, "FLAC" if path.suffix == ".flac" else "WAV", ""))


def _encode(audio: NDArray[np.floating] | Tensor, sample_rate: int, kind: str, comment: str) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", sample_rate, 1, subtype="PCM_16", format=kind) as f:
        if comment:
            f.comment = comment
            f.software = f"audio-vaegan {__version__}"
        f.write(to_pcm16(audio))
    return buffer.getvalue()


def peak_dbfs(audio: NDArray[np.floating]) -> float:
    """Largest absolute sample in dB re full scale; -inf becomes -200."""
    return float(20 * np.log10(max(float(np.abs(audio).max(initial=0.0)), 1e-10)))
