"""Making a bundle: the steps over one draft, which is written once every graph is proved and verified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from onnx import ModelProto
from onnx.shape_inference import infer_shapes

from twophase.export.artefacts.write import Extras, write_artefacts
from twophase.export.backbone.whole import WholeTransmitter, build_whole
from twophase.export.compare.program import verify_receiver, verify_soft, verify_transmitter
from twophase.export.compare.tally import Tally
from twophase.export.graphs.run import GraphRunError
from twophase.export.graphs.signature import (
    RX_FILE,
    WHOLE_FILE,
    check_interface,
    check_operators,
    signature_of,
)
from twophase.export.graphs.torch_program import freeze, load_program
from twophase.export.graphs.view import serialize
from twophase.export.int8.calibrate import load_calibration
from twophase.export.int8.stage import quantise
from twophase.export.options import AUTO, RouterChoice, check_target, exported_routing
from twophase.export.proof.hard import HardProof, prove_hard
from twophase.export.proof.mode import check_mode, install_table
from twophase.export.provenance import export_record
from twophase.link.errors import ArtifactError, InputError, VerificationError
from twophase.link.files import atomic_folder
from twophase.link.graphs import MODE_REQUEST
from twophase.link.listing import read_listed
from twophase.link.manifest import EVAL_FILE, Manifest, load_manifest, program_file
from twophase.link.routing import SnrTable
from twophase.link.samples import Samples, load_split
from twophase.link.sizes import problem_of_sizes
from twophase.link.wire import problem_of_graph

__all__ = ["BundleSummary", "Precision", "build_bundle"]

Precision = Literal["float32", "int8"]
"""What the weights of the deployed graphs are stored and multiplied in."""

RX_AS_TRAINED = "rx_aligned.onnx"
"""The receiver as trained, in float32, for the soft path of the deployed model."""

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


@dataclass(eq=False)
class _Draft:
    """A bundle in the making: what its graphs are made and verified from, and what was found of them."""

    run: Path
    manifest: Manifest
    """The run's, with the routing of the bundle."""
    table: SnrTable | None
    """What takes the place of the programs' own router, if anything does."""
    samples: Samples
    """The test split; once the whole of a link that takes text is made, with the features that it gives."""
    random_inputs: int
    seed: int
    progress: Callable[[str], None]
    models: dict[str, ModelProto] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    proof: HardProof | None = None
    whole: WholeTransmitter | None = None
    """Of a link that takes text."""
    problems: list[str] = field(default_factory=list)
    """Of all graphs; they are raised together."""

    def keep_receiver_as_trained(self) -> None:
        """A copy of the proved receiver for its soft reference, whatever becomes of the deployed one.

        A reference that was received by the deployed graph would be as bad as that, and show nothing.
        """
        references = tuple(
            replace(entry, rx=RX_AS_TRAINED) if entry.rx == RX_FILE else entry
            for entry in self.manifest.references
        )
        if references != self.manifest.references:
            self.manifest = replace(self.manifest, references=references)
            self.models[RX_AS_TRAINED] = self.models[RX_FILE]

    def proved(self) -> HardProof:
        """The proof, if nothing is wrong."""
        if self.problems or self.proof is None:
            raise VerificationError(f"the bundle of '{self.run}'", self.problems)
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
        Is given each step before it begins.
    router, hysteresis_db, header
        How the mode is chosen and signalled; see ``options.exported_routing``.
    precision
        ``int8`` quantises the deployed pair after everything is proved of it in float32, and proves it again.
    extras
        What else the bundle holds; nothing if not given.

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
    samples = load_split(run / EVAL_FILE, manifest)
    if manifest.front is not None and samples.sentences is None:
        raise ArtifactError(f"'{run / EVAL_FILE}' holds no sentences, and the link takes text")
    table = manifest.routing.table if router == "table" else None
    draft = _Draft(run, manifest, table, samples, random_inputs, seed, progress)
    calibration = load_calibration(run, manifest) if precision == "int8" else None
    with atomic_folder(out) as folder:
        for name in manifest.graph_files:
            _add_graph(name, draft)
        _add_whole(draft)
        proof = draft.proved()
        draft.keep_receiver_as_trained()
        manifest = draft.manifest
        made = None
        if calibration is not None:
            made = quantise(
                calibration,
                folder,
                draft.models,
                manifest,
                draft.samples,
                random_inputs,
                seed,
                progress,
                draft.whole,
            )
            proof = made.proof
            draft.models |= made.models
            _take_whole(draft, made.whole)
        head = draft.models[manifest.head_file]
        record = export_record(head, proof, draft.tallies, manifest, random_inputs, seed)
        record["router"] = router
        if made is not None:
            record["int8"] = made.record
        if draft.whole is not None:
            record["front"] = draft.whole.record
        bundled = replace(
            manifest,
            kind="bundle",
            files={},
            precision=precision,
            accuracy=None if made is None else made.accuracy,
            provenance={**manifest.provenance, "export": record},
        )
        graphs = {name: serialize(model) for name, model in draft.models.items()}
        write_artefacts(
            folder, run, graphs, bundled, draft.samples, proof, seed, extras or Extras(), progress
        )
    return BundleSummary(out, load_manifest(out, "bundle"), proof, draft.tallies)


