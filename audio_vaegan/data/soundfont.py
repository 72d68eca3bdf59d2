"""Labelled notes from a SoundFont, in NSynth layout: `audio-vaegan render-soundfont`.

Rendering is FluidSynth's (through pyfluidsynth), reading the file's structure sf2utils'. Each note records which
of the SoundFont's samples it played; programs that share a sample are one instrument when data is split.
"""

import importlib
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from audio_vaegan.audio import write_recording
from audio_vaegan.data.groups import connected
from audio_vaegan.data.nsynth import DRUM_BANK, drum_of, family_of, note_entry, source_of
from audio_vaegan.errors import UserError
from audio_vaegan.files import new_folder, sha256_file, write_json

_MEND = (
    "install it with: pip install 'audio-vaegan[soundfont]' and the system library "
    "(Debian, Ubuntu: apt install libfluidsynth3; macOS: brew install fluid-synth)"
)


@dataclass(frozen=True)
class Rendering:
    """What to render. Times in seconds, pitches and velocities in MIDI numbers."""

    programs: tuple[int, ...] | None = None  # None: every melodic program of bank 0
    drum_kits: tuple[int, ...] = ()
    pitches: tuple[int, ...] = tuple(range(36, 85))
    velocities: tuple[int, ...] = (100,)
    hold: float = 0.8  # key down
    duration: float = 1.024  # length of the file, the release included
    fade: float = 0.01  # linear fade at the very end, so that a ringing note ends without a click
    sample_rate: int = 16000
    gain: float = 0.4
    format: str = "flac"
    name: str = ""  # goes before the names of instruments: a store of several SoundFonts tells them apart by it


@dataclass(frozen=True)
class Hit:
    """A key struck at a moment of a phrase."""

    seconds: float
    key: int
    velocity: int


@dataclass(frozen=True)
class Zone:
    """One sample of a preset, and the keys and velocities that play it (inclusive)."""

    keys: tuple[int, int]
    velocities: tuple[int, int]
    sample: str


@dataclass(frozen=True)
class Preset:
    bank: int
    program: int
    name: str
    zones: tuple[Zone, ...]

    def samples(self, pitch: int, velocity: int) -> list[str]:
        """Names of the samples that a note plays, sorted; empty where the preset is silent."""
        return sorted(
            {
                z.sample
                for z in self.zones
                if z.keys[0] <= pitch <= z.keys[1] and z.velocities[0] <= velocity <= z.velocities[1]
            }
        )


def read_presets(path: Path) -> dict[tuple[int, int], Preset]:
    """`{(bank, program): Preset}` of a SoundFont. Raises UserError when the file is not one."""
    if not path.is_file():
        raise UserError(f"no such SoundFont file: {path}")
    sf2parse = _optional("sf2utils.sf2parse")
    logging.getLogger().setLevel(logging.ERROR)
    try:
        with path.open("rb") as f:
            presets = [_preset(p) for p in sf2parse.Sf2File(f).presets if hasattr(p, "bank")]
    except Exception as e:  # sf2utils raises whatever its struct readers meet in a file that is not a SoundFont
        raise UserError(f"{path}: not a SoundFont 2 file ({type(e).__name__}: {e})") from None
    return {(p.bank, p.program): p for p in presets}


def _preset(preset: Any) -> Preset:
    return Preset(preset.bank, preset.preset, str(preset.name).strip(), tuple(_zones(preset)))


def _zones(preset: Any) -> Iterator[Zone]:
    """Every (preset zone, instrument zone) pair; a first zone without a target sets the defaults of the others."""
    keys, velocities = (0, 127), (0, 127)
    for bag in preset.bags:
        if bag.instrument is None:
            keys, velocities = _range(bag.key_range, keys), _range(bag.velocity_range, velocities)
            continue
        outer = _range(bag.key_range, keys), _range(bag.velocity_range, velocities)
        inner_keys, inner_velocities = (0, 127), (0, 127)
        for inner in bag.instrument.bags:
            k, v = _range(inner.key_range, inner_keys), _range(inner.velocity_range, inner_velocities)
            if inner.sample is None:
                inner_keys, inner_velocities = k, v
                continue
            yield Zone(_overlap(outer[0], k), _overlap(outer[1], v), str(inner.sample.name).strip())


def _range(value: Any, default: tuple[int, int]) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if value else default


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return max(a[0], b[0]), min(a[1], b[1])


