"""Names of notes."""

import librosa


def note_number(name: str) -> float | None:
    """MIDI number of a note's name (A4, C#3, Bb-1; C4 is 60), None where it is none."""
    try:
        if len(name) > 8 or not any(c.isdigit() for c in name):
            return None
        return float(librosa.note_to_midi(name.strip(), round_midi=False))
    except (librosa.util.exceptions.ParameterError, ValueError, OverflowError):
        return None
