"""The bundle: complete, reproducible to the byte, and written only when every proof has passed."""

from __future__ import annotations

import shutil
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto

from tools.commands import run_command
from tools.mutate import Alteration, after, ahead, changed
from twophase.export.artefacts.write import Extras
from twophase.export.build import build_bundle
from twophase.export.compare import program
from twophase.export.graphs.view import GraphView
from twophase.link.errors import ArtifactError, InputError, VerificationError
from twophase.link.graphs import GraphOptions
from twophase.link.manifest import load_manifest
from twophase.link.receiver import Receiver
from twophase.link.routing import Routing
from twophase.link.transmitter import SoftTransmitter, Transmitter

OLDER = '{"format": "twophase-link", "kind": "bundle"}'
"""Enough of a manifest for a folder to be taken for an older bundle."""


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def split_of(folder: Path) -> np.ndarray:
    with np.load(folder / "eval.npz") as split:
        return np.asarray(split["input"])


def make_page(folder: Path, runtime: object) -> tuple[str, ...]:
    """In the place of the page's real maker."""
    assert not (folder / "link.json").exists(), "the manifest is written once, last of all"
    assert runtime == "runtime"
    (folder / "web").mkdir()
    (folder / "web" / "index.html").write_text("page")
    return ("web/index.html",)


