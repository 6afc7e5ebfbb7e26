"""Shards: planning, codecs, writing, index, verification, and the report of all that."""
