"""Data sets as protocol objects."""
