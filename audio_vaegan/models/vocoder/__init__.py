"""Log-mel -> waveform: vocoders behind one call."""

from audio_vaegan.models.vocoder.contract import Vocoder, check_contract
from audio_vaegan.models.vocoder.griffin_lim import GriffinLim
from audio_vaegan.models.vocoder.opening import AUTO, named_vocoder, open_vocoder, packaged
from audio_vaegan.models.vocoder.saved import TrainedVocoder, load_vocoder, multiply_adds, save_vocoder

__all__ = [
    "AUTO",
    "GriffinLim",
    "TrainedVocoder",
    "Vocoder",
    "check_contract",
    "load_vocoder",
    "multiply_adds",
    "named_vocoder",
    "open_vocoder",
    "packaged",
    "save_vocoder",
]
