"""Hostile and odd input files, made from nothing and always the same, with what a user may expect of each.

To add a kind, add a row to the group where it belongs: `name, used, says, why, content`. The content is the file's
bytes, or a function that makes the file at a path. `used` None: decided by whether this user can read the file.
"""

import gzip
import io
import os
import stat
import struct
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16000
Sound = NDArray[np.float64]
Row = tuple[str, bool | None, str, str, bytes | Callable[[Path], object]]

# What the reasons and notes must hold; key words only, so that the sentences may be worded anew.
BROKEN = "decod|header|trunc"
SHORT = "promis|trunc"  # used, but the header promised more
EMPTY = "no samples|empty|zero"
SILENT = "silent"
ENDING = "ending"
HIDDEN = "hidden"
LINK = "link"
SPECIAL = "regular"
RATES = "rate"
NOT_FINITE = "NaN|infinite"
CLIPPED = "clipp"
LOUD = f"{CLIPPED}|full scale|scaled|above"


@dataclass(frozen=True)
class Odd:
    """One file of the corpus. `name` is written as the report writes it (see `printable`)."""

    name: str  # relative posix name; of a link to a folder, the link's
    used: bool  # whether its sound must end in the store
    says: str  # regular expression, case-insensitive, for the reason or for one of the notes; "": nothing need be said
    why: str  # what is odd about it


def build(root: Path) -> list[Odd]:
    """Write all files below `root`. What this system cannot hold (only on other systems than Linux) is left out."""
    corpus = []
    root.mkdir(parents=True, exist_ok=True)
    (root / "an empty folder").mkdir()  # holds no file, so that nothing need be said of it
    for name, used, says, why, content in rows():
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):  # a file system that takes two of the names for one
                raise FileExistsError(path)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                content(path)
        except (OSError, AttributeError, NotImplementedError):
            if sys.platform.startswith("linux"):
                raise
            continue
        if used is None:
            used = os.access(path, os.R_OK)
            says = "" if used else says
        corpus.append(Odd(printable(name), used, says, why))
    return corpus


