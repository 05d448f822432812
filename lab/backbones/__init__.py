"""The frozen networks."""
