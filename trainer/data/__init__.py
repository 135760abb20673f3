"""From files to batches: sources, formats, tokens, windows."""
