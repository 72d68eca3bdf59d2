"""Watches a run, and says in words what goes wrong before it is found out hours later.

- NaN or infinity in a loss, a gradient or a weight: seen within `train.log_every` steps, and before anything is saved;
  the run stops, or goes back to its last checkpoint (`train.on_nan`).
- Scores of the discriminator that explode: seen at the next checkpoint.
- Every timbre coordinate dead, silent output, every sample a near-copy: at the next checkpoint after the first quarter
  of the run, and 200 steps. Like the last one, it is told, and stops the run when so at three checkpoints in a row.
- Generator and discriminator out of balance: told at every checkpoint; some objectives live with it.

`--train.monitor warn` goes on regardless of all but NaN. The last checkpoint with which nothing was wrong is kept.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from audio_vaegan.config import Recipe

STRIKES = 3
GRACE = 200  # steps, and a quarter of the run, before a young average is held against it
COLLAPSES = ("explosion", "posterior", "silence", "duplicates")  # what no run recovers from by itself
EXPLODED = {"wgan_gp": 1e4}  # mean scores beyond are no judgement any more: a critic's have no scale ...
USUAL = 100.0  # ... of the other losses they lie around one
WINS, BLIND = 0.99, 0.52  # the discriminator's ranking of real above fake: always right, or as good as guessing


class Monitor:
    """Counts for how many checkpoints in a row something was wrong; `strikes` travels in the checkpoint.

    `judged` says whether a discriminator judges at a step.
    """

    def __init__(self, recipe: Recipe, judged: Callable[[int], bool], strikes: dict[str, int] | None = None) -> None:
        self.recipe, self.judged = recipe, judged
        self.strikes = dict(strikes or {})

    def look(self, step: int, terms: dict[str, float], figures: dict[str, float]) -> list[str]:
        """What is wrong after `step` steps, in words: `terms` are the losses since the last look, `figures` those of
        the validation. Updates the strikes.
        """
        recipe = self.recipe
        if recipe.train.monitor == "off":
            return []
        young = step < max(GRACE, 0.25 * recipe.train.steps)
        known = dict(figures)
        if step <= recipe.loss.kl_warmup * recipe.train.steps:
            known.pop("val_active", None)
        if "ranking" in terms and self.judged(step - 1):
            known["ranking"] = terms["ranking"]
        if {"score_real", "score_fake"} <= terms.keys():
            known["scores"] = max(abs(terms["score_real"]), abs(terms["score_fake"]))
        found = diagnose(recipe, known)
        if young:
            found = {name: words for name, words in found.items() if name == "explosion"}
        self.strikes = {name: self.strikes.get(name, 0) + 1 for name in found}
        return [f"step {step}: {words}" for words in found.values()]

    def fatal(self, step: int) -> str | None:
        """The name of what stops the run now, or None. A run that is at its end is never stopped."""
        if self.recipe.train.monitor != "stop" or step >= self.recipe.train.steps:
            return None
        return next((name for name in COLLAPSES if self.strikes.get(name, 0) >= STRIKES), None)

    @property
    def well(self) -> bool:
        """Whether the last look found nothing that a run does not recover from."""
        return not any(self.strikes.get(name) for name in COLLAPSES)


def diagnose(recipe: Recipe, figures: Mapping[str, float]) -> dict[str, str]:
    """What is wrong with a model of a recipe, by name (`COLLAPSES`, or `discriminator`), in words with the mend.

    `figures`: `val_active`, the timbre coordinates that carry more than 0.1 nats; `val_silent` and `val_duplicates`,
    shares of samples (`validation.Validation`); `ranking`, the share of pairs that the discriminator ranks rightly
    (`losses.ranking`); `scores`, the larger of its mean absolute scores of real clips and of fakes. One that is left
    out, as of a network that there is not, is not judged.
    """
    found, loss, rate = {}, recipe.loss, f"{recipe.train.disc_learning_rate:g}"
    scores = figures.get("scores", 0.0)
    if scores > EXPLODED.get(loss.gan, USUAL):
        found["explosion"] = (
            f"the discriminator explodes: its scores are {scores:.0f} on average; lower --train.disc_learning_rate "
            f"(now {rate}), or --train.grad_clip (now {recipe.train.grad_clip:g})"
        )
    if figures.get("val_active") == 0:
        found["posterior"] = (
            "posterior collapse: no timbre coordinate carries more than 0.1 nats, so that all sounds are decoded "
            f"alike; lower --loss.kl (now {loss.kl:g}), or set --loss.free_bits 0.1"
        )
    silent = figures.get("val_silent", 0.0)
    if silent >= 0.5:
        found["silence"] = (
            f"silent output: {silent:.0%} of sampled sounds lie 40 dB or more below the real ones; lower the "
            "learning rates, or look at the real clips in the store: are they mostly silence?"
        )
    duplicates = figures.get("val_duplicates", 0.0)
    if duplicates >= 0.5:
        found["duplicates"] = (
            f"mode collapse: {duplicates:.0%} of samples under the same controls are near-copies of another; set "
            "--loss.diversity 0.1, lower --train.disc_learning_rate, or try --loss.gan wgan_gp"
            if recipe.adversarial
            else f"{duplicates:.0%} of samples under the same controls are near-copies of another: the timbre code "
            f"is hardly used; lower --loss.kl (now {loss.kl:g})"
        )
    ranking = figures.get("ranking", math.nan)
    if ranking > WINS:
        found["discriminator"] = (
            f"the discriminator always wins (it ranks {ranking:.1%} of real clips above fakes), and what always wins "
            f"teaches little; lower --train.disc_learning_rate (now {rate}), or set --train.disc_rest_above 0.9"
        )
    elif ranking < BLIND:
        found["discriminator"] = (
            f"the discriminator guesses (it ranks {ranking:.1%} of real clips above fakes); raise "
            f"--train.disc_learning_rate (now {rate})"
        )
    return found


def not_finite(terms: dict[str, float]) -> list[str]:
    """Names of the terms that are NaN or infinite."""
    return [name for name, value in terms.items() if not math.isfinite(value)]


def better(figures: dict[str, float], by: str, best: dict[str, Any] | None) -> bool:
    """Whether the figure `by` is lower than the best one so far."""
    return by in figures and (best is None or figures[by] < best["value"])
