"""Graphs as values: reading, running and freezing them."""
