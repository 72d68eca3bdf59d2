"""Measure what a sound became, and correct its code: a few damped quasi-Newton steps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 3
DAMPING = 0.95  # of a step
TIMBRE = 0.2  # how far the timbre code moves where a control moves by 1: it helps where controls do not reach
RIDGE = 0.1  # of the normal equations, in squared tolerances: readings that hardly follow the code are not chased
LONGEST = 1.0  # of a step in any control coordinate, in deviations
UNHEARD = 3.0  # tolerances that a wanted control counts as off when nothing is heard


@dataclass(frozen=True)
class Corrected:
    """Codes `[B, C + D]`, what was heard of them `[B, C]` (standardised), and the error of the open loop and of these,
    `[B]`: the root mean square of what is wanted less what is heard, in tolerances."""

    z: Tensor
    heard: Tensor
    open: Tensor
    closed: Tensor


def close_loop(
    z: Tensor,
    wanted: Tensor,
    hear: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], Tensor],
    low: Tensor,
    high: Tensor,
    radius: float,
    tolerance: Tensor | None = None,
    steps: int = STEPS,
) -> Corrected:
    """Correct codes `z` `[B, C + D]` (the first C: standardised controls, NaN where undefined) so that what is heard of
    them comes near `wanted` `[B, C]` (NaN: not asked for).

    `hear` measures (z -> `[B, C]`, NaN: nothing); `slope` gives the Jacobian of that, or a guess, at the start (z ->
    `[B, C, C + D]`). Each step is Levenberg's (1944), dz = J' (J J' + ridge)^-1 (wanted - heard) from the best code so
    far, and what it did corrects the Jacobian (Broyden 1965, eq. 4.5). Errors count in units of `tolerance` `[B, C]`
    (default 1). Control coordinates stay within [low, high] `[B, C]`, timbre codes within `radius` or the length that
    they came with. Each sound keeps the code that was heard to be best, the first one included: never worse than
    without the loop, by what `hear` hears.
    """
    controls = wanted.shape[1]
    tolerance = torch.ones_like(wanted) if tolerance is None else tolerance
    scale = torch.full((z.shape[1],), TIMBRE, dtype=z.dtype)
    scale[:controls] = 1.0
    limit = z[:, controls:].norm(dim=1, keepdim=True).clamp_min(radius)
    best, heard = z.clone(), hear(z)
    error = _error(wanted, heard, tolerance)
    first, jacobian = error.clone(), None
    for _ in range(steps):
        lacking = (wanted - heard) / tolerance
        asked = lacking.isfinite()
        moving = (asked & (lacking.abs() > 1e-2)).any(dim=1, keepdim=True)
        if not bool(moving.any()):
            break
        if jacobian is None:  # of scaled readings by scaled coordinates; an undefined coordinate cannot move
            jacobian = slope(z) * scale / tolerance.unsqueeze(2) * ~z.isnan().unsqueeze(1)
        rows = jacobian * asked.unsqueeze(-1)
        inner = rows @ rows.transpose(1, 2) + torch.diag_embed(torch.where(asked, RIDGE, 1.0))
        right = torch.linalg.solve(inner, torch.where(asked, lacking, torch.zeros_like(lacking)))
        step = (rows.transpose(1, 2) @ right.unsqueeze(-1)).squeeze(-1) * scale
        largest = step[:, :controls].abs().amax(dim=1, keepdim=True).clamp_min(1e-9)
        now = best + DAMPING * step * (LONGEST / largest).clamp_max(1.0)
        timbre = now[:, controls:]
        timbre = timbre * (limit / timbre.norm(dim=1, keepdim=True).clamp_min(1e-9)).clamp_max(1.0)
        now = torch.cat([torch.minimum(torch.maximum(now[:, :controls], low), high), timbre], dim=1)
        now = torch.where(moving, now, best)  # each sound for itself: the others of the batch change nothing
        then = hear(now)
        moved = ((now - best) / scale).nan_to_num(0.0)
        known = (then - heard).isfinite()
        change = torch.where(known, then - heard, torch.zeros_like(then)) / tolerance
        surprise = (change - (jacobian @ moved.unsqueeze(-1)).squeeze(-1)) * known
        size = moved.square().sum(dim=1).clamp_min(1e-9)
        jacobian = jacobian + surprise.unsqueeze(-1) * moved.unsqueeze(1) / size.view(-1, 1, 1)
        found = _error(wanted, then, tolerance)
        better = (found < error).unsqueeze(1)
        best, heard = torch.where(better, now, best), torch.where(better, then, heard)
        error = torch.minimum(found, error)
    return Corrected(best, heard, first, error)


def _error(wanted: Tensor, heard: Tensor, tolerance: Tensor) -> Tensor:
    """Root mean square over the wanted controls `[B]`, in tolerances."""
    asked = wanted.isfinite()
    off = ((wanted - heard) / tolerance).nan_to_num(UNHEARD, UNHEARD, UNHEARD)
    return ((off.square() * asked).sum(dim=1) / asked.sum(dim=1).clamp_min(1)).sqrt()
