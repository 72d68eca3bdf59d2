"""What every vocoder is, and the contract between it and what feeds it: their mels are equal."""

from typing import Protocol, Self

import torch
from torch import Tensor

from audio_vaegan.config import MelConfig
from audio_vaegan.errors import UserError


class Vocoder(Protocol):
    """Log-mel `[B, n_mels, T]` -> audio `[B, samples]`, for one MelConfig. Same mel, same samples.

    `hash` names the weights; it is empty where there are none.
    """

    name: str
    hash: str

    @property
    def config(self) -> MelConfig: ...
    def to(self, device: str | torch.device) -> Self: ...
    def __call__(self, log_mel: Tensor, samples: int) -> Tensor: ...


def check_contract(vocoder: MelConfig, mel: MelConfig, name: str, what: str = "the model") -> None:
    """Raise UserError that names each field, with both values, in which a vocoder's mel differs from `what`'s."""
    differences = vocoder.differences(mel)
    if differences:
        raise UserError(
            f"vocoder {name} and {what} differ in mel ({'; '.join(differences)}); take a vocoder for this mel, or "
            "griffin-lim, which fits every mel"
        )
