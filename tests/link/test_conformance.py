"""The stream that every runtime must send alike, byte by byte."""

import hashlib

import numpy as np
import pytest

from twophase.link.errors import InputError
from twophase.link.manifest import Conformance, VectorSet, stream_hash, symbol_stream

MODE = [2, 0, 255]
SYMBOLS = [[7, 255, 9, 0], [1, 2, 3, 4], [0, 0, 0, 0]]
COUNTS = [2, 4, 0]


def test_the_stream_is_the_mode_and_the_symbols_that_are_sent():
    assert symbol_stream(MODE, SYMBOLS, COUNTS) == bytes([2, 7, 255, 0, 1, 2, 3, 4, 255])


def test_padding_is_no_part_of_it_and_everything_else_is():
    stream = symbol_stream(MODE, SYMBOLS, COUNTS)
    other = np.array(SYMBOLS)
    other[0, 2:] = 77
    assert symbol_stream(MODE, other, COUNTS) == stream
    other[0, 1] = 254
    assert symbol_stream(MODE, other, COUNTS) != stream
    assert symbol_stream([2, 1, 255], SYMBOLS, COUNTS) != stream
    assert symbol_stream(MODE, SYMBOLS, [2, 3, 0]) != stream


def test_samples_one_by_one_make_the_same_stream():
    rows = [symbol_stream(MODE[i : i + 1], SYMBOLS[i : i + 1], COUNTS[i : i + 1]) for i in range(3)]
    assert b"".join(rows) == symbol_stream(np.int64(MODE), np.int64(SYMBOLS), np.int64(COUNTS))


def test_the_hash_is_sha256_of_all_streams_in_order():
    streams = [b"ab", b"", b"c"]
    assert stream_hash(streams) == hashlib.sha256(b"abc").hexdigest()
    assert stream_hash([]) == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    "folder", ["../test_data_set_0", "test_data_set_", "test_data_set_0/..", "test_data_set_1\n"]
)
def test_a_set_lies_in_a_folder_of_the_bundle(folder):
    with pytest.raises(InputError, match="'folder' must be 'test_data_set_' and a number"):
        VectorSet(folder, "tx.onnx", "samples")


def test_a_set_is_of_a_deployed_graph_and_has_a_folder_of_its_own():
    with pytest.raises(InputError, match=r"'graph' must be 'tx\.onnx', 'tx_head\.onnx' or 'rx\.onnx'"):
        VectorSet("test_data_set_0", "soft.onnx", "samples")
    assert VectorSet("test_data_set_0", "tx_head.onnx", "samples").graph == "tx_head.onnx"
    entry = VectorSet("test_data_set_0", "tx.onnx", "samples")
    with pytest.raises(InputError, match="'sets' must each have a folder of its own"):
        Conformance((entry, entry), "")
