"""The verb `vocode`: any sound file through mel and vocoder and back, to hear the ceiling of a model."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from audio_vaegan.audio import MAX_SECONDS, BadAudio, Stream, write
from audio_vaegan.config import MEL_PRESETS
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.files import check_out_sound
from audio_vaegan.mel import Mel
from audio_vaegan.models.bundle import bundle_folder, load_bundle
from audio_vaegan.models.vocoder import AUTO, Vocoder, named_vocoder, open_vocoder

Audio = NDArray[np.float32]
Distances = Callable[[Tensor, Tensor], dict[str, NDArray[np.float64]]]

PRESET = "notes-16k-128"
STRETCH = 30.0  # seconds that go through the vocoder at a time
OVERLAP = 1.0  # seconds that two stretches share, or four windows where those are longer
FADE = 0.05  # seconds of the cross-fade in the middle of what they share
SLIDE = 0.01  # seconds by which a stretch may be moved so that its waves meet those before it


def vocode_file(
    sound: Path,
    out: Path,
    distances: Distances,
    vocoder_name: str = "auto",
    model: Path | None = None,
    preset: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write the copy of a sound file, of as many samples as were read at the mel's rate. Returns what was done.

    The mel is that of `model`, else of the preset, else of a vocoder that is named. `distances` measures copies against
    originals, `[B, samples]` each.
    """
    if model is not None and preset is not None:
        raise UserError("--model and --mel: the model has a mel of its own; give one of the two")
    check_out_sound(out, sound, overwrite)
    vocoder = _open(vocoder_name, model, preset)
    mel = vocoder.config
    try:
        stream = Stream(sound, mel.sample_rate)
        if stream.promised > MAX_SECONDS:
            raise BadAudio(f"longer than {MAX_SECONDS:g} s")
        audio, spent, found = _copy(stream, vocoder, distances)
    except BadAudio as e:
        raise UserError(f"{sound}: {e}") from None
    hash = f" {vocoder.hash[:12]}" if vocoder.hash else ""
    write(out, audio, mel.sample_rate, f"copy by the vocoder {vocoder.name}{hash}")
    seconds = len(audio) / mel.sample_rate
    cut = [f"note: decoding ended before the file did, after {stream.seconds:.2f} s"] if stream.truncated else []
    return "\n".join(
        [
            *cut,
            f"vocoder {vocoder.name}{hash}: {seconds:.2f} s at {mel.sample_rate} Hz, {seconds / spent:.1f} times real "
            f"time; distance to the input: stft {found['stft']:.3f}, lsd {found['lsd']:.2f} dB",
            f"written: {out} (AI-generated)",
        ]
    )


def _open(name: str, model: Path | None, preset: str | None) -> Vocoder:
    if model is not None:
        return open_vocoder(name, load_bundle(model).recipe.mel, bundle_folder(model))
    if preset is None and name not in (AUTO, "griffin-lim"):
        return named_vocoder(name)
    preset = preset or PRESET
    if preset not in MEL_PRESETS:
        raise UserError(f"--mel {preset}: no such preset.{did_you_mean(preset, MEL_PRESETS)}")
    return open_vocoder(name, MEL_PRESETS[preset], what=f"--mel {preset}")


def _copy(stream: Stream, vocoder: Vocoder, distances: Distances) -> tuple[Audio, float, dict[str, float]]:
    """The whole copy `[samples]`, the seconds that it took, and its mean distances to the original."""
    parts: list[Audio] = []
    sums: dict[str, float] = {}
    rate = vocoder.config.sample_rate
    spent, began = 0.0, time.perf_counter()
    with tqdm(total=stream.promised or None, desc="vocode", unit="s", delay=1) as bar:
        for real, copy in copies(_sound(stream), vocoder):
            spent += time.perf_counter() - began
            parts.append(copy)
            for name, value in distances(torch.from_numpy(copy)[None], torch.from_numpy(real)[None]).items():
                sums[name] = sums.get(name, 0.0) + float(value[0]) * len(real)
            bar.update(len(real) / rate)
            began = time.perf_counter()
    audio = np.concatenate(parts)
    return audio, spent, {name: total / len(audio) for name, total in sums.items()}


