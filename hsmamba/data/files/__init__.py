"""Readers of files, one a format, and the table of them."""
