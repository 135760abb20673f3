"""What stands between the matrix products of a layer, on the processor: C that is compiled once for this machine."""
