import ast
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import RATE, run

from audio_vaegan.config import AugmentConfig
from audio_vaegan.data.augment import augment
from audio_vaegan.data.batches import Clips, frame_mask, hold_out, positions, too_few
from audio_vaegan.data.store import Store
from audio_vaegan.descriptors import measure


def test_each_epoch_visits_every_clip_once_in_its_own_order():
    seen = np.concatenate([positions(3, step, 8, 20) for step in range(10)])
    epochs = seen.reshape(4, 20)
    assert all(sorted(e) == list(range(20)) for e in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


def test_order_is_a_function_of_seed_and_step_alone():
    assert np.array_equal(positions(3, 7, 8, 20), positions(3, 7, 8, 20))
    assert not np.array_equal(positions(3, 7, 8, 200), positions(4, 7, 8, 200))


def test_masks_follow_the_true_length():
    mask = frame_mask(torch.tensor([0, 1, 256, 257, 1024]), 4, 256)
    assert mask.sum(1).tolist() == [0, 1, 1, 2, 4]


def test_clips_bring_audio_labels_and_lengths(tiny_store):
    store = Store(tiny_store)
    clips = Clips(store, store.split("train"), {"pitch": ()})
    audio, controls, length = clips.read(np.array([2, 0]))
    assert audio.shape == (2, 8192) and audio.abs().max() <= 1 and controls.shape == (2, 1)
    for row, n in zip(audio, length.tolist(), strict=True):
        assert not row[n:].any() and row[:n].any()


def test_a_class_is_the_place_of_the_clips_label(tiny_store):
    store = Store(tiny_store)
    classes = ("organ_synthetic_001", "organ_synthetic_003")
    clips = Clips(store, np.arange(len(store)), {"pitch": (), "instrument_str": classes})
    for label, value in zip(store.label("instrument_str"), clips.controls[:, 1], strict=True):
        assert value == classes.index(label) if label in classes else np.isnan(value)
    assert store.label_names() == [
        "instrument_family_str", "instrument_source_str", "instrument_str", "pitch", "velocity"
    ]  # fmt: skip


def test_clips_set_aside_are_few_spread_and_out_of_training():
    stay, aside = hold_out(np.arange(1000), 0.05)
    assert len(aside) == 50 and sorted([*stay, *aside]) == list(range(1000))
    assert np.all(np.diff(aside) == 20)
    assert len(hold_out(np.arange(10**5), 0.05)[1]) == 64 and not len(hold_out(np.arange(5), 0.0)[1])
    assert [len(part) for part in hold_out(np.array(["a"]), 0.5)] == [1, 0]


def test_all_clips_of_a_file_are_on_one_side():
    sources = np.array(list("aaabbcddddefggghijkl"))
    stay, aside = hold_out(sources, 0.25)
    assert len(set(sources[aside])) == 3 and not set(sources[aside]) & set(sources[stay])
    assert not len(hold_out(np.array(["long"] * 500), 0.05)[1])
    for files, clips in ((30, 200), (200, 65)):  # of long files one is enough, and what it holds beyond is not used
        sources = np.repeat(np.arange(files), clips)
        stay, aside = hold_out(sources, 0.05)
        assert len(aside) == 64 and len(stay) == (files - 1) * clips and not {*sources[aside]} & {*sources[stay]}
    giant = np.repeat(np.arange(40), [10] * 20 + [5000] + [10] * 19)  # which would be the first of two chosen
    stay, aside = hold_out(giant, 0.05)
    assert len(stay) + len(aside) == len(giant) and 0 < len(aside) <= 64
    assert "too few files" in too_few(0.05, hold_out(np.arange(5), 0.05)[1])[0] and not too_few(0.0, np.arange(0))


def augmented(store, draws, **how):
    """Clips of a store as they are, and changed: (audio, controls, length) twice."""
    clips = Clips(store, np.arange(8), {"pitch": ()})
    rows = np.arange(8)
    plain, changed = clips.read(rows), clips.read(rows, AugmentConfig(**how), np.asarray(draws, dtype=np.float32))
    return [t.numpy() for t in plain], [t.numpy() for t in changed]


@pytest.mark.parametrize(("draw", "semitones"), [(0.0, -3), (0.5, 0), (1.0, 3), (0.75, 1.5)])
def test_what_is_played_faster_is_labelled_higher(tiny_store, draw, semitones):
    plain, changed = augmented(Store(tiny_store), np.full((8, 3), draw), semitones=3)
    np.testing.assert_allclose(changed[1][:, 0], plain[1][:, 0] + semitones, atol=1e-4)
    heard = measure(torch.from_numpy(changed[0]), RATE, torch.from_numpy(changed[2]))
    np.testing.assert_allclose(heard["pitch"], changed[1][:, 0], atol=0.1)  # the label is true
    ratio = 2 ** (semitones / 12)
    assert np.abs(changed[2] - np.minimum(8192, np.round(plain[2] / ratio))).max() <= 1
    assert all(not row[n:].any() for row, n in zip(changed[0], changed[2], strict=True))


def test_gain_and_shift_change_level_and_place_alone(tiny_store):
    draws = np.stack([np.full(8, 0.5), np.linspace(0, 0.9, 8), np.linspace(0, 1, 8)], axis=1)
    plain, changed = augmented(Store(tiny_store), draws, gain_db=12, shift=0.25)
    for i in range(8):
        late, gain = int(np.linspace(0, 0.9, 8)[i] * 0.25 * 8192), 24 * i / 7 - 12
        sound = changed[0][i, late : changed[2][i]]
        assert not changed[0][i, :late].any()
        np.testing.assert_allclose(sound, plain[0][i, : len(sound)] * 10 ** (gain / 20), rtol=1e-5)
        assert changed[1][i] == plain[1][i]


@pytest.mark.parametrize(
    ("place", "how", "name", "sign"),
    [
        (3, {"tilt": 6}, "brightness", 1),
        (4, {"fade": 0.4}, "attack", 1),
        (5, {"damp": 100}, "decay", 1),
        (6, {"hiss": 50}, "noisiness", 1),
    ],
)
def test_each_way_to_reshape_a_sound_changes_its_own_quality_and_is_measured_anew(tiny_store, place, how, name, sign):
    names = ["pitch", "loudness", "brightness", "noisiness", "attack", "decay"]
    store = Store(tiny_store)
    clips, rows = Clips(store, store.split("train"), dict.fromkeys(names, ())), np.arange(8)
    draws = np.full((8, 7), 0.5, dtype=np.float32)
    draws[:, :3] = 0.5, 0.0, 0.5
    still = clips.read(rows, AugmentConfig(**how), draws)  # half of the draws leave a sound alone
    assert torch.equal(still[0], clips.read(rows)[0])
    draws[:, place] = 0.95
    audio, controls, _ = clips.read(rows, AugmentConfig(**how), draws)
    plain = dict(zip(names, still[1].T, strict=True))
    now = dict(zip(names, controls.T, strict=True))
    assert torch.equal(now["pitch"], torch.from_numpy(clips.controls[rows, 0]))
    spread = {"brightness": 1.0, "attack": 0.1, "decay": 10.0, "noisiness": 3.0}[name]
    assert (sign * (now[name] - plain[name]) > spread).all()
    found = measure(audio, RATE, torch.from_numpy(clips.length[rows]))
    torch.testing.assert_close(now[name], found[name])


def test_what_threads_change_together_is_what_one_changes(tiny_store):
    store = Store(tiny_store)
    clips, rows = Clips(store, store.split("train"), {"pitch": ()}), np.arange(12)
    how = AugmentConfig(gain_db=6, shift=0.2, semitones=3, tilt=6, fade=0.4, damp=60, hiss=40)
    draws = np.random.default_rng(3).random((12, 7), dtype=np.float32)
    before, found = torch.get_num_threads(), []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        found.append(clips.read(rows, how, draws))
    torch.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_a_pitch_is_not_moved_beyond_what_the_rate_can_hold():
    audio, controls = np.zeros((2, 100), dtype=np.float32), np.float32([[110.0], [np.nan]])
    how, draws = AugmentConfig(semitones=12), np.ones((2, 7), dtype=np.float32)
    _, moved, length = augment(audio, controls, np.array([100, 100]), ["pitch"], draws, how, RATE)
    assert moved[0, 0] == pytest.approx(69 + 12 * np.log2(0.45 * RATE / 440), abs=1e-3) and np.isnan(moved[1, 0])
    assert length[1] == 50 and 60 < length[0] < 70


def test_without_options_nothing_changes(tiny_store):
    plain, changed = augmented(Store(tiny_store), np.full((8, 3), 0.9))
    for a, b in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_draws_augmentation_by_seed_step_and_item(make_task):
    moving = ["--augment.semitones", "2"]
    first, second, plain = make_task(*moving), make_task(*moving), make_task()
    low, high = first.net.controls[0].low, first.net.controls[0].high
    assert (low, high) == (plain.net.controls[0].low - 2, plain.net.controls[0].high + 2)
    a, b, c = (task.feed.parts(3, True)[0] for task in (first, second, plain))
    assert torch.equal(a.mel, b.mel) and torch.equal(a.controls, b.controls) and torch.equal(a.noise, c.noise)
    moved = (first.net.controls[0].value(a.controls) - plain.net.controls[0].value(c.controls)).flatten()
    assert moved.abs().max() <= 2 and moved.std() > 0.3


def test_a_store_of_a_million_clips_opens_at_once_and_reads_a_batch_in_little_memory(tmp_path, tiny_store):
    """Sparse shards: what is not written reads as zeros, and takes no room."""
    count, size, each = 1_000_000, 16384, 50_000
    table = Store(tiny_store).items
    rows = table.take(pa.array(np.arange(count) % len(table)))
    pq.write_table(rows, tmp_path / "items.parquet")
    shards = []
    for i in range(count // each):
        names = {"clips": f"shard-{i:05d}.npy", "prints": f"prints-{i:05d}.npy"}
        clips = np.lib.format.open_memmap(tmp_path / names["clips"], "w+", "<i2", (each, size))
        clips[7] = i + 1
        shards.append(names | {"count": each})
    about = json.loads((tiny_store / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps(about | {"clips": count, "clip_samples": size, "shards": shards}))
    code = (
        "import resource, sys, time, pathlib, numpy as np\n"
        "from audio_vaegan.data.store import Store\n"
        "from audio_vaegan.data.batches import Clips\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "store = Store(pathlib.Path(sys.argv[1]))\n"
        "clips = Clips(store, store.split('train'), {'pitch': ()})\n"
        "rows = np.searchsorted(clips.clips, np.arange(20) * 50_000 + 7)\n"
        "audio, _, _ = clips.read(rows)\n"
        "found = [int(c) for c in clips.clips[rows]]\n"
        "print(len(store), audio.shape[1], [(c, round(float(a.max()) * 32768)) for c, a in zip(found, audio)])\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    done = run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == 0, done.stderr
    said, megabytes = done.stdout.splitlines()
    assert said.startswith("1000000 16384 ")
    for clip, value in ast.literal_eval(said.split(" ", 2)[2]):
        assert value == (clip // 50_000 + 1 if clip % 50_000 == 7 else 0)
    assert float(megabytes) < 400
