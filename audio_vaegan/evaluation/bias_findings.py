"""What a user should know of the balance of a data set, in sentences."""

import math
from typing import Any

import numpy as np

from audio_vaegan.data.health import UNEVEN, short

LEAST = 20  # sounds, below which nothing is said of a set
DOMINANT = 4  # times the odds of an even share
STRAY = 5  # standard deviations that chance moves a count, a share or a distance
GAPS = 0.25  # share of the semitones of the range that hold no sound
NARROW = 24  # semitones
ALIKE = 0.9  # share of the sounds in one bin of loudness
UNKNOWN = 0.05  # share without a value; of the generated sounds: how many more than of the real ones
SHIFTED = 0.05  # distance more than chance makes
MOVED = 0.02  # change of a share
MISSING, CHANCE = 0.01, 0.001  # share in one set of what the other has none of; and how likely that is by chance
VALUES = {"class": "label", "pitch": "measurable pitch", "loudness": "measurable loudness", "duration": "duration"}
Json = dict[str, Any]


def findings(figures: Json) -> list[str]:
    """What stands out, a sentence each; only what passes a threshold of this module, and more than chance makes."""
    real, made, aspects = figures["sets"]["real"], figures["sets"]["generated"], figures["aspects"]
    if real["count"] < LEAST:
        return [f"Only {real['count']} sounds: too few to say anything of their balance."]
    said = [line for name in ("class", "pitch") if name in aspects for line in _uneven(name, aspects[name])]
    said += _range(aspects["semitone"]) if "semitone" in aspects else []
    if "loudness" in aspects and (top := aspects["loudness"]["real"]["largest"]) and top["share"] >= ALIKE:
        said.append(
            f"loudness: {_percent(top['share'])} of the sounds lie in {top['name']}: hardly any are softer or louder."
        )
    for name, count in real["unknown"].items():
        share, n = count / real["count"], real["count"]
        if share >= UNKNOWN:
            said.append(f"{name}: {_percent(share)} of the sounds have no {VALUES[name]}.")
        if made and made["count"] and name in made["unknown"]:
            m, other = made["count"], made["unknown"][name] / made["count"]
            pooled = (count + made["unknown"][name]) / (n + m)
            if other - share >= max(UNKNOWN, STRAY * math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))):
                text = f"{_percent(other)} of the generated sounds have no {VALUES[name]}"
                said.append(f"{name}: {text}, but only {_percent(share)} of the real ones.")
    return said + [line for n, a in aspects.items() if n != "semitone" and a["distance"] for line in _shifted(n, a)]


def _uneven(name: str, aspect: Json) -> list[str]:
    """Of the real sounds: a category that dominates, and those that hold few or none."""
    own, made = aspect["real"], aspect["generated"]
    counts, widths = np.array(own["counts"]), np.array(own["widths"])
    if own["known"] < LEAST or own["within"] < 2:
        return []
    names, said, top = aspect["categories"], [], int(counts.argmax())
    even = widths / widths.sum()
    expected, share = own["known"] * even, counts / own["known"]
    odds = DOMINANT * even[top] * (1 - share[top])
    if share[top] * (1 - even[top]) > odds and counts[top] > expected[top] + STRAY * math.sqrt(expected[top]):
        also = (
            f"; {_percent(made['counts'][top] / made['known'])} of the generated ones" if made and made["known"] else ""
        )
        said.append(
            f"{name}: {short(names[top], 80)} is {_percent(share[top])} of the sounds, the commonest of "
            f"{own['within']} (an even share would be {_percent(even[top])}){also}."
        )
    rate = counts / np.maximum(widths, 1)
    few = (widths > 0) & (UNEVEN * rate < rate.max()) & (counts < expected - STRAY * np.sqrt(expected))
    if few.any():
        rare = [f"{short(names[i], 80)} ({counts[i]:,})" for i in np.flatnonzero(few)]
        full = int(rate.argmax())
        said.append(f"{name}: few or no sounds of {_list(rare)}, beside {counts[full]:,} of {short(names[full], 80)}.")
    return said


def _range(semitones: Json) -> list[str]:
    """Of the real sounds: a narrow range of pitch, and one with gaps."""
    own, names = semitones["real"], semitones["categories"]
    if own["known"] < LEAST:
        return []
    inside = np.flatnonzero(own["widths"])
    low, high, said = names[inside[0]], names[inside[-1]], []
    if len(inside) < NARROW:
        said.append(f"pitch: nothing below {low} or above {high}.")
    if own["empty"] >= GAPS * len(inside) and own["known"] >= 4 * len(inside):
        said.append(f"pitch: {own['empty']} of the {len(inside)} semitones from {low} to {high} have no sound.")
    return said


def _shifted(name: str, aspect: Json) -> list[str]:
    """Categories that only one of both sets has, and whether the shares differ."""
    said, names, d = [], aspect["categories"], aspect["distance"]
    real, made = (np.array(aspect[role]["counts"]) for role in ("real", "generated"))
    n, m = real.sum(), made.sum()
    top, share = made.argmax(), made.max() / m
    if name in ("loudness", "duration") and len(names) > 1 and share >= ALIKE and real[top] / n < ALIKE:
        one = (
            f"{_percent(share)} of the generated sounds lie in {names[top]}, {_percent(real[top] / n)} of the real ones"
        )
        return [f"{name}: {one}: the range of the real sounds is not repeated."]
    no = "no" if name == "class" else "nothing in"
    for own, other, size, text, of in (
        (real, made, n, f"the generated set has {no}", "real"),
        (made, real, m, f"the real sounds have {no}", "generated"),
    ):
        # If both came from one source, each of the sounds would be of this set with probability size / (n + m).
        sure = own * math.log(size / (n + m)) <= math.log(CHANCE / len(names))
        gone = np.flatnonzero((other == 0) & (own >= MISSING * size) & sure)
        gone = gone[np.argsort(-own[gone], kind="stable")]
        if len(gone):
            lost = [f"{short(names[i], 80)} ({_percent(own[i] / size)} of the {of} ones)" for i in gone]
            said.append(f"{name}: {text} {_list(lost)}.")
    if d["value"] - d["floor"] >= SHIFTED and d["value"] > d["floor"] + STRAY * d["floor_sd"]:
        moved = [
            f"{w} {short(c['name'], 80)} ({_percent(c['generated'])} instead of {_percent(c['real'])})"
            for key, w in (("over", "more"), ("under", "less"))
            for c in aspect[key][:2]
            if abs(c["generated"] - c["real"]) >= MOVED
        ]
        said.append(
            f"{name}: the generated set is shifted, distance {d['value']:.2f} where chance makes {d['floor']:.2f}"
            f"{': ' if moved else ''}{', '.join(moved)}."
        )
    return said


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.1 or not share else 1}f} %"


def _list(words: list[str], most: int = 5) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
