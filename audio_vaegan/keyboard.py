"""`generate --keyboard`: one timbre over a range of keys, as files that a sampler opens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from audio_vaegan.errors import UserError
from audio_vaegan.files import check_out_folder, new_folder, write_atomic
from audio_vaegan.sound_model import BATCH, Sound, SoundModel
from audio_vaegan.sound_model.editing import least_brightness
from audio_vaegan.sound_model.writing import (
    PEAK,
    Asked,
    check_draw,
    encode_file,
    gain_within,
    row,
    shown,
    unlimited,
    wanted,
    write_sound,
)
from audio_vaegan.version import __version__

# Flats: a sharp's sign begins a directive in an SFZ file, and a fragment in an address.
NOTES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
RELEASE = 0.1  # seconds of the fade after a key is let go


def keyboard(
    path: Path,
    out: Path,
    keys: Sequence[int],
    asked: Asked,
    *,
    like: Path | None = None,
    seed: int = 0,
    truncation: float = 1.0,
    prior: str = "auto",
    closed_loop: bool = False,
    overwrite: bool = False,
    vocoder: str = "auto",
) -> list[str]:
    """Write a sound for each MIDI key, `metadata.jsonl` and `instrument.sfz`. Returns lines of what should be known.

    The timbre is that of the first sound of `seed`, or of the sound file `like`. All keys share the controls too, but
    for pitch: those `asked` for, else the sound's own. Raises UserError for a model without pitch, keys outside its
    range, several values of a control.
    """
    check_draw(seed, truncation)
    check_out_folder(out, "sounds", overwrite)
    keys = sorted(set(keys))
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    if "pitch" not in model.controls:
        raise UserError("--keyboard: this model was trained without control of pitch (model.controls)")
    if "pitch" in asked:
        raise UserError("--pitch and --keyboard: the keys are the pitches; give one of the two")
    try:
        model.check(pitch=keys)
    except UserError as e:
        raise UserError(f"--keyboard: {e}") from None
    values = wanted(model, asked)
    for name, value in values.items():
        if isinstance(value, list) and len(value) > 1:
            raise UserError(f"--{name}: all keys share one value, got {len(value)}")

    notes: list[str] = []
    if like is None:
        clip = model.sample(1, seed=seed, truncation=truncation, prior=prior, **values, pitch=keys[len(keys) // 2])
        one = clip.sound()
        made = {"seed": seed, "item": 0, "truncation": truncation, "prior": prior}
    else:
        one, notes = encode_file(model, like)
        given = model.sample(1, seed=seed, **values).controls if values else {}
        one = model.replace_controls(one, {name: given[name] for name in values})
        made = {"seed": None, "item": 0, "truncation": None, "prior": None}
    origin = f"seed {seed}" if like is None else "timbre of a sound file"
    with new_folder(out, "sounds", overwrite) as folder:
        _, loud = write_keys(model, one, keys, folder, origin, made, closed_loop)
    return [*notes, *(f"note: {line}" for line in loud)]


def write_keys(
    model: SoundModel,
    one: Sound,
    keys: Sequence[int],
    folder: Path,
    origin: str,
    made: Mapping[str, Any],
    closed_loop: bool = False,
) -> tuple[list[Path], list[str]]:
    """Write one sound at every of the ascending `keys` into `folder`, with `metadata.jsonl` and `instrument.sfz`.
    Returns the sound files, and lines of what should be known. `origin` says in the instrument where the timbre is
    from, `made` in their rows. Where a key is too loud for a file, all are turned down alike."""
    whole = one.rows(torch.zeros(len(keys), dtype=torch.long))
    files = [f"{key:03d}-{note_name(key)}.wav" for key in keys]
    clips = []
    with tqdm(total=len(keys), desc="generate", unit="sound", delay=1) as bar:
        for index in torch.arange(len(keys)).split(BATCH):
            some, pitch = whole.rows(index), torch.tensor([float(keys[i]) for i in index])
            wanted, lowest = {"pitch": pitch.tolist()}, least_brightness(some, pitch)
            if lowest is not None and (some.controls["brightness"] < lowest).any():  # keys above what it plays
                control, brightness = model.controls["brightness"], some.controls["brightness"].maximum(lowest)
                if ((control.low <= brightness) & (brightness <= control.high)).all():
                    wanted["brightness"] = brightness.tolist()
            clips.append(unlimited(model, model.edit(some, set=wanted, closed_loop=closed_loop)))
            bar.update(len(index))
    gain = min(gain_within(clip.audio) for clip in clips)
    sounds = [(clip, k) for clip in clips for k in range(len(clip.audio))]
    with (folder / "metadata.jsonl").open("w") as rows:
        for key, file, (clip, k) in zip(keys, files, sounds, strict=True):
            address = write_sound(folder / file, model, clip, k, gain)
            heard = {"pitch_measured": shown(model, "pitch", float(clip.achieved["pitch"][k])), "key": key}
            rows.write(row(model, clip, k, file, **heard, gain_db=gain, address=address, **made))
    about = f"model {model.hash[:12]}, {origin}, vocoder {model.vocoder_title}"
    write_atomic(folder / "instrument.sfz", sfz(keys, files, about))
    loud = sum(float(clip.audio[k].abs().max()) > 1 for clip, k in sounds)
    note = f"{loud} of them would have clipped: all keys were turned down by {-gain:.1f} dB, to a peak of {PEAK:g} dBFS"
    return [folder / file for file in files], [note] if loud else []


def note_name(key: int) -> str:
    """Name of a MIDI key: 60 is C4, 61 Db4."""
    return f"{NOTES[key % 12]}{key // 12 - 1}"


def sfz(keys: Sequence[int], files: Sequence[str], about: str) -> str:
    """An instrument in the SFZ format (https://sfzformat.com): a region for each of the ascending MIDI keys.

    A region begins half way from the key below and ends half way to the key above, so that all keys between the first
    and the last sound exactly once. `files` are relative to the instrument, with forward slashes.
    """
    lines = [
        f"// AI-generated by audio-vaegan {__version__}: {' '.join(about.split())}",
        f"<group> loop_mode=no_loop ampeg_release={RELEASE}",
    ]
    for i, (key, file) in enumerate(zip(keys, files, strict=True)):
        low = (keys[i - 1] + key) // 2 + 1 if i else key
        high = (key + keys[i + 1]) // 2 if i + 1 < len(keys) else key
        lines.append(f"<region> sample={file} lokey={low} hikey={high} pitch_keycenter={key}")
    return "\n".join(lines) + "\n"
