import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import RATE, tone

from audio_vaegan.data.store import Store
from audio_vaegan.descriptors import measure
from audio_vaegan.descriptors.judge_controls import judge_control
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation import controls as evaluation
from audio_vaegan.evaluation.control_table import table, targets
from audio_vaegan.evaluation.controls import (
    control_figures,
    covariation,
    errors,
    evaluate_controls,
    linear,
    rungs,
    worse,
)
from audio_vaegan.evaluation.methods import Step, along, compare_methods, fit
from audio_vaegan.evaluation.methods import table as methods_table
from audio_vaegan.evaluation.pitch import Judge
from audio_vaegan.evaluation.report import control_section
from audio_vaegan.evaluation.sweep import judged, listen, sweep
from audio_vaegan.models.controls import Control
from audio_vaegan.sound_model import Sound, SoundModel

CONTROLS = {
    "pitch": Control("pitch", "semitones (MIDI)", 45, 75, 60, 6, 60),
    "loudness": Control("loudness", "LUFS", -40, -10, -25, 5, 60),
    "decay": Control("decay", "dB/s", 0, 200, 20, 10, 60, bend=20.0),
}
NAMES = [*CONTROLS]
COUNT = 40
EYE = np.eye(3)


class FakeModel:
    """Its audio is the values of its controls, in their units: out = response @ standardised coordinates."""

    sample_rate, encodes, controls, prior = RATE, True, CONTROLS, None

    def __init__(self, response=EYE):
        self.response = torch.as_tensor(response, dtype=torch.float32)

    def units(self, standard):
        return torch.stack([c.value(standard[:, k]) for k, c in enumerate(CONTROLS.values())], dim=1)

    def decode(self, sound):
        return SimpleNamespace(audio=self.units(sound.z[:, :3].nan_to_num(0.0) @ self.response.T))

    def edit(self, sound, *, set, closed_loop=False):
        """The closed loop is perfect: what is asked is there, all else stays as in the plain reconstruction."""
        ((name, value),) = set.items()
        audio, k = self.decode(sound).audio, NAMES.index(name)
        asked = CONTROLS[name].wanted(value, len(sound))
        if closed_loop:
            audio[:, k] = asked
            return SimpleNamespace(audio=audio)
        z = sound.z.clone()
        z[:, k] = CONTROLS[name].standard(asked)
        return self.decode(replace(sound, z=z))

    def vocode(self, mel):
        return mel

    def sample(self, count, *, seed, first, prior, pitch):
        return SimpleNamespace(audio=torch.as_tensor(pitch, dtype=torch.float32)[:, None])


class FakeJudge:
    """Reads the fake audio; hears nothing of a control for which `deaf(values)` is true."""

    def __init__(self, deaf=None):
        self.deaf = deaf or {}

    def measure_controls(self, audio, sample_rate, names, lengths=None, name="judge", fine=False):
        found = {}
        for n in names:
            values = audio[:, NAMES.index(n)].astype(np.float64)
            found[n] = np.where(self.deaf[n](values), np.nan, values) if n in self.deaf else values
        return found


def clips(spread=0.3, seed=0):
    """Clips of eight instruments, near the middle of every range: no step leads out of it."""
    standard = torch.from_numpy(np.random.default_rng(seed).normal(0, spread, (COUNT, 3))).float().clamp(-0.9, 0.9)
    audio = FakeModel().units(standard)
    values = {n: audio[:, k].clone() for k, n in enumerate(NAMES)}
    sound = Sound(standard, values, torch.full((COUNT,), 3))
    return SimpleNamespace(audio=audio, mel=audio.clone(), sound=sound, groups=[f"g{i % 8}" for i in range(COUNT)])


def figures_of(model=None, held=None, judge=None, **options):
    made = sweep(model or FakeModel(), held or clips(), NAMES, judge or FakeJudge(), **options)
    return {n: control_figures(made, n) for n in NAMES}


def leaky(i, j, amount):
    response = EYE.copy()
    response[NAMES.index(j), NAMES.index(i)] = amount
    return response


def test_a_perfect_control():
    for name, f in figures_of().items():
        assert f["n"] == 4 * COUNT and f["rejected"] == 0 and f["unmeasurable"] == 0 and f["outside"] == 0
        for key in ("r", "rho", "change_r", "slope", "monotone", "range"):
            assert f[key]["value"] == pytest.approx(1, abs=1e-4), (name, key)
        assert f["error"]["value"] == pytest.approx(0, abs=1e-4) and f["p95"] < 1e-3
        assert all(leak["value"] == pytest.approx(0, abs=1e-4) for leak in f["leakage"].values())
        assert f["leakage"].keys() == {*NAMES} - {name}
    pitch = figures_of()["pitch"]
    assert pitch["within"]["value"] == 100 and pitch["median_cents"] < 0.1
    assert figures_of()["decay"]["leakage"]["pitch"]["median"] == pytest.approx(0, abs=0.1)


