"""A training script with something added, for the tests of launches: what each process ends with, and what goes wrong
with one of them. Words: the script (train_vaegan or train_vocoder), then its own.

HASHES=FOLDER         every process writes the hash of each of its weights to FOLDER/RANK.json after training
FAULT=KIND:RANK:STEP  raise, fail (with words), mistake (a user's), kill, nan (once): what happens to that process then
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

from audio_vaegan import cli
from audio_vaegan.errors import Failure, UserError
from audio_vaegan.training.engine import Engine

RANK = os.environ.get("RANK", "0")


def hashes(engine: Engine) -> dict[str, str]:
    states = {name: module.state_dict() for name, module in engine.task.modules.items()}
    return {
        f"{name}.{key}": hashlib.sha256(value.numpy().tobytes()).hexdigest()
        for name, state in states.items()
        for key, value in state.items()
    }


def faulty(engine: Engine, kind: str, at: int) -> None:
    plain, done = engine.task.step, []

    def step(number: int):
        if number == at:
            if kind == "raise":
                raise ZeroDivisionError("the fault of this test")
            if kind == "fail":
                raise Failure("the fault of this test")
            if kind == "mistake":
                raise UserError("the fault of this test")
            if kind == "nan":
                terms = plain(number)
                return terms if done else done.append(1) or terms | {"mel": terms["mel"] * float("nan")}
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(number)

    engine.task.step = step  # type: ignore[method-assign]


def main() -> int:
    plain = Engine.train

    def train(engine: Engine) -> bool:
        if "FAULT" in os.environ:
            kind, rank, step = os.environ["FAULT"].split(":")
            if rank == RANK:
                faulty(engine, kind, int(step))
        done = plain(engine)
        if "HASHES" in os.environ:
            Path(os.environ["HASHES"], f"{RANK}.json").write_text(json.dumps(hashes(engine)))
        return done

    Engine.train = train  # type: ignore[method-assign]
    return {"train_vaegan": cli.train_vaegan, "train_vocoder": cli.train_vocoder}[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
