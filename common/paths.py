"""Paths as people write them: `~`, `$NAME` and `${NAME}` stand for what a shell would put there."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")


def expand(text: str) -> str:
    """Replace $NAME and ${NAME} by the variables' values.

    Raises:
        ValueError: a variable is not set; a file of that name is hardly what was meant.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise ValueError(f"found {text!r}: the environment variable {name} is not set")
        return os.environ[name]

    return _VARIABLE.sub(value, text)


def expand_path(path: str | Path) -> Path:
    """Replace a leading ~ or ~user, too.

    Raises:
        ValueError: a variable is not set, or there is no such user.
    """
    expanded = Path(expand(str(path)))
    try:
        return expanded.expanduser()
    except RuntimeError as error:
        raise ValueError(f"found {str(path)!r}: {error} A file that is called so is named by its full path.") from None


def _as_given(value: object) -> object:
    return expand_path(value) if isinstance(value, str | Path) else value


ConfigPath = Annotated[Path, BeforeValidator(_as_given)]  # the type of a key that names a file or folder