def test_a_dead_control_and_a_weak_one():
    f = figures_of(FakeModel(np.diag([1, 0, 0.5])))
    dead, weak = f["loudness"], f["decay"]
    assert dead["slope"]["value"] == pytest.approx(0, abs=1e-6) and dead["change_r"]["value"] == 0
    assert dead["r"]["value"] == 0 and dead["monotone"]["value"] == 0 and dead["range"]["value"] == 0
    assert weak["slope"]["value"] == pytest.approx(0.5, abs=1e-4) and weak["change_r"]["value"] == pytest.approx(1)
    assert weak["range"]["value"] == pytest.approx(0.5, abs=1e-4) and weak["monotone"]["value"] == 1


def test_a_leak_is_what_was_put_in():
    timbre = figures_of(FakeModel(leaky("loudness", "decay", 0.3)))["loudness"]["leakage"]
    assert timbre["decay"]["value"] == pytest.approx(0.3, abs=1e-4) and timbre["pitch"]["value"] < 1e-4
    assert timbre["decay"]["low"] == pytest.approx(0.3, abs=1e-4)
    cents = figures_of(FakeModel(leaky("loudness", "pitch", -0.01)))["loudness"]["leakage"]["pitch"]
    assert cents["median"] == pytest.approx(12, abs=0.05)  # 0.01 * 2 deviations of 6 semitones
    octave = figures_of(FakeModel(leaky("pitch", "decay", 0.3)))["pitch"]["leakage"]["decay"]
    assert octave["value"] == pytest.approx(0.6, abs=1e-4)  # an octave is two of its deviations


def test_the_closed_loop_and_any_other_edit_are_measured_alike():
    model = FakeModel(np.diag([1, 0.5, 1]))
    assert figures_of(model)["loudness"]["slope"]["value"] == pytest.approx(0.5, abs=1e-4)
    assert figures_of(model, closed_loop=True)["loudness"]["error"]["value"] < 0.01
    vector = np.array([0.0, 2.0, 0.2])
    f = figures_of(model, edit=along(model, {n: Step(vector) for n in NAMES}))["loudness"]
    assert f["slope"]["value"] == pytest.approx(1, abs=1e-4)
    assert f["leakage"]["decay"]["value"] == pytest.approx(0.2, abs=1e-4)
    f = figures_of(model, edit=along(model, {n: Step(vector, 0.5) for n in NAMES}))["loudness"]
    assert f["range"]["value"] == pytest.approx(0.5, abs=1e-4)


def test_the_share_that_the_closed_loop_makes_worse():
    model = FakeModel(np.diag([1, 0.5, 1]))
    opened, closed = (sweep(model, clips(), NAMES, FakeJudge(), closed_loop=loop) for loop in (False, True))
    assert worse(opened, closed, "loudness") == 0 and worse(closed, opened, "loudness") == 100
    assert worse(opened, closed, "decay") == 0 == worse(closed, opened, "decay")


def test_what_is_not_asked_rejected_or_not_measurable_is_counted():
    held = clips()
    own = held.sound.controls["loudness"]
    own[:10] = torch.nan  # ten clips do not define it
    held.sound.z[:10, 1] = torch.nan
    held.sound.z[10:20, 1], own[10:20] = 2.5, -12.5  # ten stand half a deviation below the top: one step of two up
    held.audio[10:20, 1] = -12.5
    held.mel = held.audio.clone()
    held.mel[30:40, 1] += 0.6 * 5  # the copies of ten others say something else
    f = figures_of(held=held, judge=FakeJudge({"loudness": lambda v: v > -11}))["loudness"]
    assert f["outside"] == pytest.approx(100 * 10 / 120)
    assert f["n"] == 70 and f["rejected"] == pytest.approx(100 * 40 / 110)
    assert f["unmeasurable"] == pytest.approx(100 * 10 / 70)  # of 70 requests the ten to the very top
    assert f["error"]["value"] == pytest.approx(2 * 10 / 70, abs=1e-3)  # each counts as two deviations
    assert f["p95"] == pytest.approx(10) and f["r"]["value"] == pytest.approx(1, abs=1e-4)
    assert f["monotone"]["value"] == pytest.approx(1 - 10 / 50)


