"""The balance of sounds over class, pitch, loudness and duration, and whether a generated set repeats or shifts it."""

import io
import math
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from audio_vaegan.data.health import number, short
from audio_vaegan.data.store import Store
from audio_vaegan.evaluation.balance import Balance, Floats, balance_of_arrays, balance_of_dataset, balance_of_store
from audio_vaegan.evaluation.bias_findings import findings
from audio_vaegan.evaluation.pictures import inline
from audio_vaegan.files import new_folder, write_atomic, write_json

__all__ = [
    "Balance",
    "balance_of_arrays",
    "balance_of_dataset",
    "balance_of_store",
    "bias",
    "bias_picture",
    "describe",
    "findings",
    "write_bias",
]
RANGES = {"pitch": (-36.0, 152.0), "loudness": (-120.0, 24.0), "duration": (1e-6, 1e6)}  # what lies outside is unknown
NOTES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
LEVEL = 3  # LU in a bin, centred on a multiple: no level that sounds are normalised to lies on an edge
STEPS, DURATIONS = (0.5, 1, 2, 4, 8), 8  # octaves of time in a bin, centred likewise; the first with about so many bins
RESAMPLES = 1000
SHOWN, ROWS = 16, 200  # categories in a panel of the picture, in a table of the page
Json = dict[str, Any]


