"""Closed forms that a measurement is held against."""
