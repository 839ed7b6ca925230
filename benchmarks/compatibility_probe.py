"""What ``compatibility.py`` runs in each environment: Python, NumPy and ONNX Runtime are all that it needs.

    python compatibility_probe.py graphs FOLDER        raw sessions on every set of vectors
    python compatibility_probe.py runtime FOLDER       the edge runtime, sample by sample

FOLDER holds ``plan.json`` and the inputs of each set; ``result.json`` and the outputs are written there.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def first_line(error: Exception) -> str:
    """What ONNX Runtime says, on one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def graphs(folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """Load each graph and run it on its sets; what fails is told and does not stop the rest."""
    onnxruntime.set_default_logger_severity(4)
    sessions: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for graph, path in plan["graphs"].items():
        try:
            sessions[graph] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the table tells it
            problems[graph] = first_line(error)
    failed: dict[str, str] = {}
    for number, entry in enumerate(plan["sets"]):
        if entry["graph"] not in sessions:
            continue
        with np.load(folder / f"inputs_{number}.npz") as arrays:
            feed = dict(arrays)
        try:
            outputs = sessions[entry["graph"]].run(entry["outputs"], feed)
        except Exception as error:  # noqa: BLE001
            failed[str(number)] = first_line(error)
        else:
            np.savez(folder / f"outputs_{number}.npz", **dict(zip(entry["outputs"], outputs, strict=True)))
    return {"not_loaded": problems, "failed": failed}


def runtime(folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The edge runtime on the same sets, one sample at a time."""
    from twophase.link.graphs import GraphOptions
    from twophase.link.modem import stream_hash, symbol_stream
    from twophase.link.receiver import Receiver
    from twophase.link.transmitter import Transmitter

    options = GraphOptions(format=plan["format"])
    transmitter = Transmitter(plan["bundle"], options=options)
    receiver = Receiver(plan["bundle"], manifest=transmitter.manifest, options=options)
    streams: list[bytes] = []
    decided: list[list[int]] = []
    for number, entry in enumerate(plan["sets"]):
        with np.load(folder / f"inputs_{number}.npz") as arrays:
            feed = dict(arrays)
        if entry["graph"] == "rx.onnx":
            rows = zip(feed["llr"], feed["mode"], strict=True)
            decided.append([int(receiver.receive(llr, int(mode)).classes[0]) for llr, mode in rows])
            continue
        size = len(feed["input"])
        requests = np.broadcast_to(feed.get("mode_request", np.array([-1])), (size,)).tolist()
        for row, request in enumerate(requests):
            wish = None if request < 0 else request
            sent = transmitter.send(feed["input"][row], feed["snr_db"][row], wish)
            streams.append(symbol_stream(sent.mode, sent.symbols, sent.symbol_count))
    return {"symbols_sha256": stream_hash(streams), "decided": decided}


def main() -> None:
    """Write ``result.json``."""
    what, folder = sys.argv[1], Path(sys.argv[2])
    plan = json.loads((folder / "plan.json").read_text())
    result = {"graphs": graphs, "runtime": runtime}[what](folder, plan)
    result["versions"] = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