def _sound(stream: Stream) -> Iterator[Audio]:
    samples = 0
    for block in stream:
        if stream.bad:
            raise BadAudio(f"holds NaN or infinite samples (the first at {stream.bad[0] / 1000:.3f} s)")
        if stream.seconds > MAX_SECONDS:
            raise BadAudio(f"longer than {MAX_SECONDS:g} s")
        samples += len(block)
        yield block
    if not samples:
        raise BadAudio(f"shorter than one sample at {stream.sample_rate} Hz")


def copies(blocks: Iterable[Audio], vocoder: Vocoder, stretch: float = STRETCH) -> Iterator[tuple[Audio, Audio]]:
    """Copy-synthesis of a sound of any length that comes in blocks `[samples]`: pairs of a piece of it and its copy, of
    equal length, in order and without a gap. There is never more in memory than a stretch (in seconds) and a block.

    Stretches overlap. A vocoder starts each with phases of its own, so the later one is moved by up to `SLIDE` to where
    its wave fits the earlier one's best, and the two are cross-faded in the middle of what they share, where neither
    hears that it ends. The movements do not add up.
    """
    mel, c = Mel(vocoder.config), vocoder.config
    overlap = max(round(OVERLAP * c.sample_rate), 4 * c.n_fft)
    fade, slide = round(FADE * c.sample_rate), round(SLIDE * c.sample_rate)
    step = max(round(stretch * c.sample_rate) - overlap, overlap)
    seam = slice((overlap - fade) // 2, (overlap - fade) // 2 + fade)
    tail: Audio | None = None
    for real, last in _stretches(blocks, step, step + overlap):
        copy = _synthesise(real, mel, vocoder, len(real) + slide)
        if tail is None:
            copy = copy[: len(real)]
        else:
            late = _best_lag(tail[seam], copy[seam.start - slide : seam.stop + slide]) - slide
            copy = copy[seam.start + late : len(real) + late]
            copy = np.concatenate([tail[: seam.start], _fade(tail[seam], copy[:fade]), copy[fade:]])
        yield (real, copy) if last else (real[:step], copy[:step])
        tail = copy[step:]


def _stretches(blocks: Iterable[Audio], step: int, size: int) -> Iterator[tuple[Audio, bool]]:
    """Stretches of `size` samples, one beginning every `step` of them, and whether it is the last, which is shorter
    but reaches beyond what it shares with the one before."""
    held = np.zeros(0, dtype=np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > size:
            yield held[:size], False
            held = held[step:]
    yield held, True


def _synthesise(real: Audio, mel: Mel, vocoder: Vocoder, samples: int) -> Audio:
    """The copy of a stretch and of silence after it, `samples` of them in all."""
    c = mel.config
    whole = -(-max(samples, 2 * c.n_fft) // c.hop_length) * c.hop_length
    with torch.no_grad():
        padded = torch.nn.functional.pad(torch.from_numpy(real), (0, whole - len(real)))
        copy = vocoder(mel(padded[None]), whole)[0, :samples].clamp(-1, 1)
    return copy.numpy()


def _best_lag(before: Audio, after: Audio) -> int:
    """Where in `after` `[F + 2 D]` the wave `before` `[F]` fits best: the lag 0 ... 2 D of the largest normalised
    correlation; D where there is none."""
    size, middle = len(before), (len(after) - len(before)) // 2
    wave = after.astype(np.float64)
    energy = np.convolve(np.square(wave), np.ones(size), "valid")
    if energy.min() <= 1e-12 or not before.any():
        return middle
    return int(np.argmax(np.correlate(wave, before.astype(np.float64), "valid") / np.sqrt(energy)))


def _fade(before: Audio, after: Audio) -> Audio:
    """Cross-fade two waves `[F]` so that their power stays, however alike they are (Fink, Holters & Zoelzer 2016,
    signal-matched power-complementary cross-fading): linear for equal ones, equal in power for unlike ones."""
    rise = (np.arange(len(before)) + 0.5) / len(before)
    size = float(np.linalg.norm(before) * np.linalg.norm(after))
    alike = max(0.0, float(before @ after) / size) if size > 0 else 1.0
    scale = np.sqrt(np.square(rise) + np.square(1 - rise) + 2 * alike * rise * (1 - rise))
    faded: Audio = ((before * (1 - rise) + after * rise) / scale).astype(np.float32)
    return faded
