"""The training loop, its state, and the base of its callbacks."""
