"""The receiving end of a link: receives baseband I/Q over UDP through a simulated channel, and classifies.

    python examples/edge_rx.py --channel-snr 5                 in one terminal; edge_tx.py --snr 5 in another
    python examples/edge_rx.py --channel-snr 12 --rayleigh     flat fading of each symbol
    python examples/edge_rx.py --snr 8 --channel-snr 5         believes the channel better than it is
    python examples/edge_rx.py --format ort                    loads ort/rx.ort instead of rx.onnx

Needs numpy, onnxruntime and twophase.link; no torch, no onnx.  The channel is simulated here, at the input:
noise and fading are added to each frame before the receiver proper sees it.  That one knows the bundle, the
noisy I/Q and its own estimate of Es/N0.  It takes the mode from its table, or from the frame's header where
the link has one.

Writes JSON lines to stdout: first the port, then one decision for each frame, at the end what was counted,
the symbols per frame and, where the bundle has its test split, the accuracy if that is what was sent.
Receives one stream: that of the first samples.  Ends when its sender does, or when no frame of it has come
for --timeout seconds.

Exit status: 0 done, 1 no frame ever came, 2 bad input, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import socket
import sys
import time
from pathlib import Path

import numpy as np
from edge_command import GoneError, Parser, run
from edge_frames import END, MAX_DATAGRAM, Inbox
from edge_radio import Channel, slot_length
from numpy.typing import NDArray

from twophase.link import GraphOptions, Receiver, esn0_db_to_noise_var

GRACE = 0.5
"""Seconds that frames may come in after the end of the stream, where some are missing."""


def parse() -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="edge_rx", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("runs/digits/bundle"))
    parser.add_argument("--host", default="127.0.0.1", help="address to receive at")
    parser.add_argument("--port", type=int, default=47800, help="0 takes any free one")
    parser.add_argument("--channel-snr", type=float, default=10.0, help="Es/N0 in dB of the channel")
    parser.add_argument("--rayleigh", action="store_true", help="flat fading of each symbol, known here")
    parser.add_argument("--snr", type=float, help="Es/N0 that this end believes in; default: the channel's")
    parser.add_argument("--snr-error", type=float, default=0.0, help="deviation of its estimates, dB")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds without a frame")
    parser.add_argument("--seed", type=int, default=1, help="of channel and estimates")
    parser.add_argument("--format", choices=("onnx", "ort"), default="onnx", help="graph to load")
    options = parser.parse_args()
    if options.snr is None:
        options.snr = options.channel_snr
    parser.demand(
        port=0 <= options.port <= 65535,
        channel_snr=math.isfinite(options.channel_snr),
        snr=math.isfinite(options.snr),
        snr_error=0 <= options.snr_error < math.inf,
        timeout=0 < options.timeout <= 1e6,
    )
    return options


def tell(**entries: object) -> None:
    """One JSON line, at once."""
    sys.stdout.write(json.dumps(entries) + "\n")
    sys.stdout.flush()


def labels(path: Path) -> NDArray[np.generic] | None:
    """Those of the test split, which the transmitter sends unless it is given other samples."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        found: NDArray[np.generic] | None = arrays.get("label")
    return found


def receive(options: argparse.Namespace) -> int:
    """Receive, decide and print until the stream ends."""
    receiver = Receiver(options.bundle, options=GraphOptions(format=options.format), hold=True)
    link = receiver.manifest
    channel = Channel(options.channel_snr, options.rayleigh, slot_length(link), options.seed)
    error = random.Random(options.seed + 1)
    inbox = Inbox()
    names = link.modes.names
    known = labels(options.bundle / "eval.npz")
    ended, symbols, correct, compared = False, 0, 0, 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as radio:
        radio.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        radio.bind((options.host, options.port))
        try:
            tell(listening=options.host, port=radio.getsockname()[1])
            until = time.monotonic() + options.timeout
            while not inbox.is_complete and (left := until - time.monotonic()) > 0:
                radio.settimeout(left)
                try:
                    frame = inbox.take(radio.recv(MAX_DATAGRAM))
                except TimeoutError:
                    break
                if frame is None:
                    continue
                if frame.kind == END and ended:  # the first alone gives time
                    continue
                ended = inbox.has_ended
                until = time.monotonic() + (GRACE if ended else options.timeout)
                if frame.kind == END:
                    continue
                estimate = options.snr + error.gauss(0, options.snr_error)
                air = channel.carry(frame.samples)
                noise_var = esn0_db_to_noise_var(estimate)
                decision = receiver.decide(air.received, noise_var, air.gains, estimate)
                decided = int(decision.classes[0])
                symbols += int(link.modes[int(decision.mode[0])].symbols + link.header.symbol_count(estimate))
                if known is not None and frame.sequence < len(known):
                    correct += int(decided == known[frame.sequence])
                    compared += 1
                tell(
                    sequence=frame.sequence,
                    mode=names[int(decision.mode[0])],
                    snr_db=round(estimate, 2),
                    decided=decided,
                    name=link.classes[decided],
                )
        finally:
            measured = {}
            if accepted := inbox.counts["accepted"]:
                measured["symbols_per_frame"] = round(symbols / accepted, 2)
            if compared:
                measured["accuracy_if_test_split"] = round(correct / compared, 4)
            counts = dict(sorted(inbox.counts.items()))
            tell(counted=counts, lost=inbox.lost, ended=inbox.has_ended, **measured)
    if not inbox.counts["accepted"]:
        raise GoneError(f"no frame came for {options.timeout:g} s")
    if not inbox.has_ended:
        sys.stderr.write(f"edge_rx: no more frames for {options.timeout:g} s: the sender is gone\n")
    return 0


def main() -> int:
    """Run; every problem is one line on stderr."""
    return run("edge_rx", lambda: receive(parse()))


if __name__ == "__main__":
    sys.exit(main())
