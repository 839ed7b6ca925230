"""The transmitting end of a link: sends the test samples of a bundle as baseband I/Q over UDP.

    python examples/edge_rx.py --channel-snr 5          in one terminal
    python examples/edge_tx.py --snr 5                  in another
    python examples/edge_tx.py --snr 5 --snr-error 1    its estimates of the SNR err by 1 dB
    python examples/edge_tx.py --data mine.npz          other samples: arrays 'input' and perhaps 'label'
    python examples/edge_tx.py --bundle runs/reviews/bundle --text "a charming film" --text "what a bore"

A link of text sends sentences: those of --text, or those of the arrays 'text' and 'text_ends' of the data.

Needs numpy, onnxruntime and twophase.link, for text tokenizers too; no torch, no onnx.  Writes one JSON line
to stdout for each frame, with what it sent.  The channel is simulated at the receiver's input.

Exit status: 0 all sent, 1 nobody receives, 2 bad input, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import socket
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from edge_command import GoneError, Parser, run
from edge_frames import END, SAMPLES, pack
from numpy.typing import NDArray

from twophase.link import ArtifactError, GraphOptions, Transmitter
from twophase.link.errors import first_line
from twophase.link.text import unpack_texts


def parse() -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="edge_tx", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("runs/digits/bundle"))
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--data", type=Path, help="npz of samples; default: the bundle's test split")
    given.add_argument("--text", action="append", help="a sentence to send; may be given several times")
    parser.add_argument("--count", type=int, help="samples to send, from the first; default: all")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=47800)
    parser.add_argument("--snr", type=float, default=10.0, help="Es/N0 in dB that this end believes in")
    parser.add_argument("--snr-error", type=float, default=0.0, help="deviation of its estimates, dB")
    parser.add_argument("--rate", type=float, default=200.0, help="frames per second")
    parser.add_argument("--seed", type=int, default=0, help="of the errors of the estimates")
    parser.add_argument("--format", choices=("onnx", "ort"), default="onnx", help="graph to load")
    options = parser.parse_args()
    parser.demand(
        count=options.count is None or options.count > 0,
        port=1 <= options.port <= 65535,
        snr=math.isfinite(options.snr),
        snr_error=0 <= options.snr_error < math.inf,
        rate=0 < options.rate < math.inf,
    )
    return options


Samples = NDArray[np.generic] | Sequence[str]


def samples(path: Path, is_text: bool) -> tuple[Samples, NDArray[np.generic] | None]:
    """Features or texts, and labels where they are known."""
    names = ("text", "text_ends") if is_text else ("input",)
    told = " and ".join(f"'{name}'" for name in names)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = [arrays[name] for name in names]
            labels = arrays["label"] if "label" in arrays.files else None
        known: Samples = unpack_texts(*found) if is_text else found[0]
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        wanted = f"arrays {told}" if is_text else f"an array {told}"
        raise ArtifactError(f"'{path}' is no npz with {wanted}: {first_line(error)}") from error
    if not np.shape(known):
        raise ArtifactError(f"'{path}' must hold a batch of samples in {told}")
    if labels is not None and (labels.shape != (len(known),) or labels.dtype.kind not in "iu"):
        raise ArtifactError(f"'{path}' must hold one whole number in 'label' for each sample")
    return known, labels


def transmit(options: argparse.Namespace) -> int:
    """Send, one sample at a time as a sensor has them."""
    transmitter = Transmitter(options.bundle, options=GraphOptions(format=options.format), hold=True)
    names = transmitter.manifest.modes.names
    if options.text is None:
        is_text = transmitter.manifest.front is not None
        known, labels = samples(options.data or options.bundle / "eval.npz", is_text)
    else:
        known, labels = options.text, None
    count = min(options.count or len(known), len(known))
    error = random.Random(options.seed)
    stream = int.from_bytes(os.urandom(4), "little")
    none = np.zeros(0, dtype=np.complex64)
    sent_frames = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as radio:
        radio.connect((options.host, options.port))
        try:
            due = time.monotonic()
            for number in range(count):
                estimate = options.snr + error.gauss(0, options.snr_error)
                sent = transmitter.transmit(known[number], estimate)
                frame = sent.iq[0, : sent.count[0]]
                time.sleep(max(0.0, due - time.monotonic()))
                due += 1 / options.rate
                radio.send(pack(SAMPLES, stream, number, frame))
                sent_frames = number + 1
                told = {
                    "sequence": number,
                    "mode": names[int(sent.mode[0])],
                    "symbols": len(frame),
                    "snr_db": round(estimate, 2),
                }
                if labels is not None:
                    told["label"] = int(labels[number])
                sys.stdout.write(json.dumps(told) + "\n")
                sys.stdout.flush()
        except ConnectionRefusedError:
            raise GoneError(
                f"nobody receives at {options.host}:{options.port}; {sent_frames} frames were sent"
            ) from None
        finally:
            for _ in range(3):  # any of them may be lost
                try:
                    radio.send(pack(END, stream, sent_frames, none))
                except ConnectionError:
                    break
    return 0


def main() -> int:
    """Run; every problem is one line on stderr."""
    return run("edge_tx", lambda: transmit(parse()))


if __name__ == "__main__":
    sys.exit(main())
