"""The training health of a finished model: what its code carries, what its samples are, how D and G were balanced."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from audio_vaegan.data.batches import Clips
from audio_vaegan.data.store import Store
from audio_vaegan.evaluation.distances import RANGE_DB
from audio_vaegan.evaluation.held import check_fits, pick
from audio_vaegan.losses import kl_per_coordinate
from audio_vaegan.sound_model import SoundModel
from audio_vaegan.training.monitor import BLIND, COLLAPSES, WINS, diagnose
from audio_vaegan.training.schedule import judged
from audio_vaegan.training.validation import ACTIVE_NATS, SAMPLES, TIMBRES, near_copies, rms_distance, silent_share

ACTIVE_VARIANCE = 0.01  # of the code's mean over clips: Burda et al. 2016
BATCH = 32
Json = dict[str, Any]


def training_health(model: SoundModel, store: Store, records: Sequence[Json], clips: int = 256) -> Json:
    """What can be wrong with a trained model, as JSON. `records` are the lines of its RUN/metrics.jsonl, if any.

    `kl`, `active_units`, `aggregate_gap` (`_code`) of held-out clips; None without an encoder. `samples` (`_samples`)
    from the prior; `balance` (`_balance`) of discriminator and generator; None without a discriminator or records.
    `verdict`: what is wrong, `name` and `words`, as training says it; `collapsed`: whether some of it is a collapse.
    At most `clips` held-out clips and four times as many samples are looked at. Raises UserError for a store of other
    mels or clips.
    """
    check_fits(model, store)
    health = {
        **_code(model, store, clips),
        "samples": _samples(model, store, clips),
        "balance": _balance(model, records),
    }
    found = {
        "val_active": health["active_units"] and health["active_units"]["informative"],
        "val_silent": health["samples"]["silent"],
        "val_duplicates": health["samples"]["near_copies"],
        "ranking": health["balance"] and health["balance"]["ranking"],
    }
    wrong = diagnose(model.recipe, {name: value for name, value in found.items() if value is not None})
    verdict = [{"name": name, "words": words} for name, words in wrong.items()]
    return health | {"verdict": verdict, "collapsed": any(name in COLLAPSES for name in wrong)}


@torch.no_grad()
def _code(model: SoundModel, store: Store, clips: int) -> Json:
    """What the timbre code carries, of `test_note`, else `test_instrument`, else `train` (`split`).

    `kl`: KL(q(z_k|x) || N(0, 1)) in nats of each coordinate, a mean over clips, largest first, and their sum.
    `active_units`: `active` of `of` coordinates, Var_x(E[z_k|x]) > 0.01 (Burda, Grosse & Salakhutdinov 2016,
    Importance Weighted Autoencoders, section 5.2); `informative`, KL > 0.1 nats, as training counts them.
    `aggregate_gap`: KL(N(m, s^2) || N(0, 1)) in nats, summed over coordinates, m and s^2 the moments of the aggregate
    posterior q(z) (s^2 = Var_x(mean) + E_x[variance]). It is a lower bound of KL(q(z) || p(z)), the marginal KL of
    Hoffman & Johnson 2016 (ELBO surgery): ln p is a square, so that what a Gaussian of these moments leaves out adds.
    """
    if model.vaegan.encoder is None:
        return {"kl": None, "active_units": None, "aggregate_gap": None}
    rows = pick(store, "test_note", clips, fallback=True)
    mel = model.vaegan.normalise(model.log_mel(torch.from_numpy(store.read(rows))))
    codes = [model.vaegan.encoder(m.to(model.device)) for m in mel.split(BATCH)]
    mean, log_variance = (torch.cat(part).cpu().double() for part in zip(*codes, strict=True))
    kl = kl_per_coordinate(mean, log_variance)
    spread = mean.var(dim=0, correction=0)
    whole = spread + log_variance.exp().mean(dim=0)
    nats = [round(v, 4) for v in kl.sort(descending=True).values.tolist()]
    active, informative = (int(which.sum()) for which in (spread > ACTIVE_VARIANCE, kl > ACTIVE_NATS))
    return {
        "kl": {"split": str(store.column("split")[rows[0]]), "n": len(rows), "nats": nats, "sum": float(kl.sum())},
        "active_units": {"active": active, "informative": informative, "of": len(nats)},
        "aggregate_gap": float(kl_per_coordinate(mean.mean(dim=0, keepdim=True), whole.log().unsqueeze(0)).sum()),
    }


@torch.no_grad()
def _samples(model: SoundModel, store: Store, clips: int) -> Json:
    """Of codes from N(0, I), 32 under the controls of each of `clips` / 8 training clips, as the generator decodes them
    (before `Level`, which would raise silence to the loudness that is asked).

    `silent`, `near_copies`: shares, as `training.validation` defines them. `diversity`: mean RMS distance in dB of two
    samples' log-mels under the same controls (`samples`), of two real clips of one semitone, else of any two (`real`,
    `of`), and the `ratio`, below 1 in good health, too: real clips of one pitch differ in the other controls. What lies
    80 dB or more below the loudest real band counts as that. None where there is a single clip.
    """
    net, config, device = model.vaegan, model.recipe.mel, model.device
    rows = pick(store, "train", max(clips, SAMPLES), fallback=True)
    known = Clips(store, rows, {c.name: c.classes for c in net.controls})
    audio, values, _ = known.read(np.arange(len(known)))
    mels, standard = model.log_mel(audio), net.standardise(values)
    real = mels[np.unique(np.linspace(0, len(mels) - 1, min(SAMPLES, len(mels))).astype(np.int64))]
    places = np.linspace(0, len(known) - 1, max(1, clips // 8)).astype(np.int64)
    timbre = torch.randn(len(places), TIMBRES, net.timbre_dim, generator=torch.Generator().manual_seed(0))
    made = []
    for codes, asked in zip(timbre, standard[places], strict=True):
        alike = asked.expand(TIMBRES, -1)
        mel = net.generator(codes.to(device), alike.nan_to_num(0.0).to(device), ~alike.isnan().to(device))
        made.append(net.denormalise(mel).float().cpu())
    figures = {"n": len(places) * TIMBRES, "silent": silent_share(torch.cat(made), real, config)}
    if len(real) < 2:
        return figures | {"near_copies": None, "diversity": None}
    decibel = 20 / config.power / (math.log(10) if config.log == "ln" else 1)
    floor = float(mels.max()) - RANGE_DB / decibel
    pitch = np.rint(store.column("pitch")[rows]) if "pitch" in model.controls else np.full(len(mels), np.nan)
    alone = np.eye(len(mels), dtype=bool)
    same = (pitch[:, None] == pitch) & ~alone
    pairs = torch.from_numpy(same if same.any() else ~alone)
    apart = decibel * float(rms_distance(mels.clamp_min(floor))[pairs].mean())
    others = ~torch.eye(TIMBRES, dtype=torch.bool)
    between = decibel * float(np.mean([float(rms_distance(m.clamp_min(floor))[others].mean()) for m in made]))
    diversity: Json = {"samples": between, "real": apart, "ratio": between / apart if apart else None}
    diversity["of"] = "one pitch" if same.any() else "any kind"
    return figures | {"near_copies": float(np.mean([near_copies(m, real) for m in made])), "diversity": diversity}


def _balance(model: SoundModel, records: Sequence[Json]) -> Json | None:
    """Means over the last quarter of the records of steps in which the discriminator judged (`from` ... `to`).

    `ranking`: share of pairs in which it scores the real clip above the fake (`losses.ranking`); `score_real`,
    `score_fake`; `gradients`: norm of its gradient over that of encoder and generator (all terms), before clipping.
    """
    names = ("ranking", "score_real", "score_fake", "grad_d", "grad_g")
    known = [r for r in records if {*names} <= r.keys() and judged(r["step"] - 1, model.recipe)]
    last = known[len(known) * 3 // 4 :]
    if not last:
        return None
    figures = {name: float(np.mean([r[name] for r in last])) for name in names}
    d, g = figures.pop("grad_d"), figures.pop("grad_g")
    return {"from": last[0]["step"], "to": last[-1]["step"], **figures, "gradients": d / g if g else None}


def describe(health: Json) -> str:
    """The health as text."""
    lines = [f"training health: {'COLLAPSED' if health['collapsed'] else 'no collapse'}"]
    if health["kl"]:
        kl, units = health["kl"], health["active_units"]
        largest = ", ".join(f"{v:.2f}" for v in kl["nats"][:5])
        lines += [
            f"  timbre code of {kl['n']} clips of {kl['split']}: KL {kl['sum']:.2f} nats (largest {largest}); of "
            f"{units['of']} coordinates {units['informative']} carry more than {ACTIVE_NATS:g} nats, {units['active']} "
            f"are active (variance of the mean above {ACTIVE_VARIANCE:g})",
            f"  aggregate posterior against N(0, I): at least {health['aggregate_gap']:.2f} nats",
        ]
    made, apart, b = health["samples"], health["samples"]["diversity"], health["balance"]
    copies = "" if made["near_copies"] is None else f", {made['near_copies']:.1%} near-copies under the same controls"
    lines.append(f"  {made['n']} samples from N(0, I): {made['silent']:.1%} silent{copies}")
    if apart and apart["ratio"] is not None:
        lines.append(
            f"  two samples under the same controls differ by {apart['samples']:.1f} dB, two real clips of "
            f"{apart['of']} by {apart['real']:.1f} dB (ratio {apart['ratio']:.2f})"
        )
    if b:
        ratio = "" if b["gradients"] is None else f"; gradient norms D/G {b['gradients']:.1f}"
        lines.append(
            f"  discriminator, steps {b['from']} to {b['to']}: ranks {b['ranking']:.1%} of pairs rightly, scores "
            f"{b['score_real']:+.2f} real, {b['score_fake']:+.2f} fake{ratio}"
        )
    return "\n".join(lines + [f"  {v['words']}" for v in health["verdict"]])


def health_picture(health: Json, records: Sequence[Json]) -> bytes:
    """PNG: KL of each timbre coordinate, largest first, and the discriminator's ranking over the step."""
    figure = Figure(figsize=(7.6, 2.8), dpi=80, layout="constrained")
    code, ranking = figure.subplots(1, 2)
    nats = health["kl"]["nats"] if health["kl"] else []
    code.bar(range(1, len(nats) + 1), nats, width=0.9)
    code.set_yscale("symlog", linthresh=ACTIVE_NATS)  # linear up to the line, so that 0 has its place
    code.set_ylim(0, max([1.0, *nats]) * 1.1)
    code.set(title="KL of each timbre coordinate" if nats else "no encoder", xlabel="coordinate, by KL", ylabel="nats")
    points = [(r["step"], r["ranking"]) for r in records if "ranking" in r]
    ranking.plot([x for x, _ in points], [y for _, y in points], linewidth=1)
    if health["balance"]:
        ranking.axvspan(health["balance"]["from"], health["balance"]["to"], alpha=0.15)
    ranking.set_ylim(min([0.45, *(y for _, y in points)]), 1.02)
    ranking.set(title="pairs that D ranks rightly" if points else "no discriminator on record", xlabel="step")
    for ax, limits in ((code, (ACTIVE_NATS,)), (ranking, (BLIND, WINS))):
        for limit in limits:
            ax.axhline(limit, color="0.4", linewidth=1, linestyle="--")
        ax.tick_params(labelsize=7)
        for text, size in ((ax.title, 9), (ax.xaxis.label, 8), (ax.yaxis.label, 8)):
            text.set_fontsize(size)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
