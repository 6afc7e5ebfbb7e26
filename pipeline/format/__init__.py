"""The bytes of a shard set, declared once for writer and reader: `open_split(folder)` reads one (docs/format.md)."""

from pipeline.format.index import ShardError
from pipeline.format.split import Split, open_split
from pipeline.format.streams import PLANES, STREAMS
from pipeline.format.table import FrameTable

__all__ = ["PLANES", "STREAMS", "FrameTable", "ShardError", "Split", "open_split"]
