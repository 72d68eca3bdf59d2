"""The judge that learns from a store, sets of sounds on their rungs, distances, novelty, runs side by side."""

import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, cli, one_line, tone

from audio_vaegan.config import MelConfig
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation import sets
from audio_vaegan.evaluation.distances import loudness_error, mel_l1, onset_error, pair_distances
from audio_vaegan.evaluation.novelty import duplicate_share, novelty, store_prints
from audio_vaegan.evaluation.rungs import TooFew, choose, samples
from audio_vaegan.evaluation.set_table import show, table
from audio_vaegan.evaluation.sets import measure_sets
from audio_vaegan.evaluation.side_by_side import side_by_side
from audio_vaegan.evaluation.side_by_side import table as both
from audio_vaegan.evaluation.trained_judge import TrainedJudge, judge_of, load_judge, save_judge, train_judge
from audio_vaegan.mel import Mel
from audio_vaegan.sound_model import SoundModel

QUIET = {"say": lambda line: None}


@pytest.fixture(scope="module")
def many(tmp_path_factory, tiny_recipe):
    """A store of 160 tones of ten instruments, their spectra drawn; some instruments are held out."""
    root = tmp_path_factory.mktemp("many")
    (root / "notes" / "audio").mkdir(parents=True)
    rng, entries = np.random.default_rng(0), {}
    for instrument in range(10):
        level = rng.normal(0, 1, 8)
        for pitch in range(55, 71):
            t = np.arange(8192) / RATE
            hz = 440 * 2 ** ((pitch - 69) / 12)
            x = sum(np.exp(a) * np.sin(2 * np.pi * k * hz * t) for k, a in enumerate(level, 1)) * np.exp(
                -3 * instrument * t
            )
            name = f"i{instrument}-{pitch}"
            soundfile.write(root / "notes" / "audio" / f"{name}.wav", 0.5 * x / np.abs(x).max(), RATE)
            entries[name] = {"instrument_str": f"i{instrument}", "pitch": pitch, "velocity": 100}
    (root / "notes" / "examples.json").write_text(json.dumps(entries))
    words = ("prepare", root / "notes", "--recipe", tiny_recipe, "--out", root / "store", "--data.test_notes", "0.2")
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    return Store(root / "store")


@pytest.fixture(scope="module")
def judge(many):
    return train_judge(many, steps=150, say=lambda line: None)


def test_the_judge_learns_pitch_and_instrument_and_tells_how_well(many, judge, tmp_path):
    accuracy = {(a["what"], a["split"]): a for a in judge.about["accuracy"]}
    assert accuracy[("pitch", "test_instrument")]["mean"] > 60  # chance: 6
    assert accuracy[("instrument", "test_note")]["mean"] > 25  # chance: 13; of ten notes each it learns most by heart
    assert accuracy[("pitch", "test_instrument")]["n"] == len(many.split("test_instrument"))
    assert f"{accuracy[('pitch', 'test_instrument')]['mean']:.1f} %" in judge.note
    rows = many.split("train")[:20]
    audio = torch.from_numpy(many.read(rows))
    heard = judge.hear(audio)
    assert heard.features.shape == (20, 128) and heard.pitch.shape == (20, 16)
    assert torch.equal(judge.hear(0.5 * audio).features, heard.features)  # level says nothing
    assert torch.allclose(judge.hear(0.1 * audio).features, heard.features, atol=1e-3)  # a tenth is rounded
    hiss = torch.from_numpy(np.random.default_rng(0).standard_normal(audio.shape).astype(np.float32))
    peak = audio.abs().amax(dim=1, keepdim=True)
    before, soft, loud = (judge.hear(audio + hiss * peak * 10 ** (db / 20)).features for db in (-200, -95, -50))
    far = (before - loud).norm(dim=1)
    assert ((before - soft).norm(dim=1) < 0.05 * far).all()  # what lies 60 dB below a sound is not heard
    save_judge(judge, tmp_path / "judge")
    again = load_judge(tmp_path / "judge")
    assert torch.equal(again.hear(audio).features, heard.features) and again.note == judge.note


