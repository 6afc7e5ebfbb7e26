"""docs/format.md names what a packed split holds: every feature, array and key, in its order and with its type."""

import json
import re
from pathlib import Path

import numpy as np
from tfrecord.reader import tfrecord_loader

from tests.docs.markdown import ROOT, table

DOCUMENT = ROOT / "docs/format.md"


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_features_of_a_record(split: Path) -> None:
    written = {
        name.replace("/000", "")
        for row in table(DOCUMENT, "NNNNN.tfrecord", "feature")
        for name in names(row["feature"])
    }
    record = next(iter(tfrecord_loader(str(split / "00000.tfrecord"), None, None)))
    assert {name.split("/")[0] for name in record} == written


def test_the_arrays_of_the_frame_table(split: Path) -> None:
    rows = table(DOCUMENT, "frames.npz", "array")
    written = {name: row["dtype"] for row in rows for name in names(row["array"])}
    with np.load(split / "frames.npz") as members:
        assert list(members) == list(written)
        for name, dtype in written.items():
            found = members[name].dtype
            assert dtype.startswith("bytes") if found.kind == "S" else found.name == dtype


def test_the_keys_of_the_index(split: Path) -> None:
    written = {name for row in table(DOCUMENT, "index.json", "key") for name in names(row["key"])}
    assert set(json.loads((split / "index.json").read_text())) == written
