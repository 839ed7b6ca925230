"""What choosing a mode costs in the transmitter's graph: computing all and selecting, Gather, or If.

    python benchmarks/mode_switch.py [--calls 2000] [--seed 0]

Three transmitters with the same random weights, which send the same:

select   what tp-export ships: the search of every codebook, then each sample's own by GatherElements
Gather   codebooks stacked and padded to the largest; each sample gathers its own and searches that alone
If       nested If nodes; only the branch of the mode is computed

An If decides for a whole batch.  Where samples differ in their modes the host must sort them by mode and call
the graph once for each; that is timed with it.  Measured in ONNX Runtime on one thread, the variants in turn,
so that the ratios hold within one run.  Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from torch import Tensor, nn

from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.signature import Port, Signature
from twophase.export.graphs.torch_program import IR_VERSION, OPSET, freeze
from twophase.export.graphs.view import serialize
from twophase.link.graphs import MODE_REQUEST
from twophase.link.modes import LinkConfig, Mode
from twophase.link.routing import Routing, SnrTable
from twophase.training.config import PRESETS
from twophase.training.model.exported import HardTransmitter
from twophase.training.model.network import LinkModel, widen

DIGITS = PRESETS["digits"]
LINKS = {
    "digits": (
        LinkConfig(DIGITS["codebook_sizes"], DIGITS["tokens"], DIGITS["qam_orders"], embedding_dim=8),
        64,
        256,
    ),
    "256, 1024, 4096": (
        LinkConfig((256, 1024, 4096), (8, 8, 8), (4, 16, 64, 256), embedding_dim=16),
        384,
        256,
    ),
}
"""Link, features, width of the encoder."""

OUTPUTS = ["indices", "bits", "symbols"]
BATCHES = ((1, False), (64, False), (64, True))
"""Samples, and whether their modes differ."""

Send = Callable[[NDArray[np.float32], NDArray[np.int64]], list[NDArray[np.generic]]]
"""Features and the mode of each sample -> ``OUTPUTS``."""


class Gathered(nn.Module):
    """One search over the codebook that the mode selects."""

    def __init__(self, shipped: HardTransmitter) -> None:
        super().__init__()
        self.shipped = shipped
        model, link = shipped.model, shipped.model.link
        firsts = [number * len(link.qam_orders) for number in range(len(link.codebook_sizes))]
        self.modes = [model.modes[number] for number in firsts]
        width, largest = link.embedding_dim, model.modes.max_codebook_size
        weights = torch.zeros(len(self.modes), width, largest)
        offsets = torch.full((len(self.modes), 1, largest), -1e30)
        with torch.no_grad():
            for number, mode in enumerate(self.modes):
                # scores are affine in the latents
                probes = model.codebook(mode).scores(
                    torch.cat([torch.zeros(1, width), torch.eye(width)])[None]
                )[0]
                offsets[number, 0, : mode.codebook_size] = probes[0]
                weights[number, :, : mode.codebook_size] = probes[1:] - probes[0]
        self.register_buffer("weights", weights)
        self.register_buffer("offsets", offsets)
        self.register_buffer("books", torch.tensor([mode.codebook for mode in model.modes]))
        self.register_buffer("tokens", torch.tensor([mode.tokens for mode in self.modes]))

    def forward(self, features: Tensor, snr_db: Tensor, mode_request: Tensor) -> tuple[Tensor, ...]:
        """``OUTPUTS``, padded to the largest mode."""
        model, modes = self.shipped.model, self.shipped.model.modes
        content = model.content(features)
        chosen = self.shipped.choice(content, snr_db, mode_request)
        book = F.embedding(chosen, self.get_buffer("books")[:, None])[:, 0]
        latents = torch.stack(
            [widen(model.latents(content, mode), modes.max_tokens, 0) for mode in self.modes], 1
        )
        place = book.view(-1, 1, 1, 1).expand(-1, 1, *latents.shape[2:])
        own = latents.gather(1, place)[:, 0]
        scores = own @ self.get_buffer("weights")[book] + self.get_buffer("offsets")[book]
        behind = torch.arange(modes.max_tokens) >= self.get_buffer("tokens")[book][:, None]
        indices = scores.argmax(-1).masked_fill(behind, -1)
        signals = [
            model.digital_signal(indices[:, : mode.tokens].clamp(0, mode.codebook_size - 1), mode)
            for mode in modes
        ]
        bits = torch.stack([widen(signal.bits, modes.max_bits, 0) for signal in signals], 1)
        points = torch.stack([widen(signal.points, modes.max_symbols, 0) for signal in signals], 1)
        row = chosen.view(-1, 1, 1)
        return (
            indices,
            bits.gather(1, row.expand(-1, 1, bits.shape[2]))[:, 0],
            points.gather(1, row.expand(-1, 1, points.shape[2]))[:, 0],
        )


class Branch(nn.Module):
    """One mode from the encoder's features on."""

    def __init__(self, model: LinkModel, mode: Mode) -> None:
        super().__init__()
        self.model, self.mode = model, mode

    def forward(self, content: Tensor) -> tuple[Tensor, ...]:
        """``OUTPUTS``, padded to the largest mode."""
        model, mode, modes = self.model, self.mode, self.model.modes
        codebook = model.codebook(mode)
        indices = codebook.hard_indices(codebook.scores(model.latents(content, mode)))
        signal = model.digital_signal(indices, mode)
        return (
            widen(indices, modes.max_tokens, -1),
            widen(signal.bits, modes.max_bits, 0),
            widen(signal.points, modes.max_symbols, 0),
        )


