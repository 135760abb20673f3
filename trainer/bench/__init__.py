"""Suites of real runs, measured so that differences can be told from noise."""
