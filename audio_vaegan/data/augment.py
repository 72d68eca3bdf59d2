"""Clips changed as they are read for training, with their labels: what is played faster is labelled higher."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from audio_vaegan.audio import respeed
from audio_vaegan.config import AugmentConfig

Floats = NDArray[np.float32]

# How a descriptor follows a clip that is played faster by a ratio and louder by some dB; others stay as they are.
FOLLOW: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "pitch": lambda value, ratio, gain: value + 12 * np.log2(ratio),
    "pitch_hz": lambda value, ratio, gain: value * ratio,
    "loudness": lambda value, ratio, gain: value + gain,
    "peak": lambda value, ratio, gain: value + gain,
    "centroid": lambda value, ratio, gain: value * ratio,
    "attack": lambda value, ratio, gain: value - np.log10(ratio),
    "decay": lambda value, ratio, gain: value * ratio,
    "effective_duration": lambda value, ratio, gain: value / ratio,
    "onset_rate": lambda value, ratio, gain: value * ratio,
}


def augment(
    audio: Floats,
    controls: Floats,
    length: NDArray[np.int64],
    names: Sequence[str],
    draws: Floats,
    how: AugmentConfig,
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Change clips `[B, samples]`, their controls `[B, C]` of some names and true lengths `[B]`.

    `draws` `[B, 3]` are even in [0, 1): where in its range each clip's speed, shift and gain lie. What is moved beyond
    the end of the clip is cut off.
    """
    samples = audio.shape[1]
    ratio = np.exp2((2 * draws[:, 0] - 1) * how.semitones / 12)
    shift = np.floor(draws[:, 1] * how.shift * samples).astype(np.int64)
    gain = (2 * draws[:, 2] - 1) * how.gain_db
    out, lengths = np.zeros_like(audio), np.empty_like(length)
    for i in range(len(audio)):
        clip = audio[i, : length[i]]
        if how.semitones:
            clip = respeed(clip, float(ratio[i]))
        clip = clip[: max(0, samples - shift[i])]
        lengths[i] = shift[i] + len(clip)
        out[i, shift[i] : lengths[i]] = clip * np.float32(10 ** (gain[i] / 20))
    controls = controls.copy()
    for k, name in enumerate(names):
        if name in FOLLOW:
            controls[:, k] = FOLLOW[name](controls[:, k], ratio.astype(np.float32), gain.astype(np.float32))
    return out, controls, lengths
