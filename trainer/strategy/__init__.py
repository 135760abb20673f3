"""One file a strategy: what trains."""
