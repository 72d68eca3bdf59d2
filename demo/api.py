"""For scripts: the actions of Play as functions of named values, which return plain ones."""

import inspect
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio_client.utils import is_file_obj_with_meta

from audio_vaegan.errors import UserError

from .desk import Desk, Opened, number, plainly, seed_of

Made = tuple[dict, str, dict[str, float | None], str]  # its file, its address, its controls as measured, notes


def serve(desk: Desk) -> None:
    """Give the page of a desk its actions for scripts."""
    model = desk.model

    def sample(seed: int = 1, truncation: float = 1.0, **controls: Any) -> Made:
        """A new sound; controls that are not given are drawn."""
        asked = _given(desk, controls)
        return _made(desk, desk.open(desk.drawn(seed_of(seed), number(truncation, "truncation"), asked)))

    def open_address(address: str) -> Made:
        """The sound at an address."""
        return _made(desk, desk.open(address))

    def upload(file: dict) -> Made:
        """A sound of your own, as the model makes it: `handle_file(path)`."""
        if not is_file_obj_with_meta(file):  # only such are known to be a user's own
            raise UserError("Give a sound first: handle_file(path)")
        sound, notes = desk.upload(file["path"])
        return _made(desk, desk.open(desk.address(sound)), *notes)

    def edit(address: str, closed_loop: bool = False, move: dict[str, float] | None = None, **controls: Any) -> Made:
        """The sound at an address with controls set to values in their units, and moved along directions by their
        names; what is not given stays."""
        if not isinstance(move, dict | None):
            raise UserError("move: give names of directions with numbers")
        along = {name: number(v, name) for name, v in (move or {}).items()}
        return _made(desk, desk.change(desk.open(address), _given(desk, controls), along, bool(closed_loop))[0])

    kinds: dict[str, type] = {n: str if c.classes else float for n, c in model.controls.items()}
    heavy: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
    for name, fn in (("sample", sample), ("open", open_address), ("edit", edit)):
        gr.api(_named(fn, kinds), api_name=name, **heavy)
    if model.encodes:
        gr.api(_named(upload, {}), api_name="upload", **heavy)


def _named(fn: Callable[..., Made], controls: dict[str, type]) -> Callable[..., Made]:
    """The function with a parameter for each control in place of `**controls`, and a user's mistake in words."""
    signature = inspect.signature(fn)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    if len(own) < len(signature.parameters):
        own += [
            inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=kind | None)
            for n, kind in controls.items()
            if n.isidentifier() and n not in signature.parameters
        ]

    def called(*given: Any) -> Made:
        try:
            return fn(**dict(zip((p.name for p in own), given, strict=True)))
        except UserError as e:
            raise plainly(e) from None

    called.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in own}
    called.__doc__ = fn.__doc__
    return called


def _given(desk: Desk, controls: dict[str, Any]) -> dict[str, float | str]:
    known = desk.model.controls
    return {n: str(v) if known[n].classes else number(v, n) for n, v in controls.items() if v is not None}


def _made(desk: Desk, made: Opened, *notes: str) -> Made:
    file = gr.FileData(path=desk.wav(made.clip, made.sound, made.address, "sound"), orig_name="sound.wav").model_dump()
    numbers = [n for n, c in desk.model.controls.items() if not c.classes]
    measured = {n: v if (v := float(made.measured[n][0])) == v else None for n in numbers}
    return file, made.address, measured, "\n".join([*notes, *made.notes])
