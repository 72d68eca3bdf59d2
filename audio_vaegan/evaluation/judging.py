"""What the judge's processes need, loaded before they are forked off (`audio_vaegan.data.pool.processes`)."""

from audio_vaegan.descriptors import load_librosa
from audio_vaegan.evaluation import pitch

__all__ = ["pitch"]

load_librosa()
