"""Several runs on the same sounds, side by side: every figure, its difference from the first run's, and intervals.

OUT/compare.html, compare.json, compare.md      the table
    pictures/                                   the same held-out sounds and samples of each run, and audio/
    RUN/report.html ...                         the report of each run
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.assess import Options, assess_once, check, read_report
from audio_vaegan.evaluation.compare import compare, names_of
from audio_vaegan.evaluation.novelty import BASE
from audio_vaegan.evaluation.pictures import inline
from audio_vaegan.evaluation.set_table import NOVELTY, PAIRS, PITCH, SETS, Column, show
from audio_vaegan.evaluation.sets import COPY, HELD, REAL, RECONSTRUCTED, SAMPLED, Draws
from audio_vaegan.files import alone, work_folder, write_atomic, write_json
from audio_vaegan.sound_model import SoundModel

KIND = "comparisons"
PICTURES = "pictures"
CLIPS = 5  # in the pictures
WITHIN = Column("within", "pitch within 50 cents, %", 1, "more")
Json = dict[str, Any]


def compare_runs(
    paths: list[Path],
    store: Store,
    options: Options,
    out: Path,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> Json:
    """Evaluate each run, as far as `out` does not hold its report yet, and write them side by side. Returns what
    compare.json holds. `overwrite` lets reports of other models, stores or options be replaced."""
    if len(paths) < 2:
        raise UserError("--compare: give two runs or more")
    names = names_of(paths)
    if PICTURES in names:
        raise UserError(
            f"--compare: a run named {PICTURES}; the pictures stand in a folder of that name, rename the run"
        )
    for path in paths:  # a mistake is told before the long work
        check(SoundModel.from_pretrained(path, vocoder=options.vocoder), store, options)
    with alone(out.resolve(), "comparison"):
        return _compare(dict(zip(names, paths, strict=True)), store, options, out, overwrite, say)


def _compare(
    runs: dict[str, Path], store: Store, options: Options, out: Path, overwrite: bool, say: Callable[[str], None]
) -> Json:
    work_folder(out, KIND)
    for name, path in runs.items():
        say(f"== {name}")
        assess_once(path, store, options, out / name, overwrite, say)
    compare([*runs.values()], store, out / PICTURES, CLIPS, overwrite=True, vocoder=options.vocoder)
    found = side_by_side({name: read_report(out / name) for name in runs})
    write_json(out / "compare.json", found)
    write_atomic(out / "compare.md", markdown(found))
    write_atomic(out / "compare.html", _page(found, out))
    return found


def side_by_side(reports: dict[str, tuple[Json, Draws]]) -> Json:
    """The rows of the table: `group`, `title`, `better`, `digits`, `floor` (of real sounds), the figure of each run in
    `values`, and in `differences` that figure less the first run's, with its 95 % interval, where it was resampled.

    Two runs of one store were resampled alike, sound by sound or instrument by instrument, so that what both have in
    common falls out of their difference. Raises UserError where they are not of one store and one way of measuring.
    """
    names = list(reports)
    first = reports[names[0]][0]
    for name in names[1:]:
        other = reports[name][0]
        for what in ("store", "asked"):
            if other.get(what) != first.get(what):
                raise UserError(f"{names[0]} and {name} were not evaluated alike: another {what}; evaluate them again")
        heard = [f.get("sets", {}).get("notes") for f in (first, other)]
        if heard[0] != heard[1]:
            raise UserError(f"{names[0]} and {name} were heard by different judges; evaluate them again")
    rows = [row for row in _rows(reports) if any(v is not None for v in row["values"].values())]
    told = ("model_hash", "vocoder", "prior", "trained")
    models = {name: {k: f.get(k) for k in told} for name, (f, _) in reports.items()}
    sets = {k: v for k, v in first.get("sets", {}).items() if k in ("notes", "reference", "held_out", "embedding")}
    return {
        "runs": names,
        "models": models,
        "store": first.get("store"),
        "asked": first.get("asked"),
        "sets": sets,
        "rows": rows,
    }


def _rows(reports: dict[str, tuple[Json, Draws]]) -> list[Json]:
    figures = {name: f for name, (f, _) in reports.items()}

    def row(group: str, column: Column, part: Callable[[Json], Json | None], floor: Any, key: str = "") -> Json:
        values = {name: column.get(part(f) or {}) for name, f in figures.items()}
        return {
            "group": group,
            "title": column.title,
            "better": column.better,
            "digits": column.digits,
            "floor": floor,
            "values": values,
            "differences": _differences(values, {n: _drawn(d, key) for n, (_, d) in reports.items()}),
        }

    def at(*keys: str) -> Callable[[Json], Json | None]:
        def get(f: Any) -> Any:
            for key in keys:
                f = f.get(key) if isinstance(f, dict) else None
            return f

        return get

    def floor(column: Column, *keys: str) -> Any:
        """A figure of real sounds, or of copies, which is one for all runs."""
        values = (column.get(at(*keys)(f) or {}) for f in figures.values())
        return next((v for v in values if v is not None), None)

    found = [row("run", Column("steps", "training steps", 0), at("trained"), None)]
    for split, name in (
        ("test_note", "reconstructed"),
        ("test_note", "all edits"),
        ("test_instrument", "reconstructed"),
        ("test_instrument", "all edits"),
    ):
        part = _interval_of(at("splits", split, "pitch", name))  # of what survives the copy: there is no floor but 100
        found.append(row(f"{name}, {split}", WITHIN, part, None, f"{split}/{name}/within"))
    found.append(row("sampled", WITHIN, _interval_of(at("samples")), None, "samples/sampled/within"))
    for rung, like in ((RECONSTRUCTED, HELD), (SAMPLED, REAL)):
        for column in (*SETS, *PITCH):
            part = at("sets", "rungs", rung)
            own = HELD if column in PITCH else like  # the judge may have heard the others
            real = floor(column, "sets", "rungs", own)
            real = floor(column, "sets", "rungs", HELD) if real is None else real
            found.append(row(rung, column, part, real, f"{rung}/{column.key}"))
        if rung == RECONSTRUCTED:
            for column in PAIRS:
                alike = len({f.get("vocoder") for f in figures.values()}) == 1
                copy = floor(column, "sets", "pairs", COPY) if alike else None
                found.append(row(rung, column, at("sets", "pairs", rung), copy, f"{rung}/{column.key}"))
    for column in NOVELTY:
        part = at("sets", "novelty", "sets", SAMPLED)
        found.append(row(SAMPLED, column, part, floor(column, "sets", "novelty", "sets", BASE)))
    near = Column("near_copies", "near-copies under one setting, share", 2, "less")
    return [
        *found,
        row(SAMPLED, near, at("health", "samples"), None),
        row("code", Column("informative", "coordinates above 0.1 nats", 0), at("health", "active_units"), None),
        row("code", Column("sum", "KL, nats", 1), at("health", "kl"), None),
        row("balance", Column("ranking", "real ranked above fake, share", 2), at("health", "balance"), None),
    ]


def _interval_of(get: Callable[[Json], Json | None]) -> Callable[[Json], Json | None]:
    """A share of the pitch table, as the other figures are written."""

    def part(f: Json) -> Json | None:
        found = get(f)
        if not found or not found.get("n"):
            return None
        return {"within": {"value": found["within"], "low": found["low"], "high": found["high"]}}

    return part


def _drawn(draws: Draws, key: str) -> tuple[str, Any] | None:
    """The draws of a figure, with the name that tells which groups were drawn."""
    return next(((name, values) for name, values in draws.items() if name.rpartition("@")[0] == key), None)


def _differences(values: Json, draws: dict[str, tuple[str, Any] | None]) -> Json:
    """Each run's figure less the first one's; with its interval where the same groups of both were drawn."""
    names = list(values)
    found: Json = {}
    for name in names[1:]:
        a, b = (v["value"] if isinstance(v, dict) else v for v in (values[names[0]], values[name]))
        if a is None or b is None:
            continue
        x, y = draws[names[0]], draws[name]
        found[name] = b - a
        if x is not None and y is not None and x[0] == y[0]:
            less = y[1].astype(np.float64) - x[1].astype(np.float64)
            less = less[np.isfinite(less)]
            if len(less) > len(y[1]) / 2:
                low, high = np.percentile(less, (2.5, 97.5))
                found[name] = {"value": b - a, "low": float(low), "high": float(high)}
    return found


def table(found: Json) -> str:
    """The rows as text; under each run but the first its difference from it."""
    cells = [["", "real / copy", *found["runs"]]]
    group = None
    for row in found["rows"]:
        if row["group"] != group:
            group = row["group"]
            cells.append([group])
        title = row["title"] + {"less": " -", "more": " +"}.get(row["better"], "")
        values = [show(row["values"][name], row["digits"]) for name in found["runs"]]
        cells.append([f"  {title}", show(row["floor"], row["digits"]), *values])
        if any(isinstance(d, dict) for d in row["differences"].values()):
            told = [_signed(row["differences"].get(name), row["digits"]) for name in found["runs"]]
            cells.append(["    less the first", "", *told])
    wide = [max((len(r[i]) for r in cells if i < len(r)), default=0) for i in range(len(cells[0]))]
    lines = [
        "  ".join(t.ljust(w) if not i else t.rjust(w) for i, (t, w) in enumerate(zip(r, wide, strict=False)))
        for r in cells
    ]
    return "\n".join(
        [
            *(line.rstrip() for line in lines),
            "+: more is better, -: less; brackets: 95 % interval, by bootstrap over instruments or sounds",
        ]
    )


def markdown(found: Json) -> str:
    """The rows as a table for a README."""
    lines = [
        "| | real / copy | " + " | ".join(f"`{n}`" for n in found["runs"]) + " |",
        "|---" * (len(found["runs"]) + 2) + "|",
    ]
    for row in found["rows"]:
        values = [show(row["values"][name], row["digits"]) for name in found["runs"]]
        lines.append(
            f"| {row['group']}: {row['title']} | {show(row['floor'], row['digits'])} | " + " | ".join(values) + " |"
        )
    return "\n".join(lines) + "\n"


def _signed(value: Any, digits: int) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return f"{value['value']:+.{digits}f} ({value['low']:+.{digits}f} - {value['high']:+.{digits}f})"
    return f"{value:+.{digits}f}"


def _page(found: Json, out: Path) -> str:
    source = (Path(__file__).parent / "compare.html.jinja").read_text(encoding="utf-8")
    pictures = {
        n: inline((out / PICTURES / f"{n}.png").read_bytes())
        for n in ("reconstructed", "sampled")
        if (out / PICTURES / f"{n}.png").is_file()
    }
    players = sorted(p.name for p in (out / PICTURES / "audio").glob("*.wav"))
    clear = {
        (i, name): isinstance(d, dict) and (d["low"] > 0 or d["high"] < 0)
        for i, row in enumerate(found["rows"])
        for name, d in row["differences"].items()
    }
    return (
        jinja2.Environment(autoescape=True)
        .from_string(source)
        .render(
            found=found, show=show, signed=_signed, pictures=pictures, players=players, clear=clear, folder=PICTURES
        )
    )
