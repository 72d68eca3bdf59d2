"""Clips changed as they are read for training, with their labels: what is played faster is labelled higher."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.ndimage import uniform_filter1d

from audio_vaegan.audio import respeed
from audio_vaegan.config import AugmentConfig

Floats = NDArray[np.float32]
DRAWS = 7  # random numbers a clip


def augment(
    audio: Floats,
    controls: Floats,
    length: NDArray[np.int64],
    names: Sequence[str],
    draws: Floats,
    how: AugmentConfig,
    sample_rate: int,
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Change clips `[B, samples]`, their controls `[B, C]`, whose columns have `names`, and their true lengths `[B]`.

    `draws` `[B, DRAWS]` are even in [0, 1): where in its range each clip's speed, shift, gain, tilt, fade, damping and
    hiss lie. What is moved beyond the end of the clip is cut off; a pitch is not moved above nine tenths of the Nyquist
    limit. Where the recipe reshapes sounds, their controls but for the pitch have to be measured anew.
    """
    samples = audio.shape[1]
    move = (2 * draws[:, 0] - 1) * how.semitones
    if "pitch" in names:
        room = 69 + 12 * np.log2(0.45 * sample_rate / 440) - controls[:, names.index("pitch")]
        move = np.fmin(move, np.maximum(room, 0))  # NaN: no pitch, no limit
    ratio = np.exp2(move / 12)
    shift = np.floor(draws[:, 1] * how.shift * samples).astype(np.int64)
    gain = (2 * draws[:, 2] - 1) * how.gain_db
    out, lengths = np.zeros_like(audio), np.empty_like(length)

    def change(i: int) -> None:
        clip = audio[i, : length[i]]
        if how.semitones:
            clip = respeed(clip, float(ratio[i]), "MQ")
        if how.reshapes:
            clip = _reshaped(clip, draws[i, 3:], how, sample_rate)
        clip = clip[: max(0, samples - shift[i])]
        lengths[i] = shift[i] + len(clip)
        out[i, shift[i] : lengths[i]] = clip * np.float32(10 ** (gain[i] / 20))

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # what takes time in it lets other threads run
        list(pool.map(change, range(len(audio))))
    controls = controls.copy()
    for i, name in enumerate(names):
        match name:
            case "pitch" | "brightness":
                controls[:, i] += move
            case "loudness":
                controls[:, i] += gain
            case "attack":  # log10 s
                controls[:, i] -= np.log10(ratio)
            case "decay" | "onset_rate":  # a second
                controls[:, i] *= ratio
    return out, controls, lengths


def _reshaped(clip: Floats, draws: Floats, how: AugmentConfig, sample_rate: int) -> Floats:
    """A clip `[samples]` made darker or brighter, faded in, damped, and noisier, by four draws: half of them do so."""
    tilt, fade, damp, hiss = (max(0.0, 2 * float(d) - 1) for d in draws)
    size = len(clip)
    if not size:
        return clip
    time: Floats = np.arange(size, dtype=np.float32) / np.float32(sample_rate)
    if how.hiss and hiss:
        noise = np.random.default_rng(int(float(draws[3]) * 2**40)).standard_normal(size, dtype=np.float32)
        block = max(1, round(0.02 * sample_rate))
        level = np.sqrt(uniform_filter1d(clip**2, block, mode="constant").clip(0))
        clip = clip + noise * level * np.float32(10 ** ((how.hiss * hiss - 60) / 20))
    if how.tilt and tilt:
        quick = next_fast_len(size, real=True)
        octaves = np.log2(rfftfreq(quick, 1 / sample_rate).clip(40) / 1000)
        gain = np.minimum(how.tilt * (2 * tilt - 1) * octaves, 24).astype(np.float32)
        clip = irfft(rfft(clip, quick) * np.float32(10) ** (gain / 20), quick)[:size]
    if how.damp and damp:
        clip = clip * np.exp(time * np.float32(-how.damp * damp * np.log(10) / 20))
    if how.fade and fade:
        clip = clip * np.minimum(time / np.float32(how.fade * fade), 1) ** 2
    return clip
