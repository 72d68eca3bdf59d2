"""The figures of the controls as text, and the targets that were set before any result."""

from typing import Any


def targets(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The targets set before any result stretch ones beside them, and whether each is met;
    None where there was nothing to measure."""
    found = []

    def add(loop: str, name: str, what: str, value: float | None, limit: float, stretch: float, least: bool) -> None:
        met = None if value is None else value >= limit if least else value <= limit
        row = {"loop": loop, "control": name, "figure": what, "value": value, "limit": limit, "stretch": stretch}
        found.append(row | {"relation": ">=" if least else "<=", "met": met})

    for loop, part in figures["loops"].items():
        for name, f in part.items():
            leaks = {j: leak["value"] for j, leak in f["leakage"].items() if j != "pitch"}
            leaks = {j: v for j, v in leaks.items() if v is not None}
            if name == "pitch":
                slope = f["slope"]["value"]
                add(loop, name, "within 50 cents, %", f["within"]["value"], 99.0, 99.5, True)
                add(loop, name, "median, cents", f["median_cents"], 8, 4, False)
                add(loop, name, "P90, cents", f["p90_cents"], 25, 12, False)
                add(loop, name, "|slope - 1|", None if slope is None else abs(slope - 1), 0.01, 0.005, False)
            else:
                add(loop, name, "r", f["r"]["value"], 0.95, 0.98, True)
                add(loop, name, "mean error, sd", f["error"]["value"], 0.05 if loop == "closed" else 0.15, 0.03, False)
                if "pitch" in f["leakage"]:
                    cents = f["leakage"]["pitch"].get("median")
                    add(loop, name, "pitch moved, median cents per 2 sd", cents, 5, 3, False)
            if leaks:
                worst = max(leaks, key=lambda j: leaks[j])
                per = "octave" if name == "pitch" else "sd"
                add(loop, name, f"largest leakage ({worst}), sd per {per}", leaks[worst], 0.10, 0.05, False)
            add(loop, name, "monotone share", f["monotone"]["value"], 0.99, 0.999, True)
    return found


def show(value: float | None, digits: int = 2) -> str:
    """A number for a table; `-` for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def table(figures: dict[str, Any]) -> str:
    """The figures of `evaluate_controls` as text."""
    heads = ["n", "rej %", "unm %", "out %", "r", "[95 %]", "rho", "r chg", "slope", "|err| sd", "[95 %]", "median"]
    heads += ["P95", "mono"]
    widths = (5, 6, 6, 6, 7, 14, 7, 7, 7, 9, 13, 8, 8, 7)
    lines = [f"controls, {figures['split']}: {figures['clips']} clips of {figures['instruments']} instruments"]
    lines.append(f"{'':19}" + "".join(f"{h:>{w}}" for h, w in zip(heads, widths, strict=True)) + "  unit")
    for name, control in figures["controls"].items():
        for loop, part in figures["loops"].items():
            f = part[name]
            cells = [str(f["n"]), *(show(f[k], 1) for k in ("rejected", "unmeasurable", "outside"))]
            cells += [show(f["r"]["value"], 3), _span(f["r"], 2), show(f["rho"]["value"], 3)]
            cells += [show(f["change_r"]["value"], 3), show(f["slope"]["value"], 3), show(f["error"]["value"], 3)]
            cells += [_span(f["error"], 2), show(f["median"], 3), show(f["p95"], 3)]
            cells.append(show(f["monotone"]["value"], 3))
            row = "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
            lines.append(f"{name:12}{loop:7}{row}  {control['unit']}")
            if name == "pitch":
                cents = f"median {show(f['median_cents'], 1)} c, P90 {show(f['p90_cents'], 1)} c"
                within = f"within 50 c {show(f['within']['value'], 1)} % {_span(f['within'], 1)}, {cents}"
                lines.append(f"{'':19}  {within}")
    if "worse" in figures:
        shares = ", ".join(f"{n} {show(v, 0)} %" for n, v in figures["worse"].items())
        lines += ["", f"edits that the closed loop made worse, by the judge: {shares}"]
    lines += ["", "mean |error| against the label, sd", f"{'':12}{'real':>10}{'copy':>10}{'reconstructed':>15}  edited"]
    for name, rung in figures["rungs"].items():
        edited = ", ".join(f"{show(part[name]['error']['value'], 3)} {k}" for k, part in figures["loops"].items())
        real, copy, plain = (show(rung[k]["error"]["value"], 3) for k in ("real", "copy", "reconstructed"))
        lines.append(f"{name:12}{real:>10}{copy:>10}{plain:>15}  {edited}")
    for loop, part in figures["loops"].items() if len(figures["controls"]) > 1 else ():
        lines += ["", f"leakage, {loop} loop: sd of the column for 1 sd of the row (pitch: an octave) [in the data]"]
        lines.append(f"{'':12}" + "".join(f"{j:>15}" for j in figures["controls"]) + "   pitch, median / P95 per 2 sd")
        for name, f in part.items():
            cells = ["" if j == name else _leaked(f["leakage"][j], name, j, figures) for j in figures["controls"]]
            moved = f["leakage"].get("pitch", {})
            cents = f"   {show(moved.get('median'), 1)} / {show(moved.get('p95'), 1)} c" if moved else ""
            lines.append(f"{name:12}" + "".join(f"{c:>15}" for c in cells) + cents)
    for prior, row in figures["samples"].items():
        from_what = "N(0, I)" if prior == "normal" else "the fitted prior"
        share = f"{show(row['within'], 1)} % [{show(row['low'], 1)}, {show(row['high'], 1)}]"
        lines += ["", f"samples from {from_what} at asked pitches: within 50 c {share} of {row['n']}"]
    rows = figures["targets"]
    lines += ["", f"targets met: {sum(t['met'] is True for t in rows)} of {len(rows)}"]
    lines += [f"  {'MISSED ' if t['met'] is False else 'NOTHING MEASURED '}{describe(t)}" for t in rows if not t["met"]]
    return "\n".join(lines)


def describe(target: dict[str, Any]) -> str:
    """A target in words."""
    wanted = f"{target['relation']} {target['limit']:g}"
    return (
        f"{target['control']} ({target['loop']} loop) {target['figure']}: {show(target['value'], 3)}, wanted {wanted}"
    )


def _span(figure: dict[str, Any], digits: int) -> str:
    return f"[{show(figure['low'], digits)}, {show(figure['high'], digits)}]"


def _leaked(leak: dict[str, Any], name: str, other: str, figures: dict[str, Any]) -> str:
    return f"{show(leak['value'])} [{show(figures['covariation'][name][other])}]"
