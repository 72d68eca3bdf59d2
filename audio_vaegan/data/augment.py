"""Clips changed as they are read for training, with their labels: what is played faster is labelled higher."""

import numpy as np
from numpy.typing import NDArray

from audio_vaegan.audio import respeed
from audio_vaegan.config import AugmentConfig

Floats = NDArray[np.float32]


def augment(
    audio: Floats,
    controls: Floats,
    length: NDArray[np.int64],
    pitch: int | None,
    draws: Floats,
    how: AugmentConfig,
    sample_rate: int,
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Change clips `[B, samples]`, their controls `[B, C]`, of which column `pitch` is their pitch (MIDI), and their
    true lengths `[B]`.

    `draws` `[B, 3]` are even in [0, 1): where in its range each clip's speed, shift and gain lie. What is moved beyond
    the end of the clip is cut off; a pitch is not moved above nine tenths of the Nyquist limit.
    """
    samples = audio.shape[1]
    move = (2 * draws[:, 0] - 1) * how.semitones
    if pitch is not None:
        room = 69 + 12 * np.log2(0.45 * sample_rate / 440) - controls[:, pitch]
        move = np.fmin(move, np.maximum(room, 0))  # NaN: no pitch, no limit
    ratio = np.exp2(move / 12)
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
    if pitch is not None:
        controls[:, pitch] += move
    return out, controls, lengths
