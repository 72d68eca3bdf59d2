"""Learn a steerable sound generator from a folder of sounds."""

from typing import TYPE_CHECKING, Any

from audio_vaegan.version import __version__

if TYPE_CHECKING:
    from audio_vaegan.sound_model import SoundModel

__all__ = ["SoundModel", "__version__"]


def __getattr__(name: str) -> Any:  # `import audio_vaegan` stays instant: torch loads with the first use
    if name == "SoundModel":
        from audio_vaegan.sound_model import SoundModel

        return SoundModel
    raise AttributeError(f"module 'audio_vaegan' has no attribute {name!r}")
