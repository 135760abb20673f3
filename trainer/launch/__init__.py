"""From a plan to running processes. Nothing here imports torch."""
