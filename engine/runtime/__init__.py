"""What surrounds a run: device, processes, signals."""