def printable(name: str) -> str:
    """A file's name as the report gives it: bytes that are no UTF-8 show as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def rows() -> Iterator[Row]:
    """Every kind. The groups are told apart for the reader only."""
    for group in (fine, cut_short, lying_headers, chunks, damaged, empty, levels, not_finite, rates, depths):
        yield from group()
    for group in (channels, formats, endings, not_sound, names, hidden, links, not_files, giants):
        yield from group()


# --- Kinds


def fine() -> Iterator[Row]:
    yield "fine/plain.wav", True, "", "an ordinary sound", wav(tone(60))
    yield "fine/the same again.wav", True, "", "an equal file under another name", wav(tone(60))
    yield "fine/sub/folder/deep.wav", True, "", "an ordinary sound in a sub-folder", wav(tone(61))


def cut_short() -> Iterator[Row]:
    whole = wav(tone(62))
    yield "cut/wav at 3.wav", False, BROKEN, "WAV cut inside its first word", whole[:3]
    yield "cut/wav at 12.wav", False, BROKEN, "WAV cut after RIFF....WAVE", whole[:12]
    yield "cut/wav at 30.wav", False, BROKEN, "WAV cut inside the format chunk", whole[:30]
    yield "cut/wav at 42.wav", False, f"{BROKEN}|{EMPTY}", "WAV cut inside the data chunk's size", whole[:42]
    yield "cut/wav at 44.wav", False, f"{SHORT}|{EMPTY}", "WAV cut between header and data", whole[:44]
    yield "cut/wav at half.wav", True, SHORT, "WAV cut in the middle of its data", whole[: len(whole) // 2]
    yield "cut/wav inside a sample.wav", True, SHORT, "WAV cut inside a 16-bit sample", whole[:8045]
    frames = wav(np.stack([tone(62)] * 2, 1), kind="i3")
    yield "cut/wav inside a frame.wav", True, "", "24-bit stereo WAV that lacks its last byte", frames[:-1]
    yield "cut/wav without header.wav", False, BROKEN, "the second half of a WAV", whole[8000:]
    flac = encoded(tone(63, 2.0), "FLAC")
    yield "cut/flac at 3.flac", False, BROKEN, "FLAC cut inside its first word", flac[:3]
    yield "cut/flac at 20.flac", False, BROKEN, "FLAC cut inside STREAMINFO", flac[:20]
    yield "cut/flac at 42.flac", False, f"{BROKEN}|{SHORT}", "FLAC cut after STREAMINFO", flac[:42]
    yield "cut/flac at half.flac", True, SHORT, "FLAC cut in the middle of its frames", flac[: len(flac) // 2]
    yield "cut/flac at the end.flac", True, SHORT, "FLAC that lacks its last 50 bytes", flac[:-50]
    ogg = encoded(tone(64, 8.0), "OGG")
    yield "cut/ogg at 20.ogg", False, BROKEN, "OGG cut inside its first page", ogg[:20]
    yield "cut/ogg at 1000.ogg", False, BROKEN, "OGG cut inside Vorbis's code books", ogg[:1000]
    yield "cut/ogg at 3500.ogg", False, f"{BROKEN}|{EMPTY}", "OGG cut inside the first page of sound", ogg[:3500]
    cut = ogg[: len(ogg) * 3 // 4]
    yield "cut/ogg at three quarters.ogg", True, "", "OGG cut inside a page (its last page tells its length)", cut
    mp3 = encoded(tone(65, 2.0), "MP3")
    yield "cut/mp3 at 3.mp3", False, BROKEN, "MP3 cut inside its first frame header", mp3[:3]
    yield "cut/mp3 at 100.mp3", False, f"{BROKEN}|{SHORT}|{EMPTY}", "MP3 cut inside its first frame", mp3[:100]
    yield "cut/mp3 at half.mp3", True, SHORT, "MP3 cut in the middle of a frame", half(mp3)
    yield "cut/mp3 without start.mp3", True, "", "MP3 that begins inside a frame, as from a stream", mp3[777:]
    aiff = encoded(tone(66), "AIFF")
    yield "cut/aiff at 30.aiff", False, BROKEN, "AIFF cut inside its COMM chunk", aiff[:30]
    yield "cut/aiff at half.aiff", True, SHORT, "AIFF cut in the middle of its data", half(aiff)


def lying_headers() -> Iterator[Row]:
    x = tone(67)
    yield "lie/data 4 GB.wav", True, "", "data size 0xFFFFFFFF: 'unknown' of a stream", wav(x, data_size=2**32 - 1)
    yield "lie/data 2 GB.wav", True, "", "data size 0x7FFFFFFF: 'unknown' of a stream", wav(x, data_size=2**31 - 1)
    yield "lie/data 3 GB.wav", True, SHORT, "data size 3 GB, half a second there", wav(x, data_size=3 * 10**9)
    yield "lie/data 0.wav", True, "", "data size 0 of a stream, though data follows", wav(x, data_size=0)
    both = wav(x, data_size=0, riff_size=0)
    yield "lie/riff and data 0.wav", True, "", "both sizes 0, as a killed recorder leaves them", both
    yield "lie/riff 4 GB.wav", True, "", "RIFF size 0xFFFFFFFF, data size right", wav(x, riff_size=2**32 - 1)
    yield "lie/riff 0.wav", True, "", "RIFF size 0, data size right", wav(x, riff_size=0)
    yield "lie/riff 36.wav", True, "", "RIFF size of an empty file, data size right", wav(x, riff_size=36)
    less = wav(x, data_size=8000)
    yield "lie/data too small.wav", True, "", "data size half of what is there; the rest is no chunk", less
    yield "lie/block align 0.wav", True, "", "the frame's size is given as 0 bytes", wav(x, block=0)
    yield "lie/block align 7.wav", True, "", "the frame's size is given as 7 bytes", wav(x, block=7)
    yield "lie/byte rate 0.wav", True, "", "the byte rate is given as 0", wav(x, byte_rate=0)
    yield "lie/bits 0.wav", False, BROKEN, "0 bits a sample", wav(x, bits=0)
    yield "lie/bits 65535.wav", False, BROKEN, "65535 bits a sample", wav(x, bits=65535)
    yield "lie/no such coding.wav", False, BROKEN, "format tag 0x1234, that nobody uses", wav(x, tag=0x1234)
    yield "lie/channels 0.wav", False, BROKEN, "0 channels", wav(x, channels=0)
    yield "lie/channels 65535.wav", False, BROKEN, "65535 channels", wav(x, channels=65535)
    flac = encoded(tone(68), "FLAC")
    yield "lie/flac 2 ** 36.flac", True, SHORT, "FLAC that promises 49 days", flac_length(flac, 2**36 - 1)
    yield "lie/flac 0.flac", True, "", "FLAC of unknown length (0), as from a stream", flac_length(flac, 0)
    yield "lie/flac half.flac", True, "", "FLAC that promises half of what is there", flac_length(flac, 4000)


def chunks() -> Iterator[Row]:
    x = tone(69)
    yield "chunks/junk.wav", True, "", "200 KB of JUNK before the data", wav(x, before=chunk(b"JUNK", bytes(200_000)))
    picture = noise(100_000)
    yield "chunks/id3.wav", True, "", "an id3 chunk with a picture", wav(x, before=chunk(b"id3 ", picture))
    text = b"INFO" + chunk(b"ICMT", b"x" * 50_000) + chunk(b"INAM", "имя".encode("cp1251"))
    yield "chunks/list.wav", True, "", "a LIST with a comment of 50 KB", wav(x, before=chunk(b"LIST", text))
    many = b"".join(chunk(f"z{i:03d}".encode(), b"") for i in range(1000))
    yield "chunks/a thousand.wav", True, "", "a thousand unknown chunks before the data", wav(x, before=many)
    odd = chunk(b"LIST", b"INFO" + b"ISFT\x03\0\0\0abc")
    yield "chunks/odd, padded.wav", True, "", "a chunk of odd size with its padding byte", wav(x, before=odd)
    unpadded = struct.pack("<4sI", b"JUNK", 5) + b"12345"
    yield "chunks/odd, unpadded.wav", True, "", "a chunk of odd size, no padding byte", wav(x, before=unpadded)
    odd = wav(x[:7999], kind="u1", after=chunk(b"LIST", b"INFO"))
    yield "chunks/odd data.wav", True, "", "8-bit data of odd size", odd
    lies = struct.pack("<4sI", b"LIST", 2**32 - 8) + b"INFO"
    yield (
        "chunks/endless.wav",
        True,
        "",
        "a LIST of 4 GB swallows the data",
        wav(x, before=lies),
    )
    behind = chunk(b"LIST", text) + chunk(b"id3 ", b"ID3")
    yield "chunks/after.wav", True, "", "chunks behind the data", wav(x, after=behind)
    yield "chunks/zeros after.wav", True, "", "zeros behind the data (disk blocks)", wav(x) + bytes(5000)
    yield "chunks/garbage after.wav", True, "", "garbage behind the data", wav(x) + noise(5001)
    yield "chunks/two files.wav", True, "", "two WAV files, one behind the other", wav(x) + wav(tone(74))
    yield "chunks/data first.wav", False, BROKEN, "data before the format chunk", riff(chunk(b"data", pcm(x)) + fmt())
    yield "chunks/no format.wav", False, BROKEN, "no format chunk", riff(chunk(b"data", pcm(x)))
    yield "chunks/no data.wav", False, f"{BROKEN}|{EMPTY}", "no data chunk", riff(fmt())
    twice = riff(fmt() + chunk(b"data", pcm(x)) + chunk(b"data", pcm(tone(74))))
    yield "chunks/data twice.wav", True, "", "two data chunks", twice
    loop = chunk(b"smpl", struct.pack("<9I6I", 0, 0, 62500, 60, 0, 0, 0, 1, 0, 0, 0, 10, 4000, 0, 0))
    yield "chunks/loop.wav", True, "", "a sampler's loop points", wav(x, after=loop)
    bext = chunk(b"bext", b"field recorder".ljust(256, b"\0") + bytes(346))
    yield "chunks/broadcast.wav", True, "", "a Broadcast WAV", wav(x, before=bext)


def damaged() -> Iterator[Row]:
    flac = encoded(tone(70, 2.0), "FLAC")
    yield "damaged/flac bits.flac", True, SHORT, "FLAC with one frame overwritten", spoil(flac, 0.5, 100)
    yield "damaged/flac late.flac", True, SHORT, "FLAC whose second half is noise", spoil(flac, 0.5, len(flac))
    first = flac.index(b"\xff\xf8", 42) / len(flac) + 1e-9
    yield "damaged/flac first.flac", True, SHORT, "FLAC whose first frame is overwritten", spoil(flac, first, 60)
    gap = half(flac) + flac[len(flac) // 2 + 3000 :]
    yield "damaged/flac gap.flac", True, SHORT, "FLAC that lacks 3 KB in the middle", gap
    yield "damaged/flac tail.flac", True, "", "FLAC with garbage behind it", flac + noise(5000)
    ogg = encoded(tone(71, 8.0), "OGG")
    yield "damaged/ogg bits.ogg", True, "", "OGG with one page overwritten", spoil(ogg, 0.6, 100)
    # Of what was joined, most players play the first only; the tool need not do better.
    joined = ogg + encoded(tone(73), "OGG", serial=2)
    yield "damaged/ogg joined.ogg", True, "", "two OGG streams, one behind the other", joined
    same = ogg + encoded(tone(73), "OGG")
    yield "damaged/ogg joined, same serial.ogg", True, "", "two OGG streams that share a serial number", same
    mp3 = encoded(tone(72, 2.0), "MP3")
    yield "damaged/mp3 bits.mp3", True, "", "MP3 with some frames overwritten", spoil(mp3, 0.5, 400)
    yield "damaged/mp3 joined.mp3", True, "", "two MP3 files, one behind the other", mp3 + encoded(tone(75), "MP3")
    garbage = b"".join(b"\xff\xfb\x90\xc4" + noise(413, i) for i in range(40))
    yield "damaged/mp3 garbage.mp3", True, LOUD, "true MP3 frame headers, noise between: decodes to a roar", garbage


def empty() -> Iterator[Row]:
    for ending in ("wav", "flac", "ogg", "mp3", "aiff"):
        yield f"empty/zero.{ending}", False, f"{EMPTY}|{BROKEN}", "no bytes at all", b""
    nothing = np.zeros(0)
    yield "empty/no samples.wav", False, EMPTY, "a whole header and no samples", wav(nothing)
    yield "empty/no samples.flac", False, f"{EMPTY}|{BROKEN}", "FLAC without a frame", encoded(nothing, "FLAC")
    yield "empty/no samples.ogg", False, f"{EMPTY}|{BROKEN}", "OGG without sound", encoded(nothing, "OGG")
    yield "empty/no samples.mp3", False, f"{EMPTY}|{BROKEN}|{SILENT}", "MP3 without sound", encoded(nothing, "MP3")
    yield "empty/no samples.aiff", False, EMPTY, "AIFF without samples", encoded(nothing, "AIFF")


def levels() -> Iterator[Row]:
    x = tone(76)
    quiet = np.zeros(8000)
    yield "level/silent.wav", False, SILENT, "digital silence", wav(quiet)
    yield "level/silent.flac", False, SILENT, "digital silence in FLAC", encoded(quiet, "FLAC")
    yield "level/silent.mp3", False, SILENT, "silence through a lossy coder", encoded(quiet, "MP3")
    yield "level/silent stereo.wav", False, SILENT, "silence in two channels", wav(np.zeros((8000, 2)))
    click = quiet.copy()
    click[4321] = 0.5
    yield "level/one click.wav", True, "", "silence but for one sample", wav(click)
    constant = f"{SILENT}|constant|offset"
    yield "level/dc.wav", False, constant, "a constant: offset, no sound", wav(quiet + 0.25)
    step = wav(quiet - 1 / 128, kind="u1")
    yield "level/dc of one step.wav", False, constant, "8-bit silence, one step beside the zero", step
    yield "level/sound on dc.wav", True, "", "a sound on an offset", wav(0.5 * x + 0.4)
    yield "level/denormals.wav", False, SILENT, "numbers too small to be normal", wav(x * 1e-39, kind="f4")
    for db, is_used, says in ((-90, False, SILENT), (-60, True, "")):
        yield f"level/{db} dB.wav", is_used, says, f"a peak of {db} dBFS", wav(2 * x * 10 ** (db / 20), kind="f4")
    step = wav(np.sign(x) / 32768)
    yield "level/one step of 16 bit.wav", False, SILENT, "16-bit samples of -1, 0 and 1", step
    yield "level/clipped.wav", True, CLIPPED, "a sound driven into full scale", wav(np.clip(40 * x, -1, 1))
    yield "level/clipped.flac", True, CLIPPED, "the same in FLAC", encoded(np.clip(40 * x, -1, 1), "FLAC")
    yield "level/full scale.wav", True, "", "a peak that just touches full scale", wav(2 * x)
    yield "level/peak 8.wav", True, LOUD, "float samples up to 8.0: too loud for 16 bit", wav(16 * x, kind="f4")
    yield "level/peak 32768.wav", True, LOUD, "float samples in steps of 16 bit", wav(65536 * x, kind="f4")
    yield "level/peak 1e30.wav", False, "bounds", "float samples up to 1e30", wav(2e30 * x, kind="f4")
    late = np.concatenate([np.zeros(4 * RATE), tone(77, 2.0)])
    why = "four seconds of silence before the sound"
    yield "level/late.flac", True, "without sound|silent", why, encoded(late, "FLAC")
    # One sample is a constant like any other; two that differ are a sound, and a whole sound is never too short.
    yield "level/one sample.wav", False, f"{constant}|short", "one sample long", wav(np.array([0.5]))
    yield "level/two samples.wav", True, "", "two samples long", wav(np.array([0.5, -0.5]))
    yield "level/100 samples.wav", True, "", "6 ms long", wav(x[:100])
    yield "level/100 samples at 48 kHz.wav", True, "", "2 ms long, at another rate", wav(x[:100], 48000)
    yield "level/100 samples.flac", True, "", "6 ms long, in FLAC", encoded(x[:100], "FLAC")
    yield "level/100 samples.ogg", True, "", "6 ms long, in OGG", encoded(x[:100], "OGG")


def not_finite() -> Iterator[Row]:
    for name, value in (("nan", np.nan), ("inf", np.inf), ("minus inf", -np.inf)):
        x = tone(78)
        x[5] = value
        yield f"not finite/{name}.wav", False, NOT_FINITE, f"one sample is {value}", wav(x, kind="f4")
    yield "not finite/all.wav", False, NOT_FINITE, "every sample is NaN", wav(np.full(8000, np.nan), kind="f8")
    for rate in (RATE, 8000):
        x = tone(79, 5.0, rate)
        x[200] = np.nan
        why = f"5 s at {rate} Hz, of which one sample is NaN"
        yield f"not finite/one of many, {rate}.wav", True, NOT_FINITE, why, wav(x, rate, kind="f4")
    x = tone(80)
    x[5] = 1e300
    loud = f"{NOT_FINITE}|{LOUD}"
    yield "not finite/beyond float.wav", False, loud, "one float64 sample of 1e300", wav(x, kind="f8")


def rates() -> Iterator[Row]:
    for rate in (4000, 8000, 11025, 22050, 44100, 48000, 96000, 192000):
        yield f"rate/{rate}.wav", True, "", f"{rate} Hz", wav(tone(60, 0.3, rate), rate)
    # A filter bank for all phases of a rate without common divisor would take gigabytes.
    for rate in (44101, 47999, 15991):
        why = f"{rate} Hz: no divisor shared with usual rates"
        yield f"rate/{rate}.wav", True, "", why, wav(tone(60, 0.3, rate), rate)
    for rate in (1, 7, 2**31 - 1):
        yield f"rate/{rate}.wav", False, RATES, f"{rate} Hz: no sound can have that", wav(tone(60), rate)
    for rate in (0, 2**32 - 1):
        why = f"{rate} Hz: no sound can have that"
        yield f"rate/{rate}.wav", False, f"{RATES}|{BROKEN}", why, wav(tone(60), rate)
    aiff = encoded(tone(60), "AIFF")
    rate_at = aiff.index(b"COMM") + 16
    endless = aiff[:rate_at] + b"\x7f\xff\x80" + bytes(7) + aiff[rate_at + 10 :]
    yield "rate/infinite.aiff", False, f"{RATES}|{BROKEN}", "AIFF, whose rate is a float: infinite", endless
    flac = encoded(tone(60), "FLAC")
    slow = flac[:18] + bytes([0, 0, 3 << 4 | flac[20] & 0x0F]) + flac[21:]
    yield "rate/3.flac", False, f"{RATES}|{BROKEN}", "FLAC of 3 Hz", slow


def depths() -> Iterator[Row]:
    for kind, what in (("u1", "8 bit"), ("i3", "24 bit"), ("i4", "32 bit"), ("f4", "float"), ("f8", "float 64 bit")):
        yield f"depth/{what}.wav", True, "", f"{what} samples", wav(tone(81), kind=kind)
    for coding in ("ALAW", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"):
        rate = 8000 if coding == "GSM610" else RATE
        yield f"depth/{coding}.wav", True, "", f"{coding} in WAV", encoded(tone(81, 0.5, rate), "WAV", rate, coding)
    yield "depth/12 of 16 bit.wav", True, "", "12 bit a sample, in two bytes", wav(tone(81), bits=12)
    yield "depth/24 bit.flac", True, "", "24 bit FLAC", encoded(tone(81), "FLAC", coding="PCM_24")
    yield "depth/8 bit.flac", True, "", "8 bit FLAC", encoded(tone(81), "FLAC", coding="PCM_S8")
    yield "depth/g721.wav", True, "", "G.721 ADPCM in WAV", encoded(tone(81), "WAV", coding="G721_32")


def channels() -> Iterator[Row]:
    a, b, quiet = tone(82), tone(86), np.zeros(8000)
    yield "channels/stereo.wav", True, "", "two different channels", wav(np.stack([a, b], 1))
    yield "channels/one silent.wav", True, "", "stereo, of which one channel is silent", wav(np.stack([a, quiet], 1))
    panned = np.stack([np.where(np.arange(8000) < 4000, a, 0), np.where(np.arange(8000) < 4000, 0, b)], 1)
    yield "channels/hard-panned.wav", True, "", "first all left, then all right", wav(panned)
    against = np.stack([a, -a], 1)
    yield "channels/cancel.wav", False, "cancel", "the right channel is the left one inverted", wav(against)
    yield "channels/cancel.flac", False, "cancel", "the same in FLAC", encoded(against, "FLAC")
    part = encoded(np.concatenate([np.tile(against, (4, 1)), np.tile(np.stack([a, b], 1), (4, 1))]), "FLAC")
    yield "channels/cancel at first.flac", True, "cancel|without sound", "inverted for the first half only", part
    for count in (3, 6, 8):
        x = np.zeros((8000, count))
        x[:, count - 1] = a
        yield f"channels/{count}.wav", True, "", f"{count} channels, sound in the last", wav(x)
    yield "channels/6.flac", True, "", "six channels in FLAC", encoded(np.stack([a, b] * 3, 1), "FLAC")
    yield "channels/6.ogg", True, "", "six channels in OGG", encoded(np.stack([a, b] * 3, 1), "OGG")
    yield "channels/255.wav", True, "", "255 channels", wav(np.repeat(a[:400, None], 255, 1))
    many = wav(np.repeat(a[:8, None], 1025, 1))
    yield "channels/1025.wav", False, f"{BROKEN}|channel", "more channels than libsndfile takes", many


def formats() -> Iterator[Row]:
    x = tone(83)
    yield "format/plain.aiff", True, "", "AIFF", encoded(x, "AIFF")
    yield "format/plain.aif", True, "", "AIFF by its short ending", encoded(x, "AIFF")
    yield "format/ulaw.aifc", True, "", "AIFC with mu-law", encoded(x, "AIFF", coding="ULAW")
    yield "format/little.aifc", True, "", "AIFC with the low byte first (sowt)", encoded(x, "AIFF", endian="LITTLE")
    yield "format/vorbis.ogg", True, "", "OGG Vorbis", encoded(x, "OGG")
    yield "format/vorbis.oga", True, "", "OGG Vorbis by its other ending", encoded(x, "OGG")
    yield "format/opus.opus", True, "", "Opus", encoded(tone(83, 0.5, 48000), "OGG", 48000, "OPUS")
    yield "format/opus.ogg", True, "", "Opus that ends on .ogg", encoded(x, "OGG", coding="OPUS")
    yield "format/plain.flac", True, "", "FLAC", encoded(x, "FLAC")
    mp3 = encoded(x, "MP3")
    yield "format/plain.mp3", True, "", "MP3", mp3
    stereo = encoded(np.stack([tone(83, 0.5, 44100), tone(87, 0.5, 44100)], 1), "MP3", 44100)
    yield "format/stereo.mp3", True, "", "MP3 in stereo at 44.1 kHz", stereo
    yield "format/big id3.mp3", True, "", "an ID3 tag of 1 MB before the sound", id3(bytes(1_000_000)) + mp3
    false = id3(b"\xff\xfb\x90\xc4" * 5000)
    yield "format/id3 noise.mp3", True, "", "an ID3 tag with a picture that holds false frames", false + mp3
    yield "format/id3v1.mp3", True, "", "an old tag behind the sound", mp3 + b"TAG" + bytes(125)
    tagged = id3(bytes(300)) + encoded(x, "FLAC")
    yield "format/id3.flac", True, "", "FLAC behind an ID3 tag, as some taggers write", tagged
    yield "format/id3v1.flac", True, "", "FLAC with an old tag behind it", encoded(x, "FLAC") + b"TAG" + bytes(125)
    yield "format/mp3 in.wav", True, "", "MP3 inside WAV", mp3_in_wav(mp3)
    yield "format/extensible.wav", True, "", "WAVE_FORMAT_EXTENSIBLE", wavex(np.stack([x, x], 1))
    yield "format/rf64.wav", True, "", "RF64", rf64(x)
    yield "format/w64.wav", True, "", "W64 that ends on .wav", encoded(x, "W64")
    yield "format/rifx.wav", True, "", "RIFX: the high byte first", encoded(x, "WAV", endian="BIG")
    speex = struct.pack("<4sBBqIIIBB", b"OggS", 0, 2, 0, 1, 0, 0, 1, 80) + b"Speex   1.2".ljust(80, b"\0")
    yield "format/speex.ogg", False, BROKEN, "OGG that holds Speex, which libsndfile lacks", same_serial(speex)


def endings() -> Iterator[Row]:
    x = tone(84)
    yield "ending/UPPER.WAV", True, "", "an ending in upper case", wav(x)
    yield "ending/Mixed.FlAc", True, "", "an ending in mixed case", encoded(x, "FLAC")
    yield "ending/flac.wav", True, "", "FLAC named .wav", encoded(x, "FLAC")
    yield "ending/wav.mp3", True, "", "WAV named .mp3", wav(x)
    yield "ending/mp3.wav", True, "", "MP3 named .wav", encoded(x, "MP3")
    yield "ending/ogg.mp3", True, "", "OGG named .mp3", encoded(x, "OGG")
    yield "ending/wav.flac", True, "", "WAV named .flac", wav(x)
    yield "ending/two.mp3.wav", True, "", "two endings", wav(x)
    yield "ending/wav.txt", False, ENDING, "WAV named .txt", wav(x)
    yield "ending/none", False, ENDING, "no ending", wav(x)
    yield "ending/dot.", False, ENDING, "a dot and nothing behind it", wav(x)
    yield "ending/space.wav ", False, ENDING, "a blank behind the ending", wav(x)
    yield "ending/core.caf", False, ENDING, "CAF", encoded(x, "CAF")
    yield "ending/sun.au", False, ENDING, "AU", encoded(x, "AU")
    yield "ending/au.wav", True, "", "AU named .wav", encoded(x, "AU")
    yield "ending/apple.m4a", False, ENDING, "what begins like AAC in MP4", m4a()
    yield "ending/download.wav.part", False, ENDING, "a download that goes on", wav(x)[:5000]


def not_sound() -> Iterator[Row]:
    text = b"This is no sound, whatever its name says.\n" * 50
    page = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 16044\n"
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s2I5B", 13, b"IHDR", 8, 8, 8, 2, 0, 0, 0) + noise(500)
    contents = {
        "text": text,
        "utf-16": text.decode().encode("utf-16"),
        "error page": page,
        "lfs pointer": pointer,
        "png": png,
        "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0" + noise(800),
        "noise": noise(5000),
        "zeros": bytes(5000),
        "ones": b"\xff" * 5000,
        "gzip": gzip.compress(wav(tone(60)), mtime=0),
        "zip": b"PK\3\4\x14\0\0\0\0\0" + noise(500),
        "m4a": m4a(),
        "midi": b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0",
        "matroska": b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1" + noise(500),
    }
    for what, content in contents.items():
        # What ends on .mp3 is tried as MP3 when nothing else fits; of the other endings none matters.
        for ending in ("wav", "flac", "mp3") if what in ("png", "text") else ("wav", "mp3"):
            yield f"not sound/{what}.{ending}", False, f"{BROKEN}|{EMPTY}", f"{what} renamed .{ending}", content
    sf2 = riff(chunk(b"LIST", b"INFO"), b"sfbk")
    yield "not sound/soundfont.wav", False, BROKEN, "RIFF, but a SoundFont", sf2
    yield "not sound/only tag.mp3", False, f"{BROKEN}|{EMPTY}", "an ID3 tag and nothing behind it", id3(bytes(1000))
    yield "not sound/README.md", False, ENDING, "a text among the sounds", text
    yield "not sound/cover.jpg", False, ENDING, "a picture among the sounds", contents["jpeg"]
    yield "not sound/Thumbs.db", False, ENDING, "what Windows leaves behind", noise(500)
    yield "not sound/examples.json", False, ENDING, "NSynth's table, but not at the top", b"{}"


def names() -> Iterator[Row]:
    tall = unicodedata.normalize("NFD", "Zál̆ǵo̊")
    for i, (name, why) in enumerate(
        (
            ("звук деревни", "Cyrillic"),
            ("太鼓の音", "Japanese"),
            ("صوت الطبل", "Arabic, right to left"),
            ("ढोल", "Devanagari"),
            ("🥁👩\u200d🎤", "emoji, one made of several"),
            (tall, "combining accents"),
            (unicodedata.normalize("NFC", "flûte à bec"), "composed letters (NFC)"),
            (unicodedata.normalize("NFD", "flûte à bec"), "the same name decomposed (NFD)"),
            ("\u202egpj.evil", "right-to-left override"),
            ("zero\u200bwidth", "a blank of no width"),
            ("line\nbreak", "newline"),
            ("carriage\rreturn", "carriage return"),
            ("tab\tstop", "tab"),
            ("\x1b[31mred\x1b[0m\x07", "terminal escapes and a bell"),
            ('it\'s "quoted" `so`', "quotes"),
            ("$(touch owned) ${HOME} $x", "what a shell would expand"),
            ("-rf", "a leading dash"),
            ("--help", "the name of an option"),
            (" both ends ", "blanks at both ends"),
            ("back\\slash", "a backslash"),
            ("star * question ? [a-z]", "what a shell would match"),
            ("a; rm -rf ~ & b | c > d", "what a shell would run"),
            ("100 % {braces} %s %d {0}", "what a format string would fill"),
            ("comma, semi; tab", "what a CSV would split"),
            ("=1+1", "what a spreadsheet would compute"),
            ("<script>alert(1)</script>", "HTML; the slash makes a folder of its half"),
            ("<img src=x onerror=alert(1)>", "HTML"),
            ("a..b", "two dots, but no parent folder"),
            ("CON", "a device's name on Windows"),
            ("Case", "differs from another by case only"),
            ("case", "differs from another by case only"),
            ("x" * 251, "255 bytes, the longest name"),
            ("音" * 83 + "xx", "255 bytes in 89 letters"),
            (os.fsdecode(b"Fl\xf6te"), "Latin-1 bytes that are no UTF-8"),
            (os.fsdecode(b"\xff\xfe\x80"), "bytes that are text in no encoding"),
        )
    ):
        yield f"names/{name}.wav", True, "", why, wav(tone(48 + i / 2, 0.25))
    long = "/".join(["a folder in a folder in a folder"] * 30)
    yield f"names/{long}/x.wav", True, "", "a path of 1000 bytes", wav(tone(60))
    yield os.fsdecode(b"names/d\xe9p\xf4t/x.wav"), True, "", "a folder in Latin-1", wav(tone(60))
    yield "names/folder.wav/inside.wav", True, "", "a sound in a folder that is named like one", wav(tone(60))


def hidden() -> Iterator[Row]:
    apple = b"\0\5\x16\7\0\2\0\0Mac OS X        " + struct.pack(">H3I", 1, 9, 38, 3) + b"\0\0\0"
    yield "hidden/._x.wav", False, HIDDEN, "macOS's resource fork of x.wav", apple
    yield "hidden/x.wav", True, "", "the sound beside its resource fork", wav(tone(85))
    yield "hidden/.DS_Store", False, HIDDEN, "what macOS leaves behind", noise(300)
    yield "hidden/.sound.wav", False, HIDDEN, "a hidden sound", wav(tone(85))
    yield "hidden/.wav", False, HIDDEN, "an ending and no name", wav(tone(85))


def links() -> Iterator[Row]:
    def to(target: str) -> Callable[[Path], None]:
        return lambda path: path.symlink_to(target)

    yield "links/target.wav", True, "", "what the next link leads to", wav(tone(87))
    yield "links/to a file.wav", True, "", "a link to a sound", to("target.wav")
    yield "links/to a link.wav", True, "", "a link to a link to a sound", to("to a file.wav")
    yield "links/dangling.wav", False, LINK, "a link that leads nowhere", to("nowhere.wav")
    yield "links/itself.wav", False, LINK, "a link to itself", to("itself.wav")
    yield "links/there.wav", False, LINK, "one half of a loop of links", to("back.wav")
    yield "links/back.wav", False, LINK, "the other half", to("there.wav")
    yield "links/folder", False, LINK, "a link to the folder above: a loop", to("..")
    yield "links/folder.wav", False, f"{LINK}|{SPECIAL}", "a link to a folder, named like a sound", to("../fine")
    yield "links/endless.wav", False, f"{SPECIAL}|device", "a link to a device that never ends", to("/dev/zero")
    yield "links/null.wav", False, f"{SPECIAL}|device|{EMPTY}", "a link to a device that holds nothing", to("/dev/null")
    yield "links/to no ending.wav", True, "", "a link named .wav to a sound without ending", to("../ending/none")


def not_files() -> Iterator[Row]:
    def unreadable(path: Path) -> None:
        path.write_bytes(wav(tone(88)))
        path.chmod(0)

    def pipe(path: Path) -> None:
        os.mkfifo(path)

    def socket(path: Path) -> None:
        os.mknod(path, stat.S_IFSOCK | 0o600)  # bind() takes only about a hundred bytes of path

    yield "special/unreadable.wav", None, "opened|permission", "no right to read it", unreadable
    yield "special/pipe.wav", False, SPECIAL, "a named pipe: whoever opens it waits", pipe
    yield "special/pipe", False, f"{SPECIAL}|{ENDING}", "a named pipe without an ending", pipe
    yield "special/socket.wav", False, SPECIAL, "a socket", socket


def giants() -> Iterator[Row]:
    """Files that promise hours and truly are that long, but take no room: what is not written reads as zeros."""

    def sparse(total: int, data: bytes) -> Callable[[Path], None]:
        def make(path: Path) -> None:
            with path.open("wb") as f:
                f.write(data)
                f.truncate(total)

        return make

    size = 2**29
    header = wav(np.zeros(0), data_size=size - 44, riff_size=size - 8)
    yield (
        "giant/half a GB of zeros.wav",
        False,
        f"{SILENT}|long",
        "five hours of silence",
        sparse(size, header),
    )
    size = 2 * 58_000_000
    late = sparse(44 + size, wav(tone(89), data_size=size, riff_size=size + 36))
    yield "giant/over an hour.wav", True, "without sound", "a sound, then silence to 60.4 minutes", late


# --- Sounds and the bytes of files


def tone(midi: float, seconds: float = 0.5, rate: int = RATE) -> Sound:
    """A harmonic tone with a peak of 0.5."""
    hz = 440 * 2 ** ((midi - 69) / 12)
    t = np.arange(round(seconds * rate)) / rate
    partials = range(1, max(2, min(5, int(rate / 2 / hz))))
    x = np.sum([np.sin(2 * np.pi * hz * k * t) / k for k in partials], 0)
    return 0.5 * x / np.abs(x).max()


@cache
def noise(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(count)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def spoil(data: bytes, where: float, count: int) -> bytes:
    """The file with `count` bytes overwritten, from the fraction `where` of it on."""
    start = int(where * len(data))
    return data[:start] + noise(count)[: len(data) - start] + data[start + count :]


def pcm(x: Sound, kind: str = "i2") -> bytes:
    """Samples as a WAV's data: u1, i2, i3, i4, f4 or f8."""
    if kind[0] == "f":
        with np.errstate(over="ignore"):
            return x.astype(f"<{kind}").tobytes()
    top = 2.0 ** (8 * int(kind[1]) - 1)
    whole = np.clip(np.rint(x * top), -top, top - 1).astype(np.int64)
    if kind == "u1":
        return (whole + 128).astype(np.uint8).tobytes()
    return whole.astype("<i8").view(np.uint8).reshape(-1, 8)[:, : int(kind[1])].tobytes()


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return struct.pack("<4sI", name, len(data) if size is None else size) + data + bytes(len(data) % 2)


