"""Data sets by name: the catalogue, and a file for each set."""
