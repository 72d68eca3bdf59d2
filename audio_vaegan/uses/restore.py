"""The verb `restore`: a sound file, made whole."""

from collections.abc import Sequence
from pathlib import Path

from audio_vaegan.audio import write
from audio_vaegan.files import check_out_sound
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.writing import other_form


def restore_file(
    path: Path,
    sound_path: Path,
    out: Path,
    *,
    gaps: Sequence[tuple[float, float]] = (),
    bandwidth: float | None = None,
    noise: tuple[float, float] | bool = False,
    input_pitch: float | None = None,
    overwrite: bool = False,
    vocoder: str = "auto",
) -> str:
    """Write a sound file made whole (`SoundModel.restore`). Returns what was made, and by which latents, in lines."""
    check_out_sound(out, sound_path, overwrite)
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    known = {} if input_pitch is None else {"pitch": input_pitch}
    audio, sound = model.restore(sound_path, gaps=gaps, bandwidth=bandwidth, noise=noise, **known)
    write(out, audio[0].numpy(), model.sample_rate, f"model {model.hash[:12]} restored")
    there = {n: (c, float(sound.controls[n])) for n, c in model.controls.items() if not sound.controls[n].isnan().any()}
    of = ", ".join(f"{n} {c.show(v)}" if c.classes else f"{n} {v:.2f} {c.unit}" for n, (c, v) in there.items())
    of += "".join(f"\n{note}" for note in other_form(sound_path, model))
    made = f"written: {out} (AI-generated in part, vocoder: {model.vocoder_title})"
    return f"found: {of or 'a timbre'}\n{made}"
