"""Data preparation: annotations, frames, videos and synthetic data, packed into shards."""
