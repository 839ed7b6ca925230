"""Transmitter and receiver in 8 bits: static QDQ, search and integer path untouched."""
