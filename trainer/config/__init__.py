"""What the user asked for: frozen settings, one file a section. Nothing here imports torch."""
