"""A training step: clips a second, and where the time goes."""

from typing import Any

import numpy as np
import torch

from audio_vaegan.bench.machine import Call, Machine, in_turns, median, operations
from audio_vaegan.config import Recipe
from audio_vaegan.data.augment import DRAWS
from audio_vaegan.data.store import Store
from audio_vaegan.training.accelerator import make_accelerator
from audio_vaegan.training.adversary import fakes_of
from audio_vaegan.training.vaegan import VaeGanTask


def bench_training(recipe: Recipe, store: Store, machine: Machine, seconds: float) -> dict[str, Any]:
    """Steps late in the run, with every network at work, and each part alone, forwards and backwards. The parts need
    not add up: what is left is the losses' and the bookkeeping's, and what parts save when they follow each other.

    Where the discriminator learns in every k-th step, a step is the mean of k, and its part is what it costs then.
    Clips are read in the step, not ahead (`train.workers`).
    """
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"workers": 0})})
    accelerator = make_accelerator(recipe)
    task = VaeGanTask(recipe, store, accelerator)
    every = recipe.train.disc_every
    last = max(0, recipe.train.steps - every)
    parts = _parts(task, last)

    def steps() -> None:
        for step in range(last, last + every):
            task.step(step)

    took = in_turns({"steps": steps, **parts}, accelerator.device, seconds, "training")
    whole, count = median(took["steps"]) / every, operations(steps) / every
    return {
        "recipe": recipe.name,
        "precision": recipe.train.mixed_precision,
        "parameters": task.parameters(),
        "training_clips": len(task.clips),
        "batch": recipe.train.batch_size,
        "seconds_a_step": whole,
        "clips_per_second": recipe.train.batch_size / whole,
        "giga_operations_a_step": count / 1e9,
        "share_of_roof": machine.floor(count) / whole,
        "milliseconds_by_part": {name: 1e3 * median(took[name]) for name in parts},
        "turns": len(took["steps"]),
    }


def _parts(task: VaeGanTask, step: int) -> dict[str, Call]:
    recipe, feed, net, adversary = task.recipe, task.feed, task.net, task.adversary
    part = feed.parts(step, judged=True)[0]
    rows = np.arange(len(part.mel)) % len(feed.clips)
    draws = np.random.default_rng(0).random((len(rows), DRAWS), dtype=np.float32) if feed.augmented else None
    audio = feed.clips.read(rows)[0]
    with torch.no_grad():
        out = task._decode(part)

    def mel() -> None:
        with torch.no_grad():
            net.normalise(feed.mel(audio.to(feed.device)))

    def generator() -> None:
        plan = part.plan
        count = len(part.noise) if net.encoder is not None else 0
        timbre = torch.cat([part.noise[:count], part.noise[plan.judged], plan.timbre])
        controls = torch.cat([part.controls[:count], part.controls[plan.judged], plan.controls])
        defined = torch.cat([part.defined[:count], part.defined[plan.judged], plan.defined])
        with task.accelerator.autocast():
            mel = net.generator(timbre, controls, defined)
        mel.float().square().mean().backward()

    def optimiser() -> None:
        for p in net.parameters():
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        task.accelerator.clip_grad_norm_(net.parameters(), recipe.train.grad_clip)
        task.opt_g.step()
        task.ema.update(net, step)

    parts: dict[str, Call] = {
        "data (read, augment, label)": lambda: feed.clips.read(rows, recipe.augment, draws),
        "mel": mel,
    }
    if (encoder := net.encoder) is not None:

        def encode() -> None:
            with task.accelerator.autocast():
                mean, spread = encoder(part.mel)
            (mean.float().square().mean() + spread.float().square().mean()).backward()

        parts["encoder"] = encode
    parts["generator"] = generator
    if adversary.critic is not None:
        parts["discriminator and heads, their step"] = lambda: adversary.update([part], lambda _: fakes_of(part, out))
    if recipe.adversarial or recipe.similar:
        fresh = type(out)(*(getattr(out, name).detach().requires_grad_() for name in vars(out)))

        def judge() -> None:
            terms = adversary.judgement(part, fresh)
            torch.stack([*terms.values()]).sum().backward()

        parts["discriminator and heads, what they tell"] = judge
    return parts | {"optimiser and average": optimiser}