@pytest.fixture(scope="module")
def bundle(content_run: Path, make_shared, build) -> Path:
    """Of four modes, with a table in the place of the router, one reference and a page."""

    def fill(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(program, "_REGROUPED", 60)
            page = SimpleNamespace(write_web=make_page)
            patch.setitem(sys.modules, "twophase.export.artefacts.web", page)
            extras = Extras(web="runtime")  # type: ignore[arg-type]
            build(content_run, folder, 600, router="table", hysteresis_db=1.5, extras=extras)

    return make_shared("table-bundle", fill)


def test_everything_is_in_the_bundle_and_listed(bundle: Path, content_run: Path) -> None:
    manifest, run = load_manifest(bundle, "bundle"), load_manifest(content_run, "run")
    wanted = {
        "tx.onnx",
        "rx.onnx",
        "soft.onnx",
        "rx_aligned.onnx",
        "eval.npz",
        "LINK_CARD.md",
        "web/index.html",
    }
    for number, (inputs, outputs) in enumerate([(3, 6)] * 4 + [(2, 3)] * 3):
        wanted |= {f"test_data_set_{number}/input_{place}.pb" for place in range(inputs)}
        wanted |= {f"test_data_set_{number}/output_{place}.pb" for place in range(outputs)}
    assert set(manifest.files) == wanted
    assert set(content(bundle)) == {*wanted, "link.json"}
    assert (bundle / "eval.npz").read_bytes() == (content_run / "eval.npz").read_bytes()
    # The reference is received as trained, by a copy that nothing is done to.
    assert [entry.rx for entry in manifest.references if entry.name == "aligned"] == ["rx_aligned.onnx"]
    assert (bundle / "rx_aligned.onnx").read_bytes() == (bundle / "rx.onnx").read_bytes()
    made_anew = {"references", "kind", "routing", "files", "provenance", "conformance", "accuracy"}
    for entry in fields(manifest):
        if entry.name not in made_anew:
            assert getattr(manifest, entry.name) == getattr(run, entry.name)
    assert manifest.provenance["made_by"] == run.provenance["made_by"]


def test_the_manifest_says_what_was_proved(bundle: Path) -> None:
    record = load_manifest(bundle, "bundle").provenance["export"]
    assert record["proof"]["codewords"] == 48
    assert record["proof"]["random_inputs"] == 600
    samples = {name: compared["samples"] for name, compared in record["compared"].items()}
    # other graphs get a fifth of the random inputs, a receiver three extremes in each mode besides
    assert samples == {
        "tx.onnx": {"test split": 240, "each mode": 160, "random": 600},
        "rx.onnx": {"random": 3 * 4 + 120},
        "soft.onnx": {"test split": 240, "each mode": 160, "random": 120},
    }
    modes = record["compared"]["soft.onnx"]["modes"]["all pairs of modes in one batch and samples alone"]
    assert modes == {"compared": 64, "different": 0, "excused": 0}
    assert record["proof"]["request_pairs"] == 20
    assert record["proof"]["snr_points"] > 9
    assert record["router"] == "table"
    assert [step["mode"] for step in record["modes"]] == ["8x4qam", "8x16qam", "16x4qam", "16x16qam"]
    packages = {"python", "numpy", "onnx", "onnxruntime", "onnxscript", "torch", "twophase-link"}
    assert set(record["versions"]) == packages


def test_a_table_takes_the_place_of_a_router_that_sees_the_content(bundle: Path, content_run: Path) -> None:
    manifest, trained = load_manifest(bundle, "bundle"), load_manifest(content_run, "run").routing
    assert manifest.routing == Routing("table", trained.table, 1.5, ())
    for name in ("tx.onnx", "soft.onnx"):
        view = GraphView(onnx.load(bundle / name))
        assert view.sources(["mode"], shapes="none") == {"snr_db", "mode_request"}


def test_the_runtime_sends_and_receives_with_it(bundle: Path, content_run: Path) -> None:
    features = split_of(bundle)
    snr_db = np.linspace(-5.0, 25.0, len(features), dtype=np.float32)
    sent = Transmitter(bundle).send(features, snr_db)
    routing = load_manifest(bundle, "bundle").routing
    np.testing.assert_array_equal(sent.mode, routing.table.choose(snr_db))
    assert set(sent.mode) == {0, 1, 2, 3}
    tx = torch.export.load(content_run / "programs" / "tx.pt2").module()
    names = ("mode", "indices", "bits", "symbols", "bit_count", "symbol_count")
    for row, mode in enumerate(sent.mode):
        inputs = features[row : row + 1], snr_db[row : row + 1], np.array([mode])
        for name, value in zip(names, tx(*map(torch.from_numpy, inputs)), strict=True):
            np.testing.assert_array_equal(getattr(sent, name)[row], value.numpy()[0])
    used = np.arange(sent.bits.shape[1]) < sent.bit_count[:, None]
    llr = np.where(used, 20.0 * (2.0 * sent.bits - 1.0), 0.0)
    receiver = Receiver(bundle)
    # without noise the receiver finds the codewords that were sent
    np.testing.assert_array_equal(receiver.receive(llr, sent.mode).indices, sent.indices)
    np.testing.assert_array_equal(receiver.mode_of(snr_db), sent.mode)
    mode, symbols = SoftTransmitter(bundle, "soft.onnx").send(features, snr_db)
    assert symbols.shape == (len(features), receiver.manifest.modes.max_symbols)
    np.testing.assert_array_equal(mode, sent.mode)


def test_a_bundle_takes_the_place_of_an_older_one_and_another_process_makes_the_same_bytes(
    one_run: Path, build, tmp_path: Path
) -> None:
    ours, run = tmp_path / "ours", tmp_path / "runs" / "elsewhere"
    ours.mkdir()
    (ours / "link.json").write_text(OLDER)
    (ours / "left-over.onnx").write_text("old")
    steps: list[str] = []
    build(one_run, ours, 100, 3, steps.append, extras=Extras(ort=True))
    assert steps[0] == "tx.onnx: converting"
    assert steps[-2:] == ["converting to ONNX Runtime's format", "writing the card"]
    assert len(steps) == len(set(steps)) == 9
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]

    shutil.copytree(one_run, run)
    done = run_command("tp-export", "--random-inputs", "100", "--seed", "3", "--ort", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    theirs, manifest = content(run / "bundle"), load_manifest(run / "bundle", "bundle")
    assert content(ours) == theirs
    for trace in (tmp_path, one_run, "tiny_run"):
        assert not [name for name, value in theirs.items() if str(trace).encode() in value]

    assert manifest.provenance["export"]["proof"]["seed"] == 3
    assert {"ort/tx.ort", "ort/rx.ort", "ort/required_operators.config"} <= set(manifest.files)
    assert "`ort/tx.ort`" in theirs["LINK_CARD.md"].decode()
    one, other = (
        Transmitter(ours, options=GraphOptions(format=kind)).send(split_of(ours), 5.0)
        for kind in ("onnx", "ort")
    )
    np.testing.assert_array_equal(one.symbols, other.symbols)

    lines = done.stdout.splitlines()
    assert lines[-1] == "bundle: runs/elsewhere/bundle"
    for name in ("tx.onnx", "rx.onnx"):
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert manifest.files[name]["sha256"][:12] in line
    assert manifest.conformance is not None
    for told in (
        "codewords run through the cut: all 8 of 1 mode(s)",
        "accuracy over AWGN, 40 test samples sent 20 times each",
        f"golden hash of the symbols: {manifest.conformance.symbols_sha256}",
        "tx.onnx: torch and ONNX Runtime",
    ):
        assert told in done.stdout


def test_int8_without_calibration_data_is_refused_before_any_work(one_run: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    with pytest.raises(ArtifactError, match=r"calibration.npz' is missing"):
        build_bundle(one_run, tmp_path / "bundle", 0, 0, steps.append, precision="int8")
    with pytest.raises(InputError, match="'precision' must be one of float32, int8, not 'float8'"):
        build_bundle(one_run, tmp_path / "bundle", 0, 0, steps.append, precision="float8")  # type: ignore[arg-type]
    assert steps == []
    assert list(tmp_path.iterdir()) == []


def rare_mode(output: str) -> Alteration:
    """Another mode where a feature is larger than in any comparison."""
    return after(
        output,
        "peak = ReduceMax<keepdims=0>(input, axes); rare = Greater(peak, much); more = Cast<to=7>(rare);"
        f"most = Sub(three, more); {output} = Min(it, most)",
        axes=[1, 2],
        much=np.float32(1e6),
        three=3,
    )


def last_search(model: ModelProto) -> tuple[NodeProto, int]:
    return [node for node in model.graph.node if node.op_type == "ArgMax"][-1], 0


WRONG = {
    # the label of the next codeword, and a soft search
    "tx": [
        changed("table_0", lambda value: np.roll(value, 1, axis=0)),
        ahead(last_search, "soft = Softmax<axis=-1>(it)"),
    ],
    # chance that is too small for the comparison with torch to see
    "rx": [
        after("logits", "draw = RandomUniformLike<low=0.0, high=0.000000001>(it); logits = Add(it, draw)")
    ],
    "soft": [rare_mode("mode")],
}


def test_what_is_wrong_is_told_of_all_graphs_and_leaves_an_older_bundle_as_it_was(
    content_run: Path, tmp_path: Path, build, convert
) -> None:
    def wrong(path: str, *of: object) -> ModelProto:
        model = convert(path, *of)
        for alter in WRONG[Path(path).stem]:
            alter(model)
        return model

    out = tmp_path / "bundle"
    out.mkdir()
    (out / "link.json").write_text(OLDER)
    with pytest.raises(VerificationError) as caught:
        build(content_run, out, 100, router="table", converted=wrong)
    problems = caught.value.problems
    assert str(caught.value).startswith(f"the bundle of '{content_run}' failed {len(problems)} check(s):")
    for told in (
        "tx.onnx: Softmax ('node_soft') stands between the codebook product",
        "tx.onnx: mode 0 (8x4qam): 'bits' of indices",
        "tx.onnx: 'bits' are not what the manifest gives",
        "rx.onnx: RandomUniformLike ('node_draw') draws random numbers",
        "soft.onnx: 'mode' must be made by a Where that takes 'mode_request'",
    ):
        assert any(problem.startswith(told) for problem in problems), problems
    assert content(tmp_path) == {"bundle/link.json": OLDER.encode()}
