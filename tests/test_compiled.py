"""What numba compiles, and what is written for a CPU's sake, against torch's own operations."""

import subprocess
import sys

import numba
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from audio_vaegan import compiled
from audio_vaegan.config import MelConfig, VocoderConfig
from audio_vaegan.layers import ConvNeXtBlock, DepthwiseConv, Upsample
from audio_vaegan.models.critic import ImageConv2d, halved
from audio_vaegan.models.vocoder.banded import Banded
from audio_vaegan.models.vocoder.istft import inverse_stft
from audio_vaegan.models.vocoder.network import VocoderNetwork


@pytest.fixture(autouse=True)
def two_threads():
    """As many as the loops are for, whatever the machine has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def gradients(network, inputs, weight):
    """What comes out, and the gradients of all that has one."""
    leaves = [*inputs, *network.parameters()]
    out = network(*inputs)
    return [out, *torch.autograd.grad((out * weight).sum(), leaves)]


@pytest.mark.parametrize("frames", [1, 2, 3, 40])
@pytest.mark.parametrize("build", ["conditioned", "plain", "convolution", "upsampling"])
def test_blocks_and_their_gradients_are_torchs(build, frames):
    torch.manual_seed(0)
    network = {
        "conditioned": lambda: ConvNeXtBlock(24, 7, 2, condition_dim=8),
        "plain": lambda: ConvNeXtBlock(24, 5),
        "convolution": lambda: DepthwiseConv(24, 3),
        "upsampling": lambda: Upsample(24),
    }[build]()
    inputs = [torch.randn(3, frames, 24, requires_grad=True)]
    if build == "conditioned":
        inputs.append(torch.randn(3, 8, requires_grad=True))
    weight = torch.randn_like(network(*inputs))
    assert compiled.fits(inputs[0])
    own = gradients(network, inputs, weight)
    with compiled.only_torch():
        assert not compiled.fits(inputs[0])
        torchs = gradients(network, inputs, weight)
    for found, wanted in zip(own, torchs, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(network(*inputs), own[0])


def test_what_is_not_a_plain_float32_tensor_on_a_cpu_goes_through_torch():
    x = torch.zeros(1, 2, 4)
    assert compiled.fits(x) and compiled.fits(nn.Parameter(x))
    assert not compiled.fits(x.double())
    assert not compiled.fits(x.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not compiled.fits(x)
    torch.set_num_threads(compiled.THREADS + 1)
    assert not compiled.fits(x)
    torch.set_num_threads(2)
    block = ConvNeXtBlock(4).double()
    out = block(torch.randn(2, 9, 4, dtype=torch.float64, requires_grad=True))
    assert out.dtype == torch.float64


def test_a_frame_of_nan_comes_out_as_nan_and_a_second_gradient_is_refused():
    block = ConvNeXtBlock(8)
    x = torch.randn(1, 20, 8)
    x[0, 10] = torch.nan
    out = block(x)
    assert out[0, 10].isnan().all() and out[0, :7].isfinite().all() and out[0, 14:].isfinite().all()
    y = torch.randn(1, 20, 8, requires_grad=True)
    (first,) = torch.autograd.grad(block(y).square().sum(), y, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


MELS = {
    "same": MelConfig(sample_rate=16000, n_fft=1024, win_length=1024, hop_length=256, n_mels=128, f_max=8000),
    "center": MelConfig(
        sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, f_max=7000, padding="center"
    ),
}


@pytest.mark.parametrize("padding", MELS)
def test_the_vocoders_audio_is_torchs(padding):
    """Untrained, the network is a phase vocoder on what it is given, and writes audio that is no silence."""
    torch.manual_seed(0)
    mel, size = MELS[padding], VocoderConfig(width=16, blocks=2)
    network = VocoderNetwork(mel, size).eval()
    samples = 12000
    t = torch.arange(samples) / mel.sample_rate
    audio = torch.stack([torch.sin(6.2832 * 440 * t), 0.1 * torch.randn(samples)])
    log_mel = network.mel(audio)
    with torch.no_grad():
        own = network.synthesise(log_mel, samples)
        with compiled.only_torch():
            torchs = network.synthesise(log_mel, samples)
    assert torchs.square().mean(dim=1).min() > 1e-4
    error = (own - torchs).square().mean(dim=1) / torchs.square().mean(dim=1)
    assert error[0] < 1e-8  # of noise, rounding may choose another peak here and there
    assert error[1] < 1e-3
    with torch.no_grad():
        assert torch.equal(network.synthesise(torch.full_like(log_mel, -50.0), samples), torch.zeros(2, samples))
        assert network.synthesise(torch.full_like(log_mel, torch.nan), samples).isnan().any()


@pytest.mark.parametrize("padding", MELS)
@pytest.mark.parametrize("samples", [100, 4000, 9000])
def test_the_inverse_stft_is_torchs(padding, samples):
    mel = MELS[padding]
    window = F.pad(torch.hann_window(mel.win_length), ((mel.n_fft - mel.win_length) // 2,) * 2)
    spectrum = torch.randn(3, 30, mel.n_fft // 2 + 1, dtype=torch.complex64)
    with torch.no_grad():
        own = inverse_stft(spectrum, window, mel, samples)
        with compiled.only_torch():
            torchs = inverse_stft(spectrum, window, mel, samples)
    assert own.shape == (3, samples)
    torch.testing.assert_close(own, torchs, rtol=1e-4, atol=1e-5)


def test_banded_products_are_whole_ones():
    basis = VocoderNetwork(MELS["same"], VocoderConfig(width=16, blocks=1)).mel.basis
    for matrix in (basis, torch.linalg.pinv(basis), torch.zeros(6, 9), torch.randn(5, 3)):
        banded, x = Banded(matrix), torch.randn(2, 7, len(matrix))
        with torch.no_grad():
            found = banded(x)
        torch.testing.assert_close(found, x @ matrix, rtol=1e-5, atol=1e-5 * float(matrix.abs().max()) + 1e-12)
    cheaper = Banded(torch.linalg.pinv(basis))
    assert sum((r.stop - r.start) * (c.stop - c.start) for r, c in cheaper.parts) < 0.6 * basis.numel()


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("shape", [(128, 64), (33, 16)])
def test_a_convolution_of_one_channel_and_its_gradients_are_torchs(kernel, shape):
    torch.manual_seed(0)
    conv = ImageConv2d(1, 6, kernel, stride=2, padding=kernel // 2)
    x = torch.randn(4, 1, *shape, requires_grad=True)
    plain = nn.Conv2d(1, 6, kernel, stride=2, padding=kernel // 2)
    plain.load_state_dict(conv.state_dict())
    weight = torch.randn_like(plain(x))
    for found, wanted in zip(gradients(conv, [x], weight), gradients(plain, [x], weight), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 1, 16, 8), (2, 1, 7, 5), (1, 1, 2, 2)])
def test_halves_of_images_and_their_gradients_are_what_pooling_gives(shape):
    images = [torch.randn(shape, requires_grad=True) for _ in range(2)]
    images[1].data.copy_(images[0].data)
    own, pooled = halved(images[0]), F.avg_pool2d(images[1], 2)
    torch.testing.assert_close(own, pooled)
    weight = torch.randn_like(own)
    (own * weight).sum().backward()
    (pooled * weight).sum().backward()
    torch.testing.assert_close(images[0].grad, images[1].grad)


def test_without_a_folder_for_its_cache_it_compiles_all_the_same(monkeypatch):
    def njit(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(function, **options)

    monkeypatch.setattr(compiled, "njit", njit)

    @compiled.compiled
    def twice(x, out):
        out[0] = 2 * x[0]

    x, out = torch.ones(1), torch.zeros(1)
    twice(x.numpy(), out.numpy())
    assert out.item() == 2


def test_the_words_of_the_command_line_need_no_compiler():
    """Compiling costs seconds, once; to say what a verb does must not."""
    code = "import sys; from audio_vaegan import cli; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
