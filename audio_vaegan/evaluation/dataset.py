"""The independent check of a finished data set: are its files those that its rows tell of, and do they sound as asked?

The factory measures each sound with `measure` (pitch: YIN), and takes pYIN to a sample of them. Here the judges are
asked, which share no code with `measure`; swift-f0 is the meter of pitch that had no part in the factory at all.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from audio_vaegan.audio import BadAudio, read
from audio_vaegan.descriptors.judge_controls import JUDGED
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.pitch import WITHIN, Judge, second_meter
from audio_vaegan.files import read_json, sha256_file

CLIPS = 500
BLOCK = 64  # sounds in memory at a time
SHOWN = 10  # names of each fault
SECOND_RANGE = (31.0, 95.5)  # MIDI: what swift-f0 hears (47 to 2,093 Hz) less half a semitone
NEEDED = {"id": str, "file_name": str, "audio_sha256": str, "num_samples": int, "sample_rate": int}
FAULTS = {
    "unreadable": "do not decode",
    "length": "have another length than their row says",
    "rate": "have another sample rate than their row says",
    "changed": "have other bytes than their row says",
    "copies": "have the bytes of an earlier one",
}
NOTES = [
    "Inside the factory YIN measured every clip and pYIN a sample, so that swift-f0 is the meter of pitch that had no "
    "part in it; the judges of the other controls share no code with its meters.",
    "A sound without a measurable value is a failure: it is not within, and its error is infinite. Intervals: 95 %, by "
    "bootstrap over sounds. `as_written`: share of the sounds whose NAME_achieved is within the tolerance of what is "
    "found.",
]
Floats = NDArray[np.float64]
Item = tuple[dict[str, Any], Path]  # a row (what it holds: `dataset.facts.Row`), and its file


def read_facts(folder: Path) -> dict[str, Any]:
    """What dataset.json of an audiofolder says. UserError for a folder that is none."""
    if not (folder / "dataset.json").is_file():
        raise UserError(f"{folder}: not a data set (it has no dataset.json)")
    facts = read_json(folder / "dataset.json", str(folder))
    controls = facts.get("controls") if isinstance(facts, dict) else None
    whole = isinstance(controls, dict) and all(isinstance(c, dict) for c in controls.values())
    if not whole or not isinstance(facts.get("sample_rate"), int):
        raise UserError(f"{folder}: its dataset.json is damaged (no controls or no sample_rate)")
    if facts.get("layout") != "audiofolder":
        raise UserError(f"{folder}: a data set of layout {facts.get('layout')}; only audiofolder can be read here")
    return facts


def read_rows(folder: Path) -> list[Item]:
    """The rows of a data set in audiofolder layout, and the file of each, whether it is there or not.

    UserError for a folder that is no data set, a row that is none, and a file_name that leaves its folder.
    """
    read_facts(folder)
    tables = sorted([*folder.glob("*/metadata.parquet"), *folder.glob("*/metadata.jsonl")])
    items = [_item(table, i, row) for table in tables for i, row in enumerate(_table(table), 1)]
    if not items:
        raise UserError(f"{folder}: a data set without sounds (no row in SPLIT/metadata.jsonl or .parquet)")
    return items


def _table(table: Path) -> list[Any]:
    try:
        if table.suffix == ".parquet":
            return pq.ParquetFile(table).read().to_pylist()
        return [json.loads(line) for line in table.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, ValueError, RecursionError, pa.ArrowException) as e:
        raise UserError(f"{table}: cannot be read ({' '.join(str(e).split())[:200]})") from None


def _item(table: Path, number: int, row: Any) -> Item:
    if not isinstance(row, dict) or not all(isinstance(row.get(k), t) for k, t in NEEDED.items()):
        raise UserError(f"{table}, row {number}: not one of a data set (it needs {', '.join(NEEDED)})")
    path = table.parent / row["file_name"]
    try:
        inside = path.resolve().is_relative_to(table.parent.resolve())
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, links in a circle
        inside = False
    if not inside:
        raise UserError(f"{table}, row {number}: file_name {row['file_name']!r} leads out of its folder")
    return row, path


def judge_dataset(folder: Path, judge: Judge, clips: int | None = CLIPS) -> dict[str, Any]:
    """The figures of a data set as JSON: of all its files whether they are what their rows say; of at most `clips`
    sounds, spread evenly (None: all), what the judges find of each control that was requested, and of the
    loudness that the spec gave them all."""
    facts, items = read_facts(folder), read_rows(folder)
    count = len(items) if clips is None else min(clips, len(items))
    chosen = [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]
    about, asked = facts["controls"], {name: numbers(chosen, f"{name}_requested") for name in facts["controls"]}
    asked = {name: values for name, values in asked.items() if np.isfinite(values).any()}
    written = {name: numbers(chosen, f"{name}_achieved") for name in asked}
    spec = facts.get("spec")
    level = spec.get("loudness") if isinstance(spec, dict) else None
    if isinstance(level, int | float):  # of every sound, where it was not asked as a control
        about = about | {"loudness": {"unit": "LUFS", "tolerance": facts.get("loudness_tolerance")}}
        asked["loudness"] = np.full(len(chosen), float(level))
        written["loudness"] = numbers(chosen, "loudness_lufs")
    names = tuple(name for name in asked if name in ("pitch", *JUDGED))
    classes = {
        k.removesuffix("_requested")
        for r, _ in chosen
        for k, v in r.items()
        if k.endswith("_requested") and isinstance(v, str)
    }
    heard = _hear(chosen, judge, names, facts["sample_rate"]) if names else {}
    return {
        "data_set": facts.get("name"),
        "model_hash": facts.get("model_hash"),
        "spec_sha256": facts.get("spec_sha256"),
        "delivered": facts.get("delivered"),
        "rows": len(items),
        "files": check_files(items),
        "judged": len(chosen) if names else 0,
        "controls": {n: _control(n, about[n], asked[n], written[n], heard) for n in names},
        "not_judged": sorted({*asked, *classes} - {*names}),
        "notes": NOTES,
    }


def check_files(items: list[Item]) -> dict[str, Any]:
    """How many files have each of FAULTS, and the ids of the first of them."""
    found: dict[str, list[str]] = {fault: [] for fault in FAULTS}
    seen: set[str] = set()
    for row, path in tqdm(items, desc="files", unit="file", leave=False):
        try:
            audio, rate = read(path)
            digest = sha256_file(path)
        except (BadAudio, OSError):
            found["unreadable"].append(row["id"])
            continue
        wrong = {
            "length": len(audio) != row["num_samples"],
            "rate": rate != row["sample_rate"],
            "changed": digest != row["audio_sha256"],
            "copies": digest in seen,
        }
        seen.add(digest)
        for fault, so in wrong.items():
            found[fault] += [row["id"]] if so else []
    return {"checked": len(items)} | {f: {"count": len(ids), "ids": ids[:SHOWN]} for f, ids in found.items()}


def numbers(items: list[Item], key: str) -> Floats:
    """A field of every row `[N]`; NaN where it holds no number."""
    values = [row.get(key) for row, _ in items]
    return np.array([v if isinstance(v, int | float) and not isinstance(v, bool) else np.nan for v in values], float)


def _hear(items: list[Item], judge: Judge, names: tuple[str, ...], sample_rate: int) -> dict[str, Floats]:
    """What the judges find `[N]` of each named control, and `second` of pitch, where swift-f0 is installed."""
    parts: dict[str, list[Floats]] = {}
    with tqdm(total=len(items), desc="judge", unit="clip", leave=False) as bar:
        for start in range(0, len(items), BLOCK):
            audio = [_sound(path, sample_rate) for _, path in items[start : start + BLOCK]]
            found = judge.measure_controls(audio, sample_rate, names, name="", fine=True)
            if "pitch" in names:
                longest = max(map(len, audio))
                second = second_meter(np.stack([np.pad(a, (0, longest - len(a))) for a in audio]), sample_rate)
                found |= {} if second is None else {"second": second}
            for name, values in found.items():
                parts.setdefault(name, []).append(values)
            bar.update(len(audio))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _sound(path: Path, sample_rate: int) -> NDArray[np.float32]:
    """A sound; silence, in which no judge finds anything, for a file that is none of the data set's."""
    try:
        audio, rate = read(path)
    except BadAudio:
        return np.zeros(sample_rate, dtype=np.float32)
    return audio if rate == sample_rate else np.zeros(sample_rate, dtype=np.float32)


