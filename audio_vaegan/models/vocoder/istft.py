"""The inverse of the STFT of a MelConfig, for both of its paddings."""

import torch
import torch.nn.functional as F
from torch import Tensor

from audio_vaegan import compiled
from audio_vaegan.config import MelConfig


def inverse_stft(spectrum: Tensor, window: Tensor, config: MelConfig, samples: int) -> Tensor:
    """Overlap-add with the window again, divided by the sum of the squared windows (Griffin & Lim 1984, eq. 6).

    torch.istft refuses frames that are not centred (`same` padding). Shape: complex `[B, T, n_fft / 2 + 1]`, window
    `[n_fft]` -> `[B, samples]`; what lies beyond the last frame is zero, and where hardly a window reaches, softer.
    """
    frames = torch.fft.irfft(spectrum, config.n_fft, dim=-1)
    side = config.n_fft // 2 if config.padding == "center" else (config.n_fft - config.hop_length) // 2
    if compiled.fits(frames) and not torch.is_grad_enabled():
        return compiled.overlap_add(frames, window, config.hop_length, side, samples)
    audio = _overlap_add(frames * window, config.hop_length)
    envelope = _overlap_add(window.square().expand(1, frames.shape[1], -1), config.hop_length)
    envelope = envelope.clamp_min(1e-3 * float(window.square().max()))
    audio = audio[:, side : side + samples] / envelope[:, side : side + samples]
    return F.pad(audio, (0, samples - audio.shape[1]))


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """`[B, T, n]` -> `[B, (T - 1) hop + n]`."""
    batch, count, size = frames.shape
    length = (count - 1) * hop + size
    if size % hop == 0:  # a sum of shifted blocks of a hop, several times as fast as fold
        blocks = frames.view(batch, count, size // hop, hop)
        turns = size // hop
        audio = frames.new_zeros(batch, count + turns - 1, hop)
        for i in range(turns):
            audio[:, i : i + count] += blocks[:, :, i]
        return audio.flatten(1)
    return F.fold(frames.transpose(1, 2), (1, length), (1, size), stride=(1, hop)).flatten(1)


def full_window(window: Tensor, n_fft: int) -> Tensor:
    """A window in the middle of n_fft samples, as torch.stft places it."""
    left = (n_fft - len(window)) // 2
    return F.pad(window, (left, n_fft - len(window) - left))
