"""Right pitch, right instrument: timbre transfer and class-conditional sampling, heard by the trained judge."""

import numpy as np
import torch
from numpy.typing import NDArray

from audio_vaegan.audio import respeed
from audio_vaegan.data.store import Store
from audio_vaegan.evaluation.held import Held, pick
from audio_vaegan.evaluation.trained_judge import TrainedJudge
from audio_vaegan.evaluation.uses.rows import Row, interval
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.sound_model.mixing import transfer

NEAR = 1.0  # semitones within which a pitch is right
MEASURE = "right pitch and right instrument by the judge, %"


def transferred(model: SoundModel, store: Store, judge: TrainedJudge, most: int) -> list[Row]:
    """The timbre of one note under the pitch and envelope of another: both of training instruments, which the judge
    knows, other notes than it learned from. Beside it the first note, resampled to the second one's pitch, and real
    notes themselves."""
    if "pitch" not in model.controls or judge.about.get("label") is None:
        return []
    classes = {name: k for k, name in enumerate(judge.about["classes"])}
    names = store.label(judge.about["label"])
    rows = np.array([r for r in pick(store, "test_note", most) if str(names[r]) in classes])
    other = np.random.default_rng(0).permutation(rows)
    a, b = Held(model, store, rows), Held(model, store, other)
    true = np.array([classes[str(names[r])] for r in rows])
    groups = store.column("group")[rows]
    made = model.decode(transfer(a.sound, b.sound, [*model.controls.values()])).audio
    ratios = 2 ** ((b.pitch - a.pitch) / 12)
    plain = torch.zeros_like(a.audio)
    for k, ratio in enumerate(ratios):
        moved = torch.from_numpy(respeed(a.audio[k].numpy(), float(ratio)))[: plain.shape[1]]
        plain[k, : len(moved)] = moved
    kept = model.decode(a.sound).audio  # what no transfer can better: the note, reconstructed
    ours, theirs, same, real = (
        _right(judge, audio, pitch, true)
        for audio, pitch in ((made, b.pitch), (plain, b.pitch), (kept, a.pitch), (a.audio, a.pitch))
    )
    return [
        Row(
            "transfer",
            "timbre of a note, pitch and envelope of another",
            MEASURE,
            interval(ours, groups),
            "the note, resampled",
            interval(theirs, groups),
            len(rows),
            difference=interval(ours - theirs, groups),
            note=f"real notes: {real.mean():.1f} %, reconstructed: {same.mean():.1f} %",
        )
    ]


def _right(
    judge: TrainedJudge, audio: torch.Tensor, pitch: NDArray[np.float64], true: NDArray[np.int64]
) -> NDArray[np.float64]:
    """100 where the judge hears the pitch and the instrument, else 0, `[B]`."""
    heard = judge.hear(audio)
    assert heard.pitch is not None and heard.instrument is not None
    found = judge.notes[heard.pitch.argmax(dim=1).numpy()]
    return 100.0 * ((np.abs(found - pitch) <= NEAR) & (heard.instrument.argmax(dim=1).numpy() == true))


def conditional(model: SoundModel, store: Store, judge: TrainedJudge, most: int) -> list[Row]:
    """Sounds sampled from each class in turn, and whether the judge, which learned that label, hears the class;
    beside it sounds whose class was not asked."""
    named = next((c for c in model.controls.values() if c.classes), None)
    if named is None or judge.about.get("label") != named.name:
        return []
    places = {name: k for k, name in enumerate(judge.about["classes"])}
    known = [name for name in named.classes if name in places]
    asked = [known[i % len(known)] for i in range(most)]
    true = np.array([places[name] for name in asked])
    given = {named.name: asked}
    made = model.sample(most, **given).audio  # type: ignore[arg-type]
    free = model.sample(most).audio
    held = pick(store, "test_note", most)
    names = store.label(named.name)
    held = np.array([r for r in held if str(names[r]) in places])
    real = _class(judge, torch.from_numpy(store.read(held)), np.array([places[str(names[r])] for r in held]))
    ours, theirs = _class(judge, made, true), _class(judge, free, true)
    return [
        Row(
            "conditional",
            f"{len(known)} classes of {named.name}",
            "right class by the judge, %",
            interval(ours, np.arange(most)),
            "class not asked",
            interval(theirs, np.arange(most)),
            most,
            note=f"real sounds: {real.mean():.1f} % of {len(held)}",
        )
    ]


def _class(judge: TrainedJudge, audio: torch.Tensor, true: NDArray[np.int64]) -> NDArray[np.float64]:
    heard = judge.hear(audio).instrument
    assert heard is not None
    return 100.0 * (heard.argmax(dim=1).numpy() == true)
