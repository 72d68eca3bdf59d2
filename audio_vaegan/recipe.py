"""A recipe on disk and on the command line: YAML, and any value of it changed by its dotted name.

`--train.steps 200`, `--mel hifigan-22k-80`, `--model.width 256`, `--objective gan`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from audio_vaegan.config import Recipe
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.files import share

MOST_BYTES, MOST_VALUES = 2**21, 300_000  # of a YAML file, anchors unfolded


class _Loader(yaml.SafeLoader):
    """YAML in which only true and false are booleans (`no` and `off` are words), and no key stands twice. What unfolds
    to more values than anybody writes, or endlessly, is refused before it does."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = 0
        self._sizes: dict[int, int] = {}  # of the nodes that are whole: values in them, anchors unfolded

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        before, alias = self._values, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        size = self._sizes.get(id(node)) if alias else 1
        self._values += size or 0
        if size is None or self._values > MOST_VALUES:
            mark = node.start_mark if node else None
            raise yaml.constructor.ConstructorError(problem="anchors that unfold without end", problem_mark=mark)
        if not alias:
            self._sizes[id(node)] = self._values - before
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(problem=f"key {twice[0]!r} twice", problem_mark=node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


TOP = ("mel", "seed", "name", "objective", "routing")  # keys that are given on the command line without a dot


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe and apply `--section.key value` overrides. Raises UserError in one line."""
    tree = load_yaml(path, "--recipe")
    for key, value in _pairs(overrides):
        _put(tree, key, value)
    return parse_recipe(tree, str(path))


def load_yaml(path: Path, what: str) -> dict[str, Any]:
    """The keys and values of a YAML file. Raises UserError in one line that begins with `what`."""
    try:
        path = _of_package(path) if path.is_dir() or not path.exists() else path
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{what} {path}: too large, no recipe has more than {MOST_BYTES // 2**20} MiB")
        tree = _yaml(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        kind = share("recipes") / ("datasets" if what == "SPEC" else "")
        known = ", ".join(sorted(p.stem for p in kind.glob("*.yaml")))
        raise UserError(f"{what}: no such file: {path} (the package has {known})") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{what} {path}: cannot be read ({e})") from None
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError, OverflowError) as e:
        where = getattr(e, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise UserError(f"{what} {path}: not valid YAML{line} ({getattr(e, 'problem', e)})") from None
    if not isinstance(tree, dict):
        raise UserError(f"{what} {path}: expected `key: value` lines, found {type(tree).__name__}")
    return tree


def _of_package(path: Path) -> Path:
    """The recipe or spec of the package of that name (`quickstart`, `recipes/quickstart.yaml`), if there is one."""
    inside = Path(*path.parts[1:]) if path.parts[:1] == ("recipes",) else path
    if inside.is_absolute() or ".." in inside.parts or not inside.parts:
        return path
    names = (inside, inside.with_name(f"{inside.name}.yaml"), Path("datasets", f"{inside.name}.yaml"))
    return next((p for name in names if (p := share("recipes") / name).is_file()), path)


def parse_recipe(tree: dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as e:
        raise UserError(f"recipe {where}: " + "; ".join(explain(error, Recipe) for error in e.errors())) from None


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into its own words and the recipe's overrides: `--section.key value`, and those in
    `TOP`, each with its value, so that other words can stand on either side.
    """
    own: list[str] = []
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, _ = word.removeprefix("--").partition("=")
        if word.startswith("--") and ("." in key or key in TOP):
            overrides.append(word)
            if not equals and rest:
                overrides.append(rest.pop(0))
        else:
            own.append(word)
    return own, overrides


def _pairs(words: Sequence[str]) -> list[tuple[str, Any]]:
    """`["--a.b", "1", "--c=2"]` -> `[("a.b", 1), ("c", 2)]`, values read as YAML."""
    pairs: list[tuple[str, Any]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UserError(f"unexpected word {word!r}: overrides are written --section.key value")
        key, equals, text = word[2:].partition("=")
        if not equals:
            if not rest:
                raise UserError(f"{word}: a value is missing")
            text = rest.pop(0)
        try:
            pairs.append((key, _yaml(text)))
        except (yaml.YAMLError, ValueError, RecursionError, AttributeError, OverflowError):
            raise UserError(f"--{key}: cannot read the value {text[:40]!r}") from None
    return pairs


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        below = tree.get(name)
        if name == "mel" and isinstance(below, str):
            below = {"preset": below}
        tree[name] = tree = dict(below) if isinstance(below, dict) else {}
    tree[last] = value


def explain(error: Any, root: type[BaseModel]) -> str:
    """One error of pydantic's validation of `root` in words."""
    path = [str(part) for part in error["loc"]]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        section: Any = root
        for name in path[:-1]:
            kinds = [section.model_fields[name].annotation] if name in section.model_fields else [section]
            while kinds and not (isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel)):
                kinds = [*get_args(kinds[0]), *kinds[1:]]
            section = kinds[0] if kinds else section
        known = [f.alias or name for name, f in section.model_fields.items()]
        return f"unknown key {key!r}.{did_you_mean(path[-1], known)}"
    message = error["msg"].removeprefix("Value error, ")
    if not key or (isinstance(error["input"], dict) and len(path) == 1):
        return message
    return f"{key}: {message}" + ("" if "got" in message else f" (got {str(error['input'])[:60]!r})")
