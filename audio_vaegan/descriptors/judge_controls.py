"""The second meters of the controls other than pitch: the definitions and units of `measure`, none of its code.

`measure` labels the data, so that a model learns its errors, and corrects sounds; these, of librosa, scipy and numpy,
judge figures. A clip at a time, slower, and never used to label or to correct.
"""

from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.interpolate import interp1d
from scipy.signal import fftconvolve, resample_poly, sosfilt
from scipy.signal.windows import hann

Clip = NDArray[np.float64]

# Recommendation ITU-R BS.1770-4, annex 1, tables 1 and 2: the K weighting at 48 kHz.
SHELF = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585]
HIGH_PASS = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]


def judge_control(name: str, audio: NDArray[np.float32], sample_rate: int) -> float:
    """One control of one clip [samples] by a meter that shares no code with `measure`; NaN where undefined.

    Units: loudness LUFS; brightness semitones re 440 Hz; noisiness dB; attack log10 s; decay dB/s; onset_rate 1/s.
    A clip that is silent (below -100 dBFS, or constant) or not sound (NaN, values beyond a million) has none of them.
    KeyError for a name that is not in JUDGED.
    """
    meter = _METERS[name]
    clip = np.asarray(audio, dtype=np.float64)
    if not clip.size or not np.abs(clip).max() <= 1e6 or np.abs(clip - clip.mean()).max() < 1e-5:
        return float("nan")
    return float(meter(clip, sample_rate))


def _loudness(clip: Clip, rate: int) -> float:
    """BS.1770-4 in LUFS. At 48 kHz, for which the standard prints its filters; a clip below 400 ms is one block."""
    weighted = sosfilt([SHELF, HIGH_PASS], resample_poly(clip, 48000, rate))
    block = min(19200, len(weighted))
    power = np.lib.stride_tricks.sliding_window_view(np.square(weighted), block)[::4800].mean(1)
    power = power[power > 10 ** ((-70 + 0.691) / 10)]
    return -0.691 + 10 * np.log10(power[power > power.mean() / 10].mean()) if len(power) else np.nan


def _brightness(clip: Clip, rate: int) -> float:
    """Centroid of the magnitudes (Hann windows of 50 ms every 10 ms), mean over the frames within 40 dB of the loudest,
    as semitones re 440 Hz. An offset and what lies 60 dB below a frame's highest bin, rounding, do not count."""
    window = round(0.05 * rate)
    clip = np.pad(clip, (0, max(0, window - len(clip))))
    bins = librosa.stft(clip, n_fft=window, hop_length=round(0.01 * rate), center=False)
    bins[1], bins[0] = bins[1] + bins[0] / 2, 0  # what a Hann window makes of an offset
    magnitude = np.abs(bins)
    magnitude[magnitude < 1e-3 * magnitude.max(0)] = 0
    level = librosa.feature.rms(S=magnitude, frame_length=window)[0]
    centre = librosa.feature.spectral_centroid(S=magnitude, sr=rate, n_fft=window)[0]
    centre = centre[level > 0.01 * level.max()]
    return 12 * np.log2(centre.mean() / 440) if len(centre) else np.nan