def convert(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> ModelProto:
    """The ONNX graph of a module; ``mode_request`` is one number for all samples, or one for each."""
    batch = torch.export.Dim("batch")
    shapes = tuple(None if name == MODE_REQUEST else {0: batch} for name in inputs)
    with warnings.catch_warnings():
        # torch.export trips over its own deprecations
        warnings.simplefilter("ignore")
        program = torch.export.export(module.eval(), tuple(inputs.values()), dynamic_shapes=shapes)
    ports = tuple(
        Port(name, "int64", (), "requests", -1)
        if name == MODE_REQUEST
        else Port(name, "float32", tuple(value.shape[1:]))
        for name, value in inputs.items()
    )
    # the shapes of outputs are not needed for the conversion
    return freeze(
        type(module).__name__, program, Signature(ports, tuple(Port(name, "", ()) for name in outputs))
    )


def nested_if(encoder: ModelProto, branches: list[ModelProto]) -> ModelProto:
    """Encoder, then a chain of If nodes over the scalar ``mode``; weights that branches share stand once."""
    stored: dict[bytes, str] = {}
    tensors = list(encoder.graph.initializer)
    inner = []
    for number, branch in enumerate(branches):
        names = {"content": "content"}
        for tensor in branch.graph.initializer:
            own = TensorProto.FromString(tensor.SerializeToString())
            own.name = ""
            key = own.SerializeToString()
            if key not in stored:
                stored[key] = own.name = f"stored_{len(stored)}"
                tensors.append(own)
            names[tensor.name] = stored[key]
        nodes = []
        for node in branch.graph.node:
            copy = onnx.NodeProto.FromString(node.SerializeToString())
            for side in (copy.input, copy.output):
                for place, name in enumerate(side):
                    side[place] = names.setdefault(name, f"branch_{number}/{name}") if name else ""
            copy.name = f"branch_{number}/{node.name}"
            nodes.append(copy)
        outputs = []
        for value in branch.graph.output:
            copied = onnx.ValueInfoProto.FromString(value.SerializeToString())
            copied.name = names[value.name]
            outputs.append(copied)
        inner.append(helper.make_graph(nodes, f"mode_{number}", [], outputs))
    chain = inner[-1]
    for number in reversed(range(len(inner) - 1)):
        own = OUTPUTS if number == 0 else [f"from_{number}/{name}" for name in OUTPUTS]
        tensors.append(helper.make_tensor(f"number_{number}", TensorProto.INT64, [], [number]))
        nodes = [
            helper.make_node("Equal", ["mode", f"number_{number}"], [f"is_{number}"]),
            helper.make_node("If", [f"is_{number}"], own, then_branch=inner[number], else_branch=chain),
        ]
        outputs = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in branches[0].graph.output]
        for value, name in zip(outputs, own, strict=True):
            value.name = name
        chain = helper.make_graph(nodes, f"from_{number}", [], outputs)
    inputs = [*encoder.graph.input, helper.make_tensor_value_info("mode", TensorProto.INT64, [])]
    graph = helper.make_graph(
        [*encoder.graph.node, *chain.node], "nested", inputs, list(chain.output), tensors
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def transmitters(
    link: LinkConfig, features: int, hidden: int, seed: int
) -> dict[str, tuple[ModelProto, Send]]:
    """The three variants by name."""
    torch.manual_seed(seed)
    model = LinkModel(link, (features,), 10, hidden, "product")
    with torch.no_grad():
        for mode in model.modes:
            model.codebook(mode).codewords.normal_()
    shipped = HardTransmitter(model, Routing("snr", SnrTable((5.0,), (0, 1)), 0.0, ()))
    example = {
        "input": torch.zeros(2, features),
        "snr_db": torch.zeros(2),
        MODE_REQUEST: torch.full((1,), -1),
    }
    content = {"content": torch.zeros(2, hidden)}
    graphs = {
        "select": convert(
            shipped, example, ["mode", "indices", "bits", "symbols", "bit_count", "symbol_count"]
        ),
        "Gather": convert(Gathered(shipped), example, OUTPUTS),
        "If": nested_if(
            convert(model.encoder, {"input": example["input"]}, ["content"]),
            [convert(Branch(model, mode), content, OUTPUTS) for mode in model.modes],
        ),
    }
    sessions = {name: OnnxRuntime(graph) for name, graph in graphs.items()}

    def at_once(name: str) -> Send:
        def send(values: NDArray[np.float32], modes: NDArray[np.int64]) -> list[NDArray[np.generic]]:
            snr_db = np.zeros(len(values), dtype=np.float32)
            return sessions[name].run(OUTPUTS, {"input": values, "snr_db": snr_db, MODE_REQUEST: modes})

        return send

    def by_mode(values: NDArray[np.float32], modes: NDArray[np.int64]) -> list[NDArray[np.generic]]:
        order = np.argsort(modes, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(modes[order])) + 1)
        if len(groups) == 1:
            return sessions["If"].run(OUTPUTS, {"input": values, "mode": np.array(modes[0])})
        parts = [
            sessions["If"].run(OUTPUTS, {"input": values[rows], "mode": np.array(modes[rows[0]])})
            for rows in groups
        ]
        back = np.argsort(order, kind="stable")
        return [np.concatenate(arrays)[back] for arrays in zip(*parts, strict=True)]

    return {
        "select": (graphs["select"], at_once("select")),
        "Gather": (graphs["Gather"], at_once("Gather")),
        "If": (graphs["If"], by_mode),
    }


