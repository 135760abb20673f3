"""One file a strategy: what trains, and when."""
