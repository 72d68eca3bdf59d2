"""The card of a data set, README.md, and its plots: what it is, how true its labels are, what it was made from."""

import json
import re
import shlex
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import yaml

from audio_vaegan.data.duplicates import ALIKE, ALIKE_FINE, BANDS, SLICES
from audio_vaegan.dataset.facts import NO_LABELS, Facts, Measured
from audio_vaegan.dataset.tally import Balance, ControlTally, Histogram, Tally

# What the Hugging Face hub takes for `license`, less what is for software (docs/hub/repositories-licenses)
LICENSES = (
    " apache-2.0 mit isc zlib unlicense bsd-2-clause bsd-3-clause mpl-2.0 gpl-2.0 gpl-3.0 lgpl-3.0 agpl-3.0 gfdl "
    "openrail c-uda cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 "
    "cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 "
    "cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 odc-by odbl pddl etalab-2.0 unknown "
)
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
NONE = "–"


def plain(text: Any) -> str:
    """Text from elsewhere on one line, with nothing in it that Markdown or HTML acts upon."""
    # An underscore between letters or digits is only an underscore.
    return re.sub(r"[\\`*\[\]<>|~#$&]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", " ".join(str(text).split()))


def _block(text: str, language: str) -> str:
    """A code block that its text cannot end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False, allow_unicode=True)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number_text(value: float | None, unit: str = "", digits: int = 4) -> str:
    return NONE if value is None else f"{value:.{digits}g} {unit}".strip()


def _share(part: int, whole: int) -> str:
    """Per cent, which say 100 only when it is all."""
    if not whole:
        return NONE
    return f"{100.0 if part == whole else min(100 * part / whole, 99.9):.1f} %"


def license_fields(stated: str | None) -> dict[str, str]:
    """The front matter's fields of a licence that the user stated: an identifier that the hub knows, or a name."""
    if not stated or not stated.strip():
        return {"license": "unknown"}
    name = re.sub(r"[^a-z0-9.]+", "-", stated.lower()).strip("-.")
    for known in (name, re.sub(r"-(only|or-later)$", "", name), re.sub(r"-1\.0$", "", name)):
        if f" {known} " in LICENSES:
            return {"license": known}
    return {"license": "other", "license_name": name or "custom"}


