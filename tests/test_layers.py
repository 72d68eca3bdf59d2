import torch

from audio_vaegan.layers import (
    AdaLayerNorm,
    Attention,
    ConvNeXtBlock,
    DepthwiseConv,
    Downsample,
    FourierFeatures,
    Upsample,
)


def test_depthwise_convolution_is_a_convolution_over_time():
    layer = DepthwiseConv(6, 7)
    x = torch.randn(2, 20, 6)
    plain = torch.nn.functional.conv1d(
        x.transpose(1, 2), layer.weight.unsqueeze(1), layer.bias, padding=3, groups=6
    ).transpose(1, 2)
    assert torch.allclose(layer(x), plain, atol=1e-6)


def test_upsampling_leaves_no_grid():
    x = torch.full((1, 16, 4), 3.0)
    y = Upsample(4)(x)[:, 4:-4]
    assert y.shape == (1, 56, 4) and torch.allclose(y, torch.full_like(y, 3.0), atol=1e-5)
    ramp = torch.arange(16.0).reshape(1, 16, 1).expand(1, 16, 4)
    steps = Upsample(4)(ramp)[0, 8:-8, 0].diff()
    assert torch.allclose(steps, torch.full_like(steps, 0.25), atol=1e-5)


def test_downsampling_quarters_the_frames():
    assert Downsample(6, 5)(torch.randn(2, 16, 6)).shape == (2, 4, 5)


def test_a_block_listens_to_its_condition():
    block = ConvNeXtBlock(8, condition_dim=5)
    x, a, b = torch.randn(2, 12, 8), torch.randn(2, 5), torch.randn(2, 5)
    assert block(x, a).shape == x.shape
    assert not torch.allclose(block(x, a), block(x, b))
    assert torch.allclose(AdaLayerNorm(8)(x).mean(-1), torch.zeros(2, 12), atol=1e-5)


def test_fourier_features_are_smooth_and_tell_values_apart():
    features = FourierFeatures(5)(torch.linspace(0, 1, 200))
    assert features.shape == (200, 10) and features.abs().max() <= 1
    assert features.diff(dim=0).abs().max() < 0.3
    assert torch.cdist(features, features).fill_diagonal_(9).min() > 0.05


def test_attention_is_softmax_of_scaled_products_plus_the_input():
    layer = Attention(8, 2, scale=1.0)
    x = torch.randn(2, 5, 8)
    query, key, value = (p.view(2, 5, 2, 4).transpose(1, 2) for p in layer.enter(layer.norm(x)).chunk(3, dim=-1))
    weight = ((query @ key.transpose(2, 3)) / 4**0.5).softmax(dim=-1)
    by_hand = x + layer.leave((weight @ value).transpose(1, 2).reshape(2, 5, 8))
    assert torch.allclose(layer(x), by_hand, atol=1e-5)


def test_attention_reaches_every_frame():
    layer = Attention(8, 4)
    x = torch.randn(1, 40, 8, requires_grad=True)
    layer(x)[0, 0].sum().backward()
    assert bool(x.grad.abs().sum(-1).gt(0).all())