def render(path: Path, out: Path, what: Rendering, overwrite: bool = False) -> int:
    """Render a SoundFont into the folder `out` (NSynth layout). Returns the number of notes written.

    Notes for which the preset has no sample are left out and counted in `rendering.json`.
    """
    presets = read_presets(path)
    wanted = list(_wanted(presets, what))
    with new_folder(out, "notes", overwrite) as folder:
        (folder / "audio").mkdir()
        synth, rate = Synth(path, what), what.sample_rate
        notes: dict[str, dict[str, Any]] = {}
        used: dict[str, set[str]] = {}
        empty, clipped = 0, []
        total = len(wanted) * len(what.pitches) * len(what.velocities)
        with tqdm(total=total, desc="render", unit="note", delay=1) as bar:
            for index, preset in enumerate(wanted):
                drums = preset.bank == DRUM_BANK
                family, source = family_of(preset.program, drums), source_of(preset.program, drums)
                for pitch in what.pitches:
                    for velocity in what.velocities:
                        bar.update()
                        samples = preset.samples(pitch, velocity)
                        if not samples:
                            empty += 1
                            continue
                        entry = note_entry(len(notes), index, family, source, pitch, velocity, rate, what.name)
                        entry |= {
                            "bank": preset.bank,
                            "program": preset.program,
                            "preset_name": preset.name,
                            "soundfont_samples": samples,
                        }
                        if (drum := drum_of(preset.program, pitch, drums)) is not None:
                            entry["drum_str"] = drum
                        audio, clips = synth.note(preset, pitch, velocity)
                        if clips:
                            clipped.append(entry["note_str"])
                        write_recording(folder / "audio" / f"{entry['note_str']}.{what.format}", audio, rate)
                        notes[entry["note_str"]] = entry
                        used.setdefault(_struck(entry), set()).update(samples)
        if not notes:
            raise UserError(f"{path}: none of the asked programs plays at the asked pitches and velocities")
        if clipped:
            raise UserError(f"{len(clipped)} notes clip at --gain {what.gain:g} ({clipped[0]}, ...); use a smaller one")
        groups = connected(used)
        for entry in notes.values():
            entry["split_group"] = groups[_struck(entry)]
        write_json(folder / "examples.json", notes)
        write_json(
            folder / "rendering.json",
            {
                "soundfont": path.name,
                "soundfont_sha256": sha256_file(path),
                "notes": len(notes),
                "instruments": len({entry["instrument_str"] for entry in notes.values()}),
                "split_groups": len(set(groups.values())),
                "left_out_without_sample": empty,
                "seconds": what.duration,
                "hold": what.hold,
                "gain": what.gain,
            },
        )
    return len(notes)


def _struck(entry: dict[str, Any]) -> str:
    """What a note is played on: a program, or one key of a drum kit."""
    instrument = str(entry["instrument_str"])
    return f"{instrument}-{entry['pitch']:03d}" if entry["bank"] == DRUM_BANK else instrument


def _wanted(presets: dict[tuple[int, int], Preset], what: Rendering) -> Iterable[Preset]:
    if what.programs is None:
        melodic = [p for (bank, _), p in sorted(presets.items()) if bank == 0]
    else:
        melodic = [find_preset(presets, 0, n) for n in dict.fromkeys(what.programs)]
    return [*melodic, *(find_preset(presets, DRUM_BANK, n) for n in dict.fromkeys(what.drum_kits))]


def find_preset(presets: dict[tuple[int, int], Preset], bank: int, program: int) -> Preset:
    """A preset of a SoundFont. Raises UserError that names the ones there are."""
    if (bank, program) not in presets:
        there = sorted(p for b, p in presets if b == bank)
        kind = "drum kit" if bank == DRUM_BANK else "program"
        raise UserError(f"the SoundFont has no {kind} {program}; it has: {', '.join(map(str, there)) or 'none'}")
    return presets[bank, program]


class Synth:
    """FluidSynth without reverb and chorus; each note starts from a reset synthesiser."""

    def __init__(self, path: Path, what: Rendering) -> None:
        fluidsynth = _optional("fluidsynth")
        self.what = what
        if round(what.duration * what.sample_rate) < 1:
            raise UserError(
                f"--duration {what.duration:g}: shorter than a sample at {what.sample_rate} Hz; ask for more"
            )
        self.synth = fluidsynth.Synth(gain=what.gain, samplerate=float(what.sample_rate))
        self.synth.setting("synth.reverb.active", 0)
        self.synth.setting("synth.chorus.active", 0)
        self.font = self.synth.sfload(str(path))
        if self.font < 0:
            raise UserError(f"{path}: FluidSynth cannot load this SoundFont")

    def note(self, preset: Preset, pitch: int, velocity: int) -> tuple[NDArray[np.float32], bool]:
        """One note, mono float32 `[duration * sample_rate]` (both channels averaged), and whether a channel clipped."""
        return self._play(preset, [(0.0, pitch, velocity), (self.what.hold, pitch, 0)])

    def phrase(self, preset: Preset, hits: Sequence[Hit]) -> tuple[NDArray[np.float32], bool]:
        """Keys struck one after the other and held to the end, as `note` gives them."""
        return self._play(preset, [(h.seconds, h.key, h.velocity) for h in hits])

    def _play(self, preset: Preset, events: Sequence[tuple[float, int, int]]) -> tuple[NDArray[np.float32], bool]:
        """Events are (seconds, key, velocity), ascending; velocity 0 lets the key go."""
        what, synth = self.what, self.synth
        channel = 9 if preset.bank == DRUM_BANK else 0
        synth.system_reset()
        synth.program_select(channel, self.font, preset.bank, preset.program)
        total, done, parts = round(what.duration * what.sample_rate), 0, []
        for seconds, key, velocity in events:
            at = min(round(seconds * what.sample_rate), total)
            if at > done:
                parts.append(synth.get_samples(at - done))
                done = at
            if velocity:
                synth.noteon(channel, key, velocity)
            else:
                synth.noteoff(channel, key)
        if done < total:
            parts.append(synth.get_samples(total - done))
        stereo = np.concatenate(parts).reshape(-1, 2)
        clips = bool(stereo.max() == 32767 or stereo.min() == -32768)
        audio: NDArray[np.float32] = stereo.mean(axis=1, dtype=np.float32) / np.float32(32768.0)
        n = min(math.ceil(what.fade * what.sample_rate), total)
        if n:
            audio[-n:] *= np.linspace(1.0, 0.0, n, dtype=np.float32)
        return audio, clips


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise UserError(f"rendering a SoundFont needs FluidSynth ({e}); {_MEND}") from None