def _noisiness(clip: Clip, rate: int) -> float:
    """Minus the harmonics-to-noise ratio of Boersma (1993, eq. 4) in dB, median over the frames of 64 ms within 40 dB
    of the loudest: r is the correlation of a frame with itself whole periods later (Praat's "cc": a decay does not
    read as noise, as it does in an autocorrelation). Limited to -30..20.

    Whole periods are the highest peak between 48 samples (a single short period is a coarse ruler, and the ripple of
    the band's edge beside lag 0 no period) and 1/32 s, less 0.01 an octave of length (after eq. 26: twice as many fit
    as well). Between samples r is interpolated: fourfold in the Fourier domain, then by a parabola.
    """
    window, longest, fine = round(0.064 * rate), rate // 32 + 2, 4
    clip = np.pad(clip, (0, max(0, window + longest - len(clip))))
    frames = np.lib.stride_tricks.sliding_window_view(clip, window + longest)[:: window // 2]
    frames = frames[:: 1 + len(frames) // 256]  # of a long clip not every one: a median
    frames = frames - frames[:, :window].mean(1, keepdims=True)
    level = np.square(frames[:, :window]).mean(1)
    frames = frames[level > 1e-4 * level.max()]
    if not len(frames):
        return np.nan

    size = next_fast_len(2 * window + longest, real=True)
    product = np.conj(rfft(frames[:, :window], size)) * rfft(frames, size)
    shared = fine * irfft(product, fine * size)[:, : fine * (longest - 1) + 1]
    lag = np.arange(shared.shape[1]) / fine
    total = np.cumsum(np.pad(np.square(frames), ((0, 0), (1, 0))), axis=1)
    energy = interp1d(np.arange(longest), total[:, window:-1] - total[:, :longest], assume_sorted=True)(lag)
    first = energy[:, :1]
    r = shared / np.sqrt(first * np.maximum(energy, 1e-4 * first))  # no ratio where the later stretch is silent

    peak = np.pad((r[:, 1:-1] >= r[:, :-2]) & (r[:, 1:-1] > r[:, 2:]), ((0, 0), (1, 1)))
    peak &= (lag >= 48) & (lag <= rate / 32)
    place = np.where(peak, r - 0.01 * np.log2(np.maximum(lag, 1)), -np.inf).argmax(1).clip(1)[:, None]
    a, b, c = (np.take_along_axis(r, place + k, 1)[:, 0] for k in (-1, 0, 1))
    top = b + np.minimum(np.square(a - c) / np.maximum(8 * (2 * b - a - c), 1e-12), 0.01)
    top = np.clip(top * peak.any(1), 1 / (1 + 10**2.0), 1 / (1 + 10**-3.0))
    return np.median(10 * np.log10((1 - top) / top))


def _envelope(clip: Clip, rate: int) -> Clip:
    """Amplitude at every sample: the root of the mean square in a Hann window of 20 ms, over the part of it that lies
    within the clip. (An analytic signal rings on after a sound that ends, only 30 dB below it: no envelope.)"""
    window = hann(round(0.02 * rate) // 2 * 2 + 1)
    smooth = fftconvolve(np.square(clip), window, "same") / fftconvolve(np.ones(len(clip)), window, "same")
    return np.sqrt(np.maximum(smooth, 1e-30))


def _attack(clip: Clip, rate: int) -> float:
    """log10 of the seconds from 10 % to 90 % of the envelope's maximum, at least 11 ms (the window's own rise)."""
    level = _envelope(clip, rate)
    end = int(np.argmax(level >= 0.9 * level.max()))
    below = np.flatnonzero(level[:end] < 0.1 * level.max())
    return np.log10(max((end - (below[-1] if len(below) else 0)) / rate, 0.011))


def _decay(clip: Clip, rate: int) -> float:
    """Minus the slope of a line through the envelope in dB, from 90 % of its maximum until it is 40 dB down (less the
    window's 20 ms: a cut is no decay) or the clip ends; in dB/s. NaN when the clip ends within 50 ms."""
    level = 20 * np.log10(_envelope(clip, rate))
    level = level[int(np.argmax(level >= level.max() + 20 * np.log10(0.9))) :] - level.max()
    down, window = np.flatnonzero(level < -40), round(0.02 * rate)
    if not len(down) and len(level) <= 0.05 * rate:
        return np.nan
    fit = np.flatnonzero(level[: max(down[0] - window, window) if len(down) else None] >= -40)
    return -np.polyfit(fit / rate, level[fit], 1)[0]


def _onset_rate(clip: Clip, rate: int) -> float:
    """librosa's onsets (peaks of the mel bands' flux in dB, 60 dB range, maximum-filtered: Boeck & Widmer 2013) per
    second between the first and the last moment within 40 dB of the envelope's maximum, taken as at least a second."""
    window, hop, top = round(0.05 * rate), round(0.01 * rate), min(rate / 2, 16000)
    lead = window // hop * hop  # silence before, or a sound that begins with the clip would not begin
    padded = np.pad(clip / np.abs(clip).max(), (lead, max(0, window - len(clip))))
    share = float(librosa.hz_to_mel(top, htk=True) / librosa.hz_to_mel(16000, htk=True))
    frame: dict[str, Any] = {"n_fft": window, "hop_length": hop, "center": False}  # none over the end: a cut clicks
    power = librosa.feature.melspectrogram(y=padded, sr=rate, n_mels=round(50 * share), fmax=top, htk=True, **frame)
    bands = librosa.power_to_db(power, ref=np.max, top_db=60)
    flux = librosa.onset.onset_strength(S=bands, sr=rate, lag=2, max_size=3, center=False)
    # A peak stands out by 1.6 dB, mean over 50 bands to 16 kHz, be they there or not (set by the bundled notes).
    near: dict[str, Any] = {"pre_max": 4, "post_max": 5, "pre_avg": 10, "post_avg": 11, "wait": 4}
    frames = librosa.onset.onset_detect(onset_envelope=flux, normalize=False, delta=1.6 / share, **near)
    level = _envelope(clip, rate)
    middle, away = frames * hop - lead + window // 2, round(0.025 * rate)
    before, after = (level[np.clip(at, 0, len(level) - 1)] for at in (middle - away, middle + away))
    holds = np.square(after) >= 0.35 * np.square(before * (middle >= away))  # where the level falls, a cut clicked
    loud = np.flatnonzero(level > 0.01 * level.max())
    return holds.sum() / max((loud[-1] + 1 - loud[0]) / rate, 1.0)


JUDGED: tuple[str, ...] = ("loudness", "brightness", "noisiness", "attack", "decay", "onset_rate")
_METERS = dict(zip(JUDGED, (_loudness, _brightness, _noisiness, _attack, _decay, _onset_rate), strict=True))
