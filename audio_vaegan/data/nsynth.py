"""The NSynth layout (Engel et al. 2017): `examples.json` beside a folder `audio/`, 13 keys a note."""

FAMILIES = (
    "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal",
)  # fmt: skip
SOURCES = ("acoustic", "electronic", "synthetic")
QUALITIES = (
    "bright", "dark", "distortion", "fast_decay", "long_release",
    "multiphonic", "nonlinear_env", "percussive", "reverb", "tempo-synced",
)  # fmt: skip
DRUM_BANK = 128  # of a General MIDI SoundFont
KEYS = (
    "note", "note_str", "instrument", "instrument_str", "pitch", "velocity", "sample_rate",
    "qualities", "qualities_str", "instrument_family", "instrument_family_str",
    "instrument_source", "instrument_source_str",
)  # fmt: skip

# General MIDI programs by family; what is not listed falls to the family of its group of eight.
_GROUPS = (
    "keyboard", "mallet", "organ", "guitar", "bass", "string", "string", "brass",
    "reed", "flute", "synth_lead", "synth_lead", "synth_lead", "guitar", "mallet", "synth_lead",
)  # fmt: skip
_EXCEPTIONS = {
    47: "mallet", 52: "vocal", 53: "vocal", 54: "vocal", 108: "mallet", 109: "reed", 110: "string", 111: "reed",
}  # fmt: skip
_ELECTRONIC = {4, 5, 16, 17, 18, 26, 27, 28, 29, 30, 31, 33, 34, 35, 36, 37}
_SYNTHETIC = {38, 39, 50, 51, 54, 62, 63, 118, *range(80, 104)}

# What strikes, by the key of a drum kit (General MIDI level 1, 35 to 81; Roland GS beyond) and by melodic program.
_DRUM_KEYS = {
    "kick": (35, 36),
    "snare": (37, 38, 39, 40),
    "hihat": (42, 44, 46),
    "tom": (41, 43, 45, 47, 48, 50),
    "cymbal": (49, 51, 52, 53, 55, 57, 59),
    "hand drum": (*range(60, 67), 78, 79, 86, 87),
    "shaker": (54, 69, 70, 73, 74, 82, 83),
    "wood": (31, 32, 33, 58, 75, 76, 77, 85),
    "metal": (34, 56, 67, 68, 80, 81, 84),
    "effect": (27, 28, 29, 30, 71, 72),
}
_DRUM_PROGRAMS = {"tom": (47, 116, 117, 118), "metal": (112, 113), "wood": (115,), "effect": tuple(range(119, 128))}
ORCHESTRA = 48  # a kit with other instruments on these keys


def drum_of(program: int, key: int, drums: bool = False) -> str | None:
    """What is struck: kick, snare ... by the key of a drum kit, or by a melodic program without a pitch; else None."""
    table, number = (_DRUM_KEYS, key) if drums else (_DRUM_PROGRAMS, program)
    if drums and program == ORCHESTRA:
        return None
    return next((name for name, numbers in table.items() if number in numbers), None)


def family_of(program: int, drums: bool = False) -> str:
    """NSynth family of a General MIDI program (0-127); drum kits, which NSynth lacks, count as mallet."""
    return "mallet" if drums else _EXCEPTIONS.get(program, _GROUPS[program // 8])


def source_of(program: int, drums: bool = False) -> str:
    """NSynth source (acoustic, electronic, synthetic) of a General MIDI program."""
    if drums:
        return "acoustic"
    return "electronic" if program in _ELECTRONIC else "synthetic" if program in _SYNTHETIC else "acoustic"


def note_entry(
    note: int, instrument: int, family: str, source: str, pitch: int, velocity: int, rate: int, name: str = ""
) -> dict:
    """One value of `examples.json`, with the 13 keys of the format. `name` goes before the instrument's."""
    instrument_str = f"{name}_{family}_{source}_{instrument:03d}".removeprefix("_")
    return {
        "note": note,
        "note_str": f"{instrument_str}-{pitch:03d}-{velocity:03d}",
        "instrument": instrument,
        "instrument_str": instrument_str,
        "pitch": pitch,
        "velocity": velocity,
        "sample_rate": rate,
        "qualities": [0] * len(QUALITIES),
        "qualities_str": [],
        "instrument_family": FAMILIES.index(family),
        "instrument_family_str": family,
        "instrument_source": SOURCES.index(source),
        "instrument_source_str": source,
    }
