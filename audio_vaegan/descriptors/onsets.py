"""Where sounds begin: peaks of the spectral flux."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d, pad

from audio_vaegan.descriptors.envelope import Envelope, envelope
from audio_vaegan.descriptors.spectrum import WINDOW_S, Spectrum, spectrum

RANGE_DB = 60.0  # below the clip's loudest band nothing counts
RISE_DB = 2.0  # how far a peak of the flux stands above its surroundings, mean over the bands
GAP = 4  # frames of 10 ms: no two onsets lie closer
AROUND = 10  # frames either side that are a peak's surroundings
RATE_OVER_S = 1.0  # the shortest time a rate is taken over


def flux(of: Spectrum) -> Tensor:
    """Half-wave rectified log-magnitude spectral flux in dB `[B, F]`: by how much half-Bark bands rise in 20 ms,
    mean over the bands up to 16 kHz.

    Compared with the loudest of a band and its neighbours, so that a vibrato is no row of onsets: Boeck & Widmer
    2013, "Maximum filter vibrato suppression for onset detection", eq. 3.
    """
    bands, share = _half_barks(of.hertz)
    level = (of.power @ bands).clamp_min(1e-20).log10_().mul_(10)
    top = level.masked_fill(~of.legal.unsqueeze(-1), -200).amax((1, 2), keepdim=True)
    level = level.maximum(top - RANGE_DB)
    before = max_pool1d(level, 3, stride=1, padding=1)
    rise = (level[:, 2:] - before[:, :-2]).clamp_min_(0).mean(-1) * share
    return pad(rise, (2, 0)).masked_fill(~of.legal, 0)


def find_onsets(of: Spectrum, level: Envelope) -> Tensor:
    """Which frames are onsets, `[B, F]` bool: their flux is the highest of the 40 ms before and after, stands well
    above its mean over 100 ms either side, and the level does not fall there (the click of a cut is no onset)."""
    rise = flux(of)
    highest = max_pool1d(pad(rise, (GAP, GAP)), 2 * GAP + 1, stride=1)
    earlier = max_pool1d(pad(rise, (GAP, 0))[:, :-1], GAP, stride=1)
    around = 2 * AROUND + 1
    mean = avg_pool1d(rise.unsqueeze(1), around, stride=1, padding=AROUND, count_include_pad=False)[:, 0]
    centre = ((of.seconds + WINDOW_S / 2) / level.step).round().long().clamp_min(0)
    before, after = _either_side(level, leave=0.01, take=0.03)
    holds = (after >= 0.35 * before)[:, centre.clamp_max(after.shape[1] - 1)]
    return (rise >= highest) & (rise > earlier) & (rise > mean + RISE_DB) & holds


def onset_rate(of: Spectrum, level: Envelope) -> Tensor:
    """Onsets per second of sounding length `[B]`: from the first to the last moment within 40 dB of the envelope's
    maximum. A length below a second counts as one, or every short sound would have a high rate."""
    loud = level.amplitude > 0.01 * level.amplitude.amax(1, keepdim=True)
    first, last = loud.int().argmax(1), loud.shape[1] - loud.flip(1).int().argmax(1)
    return find_onsets(of, level).sum(1) / ((last - first) * level.step).clamp_min(RATE_OVER_S)


def onsets(audio: Tensor, sample_rate: int) -> Tensor:
    """Times in seconds, ascending, at which sounds begin in `[samples]`, each just before its level rises.

    The flux finds them (`find_onsets`) to within a frame; the time is where, within 30 ms of the frame's middle, the
    level of the 8 ms after exceeds that of the 8 ms before the most. Where nothing rises by 3 dB (the pitch changed,
    not the level), it is the frame's middle.
    """
    audio = audio.detach().to("cpu", torch.float32).unsqueeze(0)
    length = torch.tensor([audio.shape[1]])
    if not (audio.numel() and audio.max() - audio.min() > 1e-5):  # silent, constant or NaN
        return torch.zeros(0)
    of, level = spectrum(audio, sample_rate, length), envelope(audio, sample_rate, length)
    middle = of.seconds[find_onsets(of, level)[0]] + WINDOW_S / 2
    before, after = _either_side(level, leave=0.0, take=0.008)
    floor = 10 ** (-RANGE_DB / 10) * level.power.amax()
    gain = 10 * torch.log10((after[0] + floor) / (before[0] + floor))
    reach = round(0.03 / level.step)
    near = (middle / level.step).round().long().unsqueeze(1) + torch.arange(-reach, reach + 1)
    near = near.clamp(0, len(gain) - 1)
    most = gain[near].amax(1, keepdim=True)
    start = near.masked_fill(gain[near] < most - 0.3, -1).amax(1)  # the last of equals: a click is shorter than 8 ms
    return torch.where(most.squeeze(1) > 3, (start - 1) * level.step, middle).clamp_min(0)


def _either_side(level: Envelope, leave: float, take: float) -> tuple[Tensor, Tensor]:
    """Mean power of the `take` seconds before and after every moment `[B, T]`, `leave` seconds away from it; before
    the clip is silence, after its end nothing."""
    skip, span = round(leave / level.step), max(1, round(take / level.step))
    power = pad(level.power, (skip + span, skip + span))
    share = pad(level.share, (skip + span, skip + span))
    total = avg_pool1d(power.unsqueeze(1), span, stride=1)[:, 0]
    held = avg_pool1d(share.unsqueeze(1), span, stride=1)[:, 0]
    count = level.power.shape[1]
    first = 2 * skip + span
    return total[:, :count], total[:, first : first + count] / held[:, first : first + count].clamp_min(1e-9)


def _half_barks(hertz: Tensor) -> tuple[Tensor, float]:
    """Triangles half a Bark apart (Traunmueller 1990) over the bins `[bins, bands]`, and the share of the bands up to
    16 kHz that the bins hold: what a band that is not there would contribute is nothing."""
    bark = 26.81 * hertz / (1960 + hertz) - 0.53
    centres = torch.arange(0.5, 23.5, 0.5, device=hertz.device)
    there = centres[centres < bark[-1]]
    return (1 - (bark.unsqueeze(1) - there).abs() * 2).clamp_min(0), len(there) / len(centres)
