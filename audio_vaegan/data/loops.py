"""Drum loops of known onset rate from a SoundFont's kits: `audio-vaegan render-soundfont --loops N`."""

import csv
from pathlib import Path

import numpy as np
from numpy.random import Generator
from tqdm import tqdm

from audio_vaegan.audio import write_recording
from audio_vaegan.data.nsynth import DRUM_BANK
from audio_vaegan.data.soundfont import Hit, Rendering, Synth, find_preset, read_presets
from audio_vaegan.errors import UserError
from audio_vaegan.files import new_folder

KICK, SNARE, CLOSED_HAT = 36, 38, 42  # General MIDI percussion keys
TEMPO = 70.0, 150.0  # beats a minute
STEPS_A_BEAT = 4
DENSITY = 0.1, 1.0  # share of the steps that sound


def render_loops(path: Path, out: Path, count: int, what: Rendering, seed: int = 0, overwrite: bool = False) -> int:
    """Render `count` drum loops of each of `what.drum_kits` into the folder `out`, with labels.csv. Returns how many.

    A loop is sixteenths at a drawn tempo, of which a drawn share sounds: kick, snare or hi-hat, now and then two at
    once. Labels: `kit`, `tempo` in beats a minute, `hits` (moments at which anything is struck).
    """
    presets = read_presets(path)
    kits = [find_preset(presets, DRUM_BANK, kit) for kit in dict.fromkeys(what.drum_kits)]
    if not kits or count < 1:
        raise UserError("--loops: how many of each of the --drum-kits? Name one kit and one loop at least")
    if seed < 0:
        raise UserError(f"--seed must be 0 or more, got {seed}")
    with (
        new_folder(out, "loops", overwrite) as folder,
        (folder / "labels.csv").open("w", newline="") as table,
        tqdm(total=count * len(kits), desc="render", unit="loop", delay=1) as bar,
    ):
        rows = csv.writer(table)
        rows.writerow(("file_name", "kit", "tempo", "hits"))
        synth = Synth(path, what)
        for kit in kits:
            for k in range(count):
                tempo, hits = draw_loop(np.random.default_rng([seed, kit.program, k]), what.duration)
                audio, clips = synth.phrase(kit, hits)
                name = f"kit{kit.program:03d}-{k:04d}.{what.format}"
                if clips:
                    raise UserError(f"{name} clips at --gain {what.gain:g}; use a smaller one")
                write_recording(folder / name, audio, what.sample_rate)
                rows.writerow((name, kit.name, f"{tempo:.1f}", len({h.seconds for h in hits})))
                bar.update()
    return count * len(kits)


def draw_loop(random: Generator, duration: float) -> tuple[float, list[Hit]]:
    """A tempo in beats a minute, and the hits of a loop of so many seconds, the first at 0."""
    tempo, density = random.uniform(*TEMPO), random.uniform(*DENSITY)
    step = 60 / tempo / STEPS_A_BEAT
    hits = []
    for i in range(max(1, int((duration - 0.1) / step))):
        if i and random.random() > density:
            continue
        drum = KICK if not i else random.choice([KICK, SNARE, CLOSED_HAT], p=[0.3, 0.25, 0.45])
        velocity = int(random.integers(80, 120))
        hits.append(Hit(i * step, int(drum), velocity))
        if drum != CLOSED_HAT and random.random() < 0.2:
            hits.append(Hit(i * step, CLOSED_HAT, velocity))
    return tempo, hits