def bias(real: Balance, generated: Balance | None) -> Json:
    """The balance of a set of real sounds, and of a generated one against it, as JSON.

    `sets`: of `real` and `generated` the `name`, `count`, `label`, and how many sounds have no value of what was
    looked for (`unknown`). `aspects`: for class, pitch (octaves C to B), semitone, loudness and duration, where
    anything is known, the `categories` that either set has or that lie between, the histograms (`_figures`), and how
    they differ (`_differ`).
    The real sounds are judged within their own range, the generated ones within that of both.
    """
    sets = {"real": real} | ({} if generated is None else {"generated": generated})
    tallies = [
        Counter({_text(c): n for c, n in Counter(b.classes).items() if c not in (None, "")}) for b in sets.values()
    ]
    octaves = [np.log2(_known(b, "duration")) for b in sets.values()]
    span = np.ptp(np.concatenate(octaves)) if any(map(len, octaves)) else 0.0
    step = next((s for s in STEPS if span / s < DURATIONS), STEPS[-1])
    pitch, loudness = ([_known(b, name) for b in sets.values()] for name in ("pitch", "loudness"))
    keys = [_nearest(p) for p in pitch]
    levels, lengths = [_nearest(x / LEVEL) for x in loudness], [_nearest(x / step) for x in octaves]
    aspects: Json = {}
    if classes := sorted({*tallies[0], *tallies[-1]}, key=lambda c: (-tallies[0][c], -tallies[-1][c], c)):
        counts = [np.array([tally[c] for c in classes]) for tally in tallies]
        aspects["class"] = _aspect(classes, counts, [np.sign(counts[0]), np.ones(len(classes))])
    for name, bins, size in (
        ("pitch", [k // 12 for k in keys], 12),
        ("semitone", keys, 1),
        ("loudness", levels, 1),
        ("duration", lengths, 1),
    ):
        if any(map(len, bins)):
            low, high = _ends(bins)
            counts = [np.bincount(b - low, minlength=high - low + 1) for b in bins]
            start, inside = size * np.arange(low, high + 1), keys if name == "pitch" else bins
            ends = _ends(inside[:1]), _ends(inside)  # an octave counts by the semitones of it in the range
            widths = [np.clip(np.minimum(b + 1, start + size) - np.maximum(a, start), 0, None) for a, b in ends]
            aspects[name] = _aspect([_name(name, k, step) for k in range(low, high + 1)], counts, widths)
    told: Json = {"generated": None}
    for i, (role, b) in enumerate(sets.items()):
        known = {"class": tallies[i].total(), "pitch": len(pitch[i]), "loudness": len(loudness[i])}
        known["duration"] = len(octaves[i])
        looked = (*(["class"] if b.label else []), *b.measured)
        unknown = {name: len(b) - known[name] for name in looked}
        told[role] = {"name": _text(b.name), "count": len(b), "label": b.label and _text(b.label), "unknown": unknown}
    return {"sets": told, "aspects": aspects}


def _known(balance: Balance, name: str) -> Floats:
    """The values of a column that lie in its range, `[n]`."""
    values, (low, high) = getattr(balance, name), RANGES[name]
    return values[(values >= low) & (values <= high)]


def _nearest(values: Floats) -> NDArray[np.int64]:
    return np.floor(values + 0.5).astype(np.int64)


def _ends(bins: list[NDArray[np.int64]]) -> tuple[int, int]:
    """The lowest and the highest of all; (0, -1) of none."""
    every = np.concatenate(bins)
    return (int(every.min()), int(every.max())) if len(every) else (0, -1)


def _text(value: object) -> str:
    """Text that can be written as UTF-8."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _name(aspect: str, k: int, step: float) -> str:
    """The name of a bin: an octave, a semitone, a level, a length."""
    if aspect == "pitch":
        return f"C{k - 1}-B{k - 1} ({12 * k}-{12 * k + 11})"
    if aspect == "semitone":
        return f"{NOTES[k % 12]}{k // 12 - 1} ({k})"
    if aspect == "loudness":
        return f"{LEVEL * (k - 0.5):g} to {LEVEL * (k + 0.5):g} LUFS"
    return f"{2 ** (step * (k - 0.5)):.2g} to {2 ** (step * (k + 0.5)):.2g} s"


def _aspect(names: list[str], counts: list[Any], widths: list[Any]) -> Json:
    """The figures of one aspect from `[K]` counts and widths of the real set, and of the generated one if there is."""
    both = len(counts) > 1
    found: Json = {"categories": names, "real": _figures(names, counts[0], widths[0])}
    found["generated"] = _figures(names, counts[1], widths[1]) if both else None
    return found | (_differ(names, *counts) if both and all(c.any() for c in counts) else {"distance": None})


def _figures(names: list[str], counts: Any, widths: Any) -> Json:
    """A histogram of K categories, `widths` `[K]` of which lie in the range (0: outside).

    `evenness`: Shannon's entropy of the shares over the log of the number of categories in the range, 0..1 (Pielou
    1966, The measurement of diversity in different types of biological collections, J. Theor. Biol. 13); None for a
    single one. `imbalance`: the largest over the smallest that is not empty. Both of counts per width. `largest`: the
    commonest and its share. `empty`: how many categories of the range have none.
    """
    inside, known = widths > 0, int(counts.sum())
    figures: Json = {"counts": counts.tolist(), "widths": widths.tolist(), "known": known, "within": int(inside.sum())}
    if not known:
        return figures | dict.fromkeys(("evenness", "imbalance", "largest", "empty"))
    rate = counts[inside] / widths[inside]
    some = rate[rate > 0]
    share, top = some / some.sum(), int(counts.argmax())
    evenness = abs(float((share * np.log(share)).sum())) / math.log(len(rate)) if len(rate) > 1 else None
    figures |= {"evenness": evenness, "imbalance": float(some.max() / some.min())}
    figures["largest"] = {"name": names[top], "share": float(counts[top] / known)}
    return figures | {"empty": int((rate == 0).sum())}


def _differ(names: list[str], real: Any, made: Any) -> Json:
    """How two histograms `[K]` differ.

    `distance`: total variation, half the sum of the differences of shares: the share of the sounds that would have to
    change category, 0..1. `floor`, `floor_sd`: mean and standard deviation of the distance of two samples of these
    sizes drawn from both sets together, which do not differ but by chance. `low`, `high`: the 95 % interval by
    bootstrap over sounds; chance adds at most about the floor, which the lower end allows for (so that it is rather
    too wide). `over`, `under`: the categories whose share rose or fell most.
    """
    n, m, rng = real.sum(), made.sum(), np.random.default_rng(0)
    p, q, both = real / n, made / m, (real + made) / (n + m)

    def draw(p: Floats, q: Floats) -> Floats:
        return np.abs(rng.multinomial(n, p, RESAMPLES) / n - rng.multinomial(m, q, RESAMPLES) / m).sum(axis=1) / 2

    value, drawn, alike = float(np.abs(p - q).sum() / 2), draw(p, q), draw(both, both)
    floor, (below, above) = float(alike.mean()), np.percentile(drawn, (2.5, 97.5)) - drawn.mean()
    low, high = max(0.0, value - floor - float(above)), min(1.0, value - float(below))
    distance = {"value": value, "low": low, "high": high, "floor": floor, "floor_sd": float(alike.std())}
    order = np.argsort(q - p, kind="stable")
    ends = {"over": [i for i in order[::-1][:3] if q[i] > p[i]], "under": [i for i in order[:3] if q[i] < p[i]]}
    told = {k: [{"name": names[i], "real": float(p[i]), "generated": float(q[i])} for i in e] for k, e in ends.items()}
    return {"distance": distance} | told


def describe(figures: Json) -> str:
    """The figures and findings for a terminal."""
    return "\n".join([*_table(figures), *(f"- {line}" for line in findings(figures) or ["Nothing stands out."])])


def _table(figures: Json) -> list[str]:
    sets = {role: one for role, one in figures["sets"].items() if one}
    heading = f"balance of {sets['real']['name']}: {sets['real']['count']:,} sounds"
    if both := "generated" in sets:
        heading += f", beside {sets['generated']['name']}: {sets['generated']['count']:,} generated"
    wide = f"{'distance (by chance)':<30}" if both else ""
    lines = [heading, f"{'':<20}  of  evenness  most:least  empty  {wide}commonest"]
    for name, aspect in figures["aspects"].items():
        for role in ("real", "generated") if both else ("real",):
            f, d = aspect[role], aspect["distance"] if role == "generated" else None
            line = f"{name if role == 'real' else '':<10}{role if both else '':<10}"
            if not f["known"]:
                lines.append(f"{line}   -")
                continue
            even = "-" if f["evenness"] is None else f"{f['evenness']:.2f}"
            far = f"{d['value']:.2f} ({d['low']:.2f} - {d['high']:.2f}; {d['floor']:.2f})" if d else ""
            line += f"{f['within']:>4}{even:>10}{number(f['imbalance']):>10}:1{f['empty']:>7}  "
            top = f["largest"]
            lines.append(f"{line}{f'{far:<30}' if both else ''}{short(top['name'], 40)} {100 * top['share']:.0f} %")
    return lines


def bias_picture(figures: Json) -> bytes:
    """PNG: the shares of classes (the largest), octaves, levels and lengths, real beside generated."""
    panels = {name: a for name, a in figures["aspects"].items() if name != "semitone"}
    most = max((min(len(a["categories"]), 2 * SHOWN) for a in panels.values()), default=0)
    figure = Figure(figsize=(3.4 * max(1, len(panels)), 1.2 + 0.2 * most), dpi=80, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0] if panels else []
    for ax, (name, aspect) in zip(axes, panels.items(), strict=True):
        shown = slice(SHOWN if name == "class" else None)
        places = np.arange(len(aspect["categories"][shown]))
        roles = [role for role in ("real", "generated") if aspect[role] and aspect[role]["known"]]
        for i, role in enumerate(roles):
            share = 100 * np.array(aspect[role]["counts"][shown]) / aspect[role]["known"]
            offset = (i - (len(roles) - 1) / 2) * 0.4
            colour = "#d9822b" if role == "generated" else "#3b6ea5"
            ax.barh(places + offset, share, 0.8 / len(roles), label=role, color=colour)
        names = [short(c, 24) for c in aspect["categories"][shown]]
        ax.set_yticks(places, names, fontsize=7, parse_math=False)
        middle, half = (len(places) - 1) / 2, max(len(places), 6) / 2
        ax.set_ylim(middle - half, middle + half)
        if name == "class":
            ax.invert_yaxis()
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("% of the sounds", fontsize=8)
        ax.tick_params(axis="x", labelsize=7)
        if figures["sets"]["generated"]:
            ax.legend(fontsize=7)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a name in a script that the font lacks shows as boxes
        FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def write_bias(
    store: Store,
    out: Path,
    dataset: Path | None = None,
    label: str | None = None,
    split: str | None = None,
    overwrite: bool = False,
) -> tuple[Path, Json]:
    """Write bias.html and bias.json, the balance of a store and of a generated data set, into the new folder `out`.
    Returns the page's path and the figures. Without `label` the classes are of the label that the data set was made
    by, where the store has it. Raises UserError as `balance_of_store` and `read_rows` do."""
    with new_folder(out, "bias", overwrite) as folder:
        made = None if dataset is None else balance_of_dataset(dataset, label)
        if label is None and made and made.label in store.label_names():
            label = made.label
        figures = bias(balance_of_store(store, split, label), made)
        figures["findings"] = findings(figures)
        environment = jinja2.Environment(autoescape=True)
        environment.filters["short"] = short
        source = (Path(__file__).parent / "bias.html.jinja").read_text(encoding="utf-8")
        picture = inline(bias_picture(figures))
        page = environment.from_string(source).render(
            figures=figures, findings=figures["findings"], text="\n".join(_table(figures)), picture=picture, most=ROWS
        )
        write_atomic(folder / "bias.html", page)
        write_json(folder / "bias.json", figures)
    return out / "bias.html", figures