def test_what_can_no_longer_be_measured_is_lost():
    judge = FakeJudge({"pitch": lambda v: v > 65})
    f = figures_of(FakeModel(leaky("decay", "pitch", 5.0)), judge=judge)["decay"]
    assert f["leakage"]["pitch"]["lost"] > 10 and f["leakage"]["pitch"]["n"] < f["n"]


def test_an_unmeasurable_output_counts_as_the_largest_error_if_that_is_more():
    control = CONTROLS["loudness"]
    f = errors(control, np.full(4, -25.0), np.array([-25, -25, -10, np.nan]), np.array([*"abcd"]))
    assert f["error"]["value"] == pytest.approx((3 + 3) / 4) and f["unmeasurable"] == 25
    pitch = errors(CONTROLS["pitch"], np.full(4, 60.0), np.array([60, 60.4, 60.6, np.nan]), np.array([*"abcd"]))
    assert pitch["within"]["value"] == 50 and pitch["median_cents"] == pytest.approx(50)


def test_intervals_hold_the_truth_and_shrink():
    rng = np.random.default_rng(1)
    inside, widths = 0, []
    for _ in range(40):
        groups = np.repeat(np.arange(30).astype(str), 10)
        x = rng.normal(0, 1, 300)
        y = 0.8 * x + rng.normal(0, 0.3, 300) + np.repeat(rng.normal(0, 0.3, 30), 10)
        slope = linear(x, y, groups)["slope"]
        inside += slope["low"] <= 0.8 <= slope["high"]
        widths.append(slope["high"] - slope["low"])
    assert 34 <= inside <= 40 and 0.02 < np.mean(widths) < 0.2
    r = linear(x, x**3, groups)
    assert linear(x, x**3, groups, ranks=True)["r"]["value"] == pytest.approx(1) and r["r"]["value"] < 0.95
    assert linear(x, np.full(300, np.nan), groups)["r"]["value"] is None


def test_the_meters_floor_is_seen_before_any_edit():
    held = clips()
    held.audio[:, 1] += 1  # the real clips are 0.2 deviations from their labels, their copies are not
    heard = listen(FakeModel(np.diag([1, 0.5, 1])), held, NAMES, FakeJudge())
    found = rungs(heard, "loudness")
    assert found["real"]["error"]["value"] == pytest.approx(0.2, abs=1e-4)
    assert found["copy"]["error"]["value"] == pytest.approx(0, abs=1e-4)
    assert found["reconstructed"]["error"]["value"] > 0.05


class FakeStore:
    """Training clips in which decay falls by half a deviation for each of loudness."""

    path = "fake"

    def __init__(self):
        x = torch.from_numpy(np.random.default_rng(3).normal(0, 0.8, 200))
        standard = torch.stack([torch.roll(x, 7), x, -0.5 * x], dim=1)
        self._values = FakeModel().units(standard).numpy()
        self._values[:20, 2] = np.nan

    def split(self, name):
        return np.arange(200) if name == "train" else np.arange(COUNT)

    def values(self, name, classes=()):
        return self._values[:, NAMES.index(name)].astype(np.float32)


def fake_evaluation(monkeypatch, model, **options):
    monkeypatch.setattr(evaluation, "Held", lambda model, store, rows: clips())
    return evaluate_controls(model, FakeStore(), judge=FakeJudge(), say=lambda text: None, **options)


def test_the_data_has_its_own_covariation():
    found = covariation(FakeStore(), CONTROLS)
    assert found["loudness"]["decay"] == pytest.approx(0.5, abs=1e-4)
    assert found["decay"]["loudness"] == pytest.approx(2, abs=1e-3)
    assert found["pitch"]["loudness"] < 0.3


def test_targets_are_met_by_a_perfect_model_and_a_miss_is_printed_as_a_miss(monkeypatch):
    good = fake_evaluation(monkeypatch, FakeModel())
    assert json.loads(json.dumps(good, allow_nan=False)) == good
    assert all(t["met"] for t in good["targets"]) and "MISSED" not in table(good)
    assert good["samples"]["normal"]["within"] == 100 and "fitted" not in good["samples"]
    bad = fake_evaluation(monkeypatch, FakeModel(np.diag([1, 0.5, 1]) + leaky("decay", "pitch", 0.2) - EYE))
    missed = {(t["loop"], t["control"], t["figure"]) for t in bad["targets"] if not t["met"]}
    assert ("open", "loudness", "mean error, sd") in missed and all(loop == "open" for loop, _, _ in missed)
    assert ("open", "decay", "pitch moved, median cents per 2 sd") in missed
    text = table(bad)
    assert "edits that the closed loop made worse, by the judge: pitch 0 %" in text
    assert "MISSED loudness (open loop) mean error, sd" in text and "0.50]" in text
    section = control_section(bad)
    assert len(section["plots"]) == 3 and all(p["picture"].startswith("data:image/png") for p in section["plots"])
    (matrix, _) = section["matrices"]
    cell = next(c for row in matrix["rows"] if row["name"] == "decay" for c in row["cells"] if "0.20" in c["text"])
    assert cell["heat"] > 10