def test_the_same_seed_gives_the_same_judge(many):
    a, b = (train_judge(many, steps=3, say=lambda line: None) for _ in range(2))
    assert a.about == b.about
    assert train_judge(many, steps=3, seed=1, say=lambda line: None).about["hash"] != a.about["hash"]


def test_a_judge_without_labels_learns_the_descriptors(many, monkeypatch):
    monkeypatch.setattr(many, "label_names", list)
    monkeypatch.setattr(
        many, "column", lambda name, of=many.column: np.full(len(many), np.nan) if name == "pitch" else of(name)
    )
    judge = train_judge(many, steps=2, say=lambda line: None)
    heard = judge.hear(torch.from_numpy(many.read([0, 1])))
    assert heard.pitch is None and heard.instrument is None and judge.about["accuracy"] == []
    assert heard.features.shape == (2, 128)


def test_what_is_no_judge_is_refused_in_one_line(many, judge, tmp_path, mistake):
    save_judge(judge, tmp_path / "judge")
    weights = tmp_path / "judge" / "judge.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"not those that judge\.json names"):
        load_judge(tmp_path / "judge")
    with pytest.raises(UserError, match="not a judge"):
        load_judge(tmp_path)
    about = json.loads((tmp_path / "judge" / "judge.json").read_text())
    (tmp_path / "judge" / "judge.json").write_text(json.dumps(about | {"notes": None}))
    with pytest.raises(UserError, match="judge"):
        load_judge(tmp_path / "judge")
    assert "--label nonsense" in mistake("train-judge", many.path, "--label", "nonsense", "--out", tmp_path / "j")
    save_judge(TrainedJudge(judge.network, MelConfig(), judge.about), tmp_path / "other")
    (tmp_path / "other" / "judge.json").write_text(json.dumps(judge.about | {"mel": MelConfig().model_dump()}))
    with pytest.raises(UserError, match=r"judge.*(damaged|another mel)"):
        judge_of(many, tmp_path / "other")


def test_train_judge_writes_beside_the_store_and_is_found_there(many, tmp_path):
    done = cli("train-judge", many.path, "--steps", 2)
    assert done.returncode == 0, done.stderr
    folder = many.path.with_name(many.path.name + ".judge")
    assert "of 16 notes" in done.stdout and "pitch" in done.stdout and folder.is_dir()
    assert judge_of(many, None, say=pytest.fail).about["steps"] == 2
    assert "--overwrite" in one_line(cli("train-judge", many.path, "--steps", 2))
    for fact in ({"store": "another"}, {"version": 1}):  # an earlier store's, an earlier version's
        stale = load_judge(folder)
        stale.about |= fact
        save_judge(stale, folder, overwrite=True)
        again = judge_of(many, None, say=lambda line: None).about
        assert again["store"] == many.content_hash and again["steps"] == 2  # trained anew, as it was
        assert load_judge(folder).about == again and again["version"] == 2


def test_sets_are_disjoint_of_one_size_and_hold_no_sound_twice(many):
    """There are too few other notes for a set, so that the other real sounds are of train."""
    chosen = choose(many)
    reference, other, held = chosen.reference, chosen.other, chosen.held
    assert len(reference) == len(other) == len(held) == len(set(reference) | set(other)) / 2
    split = many.column("split")
    assert set(split[reference]) == set(split[other]) == {"train"} and set(split[held]) == {"test_instrument"}
    assert (chosen.other_split, chosen.held_split) == ("train", "test_instrument")
    few = choose(many, 20)
    assert len(few.reference) == 20 and few.other_split == "test_note"  # what neither judge nor model has heard
    with pytest.raises(TooFew, match="at least 20"):
        choose(many, 5)


