"""Writes a minimal SoundFont 2 file, so that rendering can be tested without a large one."""

import struct
from pathlib import Path

import numpy as np


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + (b"\0" if len(data) % 2 else b"")


def _list(kind: bytes, *chunks: bytes) -> bytes:
    return _chunk(b"LIST", kind + b"".join(chunks))


def write_sf2(
    path: Path,
    waves: dict[str, np.ndarray],
    presets: list[tuple[int, str, str]],
    rate: int = 16000,
    bank: int = 0,
    loop: bool = True,
) -> None:
    """Each wave is one period train at MIDI 60, looped or played once; each preset is (program, name, wave).

    Every preset gets an instrument of its own; two presets that name the same wave share a sample.
    """
    names = list(waves)
    data, headers, position = b"", b"", 0
    for name in names:
        wave = (waves[name] * 32767).astype("<i2")
        data += wave.tobytes() + b"\0" * 92
        end = position + len(wave)
        headers += struct.pack("<20sIIIIIBbHH", name.encode(), position, end, position, end, rate, 60, 0, 0, 1)
        position = end + 46
    headers += struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)

    phdr = pbag = pgen = inst = ibag = igen = b""
    for i, (program, title, wave) in enumerate(presets):
        phdr += struct.pack("<20sHHHIII", title.encode(), program, bank, i, 0, 0, 0)
        pbag += struct.pack("<HH", i, 0)
        pgen += struct.pack("<HH", 41, i)
        inst += struct.pack("<20sH", title.encode(), i)
        ibag += struct.pack("<HH", 2 * i, 0)
        igen += struct.pack("<HH", 54, int(loop)) + struct.pack("<HH", 53, names.index(wave))
    n = len(presets)
    phdr += struct.pack("<20sHHHIII", b"EOP", 0, 0, n, 0, 0, 0)
    pbag += struct.pack("<HH", n, 0)
    pgen += struct.pack("<HH", 0, 0)
    inst += struct.pack("<20sH", b"EOI", n)
    ibag += struct.pack("<HH", 2 * n, 0)
    igen += struct.pack("<HH", 0, 0)
    none = struct.pack("<HHhHH", 0, 0, 0, 0, 0)
    info = _list(
        b"INFO", _chunk(b"ifil", struct.pack("<HH", 2, 1)), _chunk(b"isng", b"EMU8000\0"), _chunk(b"INAM", b"test\0\0")
    )
    body = _list(b"sdta", _chunk(b"smpl", data))
    hydra = _list(
        b"pdta", _chunk(b"phdr", phdr), _chunk(b"pbag", pbag), _chunk(b"pmod", none), _chunk(b"pgen", pgen),
        _chunk(b"inst", inst), _chunk(b"ibag", ibag), _chunk(b"imod", none), _chunk(b"igen", igen),
        _chunk(b"shdr", headers),
    )  # fmt: skip
    path.write_bytes(_chunk(b"RIFF", b"sfbk" + info + body + hydra))
