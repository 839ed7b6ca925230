"""Making a bundle: freeze the programs of a run, prove and verify the graphs, only then write the folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from twophase.export.artefacts.write import Extras, Samples, load_samples, write_content
from twophase.export.backbone.sentences import load_sentences
from twophase.export.backbone.stage import FrontEnd, build_front
from twophase.export.compare.inputs import load_split
from twophase.export.compare.program import verify_receiver, verify_soft, verify_transmitter
from twophase.export.compare.tally import Tally
from twophase.export.folders import check_target
from twophase.export.graphs.run import GraphRunError
from twophase.export.graphs.signature import WHOLE_FILE, check_interface, check_operators, signature_of
from twophase.export.graphs.torch_program import freeze, load_program
from twophase.export.graphs.view import serialize
from twophase.export.int8.calibrate import load_calibration
from twophase.export.int8.stage import Quantised, quantise
from twophase.export.proof.hard import HardProof, prove_hard
from twophase.export.proof.mode import check_mode
from twophase.export.provenance import export_record
from twophase.export.table_router import AUTO, RouterChoice, exported_routing, install_table
from twophase.link.errors import InputError, VerificationError
from twophase.link.files import atomic_folder
from twophase.link.manifest import EVAL_FILE, Manifest, load_manifest, program_file
from twophase.link.routing import SnrTable
from twophase.link.runtime import MODE_REQUEST

__all__ = ["BundleSummary", "Precision", "build_bundle"]

Precision = Literal["float32", "int8"]
"""What the weights of the deployed graphs are stored and multiplied in."""

_REAL_SHARE = 5
"""The graphs that need no exact proof are compared on a fifth of the random inputs."""


@dataclass(frozen=True)
class BundleSummary:
    """What was built and proved."""

    folder: Path
    manifest: Manifest
    proof: HardProof
    """Of the transmitter that is in the bundle, from features on."""
    tallies: dict[str, Tally]
    """What was compared with torch, by graph; of an INT8 bundle the graphs before they were quantised."""


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

    def proved(self, run: Path) -> HardProof:
        """The proof, if nothing is wrong."""
        if self.problems or self.proof is None:
            raise VerificationError(f"the bundle of '{run}'", self.problems)
        return self.proof


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
    precision: Precision = "float32",
    extras: Extras | None = None,
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
    precision
        ``int8`` quantises the deployed pair after everything is proved of it in float32, and proves it again.
    extras
        What the bundle holds besides; nothing if not given.

    Raises
    ------
    ArtifactError
        If the run is unfinished or damaged, or lacks what INT8 is calibrated on.
    InputError
        If ``out`` cannot be written or holds something else than a bundle, or the run cannot be routed so.
    VerificationError
        If a graph fails a proof; it lists all failures of all graphs.
    """
    if precision not in get_args(Precision):
        raise InputError("precision", f"be one of {', '.join(get_args(Precision))}", precision)
    manifest = load_manifest(run, "run")
    check_target(out)
    manifest = replace(manifest, routing=exported_routing(manifest, router, hysteresis_db, header))
    features = load_split(run / EVAL_FILE, manifest)
    samples = load_samples(run / EVAL_FILE, features)
    if manifest.front is not None:
        samples = replace(samples, sentences=load_sentences(run / EVAL_FILE, manifest))
    table = manifest.routing.table if router == "table" else None
    work = _Work(run, manifest, table, features, random_inputs, seed, progress)
    calibration = load_calibration(run, manifest) if precision == "int8" else None
    with atomic_folder(out) as folder:
        models: dict[str, ModelProto] = {}
        findings = _Findings([], {})
        for name in manifest.graph_files:
            models[name] = _make_graph(name, work, findings)
        front = _make_front(work, models[manifest.head_file], samples, findings)
        proof = findings.proved(run)
        if front is not None:
            samples = replace(samples, features=front.features)
        quantised: Quantised | None = None
        if calibration is not None:
            quantised = quantise(
                calibration, folder, models, manifest, samples, random_inputs, seed, progress, front
            )
            models, proof, front = models | quantised.models, quantised.proof, quantised.front
        record = export_record(
            models[manifest.head_file], proof, findings.tallies, manifest, random_inputs, seed
        )
        record |= {"router": router} | ({"int8": quantised.record} if quantised is not None else {})
        if front is not None:
            samples = replace(samples, features=front.features)
            models[WHOLE_FILE] = front.whole
            record["front"] = front.record
        bundled = replace(
            manifest,
            kind="bundle",
            files={},
            precision=precision,
            accuracy=quantised.accuracy if quantised is not None else None,
            provenance={**manifest.provenance, "export": record},
        )
        graphs = {name: serialize(model) for name, model in models.items()}
        write_content(folder, run, graphs, bundled, samples, proof, seed, extras or Extras(), progress)
    return BundleSummary(out, load_manifest(out, "bundle"), proof, findings.tallies)


def _make_front(work: _Work, head: ModelProto, samples: Samples, findings: _Findings) -> FrontEnd | None:
    """Put the backbone ahead of the head, of a link that takes text."""
    if samples.sentences is None:
        return None
    try:
        front = build_front(work.run, work.manifest, head, samples.sentences, work.features, work.progress)
    except GraphRunError as error:
        findings.problems.append(f"{WHOLE_FILE}: comparison broken off: {error}")
        return None
    findings.problems += [f"{WHOLE_FILE}: {problem}" for problem in front.problems]
    return front


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
    if name == manifest.head_file:
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