def riff(body: bytes, form: bytes = b"WAVE", size: int | None = None) -> bytes:
    return struct.pack("<4sI4s", b"RIFF", len(body) + 4 if size is None else size, form) + body


def fmt(rate: int = RATE, kind: str = "i2", **lie: int) -> bytes:
    """A WAV's format chunk; `lie` overrides tag, channels, byte_rate, block and bits."""
    count, width = lie.get("channels", 1), int(kind[1])
    block = lie.get("block", count * width)
    byte_rate = lie.get("byte_rate", rate * count * width) % 2**32
    tag, bits = lie.get("tag", 3 if kind[0] == "f" else 1), lie.get("bits", 8 * width)
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, count, rate, byte_rate, block % 2**16, bits))


def wav(
    x: Sound,
    rate: int = RATE,
    kind: str = "i2",
    before: bytes = b"",
    after: bytes = b"",
    data_size: int | None = None,
    riff_size: int | None = None,
    **lie: int,
) -> bytes:
    """A WAV file of `[samples]` or `[samples, channels]`, with chunks before and after the data, and with lies.

    By hand, because libsndfile writes the time of day into float files, and would not write the lies.
    """
    lie.setdefault("channels", x.shape[1] if x.ndim > 1 else 1)
    data = chunk(b"data", pcm(x, kind), data_size)
    return riff(fmt(rate, kind, **lie) + before + data + after, size=riff_size)


