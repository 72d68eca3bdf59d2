"""Griffin-Lim: the vocoder that needs no training, the baseline and the fallback."""

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor, nn

from audio_vaegan.config import MelConfig
from audio_vaegan.mel import Mel


class GriffinLim(nn.Module):
    """Fast Griffin-Lim (Griffin & Lim 1984, Perraudin et al. 2013) on a magnitude whose mel fits.

    Starts from zero phase, not from noise, so that the result depends on the mel alone.
    """

    name = "griffin-lim"

    def __init__(self, config: MelConfig, iterations: int = 64) -> None:
        super().__init__()
        self.config, self.iterations = config, iterations
        self.hash = ""
        self.mel = Mel(config)

    @torch.no_grad()
    def forward(self, log_mel: Tensor, samples: int) -> Tensor:
        c = self.config
        magnitude = self.mel.linear_magnitude(log_mel)
        shift = 0
        if c.padding == "same":
            # Frame t is centred on t * hop + hop / 2; torch's inverse wants frames centred on t * hop. With one more
            # frame on either side, the signal that they describe starts hop / 2 samples before the clip's first.
            magnitude = F.pad(magnitude, (1, 1), mode="replicate")
            shift = c.hop_length // 2
        audio = AF.griffinlim(
            magnitude,
            self.mel.window,
            c.n_fft,
            c.hop_length,
            c.win_length,
            power=1.0,
            n_iter=self.iterations,
            momentum=0.99,
            length=samples + 2 * shift,
            rand_init=False,
        )
        return audio[:, shift : shift + samples]
