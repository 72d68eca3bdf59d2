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


def test_masked_error_weighs_frames_within_a_clip_and_clips_alike():
    output, target = torch.zeros(2, 1, 2), torch.tensor([[[1.0, 3.0]], [[2.0, 100.0]]])
    weight = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert losses.masked_error(output, target, weight).item() == pytest.approx(((1 + 3) / 2 + 2) / 2)
    half = torch.tensor([[1.0, 0.5], [1.0, 0.0]])
    assert losses.masked_error(output, target, half).item() == pytest.approx(((1 + 1.5) / 1.5 + 2) / 2)
    assert losses.masked_error(output, target, weight, "mse").item() == pytest.approx(((1 + 9) / 2 + 4) / 2)


REAL = [torch.tensor([2.0, 0.5]), torch.tensor([0.0])]
FAKE = [torch.tensor([-2.0, 0.0]), torch.tensor([1.0])]


def softplus(x):
    return math.log(1 + math.exp(x))


@pytest.mark.parametrize(
    ("kind", "first", "second", "generator"),
    [
        # scale by scale: what real scores cost + what fake scores cost; then what the fakes cost the generator
        ("hinge", (0 + 0.5) / 2 + (0 + 1) / 2, 1 + 2, (1.0 - 1.0) / 2),
        ("lsgan", (1 + 0.25) / 2 + (4 + 0) / 2, 1 + 1, ((9 + 1) / 2 + 0) / 2),
        (
            "nonsaturating",
            (softplus(-2) + softplus(-0.5)) / 2 + (softplus(-2) + softplus(0)) / 2,
            softplus(0) + softplus(1),
            ((softplus(2) + softplus(0)) / 2 + softplus(-1)) / 2,
        ),
        ("wgan_gp", -1 - 1.25, 1 - 0, (1.0 - 1.0) / 2),
    ],
)
def test_adversarial_losses(kind, first, second, generator):
    assert losses.discriminator_loss(kind, REAL, FAKE).item() == pytest.approx((first + second) / 2)
    assert losses.generator_loss(kind, FAKE).item() == pytest.approx(generator)


def test_the_gradient_penalty_of_a_linear_score():
    points = torch.zeros(2, 1, 4, requires_grad=True)
    slope = torch.tensor([1.0, 1.0, 1.0, 1.0], requires_grad=True)  # Euclidean norm 2; times sqrt(4 values): 4
    penalty = losses.gradient_penalty((points * slope).flatten(1).sum(dim=1), points)
    assert penalty.item() == pytest.approx((4 - 1) ** 2)
    penalty.backward()  # it teaches the score's own parameters
    assert slope.grad.tolist() == pytest.approx([2 * 3 * 2 / 2] * 4)
    # A score that is the mean over values has slope 1 in root mean square at any resolution: no penalty.
    for size in (4, 64):
        x = torch.randn(3, size, requires_grad=True)
        assert losses.gradient_penalty(x.mean(dim=1), x).item() == pytest.approx(0, abs=1e-6)


def test_ranking_is_the_area_under_the_curve():
    ranking = losses.ranking(torch.tensor([3.0, 1.0]), torch.tensor([0.0, 1.0, 2.0]))
    assert ranking.item() == pytest.approx((3 + 1 + 0.5) / 6)
    assert losses.ranking(torch.tensor([1.0]), torch.tensor([0.0])).item() == 1


def test_clip_scores_average_maps_and_scales():
    scores = [torch.tensor([[[[1.0, 3.0]]], [[[0.0, 0.0]]]]), torch.tensor([[[[4.0]]], [[[2.0]]]])]
    assert losses.clip_scores(scores).tolist() == [3.0, 1.0]


def test_coarsening_halves_the_resolution_and_fades():
    mel = torch.arange(16.0).view(1, 4, 4)
    assert losses.coarsen(mel, 2, 2) is mel
    half = torch.tensor([[[2.5, 4.5], [10.5, 12.5]]])
    assert torch.equal(losses.coarsen(mel, 1, 2), half)
    assert torch.equal(losses.coarsen(mel, 0, 2), torch.tensor([[[7.5]]]))
    assert torch.equal(losses.coarsen(mel, 0.5, 2), (half + 7.5) / 2)
    faded = losses.coarsen(mel, 1.25, 2)
    assert torch.allclose(faded, 0.75 * half.repeat_interleave(2, 1).repeat_interleave(2, 2) + 0.25 * mel)
    odd = losses.coarsen(torch.randn(1, 5, 7), 1.5, 2)
    assert odd.shape == (1, 5, 7)


def test_kernel_distance_by_hand_and_its_behaviour():
    a, b = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [2.0]])
    # k(x, y) = (x y + 1)^3: within a k(1,0) = 1; within b k(1,2) = 27; between k(1,1)=8 k(1,2)=27 k(0,1)=1 k(0,2)=1
    assert losses.kernel_distance(a, b).item() == pytest.approx(1 + 27 - 2 * (8 + 27 + 1 + 1) / 4)
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(400, 8, generator=g) for _ in range(2))
    assert abs(losses.kernel_distance(x, y).item()) < 0.02 < losses.kernel_distance(x, y + 0.5).item()


def test_mel_statistics():
    mel = torch.tensor([[[1.0, 3.0], [5.0, 5.0]]])
    assert losses.mel_statistics(mel)[0].tolist() == pytest.approx([2, 5, 2**0.5, 0])


def test_mode_seeking_compares_the_two_of_each_pair():
    fake = torch.tensor([[[0.0, 0.0]], [[1.0, 0.98]], [[5.0, 5.0]], [[5.0, 5.0]]])
    timbre = torch.tensor([[0.0, 0.0], [2.0, 4.0], [1.0, 1.0], [1.5, 1.5]])
    assert losses.mode_seeking(fake, timbre).item() == pytest.approx((3 / (0.99 + 0.01) + 0.5 / 0.01) / 2)


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
