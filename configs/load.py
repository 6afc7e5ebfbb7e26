"""From YAML files and command-line overrides to a validated Config, with messages that name the key and its origin."""

import re
import reprlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, create_model

from common.errors import ConfigError
from common.safe_yaml import parse_yaml, read_yaml
from configs.methods import METHODS, options_of
from configs.options import CommonOptions, did_you_mean
from configs.outside import resolve
from configs.schema import Config

BASE = Path(__file__).with_name("base.yaml")
COMMAND_LINE = "command line"
Tree = dict[str, Any]

_SHORT = reprlib.Repr()  # of what was found: nested aliases of YAML can stand for gigabytes
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 200, 200


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read base.yaml, then the file at `path`, then `section.key=value` overrides; the later replaces the earlier.

    Sections are merged key by key; the value of a key is replaced whole, a mapping too.

    Raises:
        ConfigError: a file that is missing or no YAML mapping, an unknown key, a value out of range; one message
            for all of them, a line each, with where it was set, what was found and what is allowed.
    """
    given, overrides = str(path), list(overrides)
    path = _find(Path(path))
    tree = _read(BASE)
    origin: dict[str, str] = {}  # dotted key -> the file or command line that set it
    for section, content in _read(path).items():
        origin |= _merge(tree, section, content, str(path))
    for override in overrides:
        key, value = _parse_override(override)
        origin |= _set(tree, key, value)
    kind = _config_class(tree.get("model"), _origin(["model", "fusion"], origin) or str(path), path.parent)
    try:
        config = kind.model_validate(tree)
    except ValidationError as error:
        lines = (f"{_origin(key, origin) or path}: {message}" for key, message in _messages(error, kind, tree))
        raise ConfigError("\n       ".join(lines)) from None
    data = (override for override in overrides if override.startswith("data."))
    config._pack_command = shlex.join(["python", "preprocess/pack.py", "-c", given, *data])
    return config


def parse_options(fusion: str, **options: Any) -> CommonOptions:
    """The options of one method, from keywords.

    Raises:
        ConfigError: an unknown method or option, or a value out of range; the message has the nearest known name.
    """
    fusion = resolve(fusion, Path())
    kind = create_model("Options", model=(options_of(fusion), ...))
    tree = {"model": {"fusion": fusion, **options}}
    try:
        parsed: CommonOptions = kind.model_validate(tree).model  # type: ignore[attr-defined]
    except ValidationError as error:
        raise ConfigError("; ".join(message for _, message in _messages(error, kind, tree))) from None
    return parsed


def _config_class(model: Any, source: str, folder: Path) -> type[Config]:
    """Make the class of a config with the options of the method that `source`, a file in `folder`, names in `model`."""
    if not isinstance(model, dict) or model.get("fusion") is None:
        return Config  # which says what is wrong
    try:
        model["fusion"] = resolve(model["fusion"], Path() if source == COMMAND_LINE else folder)
        return create_model("Config", __base__=Config, model=(options_of(model["fusion"]), ...))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _find(path: Path) -> Path:
    """`path`, or the project's own file of that name, so that `-c configs/xnorm.yaml` works from any folder."""
    own = BASE.parent / path.name
    return own if not path.exists() and str(path.parent) in (".", "configs") and own.exists() else path


def _read(path: Path) -> Tree:
    try:
        content = read_yaml(path)
    except OSError as error:
        known = ", ".join(sorted(f"configs/{name.name}" for name in BASE.parent.glob("*.yaml") if name != BASE))
        raise ConfigError(f"{path}: cannot read the config ({error.strerror}); the project's own: {known}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(content).__name__}")
    return content


def _parse_override(override: str) -> tuple[list[str], Any]:
    name, separator, text = override.partition("=")
    if not separator or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        raise ConfigError(f"{COMMAND_LINE}: {override!r}: overrides are written section.key=value")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{COMMAND_LINE}: {name}: {text!r} is not valid YAML: {error}") from None
    is_plain = value is not None and not isinstance(value, str | list | dict)
    return name.split("."), text if name == "name" and is_plain else value  # name=0815 is what it looks like


def _merge(tree: Tree, section: str, content: Any, source: str) -> dict[str, str]:
    """Put a file's section into `tree`; return where each of its keys came from."""
    if not isinstance(content, Mapping) or not isinstance(tree.get(section), dict):
        tree[section] = content
        return {section: source}
    tree[section] |= content
    return {f"{section}.{key}": source for key in content}


def _set(tree: Tree, key: Sequence[str], value: Any) -> dict[str, str]:
    for depth, part in enumerate(key[:-1]):
        if tree.get(part) is None:  # `data.annotations.val=...` where the file has no such mapping yet
            tree[part] = {}
        if not isinstance(tree[part], dict):
            raise ConfigError(f"{COMMAND_LINE}: {'.'.join(key)}: {'.'.join(key[: depth + 1])} is no section")
        tree = tree[part]
    tree[key[-1]] = value
    return {".".join(key): COMMAND_LINE}


def _messages(error: ValidationError, kind: type[BaseModel], tree: Tree) -> Iterator[tuple[list[str], str]]:
    """Each key of `tree`, without positions in lists, that makes no `kind`, and what is said of it."""
    for problem in error.errors():
        key = [part for part in problem["loc"] if isinstance(part, str)]
        if problem["type"] == "extra_forbidden":
            message = _unknown(key, kind, tree)
        elif problem["type"] == "missing":
            message = "missing"
        elif problem["type"] == "value_error":
            message = str(problem["ctx"]["error"])
        else:
            message = f"found {_SHORT.repr(problem['input'])}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
        yield key, f"{'.'.join(key)}: {message}" if key else message


def _unknown(key: Sequence[str], kind: Any, tree: Tree) -> str:
    for part in key[:-1]:
        tree = tree[part]
        kind = kind.model_fields[part].annotation if hasattr(kind, "model_fields") else get_args(kind)[-1]
    if issubclass(kind, CommonOptions):
        owners = [name for name, options in METHODS.items() if key[-1] in options.model_fields]
        if owners:
            return f"has no effect when fusion is '{tree['fusion']}' (it belongs to {', '.join(owners)}); remove it"
    known = kind.model_fields
    return f"unknown key{did_you_mean(key[-1], known) or '; known here: ' + ', '.join(known)}"


def _origin(key: Sequence[str], origin: Mapping[str, str]) -> str | None:
    """What set `key`, or the section around it, or a key within it."""
    around = (".".join(key[:length]) for length in range(len(key), 0, -1))
    within = (other for other in origin if other.startswith(".".join([*key, ""])))
    return next((origin[name] for name in (*around, *within) if name in origin), None)
