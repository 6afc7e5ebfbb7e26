"""YAML as data alone: no objects, no key twice, nothing that unfolds into more than a config can hold."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MOST_VALUES = 100_000  # with every alias written out


def read_yaml(path: Path) -> Any:
    """Parse a file; see parse_yaml().

    Raises:
        OSError: it cannot be read.
        ValueError: it is no YAML.
    """
    return parse_yaml(path.read_text("utf-8"))


def parse_yaml(text: str) -> Any:
    """Return what a document says, as dicts, lists and plain values; None for an empty one.

    Raises:
        ValueError: it is no YAML, names objects, has a key twice, or stands for too much (aliases of aliases).
    """
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except yaml.YAMLError as error:
        said = str(error)
        raise ValueError("nested too deeply" if "maximum nesting depth" in said else said) from None
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
    ) as error:  # of a tag, as PyYAML lets them out
        raise ValueError(f"a value that its tag does not fit ({error})") from None


# libyaml takes a twentieth of the time; a PyYAML that was built without it lacks the first of the two.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_Loader):  # type: ignore[misc]
    """Refuses a key that stands twice, of which YAML would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value!r} stands twice", problem_mark=node.start_mark
                )
            seen.add(str(key.value))
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def _count(node: yaml.Node, counts: dict[int, int]) -> int:
    """How many values a node stands for; each is visited once, however often aliases repeat it."""
    if id(node) not in counts:
        counts[id(node)] = MOST_VALUES  # while it is open: it would hold itself
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        pairs = [part if isinstance(part, tuple) else (part,) for part in parts]
        counts[id(node)] = 1 + sum(_count(each, counts) for pair in pairs for each in pair)
    if counts[id(node)] > MOST_VALUES:
        raise ValueError(f"its aliases stand for more than {MOST_VALUES:,} values, or for themselves")
    return counts[id(node)]
