"""The plots of a data set's card."""

import io
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from audio_vaegan.dataset.card import error_unit, number_text
from audio_vaegan.dataset.facts import Facts
from audio_vaegan.dataset.tally import Balance, ControlTally, Tally

GREY, BLUE = "#b9bec7", "#1f6fb4"  # asked, delivered
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")  # that the colour-blind tell apart (Okabe and Ito)
SHOWN = 12  # classes in the picture; the card has them all


def pictures(facts: Facts, tally: Tally) -> dict[str, bytes]:
    """The plots that the card shows, as PNG by file name; the same bytes for the same counts."""
    return {"balance.png": _balance_picture(tally, facts.classes), "accuracy.png": _accuracy_picture(tally)}


def _png(figure: Figure) -> bytes:
    """The same bytes for the same figure: nothing in them says when, or by which version, it was drawn."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that the font lacks are drawn as boxes
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return buffer.getvalue()


def _figure(width: float, height: float) -> Figure:
    """White, not see-through: pages may be dark."""
    return Figure(figsize=(width, height), dpi=80, layout="constrained", facecolor="white")


def _nothing(text: str) -> bytes:
    figure = _figure(4.0, 0.5)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=9)
    return _png(figure)


def _short(name: str, most: int = 16) -> str:
    name = " ".join(name.split())
    return name if len(name) <= most else name[: most - 1] + "…"


def _bars(ax: Axes, balance: Balance, kinds: Sequence[Any], names: Sequence[str], title: str) -> None:
    at = range(len(kinds))
    ax.bar([x - 0.2 for x in at], [balance.asked[k] for k in kinds], 0.4, color=GREY)
    ax.bar([x + 0.2 for x in at], [balance.delivered[k] for k in kinds], 0.4, color=BLUE)
    ax.set_xticks(list(at), names, parse_math=False)
    if max(map(len, names)) > 4:
        for text in ax.get_xticklabels():
            text.set(rotation=40, ha="right", rotation_mode="anchor")
    ax.set_title(title, fontsize=9)


def _range(control: ControlTally, ax: Axes) -> None:
    ax.stairs(control.asked.counts, control.asked.edges, fill=True, color=GREY)
    ax.stairs(control.achieved.counts, control.achieved.edges, color=BLUE, linewidth=1.3)
    ax.set_title(control.name, fontsize=9, parse_math=False)
    ax.set_xlabel(control.unit, fontsize=8, parse_math=False)


def _balance_picture(tally: Tally, classes: Sequence[str]) -> bytes:
    """Asked for first beside delivered: by octave, by class, and over the range of each control."""
    draw: list[Callable[[Axes], None]] = []
    if heard := {*tally.octaves.asked, *tally.octaves.delivered}:
        keys = range(min(heard), max(heard) + 1)
        draw.append(lambda ax: _bars(ax, tally.octaves, keys, [f"C{k}" for k in keys], "octave (C4: keys 60 to 71)"))
    if tally.classes.asked:
        known = {*tally.classes.asked, *classes}
        most = sorted(known, key=lambda k: (-tally.classes.asked[k], k))[:SHOWN]
        title = "class" if len(known) <= SHOWN else f"the {SHOWN} largest of {len(known)} classes"
        draw.append(lambda ax: _bars(ax, tally.classes, most, [_short(k) for k in most], title))
    for control in tally.controls.values():
        if control.asked.n or control.achieved.n:
            draw.append(partial(_range, control))
    if not draw:
        return _nothing("nothing was asked for or delivered")
    columns = min(3, len(draw))
    rows = -(-len(draw) // columns)
    figure = _figure(3.2 * columns, 2.2 * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, fill in zip(axes, draw, strict=False):
        fill(ax)
        ax.tick_params(labelsize=7)
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(draw) :]:
        ax.set_axis_off()
    handles = [Patch(color=GREY, label="asked for first"), Patch(color=BLUE, label="delivered, as measured")]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return _png(figure)


def _accuracy_picture(tally: Tally) -> bytes:
    """The share of sounds whose error is below so many tolerances, a line for each control."""
    shown = [c for c in tally.controls.values() if c.error.n]
    if not shown:
        return _nothing("no control was asked for")
    figure = _figure(7.2, 3.2)
    ax = figure.subplots()
    for k, control in enumerate(shown):
        # Of all requests: where a meter found nothing, the line ends below 100.
        share = [100 * below / control.requested for below in control.error.below()]
        unit, scale = error_unit(control)
        label = f"{control.name} (1 = {number_text(control.scale * scale, unit)})"
        style: dict[str, Any] = {"color": LINES[k % len(LINES)], "linestyle": ("-", "--", "-.")[k // len(LINES) % 3]}
        ax.plot(control.error.edges[1:], share, linewidth=1.6, label=label, **style)
    ax.axvline(1, color="black", linewidth=0.8, linestyle=":")
    most = max(c.error.high for c in shown)
    ax.set_xscale("log")
    ax.set_xlim(1e-3, max(2.0, 1.1 * most))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.set_ylim(0, 102)
    ax.set_xlabel("error of the achieved against the requested value, in tolerances", fontsize=8)
    ax.set_ylabel("% of requests below it", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.grid(alpha=0.3)
    for text in figure.legend(loc="outside right upper", fontsize=8, frameon=False).get_texts():
        text.set_parse_math(False)
    return _png(figure)
