"""A checkpoint's tensors: read without running code from the file, weight norm fused, checked against a network."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from audio_vaegan.errors import UserError

# Direction and length of a weight under weight norm (Salimans & Kingma 2016), in PyTorch's older and newer names.
WEIGHT_NORM = {
    "weight_v": "weight_g",
    "parametrizations.weight.original1": "parametrizations.weight.original0",
}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The float32 tensors of a file by name: safetensors, or a pickle of tensors, bare or under `generator`."""
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load(path.read_bytes())
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        if "GLOBAL" in str(e) or "Unsupported class" in str(e):
            raise UserError(
                f"{path}: holds more than tensors, and what else is in it could run code: not opened; "
                "take the published file, or save the generator's tensors alone"
            ) from None
        raise _unreadable(path, e) from None
    except Exception as e:  # a damaged file can raise anything
        raise _unreadable(path, e) from None
    if isinstance(content, dict) and isinstance(content.get("generator"), dict):
        content = content["generator"]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(
            f"{path}: not a generator's tensors by name; give the generator's file, not the training state's"
        )
    return {str(name): value.float() for name, value in content.items()}


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [""])[0][:120]
    return UserError(f"{path}: damaged or no checkpoint ({type(error).__name__}: {reason}); fetch the file again")


def fuse_weight_norm(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Replace each direction v and length g by the weight g v / |v|, the norm taken over all but the first dimension.

    What is fused already stays as it is.
    """
    fused = dict(tensors)
    for name in tensors:
        for direction, length in WEIGHT_NORM.items():
            layer = name.removesuffix(direction)
            if layer == name or layer + length not in tensors:
                continue
            v, g = fused.pop(name), fused.pop(layer + length)
            if v.ndim < 2 or g.numel() != len(v):
                shapes = f"{list(g.shape)} and {list(v.shape)}"
                raise UserError(
                    f"{path}: {layer + length} and {name} have shapes {shapes}, which do not fit each other"
                )
            norm = v.flatten(1).norm(dim=1)
            fused[layer + "weight"] = v * (g.flatten() / norm).view(-1, *[1] * (v.ndim - 1))
    return fused


def fit(network: nn.Module, tensors: dict[str, Tensor], constants: dict[str, Tensor], path: Path) -> None:
    """Put a checkpoint's tensors into a network, which may be on the meta device.

    All of the network's must be there and finite, in its shapes, and no others but the constants (windows, filters),
    which must have the values that this program computes.
    """
    wanted = network.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - wanted.keys() - constants.keys())
    if missing or unknown:
        named = {"missing": missing, "unknown": unknown}
        parts = [f"{len(odd)} tensors {what} (first: {odd[0]})" for what, odd in named.items() if odd]
        raise UserError(f"{path}: {' and '.join(parts)}; take the config and the generator of one model")
    for name, value in tensors.items():
        expected = wanted[name] if name in wanted else constants[name]
        if value.shape != expected.shape:
            shapes = f"{list(value.shape)}, its config says {list(expected.shape)}"
            raise UserError(f"{path}: {name} has shape {shapes}; take the config and the generator of one model")
        if not torch.isfinite(value).all():
            raise UserError(f"{path}: {name} holds NaN or infinite values; fetch the file again")
        if name in constants and not torch.allclose(value, constants[name], rtol=0, atol=1e-3):  # half precision
            raise UserError(
                f"{path}: {name} is not what its config says; this variant of the model is not known here, "
                "take one of the published models"
            )
    weights = {name: tensors[name].contiguous() for name in wanted}
    network.load_state_dict(weights, assign=True)
