"""Sound files in and out, resampling and level. The only user of soundfile and of soxr.

A clip is mono float32 `[samples]` in [-1, 1], a batch `[B, samples]`; `[channels, samples]` exists only in here.
"""

import io
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, current_thread, main_thread
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.config import Channel
from audio_vaegan.errors import UserError
from audio_vaegan.files import write_atomic
from audio_vaegan.version import __version__

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc")
MARK_AI = "AI-generated"
MAX_SECONDS = 3600.0
RATES = (1000, 1_000_000)  # Hz that a file may have
FULL_SCALE = 0.9999
LOUDEST = 1e6  # beyond lies no sound, and squares that overflow
_terminal = Lock()
MAX_MENDED = 2**29  # bytes of a WAV file whose header is made anew in memory
_BLOCK = 1 << 19  # values decoded at a time


class BadAudio(UserError):
    """A file that cannot be used; the message is the reason, without the path."""


class Stream:
    """A sound file as mono blocks `[samples]` float32 at one sample rate; in memory there is never more than a block.

    `source` is a path, or the bytes of a file. `channel` says how several channels become one: their mean, the first
    (left), the second (right), or the loudest one. Decoding is by blocks and ends where the data does, so that a header
    that promises too much costs nothing. After iterating, the attributes tell what was met.
    Raises BadAudio with the reason: unreadable, empty, channels that cancel out.
    """

    def __init__(self, source: Path | bytes, sample_rate: int | None = None, channel: Channel = "mean") -> None:
        self.source, self.channel = source, channel
        self.clipped = 0  # samples in runs at full scale, over all channels
        self.bad: deque[int] = deque()  # milliseconds that hold samples that are no sound; those are given as zero
        self.seconds = 0.0  # decoded
        self.broke_off = ""  # why decoding ended before the file did
        if isinstance(source, Path) and not source.is_file():
            if source.is_symlink() and not source.exists():
                raise BadAudio("a link that leads nowhere")
            raise BadAudio("not a regular file" if source.exists() else "no such file")
        if not (len(source) if isinstance(source, bytes) else source.stat().st_size):
            raise BadAudio("an empty file")
        with self._open() as f:
            self.source_rate, self.channels = f.samplerate, f.channels
            self.promised = _promised(f) / max(1, f.samplerate)  # seconds
        if not RATES[0] <= self.source_rate <= RATES[1]:
            raise BadAudio(f"sample rate outside {RATES[0]} ... {RATES[1]} Hz ({self.source_rate} Hz)")
        self.sample_rate = sample_rate or self.source_rate

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        self.clipped, self.bad, self.broke_off = 0, deque(), ""
        pick = self._loudest() if self.channel == "loudest" and self.channels > 1 else None
        resampler = None
        if self.sample_rate != self.source_rate:
            resampler = soxr.ResampleStream(self.source_rate, self.sample_rate, 1, dtype="float32", quality="HQ")
        kept = heard = 0.0
        for block in self._blocks():
            self.clipped += _flat(block)
            mono = self._mix(block, pick)
            kept += float(np.square(mono, dtype=np.float64).sum())
            heard += float(np.square(block, dtype=np.float64).sum()) / self.channels
            yield mono if resampler is None else resampler.resample_chunk(mono)
        if resampler is not None:
            yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        if self.channel == "mean" and kept < 1e-4 * heard:
            raise BadAudio("its channels cancel out; take one of them with --data.channel loudest")

    @property
    def truncated(self) -> bool:
        """Whether the header promised more than could be decoded."""
        return bool(self.broke_off) or self.seconds < 0.99 * self.promised - 0.05

    def _open(self) -> Any:
        source, whole = self.source, None
        try:
            with _silenced(), _undisturbed():
                f = _File(io.BytesIO(source) if isinstance(source, bytes) else _name(source))
            if f.frames or f.format not in ("WAV", "WAVEX"):
                return f
            f.close()
        except (soundfile.SoundFileError, RuntimeError, OSError, TypeError, ValueError) as e:
            whole = _reason(e)
        mended = _mended_wav(source)
        try:
            if mended is not None:
                with _undisturbed():
                    return _File(io.BytesIO(mended))
        except (soundfile.SoundFileError, RuntimeError, ValueError):
            pass
        raise BadAudio(f"cannot be decoded ({whole})" if whole else "holds no samples")

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        """Blocks `[frames, channels]` as they are in the file."""
        frames = failures = 0
        with self._open() as f:
            # A decoder of FLAC gives up the whole of a block that is damaged somewhere, and may go on behind it.
            flac = f.format == "FLAC"
            size = 4096 if flac else max(1, _BLOCK // self.channels)
            while failures < (3 if flac else 1):
                try:
                    with _silenced(f.format == "MP3"), _undisturbed():
                        block = f.read(size, dtype="float32", always_2d=True)
                except (soundfile.SoundFileError, RuntimeError, OSError, TypeError, ValueError) as e:
                    self.broke_off, failures = _reason(e), failures + 1
                    continue
                if not len(block):
                    break
                failures = 0
                sound = (np.abs(block) <= LOUDEST).all(axis=1)  # false for NaN
                if not sound.all():
                    self.bad += np.unique((frames + np.flatnonzero(~sound)) * 1000 // self.source_rate).tolist()
                    block[~sound] = 0
                frames += len(block)
                self.seconds = frames / self.source_rate
                yield block
        if not frames:
            if self.promised or self.broke_off:
                raise BadAudio("cannot be decoded (the header promises sound, but there is none: truncated?)")
            raise BadAudio("holds no samples")

    def _mix(self, block: NDArray[np.float32], pick: int | None) -> NDArray[np.float32]:
        if pick is None and self.channel == "mean" and self.channels > 1:
            return block.mean(axis=1)
        column = pick if pick is not None else min(self.channels - 1, 1 if self.channel == "right" else 0)
        return np.ascontiguousarray(block[:, column])

    def _loudest(self) -> int:
        energy = sum(np.square(block, dtype=np.float64).sum(axis=0) for block in self._blocks())
        return int(np.argmax(energy))


class _File(soundfile.SoundFile):
    """Read from front to back: soundfile seeks after each read, which fails in a damaged FLAC. An OGG keeps its seeks,
    by which it steps over a hole."""

    def seekable(self) -> bool:
        return self.format != "FLAC" and bool(super().seekable())


def _name(path: Path) -> bytes | str:
    return os.fsencode(path) if os.name == "posix" else str(path)  # names in any encoding


def _reason(error: Exception) -> str:
    reason = str(error).split(": ", 1)[-1].strip().rstrip(".")
    return "no MPEG audio found" if reason.startswith("File does not exist or is not a regular file") else reason


def _promised(f: soundfile.SoundFile) -> int:
    """Frames that the header promises. libsndfile lowers them to what the file can hold, and tells so in its log."""
    there = f.frames if f.frames < 2**62 else 0  # unknown
    cut = re.search(r"(?:data|SSND) *: (\d+) \(should be (\d+)\)", f.extra_info)
    if not cut or int(cut[1]) & 0x7FFFF000 == 0x7FFFF000:  # a placeholder, written before the length was known
        return there
    return int(there * int(cut[1]) / max(1, int(cut[2])))


def _mended_wav(source: Path | bytes) -> bytes | None:
    """A WAV that libsndfile cannot read, or finds empty, with a new header: the sound is what follows the first `data`
    (a recorder that crashed leaves sizes of zero, a faulty writer chunks out of step). None where there is none."""
    if isinstance(source, Path):
        if source.stat().st_size > MAX_MENDED:
            return None
        source = source.read_bytes()
    form, data = source.find(b"fmt ", 12, 4096), source.find(b"data", 12, 65536)
    if source[:4] != b"RIFF" or source[8:12] != b"WAVE" or not 0 < form < data:
        return None
    size = int.from_bytes(source[form + 4 : form + 8], "little")
    promised = int.from_bytes(source[data + 4 : data + 8], "little")
    body = source[data + 8 :][: promised or None]
    if not 16 <= size <= 64 or not body:
        return None
    head = source[form : form + 8 + size] + b"data" + len(body).to_bytes(4, "little")
    return b"RIFF" + (len(head) + len(body) + 4).to_bytes(4, "little") + b"WAVE" + head + body


@contextmanager
def _silenced(needed: bool = True) -> Iterator[None]:
    """Without what the MPEG decoder prints to the terminal by itself."""
    if not needed:
        yield
        return
    with _terminal:
        sys.stderr.flush()
        try:
            kept = os.dup(2)
        except OSError:  # there is no terminal
            yield
            return
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nothing)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits until the end. What it raises while soundfile reads bytes is lost there, and the rest of the sound
    with it: to the decoder that is the end of the file."""
    handler = signal.getsignal(signal.SIGINT)
    if current_thread() is not main_thread() or not callable(handler):
        yield
        return
    pressed: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if pressed:
            handler(*pressed[0])


def _flat(block: NDArray[np.float32]) -> int:
    """Samples that repeat full scale: what is cut off is flat, while a peak touches it once."""
    full = np.abs(block) >= FULL_SCALE
    return int((full[1:] & full[:-1]).sum())


def read(
    path: Path, sample_rate: int | None = None, max_seconds: float = MAX_SECONDS
) -> tuple[NDArray[np.float32], int]:
    """Read a file as a mono clip (mean over channels), resampled to `sample_rate` if one is given.

    Returns the clip `[samples]` float32 and its sample rate in Hz. Raises BadAudio as `Stream` does, and for a file
    longer than `max_seconds` or with samples that are NaN or infinite.
    """
    stream = Stream(path, sample_rate)
    blocks = []
    for block in stream:
        if stream.bad:
            raise BadAudio(f"holds NaN or infinite samples (the first at {stream.bad[0] / 1000:.3f} s)")
        if stream.seconds > max_seconds:
            raise BadAudio(f"longer than {max_seconds:g} s")
        blocks.append(block)
    return (blocks[0] if len(blocks) == 1 else np.concatenate(blocks)), stream.sample_rate


def sound_files(sounds: Sequence[Path]) -> list[Path]:
    """These sound files, and those in these folders."""
    found: list[Path] = []
    for sound in sounds:
        if sound.is_dir():
            found += sorted(f for f in sound.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
        elif sound.is_file():
            found.append(sound)
        else:
            raise UserError(f"{sound}: there is no such file or folder")
    if not found:
        raise UserError(f"{', '.join(map(str, sounds))}: no sound file there")
    return found


def decode(content: bytes) -> NDArray[np.float32]:
    """The clip `[samples]` in the bytes of a sound file, at its own rate. Raises BadAudio."""
    return np.concatenate([*Stream(content)])


def respeed(audio: NDArray[np.float32], ratio: float, quality: str = "HQ") -> NDArray[np.float32]:
    """Play a clip `[samples]` faster by `ratio`: its pitch rises by 12 log2(ratio) semitones, its length shrinks.

    `quality` is SoX's: what HQ adds lies 133 dB below a tone, what MQ adds 109 dB, in less than half the time.
    """
    return soxr.resample(audio, ratio, 1.0, quality=quality)


def resample(audio: NDArray[np.float32], sample_rate: int, wanted: int) -> NDArray[np.float32]:
    """A clip `[samples]` at another sample rate (band-limited, as long in seconds)."""
    return soxr.resample(audio, sample_rate, wanted, quality="VHQ")


def to_pcm16(audio: NDArray[np.floating] | Tensor) -> NDArray[np.int16]:
    """Round to 16 bit; values outside [-1, 1] are limited, never wrapped."""
    values = np.asarray(audio, dtype=np.float32)
    return np.clip(np.rint(values * 32768.0), -32768, 32767).astype(np.int16)


def encode_wav(audio: NDArray[np.floating] | Tensor, sample_rate: int, note: str = "", kind: str = "WAV") -> bytes:
    """The bytes of a 16-bit mono WAV (or FLAC, or OGG Vorbis: `kind`) file of `[samples]`, tagged as AI-generated. Same
    input, same bytes; but for OGG, whose streams are numbered at random."""
    return _encode(audio, sample_rate, kind, f"{MARK_AI} by audio-vaegan. {note}".strip())


def write(path: Path, audio: NDArray[np.floating] | Tensor, sample_rate: int, note: str = "") -> None:
    """Write a generated clip `[samples]` as 16-bit WAV, or by the path's suffix as FLAC or OGG Vorbis, whole or not at
    all, tagged as AI-generated."""
    write_atomic(path, encode_wav(audio, sample_rate, note, _kind(path)))


def write_recording(path: Path, audio: NDArray[np.floating] | Tensor, sample_rate: int) -> None:
    """Write a clip that was recorded or rendered, not generated, by the path's suffix."""
    write_atomic(path, encode_recording(audio, sample_rate, _kind(path)))


def _kind(path: Path) -> str:
    return {".flac": "FLAC", ".ogg": "OGG"}.get(path.suffix, "WAV")


def encode_recording(audio: NDArray[np.floating] | Tensor, sample_rate: int, kind: str) -> bytes:
    """The bytes of a 16-bit mono file (`WAV` or `FLAC`) of a clip that was recorded or rendered, not generated."""
    return _encode(audio, sample_rate, kind, "")


def opus_and_back(audio: NDArray[np.float32], sample_rate: int) -> tuple[NDArray[np.float32], int]:
    """A clip `[samples]` through Opus at the lowest rate that its library has, and the bytes that it took."""
    buffer = io.BytesIO()
    how = {"subtype": "OPUS", "format": "OGG", "compression_level": 1.0}
    with _undisturbed(), soundfile.SoundFile(buffer, "w", sample_rate, 1, **how) as f:
        f.write(audio)
    content = buffer.getvalue()
    with _undisturbed(), soundfile.SoundFile(io.BytesIO(content)) as f:
        found, rate = f.read(dtype="float32"), f.samplerate
    return resample(found, rate, sample_rate) if rate != sample_rate else found, len(content)


def _encode(audio: NDArray[np.floating] | Tensor, sample_rate: int, kind: str, comment: str) -> bytes:
    buffer = io.BytesIO()
    subtype = "VORBIS" if kind == "OGG" else "PCM_16"
    with _undisturbed(), soundfile.SoundFile(buffer, "w", sample_rate, 1, subtype=subtype, format=kind) as f:
        if comment:
            f.comment = comment
            f.software = f"audio-vaegan {__version__}"
        f.write(to_pcm16(audio))
    return buffer.getvalue()


def peak_dbfs(audio: NDArray[np.floating]) -> float:
    """Largest absolute sample in dB re full scale; -inf becomes -200."""
    return float(20 * np.log10(max(float(np.abs(audio).max(initial=0.0)), 1e-10)))