def _control(
    name: str, about: dict[str, Any], asked: Floats, written: Floats, heard: dict[str, Floats]
) -> dict[str, Any]:
    """The figures of one control `[N]`, by each of its meters. Errors of pitch are in cents."""
    pitch, tolerance = name == "pitch", about.get("tolerance")
    scale = 100.0 if pitch else 1.0
    limit = None if tolerance is None else scale * float(tolerance)
    meters = {}
    for meter, key in {"pYIN": name, "swift-f0": "second"}.items() if pitch else [("judge", name)]:
        if key not in heard:
            continue
        counts = np.isfinite(asked)
        if key == "second":
            counts &= (asked >= SECOND_RANGE[0]) & (asked <= SECOND_RANGE[1])
        error, other = (scale * np.abs(heard[key] - x)[counts] for x in (asked, written))
        meters[meter] = _figures(error, other, limit, WITHIN if pitch else None)
    unit = about.get("unit")
    return {"unit": unit, "error_unit": "cents" if pitch else unit, "tolerance": tolerance, "meters": meters}


def _figures(error: Floats, written: Floats, limit: float | None, cents: float | None) -> dict[str, Any]:
    """Figures of errors `[n]` against what was asked and what was written; NaN: unmeasurable. Shares in percent."""
    error, written, known = np.nan_to_num(error, nan=np.inf), np.nan_to_num(written, nan=np.inf), np.isfinite(error)

    def share(of: Floats, most: float | None) -> dict[str, float | None] | None:
        return None if most is None or not len(of) else _interval(np.where(of <= most, 100.0, 0.0), np.mean)

    def quantile(q: float) -> dict[str, float | None] | None:
        return _interval(error, lambda e: np.percentile(e, q, method="lower")) if len(error) else None

    return {
        "n": len(error),
        "unmeasurable": 100 * float(1 - known.mean()) if len(error) else None,
        "within_tolerance": share(error, limit),
        **({} if cents is None else {"within_50_cents": share(error, cents)}),
        "median": quantile(50),
        "p95": quantile(95),
        "as_written": share(written, limit),
    }


