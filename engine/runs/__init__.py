"""A run's folder: config, metrics, checkpoints, curves, comparisons."""
