"""Sliders of controls in their units, and of directions."""

import math

import gradio as gr

from audio_vaegan.control.directions import Direction
from audio_vaegan.models.controls import Control
from audio_vaegan.sound_model import Sound

from .desk import PITCH_STEP, Desk


def step_of(control: Control) -> float:
    """Of a slider: a hundredth to a thousandth of the range, round."""
    if control.name == "pitch":
        return PITCH_STEP
    return float(10 ** math.floor(math.log10((control.high - control.low) / 100)))


def ends_of(control: Control) -> tuple[float, float]:
    """Round ends of a slider within the control's range."""
    step = step_of(control)
    digits = max(0, -round(math.log10(step)))
    return round(math.ceil(control.low / step - 1e-6) * step, digits), round(
        math.floor(control.high / step + 1e-6) * step, digits
    )


def standing(control: Control, sound: Sound) -> float | None:
    """Where a slider stands for a sound: at its value, within the range, round; None where it is undefined."""
    value = float(sound.controls[control.name][0])
    low, high = ends_of(control)
    return None if math.isnan(value) else _round(control, min(max(value, low), high))


def _round(control: Control, value: float) -> float:
    step = step_of(control)
    return round(round(value / step) * step, max(0, -round(math.log10(step))))


def slider(desk: Desk, control: Control) -> gr.Slider:
    """A slider in the control's unit, with its range, and what was measured of its error and leakage."""
    fitted = desk.model.fitted.controls.get(control.name)
    low, high = ends_of(control)
    info = f"{low:g} … {high:g}"
    if fitted is not None and fitted.p50 is not None and fitted.p95 is not None:
        scale, unit = (100, " cents") if control.name == "pitch" else (1, "")
        info += f" · error: half within {_short(scale * fitted.p50)}, 95 % within {_short(scale * fitted.p95)}{unit}"
        leaks = {n: v for n, v in fitted.leakage.items() if v is not None}
        if leaks:
            worst = max(leaks, key=lambda n: leaks[n])
            per = "an octave" if control.name == "pitch" else "a deviation"
            info += f" · leaks most into {worst.replace('_', ' ')}: {leaks[worst]:.2g} deviations {per}"
    unit = "MIDI semitones" if control.name == "pitch" else control.unit
    return gr.Slider(
        low, high, _round(control, (low + high) / 2), step=step_of(control), buttons=[],
        label=f"{control.name.replace('_', ' ').capitalize()}, {unit}", info=info,
        elem_id=f"control-{control.name}", elem_classes="control",
    )  # fmt: skip


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def push(direction: Direction) -> gr.Slider:
    """A slider that moves a sound along a direction which was fitted after training."""
    most = direction.high - direction.low
    if direction.method == "pca":
        info = f"in standard deviations; {100 * direction.score:.0f} % of the variance of the timbres"
    else:
        score = f"{'AUC' if direction.binary else 'r'} {direction.score:.2f}"
        info = f"{direction.method}, from {direction.count} sounds; readable with {score} on sounds not fitted"
    return gr.Slider(
        -most, most, 0.0, step=most / 100, label=direction.name, info=info, buttons=[], elem_classes="control"
    )
