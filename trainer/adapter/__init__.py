"""One file a parameter-efficient method."""
