"""What is read besides sounds, spoilt: recipes, specs, tables of labels, bundles, vocoders, stores, checkpoints.

To add a kind, add a row to the group where it belongs: `what, says, harm`. `harm` spoils a good one, at the path it is
given; `says` is a regular expression (case-insensitive) for the one line that the user reads. For an attacker's
files the hash of a bundle is made to fit again (`sealed`): what follows must hold without it.
"""

import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

Harm = Callable[[Path], object]
Row = tuple[str, str, Harm]
DEEP = 100_000


def recipes() -> Iterator[Row]:
    """Of a recipe, a YAML file."""

    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    merged = "m0: &m0 {k: 1}\n" + "".join(f"m{i}: &m{i} [*m{i - 1}, *m{i - 1}]\n" for i in range(1, 60))
    yield "a billion laughs", "without end", text(laughs + "name: *a29\n")
    yield "a quadratic blow-up", "without end", text(f"a: &a [{'x, ' * 30_000}x]\nname: [{'*a, ' * 900}*a]\n")
    yield "an anchor within itself", "without end", text("name: &a [*a]\n")
    yield "two to the sixty", "without end", text(merged + "name: *m59\n")
    yield "brackets without end", "not valid YAML", text("[" * DEEP)
    yield "braces without end", "not valid YAML", text("{a: " * DEEP)
    yield "python code", "not valid YAML", text("name: !!python/object/apply:os.system ['touch /tmp/owned']\n")
    yield "a python name", "not valid YAML", text("name: !!python/name:os.system\n")
    yield "another tag", "not valid YAML", text("name: !secret x\n")
    yield "no UTF-8", "cannot be read", text(b"name: \xff\xfe\n")
    yield "UTF-16", "cannot be read|not valid YAML", text("name: x\n".encode("utf-16"))
    yield "zero bytes", "not valid YAML", text(b"\0" * 100)
    yield "a picture", "not valid YAML|cannot be read", text(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    yield "five megabytes", "too large", text("# " + "x" * 5_000_000)
    yield "a list", "expected `key: value`", text("- a\n- b\n")
    yield "a number", "expected `key: value`", text("42\n")
    yield "a key twice", "twice", text("name: a\nname: b\n")
    yield "an unknown key", "Did you mean 'train'", text("trian: {steps: 3}\n")
    yield "a list for a section", "train", text("train: [1, 2]\n")
    yield "infinite steps", "train.steps", text("train: {steps: .inf}\n")
    yield "a loss of NaN", "loss.kl", text("loss: {kl: .nan}\n")
    yield "negative steps", "train.steps", text("train: {steps: -3}\n")
    yield "a number of 5,000 digits", "not valid YAML|train.steps", text("train: {steps: " + "9" * 5000 + "}\n")
    yield "a network of petabytes", "model.width", text("model: {width: 100000000}\n")
    yield "a clip of years", "data.clip_samples", text("data: {clip_samples: 1000000000000}\n")
    yield "a date for a name", "name", text("name: 2001-01-01\n")
    yield "tabs", "not valid YAML", text("train:\n\tsteps: 3\n")
    yield "a folder", "cannot be read", lambda path: (path.unlink(), path.mkdir())
    yield "nothing there", "no such file", lambda path: path.unlink()


def specs() -> Iterator[Row]:
    """Of what a data set is to be made of."""

    yield "a billion sounds", "count", text("name: x\ncount: 100000000000\n")
    yield "a folder that is none", "no such|folder|augment", text("name: x\naugment: {folder: ../../../etc/passwd}\n")
    yield "a split that leads out", "splits", text("name: ../../x\ncount: 3\nlayout: parquet\nsplits: {../x: 1}\n")
    yield "a grid of atoms", "grid", text("name: x\ncount: 3\ncontrols: {pitch: {grid: [0, 127, 1.0e-12]}}\n")
    yield "a pitch of NaN", "pitch", text("name: x\ncount: 3\ncontrols: {pitch: {uniform: [.nan, 60]}}\n")
    yield "a layout that is none", "layout", text("name: x\ncount: 3\nlayout: floppy\n")
    yield "a control that is none", "colour", text("name: x\ncount: 3\ncontrols: {colour: 3}\n")
    yield (
        "ends in the wrong order",
        "lower end first",
        text("name: x\ncount: 3\ncontrols: {pitch: {uniform: [70, 60]}}"),
    )


def tables() -> Iterator[Row]:
    """Of a folder of sounds with a table, at which `prepare` is told what is wrong, or goes on and reports it."""

    def written(name: str, content: str | bytes) -> Harm:
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        return lambda folder: (folder / name).write_bytes(data)

    def notes(change: Callable[[dict[str, Any]], Any]) -> Harm:
        def harm(folder: Path) -> None:
            entry = {"pitch": 60, "instrument_str": "a"}
            found = change({f"s{i}": dict(entry) for i in range(4)})
            (folder / "audio").mkdir()
            for i in range(4):
                shutil.copy(folder / f"s{i}.wav", folder / "audio" / f"s{i}.wav")
                (folder / f"s{i}.wav").unlink()
            text = found if isinstance(found, str) else json.dumps(found)
            (folder / "examples.json").write_text(text, encoding="utf-8", errors="surrogatepass")

        return harm

    yield (
        "csv/rows that lead out",
        "outside the folder",
        written("labels.csv", "file,x\n../../etc/passwd,1\ns0.wav,2\n"),
    )
    yield "csv/an absolute path", "outside the folder", written("labels.csv", "file,x\n/etc/passwd,1\ns0.wav,2\n")
    yield "csv/one field of a megabyte", "", written("labels.csv", "file,x\ns0.wav," + "y" * 1_000_000 + "\n")
    yield (
        "csv/ten thousand columns",
        "",
        written("labels.csv", "file," + ",".join(f"c{i}" for i in range(10_000)) + "\n"),
    )
    yield "csv/an open quote", "", written("labels.csv", 'file,x\ns0.wav,"abc\ns1.wav,2\n')
    yield "csv/zero bytes", "", written("labels.csv", b"file,x\ns0.wav,\0\0\n")
    yield "csv/no UTF-8", "", written("labels.csv", b"file,x\ns0.wav,\xff\xfe\n")
    yield "csv/UTF-16", "", written("labels.csv", "file,x\ns0.wav,1\n".encode("utf-16"))
    yield "csv/numbers that are none", "", written("labels.csv", "file,pitch\ns0.wav,nan\ns1.wav,1e999\ns2.wav,-inf\n")
    yield "csv/a row twice", "listed twice", written("labels.csv", "file,x\ns0.wav,1\ns0.wav,2\n")
    yield "csv/empty", "", written("labels.csv", b"")
    yield "csv/a column twice", "", written("labels.csv", "file,x,x\ns0.wav,1,2\n")
    yield "jsonl/brackets without end", "", written("labels.jsonl", "[" * DEEP)
    yield "jsonl/a row that is a list", "", written("labels.jsonl", '["s0.wav", 1]\n')
    yield "jsonl/a half row", "", written("labels.jsonl", '{"file": "s0.wav", "x": 1}\n{"file": "s1')
    yield "jsonl/NaN", "", written("labels.jsonl", '{"file": "s0.wav", "pitch": NaN}\n')
    yield "jsonl/objects within", "", written("labels.jsonl", '{"file": "s0.wav", "x": {"y": [1, {"z": 2}]}}\n')
    yield "jsonl/a lone surrogate", "", written("labels.jsonl", '{"file": "s0.wav", "x": "\\ud800"}\n')
    yield "metadata/rows that lead out", "outside", written("metadata.jsonl", '{"file_name": "../../x.wav"}\n')
    yield "metadata/no names", "", written("metadata.jsonl", '{"x": 1}\n')
    yield "parquet/a hundred million rows", "no table of labels", lambda f: bomb(f / "labels.parquet")
    yield "parquet/not one", "", written("labels.parquet", b"PAR1" + bytes(100) + b"PAR1")
    yield "notes/a list", "expected one object", notes(list)
    yield "notes/a note that is a number", "expected one object", notes(lambda n: n | {"s0": 3})
    yield "notes/brackets without end", "cannot be read as JSON", notes(lambda n: "[" * DEEP)
    yield "notes/half a file", "cannot be read as JSON", notes(lambda n: json.dumps(n)[:50])
    yield "notes/names that lead out", "not in audio", notes(lambda n: n | {"../../../etc/passwd": {"pitch": 60}})
    yield (
        "notes/odd pitches",
        "",
        notes(lambda n: n | {"s0": {"pitch": 1e300}, "s1": {"pitch": [3]}, "s2": {"pitch": "x"}}),
    )
    yield (
        "notes/a number of 5,000 digits",
        "cannot be read as JSON",
        notes(lambda n: '{"s0": {"pitch": ' + "9" * 5000 + "}}"),
    )
    yield "notes/lone surrogates", "", notes(lambda n: '{"\\ud800": {"instrument_str": "\\udfff"}}')
    yield (
        "notes/groups of other kinds",
        "",
        notes(lambda n: n | {"s0": {"instrument_str": {"a": [1]}, "split_group": [2]}}),
    )


def bundles() -> Iterator[Row]:
    """Of a trained model: an accident, then what an attacker may send."""
    weights, config = "vaegan.safetensors", "config.json"
    changed = "changed after saving"
    yield "one bit of the weights", f"{changed}|NaN", flipped(weights, -101)
    yield "one bit of the header", "damaged|missing|shape|changed", flipped(weights, 40)
    yield "weights cut short", "damaged", cut(weights, 0.5)
    yield "weights without a byte", "damaged", cut(weights, 0.0)
    yield "weights gone", "damaged", lambda b: (b / weights).unlink()
    yield "a pickle in their place", "damaged", lambda b: (b / weights).write_bytes(pickle.dumps(Owned()))
    yield "a header of exabytes", "damaged", over(weights, struct.pack("<Q", 2**62))
    yield "a header of 90 megabytes", "damaged", over(weights, struct.pack("<Q", 90_000_000))
    yield "a terabyte of nothing", "damaged.*MiB", lambda b: os.truncate(b / weights, 2**40)
    yield "tensors that overlap", "damaged", header(lambda h: {k: v | {"data_offsets": [0, 4]} for k, v in h.items()})
    yield (
        "tensors outside the file",
        "damaged",
        header(lambda h: {k: v | {"data_offsets": [2**40, 2**41]} for k, v in h.items()}),
    )
    yield "weights of NaN", "NaN", sealed(tensors=lambda t: {k: np.full_like(v, np.nan) for k, v in t.items()})
    yield (
        "weights without end",
        "infinite",
        sealed(tensors=lambda t: {k: np.full_like(v, np.inf) for k, v in t.items()}),
    )
    yield (
        "weights of other shapes",
        "shape",
        sealed(tensors=lambda t: {k: v.reshape(1, *v.shape) for k, v in t.items()}),
    )
    yield "a tensor less", "missing or unknown", sealed(tensors=lambda t: dict(list(t.items())[1:]))
    yield "a tensor more", "missing or unknown", sealed(tensors=lambda t: t | {"x": np.zeros(1, np.float32)})
    yield "configuration cut short", "cannot be read as JSON", cut(config, 0.5)
    yield "configuration of another version", "version", sealed(lambda c: c | {"version": 99})
    yield "a list for a configuration", "version", lambda b: (b / config).write_text("[1]")
    yield "a configuration of brackets", "cannot be read as JSON", lambda b: (b / config).write_text("[" * DEEP)
    yield "a configuration of 64 megabytes", "too large", lambda b: os.truncate(b / config, 2**26)
    yield (
        "one digit of the configuration",
        "changed|does not fit",
        replaced(config, b'"deviation": ', b'"deviation": 1'),
    )
    yield (
        "a recipe of petabytes",
        "smaller than the networks",
        sealed(recipe({"width": 8192, "generator_blocks": 8192})),
    )
    yield "a recipe of blocks", "smaller than the networks", sealed(recipe({"encoder_blocks": 8192}))
    yield "a recipe that cannot be", "recipe", sealed(recipe({"width": -1}))
    yield "a control of NaN", "damaged", sealed(control({"deviation": float("nan")}))
    yield "a control of no width", "damaged", sealed(control({"deviation": 0}))
    yield "a control of a billion bins", "damaged", sealed(control({"bins": 10**9}))
    yield "a control that is a word", "damaged", sealed(control({"low": "x"}))
    yield (
        "ten thousand controls",
        "more than 64 controls",
        sealed(lambda c: inference(c, controls=c["inference"]["controls"] * 10_000)),
    )
    yield "no controls, where there were", "missing|does not fit", sealed(lambda c: inference(c, controls=[]))
    yield (
        "normalisation of NaN",
        "damaged|does not fit|infinite",
        sealed(lambda c: inference(c, normalisation={"mean": float("nan"), "deviation": 1.0})),
    )
    yield "no normalisation", "damaged", sealed(lambda c: inference(c, normalisation={}))
    yield "facts that are a list", "damaged", sealed(lambda c: c | {"about": [1, 2]})
    yield (
        "controls.json of another model",
        "measured on another model",
        replaced("controls.json", b'"model_hash": "', b'"model_hash": "0'),
    )
    yield "controls.json of brackets", "cannot be read as JSON", lambda b: (b / "controls.json").write_text("[" * DEEP)
    yield "fitted tensors of one bit", "damaged", flipped("controls.safetensors", -9)
    yield "fitted tensors gone", "damaged", lambda b: (b / "controls.safetensors").unlink()
    yield "a link for weights", "damaged", lambda b: ((b / weights).unlink(), (b / weights).symlink_to("/nowhere"))


def prints() -> Iterator[Row]:
    """Of what a bundle keeps of its training sounds, which a data set is compared with."""
    yield "another model's", "of another model", other_hash("fingerprints.safetensors")
    yield "cut short", "fingerprints.*damaged", cut("fingerprints.safetensors", 0.5)
    yield (
        "a pickle",
        "fingerprints.*damaged",
        lambda b: (b / "fingerprints.safetensors").write_bytes(pickle.dumps(Owned())),
    )


def vocoders() -> Iterator[Row]:
    """Of a vocoder's file."""

    def one(harm: Callable[[str], Harm]) -> Harm:
        return lambda path: harm(path.name)(path.parent)

    def about(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Harm:
        def harm(path: Path) -> None:
            from safetensors import safe_open

            with safe_open(path, "numpy") as f:
                said = json.loads(f.metadata()["audio-vaegan vocoder"])
            save_file(load_file(path), path, {"audio-vaegan vocoder": json.dumps(change(said))})

        return harm

    yield "one bit", "changed after saving|NaN", one(lambda n: flipped(n, -51))
    yield "cut short", "damaged|not a", one(lambda n: cut(n, 0.5))
    yield "a pickle", "damaged|no vocoder|not a|cannot", lambda p: p.write_bytes(pickle.dumps(Owned()))
    yield (
        "a network of petabytes",
        "smaller than",
        about(lambda a: a | {"network": a["network"] | {"width": 8192, "blocks": 8192}}),
    )
    yield (
        "a network of kernels",
        "smaller than",
        about(lambda a: a | {"network": a["network"] | {"kernel": 8191, "blocks": 8000}}),
    )
    yield "another version", "version 99", about(lambda a: a | {"version": 99})
    yield "no mel", "damaged", about(lambda a: {k: v for k, v in a.items() if k != "mel"})
    yield "a mel of NaN", "damaged|differ", about(lambda a: a | {"mel": a["mel"] | {"f_max": float("nan")}})
    yield "a list", "damaged", about(lambda a: [a])  # type: ignore[arg-type,return-value]


def stores() -> Iterator[Row]:
    """Of a store."""

    def told(change: Callable[[dict[str, Any]], Any]) -> Harm:
        def harm(store: Path) -> None:
            about = json.loads((store / "store.json").read_text())
            (store / "store.json").write_text(json.dumps(change(about)))

        return harm

    yield "store.json cut short", "cannot be read as JSON", cut("store.json", 0.5)
    yield "store.json of brackets", "cannot be read as JSON", lambda s: (s / "store.json").write_text("[" * DEEP)
    yield "a list", "version", told(lambda a: [a])
    yield "another version", "version", told(lambda a: a | {"version": 99})
    yield (
        "a shard elsewhere",
        "damaged.*no file of the store",
        told(lambda a: a | {"shards": [a["shards"][0] | {"clips": "../../../../etc/passwd"}]}),
    )
    yield (
        "a shard at an absolute path",
        "damaged.*no file of the store",
        told(lambda a: a | {"shards": [a["shards"][0] | {"clips": "/etc/passwd"}]}),
    )
    yield "a shard that is a number", "damaged", told(lambda a: a | {"shards": [a["shards"][0] | {"clips": 3}]})
    yield "clips of endless samples", "damaged", told(lambda a: a | {"clip_samples": float("inf")})
    yield "clips of no samples", "damaged|do not agree|clips of", told(lambda a: a | {"clip_samples": 0})
    yield "a mel of NaN", "damaged", told(lambda a: a | {"mel": a["mel"] | {"f_max": float("nan")}})
    yield "a shard cut short", "damaged", cut("shard-00000.npy", 0.5)
    yield "a shard that is a pickle", "damaged", lambda s: (s / "shard-00000.npy").write_bytes(pickle.dumps(Owned()))
    yield "a shard of objects", "damaged", lambda s: np.save(s / "shard-00000.npy", np.array([Owned()], dtype=object))
    yield "a shard of exabytes", "damaged", lambda s: npy(s / "shard-00000.npy", (2**40, 8192))
    yield "a shard of no width", "damaged|do not agree", lambda s: npy(s / "shard-00000.npy", (0, 8192))
    yield (
        "a shard of one dimension",
        "damaged|do not agree",
        lambda s: np.save(s / "shard-00000.npy", np.zeros(9, np.int16)),
    )
    yield (
        "a shard of other numbers",
        "damaged|do not agree",
        lambda s: np.save(s / "shard-00000.npy", np.load(s / "shard-00000.npy").astype(np.float64)),
    )
    yield "no shard", "damaged", lambda s: (s / "shard-00000.npy").unlink()
    yield "a table cut short", "damaged", cut("items.parquet", 0.5)
    yield "a table of one bit in its footer", "damaged|agree", flipped("items.parquet", -30)
    yield "another table", "damaged", lambda s: table(s / "items.parquet")
    yield "no table", "damaged", lambda s: (s / "items.parquet").unlink()


def checkpoints() -> Iterator[Row]:
    """Of a run that goes on; the harm is done to its last checkpoint."""
    yield "one bit of the weights", "damaged checkpoint.*not as it was written", flipped("state.safetensors", -101)
    yield "weights cut short", "damaged checkpoint", cut("state.safetensors", 0.5)
    yield "weights gone", "damaged checkpoint", lambda c: (c / "state.safetensors").unlink()
    yield (
        "a pickle in their place",
        "damaged checkpoint",
        lambda c: (c / "state.safetensors").write_bytes(pickle.dumps(Owned())),
    )
    yield "state cut short", "cannot be read as JSON", cut("state.json", 0.3)
    yield "a state that is a list", "damaged checkpoint", lambda c: (c / "state.json").write_text("[1]")
    yield "a step that is a word", "damaged checkpoint", lambda c: (c / "state.json").write_text('{"step": "x"}')
    yield "a state without end", "too large", lambda c: os.truncate(c / "state.json", 2**30)


GROUPS: dict[str, Callable[[], Iterator[Row]]] = {
    f.__name__: f for f in (recipes, specs, tables, bundles, prints, vocoders, stores, checkpoints)
}


# --- Harms


class Owned:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch /tmp/audio-vaegan-owned",))


def text(content: str | bytes) -> Harm:
    """Other contents of a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda path: path.write_bytes(data)


def flipped(name: str, at: int) -> Harm:
    def harm(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[at] ^= 16
        (folder / name).write_bytes(data)

    return harm


def cut(name: str, share: float) -> Harm:
    def harm(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return harm


def over(name: str, start: bytes) -> Harm:
    def harm(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(start + data[len(start) :])

    return harm


def replaced(name: str, old: bytes, new: bytes) -> Harm:
    def harm(folder: Path) -> None:
        data = (folder / name).read_bytes()
        assert old in data
        (folder / name).write_bytes(data.replace(old, new, 1))

    return harm


def header(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Harm:
    """Another header before the same tensors."""

    def harm(bundle: Path) -> None:
        path = bundle / "vaegan.safetensors"
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        text = json.dumps(change(json.loads(data[8 : 8 + size]))).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return harm


def sealed(
    config: Callable[[dict[str, Any]], Any] = lambda c: c,
    tensors: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Harm:
    """Another configuration or other weights, with the hash that fits them."""

    def harm(bundle: Path) -> None:
        if tensors:
            save_file(tensors(load_file(bundle / "vaegan.safetensors")), bundle / "vaegan.safetensors")
        about = config(json.loads((bundle / "config.json").read_text()))
        digest = hashlib.sha256((bundle / "vaegan.safetensors").read_bytes())
        digest.update(json.dumps(about["inference"], sort_keys=True).encode())
        (bundle / "config.json").write_text(json.dumps(about | {"model_hash": digest.hexdigest()}))

    return harm


def inference(config: dict[str, Any], **change: Any) -> dict[str, Any]:
    return config | {"inference": config["inference"] | change}


def recipe(change: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def changed(config: dict[str, Any]) -> dict[str, Any]:
        model = config["recipe"]["model"] | change
        return inference(config | {"recipe": config["recipe"] | {"model": model}}, model=model)

    return changed


def control(change: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda config: inference(config, controls=[c | change for c in config["inference"]["controls"]])


def other_hash(name: str) -> Harm:
    def harm(bundle: Path) -> None:
        from safetensors import safe_open

        with safe_open(bundle / name, "numpy") as f:
            ((key, about),) = f.metadata().items()
        save_file(
            load_file(bundle / name), bundle / name, {key: json.dumps(json.loads(about) | {"model_hash": "0" * 64})}
        )

    return harm


def npy(path: Path, shape: tuple[int, ...]) -> None:
    """An array's file whose header promises what is not there."""
    with path.open("wb") as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "<i2", "fortran_order": False, "shape": shape})
        f.write(bytes(1000))


def bomb(path: Path) -> None:
    """A hundred million equal rows, which Parquet packs into next to nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = pa.table({"file": pa.array(np.zeros(2_000_000, np.int8))})
    with pq.ParquetWriter(path, part.schema) as writer:
        for _ in range(50):
            writer.write_table(part)


def table(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1, 2, 3]}), path)
