"""How far a sound is from the one that it should be: one value a clip, 0 for the same sound."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from audio_vaegan.config import MelConfig
from audio_vaegan.descriptors import onset_time
from audio_vaegan.descriptors.judge_controls import judge_control
from audio_vaegan.losses import stft_distance

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # n_fft, hop, window: Yamamoto et al. 2020, table 1
GATE = -70.0  # LUFS: below, BS.1770-4 measures nothing
RANGE_DB = 80.0  # below a real clip's loudest band: what lies lower is not heard beside it
Values = dict[str, NDArray[np.float64]]
UNITS = {"stft": "", "lsd": "dB", "mel_l1": "dB", "onset": "ms", "loudness": "LU"}
TITLES = {
    "stft": "multi-resolution STFT distance",
    "lsd": "log-spectral distance",
    "mel_l1": "mel L1",
    "onset": "onset error",
    "loudness": "loudness error",
}


def log_spectral_distance(
    output: Tensor, target: Tensor, n_fft: int = 1024, hop: int = 256, floor: float = 1e-5
) -> Tensor:
    """Log-spectral distance in dB: of each frame the root mean square over bins of the difference of the two spectra in
    dB, a mean over frames (Gray & Markel 1976, Distance measures for speech processing, the rms log spectral measure).

    Magnitudes are relative to the sum of the Hann window, so that a sinusoid of amplitude 1 has 1/2; what lies below
    `floor` (94 dB below such a sinusoid) counts as the floor. Shape: `[B, samples]` twice -> `[B]`.
    """
    window = torch.hann_window(n_fft, device=output.device) * (2 / n_fft)
    a, b = (
        20 * torch.stft(x.float(), n_fft, hop, n_fft, window, return_complex=True).abs().clamp_min(floor).log10()
        for x in (output, target)
    )
    return (a - b).square().mean(dim=1).sqrt().mean(dim=1)


def distances(output: Tensor, target: Tensor) -> Values:
    """`stft` (losses.stft_distance) and `lsd` in dB of each clip, padding included: `[B, samples]` twice -> `[B]` each.
    Clips shorter than the longest window are filled with silence."""
    least = max(n_fft for n_fft, _, _ in RESOLUTIONS)
    output, target = (F.pad(x, (0, max(0, least - x.shape[1]))) for x in (output, target))
    stft = [float(stft_distance(a[None], b[None], RESOLUTIONS)) for a, b in zip(output, target, strict=True)]
    return {"stft": np.array(stft), "lsd": log_spectral_distance(output, target).double().numpy()}


def mel_l1(output: Tensor, target: Tensor, config: MelConfig) -> Tensor:
    """Mean absolute difference of two log-mels in dB, of which nothing counts that lies 80 dB or more below the
    target's loudest band. Shape: `[B, n_mels, T]` twice -> `[B]`."""
    decibel = 20 / config.power / (np.log(10) if config.log == "ln" else 1)
    a, b = (decibel * x for x in (output, target))
    floor = b.amax(dim=(1, 2), keepdim=True) - RANGE_DB
    return (a.maximum(floor) - b.maximum(floor)).abs().mean(dim=(1, 2))


def onset_error(output: Tensor, target: Tensor, sample_rate: int) -> NDArray[np.float64]:
    """By how many ms an output begins earlier or later than it should (`descriptors.onset_time`); a silent one begins
    at the end of the clip. NaN where the target is silent. Shape: `[B, samples]` twice -> `[B]`."""
    times = [onset_time(x, sample_rate).double().numpy() for x in (output, target)]
    return 1000 * np.abs(np.nan_to_num(times[0], nan=output.shape[1] / sample_rate) - times[1])


def loudness_error(output: Tensor, target: Tensor, sample_rate: int) -> NDArray[np.float64]:
    """By how many LU an output is louder or softer than it should be, by ITU-R BS.1770-4, from the meter that neither
    labels nor corrects (`descriptors.judge_control`); a silent one stands at the gate, -70 LUFS. NaN where the target
    is silent. Shape: `[B, samples]` twice -> `[B]`."""
    found = np.array([[judge_control("loudness", x, sample_rate) for x in y.numpy()] for y in (output, target)])
    return np.abs(np.nan_to_num(found[0], nan=GATE) - found[1])


def pair_distances(output: Tensor, target: Tensor, mels: tuple[Tensor, Tensor], config: MelConfig) -> Values:
    """Every distance of this module, `[B]` each, of audio `[B, samples]` and its log-mels `[B, n_mels, T]`."""
    rate = config.sample_rate
    return {
        **distances(output, target),
        "mel_l1": mel_l1(*mels, config).double().numpy(),
        "onset": onset_error(output, target, rate),
        "loudness": loudness_error(output, target, rate),
    }