@pytest.fixture(scope="module")
def measured(many, judge, tiny_run):
    return measure_sets(SoundModel.from_pretrained(tiny_run), many, judge, most=24, say=lambda line: None)


def test_the_rungs_go_down_from_real_to_sampled(measured, many, judge, tiny_run):
    """A model of twelve steps: what is real is nearest, what it samples is far, and copies are between."""
    figures, draws, picture = measured
    rungs = figures["rungs"]
    assert list(rungs) == ["real", "real, held out", "copy", "reconstructed", "sampled"]
    assert picture.startswith(b"\x89PNG")
    assert rungs["real"]["kad"]["low"] <= rungs["real"]["kad"]["value"] < rungs["sampled"]["kad"]["value"]
    assert rungs["real"]["fad"] is None  # a covariance of 128 dimensions needs more sounds
    assert rungs["real"]["pitch_exact"]["value"] > 60 > rungs["sampled"]["pitch_exact"]["value"]
    assert rungs["real"]["fad_infinity"] is None and rungs["real"]["different_bins"] is None  # too few sounds
    pairs = figures["pairs"]
    assert list(pairs) == ["another real sound", "copy", "reconstructed"]
    for name in ("stft", "lsd", "mel_l1"):
        assert pairs["copy"][name]["value"] < pairs["reconstructed"][name]["value"]
    assert set(figures["novelty"]["sets"]) == {"real, other notes", "real, held out", "sampled"}
    drawn = {name.partition("@")[0]: values for name, values in draws.items()}
    assert drawn["sampled/kad"].shape == (400,) and drawn["reconstructed/lsd"].shape == (400,)
    text = table(figures)
    assert judge.note in text and show(rungs["real"]["kad"]) in text and "24 sounds a set" in text
    assert json.dumps(figures, allow_nan=False)


def test_a_second_measurement_gives_the_same_digits(measured, many, judge, tiny_run):
    again, draws, _ = measure_sets(SoundModel.from_pretrained(tiny_run), many, judge, most=24, say=lambda line: None)
    assert json.dumps(again) == json.dumps(measured[0])
    assert all((draws[k] == v).all() for k, v in measured[1].items())


def test_samples_are_truncated_as_asked(tiny_run, monkeypatch):
    model, codes, usual = SoundModel.from_pretrained(tiny_run), [], SoundModel.sample

    def sample(self, *args, **named):
        codes.append(usual(self, *args, **named))
        return codes[-1]

    monkeypatch.setattr(SoundModel, "sample", sample)
    for truncation in (1.0, 0.0):
        assert len(list(samples(model, np.array([60.0, 60.0, np.nan]), truncation))) == 1
    (one, other), _, (same, still), _ = (c.z if len(c.z) == 2 else (None, None) for c in codes)
    assert torch.equal(same, still) and not torch.equal(one, other)


def test_another_embedding_takes_the_place_of_the_judges(measured, many, judge, tiny_run):
    class Loudness:
        name, note = "level", "only a level"

        def features(self, audio, sample_rate):
            return torch.stack([audio.square().mean(1).add(1e-9).log(), audio.abs().amax(1)], dim=1)

    figures, *_ = measure_sets(
        SoundModel.from_pretrained(tiny_run), many, judge, Loudness(), most=24, say=lambda line: None
    )
    assert figures["embedding"] == "level" and figures["notes"] == ["only a level", judge.note]
    assert figures["rungs"]["real"]["kad"] != measured[0]["rungs"]["real"]["kad"]
    assert figures["rungs"]["real"]["pitch_exact"] == measured[0]["rungs"]["real"]["pitch_exact"]


