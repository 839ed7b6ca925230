"""Proof that a transmitter gives the same indices on every runtime."""
