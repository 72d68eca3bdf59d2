"""The step loop: resuming, checkpoints, validation, monitor, metrics, samples, and a clean way out at Ctrl-C."""

import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from audio_vaegan.config import Recipe
from audio_vaegan.errors import Failure, UserError
from audio_vaegan.training import checkpoint
from audio_vaegan.training.monitor import Monitor, better, not_finite
from audio_vaegan.training.run_folder import Log, claim
from audio_vaegan.training.together import Stop, agree, any_rank, same_everywhere
from audio_vaegan.training.trackers import Trackers

Samples = Callable[[Path, int], None]


class Task(Protocol):
    """What the engine trains."""

    @property
    def modules(self) -> dict[str, nn.Module]: ...
    @property
    def optimizers(self) -> dict[str, Optimizer]: ...
    def parameters(self) -> dict[str, int]: ...
    def data(self) -> str: ...

    learning_rate_scale: float

    @property
    def best_by(self) -> str: ...
    @property
    def exported(self) -> str: ...
    def settled(self, done: int) -> bool: ...
    def judged(self, step: int) -> bool: ...
    def step(self, step: int) -> dict[str, Tensor]: ...
    def cost(self, step: int) -> float: ...
    def validate(self) -> dict[str, float]: ...
    def export(self, out: Path, steps: int) -> str: ...
    def close(self) -> None: ...


class NotFinite(Exception):
    """Some figures, by name, are NaN or infinite after so many steps. Every process sees the same."""

    def __init__(self, step: int, names: list[str]) -> None:
        super().__init__(step, names)
        self.step, self.names = step, names


