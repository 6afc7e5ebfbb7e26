"""The bytes of a shard set, declared once for writer and reader."""
