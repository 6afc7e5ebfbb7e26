"""Training and evaluation: the loop, what it stands on, and what it writes."""