def test_with_nothing_to_measure_there_is_no_number_and_no_crash(monkeypatch):
    deaf = FakeJudge({n: lambda v: np.ones(len(v), dtype=bool) for n in NAMES})
    monkeypatch.setattr(evaluation, "Held", lambda model, store, rows: clips())
    f = evaluate_controls(FakeModel(), FakeStore(), judge=deaf, say=lambda text: None)
    assert json.dumps(f, allow_nan=False) and f["loops"]["open"]["decay"]["rejected"] == 100
    assert "NOTHING MEASURED" in table(f) and control_section(f)["plots"] and targets(f)


def test_directions_of_a_linear_latent_move_what_they_should():
    rng = np.random.default_rng(5)
    z = rng.normal(0, 1, (300, 6))
    z[:, 4] = 3 * z[:, 1]  # one strong component goes with loudness
    z[:30, 2] = np.nan
    groups = [f"g{i % 20}" for i in range(300)]
    found = fit(z, ["loudness"], CONTROLS, groups)
    for method in ("joint", "svm", "mean"):
        assert isinstance(found[method]["loudness"], Step) and found[method]["loudness"].vector.shape == (6,)
    pca = found["pca"]["loudness"]
    assert pca.vector[1] == pytest.approx(1, abs=0.1) and pca.most == pytest.approx(3, abs=0.3)
    assert isinstance(fit(z[:5], ["loudness"], CONTROLS, groups[:5])["joint"]["loudness"], str)


def test_undefined_controls_stay_undefined_along_a_direction():
    seen = []
    model = FakeModel()
    model.decode = lambda sound: seen.append(sound.z) or SimpleNamespace(audio=torch.zeros(len(sound), 3))
    sound = clips().sound
    sound.z[0, 2] = torch.nan
    along(model, {"loudness": Step(np.ones(3))})(sound, "loudness", sound.controls["loudness"] + 5)
    assert seen[0][0, 2].isnan() and torch.allclose(seen[0][1:] - sound.z[1:], torch.ones(COUNT - 1, 3), atol=1e-4)


class OwnMeter:
    """What labels data, for speed."""

    def measure_controls(self, audio, sample_rate, names, lengths=None, name="judge", fine=False):
        found = measure(torch.from_numpy(audio), sample_rate, None if lengths is None else torch.from_numpy(lengths))
        return {n: found[n].double().numpy() for n in names}


def test_the_judge_hears_controls_of_tones_and_only_as_long_as_they_are():
    half, whole = RATE // 2, tone(60, 1.0)
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    audio = np.stack([whole, 0.5 * whole, np.where(np.arange(RATE) < half, tone(67, 1.0), noise)])
    names = ["loudness", "pitch", "brightness"]
    with Judge(1) as judge:
        found = judge.measure_controls(audio, RATE, names, [half, half, half], fine=True)
        assert judge.measure_controls(audio[:0], RATE, ["pitch"])["pitch"].shape == (0,)
    assert [*found] == names and found["pitch"] == pytest.approx([60, 60, 67], abs=0.03)
    assert found["loudness"][0] - found["loudness"][1] == pytest.approx(6.02, abs=0.05)
    assert found["brightness"] == pytest.approx([judge_control("brightness", a[:half], RATE) for a in audio])


def test_a_tiny_model_is_measured_end_to_end(tiny_run, tiny_store):
    model, store = SoundModel.from_pretrained(tiny_run), Store(tiny_store)
    said, judge = [], OwnMeter()
    f = evaluate_controls(model, store, clips=4, judge=judge, samples=4, say=said.append)
    assert judged(model) == ["pitch"] and f["clips"] == 4 and said
    assert json.dumps(f, allow_nan=False) and f["loops"].keys() == {"open", "closed"}
    assert f["rungs"]["pitch"]["real"]["within"]["value"] == 100 and f["samples"]["normal"]["n"] == 4
    assert "MISSED" in table(f)
    methods = compare_methods(model, store, clips=2, judge=judge, say=said.append)
    assert json.dumps(methods, allow_nan=False) and len(methods["methods"]) == 6
    assert "mean difference" in methods_table(methods) and control_section(f, methods)["methods"]
    with pytest.raises(UserError, match="no clip in its split"):
        evaluate_controls(model, store, "nonsense", judge=judge)
