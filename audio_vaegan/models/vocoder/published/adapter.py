"""A published network behind the call of every vocoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audio_vaegan.config import MelConfig


class PublishedVocoder(nn.Module):
    """Log-mel `[B, n_mels, T]` -> audio `[B, samples]`, always in float32, for the mel the network was trained on.

    `hash` is the sha256 of the checkpoint's file.
    """

    def __init__(self, network: nn.Module, config: MelConfig, name: str, hash: str) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.config, self.name, self.hash = config, name, hash

    @torch.no_grad()
    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def forward(self, log_mel: Tensor, samples: int) -> Tensor:
        audio = self.network(log_mel.float())[:, :samples]
        return F.pad(audio, (0, samples - audio.shape[1]))
