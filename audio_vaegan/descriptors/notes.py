"""Names of notes."""

import librosa


def note_number(name: str) -> float | None:
    """MIDI number of a note's name (A4, C#3, Bb-1; C4 is 60), None where it is none."""
    try:
        return float(librosa.note_to_midi(name.strip(), round_midi=False)) if any(c.isdigit() for c in name) else None
    except (librosa.util.exceptions.ParameterError, ValueError):
        return None
