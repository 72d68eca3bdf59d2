"""The Python face: a trained model that samples, encodes, decodes, edits and mixes sounds."""

from audio_vaegan.sound_model.editing import BATCH
from audio_vaegan.sound_model.model import SoundModel
from audio_vaegan.sound_model.sounds import Clip, Edited, Sound

__all__ = ["BATCH", "Clip", "Edited", "Sound", "SoundModel"]