class Window:
    """Means of the loss terms since the last record, kept on the device until they are asked for."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums[name] + value.float() if name in self.sums else value.float()
            self.counts[name] = self.counts.get(name, 0) + 1

    def mean(self, accelerator: Accelerator) -> dict[str, float]:
        """The means over steps and ranks."""
        stacked = torch.stack([v / self.counts[k] for k, v in self.sums.items()])
        mean = accelerator.reduce(stacked, reduction="mean")
        return {k: round(v, 6) for k, v in zip(self.sums, mean.tolist(), strict=True)}


class Engine:
    """One run: a task trained in a folder, from its last checkpoint if there is one.

    `made_of` names what else decides the result, by hash: the store, and what a task starts from. `given` is the recipe
    as the user gave it, where it differs from that of the task (a stage of two).
    """

    def __init__(
        self,
        recipe: Recipe,
        made_of: dict[str, str],
        accelerator: Accelerator,
        task: Task,
        run: Path,
        samples: Samples | None = None,
        given: Recipe | None = None,
    ) -> None:
        self.recipe, self.accelerator, self.task, self.run, self.samples = recipe, accelerator, task, run, samples
        claim(run, given or recipe, made_of, accelerator)
        last = checkpoint.latest(run)
        self.fresh = last is None  # asked once: soon the first process writes
        self.state: dict[str, Any] = {"step": 0}
        if last:
            self.state = checkpoint.load(last, task.modules, task.optimizers)
        same_everywhere(self.state["step"], accelerator, run)
        self._begin()
        self.costs = [task.cost(step) for step in range(recipe.train.steps)]
        by = recipe.train.best_by
        self.best_by = by if by != "auto" else task.best_by

    def _begin(self) -> None:
        """Take up what the state says."""
        self.start: int = self.state["step"]
        self.monitor = Monitor(self.recipe, self.task.judged, self.state.get("strikes"))
        self.task.learning_rate_scale = 0.5 ** len(self.state.get("rollbacks", ()))

    def train(self) -> bool:
        """True when all steps are done; False when the run was interrupted, saved and can go on."""
        steps, accelerator = self.recipe.train.steps, self.accelerator
        if accelerator.is_main_process and self.start:  # a death may have come right after the checkpoint
            checkpoint.prune(self.run, self.state, self.recipe.train.keep_checkpoints)
            if self._is_best(self.start):
                self._export_best(self.start)
        if self.start >= steps:
            accelerator.print(f"{self.run}: already trained ({steps} steps)")
            if accelerator.is_main_process and not (self.run / "bundle" / self.task.exported).exists():
                self._export("bundle", steps)
            return True
        if self.start:
            accelerator.print(f"{self.run}: going on from step {self.start}")
        if self.recipe.train.on_nan == "rollback" and self.fresh:
            self._write()  # where the first rollback would lead to
        trackers = Trackers(accelerator, self.recipe, self.start)
        with Stop() as stop, self._bar() as bar, closing(self.task):
            while True:
                try:
                    done = self._loop(stop, bar, trackers)
                    break
                except NotFinite as found:
                    self._roll_back(found)
                    bar.n = sum(self.costs[: self.start])
        trackers.close()
        if done < steps:
            accelerator.print(f"stopped after step {done} of {steps}; the same command goes on from there")
            return False
        if accelerator.is_main_process:
            self._export("bundle", steps)
        accelerator.wait_for_everyone()
        return True

    def _loop(self, stop: Stop, bar: "tqdm[Any]", trackers: Trackers) -> int:
        """Train until the end or until asked to stop. Returns the number of steps done."""
        with Log(self.run / "metrics.jsonl", self.start) if self.accelerator.is_main_process else nullcontext() as log:
            return self._steps(stop, bar, trackers, log)

    def _steps(self, stop: Stop, bar: "tqdm[Any]", trackers: Trackers, log: Log | None) -> int:
        t, accelerator = self.recipe.train, self.accelerator
        began, recorded, looked = time.monotonic(), Window(), Window()
        for step in range(self.start, t.steps):
            terms = self.task.step(step)
            recorded.add(terms)
            looked.add(terms)
            bar.update(self.task.cost(step))
            done = step + 1
            stopping = any_rank(stop.asked, accelerator)
            due = done % t.checkpoint_every == 0 or done == t.steps
            if done % t.log_every == 0 or due or stopping:
                values = recorded.mean(accelerator)
                recorded = Window()
                self._check(values, done)
                rate = (done - self.start) * t.batch_size / (time.monotonic() - began)
                record: dict[str, Any] = {"step": done, **values, "clips_per_second": round(rate, 2)}
                if due:
                    record |= self._look(done, looked.mean(accelerator))
                    looked = Window()
                if self.task.learning_rate_scale != 1:
                    record["learning_rate_scale"] = self.task.learning_rate_scale
                if log:
                    log.write(record)
                trackers.log(record, done)
                shown = f"mel {values['mel']:.3f}" if "mel" in values else f"D {values.get('disc', 0):.3f}"
                bar.set_postfix_str(f"step {done}/{t.steps}, {rate:.0f} clips/s, {shown}")
            if due or stopping:
                self._save(done, due, trackers)
            if stopping and done < t.steps:
                bar.close()
                return done
        return t.steps

    def _look(self, done: int, terms: dict[str, float]) -> dict[str, Any]:
        """Validate, let the monitor look, remember the best. Returns what goes into the record of this step."""
        figures: dict[str, float] = {}
        if self.accelerator.is_main_process:
            figures = self.task.validate()
        (figures,) = broadcast_object_list([figures])
        self._check(figures, done)
        warnings = self.monitor.look(done, terms, figures)
        if self.task.settled(done) and better(figures, self.best_by, self.state.get("best")):
            self.state["best"] = {"step": done, "by": self.best_by, "value": figures[self.best_by]}
        for words in warnings if self.accelerator.is_main_process else ():
            tqdm.write(f"warning: {words}", file=sys.stderr)
        return figures | ({"warnings": warnings} if warnings else {})

    def _save(self, done: int, due: bool, trackers: Trackers) -> None:
        """Samples, checkpoint and best bundle by the main process; then every process stops if the monitor says so."""
        if not agree(self.task.modules, self.accelerator):
            raise NotFinite(done, ["the weights"])
        self.state |= {"step": done, "strikes": self.monitor.strikes}
        if self.monitor.well:
            self.state["good"] = done
        if self.accelerator.is_main_process and self.samples and due:  # first: a run goes on behind its checkpoint
            self.samples(self.run / "samples", done)
            trackers.show(self.run / "samples", done)
        self._write()
        if self.accelerator.is_main_process and self._is_best(done):
            self._export_best(done)
        self.accelerator.wait_for_everyone()
        fatal = self.monitor.fatal(done) if due else None
        if fatal:
            good = self.state.get("good")
            before = f", the last checkpoint before it is step-{good:08d}" if good else ""
            raise Failure(
                f"training stopped at step {done}: {fatal} at three checkpoints in a row (the warning above says "
                f"more); {self.run} is saved{before}: change the recipe and choose another --out, or go on regardless "
                "by the same command with --train.monitor warn"
            )

    def _write(self) -> None:
        if self.accelerator.is_main_process:
            keep = self.recipe.train.keep_checkpoints
            checkpoint.save(self.run, self.task.modules, self.task.optimizers, self.state, keep)
        self.accelerator.wait_for_everyone()

    def _roll_back(self, found: NotFinite) -> None:
        """Go back to the last checkpoint, with half the learning rates from there on; or end with words."""
        t, last = self.recipe.train, checkpoint.latest(self.run)
        what = f"at step {found.step}: {', '.join(found.names[:3])} became NaN or infinite"
        saved = f"the checkpoint {last.name} in {self.run} is whole" if last else "no checkpoint was written yet"
        if t.on_nan == "stop" or last is None:
            back = ", or go back to it with half the learning rates: the same command with --on-nan rollback"
            raise Failure(
                f"training failed {what}; {saved}; train with a smaller --train.learning_rate into another --out"
                + (back if last else "")
            )
        state = checkpoint.load(last, self.task.modules, self.task.optimizers)
        rollbacks = [*state.get("rollbacks", ()), found.step]
        if len(rollbacks) > t.rollbacks:
            raise Failure(
                f"training failed {what}, after {t.rollbacks} rollbacks; {saved}; lower --train.learning_rate and "
                "--train.disc_learning_rate, and choose another --out"
            )
        self.accelerator.wait_for_everyone()  # all have read it
        self.state = state | {"rollbacks": rollbacks}
        if self.accelerator.is_main_process:
            checkpoint.write_state(last, self.state)
        self.accelerator.wait_for_everyone()
        self._begin()
        if self.accelerator.is_main_process:
            tqdm.write(
                f"warning: {what}; back to step {self.start}, with {self.task.learning_rate_scale:g} of the learning "
                "rates",
                file=sys.stderr,
            )

    def _is_best(self, step: int) -> bool:
        return bool(step) and (self.state.get("best") or {}).get("step") == step

    def _export_best(self, step: int) -> None:
        try:
            self.task.export(self.run / "best", step)
        except UserError as e:  # something of the user's lies there: no reason to lose a run
            tqdm.write(f"warning: the best model so far was not written: {e}", file=sys.stderr)

    def _bar(self) -> "tqdm[Any]":
        """A bar in units of work, not of steps: later steps cost more, and the time left is right from the start."""
        style = "{desc} {percentage:3.0f}% |{bar}| {elapsed} gone, {remaining} left  {postfix}"
        shown = self.accelerator.is_main_process
        done = sum(self.costs[: self.start])
        return tqdm(total=sum(self.costs), initial=done, desc="train", bar_format=style, disable=not shown, smoothing=0)

    def _export(self, name: str, steps: int) -> None:
        digest = self.task.export(self.run / name, steps)
        print(f"{self.run / name}: model {digest[:12]}")

    def _check(self, values: dict[str, float], step: int) -> None:
        bad = not_finite(values)
        if bad:
            raise NotFinite(step, bad)
