import numpy as np
import torch

from audio_vaegan.data.batches import Clips, frame_mask, positions
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
    clips = Clips(Store(tiny_store), "train", ("pitch",))
    audio, controls, length = clips.read(np.array([2, 0]))
    assert audio.shape == (2, 8192) and audio.abs().max() <= 1 and controls.shape == (2, 1)
    for row, n in zip(audio, length.tolist(), strict=True):
        assert not row[n:].any() and row[:n].any()
