"""What an edge process needs: memory, time to start, and which packages it loads; beside the same with torch.

    python benchmarks/footprint.py runs/digits [--bundle runs/digits/bundle] [--repeats 5] [--limit 65]
    python benchmarks/footprint.py --base runs/digits/bundle   both ends alone, as a row with versions

Each process starts anew, imports, loads, and processes ``--calls`` samples one by one.  RSS is the
kernel's, as it is then and at its peak, in MiB; it counts pages of libraries that other processes may share.
Exit status 1 if an edge process exceeds ``--limit`` in any repeat, or loads what it must not.  Linux only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HEAVY = ("torch", "onnx", "matplotlib", "commpy", "scipy", "jinja2", "sklearn", "rich")

PROBE = """
import json, sys, time
begin = time.perf_counter()
{imports}
imported = time.perf_counter()
import numpy as np
{load}
loaded = time.perf_counter()
with np.load({data!r}) as arrays:
    features = arrays["input"].astype(np.float32)
for call in range({calls}):
    sample = features[call % len(features)]
{work}
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({{
    "rss": int(status["VmRSS"].split()[0]) / 1024,
    "peak": int(status["VmHWM"].split()[0]) / 1024,
    "import": imported - begin,
    "load": loaded - imported,
    "heavy": sorted(set({heavy!r}) & set(sys.modules)),
}}))
"""
SEND = "sent = sender.send(sample, 10.0)"
RECEIVE = "receiver.receive(np.zeros(width), 0)"
TORCH = """
import warnings
warnings.simplefilter("ignore")
torch.set_num_threads(1)
load = lambda name: torch.export.load({run!r} + f"/programs/{{name}}.pt2")
sender, receiver = load("tx").module(), load("rx").module()
width = load("rx").example_inputs[0][0].shape[1]
several = len(load("tx").example_inputs[0]) > 2
"""


def probes(run: Path, bundle: Path) -> dict[str, tuple[str, str, list[str]]]:
    """Each process: what it imports, loads, and does with a sample."""
    where = repr(str(bundle))
    edge = "from twophase.link import Receiver, Transmitter"
    sender = f"sender = Transmitter({where})"
    receiver = f"receiver = Receiver({where}); width = receiver.manifest.modes.max_bits"
    torch_work = [
        "with torch.inference_mode():",
        "    tensors = [torch.from_numpy(sample[None]), torch.full((1,), 10.0)]",
        "    sender(*tensors, *([torch.full((1,), -1)] if several else []))",
        "    receiver(torch.zeros(1, width), torch.zeros(1, dtype=torch.int64))",
    ]
    return {
        "edge: transmitter": (edge, sender, [SEND]),
        "edge: receiver": (edge, receiver, [RECEIVE]),
        "edge: both": (edge, f"{sender}\n{receiver}", [SEND, RECEIVE]),
        "numpy and onnxruntime alone": ("import numpy, onnxruntime", "", ["pass"]),
        "torch: both programs": ("import torch", TORCH.format(run=str(run)), torch_work),
    }


def measure(name: str, probe: tuple[str, str, list[str]], data: Path, calls: int) -> dict[str, Any]:
    """One process."""
    imports, load, work = probe
    code = PROBE.format(
        imports=imports,
        load=load,
        work="\n".join(f"    {line}" for line in work),
        data=str(data),
        calls=calls,
        heavy=HEAVY,
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"'{name}' fails: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


LINK = """
import hashlib, json, platform
from importlib.metadata import version
import numpy as np
from twophase.link import Receiver, Transmitter, esn0_db_to_noise_var
with np.load({data!r}) as arrays:
    samples, labels = arrays["input"], arrays["label"]
sent = Transmitter({where}).transmit(samples, 10.0)
noise_var, rng = esn0_db_to_noise_var(10.0), np.random.default_rng(0)
noise = rng.normal(size=(*sent.iq.shape, 2)) @ [1, 1j] * np.sqrt(noise_var / 2)
decided = Receiver({where}).decide(sent.iq + noise, noise_var, 1.0, 10.0)
print(json.dumps({{
    "versions": [platform.python_version(), version("numpy"), version("onnxruntime")],
    "sent": hashlib.sha256(sent.symbols.tobytes()).hexdigest()[:16],
    "accuracy": float(np.mean(decided.classes == labels)),
}}))
"""


def base(bundle: Path, repeats: int, calls: int, limit: float) -> None:
    """A row of what both ends take on the interpreter at hand, and what they send and decide at 10 dB."""
    data = bundle / "eval.npz"
    edges = [probe for name, probe in probes(bundle, bundle).items() if name.startswith("edge")]
    cells, failed = [], False
    for probe in edges:
        results = [measure("edge", probe, data, calls) for _ in range(repeats)]
        rss, seconds = (statistics.mean(result[key] for result in results) for key in ("rss", "import"))
        cells.append(f"{rss:.1f} MiB, {seconds:.2f} s")
        failed |= any(result["peak"] > limit or result["heavy"] for result in results)
    code = LINK.format(data=str(data), where=repr(str(bundle)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the link fails: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout)
    print(f"| {' | '.join([*found['versions'], *cells, found['sent']])} | {found['accuracy']:.4f} |")
    if failed or found["accuracy"] < 0.9:
        raise SystemExit(f"above {limit:g} MiB, with a heavy package, or below an accuracy of 0.9")


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", help="folder of a finished run")
    parser.add_argument("--base", type=Path, help="a bundle of which both ends alone are run")
    parser.add_argument("--bundle", type=Path, help="default: 'bundle' in the run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--limit", type=float, default=65.0)
    arguments = parser.parse_args()
    if arguments.repeats < 1 or arguments.calls < 1:
        parser.error("--repeats and --calls must be at least 1")
    if arguments.base is not None:
        base(arguments.base.resolve(), arguments.repeats, arguments.calls, arguments.limit)
        return
    if arguments.run is None:
        parser.error("name a run, or a bundle by --base")
    run, bundle = arguments.run.resolve(), (arguments.bundle or arguments.run / "bundle").resolve()
    print("| process | RSS, MiB: mean (highest) | peak | import, s | load, s | of the heavy packages |")
    print("|---|---|---|---|---|---|")
    failures = []
    for name, probe in probes(run, bundle).items():
        results = [
            measure(name, probe, bundle / "eval.npz", arguments.calls) for _ in range(arguments.repeats)
        ]
        mean = {key: statistics.mean(result[key] for result in results) for key in ("rss", "import", "load")}
        highest, peak = (max(result[key] for result in results) for key in ("rss", "peak"))
        heavy = results[0]["heavy"]
        print(
            f"| {name} | {mean['rss']:.1f} ({highest:.1f}) | {peak:.1f} | {mean['import']:.2f} "
            f"| {mean['load']:.2f} | {', '.join(heavy) or 'none'} |",
            flush=True,
        )
        if name.startswith("edge") and (peak > arguments.limit or heavy):
            failures.append(name)
    if failures:
        raise SystemExit(f"above {arguments.limit:g} MiB, or with a heavy package: {', '.join(failures)}")


if __name__ == "__main__":
    main()
