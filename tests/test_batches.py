import numpy as np
import torch

from audio_vaegan.data.batches import Clips, frame_mask, hold_out, positions
from audio_vaegan.data.store import Store


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
