"""The definition of the link: labels, bits, constellations, LLRs, decoding, bundle format, edge runtime."""
