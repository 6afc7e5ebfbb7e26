"""From videos to frames, flow and annotations."""
