"""The training loop and what it is made of: steps, gradients, rates, sums, progress."""