def front_matter(
    facts: Facts, data_files: Sequence[Mapping[str, str]], features: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The YAML that the Hugging Face hub reads."""
    fields: dict[str, Any] = {
        **license_fields(facts.license),
        "pretty_name": " ".join(facts.name.split()),
        "tags": ["audio", "synthetic", "audio-vaegan"],
        "task_categories": ["audio-classification"],
        "size_categories": [next((size for end, size in SIZES if facts.delivered < end), "10M<n<100M")],
    }
    if data_files:
        fields["configs"] = [{"config_name": "default", "data_files": [dict(f) for f in data_files]}]
    if features:
        fields["dataset_info"] = {"features": [dict(f) for f in features]}
    return f"---\n{_yaml(fields)}---\n"


def error_unit(control: ControlTally) -> tuple[str, float]:
    """The unit that a control's errors are told in, and what one of its own units is in it."""
    return ("cents", 100.0) if control.name == "pitch" else (plain(control.unit), 1.0)


def _levels(levels: Histogram, unit: str) -> str:
    low, middle, high = (levels.quantile(share) for share in (0, 0.5, 1))
    return f"{number_text(low)} to {number_text(high, unit)}, median {number_text(middle)}"


def _accuracy_row(c: ControlTally, known: Measured) -> list[str]:
    unit, scale = error_unit(c)
    median, p95 = (None if e is None else e * scale for e in (c.quantile(0.5), c.quantile(0.95)))
    asked = c.tolerance is not None
    return [
        plain(c.name),
        plain(c.unit),
        f"{c.requested:,}",
        number_text(median, unit, 3),
        number_text(p95, unit, 3),
        _share(c.within, c.requested) if asked else NONE,
        number_text(c.scale * scale, unit) if asked else "not asked for",
        f"{c.undefined:,}",
        f"{number_text(c.achieved.low)} to {number_text(c.achieved.high)}" if c.achieved.n else NONE,
        f"{number_text(known.low)} to {number_text(known.high)}",
    ]


def _accuracy(facts: Facts, tally: Tally) -> str:
    if not tally.controls:
        return "The model has no controls with a unit: no label was measured."
    heads = ("control", "unit", "n", "median error", "P95", "within tolerance", "tolerance", "undefined", "achieved")
    rows = (_accuracy_row(control, facts.controls[name]) for name, control in tally.controls.items())
    text = _table((*heads, "range of the model"), rows)
    pitch = tally.controls.get("pitch")
    if pitch and pitch.requested:
        near = ", ".join(f"within {c} cents {_share(k, pitch.requested)}" for c, k in pitch.cents.items())
        text += f"\n\nPitch against its request: {near} (n {pitch.requested:,})."
    return text


def _balance(balance: Balance, head: str, show: Callable[[Any], str] = plain, first: Sequence[Any] = ()) -> str:
    """A row for each kind, those of `first` first, there or not."""
    kinds = [*first, *sorted({*balance.asked, *balance.delivered} - {*first})]
    rows = ([show(k), f"{balance.asked[k]:,}", f"{balance.delivered[k]:,}"] for k in kinds)
    return _table((head, "asked first", "delivered"), rows)


def _octaves(tally: Tally) -> str:
    if "pitch" not in tally.controls:
        return "No octaves: the model has no control of pitch."
    return f"""{_balance(tally.octaves, "octave", lambda k: f"C{k} to B{k}")}

C4 to B4 are the MIDI keys 60 to 71. Asked: by the pitch requested first, if one was; delivered: by the pitch
achieved, which {tally.no_pitch:,} of the sounds delivered do not have."""


def _reasons(reasons: Mapping[str, int]) -> str:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{plain(reason)} {count:,}" for reason, count in ordered if count) or "none"


def _copies(facts: Facts, tally: Tally) -> str:
    if not facts.fingerprints:
        return """The model came without fingerprints of its training sounds, so **nothing was checked**: whether a
sound here is a near-copy of one that the generator learnt from is not known, and `nearest_training` is null."""
    near = tally.nearest
    shares = (("median", 0.5), ("P95", 0.95), ("P99", 0.99), ("highest", 1.0))
    quantiles = ", ".join(f"{name} {number_text(near.quantile(share))}" for name, share in shares)
    above = sum(near.counts[bisect_left(near.edges, ALIKE) :])
    rejected = sum(count for reason, count in facts.rejected.items() if "training" in reason)
    found = f"Attempts rejected as near-copies: {rejected:,}."
    if facts.spec.get("copies") == "keep":
        found = "Near-copies were kept, as the specification says."
    return f"""Each sound was compared with the {facts.fingerprints:,} fingerprints of training sounds in the model.
`nearest_training` is how alike the nearest one is: the cosine (1: the same) of two prints of {BANDS} mel bands by
{SLICES} slices, aligned at the onset. From {ALIKE:g} on a sound is a near-copy, if the cosine of a random projection of
the spectrum's fine structure is from {ALIKE_FINE:g} on, too.

Of the sounds delivered (n {near.n:,}): {quantiles}; {above:,} at {ALIKE:g} or above. {found}
Short plain sounds are alike without being copies; a copy at another pitch is not found this way."""


def _sources(facts: Facts) -> str:
    """Of variations of real sounds, what they are of."""
    if not facts.sources:
        return ""
    cut = (
        f"; of those that are longer than a sound here only the beginning was varied: {facts.cut:,}"
        if facts.cut
        else ""
    )
    return f"\n\nThey are variations of {facts.sources:,} sound files (column `source`), as long as these{cut}."


def _columns(facts: Facts, tally: Tally) -> str:
    names = ", ".join(f"`{name}`" for name in tally.controls) or "none here"
    label = f"the class asked for, of {len(facts.classes)}" if facts.classes else "the class; none here"
    says = {
        "`file_name`": "the sound's file, in layouts of single files",
        "`id`, `split`": "digits; " + (", ".join(plain(s) for s in facts.splits) or "no split"),
        "`NAME_requested`": f"what was asked of a control ({names}), in its unit; null: nothing. A class by its name",
        "`NAME_achieved`": "what the meter reads from the sound; null: undefined. A class: the model's own guess",
        "`NAME_unit`": "the unit of both",
        "`label`": label,
        "`seed`, `item`, `attempt`, `address`": "the random numbers that made it; attempt 0: the first try was good",
        "`source`": "for a variation of a real sound: that sound's file",
        "`sample_rate`, `num_samples`": "Hz; samples in the file",
        "`peak_dbfs`, `loudness_lufs`": "largest sample, and integrated loudness",
        "`nearest_training`": "0 to 1, how alike the nearest training sound is; null: not checked",
        "`audio_sha256`": "of the sound's file",
        "`model_hash`, `vocoder`": "what made it",
        "`synthetic`, `license`": "always true; as stated by who made the set",
    }
    return _table(("column", "what it says"), says.items()) + (f"\n\n{NO_LABELS}" if facts.layout == "nsynth" else "")


def card(
    facts: Facts,
    tally: Tally,
    data_files: Sequence[Mapping[str, str]],
    load: str,
    features: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The text of README.md; `data_files` are the hub's (`split`, `path`), `load` is Python code that opens the set."""
    tries = ", ".join(f"{k + 1}: {tally.attempts[k]:,}" for k in sorted(tally.attempts)) or "none"
    some = facts.classes or tally.classes.asked
    classes = _balance(tally.classes, "class", first=facts.classes) if some else "The model has no classes."
    stated = f"**{plain(facts.license)}**" if facts.license else "**not stated** (ask who made the set)"
    command = f"audio-vaegan dataset {shlex.quote(' '.join(facts.model_name.split()))} SPEC.yaml --out DS"
    if facts.vocoder_asked != "auto":
        command += f" --vocoder {shlex.quote(' '.join(facts.vocoder_asked.split()))}"
    return f"""{front_matter(facts, data_files, features)}
# {plain(facts.name)}

**Every sound in this data set was generated by a machine**, and is marked so in its file and in its row (`synthetic`).

{facts.delivered:,} sounds of {facts.length}, mono, {facts.sample_rate} Hz, {facts.format}, as {facts.layout}.
Made by audio-vaegan {plain(facts.version)} with the generator {plain(facts.model_name)}, which has controls in real
units; they were measured on each finished sound.{_sources(facts)}

## Load

{_block(load, "python")}

## What each row says

{_columns(facts, tally)}

## How true the labels are

`NAME_achieved` is what a meter read from the finished sound, `NAME_requested` what was asked for. Below: how far the
one is from the other in the sounds delivered. The meters are audio-vaegan's own, on **every** sound; for pitch that is
YIN, and on a sample of the sounds pYIN had to agree.

A sound that missed a request by more than the tolerance was rejected and tried again; where all attempts failed, or the
sound was a duplicate, it was asked for something else (see Yield). Below is the request it was delivered under. So
*within tolerance* (an undefined value counts as outside) says what was let through, not how good the meters are. For
that there is an independent check of a data set that is laid out as audiofolder, by meters that share no code with
these: `audio-vaegan evaluate-dataset DS`.

{_accuracy(facts, tally)}

![Error of the achieved against the requested values, in tolerances](accuracy.png)

## Balance

![Asked for and delivered: by octave, by class, over each control's range](balance.png)

{_balance(tally.splits, "split", first=list(facts.splits))}

{classes}

{_octaves(tally)}

Peak: {_levels(tally.peak, "dBFS")}. Loudness: {_levels(tally.loudness, "LUFS")}.

## Yield

- asked for: {facts.asked:,}; delivered: {facts.delivered:,} ({_share(facts.delivered, facts.asked)})
- the sounds delivered, by the attempt that was good: {tries}
- of them under a request drawn anew: {tally.anew:,} (*Balance* shows under *asked first* what was asked of them before)
- rejected attempts, by reason (one may have several): {_reasons(facts.rejected)}
- never delivered, by the last reason: {_reasons(facts.missing)}

## Copies of training sounds

{_copies(facts, tally)}

## What the generator learnt from, and the licence

{_block(_yaml(facts.trained_on), "yaml") if facts.trained_on else "The model does not say what it was trained on."}

Licence of these sounds, as stated by who made the set: {stated}. audio-vaegan neither gives nor checks it: look at the
terms of what the generator learnt from before you publish or sell.

## Limits

- The sounds are like the training data: what is rare or missing there is rare, worse or missing here, and what learns
  from this set inherits that.
- Nothing was asked for outside the ranges that the generator was trained on (last column of the table above), so such
  labels do not exist here. A class is what was asked for, checked at most by the classifier that the generator was
  trained with. Timbre, apart from the controls, has no label.
- The meters err, too, most on noisy and very short sounds. Undefined is not zero.
- All sounds share one generator and one vocoder, whose traces a classifier can learn: test on real recordings.
- Not for the imitation of a person's voice, and not to be passed off as recordings.

## Make it again

{_block(command, "")}

SPEC.yaml:

{_block(_yaml(facts.spec), "yaml")}

The same machine and versions make the same bytes.

- audio-vaegan {plain(facts.version)}, torch {plain(facts.torch)}
- seed: {facts.seed}
- vocoder: {plain(facts.vocoder)}
- model hash: `{facts.model_hash}`
- hash of the specification: `{facts.spec_sha256}`
"""