def wavex(x: Sound) -> bytes:
    guid = bytes.fromhex("0100000000001000800000aa00389b71")
    extension = struct.pack("<HHI", 22, 16, 3) + guid
    head = struct.pack("<HHIIHH", 0xFFFE, x.shape[1], RATE, 2 * RATE * x.shape[1], 2 * x.shape[1], 16)
    return riff(chunk(b"fmt ", head + extension) + chunk(b"data", pcm(x)))


def mp3_in_wav(mp3: bytes) -> bytes:
    head = struct.pack("<HHIIHH", 0x55, 1, RATE, 8000, 1, 0) + struct.pack("<HHIHHH", 12, 1, 2, 288, 1, 1393)
    return riff(chunk(b"fmt ", head) + chunk(b"data", mp3))


def rf64(x: Sound) -> bytes:
    data = pcm(x)
    sizes = chunk(b"ds64", struct.pack("<QQQI", 72 + len(data), len(data), len(x), 0))
    body = sizes + fmt() + chunk(b"data", data, 2**32 - 1)
    return struct.pack("<4sI4s", b"RF64", 2**32 - 1, b"WAVE") + body


def encoded(
    x: Sound, kind: str, rate: int = RATE, coding: str | None = None, endian: str | None = None, serial: int = 1
) -> bytes:
    """The bytes of a file as libsndfile writes it."""
    if kind == "OGG" and coding is None:
        coding = "VORBIS"
    buffer = io.BytesIO()
    soundfile.write(buffer, x, rate, format=kind, subtype=coding, endian=endian)
    return same_serial(buffer.getvalue(), serial) if kind == "OGG" else buffer.getvalue()