def check(variants: dict[str, tuple[ModelProto, Send]], features: int, modes: int, seed: int) -> None:
    """Stop the benchmark unless all variants send the same, except where two codewords are as near."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((4096, features)).astype(np.float32)
    chosen = rng.integers(0, modes, len(values))
    wanted = variants["select"][1](values, chosen)
    for name, (_, send) in variants.items():
        wrong = {
            what: int((one != other).any(axis=1).sum())
            for what, one, other in zip(OUTPUTS, send(values, chosen), wanted, strict=True)
        }
        if max(wrong.values()) > len(values) // 1000:
            raise SystemExit(f"'{name}' and 'select' differ in {wrong} of {len(values)} samples")


def measure(
    variants: dict[str, tuple[ModelProto, Send]],
    features: int,
    modes: int,
    batch: int,
    mixed: bool,
    calls: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Microseconds of each call; each round calls the variants in another order."""
    rng = np.random.default_rng(seed)
    taken: dict[str, list[float]] = {name: [] for name in variants}
    warm_up = 50
    for _ in range(calls + warm_up):
        values = rng.standard_normal((batch, features)).astype(np.float32)
        chosen = rng.integers(0, modes, batch) if mixed else np.full(batch, rng.integers(0, modes))
        for name in rng.permutation(list(variants)):
            send = variants[name][1]
            start = time.perf_counter()
            send(values, chosen)
            taken[name].append(1e6 * (time.perf_counter() - start))
    return {name: np.array(times[warm_up:]) for name, times in taken.items()}


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2000, help="timed calls of each variant")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.calls < 100:
        parser.error("--calls must be at least 100: a 99th percentile of fewer says nothing")
    print("p50 / p99 in us of one call; ratios of the p50 to that of select\n")
    print("| link | modes | batch | its modes | select | Gather | If | Gather / select | If / select |")
    print("|---|---|---|---|---|---|---|---|---|")
    sizes = []
    for name, (link, features, hidden) in LINKS.items():
        variants = transmitters(link, features, hidden, arguments.seed)
        modes = len(link.modes)
        check(variants, features, modes, arguments.seed)
        for batch, mixed in BATCHES:
            times = measure(variants, features, modes, batch, mixed, arguments.calls, arguments.seed)
            middle = {what: float(np.median(entry)) for what, entry in times.items()}
            told = " | ".join(
                f"{middle[what]:.0f} / {np.percentile(entry, 99):.0f}" for what, entry in times.items()
            )
            ratios = " | ".join(f"{middle[what] / middle['select']:.2f}" for what in ("Gather", "If"))
            print(
                f"| {name} | {modes} | {batch} | {'mixed' if mixed else 'one'} | {told} | {ratios} |",
                flush=True,
            )
        kilobytes = ", ".join(
            f"{what} {len(serialize(graph)) / 1000:.0f}" for what, (graph, _) in variants.items()
        )
        sizes.append(f"{name}: {kilobytes} kB")
    print(f"\nsize of the graphs: {'; '.join(sizes)}")


if __name__ == "__main__":
    main()
