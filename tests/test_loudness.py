"""Sounds that are louder or softer than most of training are heard, made and restored at a loudness that it knew."""

import pytest
import torch
from conftest import ROOT

from audio_vaegan.errors import UserError
from audio_vaegan.models import level
from audio_vaegan.models.level import LOUDEST, SOFTEST, louder
from audio_vaegan.sound_model import SoundModel

RATE, SAMPLES = 16000, torch.tensor([16384])


@pytest.fixture(scope="module", params=["notes16k", "drums16k"])
def model(request):
    return SoundModel.from_pretrained(request.param)


@pytest.fixture(scope="module")
def hits():
    """Bursts of noise and thuds, long and short."""
    time, even = torch.arange(16384) / RATE, torch.Generator().manual_seed(0)
    fall = torch.exp(-time * torch.tensor([[8.0], [30.0], [8.0], [30.0]]))
    noise = 0.2 * torch.randn(2, len(time), generator=even)
    thuds = torch.sin(2 * torch.pi * torch.tensor([[60.0], [150.0]]) * (time + 0.01 * (1 - torch.exp(-30 * time))))
    return torch.cat([noise, thuds]) * fall


@pytest.fixture(scope="module")
def unheard():
    """Four notes that neither model heard."""
    hear = SoundModel.from_pretrained("notes16k").heard
    files = sorted((ROOT / "recipes" / "notes" / "audio").glob("*-060-100.flac"))[1:24:6]
    return torch.stack([hear(f)[:16384] for f in files])


def ends(model):
    """The loudness in LUFS between which sounds are left as they are."""
    return tuple(float(model.controls["loudness"].value(torch.tensor(end))) for end in (SOFTEST, LOUDEST))


def at(model, audio, loudness):
    """The same sounds, so loud (LUFS). In float: the loudest would clip in a file."""
    own = model.measure(audio)["loudness"]
    return louder(audio, torch.as_tensor(loudness).expand(len(audio)) - own)


def lacking(model, audio):
    return level.lacking(model.vaegan.controls, audio, RATE)


def off(monkeypatch):
    monkeypatch.setattr(level, "SOFTEST", -100.0)
    monkeypatch.setattr(level, "LOUDEST", 100.0)


def test_what_training_knew_is_left_as_it_is_to_the_bit(model, unheard, monkeypatch):
    low, high = ends(model)
    audio = at(model, unheard, torch.linspace(low + 0.1, high - 0.1, len(unheard)))
    assert not lacking(model, audio).any()
    sound = model.encode(audio)
    made = model.decode(sound)
    off(monkeypatch)
    assert torch.equal(model.encode(audio).z, sound.z) and torch.equal(model.decode(sound).audio, made.audio)
    assert torch.equal(model.decode(sound).mel, made.mel)


@pytest.mark.parametrize("side", [-1, 1])
def test_beyond_a_sound_has_one_timbre_and_comes_back_as_loud_as_it_was(model, unheard, side):
    end = ends(model)[max(side, 0)]
    versions = [at(model, unheard[:1], end + side * more)[0] for more in (0.1, 6.0, 14.0)]
    sound = model.encode(torch.stack(versions))
    timbre = sound.z[:, len(model.controls) :]
    assert (timbre - timbre[0]).abs().max() < 2e-3 and timbre[0].abs().max() > 0.1
    made = model.decode(sound, limit=False)
    told = sound.controls["loudness"] - sound.controls["loudness"][0]
    assert told == pytest.approx(torch.tensor([0.0, 5.9, 13.9]) * side, abs=0.05)
    same = louder(made.audio, -told)
    assert same == pytest.approx(same[:1].expand_as(same), abs=0.03 * float(same.abs().max()))
    assert torch.equal(made.mel, model.decode_mel(sound))
    loud = made.mel > made.mel.amax(dim=(1, 2), keepdim=True) - 3  # 26 dB
    assert (model.log_mel(made.audio) - made.mel)[loud].abs().median() < 0.25  # the vocoder's own error


