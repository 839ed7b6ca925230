"""SHA-256 without OpenSSL gives what OpenSSL gives."""

import hashlib
import subprocess
import sys

import numpy as np

from twophase.link.files import sha256


def test_digests_are_those_of_the_standard():
    """FIPS 180-2, appendix B.1, and random bytes of all lengths around a block."""
    assert sha256(b"abc").hexdigest() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    rng = np.random.default_rng(0)
    for length in (*range(130), 100_000):
        data = rng.bytes(length)
        split = sha256(data[: length // 3])
        split.update(data[length // 3 :])
        assert split.hexdigest() == hashlib.sha256(data).hexdigest()


def test_the_edge_runtime_does_without_openssl():
    probe = "import sys, twophase.link.runtime; print('_hashlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
