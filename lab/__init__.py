"""The lab: a stub docstring until the store exists."""
