"""A SoundFont as a source: its notes are rendered as they are read (`render-soundfont` writes them to files)."""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from audio_vaegan.audio import BadAudio, encode_recording
from audio_vaegan.data.groups import connected
from audio_vaegan.data.nsynth import family_of, note_entry, source_of
from audio_vaegan.data.soundfont import Preset, Rendering, Synth, read_presets
from audio_vaegan.data.sources.base import Source, SourceFile
from audio_vaegan.data.sources.nsynth import NSynth
from audio_vaegan.files import sha256_file


class SoundFont(Source):
    """Every melodic program of a SoundFont at the pitches that the recipe keeps, MIDI 36 to 84 at most, as long as a
    clip, the key down for four fifths of it. Programs that share a sample are one group."""

    kind = "SoundFont"

    @classmethod
    def fits(cls, root: Path) -> bool:
        return root.is_file() and root.suffix.lower() == ".sf2"

    def rendering(self) -> Rendering:
        rate, (low, high) = self.recipe.mel.sample_rate, self.recipe.data.keep_pitch
        seconds = self.recipe.data.clip_samples / rate
        pitches = tuple(p for p in Rendering.pitches if low <= p <= high)
        return Rendering(pitches=pitches, hold=0.8 * seconds, duration=seconds, sample_rate=rate)

    def files(self) -> Iterator[SourceFile]:
        what = self.rendering()
        presets = read_presets(self.root)
        for (bank, program), preset in sorted(presets.items()):
            if bank:
                other = "not a melodic program of bank 0; render-soundfont can render drum kits"
                yield self.file(self.root, f"bank {bank}, program {program} ({preset.name})", refused=other)
        melodic = [p for (bank, _), p in sorted(presets.items()) if bank == 0]
        notes = [(i, p, pitch, v) for i, p in enumerate(melodic) for pitch in what.pitches for v in what.velocities]
        used: dict[str, set[str]] = {}
        for _, preset, pitch, velocity in notes:
            used.setdefault(str(preset.program), set()).update(preset.samples(pitch, velocity))
        groups = connected(used)
        for number, (index, preset, pitch, velocity) in enumerate(notes):
            family, source = family_of(preset.program), source_of(preset.program)
            entry = note_entry(number, index, family, source, pitch, velocity, what.sample_rate)
            refused = None if preset.samples(pitch, velocity) else "the program has no sample for this note"
            yield self.file(
                self.root,
                f"{entry['note_str']}.wav",
                f"program {groups[str(preset.program)]}",
                labels=NSynth.labels_of(entry) | {"preset_name": preset.name},
                refused=refused,
                part=(preset.bank, preset.program, pitch, velocity),
            )

    def sound(self, file: SourceFile) -> bytes:
        bank, program, pitch, velocity = file.part
        what = self.rendering()
        audio, clips = _synth(self.root, what).note(Preset(bank, program, "", ()), pitch, velocity)
        if clips:
            raise BadAudio(f"clips at gain {what.gain:g}; use render-soundfont with a smaller --gain")
        return encode_recording(audio, what.sample_rate, "WAV")

    def digest(self, file: SourceFile) -> str:
        return hashlib.sha256(f"{_font_digest(self.root)} {file.part} {self.rendering()}".encode()).hexdigest()


@lru_cache(maxsize=2)
def _synth(path: Path, what: Rendering) -> Synth:
    return Synth(path, what)


@lru_cache(maxsize=2)
def _font_digest(path: Path) -> str:
    return sha256_file(path)
