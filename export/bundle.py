"""Making a bundle: freeze the programs of a run, prove and verify the graphs, only then write the folder."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from twophase.export.compare import EXCUSED_MARGIN, POSTERIOR_MARGIN, TOLERANCE, Tally
from twophase.export.folders import check_target
from twophase.export.freeze import IR_VERSION, OPSET, freeze, load_program, serialize
from twophase.export.inputs import load_split
from twophase.export.listing import mode_listing
from twophase.export.mode import check_mode
from twophase.export.prove import HardProof, check_interface, check_operators, prove_hard
from twophase.export.router import AUTO, RouterChoice, exported_routing
from twophase.export.session import Session, Values
from twophase.export.signature import UNFORCED, signature_of
from twophase.export.table import install_table
from twophase.export.verify import verify_receiver, verify_soft, verify_transmitter
from twophase.link.errors import VerificationError
from twophase.link.files import atomic_folder
from twophase.link.manifest import EVAL_FILE, Manifest, load_manifest, program_file, write_manifest
from twophase.link.routing import SnrTable
from twophase.link.runtime import MODE_REQUEST

__all__ = ["BundleSummary", "build_bundle"]

_TEST_SAMPLES = 8
_REAL_SHARE = 5
"""The graphs that need no exact proof are compared on a fifth of the random inputs."""

_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxscript", "torch", "twophase-link")


@dataclass(frozen=True)
class BundleSummary:
    """What was built and proved."""

    folder: Path
    manifest: Manifest
    proof: HardProof
    tallies: dict[str, Tally]
    """What was compared, by graph."""


@dataclass(frozen=True, eq=False)
class _Work:
    """What all graphs of a bundle are made and verified from."""

    run: Path
    manifest: Manifest
    """The run's, with the routing of the bundle."""
    table: SnrTable | None
    """What takes the place of the programs' own router, if anything does."""
    features: NDArray[np.float32]
    random_inputs: int
    seed: int
    progress: Callable[[str], None]


@dataclass
class _Findings:
    """Everything found so far; the problems of all graphs are told together."""

    problems: list[str]
    tallies: dict[str, Tally]
    proof: HardProof | None = None


def build_bundle(
    run: Path,
    out: Path,
    random_inputs: int = 100_000,
    seed: int = 0,
    progress: Callable[[str], None] = lambda step: None,
    *,
    router: RouterChoice = "trained",
    hysteresis_db: float | None = None,
    header: str = AUTO,
) -> BundleSummary:
    """Make the bundle of a finished run.

    Parameters
    ----------
    run
        Run folder, as training leaves it.
    out
        Folder of the bundle.  An older bundle there is replaced when everything is proved, and left as it is
        otherwise.
    random_inputs, seed
        How many random inputs the transmitter is compared on besides the test split, and their seed.
    progress
        Is told each step before it begins.
    router, hysteresis_db, header
        How the mode is chosen and told; see ``router.exported_routing``.

    Raises
    ------
    ArtifactError
        If the run is unfinished or damaged.
    InputError
        If ``out`` cannot be written or holds something else than a bundle, or the run cannot be routed so.
    VerificationError
        If a graph fails a proof; it lists all failures of all graphs.
    """
    manifest = load_manifest(run, "run")
    check_target(out)
    manifest = replace(manifest, routing=exported_routing(manifest, router, hysteresis_db, header))
    features = load_split(run / EVAL_FILE, manifest)
    work = _Work(
        run,
        manifest,
        manifest.routing.table if router == "table" else None,
        features,
        random_inputs,
        seed,
        progress,
    )
    with atomic_folder(out) as folder:
        models: dict[str, ModelProto] = {}
        findings = _Findings([], {})
        for name in manifest.graph_files:
            models[name] = _make_graph(name, work, findings)
        if findings.problems or findings.proof is None:
            raise VerificationError(f"the bundle of '{run}'", findings.problems)
        progress("writing the bundle")
        files = _write_graphs(folder, models)
        shutil.copyfile(run / EVAL_FILE, folder / EVAL_FILE)
        tests = _write_test_data(folder, models, manifest, features)
        record = _record(findings.proof, findings.tallies, work)
        bundled = replace(
            manifest, kind="bundle", files={}, provenance={**manifest.provenance, "export": record}
        )
        write_manifest(folder, bundled, (*files, EVAL_FILE, *tests))
    return BundleSummary(out, load_manifest(out, "bundle"), findings.proof, findings.tallies)