def _add_graph(name: str, draft: _Draft) -> None:
    """Freeze one program, prove its graph, and compare the two."""
    manifest, table, features = draft.manifest, draft.table, draft.samples.features
    signature = signature_of(name, manifest)
    draft.progress(f"{name}: converting")
    path = draft.run / program_file(name)
    program = load_program(path, read_listed(draft.run, program_file(name), manifest.files))
    model = freeze(str(path), program, signature)
    if table is not None and MODE_REQUEST in signature.input_names:
        model = install_table(model, table)
    problems = check_interface(model, signature)
    unfit = problem_of_graph(serialize(model)) or problem_of_sizes(model, manifest, infer_shapes)
    problems += [] if unfit is None else [f"the graph {unfit}"]
    share = draft.random_inputs // _REAL_SHARE
    if name == manifest.head_file:
        draft.progress(f"{name}: proving that it is hard")
        draft.proof, found = prove_hard(model, manifest)
        problems += found
        draft.progress(f"{name}: comparing with torch")
        tally = verify_transmitter(
            program, model, draft.proof, manifest, features, draft.random_inputs, draft.seed, table
        )
    else:
        problems += check_operators(model)
        draft.progress(f"{name}: comparing with torch")
        if "llr" in signature.input_names:
            tally = verify_receiver(name, program, model, manifest, share, draft.seed)
        else:
            proof, found = check_mode(model, manifest)
            problems += found
            tally = verify_soft(name, program, model, proof, manifest, features, share, draft.seed, table)
    problems += tally.failures.values()
    draft.problems.extend(f"{name}: {problem}" for problem in problems)
    draft.models[name], draft.tallies[name] = model, tally


def _add_whole(draft: _Draft) -> None:
    """Put the backbone ahead of the head, of a link that takes text."""
    samples = draft.samples
    if samples.sentences is None:
        return
    head = draft.models[draft.manifest.head_file]
    try:
        whole = build_whole(
            draft.run, draft.manifest, head, samples.sentences, samples.features, draft.progress
        )
    except GraphRunError as error:
        draft.problems.append(f"{WHOLE_FILE}: comparison broken off: {error}")
        return
    draft.problems += [f"{WHOLE_FILE}: {problem}" for problem in whole.problems]
    _take_whole(draft, whole)


def _take_whole(draft: _Draft, whole: WholeTransmitter | None) -> None:
    """From here on the test split has the features that this one gives."""
    if whole is not None:
        draft.whole, draft.models[WHOLE_FILE] = whole, whole.model
        draft.samples = replace(draft.samples, features=whole.features)
