"""Values computed by hand."""

import math

import pytest
import torch

from audio_vaegan import losses


def test_kl_of_known_gaussians():
    mean = torch.tensor([[1.0, 0.0, 3.0]])
    log_variance = torch.log(torch.tensor([[1.0, 4.0, 1.0]]))
    each = losses.kl_per_coordinate(mean, log_variance)
    assert each.tolist() == pytest.approx([0.5, 0.5 * (4 - 1 - math.log(4)), 4.5])
    assert losses.kl_loss(each).item() == pytest.approx(5.0 + 0.5 * (3 - math.log(4)))
    assert losses.kl_loss(each, free_bits=1.0).item() == pytest.approx(1 + 1 + 4.5)
    assert losses.kl_loss(losses.kl_per_coordinate(torch.zeros(2, 3), torch.zeros(2, 3))).item() == 0


def test_free_bits_on_two_ranks_are_those_of_one():
    a, b = torch.tensor([0.2, 3.0], requires_grad=True), torch.tensor([1.4, 1.0], requires_grad=True)
    whole = (a + b) / 2
    parts = [losses.kl_loss(x, 1.0, whole.detach()) for x in (a, b)]
    assert (sum(parts) / 2).item() == pytest.approx(losses.kl_loss(whole, 1.0).item()) == pytest.approx(1 + 2)
    sum(parts).backward()
    assert a.grad.tolist() == b.grad.tolist() == [0, 1]


def test_masked_l1_weighs_frames_within_a_clip_and_clips_alike():
    output, target = torch.zeros(2, 1, 2), torch.tensor([[[1.0, 3.0]], [[2.0, 100.0]]])
    weight = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert losses.masked_l1(output, target, weight).item() == pytest.approx(((1 + 3) / 2 + 2) / 2)
    half = torch.tensor([[1.0, 0.5], [1.0, 0.0]])
    assert losses.masked_l1(output, target, half).item() == pytest.approx(((1 + 1.5) / 1.5 + 2) / 2)


def test_hinge():
    real, fake = [torch.tensor([2.0, 0.5]), torch.tensor([0.0])], [torch.tensor([-2.0, 0.0]), torch.tensor([1.0])]
    first = (0 + 0.5) / 2 + (0 + 1) / 2
    second = 1 + 2
    assert losses.hinge_discriminator(real, fake).item() == pytest.approx((first + second) / 2)
    assert losses.hinge_generator(fake).item() == pytest.approx((1.0 - 1.0) / 2)


def test_feature_matching_is_relative():
    real = [torch.tensor([[2.0, -2.0], [1.0, 1.0]])]
    fake = [torch.tensor([[2.0, -1.0], [1.0, 1.0]])]
    assert losses.feature_matching(fake, real).item() == pytest.approx((0.5 / 2 + 0) / 2)
    scaled = losses.feature_matching([10 * fake[0]], [10 * real[0]]).item()
    assert scaled == pytest.approx(losses.feature_matching(fake, real).item())


def test_soft_bins_keep_the_value():
    low, high = torch.tensor(40.0), torch.tensor(50.0)
    value = torch.tensor([40.0, 43.25, 50.0, 99.0])
    bins = losses.soft_bins(value, low, high, 11)
    assert torch.allclose(bins.sum(-1), torch.ones(4))
    assert (bins @ torch.linspace(40, 50, 11)).tolist() == pytest.approx([40, 43.25, 50, 50], abs=1e-4)
    assert bins[1].nonzero().flatten().tolist() == [3, 4]


def test_cross_entropy_skips_undefined_controls():
    logits = torch.zeros(2, 4)
    target = torch.tensor([[1.0, 0, 0, 0], [0, 0.5, 0.5, 0]])
    both = losses.control_cross_entropy(logits, target, torch.tensor([True, True]))
    one = losses.control_cross_entropy(logits, target, torch.tensor([True, False]))
    none = losses.control_cross_entropy(logits, target, torch.tensor([False, False]))
    assert (both.item(), one.item(), none.item()) == pytest.approx((math.log(4), math.log(4) / 2, 0.0))
