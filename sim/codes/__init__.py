"""Channel codes for the baselines of a sweep: convolutional, 5G NR LDPC and short label codes.

Nothing of the deployed link depends on this package.  Decoders run in NumPy, or in numba where it is
installed; both give the same bits.
"""
