"""Ablations: runs that differ in a few lines, trained, measured and compared by one command that can be repeated."""

import json

import pytest
import yaml
from conftest import LOOPBACK, ROOT, TINY, cli, cli_process, one_line

from audio_vaegan.ablation import read_spec
from audio_vaegan.errors import UserError


@pytest.fixture
def spec(tmp_path):
    recipe = yaml.safe_load(TINY)
    recipe["train"] |= {"steps": 4, "monitor": "warn"}
    path = tmp_path / "spec.yaml"
    runs = {"vae": {"objective": "vae"}, "no_pitch": {"objective": "vae", "model": {"controls": []}}}
    path.write_text(yaml.safe_dump({"recipe": recipe, "runs": runs}, sort_keys=False))
    return path


def test_the_ablation_of_the_recipes_is_the_papers_family_on_one_recipe():
    runs = read_spec(ROOT / "recipes" / "ablation.yaml")
    assert [(r.objective, r.routing, r.model.controls) for r in runs.values()] == [
        ("vae", "larsen", ("pitch",)),
        ("vae_disl", "larsen", ("pitch",)),
        ("gan", "larsen", ("pitch",)),
        ("vaegan", "larsen", ("pitch",)),
        ("vaegan", "joint", ("pitch",)),
        ("vaegan", "larsen", ()),
    ]
    own = {"objective": True, "routing": True, "name": True, "model": {"controls"}, "train": {"steps"}}
    alike = [r.model_dump(exclude=own) for r in runs.values()]
    assert all(a == alike[0] for a in alike)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("recipe: {}\nruns: {a: {objective: vae}}", "two runs or more"),
        ("runs: {a: {}, b: {}}", "needs `recipe:`, `runs:`"),
        ("recipe: {}\nruns: {a: {}, b: {}}\nmore: 1", "and nothing else"),
        ("recipe: {}\nruns: {a: {}, ../b: {}}", "letters, digits"),
        ("recipe: {}\nruns: {a: {}, b: 3}", "run b: expected"),
        ("recipe: {}\nruns: {a: {}, b: {objektive: vae}}", "run b"),
        ("recipe: {}\nruns: {a: {}, b: {train: {steps: -1}}}", "train.steps"),
    ],
)
def test_a_mistake_in_a_spec_is_one_line(tmp_path, text, says):
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(UserError) as e:
        read_spec(tmp_path / "spec.yaml")
    assert says in str(e.value) and "\n" not in str(e.value)


@pytest.mark.slow
def test_an_ablation_trains_measures_and_compares_and_does_nothing_twice(spec, tiny_store, tmp_path):
    out = tmp_path / "out"
    words = ("ablation", spec, "--store", tiny_store, "--clips", "4", "--samples", "2", "--sounds", "64", "--out", out)
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "results" / "compare.json").read_text())
    assert found["runs"] == ["vae", "no_pitch"]
    rows = {(r["group"], r["title"]): r for r in found["rows"]}
    whole = rows[("reconstructed, test_note", "pitch within 50 cents, %")]
    assert set(whole["values"]) == {"vae", "no_pitch"} and None not in whole["values"].values()
    assert whole["differences"]["no_pitch"]["low"] <= whole["differences"]["no_pitch"]["value"]
    assert rows[("run", "training steps")]["values"] == {"vae": 4, "no_pitch": 4}
    assert rows[("sampled", "pitch within 50 cents, %")]["values"]["no_pitch"] is None  # none can be asked for
    page = (out / "results" / "compare.html").read_text()
    assert 'href="no_pitch/report.html"' in page and page.count("data:image/png") == 2 and "AI-generated" in page
    assert (out / "results" / "no_pitch" / "report.html").is_file()
    assert "| `vae` | `no_pitch` |" in (out / "results" / "compare.md").read_text()
    report = json.loads((out / "results" / "no_pitch" / "report.json").read_text())
    assert report["moved_by"] == "direction" and report["samples"] is None
    # Again: nothing is trained or measured, and the table is the same.
    before = (out / "vae" / "bundle" / "vaegan.safetensors").stat().st_mtime_ns
    again = cli(*words)
    assert again.returncode == 0 and again.stdout.count("already there") == 4
    assert (out / "vae" / "bundle" / "vaegan.safetensors").stat().st_mtime_ns == before
    assert json.loads((out / "results" / "compare.json").read_text()) == found
    # What no weight depends on may change; what decides a run, or its store, may not, whatever a dry run said before.
    text = spec.read_text()
    spec.write_text(text.replace("monitor: warn", "monitor: 'off'"))
    assert cli(*words).returncode == 0
    spec.write_text(text.replace("steps: 4", "steps: 5"))
    for how in (["--dry-run"], []):
        assert "train.steps: 4 != 5" in one_line(cli(*words, *how))
    assert "another kind" in one_line(cli("ablation", spec, "--store", tiny_store, "--out", out / "results"))


@pytest.mark.slow
def test_an_ablation_is_launched_on_two_processes(spec, tiny_store, tmp_path):
    file = ROOT / "recipes" / "launch" / "two_cpu_processes.yaml"
    words = ("ablation", spec, "--store", tiny_store, "--out", tmp_path / "out", "--launch", file, "--dry-run")
    done = cli_process(*words, env=LOOPBACK)
    assert done.returncode == 0 and done.stdout.count("2 process(es)") == 2, done.stderr
    assert not (tmp_path / "out").exists()  # a dry run writes nothing