def _interval(values: Floats, statistic: Callable[[Floats], Any], resamples: int = 1000) -> dict[str, float | None]:
    """A statistic of `values` `[n]` and its 95 % interval, by bootstrap; None where it is infinite."""
    rng, n = np.random.default_rng(0), len(values)
    drawn = [float(statistic(values[rng.integers(0, n, n)])) for _ in range(resamples)]
    low, high = np.percentile(drawn, (2.5, 97.5), method="lower")
    ends = {"value": statistic(values), "low": low, "high": high}
    return {k: float(v) if math.isfinite(v) else None for k, v in ends.items()}


def describe(figures: dict[str, Any]) -> str:
    """The figures for a terminal."""
    files = figures["files"]
    lines = [f"{figures['data_set']}: {figures['rows']} sounds, {figures['judged']} of them judged"]
    if figures["rows"] != figures["delivered"]:
        lines.append(f"  {figures['delivered']} were delivered: its tables are not whole")
    bad = [(files[f], what) for f, what in FAULTS.items() if files[f]["count"]]
    told = [f"  {of['count']} {what}: {', '.join(of['ids'])}" for of, what in bad]
    lines += told or ["  every file decodes, is what its row says, and there once"]
    for name, control in figures["controls"].items():
        for meter, found in control["meters"].items():
            shares = {"within 50 cents": "within_50_cents", f"within {control['tolerance']} of it": "within_tolerance"}
            parts = [f"{_text(found[k])} % {what}" for what, k in shares.items() if found.get(k)]
            if found["n"]:
                parts += [f"median error {_text(found['median'])}, P95 {_text(found['p95'])} {control['error_unit']}"]
                parts += [f"unmeasurable {found['unmeasurable']:.1f} %"]
            lines.append(f"  {name} by {meter}, {found['n']} requests: {'; '.join(parts)}")
    lines += [f"  {name}: was asked for, and there is no judge of it" for name in figures["not_judged"]]
    return "\n".join([*lines, *(f"note: {note}" for note in figures["notes"])])


def _text(found: dict[str, float | None]) -> str:
    value, low, high = ("inf" if v is None else f"{v:.4g}" for v in found.values())
    return f"{value} ({low} - {high})"
