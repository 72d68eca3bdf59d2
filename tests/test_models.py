import torch

from audio_vaegan.config import Recipe
from audio_vaegan.models.controls import Control, ControlEmbedding
from audio_vaegan.models.critic import ControlHeads, Critic
from audio_vaegan.models.vaegan import Normalisation, Plan, VaeGan

PITCH = Control("pitch", "semitones (MIDI)", 48.0, 72.0, 60.0, 7.0, 25)
RECIPE = Recipe.model_validate(
    {
        "mel": {"n_mels": 32},
        "data": {"clip_samples": 8192},
        "model": {
            "timbre_dim": 8,
            "width": 24,
            "encoder_blocks": 3,
            "generator_blocks": 2,
            "head_blocks": 1,
            "disc_channels": [4, 8],
        },
    }
)


def networks(controls=(PITCH,)):
    torch.manual_seed(0)
    return VaeGan(RECIPE, controls, Normalisation(-8.0, 2.5)), Critic(
        RECIPE.model, controls, 32, RECIPE.mel.frames(RECIPE.data.clip_samples)
    )


def plan(controls=1):
    return Plan(
        judged=torch.tensor([0, 2]),
        source=torch.tensor([-1, -1, 3]),
        timbre=torch.randn(3, 8),
        controls=torch.randn(3, controls),
        defined=torch.ones(3, controls, dtype=torch.bool),
    )


def test_shapes_of_the_whole_pass():
    vaegan, critic = networks()
    mel = torch.randn(4, 32, 32)
    out = vaegan(mel, torch.randn(4, 1), torch.ones(4, 1, dtype=torch.bool), torch.randn(4, 8), plan())
    assert out.reconstruction.shape == (4, 32, 32) and out.fakes.shape == (5, 32, 32)
    scores, logits, _ = critic(torch.cat([mel, out.fakes]), mel)
    assert len(scores) == 3 and all(s.shape[0] == 9 for s in scores) and logits[0].shape == (4, 25)


def test_what_judges_the_fakes_never_reaches_the_encoder():
    vaegan, critic = networks()
    mel = torch.randn(4, 32, 32)
    out = vaegan(mel, torch.randn(4, 1), torch.ones(4, 1, dtype=torch.bool), torch.randn(4, 8), plan())
    scores, _ = critic.discriminator(out.fakes)
    sum(s.mean() for s in scores).backward()
    assert all(p.grad is None or not p.grad.any() for p in vaegan.encoder.parameters())
    assert any(p.grad is not None and p.grad.any() for p in vaegan.generator.parameters())


def test_the_reconstruction_does_reach_the_encoder():
    vaegan, _ = networks()
    mel = torch.randn(4, 32, 32)
    out = vaegan(mel, torch.randn(4, 1), torch.ones(4, 1, dtype=torch.bool), torch.randn(4, 8), plan())
    (out.reconstruction - mel).abs().mean().backward()
    assert all(p.grad is not None for p in vaegan.encoder.parameters())


def test_fakes_are_decoded_from_the_codes_that_the_plan_names():
    vaegan, _ = networks()
    vaegan.eval()
    mel, controls, defined = torch.randn(4, 32, 32), torch.randn(4, 1), torch.ones(4, 1, dtype=torch.bool)
    noise, p = torch.zeros(4, 8), plan()
    out = vaegan(mel, controls, defined, noise, p)
    assert torch.allclose(out.fakes[:2], out.reconstruction[[0, 2]], atol=1e-5)
    repitched = vaegan.generator(out.mean[3:], p.controls[2:], p.defined[2:])
    prior = vaegan.generator(p.timbre[:2], p.controls[:2], p.defined[:2])
    assert torch.allclose(out.fakes[2:], torch.cat([prior, repitched]), atol=1e-5)


def test_an_undefined_control_is_never_read():
    vaegan, _ = networks()
    z, undefined = torch.randn(2, 8), torch.zeros(2, 1, dtype=torch.bool)
    a = vaegan.generator(z, torch.full((2, 1), 1.0), undefined)
    b = vaegan.generator(z, torch.full((2, 1), -2.0), undefined)
    assert torch.equal(a, b)
    assert not torch.allclose(a, vaegan.generator(z, torch.full((2, 1), 1.0), ~undefined))


def test_a_model_without_controls_works():
    vaegan, critic = networks(())
    none = torch.zeros(4, 0)
    out = vaegan(torch.randn(4, 32, 32), none, none.bool(), torch.randn(4, 8), plan(0))
    assert out.fakes.shape == (5, 32, 32)
    assert critic(out.fakes, out.fakes)[1] == []


def test_the_embedding_stays_smooth_over_the_range():
    embedding = ControlEmbedding([PITCH])
    s = torch.linspace(-1.7, 1.7, 300).unsqueeze(1)
    value = embedding(s, torch.ones(300, 1, dtype=torch.bool))
    assert value.shape == (300, 64) and value.diff(dim=0).abs().max() < 0.2


def test_the_discriminator_has_no_buffers():
    _, critic = networks()
    assert list(critic.discriminator.buffers()) == []


def test_no_parameter_of_the_discriminator_learns_from_rounding_alone():
    """Adding a constant to every score leaves the hinge loss as it is (inside its margins): there must be no such
    parameter, or AdamW, which takes no notice of a gradient's size, lets it drift."""
    from audio_vaegan import losses

    torch.manual_seed(0)
    _, critic = networks()
    real, fake = critic.discriminator(torch.randn(4, 32, 32))[0], critic.discriminator(torch.randn(4, 32, 32))[0]
    losses.discriminator_loss("hinge", real, fake).backward()
    for name, p in critic.discriminator.named_parameters():
        assert p.grad.abs().max() > 1e-6, name


def test_blocks_at_every_frame_are_as_many_as_the_recipe_says():
    for words, fine in (({}, (2, 4)), ({"encoder_fine_blocks": 1, "generator_fine_blocks": 2}, (1, 2))):
        model = RECIPE.model.model_copy(update={"encoder_blocks": 6, "generator_blocks": 8} | words)
        net = VaeGan(RECIPE.model_copy(update={"model": model}), (PITCH,), Normalisation(-8.0, 2.5))
        assert (len(net.encoder.fine), len(net.generator.fine)) == fine
        assert (len(net.encoder.fine) + len(net.encoder.coarse), len(net.generator.coarse) + fine[1]) == (6, 8)


def test_heads_of_which_some_blocks_work_at_a_quarter_of_the_frames_hear_every_frame():
    torch.manual_seed(0)
    size = {"head_blocks": 3, "head_fine_blocks": 1}
    heads = ControlHeads(RECIPE.model.model_copy(update=size), (PITCH,), 32, 30)  # not a multiple of four
    assert heads.down is not None and len(heads.blocks) == 3
    at = torch.randn(2, 32, 30, requires_grad=True)
    (logits,) = heads(at)
    assert logits.shape == (2, 25)
    (gradient,) = torch.autograd.grad(logits.square().sum(), at)
    assert (gradient.abs().amax(dim=1) > 0).all()  # the first and the last, too
    assert ControlHeads(RECIPE.model, (PITCH,), 32, 30).down is None
