"""The data pipeline: shards of JPEG clips in, batches of synchronised RGB and flow clips out."""