def _make_graph(name: str, work: _Work, findings: _Findings) -> ModelProto:
    """Freeze one program, prove its graph, and compare the two."""
    manifest = work.manifest
    signature = signature_of(name, manifest)
    work.progress(f"{name}: converting")
    path = work.run / program_file(name)
    program = load_program(path)
    model = freeze(str(path), program, signature)
    if work.table is not None and MODE_REQUEST in signature.input_names:
        model = install_table(model, work.table)
    problems = check_interface(model, signature)
    share = work.random_inputs // _REAL_SHARE
    if name == "tx.onnx":
        work.progress(f"{name}: proving that it is hard")
        findings.proof, found = prove_hard(model, manifest)
        problems += found
        work.progress(f"{name}: comparing with torch")
        tally = verify_transmitter(
            program, model, findings.proof, manifest, work.features, work.random_inputs, work.seed, work.table
        )
    else:
        problems += check_operators(model)
        work.progress(f"{name}: comparing with torch")
        if "llr" in signature.input_names:
            tally = verify_receiver(name, program, model, manifest, share, work.seed)
        else:
            proof, found = check_mode(model, manifest)
            problems += found
            tally = verify_soft(
                name, program, model, proof, manifest, work.features, share, work.seed, work.table
            )
    problems += tally.failures.values()
    findings.problems.extend(f"{name}: {problem}" for problem in problems)
    findings.tallies[name] = tally
    return model


def _write_graphs(folder: Path, models: dict[str, ModelProto]) -> tuple[str, ...]:
    for name, model in models.items():
        (folder / name).write_bytes(serialize(model))
    return tuple(models)


def _write_test_data(
    folder: Path, models: dict[str, ModelProto], manifest: Manifest, features: NDArray[np.float32]
) -> tuple[str, ...]:
    """ONNX test data: set 0 for ``tx.onnx``, set 1 for ``rx.onnx``, which receives what set 0 sends.

    Of several modes, set 0 asks for each in turn, after one sample whose mode is left to the router.
    """
    modes = len(manifest.modes)
    count = _TEST_SAMPLES if modes == 1 else max(_TEST_SAMPLES, modes + 1)
    some = features[np.arange(count) % len(features)]
    sent_feed: Values = {"input": some, "snr_db": np.linspace(-5.0, 20.0, count, dtype=np.float32)}
    if modes > 1:
        sent_feed[MODE_REQUEST] = np.arange(count) % (modes + 1) + UNFORCED
    sent = _run(models["tx.onnx"], "tx.onnx", sent_feed, manifest)
    inside = np.arange(manifest.modes.max_bits) < sent["bit_count"][:, np.newaxis]
    llr = np.where(inside, 4.0 * (2.0 * sent["bits"] - 1.0), 0.0).astype(np.float32)
    received_feed: Values = {"llr": llr, "mode": sent["mode"]}
    received = _run(models["rx.onnx"], "rx.onnx", received_feed, manifest)
    files: list[str] = []
    for number, (inputs, outputs) in enumerate(((sent_feed, sent), (received_feed, received))):
        (folder / f"test_data_set_{number}").mkdir()
        for side, values in (("input", inputs), ("output", outputs)):
            for position, (name, value) in enumerate(values.items()):
                files.append(f"test_data_set_{number}/{side}_{position}.pb")
                tensor = onnx.numpy_helper.from_array(value, name)
                (folder / files[-1]).write_bytes(tensor.SerializeToString(deterministic=True))
    return tuple(files)


def _run(model: ModelProto, name: str, feed: Values, manifest: Manifest) -> Values:
    outputs = signature_of(name, manifest).output_names
    return dict(zip(outputs, Session(serialize(model)).run(outputs, feed), strict=True))


def _record(proof: HardProof, tallies: dict[str, Tally], work: _Work) -> dict[str, Any]:
    """What the manifest tells of the export.  Rounding errors differ between machines, so they stay out."""
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "test_data": {"test_data_set_0": "tx.onnx", "test_data_set_1": "rx.onnx"},
        "proof": {
            "nodes_scanned": proof.nodes,
            "integer_nodes": proof.integer_nodes,
            "codewords": proof.codewords,
            "combinations": proof.combinations,
            "snr_points": proof.mode.snr_points,
            "request_pairs": proof.mode.request_pairs,
            "random_inputs": work.random_inputs,
            "seed": work.seed,
            "excused_margin": EXCUSED_MARGIN,
            "posterior_margin": POSTERIOR_MARGIN,
            "tolerance": TOLERANCE,
        },
        "router": "trained" if work.table is None else "table",
        "modes": mode_listing(work.manifest, tallies["tx.onnx"].usage),
        "compared": {
            name: {
                "samples": tally.samples,
                "samples_of_mode": {
                    str(mode): count for mode, count in sorted(tally.samples_of_mode.items())
                },
                "indices": {what: asdict(count) for what, count in tally.counts.items()},
                "modes": {what: asdict(count) for what, count in tally.mode_counts.items()},
            }
            for name, tally in tallies.items()
        },
    }
