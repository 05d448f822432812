"""A small world of our own."""