def test_normalised_files_are_rebuilt_nearer_than_they_were(model, unheard, hits, monkeypatch):
    audio = at(model, unheard if "pitch" in model.controls else hits, -12.0)
    real = model.log_mel(audio)
    heard = real > real.amax(dim=(1, 2), keepdim=True) - 6.9  # 60 dB

    def error():
        made = model.decode(model.encode(audio), limit=False).audio
        return float((model.log_mel(at(model, made, -12.0)) - real)[heard].abs().mean())

    new = error()
    off(monkeypatch)
    assert new < 0.95 * error()


def test_a_sound_is_not_odd_because_it_is_normalised(model, unheard):
    high = ends(model)[1]
    scores = [model.score(at(model, unheard, loudness)).whole for loudness in (high, -12.0)]
    assert scores[1] == pytest.approx(scores[0], abs=0.02)


def test_beyond_loudness_is_a_gain(model):
    low, _ = ends(model)
    plain = model.sample(1, seed=4).sound(SAMPLES).rows(torch.zeros(3, dtype=torch.long))
    asked = torch.tensor([low - 2, low - 5, low - 12])
    made = model.edit(plain, set={"loudness": asked.tolist()})
    mapped = made.z[:, [*model.controls].index("loudness")] * model.controls["loudness"].deviation
    one = louder(made.audio, mapped[0] - mapped)
    assert one == pytest.approx(one[:1].expand_as(one), abs=1e-5 * float(one.abs().max()))


def test_silence_stays_silence_and_no_length_at_all_is_a_mistake_in_words(model, unheard):
    audio = torch.stack([at(model, unheard[:1], -12.0)[0], torch.zeros(16384)])
    assert lacking(model, audio)[0] < 0 and lacking(model, audio)[1] == 0
    made = model.decode(model.encode(audio)).audio
    assert torch.isfinite(made).all() and made[1].abs().max() < 1e-2 * made[0].abs().max()
    assert lacking(model, torch.zeros(2, 0)).tolist() == [0, 0]
    with pytest.raises(UserError, match="audio must be finite"):
        model.restore(torch.zeros(1, 0), gaps=[(0.3, 0.36)])


def test_a_model_without_a_loudness_leaves_sounds_as_they_are(tiny_run, unheard):
    model = SoundModel.from_pretrained(tiny_run)
    assert "loudness" not in model.controls
    audio = 20 * unheard[:, : model.clip_samples]
    assert not lacking(model, audio).any()
    sound = model.encode(audio)
    assert torch.equal(sound.z[:, 1:], torch.cat([model._encode_mel(audio)]))
    made = model.decode(sound)
    assert torch.equal(made.audio, model.vocode(made.mel))


@pytest.mark.parametrize("loudness", [(-55.0, -62.0), (-18.0, -11.0)])
def test_a_gap_is_filled_alike_in_soft_and_loud_sounds_and_the_rest_is_as_it_was_to_the_bit(model, unheard, loudness):
    gap, asked = (0.3, 0.36), {"pitch": 60.0} if "pitch" in model.controls else {}
    audio = torch.cat([at(model, unheard[:1], one) for one in loudness])
    made, sound = model.restore(audio, gaps=[gap], **asked)
    inside = torch.zeros(16384, dtype=torch.bool)
    inside[round(gap[0] * RATE) : round(gap[1] * RATE)] = True
    assert torch.equal(made[:, ~inside], audio[:, ~inside])
    gain = float(20 * (audio[1].std() / audio[0].std()).log10())
    loud = 20 * made[:, inside].square().mean(dim=1).sqrt().log10()
    assert float(loud[1] - loud[0]) == pytest.approx(gain, abs=2)
    assert float(sound.controls["loudness"][1] - sound.controls["loudness"][0]) == pytest.approx(gain, abs=2)


def test_what_was_in_the_gap_does_not_matter(model, unheard):
    audio = torch.stack([0.03 * unheard[0], 0.03 * unheard[0]])
    audio[1, 5100:5450] = 0.9
    asked = {"pitch": 60.0} if "pitch" in model.controls else {}
    made, sound = model.restore(audio, gaps=[(0.3, 0.36)], **asked)
    loud = made[:, 5100:5450].square().mean(dim=1).sqrt()
    assert float(loud[1] / loud[0]) == pytest.approx(1, abs=0.05)
    assert float(sound.controls["loudness"][1]) == pytest.approx(float(sound.controls["loudness"][0]), abs=0.5)
