"""The verb `export`: generator and vocoder as one file for other programs, ONNX or torch.export."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audio_vaegan.errors import UserError
from audio_vaegan.files import write_atomic
from audio_vaegan.models.vocoder import TrainedVocoder
from audio_vaegan.models.vocoder.portable import PortableVocoder
from audio_vaegan.sound_model import SoundModel

SUFFIXES = {".onnx": "ONNX", ".pt2": "torch.export"}
OPSET = 18
NEAR = 1e-4  # what the file's output may differ by from the model's own


class Portable(nn.Module):
    """Timbre code `[B, D]` and controls in their units `[B, C]` (NaN: undefined) -> audio `[B, clip_samples]`.

    Generator and vocoder alone: what `SoundModel.decode` does after them (levels set as asked, noise) is not in it.
    """

    def __init__(self, model: SoundModel) -> None:
        super().__init__()
        frames = model.recipe.mel.frames(model.clip_samples)
        vocoder = model.vocoder
        if not isinstance(vocoder, TrainedVocoder):
            raise UserError(f"only the vocoder that is trained here can be exported, not {vocoder.name}")
        try:
            self.vocoder = PortableVocoder(vocoder.network, frames)
        except ValueError as e:
            raise UserError(f"the vocoder of this model cannot be exported: {e}") from None
        self.net = model.vaegan
        self.generator = model.vaegan.generator

    def forward(self, timbre: Tensor, controls: Tensor) -> Tensor:
        standard = self.net.standardise(controls)
        mel = self.generator(timbre, torch.nan_to_num(standard), ~torch.isnan(standard))
        audio: Tensor = self.vocoder(self.net.denormalise(mel))
        return audio


def export_model(path: Path, out: Path, *, overwrite: bool = False, vocoder: str = "auto") -> list[str]:
    """Write generator and vocoder as `out` (.onnx or .pt2), with a description beside it, and run it once beside the
    model itself. Returns lines."""
    kind = SUFFIXES.get(out.suffix.lower())
    if kind is None:
        raise UserError(f"--out {out}: give a name that ends in {' or '.join(SUFFIXES)}")
    for file in (out, out.with_suffix(".json")):
        if file.exists() and not overwrite:
            raise UserError(f"--out {out}: {file} exists; choose another name, or add --overwrite")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}")
    model = SoundModel.from_pretrained(path, vocoder=vocoder)
    portable = Portable(model).eval()
    example = example_inputs(model, 2)
    content = _onnx(portable, example) if kind == "ONNX" else _program(portable, example)
    write_atomic(out, content)
    about = {
        "model_hash": model.hash,
        "vocoder": model.vocoder_title,
        "sample_rate": model.sample_rate,
        "inputs": {
            "timbre": ["batch", model.vaegan.timbre_dim],
            "controls": [
                {
                    "name": n,
                    "unit": c.unit,
                    "low": c.low,
                    "high": c.high,
                    **({"classes": c.classes} if c.classes else {}),
                }
                for n, c in model.controls.items()
            ],
        },
        "output": {"audio": ["batch", model.clip_samples]},
        "synthetic": True,
    }
    write_atomic(out.with_suffix(".json"), json.dumps(about, indent=1).encode())
    difference = check(out, model)
    if difference > NEAR:
        raise UserError(f"{out}: differs from the model by {difference:.1e}, more than {NEAR:g}")
    size = len(content) / 1e6
    return [
        f"written: {out} ({kind}, {size:.1f} MB), {out.with_suffix('.json')}",
        f"its output differs from the model's by {difference:.1e} at most",
    ]


def example_inputs(model: SoundModel, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Timbre codes `[B, D]` and controls `[B, C]`, spread over their ranges."""
    random = torch.Generator().manual_seed(seed)
    timbre = torch.randn(count, model.vaegan.timbre_dim, generator=random)
    shares = torch.rand(count, len(model.controls), generator=random)
    values = [c.at(shares[:, k]) for k, c in enumerate(model.controls.values())]
    return timbre, torch.stack(values, dim=1) if values else shares


def check(out: Path, model: SoundModel) -> float:
    """By how much the audio of an exported file differs from the model's own, at most, for five sounds: a share of
    full scale, or of the loudest sample where that lies above."""
    timbre, controls = example_inputs(model, 5, seed=1)
    with torch.no_grad():
        standard = model.vaegan.standardise(controls)
        mel = model.vaegan.generator(timbre, standard.nan_to_num(), ~standard.isnan())
        own = model.vocode(model.vaegan.denormalise(mel), limit=False)
        made = run(out, timbre, controls)
    return float((made - own).abs().max() / own.abs().max().clamp_min(1))


def run(out: Path, timbre: Tensor, controls: Tensor) -> Tensor:
    """The audio `[B, samples]` of an exported file."""
    if out.suffix.lower() == ".pt2":
        program: Any = torch.export.load(out).module()
        found: Tensor = program(timbre, controls)
        return found
    runtime: Any = _needed("onnxruntime")
    session = runtime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    return torch.from_numpy(np.asarray(session.run(None, {"timbre": timbre.numpy(), "controls": controls.numpy()})[0]))


def _program(portable: Portable, example: tuple[Tensor, Tensor]) -> bytes:
    import io

    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(portable, example, dynamic_shapes=({0: batch}, {0: batch}))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _onnx(portable: Portable, example: tuple[Tensor, Tensor]) -> bytes:
    _needed("onnxscript")
    _needed("onnxruntime")
    batch = torch.export.Dim("batch", min=1, max=1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            portable,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=["timbre", "controls"],
            output_names=["audio"],
            dynamic_shapes=({0: batch}, {0: batch}),
            verbose=False,
        )
    content: bytes = program.model_proto.SerializeToString()
    return content


def _needed(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"export to ONNX needs {name}; install it with: pip install 'audio-vaegan[export]'") from None
