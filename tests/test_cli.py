import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, cli, cli_process, one_line, run

from audio_vaegan.guard import share_cores

VERBS = [
    "quickstart",
    "prepare",
    "render-soundfont",
    "generate",
    "edit",
    "morph",
    "transfer",
    "train-judge",
    "evaluate",
    "bias",
    "ablation",
    "compare",
    "bench",
    "demo",
    "doctor",
]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    done = cli(verb, "--help")
    assert done.returncode == 0 and "usage: audio-vaegan " + verb in done.stdout


def test_help_needs_no_torch():
    code = "import sys, audio_vaegan.cli as c; c.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "VERB"),
        (["generat"], "no verb 'generat'. Did you mean 'generate'? (see: audio-vaegan --help)"),
        (["qqqq"], "no verb 'qqqq' (see: audio-vaegan --help)"),
        (
            ["train"],
            "accelerate launch recipes/train_vaegan.py --recipe R --store STORE --out RUN (a vocoder: recipes/tr",
        ),
        (["train_vocoder", "--steps", "9"], "accelerate launch recipes/train_vocoder.py --recipe R"),
        (["generate", "nowhere", "--out", "x"], "nowhere: not a model"),
        (["generate", "RUN", "--out", "x", "--pich", "3"], "option --pich. Did you mean '--pitch'?"),
        (["generate", "RUN", "--uot", "x"], "option --uot. Did you mean '--out'? (see: audio-vaegan generate --help)"),
        (["generate", "RUN", "--out", "x", "--zzz=3"], "option --zzz (see: audio-vaegan generate --help)"),
        (["generate", "RUN", "a", "--out", "x"], "unrecognized arguments: a (see: audio-vaegan generate --help)"),
        (["prepare", "FILE", "--recipe", "RECIPE", "--otu", "x", "--seed", "1"], "Did you mean '--out'?"),
        (["generate", "RUN", "--out", "x", "--pitch", "high"], "--pitch"),
        (["generate", "RUN", "--out", "x", "--pitch", "200"], "trained range 60 ... 69"),
        (["generate", "RUN", "--out", "x", "--pitch", "nan"], "must be a number"),
        (["generate", "RUN", "--out", "x", "--count", "0"], "--count"),
        (["generate", "RUN", "--out", "x", "--seed", "-1"], "--seed"),
        (["generate", "RUN", "--out", "FILE"], "a file of that name exists"),
        (["edit", "RUN", "nowhere.wav", "--out", "x.wav"], "nowhere.wav"),
        (["edit", "RUN", "FILE", "--out", "x.wav"], "cannot be decoded"),
        (["edit", "RUN", "FILE", "--out", "x.mp3"], "ends in .wav"),
        (["edit", "RUN", "FILE", "--out", "no/such/folder/x.wav"], "there is no folder"),
        (["prepare", "nowhere", "--recipe", "RECIPE", "--out", "x"], "nowhere: no such file"),
        (["prepare", "FILE", "--recipe", "FILE", "--out", "x"], "expected `key: value`"),
        (["prepare", "FILE", "--recipe", "RECIPE", "--out", "x", "--mel", "hifigan"], "no mel preset 'hifigan'"),
        (["evaluate", "RUN", "--store", "nowhere", "--out", "x"], "nowhere: not a store"),
        (["evaluate", "RUN", "--store", "STORE", "--out", "x", "--samples", "0"], "at least 1"),
        (["evaluate", "RUN", "--store", "STORE", "--out", "x", "--truncation", "3"], "0 ... 2"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_two(tmp_path, tiny_run, tiny_store, tiny_recipe, mistake, words, says):
    (tmp_path / "text.wav").write_text("just words")
    names = {"RUN": tiny_run, "STORE": tiny_store, "RECIPE": tiny_recipe, "FILE": tmp_path / "text.wav"}
    words = [names.get(w, w) for w in words]
    words = [tmp_path / w if w in ("x", "x.wav", "x.mp3", "no/such/folder/x.wav") else w for w in words]
    assert says in mistake(*words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.wav"]  # nothing was written


def test_a_bundle_of_another_mel_is_named_field_by_field(tmp_path, notes, tiny_recipe, tiny_run):
    store = tmp_path / "store"
    assert cli("prepare", notes, "--recipe", tiny_recipe, "--mel.hop_length", "128", "--out", store).returncode == 0
    line = one_line(cli("evaluate", tiny_run, "--store", store, "--out", tmp_path / "report"))
    assert "hop_length: 128 != 256" in line


def test_recipes_stay_small():
    scripts = list((ROOT / "recipes").glob("*.py"))
    assert scripts and all(len(s.read_text().splitlines()) <= 30 for s in scripts)


@pytest.mark.slow
def test_a_torchaudio_that_does_not_fit_is_named_with_the_mend(tmp_path, tiny_run):
    """A stand-in for torchaudio that fails as the real one does beside a CPU-only torch."""
    fake = tmp_path / "torchaudio"
    (fake / "lib").mkdir(parents=True)
    (fake / "lib" / "_torchaudio.so").write_bytes(b"")
    (fake / "functional.py").write_text("")
    (fake / "__init__.py").write_text(
        "from pathlib import Path\n__version__ = '2.11.0'\nlib = Path(__file__).parent / 'lib' / '_torchaudio.so'\n"
        "if lib.exists():\n    raise OSError(f'Could not load this library: {lib}')\n"
    )
    env = {"PYTHONPATH": str(tmp_path)}
    line = one_line(cli_process("generate", tiny_run, "--out", tmp_path / "x", env=env))
    assert "audio-vaegan doctor --fix" in line
    sick = cli_process("doctor", env=env)
    assert sick.returncode == 1 and "does not fit this build of torch" in sick.stdout and "--fix" in sick.stdout
    mended = run([sys.executable, "-m", "audio_vaegan.doctor", "--fix", "--quiet"], env)
    assert mended.returncode == 0 and "set aside" in mended.stdout
    assert not (fake / "lib" / "_torchaudio.so").exists() and (fake / "lib" / "_torchaudio.so.disabled").exists()
    well = cli_process("doctor", env=env)
    assert well.returncode == 0 and "everything needed works" in well.stdout
    assert "python" in well.stdout and "memory" in well.stdout and "disk" in well.stdout and "GPU" in well.stdout


@pytest.mark.parametrize("begin", [["-m", "audio_vaegan", "doctor"], [str(ROOT / "recipes" / "train_vaegan.py")]])
def test_ctrl_c_while_a_command_is_still_loading_is_no_traceback(begin):
    command = [sys.executable, "-X", "importtime", *begin]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        while "audio_vaegan.guard" not in (line := process.stderr.readline()):
            assert line
        while "pydantic" not in (line := process.stderr.readline()):  # of the many that the command needs
            assert line
        process.send_signal(signal.SIGINT)
        said = [line for line in process.stderr.read().splitlines() if not line.startswith("import time:")]
    assert process.returncode == 130 and said == ["interrupted; the same command goes on"]


def test_threads_that_wait_sleep_unless_the_user_says_otherwise(monkeypatch):
    for said, then in (("", "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.setenv("OMP_WAIT_POLICY", said)
        monkeypatch.setenv("GOMP_SPINCOUNT", "7")
        if not said:
            monkeypatch.delenv("OMP_WAIT_POLICY")
        share_cores()
        assert os.environ["OMP_WAIT_POLICY"] == then and os.environ["GOMP_SPINCOUNT"] == "7"
    code = "import sys; import audio_vaegan.__main__; assert 'torch' not in sys.modules"  # else it comes too late
    assert run([sys.executable, "-c", code]).returncode == 0
