"""From frames on a disk to shards: annotations, frame choice, JPEG checks, writing."""
