"""The verbs `compress` and `decompress`: a sound file as a few dozen bytes, and back."""

from pathlib import Path

from audio_vaegan.audio import write
from audio_vaegan.errors import UserError
from audio_vaegan.files import check_out_sound, read_bytes, write_atomic
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.compressing import BITS, compress, decompress

SUFFIX = ".avg"
MOST_BYTES = 2**24


def compress_file(
    path: Path,
    sound: Path,
    out: Path,
    *,
    bits: int = BITS,
    input_pitch: float | None = None,
    overwrite: bool = False,
    vocoder: str = "auto",
) -> str:
    """Write the latents of a sound file as a file of type .avg. Returns how small it is, in a line."""
    if out.suffix.lower() != SUFFIX:
        raise UserError(f"--out {out}: give a name that ends in {SUFFIX}")
    if out.exists() and not overwrite:
        raise UserError(f"--out {out}: exists; choose another name, or add --overwrite")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    if not model.encodes:
        raise UserError(f"{path}: a GAN, which has no encoder: it cannot compress")
    audio = model.heard(sound)
    content = compress(model, audio, bits, **({} if input_pitch is None else {"pitch": input_pitch}))
    write_atomic(out, content)
    seconds = len(audio) / model.sample_rate
    return f"written: {out}, {len(content)} bytes for {seconds:.2f} s ({8 * len(content) / 1000 / seconds:.2f} kbit/s)"


def decompress_file(path: Path, packed: Path, out: Path, *, overwrite: bool = False, vocoder: str = "auto") -> str:
    """Write the sound of a file that `compress` wrote. Returns a line."""
    check_out_sound(out, packed, overwrite)
    if not packed.is_file():
        raise UserError(f"{packed}: there is no such file")
    if packed.stat().st_size > MOST_BYTES:
        raise UserError(f"{packed}: not a sound that `compress` wrote")
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    try:
        audio, _ = decompress(model, read_bytes(packed))
    except UserError as e:
        raise UserError(f"{packed}: {e}") from None
    write(out, audio.numpy(), model.sample_rate, f"model {model.hash[:12]} decompressed")
    return f"written: {out} (AI-generated, vocoder: {model.vocoder_title})"
