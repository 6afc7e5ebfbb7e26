"""Pages as one file: templates filled in, with all that comes from data escaped, and nothing loaded from elsewhere."""

import hashlib
import re
from base64 import b64encode
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined

LEADING = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def render(template: str, **values: Any) -> str:
    """A page that needs no network: all that it shows is in it, and all but its own script is kept from running."""
    script = _environment().get_template("page.js").render()
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _environment().get_template(template).render(**values, script=script, script_hash=f"sha256-{digest}")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "number": _number, "thousands": "{:,}".format, "duration": _duration}
    environment.filters["leading"] = _leading
    return environment


def _percent(share: float | None) -> str:
    return _number(share if share is None or isinstance(share, Undefined) else 100 * share, 1, " %")


def _number(value: float | None, digits: int = 4, unit: str = "") -> str:
    """A number that may not have been measured: null in JSON, or no key at all."""
    return "-" if value is None or isinstance(value, Undefined) else f"{value:.{digits}f}{unit}"


def _leading(text: str) -> float | None:
    """The number that a cell begins with, by which its column is sorted."""
    found = LEADING.match(text)
    return float(found[0]) if found else None


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
