"""Saving and loading, so that a kill at any moment leaves the last good state."""