def test_distances_are_what_they_are_called():
    x = torch.from_numpy(np.stack([tone(60, 0.5), tone(67, 0.5, decay=4)]))
    mel = Mel(MelConfig())
    same = pair_distances(x, x, (mel(x), mel(x)), MelConfig())
    assert all((values == 0).all() for values in same.values())
    assert loudness_error(0.5 * x, x, RATE) == pytest.approx(20 * np.log10(2), abs=0.05)
    late = torch.cat([torch.zeros(2, 800), x], dim=1)  # 50 ms
    assert onset_error(late, torch.cat([x, torch.zeros(2, 800)], dim=1), RATE) == pytest.approx(50, abs=1)
    silent = torch.zeros_like(x)
    assert np.isnan(onset_error(x, silent, RATE)).all() and np.isnan(loudness_error(x, silent, RATE)).all()
    assert (onset_error(silent, x, RATE) > 400).all()  # silence is a failure, not a gap in the mean
    assert (loudness_error(silent, x, RATE) > 40).all()
    loud = torch.full((1, 4, 4), 2.0)
    half = loud - np.log(2)
    assert mel_l1(half, loud, MelConfig()).item() == pytest.approx(6.02, abs=0.01)
    faint = loud.clone()
    faint[0, 0, 0] = -20.0  # 191 dB below the loudest: unheard, and so is what differs there
    assert mel_l1(faint, faint.clamp_min(-15.0), MelConfig()).item() == 0


def test_training_sounds_are_called_copies_and_twins_duplicates(many):
    train, held = store_prints(many, "train"), store_prints(many, "test_instrument")
    found = novelty(many, {"learnt by heart": train[:20], "real": held})["sets"]
    assert found["learnt by heart"]["copies"] == 100 and found["learnt by heart"]["near"] == 100
    assert found["learnt by heart"]["ratio"] < 0.1 < found["real"]["ratio"] and found["real"]["copies"] < 20
    assert duplicate_share(torch.cat([held[:5], held[:1]])) == pytest.approx(2 / 6, abs=0.2)
    assert duplicate_share(held[:1]) == 0


def test_two_reports_are_compared_with_the_interval_of_their_difference(measured):
    figures, draws, _ = measured
    report = {"store": "s", "asked": {}, "sets": figures, "splits": {}, "samples": None}
    worse = json.loads(json.dumps(report))
    worse["sets"]["pairs"]["reconstructed"]["lsd"]["value"] += 1
    key = next(k for k in draws if k.startswith("reconstructed/lsd@"))
    other = draws | {key: draws[key] + 1}
    found = side_by_side({"a": (report, draws), "b": (worse, other)})
    rows = {(r["group"], r["title"]): r for r in found["rows"]}
    row = rows[("reconstructed", "log-spectral distance, dB")]
    assert row["differences"]["b"] == {k: pytest.approx(1.0, abs=1e-5) for k in ("value", "low", "high")}
    assert row["floor"] == figures["pairs"]["copy"]["lsd"]
    same = rows[("sampled", "KAD")]["differences"]["b"]
    assert same == {"value": 0, "low": 0, "high": 0}  # resampled alike: what both have in common falls out
    assert "log-spectral distance" in both(found) and "+1.00 (+1.00 - +1.00)" in both(found)
    # Draws of other groups were not drawn alike: the difference has no interval.
    others = {k: v for k, v in other.items() if k != key} | {"reconstructed/lsd@else": other[key]}
    bare = side_by_side({"a": (report, draws), "b": (worse, others)})["rows"]
    assert next(r for r in bare if r["title"] == row["title"])["differences"]["b"] == pytest.approx(1.0)
    with pytest.raises(UserError, match="another store"):
        side_by_side({"a": (report, draws), "b": (worse | {"store": "t"}, other)})


def test_a_gan_is_measured_by_its_samples_alone(many, judge, tiny_run):
    model = SoundModel.from_pretrained(tiny_run)
    model.vaegan.encoder = None
    figures, *_ = measure_sets(model, many, judge, most=24, say=lambda line: None)
    assert list(figures["rungs"]) == ["real", "real, held out", "copy", "sampled"] and sets.SAMPLED in figures["rungs"]
    assert "reconstructed" not in figures["pairs"]
