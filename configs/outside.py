"""Methods from outside, named as FILE.py:Class or package.module:Class: found, loaded once, never from a checkpoint."""

import importlib
import importlib.util
import sys
import zlib
from functools import cache
from inspect import get_annotations
from pathlib import Path
from typing import Any

from common.errors import ConfigError, listed
from common.paths import expand_path


def resolve(fusion: Any, folder: Path) -> Any:
    """Make the path in FILE.py:Class absolute, from `folder` on; other names of methods stay as they are.

    Raises:
        ConfigError: a variable in the path is not set.
    """
    name, _, kind = str(fusion).rpartition(":")
    try:
        return f"{(folder / expand_path(name)).resolve()}:{kind}" if name.endswith(".py") else fusion
    except ValueError as error:
        raise ConfigError(f"model.fusion: {error}") from None


@cache
def find_class(fusion: str) -> type[Any]:
    """Load the class that FILE.py:Class or package.module:Class names; the file is run, as `python FILE.py` would.

    Raises:
        ConfigError: there is no such file, module or class.
    """
    name, _, kind = fusion.rpartition(":")
    module = _load_file(Path(name)) if name.endswith(".py") else _load_module(name)
    found = getattr(module, kind, None)
    if not isinstance(found, type):
        there = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise ConfigError(f"model.fusion: {name} has no class {kind!r}; found there: {listed(there) or 'none'}")
    return found


def options_class(method: type[Any]) -> Any:
    """Return what a method's class says of its attribute `options`; None where it says nothing."""
    annotations = (get_annotations(one, eval_str=True) for one in method.__mro__ if "options" in get_annotations(one))
    return next(annotations, {}).get("options")


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f"model.fusion: {path}: no such file")
    name = f"{path.stem}_{zlib.crc32(str(path).encode()):08x}"  # so that two files of one name are two modules
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"model.fusion: cannot import {name} ({error})") from None