def same_serial(ogg: bytes, serial: int = 1) -> bytes:
    """The OGG file with this serial number in every page: libsndfile draws it anew each time."""
    pages, start = [], 0
    while start < len(ogg):
        count = ogg[start + 26]
        end = start + 27 + count + sum(ogg[start + 27 : start + 27 + count])
        page = bytearray(ogg[start:end])
        page[14:18], page[22:26] = struct.pack("<I", serial), bytes(4)
        page[22:26] = struct.pack("<I", ogg_crc(bytes(page)))
        pages.append(bytes(page))
        start = end
    return b"".join(pages)


_BACKWARDS = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def ogg_crc(page: bytes) -> int:
    """The checksum of an OGG page: that of zlib with the bits in the other order, begun at 0 and not inverted."""
    value = zlib.crc32(page.translate(_BACKWARDS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)


def flac_length(flac: bytes, samples: int) -> bytes:
    """The FLAC file with another number of samples (36 bits) in its STREAMINFO."""
    return flac[:21] + bytes([flac[21] & 0xF0 | samples >> 32]) + struct.pack(">I", samples % 2**32) + flac[26:]


def id3(picture: bytes) -> bytes:
    """An ID3v2.3 tag with one picture in it."""
    body = b"image/png\0\3\0" + picture
    frame = struct.pack(">4sIH", b"APIC", len(body) + 1, 0) + b"\0" + body
    size = bytes((len(frame) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + frame


def m4a() -> bytes:
    """The start of AAC in MP4, that libsndfile cannot decode."""
    return struct.pack(">I", 24) + b"ftypM4A \0\0\2\0isomiso2" + struct.pack(">I", 3008) + b"mdat" + noise(3000)
