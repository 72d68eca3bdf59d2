"""What this machine has, what is missing, and the mend. Runs with nothing but the standard library at hand."""

import argparse
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROBE = """
import json, warnings
warnings.simplefilter("ignore")
out = {}
import torch
out["torch"] = torch.__version__
out["cuda"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
out["cuda_memory"] = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
out["mps"] = torch.backends.mps.is_available()
out["threads"] = torch.get_num_threads()
print(json.dumps(out))
"""

FIX = "audio-vaegan doctor --fix   (sets the compiled part aside; torchaudio then runs in pure PyTorch)"


@dataclass(frozen=True)
class Finding:
    """One line of the report: `state` is ok, missing (optional), or broken."""

    name: str
    state: str
    detail: str
    mend: str = ""


def _python(code: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def check_torchaudio() -> Finding:
    """Import torchaudio in a process of its own and name the known failure."""
    code, out, err = _python("import torchaudio; print(torchaudio.__version__)")
    if code == 0:
        return Finding("torchaudio", "ok", out)
    reason = err.splitlines()[-1] if err else f"exit code {code}"
    if importlib.util.find_spec("torchaudio") is None:
        return Finding("torchaudio", "broken", "not installed", "pip install torchaudio")
    if _python("import torch")[0]:
        return Finding("torchaudio", "broken", "torch itself cannot be imported", "mend torch first")
    if any(part in reason for part in ("torchaudio/lib", "libc10", "libtorch", "libcudart", "undefined symbol")):
        detail = f"its compiled part does not fit this build of torch ({reason})"
        return Finding("torchaudio", "broken", detail, FIX)
    return Finding("torchaudio", "broken", reason, "pip install --force-reinstall torchaudio")


def compiled_parts() -> list[Path]:
    """torchaudio's shared libraries, found without importing it."""
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        return []
    return sorted((Path(spec.origin).parent / "lib").glob("*.so"))


def fix_torchaudio() -> bool:
    """Set torchaudio's shared libraries aside (`*.so.disabled`), so that it takes its pure PyTorch paths.

    Returns whether it imports then; if it does not, the libraries are put back.
    """
    moved = [(path, path.replace(path.with_name(path.name + ".disabled"))) for path in compiled_parts()]
    if check_torchaudio().state == "ok":
        for _, aside in moved:
            print(f"set aside: {aside}")
        return True
    for path, aside in moved:
        aside.replace(path)
    return False


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def _devices() -> list[Finding]:
    code, out, err = _python(PROBE)
    if code:
        last = err.splitlines()[-1] if err else ""
        return [
            Finding("torch", "broken", last, "pip install torch (PyTorch's own page has the command for your device)")
        ]
    seen = json.loads(out)
    found = [Finding("torch", "ok", f"{seen['torch']}, {seen['threads']} threads")]
    gpus = [f"{n} ({_gib(m)})" for n, m in zip(seen["cuda"], seen["cuda_memory"], strict=True)]
    detail = ", ".join(gpus) if gpus else "none: training runs on the CPU" + (" (MPS is there)" if seen["mps"] else "")
    found.append(Finding("GPU", "ok", detail))
    return found


def _memory() -> Finding:
    try:
        import psutil
    except ImportError:
        return Finding("memory", "broken", "psutil is not installed", "pip install audio-vaegan")
    m = psutil.virtual_memory()
    return Finding("memory", "ok", f"{_gib(m.total)}, {_gib(m.available)} free")


def _module(module: str, name: str, use: str, mend: str, optional: bool = True) -> Finding:
    code, _, err = _python(f"import {module}")
    if code == 0:
        return Finding(name, "ok", use)
    reason = err.splitlines()[-1] if err else "cannot be imported"
    return Finding(name, "missing" if optional else "broken", f"{use}: {reason}", mend)


def examine() -> list[Finding]:
    """Every check, in the order of the report."""
    disk = shutil.disk_usage(Path.cwd())
    return [
        Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}"),
        *_devices(),
        check_torchaudio(),
        _module("soundfile", "soundfile", "reads and writes sound files", "pip install soundfile", optional=False),
        _module("librosa", "librosa", "measures sounds", "pip install librosa", optional=False),
        _module("accelerate", "accelerate", "trains", "pip install accelerate", optional=False),
        _memory(),
        Finding("disk", "ok" if disk.free > 2**30 else "missing", f"{_gib(disk.free)} free here"),
        _module(
            "fluidsynth",
            "fluidsynth",
            "render-soundfont",
            "pip install 'audio-vaegan[soundfont]' and the system library "
            "(Debian, Ubuntu: apt install libfluidsynth3; macOS: brew install fluid-synth)",
        ),
        _module("gradio", "gradio", "demo", "pip install 'audio-vaegan[demo]'"),
        _module("swift_f0", "swift-f0", "second pitch meter", "pip install 'audio-vaegan[evaluate]'"),
    ]


def run(fix: bool = False, quiet: bool = False) -> int:
    """Print the report. Returns 0 when everything needed works, else 1."""
    if fix and check_torchaudio().mend == FIX:
        fix_torchaudio()
    if quiet:
        finding = check_torchaudio()
        if finding.state == "broken":
            print(f"broken: {finding.name}: {finding.detail}\n  mend: {finding.mend}", file=sys.stderr)
        return int(finding.state == "broken")
    findings = examine()
    for f in findings:
        print(f"{f.state:8}{f.name:12}{f.detail}")
        if f.mend and f.state != "ok":
            print(f"{'':20}mend: {f.mend}")
    broken = [f.name for f in findings if f.state == "broken"]
    print("everything needed works" if not broken else f"does not work yet: {', '.join(broken)}")
    return int(bool(broken))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m audio_vaegan.doctor", description=__doc__)
    parser.add_argument("--fix", action="store_true", help="mend what can be mended here")
    parser.add_argument("--quiet", action="store_true", help="only torchaudio, and only if it is broken")
    args = parser.parse_args()
    return run(args.fix, args.quiet)


if __name__ == "__main__":
    sys.exit(main())
