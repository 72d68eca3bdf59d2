"""Waveform -> log-mel spectrogram. The only mel code: every other part gets its mels from here."""

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor, nn

from audio_vaegan.config import MelConfig


def mel_basis(config: MelConfig) -> Tensor:
    """The filterbank `[n_fft / 2 + 1, n_mels]` of a MelConfig (torchaudio; equal to librosa's)."""
    return AF.melscale_fbanks(
        config.n_fft // 2 + 1,
        config.f_min,
        config.f_max,
        config.n_mels,
        config.sample_rate,
        norm=config.norm,
        mel_scale=config.mel_scale,
    )


class HarmonicComb(nn.Module):
    """Where the harmonics of a pitch lie on the mel axis: the log-mel of equally strong harmonics through the window.

    Every FFT bin takes the Hann window's response at its distance to the nearest harmonic, then the filterbank, each
    band relative to its own response to a flat spectrum. Shape: fundamental in Hz `[B]` -> `[B, n_mels]`, in about
    [-1, 1]: 1 where a band sits on a harmonic, -1 where it lies in a gap.
    """

    bins: Tensor
    basis: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.width = config.sample_rate / config.win_length  # Hz a bin of the window's own transform
        bins = torch.arange(config.n_fft // 2 + 1) * (config.sample_rate / config.n_fft)
        basis = mel_basis(config)
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("basis", basis / basis.sum(dim=0).clamp_min(1e-12), persistent=False)

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def forward(self, hz: Tensor) -> Tensor:
        hz = hz.unsqueeze(-1)
        nearest = (self.bins / hz).round().clamp_min(1) * hz
        x = ((self.bins - nearest) / self.width).abs()
        near = x.clamp_max(1.999)
        lobe = torch.sinc(near) / (1 - near.square()).where((near - 1).abs() > 1e-3, torch.full_like(near, 1e-3))
        lobe = lobe.where((near - 1).abs() > 1e-3, torch.full_like(near, 0.5)).abs() * (x < 2)
        return 1 + (lobe @ self.basis + 1e-2).log10()


class Mel(nn.Module):
    """Log-mel spectrogram of a MelConfig, always in float32.

    Shape: `[B, samples]` -> `[B, n_mels, frames]` with frames = samples / hop (`same`) or samples / hop + 1
    (`center`). With `same` padding, frame t is centred on sample t * hop + hop / 2; with `center`, on t * hop.
    """

    window: Tensor
    basis: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.win_length), persistent=False)
        self.register_buffer("basis", mel_basis(config), persistent=False)

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def forward(self, audio: Tensor) -> Tensor:
        return self.compress(self.magnitude(audio.float()).transpose(1, 2) @ self.basis).transpose(1, 2)

    def magnitude(self, audio: Tensor) -> Tensor:
        """Linear-frequency magnitude (power 1) or power (2) spectrogram `[B, n_fft / 2 + 1, frames]`."""
        c, spectrum = self.config, self.spectrum(audio)
        if spectrum.requires_grad and c.power == 1 and not c.magnitude_eps:
            return spectrum.abs()  # which has a gradient at 0
        real, imaginary = torch.view_as_real(spectrum).unbind(-1)
        power = real.square().addcmul_(imaginary, imaginary) + c.magnitude_eps  # a third of the time that abs takes
        return power.sqrt() if c.power == 1 else power

    def spectrum(self, audio: Tensor) -> Tensor:
        """The complex STFT `[B, n_fft / 2 + 1, frames]` behind the mel."""
        c = self.config
        side = c.n_fft // 2 if c.padding == "center" else (c.n_fft - c.hop_length) // 2
        padded = F.pad(audio.unsqueeze(1), (side, side), mode=c.pad_mode).squeeze(1)
        return torch.stft(padded, c.n_fft, c.hop_length, c.win_length, self.window, center=False, return_complex=True)

    def compress(self, mel: Tensor) -> Tensor:
        """Linear mel -> log-mel."""
        mel = mel.clamp_min(self.config.floor)
        return mel.log() if self.config.log == "ln" else mel.log10()

    def expand(self, log_mel: Tensor) -> Tensor:
        """Log-mel -> linear mel."""
        return log_mel.exp() if self.config.log == "ln" else torch.pow(10.0, log_mel)

    def linear_magnitude(self, log_mel: Tensor, iterations: int = 40) -> Tensor:
        """A non-negative linear-frequency magnitude `[B, n_fft / 2 + 1, T]` whose mel is close to the given one.

        Least squares by multiplicative updates (Lee & Seung 2001, eq. 4) from the pseudo-inverse's start.
        """
        target = self.expand(log_mel.float()).transpose(1, 2)  # [B, T, n_mels]
        basis = self.basis
        value = (target @ torch.linalg.pinv(basis)).clamp_min(1e-3 * target.mean(dim=-1, keepdim=True) + 1e-12)
        numerator, gram = target @ basis.T, basis @ basis.T
        for _ in range(iterations):
            value = value * numerator / (value @ gram).clamp_min(1e-12)
        value = value.transpose(1, 2)
        return value if self.config.power == 1 else value.sqrt()
