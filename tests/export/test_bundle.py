"""The bundle: complete, reproducible to the byte, and written only when every proof has passed."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from tools.commands import run_command
from tools.tiny_run import (
    FOUR_MODES,
    ONE_MODE,
    TinyReceiver,
    TinySoftTransmitter,
    TinyTransmitter,
    build_run,
)
from twophase.export.artefacts.conformance import replay
from twophase.export.artefacts.write import Extras
from twophase.export.build import build_bundle
from twophase.export.cli import main
from twophase.export.compare.inputs import SPLIT_SNRS_DB
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.graphs.view import GraphView
from twophase.link.bits import symbols_to_bits
from twophase.link.errors import ArtifactError, InputError, VerificationError
from twophase.link.graphs import GraphOptions
from twophase.link.header import HeaderStep
from twophase.link.manifest import CALIBRATION_FILE, load_manifest, write_manifest
from twophase.link.receiver import Receiver
from twophase.link.routing import Routing
from twophase.link.transmitter import SoftTransmitter, Transmitter

RANDOM_INPUTS = 600
GRAPHS = ("tx.onnx", "rx.onnx", "soft.onnx")
OUTPUTS = ("mode", "indices", "bits", "symbols", "bit_count", "symbol_count")


class WrongLabels(TinyTransmitter):
    """Sends the label of the next codeword, and its symbols through a soft search."""

    def __init__(self) -> None:
        super().__init__(ONE_MODE)
        self.table_0 = self.table_0.roll(1, dims=0)

    def choose(self, scores: torch.Tensor) -> torch.Tensor:
        return torch.softmax(scores / 0.7, dim=-1).argmax(dim=-1)


@pytest.fixture(scope="module")
def bundle(four_run: Path, make_shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    return make_shared("bundle", lambda folder: build_bundle(four_run, folder, RANDOM_INPUTS))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_is_in_the_bundle_and_listed(bundle: Path, four_run: Path) -> None:
    manifest = load_manifest(bundle, "bundle")
    tests = set()
    for number, (inputs, outputs) in enumerate([(3, 6)] * 4 + [(2, 3)] * 3):
        tests |= {f"test_data_set_{number}/input_{place}.pb" for place in range(inputs)}
        tests |= {f"test_data_set_{number}/output_{place}.pb" for place in range(outputs)}
    assert set(manifest.files) == {*GRAPHS, "eval.npz", "LINK_CARD.md", *tests}
    assert set(content(bundle)) == {*manifest.files, "link.json"}
    assert (bundle / "eval.npz").read_bytes() == (four_run / "eval.npz").read_bytes()
    run = load_manifest(four_run, "run")
    told_anew = {"kind", "files", "provenance", "conformance", "accuracy"}
    for entry in fields(manifest):
        if entry.name not in told_anew:
            assert getattr(manifest, entry.name) == getattr(run, entry.name)
    assert manifest.provenance["made_by"] == run.provenance["made_by"]


def test_the_manifest_tells_what_was_proved(bundle: Path) -> None:
    record = load_manifest(bundle, "bundle").provenance["export"]
    assert record["proof"]["codewords"] == 48
    assert record["proof"]["random_inputs"] == RANDOM_INPUTS
    assert record["compared"]["tx.onnx"]["samples"] == {
        "test split": 240,
        "each mode": 160,
        "random": RANDOM_INPUTS,
    }
    assert record["compared"]["rx.onnx"]["samples"] == {"random": 3 * 4 + RANDOM_INPUTS // 5}
    modes = record["compared"]["soft.onnx"]["modes"]["all pairs of modes in one batch and samples alone"]
    assert modes == {"compared": 64, "different": 0, "excused": 0}
    assert record["proof"]["request_pairs"] == 20
    assert record["proof"]["snr_points"] > 9
    assert record["router"] == "trained"
    assert [step["mode"] for step in record["modes"]] == ["8x4qam", "8x16qam", "16x4qam", "16x16qam"]
    packages = {"numpy", "onnx", "onnxruntime", "onnxscript", "torch", "twophase-link"}
    assert set(record["versions"]) == {"python"} | packages


def test_the_runtime_sends_and_receives_with_it(bundle: Path, four_run: Path) -> None:
    with np.load(bundle / "eval.npz") as split:
        features = split["input"]
    snr_db = np.linspace(-5.0, 25.0, len(features), dtype=np.float32)
    sent = Transmitter(bundle).send(features, snr_db)
    program = torch.export.load(four_run / "programs" / "tx.pt2").module()
    wanted = program(torch.from_numpy(features), torch.from_numpy(snr_db), torch.tensor([-1]))
    for name, value in zip(OUTPUTS, wanted, strict=True):
        np.testing.assert_array_equal(getattr(sent, name), value.numpy())
    assert sorted(np.unique(sent.mode)) == [0, 1, 2, 3]
    llr = np.where(
        np.arange(sent.bits.shape[1]) < sent.bit_count[:, None], 20.0 * (2.0 * sent.bits - 1.0), 0.0
    )
    received = Receiver(bundle).receive(llr, sent.mode)
    # without noise the receiver finds the codewords that were sent
    np.testing.assert_array_equal(received.indices, sent.indices)
    for reference in load_manifest(bundle, "bundle").references:
        mode, symbols = SoftTransmitter(bundle, reference.soft).send(features, snr_db)
        assert symbols.shape == (len(features), FOUR_MODES.modes.max_symbols)
        assert np.array_equal(mode, sent.mode)
        Receiver(bundle, file=reference.rx).receive(llr, mode)


def test_a_bundle_in_the_runtimes_own_format_and_with_a_page(
    bare_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_web(folder: Path, runtime: object) -> tuple[str, ...]:
        assert not (folder / "link.json").exists()  # it is written once, last of all
        assert runtime == "runtime"
        (folder / "web").mkdir()
        (folder / "web" / "index.html").write_text("page")
        return ("web/index.html",)

    monkeypatch.setitem(sys.modules, "twophase.export.artefacts.web", SimpleNamespace(write_web=write_web))
    build_bundle(bare_run, tmp_path / "bundle", 0, extras=Extras(ort=True, web="runtime"))  # type: ignore[arg-type]
    manifest = load_manifest(tmp_path / "bundle", "bundle")
    assert {"ort/tx.ort", "ort/rx.ort", "ort/required_operators.config", "web/index.html"} <= set(
        manifest.files
    )
    with np.load(bare_run / "eval.npz") as split:
        features = split["input"]
    one, other = (
        Transmitter(tmp_path / "bundle", options=GraphOptions(format=kind)).send(features, 5.0)
        for kind in ("onnx", "ort")
    )
    np.testing.assert_array_equal(one.symbols, other.symbols)
    assert "`ort/tx.ort`" in (tmp_path / "bundle" / "LINK_CARD.md").read_text()


def test_another_process_in_another_folder_makes_the_same_bytes(
    bundle: Path, four_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "elsewhere"
    shutil.copytree(four_run, run)
    done = run_command("tp-export", "--random-inputs", str(RANDOM_INPUTS), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "bundle: runs/elsewhere/bundle"
    manifest = load_manifest(bundle, "bundle")
    for name in GRAPHS:
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"{name} ")]
        assert manifest.files[name]["sha256"][:12] in line
    assert "codewords run through the cut: all 48 of 4 mode(s)" in done.stdout
    assert "accuracy over AWGN, 40 test samples sent 20 times each" in done.stdout
    assert manifest.conformance is not None
    assert f"golden hash of the symbols: {manifest.conformance.symbols_sha256}" in done.stdout
    assert "tx.onnx: torch and ONNX Runtime" in done.stdout
    mine, theirs = content(bundle), content(run / "bundle")
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert theirs[name] == value, name
        assert str(tmp_path).encode() not in value
        assert str(four_run).encode() not in value
        assert b"tiny_run" not in value


def test_an_int8_bundle_has_vectors_of_its_own(bare_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    shutil.copytree(bare_run, run)
    shutil.copyfile(run / "eval.npz", run / CALIBRATION_FILE)
    manifest = load_manifest(run, "run")
    write_manifest(run, manifest, (*manifest.files, CALIBRATION_FILE))
    done = run_command("tp-export", "--precision", "int8", "--ort", "--random-inputs", "100", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "bundle: runs/tiny/bundle-int8"
    folder = run / "bundle-int8"
    bundled = load_manifest(folder, "bundle")
    assert bundled.precision == "int8"
    for name in ("tx.onnx", "rx.onnx"):
        model = onnx.load(folder / name)
        assert (model.opset_import[0].version, model.ir_version) == (21, 10)
        assert any(entry.op_type == "QuantizeLinear" for entry in model.graph.node)
    record = bundled.provenance["export"]
    assert (record["opset"], record["ir_version"]) == (21, 10)
    assert bundled.accuracy is not None
    assert record["int8"]["accuracy"]["int8"] == list(bundled.accuracy.correct)
    runners = {name: OnnxRuntime((folder / name).read_bytes()) for name in ("tx.onnx", "rx.onnx")}
    assert replay(lambda graph, names, feed: runners[graph].run(names, feed), folder, bundled) == []
    assert "INT8 and float32" in done.stdout
    for name in ("tx.onnx", "rx.onnx"):
        size = record["int8"]["bytes"][name]
        assert size["int8"] == bundled.files[name]["bytes"]
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(name) and line.endswith(" %")]
        assert f"{100 * size['int8'] / size['float32']:.1f} %" in line
    assert "## INT8 and float32" in (folder / "LINK_CARD.md").read_text()


def test_int8_without_calibration_data_is_refused_before_any_work(bare_run: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    with pytest.raises(ArtifactError, match=r"calibration.npz' is missing"):
        build_bundle(bare_run, tmp_path / "bundle", 0, 0, steps.append, precision="int8")
    assert steps == []
    with pytest.raises(InputError, match="'precision' must be one of float32, int8, not 'float8'"):
        build_bundle(bare_run, tmp_path / "bundle", 0, precision="float8")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_link_with_a_content_router_tells_its_modes(content_run: Path, tmp_path: Path) -> None:
    summary = build_bundle(content_run, tmp_path / "bundle", RANDOM_INPUTS, header="rm14")
    manifest = load_manifest(tmp_path / "bundle", "bundle")
    trained = load_manifest(content_run, "run").routing
    assert manifest.routing == replace(trained, header=(HeaderStep(-10.0, "rm14"),))
    record = manifest.provenance["export"]
    assert [entry["esn0_db"] for entry in record["modes"]] == list(SPLIT_SNRS_DB)
    assert {(entry["header"], entry["header_symbols"]) for entry in record["modes"]} == {("rm14", 8)}
    assert all(sum(entry["shares"].values()) == pytest.approx(1.0) for entry in record["modes"])
    assert record["proof"]["snr_points"] == 0
    assert summary.proof.mode.scores
    with np.load(tmp_path / "bundle" / "eval.npz") as split:
        features = split["input"]
    sender, receiver = Transmitter(tmp_path / "bundle"), Receiver(tmp_path / "bundle")
    sent = sender.send(features, 15.0)
    assert len(set(sent.mode)) > 1
    told = 20.0 * symbols_to_bits(sent.header, 2) - 10.0
    np.testing.assert_array_equal(receiver.mode_of(np.full(len(features), 15.0), told), sent.mode)
    for mode in range(4):
        assert (sender.send(features, 15.0, mode).mode == mode).all()
        assert (SoftTransmitter(tmp_path / "bundle", "soft.onnx").send(features, 15.0, mode)[0] == mode).all()


def test_the_table_replaces_a_content_router(content_run: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    out = tmp_path / "bundle"
    build_bundle(content_run, out, RANDOM_INPUTS, 0, steps.append, router="table", hysteresis_db=1.5)
    manifest, trained = load_manifest(out, "bundle"), load_manifest(content_run, "run").routing
    assert manifest.routing == Routing("table", trained.table, 1.5, ())
    assert manifest.provenance["export"]["router"] == "table"
    for name in ("tx.onnx", "soft.onnx"):
        view = GraphView(onnx.load(out / name))
        assert view.sources(["mode"], shapes="none") == {"snr_db", "mode_request"}
    with np.load(out / "eval.npz") as split:
        features = split["input"]
    snr_db = np.linspace(-5.0, 25.0, len(features), dtype=np.float32)
    sent = Transmitter(out).send(features, snr_db)
    np.testing.assert_array_equal(sent.mode, trained.table.choose(snr_db))
    assert sent.header.shape == (len(features), 0)
    assert Receiver(out).mode_of(snr_db).tolist() == sent.mode.tolist()


def test_a_wrong_transmitter_is_told_and_leaves_an_older_bundle_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = build_run(tmp_path / "run", ONE_MODE, transmitter=WrongLabels(), references=())
    (run / "bundle").mkdir()
    (run / "bundle" / "link.json").write_text('{"format": "twophase-link", "kind": "bundle"}')
    before = content(run)
    assert main(["--run", str(run), "--random-inputs", "100"]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    first, *problems = error.splitlines()
    assert first.startswith(f"tp-export: error: the bundle of '{run}' failed {len(problems)} check(s):")
    for problem in (
        "tx.onnx: Softmax ('node_softmax') stands between the codebook product",
        "tx.onnx: mode 0 (8x16qam): 'bits' of indices",
        "tx.onnx: 'bits' are not what the manifest gives",
    ):
        assert any(line.startswith(f"  - {problem}") for line in problems), problems
    assert content(run) == before
    assert {path.name for path in run.iterdir()} == {"link.json", "eval.npz", "programs", "bundle"}


def test_chance_in_a_receiver_or_a_soft_transmitter_and_a_secret_mode_are_told(tmp_path: Path) -> None:
    """All three too small, or too rare, for the comparison with torch to see."""

    class Chancy(TinyReceiver):
        def forward(self, llr: torch.Tensor, mode: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits, *rest = super().forward(llr, mode)
            return logits + 1e-9 * torch.rand_like(logits), *rest

    class Secretive(TinySoftTransmitter):
        def forward(
            self, features: torch.Tensor, snr_db: torch.Tensor, mode_request: torch.Tensor | None = None
        ) -> tuple[torch.Tensor, ...]:
            mode, sent = super().forward(features, snr_db, mode_request)
            rare = (features.flatten(1).amax(dim=1) > 1e6).to(torch.int64)
            return (mode + rare).clamp(max=0), sent + 1e-9 * torch.rand_like(sent)

    receiver, soft = Chancy(ONE_MODE), Secretive(ONE_MODE, 0.7)
    run = build_run(tmp_path / "run", ONE_MODE, references=("aligned",), receiver=receiver, soft=soft)
    with pytest.raises(VerificationError) as caught:
        build_bundle(run, tmp_path / "bundle", 100)
    told = [problem.replace("'node_rand_like'", "it") for problem in caught.value.problems]
    assert told == [
        "rx.onnx: RandomUniformLike (it) draws random numbers",
        "soft.onnx: RandomUniformLike (it) draws random numbers",
        "soft.onnx: 'mode' is computed from 'input', which the receiver does not know: it must follow from "
        "'snr_db' alone, for no header signals the mode",
    ]
    assert not (tmp_path / "bundle").exists()


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(
    bare_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(InputError) as caught:
        build_bundle(bare_run, tmp_path / "bundle", 0)
    assert (
        str(caught.value) == f"'path' must be writable (No space left on device), not '{tmp_path / 'bundle'}'"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_older_bundle_is_replaced_and_steps_are_told(bare_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "link.json").write_text('{"format": "twophase-link", "kind": "bundle"}')
    (out / "left-over.onnx").write_text("old")
    steps: list[str] = []
    summary = build_bundle(bare_run, out, 100, 3, steps.append)
    assert steps[0] == "tx.onnx: converting"
    assert steps[-3:] == ["choosing conformance vectors", "measuring accuracy", "writing the card"]
    assert len(steps) == len(set(steps)) == 8
    assert summary.folder == out
    assert not (out / "left-over.onnx").exists()
    manifest = load_manifest(out, "bundle")
    assert set(manifest.provenance["export"]["compared"]) == {"tx.onnx", "rx.onnx"}
    assert manifest.provenance["export"]["proof"]["seed"] == 3
    assert manifest.provenance["export"]["compared"]["rx.onnx"]["samples"] == {"random": 3 + 100 // 5}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
