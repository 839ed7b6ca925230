"""``tp-verify``'s checks pass a bundle as it was exported, and reject each altered one for its own reason."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tools.mutants import MUTANTS, Mutant, contradicting_types, in_graph, make_mutant
from tools.tiny_bundle import write_tiny_bundle
from tools.tiny_run import FOUR_MODES, run_manifest, write_complete_bundle
from twophase.export.artefacts.card import CARD_FILE, link_card
from twophase.export.artefacts.ort import write_ort
from twophase.export.graphs.run import GraphRunError, OnnxReference, OnnxRuntime
from twophase.export.verify import graph_checks, run_checks
from twophase.export.verify.bundle import Bundle
from twophase.export.verify.checks import NAMES, OPTIONAL, SLOW, Check, check_bundle
from twophase.export.verify.run_checks import Latency, measure_latency
from twophase.link.constellation import qam
from twophase.link.errors import ArtifactError
from twophase.link.input_scale import InputScale
from twophase.link.manifest import load_manifest, write_manifest

FIRST = NAMES[0]
ALWAYS = [name for name in NAMES if name not in OPTIONAL]


@pytest.fixture
def spoilt(bundle: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def made(folder: Path, *names: str) -> dict[str, Check]:
    """Some checks, or all."""
    leave_out = set(NAMES) - set(names) if names else set()
    checks = check_bundle(Bundle(folder), leave_out)
    return {check.name: check for check in checks if check.state != "left out"}


def resign(folder: Path, *more: str, **changes: object) -> None:
    """Sign a folder again, with more files and other entries in the manifest."""
    manifest = load_manifest(folder, "bundle", ())
    write_manifest(folder, replace(manifest, **changes), (*manifest.files, *more))


def test_another_scale_of_the_input_than_the_graph_has_fails(spoilt: Path) -> None:
    features = np.prod(load_manifest(spoilt, "bundle", ()).input_shape)
    for other in ({"offset": (0.5,)}, {"exponent": (1, *[0] * (features - 1))}):
        resign(spoilt, input=InputScale(**other))
        (check,) = made(spoilt, "scale of the input").values()
        assert check.state == "fail"
        assert "than 'input' of the manifest" in check.problems[0]


def test_a_bundle_as_it_was_exported_passes_every_check(bundle: Path) -> None:
    told: list[str] = []
    checks = list(check_bundle(Bundle(bundle), progress=told.append))
    assert [check.name for check in checks] == ALWAYS
    assert {check.name: check.problems for check in checks if check.problems} == {}
    assert [check.name for check in checks if check.state != "pass"] == ["latency"]
    assert checks[-1].state == "note"
    assert told == ALWAYS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_rejected_for_its_reason(bundle: Path, tmp_path: Path, mutant: Mutant) -> None:
    names = [name for name in NAMES if name not in SLOW] if mutant.whole else [FIRST, mutant.check]
    found = made(make_mutant(bundle, tmp_path / "bundle", mutant), *names)
    check = found[mutant.check]
    assert check.state == "fail"
    assert not check.passed
    assert any(mutant.reason in problem for problem in check.problems), check.problems
    assert check.detail.startswith(check.problems[0])
    # the hashes know nothing: they were made again
    assert found[FIRST].state == "pass"


def test_every_check_is_made_and_listed_whatever_the_others_find(spoilt: Path) -> None:
    in_graph(contradicting_types)(spoilt, load_manifest(spoilt, "bundle"))
    (spoilt / "rx.onnx").write_bytes(b"no graph")
    found = made(spoilt)
    assert list(found) == ALWAYS
    assert [name for name, check in found.items() if check.passed] == [
        "constellation",
        "receiver as trained",  # this bundle has no reference
    ]
    for name in ("ONNX checker", "mode", "cut", "exactness"):
        assert "'tx.onnx' does not type-check" in found[name].detail
    assert any("'rx.onnx' is no ONNX graph" in problem for problem in found["ONNX checker"].problems)


def test_altered_and_missing_files_are_all_told_and_the_rest_is_checked(spoilt: Path) -> None:
    path = spoilt / "link.json"
    path.write_text(path.read_text().replace('"made_by": "tests"', '"made_by": "others"'))
    found = made(spoilt, FIRST, "cut")
    assert "its digest is not that of its content" in found[FIRST].detail
    assert found["cut"].state == "pass"
    (spoilt / "test_data_set_0" / "input_0.pb").unlink()
    with (spoilt / "eval.npz").open("ab") as stream:
        stream.write(b"more")
    found = made(spoilt, FIRST, "codebook search")
    assert found[FIRST].state == "fail"
    for name in ("eval.npz", "input_0.pb"):
        assert any(name in problem for problem in found[FIRST].problems)
    assert found["codebook search"].state == "pass"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": "twophase-link", "kind": "run"}'])
def test_what_is_no_bundle_is_refused(spoilt: Path, content: str | None) -> None:
    (spoilt / "link.json").unlink()
    if content is not None:
        (spoilt / "link.json").write_text(content)
    with pytest.raises(ArtifactError):
        list(check_bundle(Bundle(spoilt)))


def test_a_float_link_passes_and_is_told_to_be_inexact(four_tx, four_rx, tmp_path: Path) -> None:
    models = {"tx.onnx": four_tx.model, "rx.onnx": four_rx.model}
    manifest = run_manifest(FOUR_MODES, ())
    found = made(write_complete_bundle(tmp_path / "float", FOUR_MODES, manifest, models))
    assert {name: check.problems for name, check in found.items() if check.problems} == {}
    assert {name for name, check in found.items() if check.state == "note"} == {"exactness", "latency"}
    assert found["exactness"].detail.startswith("not exact by construction: float search (")


def test_an_int8_bundle_passes_and_its_weights_may_not_be_float(int8_bundle: Path, tmp_path: Path) -> None:
    found = made(int8_bundle)
    assert {name: check.problems for name, check in found.items() if check.problems} == {}
    assert found["precision"].detail.startswith("int8: ")
    folder = Path(shutil.copytree(int8_bundle, tmp_path / "bundle"))
    model = onnx.load(folder / "tx.onnx")
    for tensor in model.graph.initializer:
        if tensor.name.startswith("scale_"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.3), tensor.name))
    (folder / "tx.onnx").write_bytes(model.SerializeToString())
    problems = made(folder, "precision")["precision"].problems
    assert any("is 0.3, not a power of two" in problem for problem in problems)
    assert "'tx.onnx' is no int8 graph: no product multiplies uint8 with stored uint8" in problems
    manifest = replace(load_manifest(int8_bundle, "bundle"), precision="float32")
    write_manifest(folder, manifest, tuple(manifest.files))
    assert "is no float32 graph: QuantizeLinear" in made(folder, "precision")["precision"].detail


def test_converted_graphs_are_replayed(spoilt: Path) -> None:
    resign(spoilt, *(f"ort/{name}" for name in write_ort(spoilt, spoilt / "ort")))
    check = made(spoilt, "ort/ files")["ort/ files"]
    assert check.state == "pass"
    assert "converted by an unknown version" in check.detail


def test_files_that_the_manifest_does_not_list_are_told_and_no_fault(spoilt: Path) -> None:
    (spoilt / "notes.txt").write_text("seen")
    check = made(spoilt, FIRST)[FIRST]
    assert check.state == "pass"
    assert check.detail.endswith("; not listed: 'notes.txt'")


def test_a_check_that_breaks_off_fails_alone(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bundle: Bundle) -> object:
        raise KeyError("a name that no library expects")

    monkeypatch.setattr(
        "twophase.export.verify.checks._CHECKS",
        (("broken", broken), ("constellation", graph_checks.constellation)),
    )
    first, second = check_bundle(Bundle(bundle))
    assert first.problems == ("the check broke off: KeyError: 'a name that no library expects'",)
    assert second.state == "pass"


def test_a_bundle_of_another_make_fails_and_breaks_nothing(tmp_path: Path) -> None:
    """Look-up tables for a model: hard to prove anything about, and no vectors."""
    found = made(write_tiny_bundle(tmp_path / "bundle"))
    assert list(found) == ALWAYS
    assert not found["codebook search"].passed
    assert not found["vectors: ONNX Runtime"].passed
    assert not any("broke off" in check.detail for check in found.values()), found


def test_a_runtime_that_depends_on_its_threads_is_told(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Racing(OnnxRuntime):
        def run(self, names, feed):
            values = super().run(names, feed)
            return [
                value + (self._threads - 1) * (name == "logits")
                for name, value in zip(names, values, strict=True)
            ]

    monkeypatch.setattr(run_checks, "OnnxRuntime", Racing)
    check = made(bundle, "threads")["threads"]
    (problem,) = check.problems
    assert problem.startswith("1 and 2 threads of the receiver differ in 'logits'")


def test_a_constellation_of_another_energy_is_told(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_checks, "qam", lambda order: replace(qam(order), points=2 * qam(order).points))
    first, second = made(bundle, "constellation")["constellation"].problems
    assert first.startswith("4-QAM has an average energy of 4.0")
    assert second.startswith("16-QAM has an average energy of 4.0")


@pytest.mark.parametrize(("extra", "passes"), [(1, True), (2, False), (-2, False)])
def test_accuracy_may_differ_by_a_tie_and_no_more(spoilt: Path, extra: int, passes: bool) -> None:
    # 160 decisions: one of them may differ
    accuracy = load_manifest(spoilt, "bundle").accuracy
    assert accuracy is not None
    first, *rest = accuracy.correct
    resign(spoilt, accuracy=replace(accuracy, correct=(first + extra, *rest)))
    assert made(spoilt, "accuracy")["accuracy"].passed is passes


def test_external_tensors_and_another_format_are_refused(spoilt: Path) -> None:
    tx, rx = (onnx.load(spoilt / file) for file in ("tx.onnx", "rx.onnx"))
    tx.opset_import[0].version, tx.ir_version = 19, 10
    (tensor,) = [entry for entry in rx.graph.initializer if entry.name == "head.weight"]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    (spoilt / "tx.onnx").write_bytes(tx.SerializeToString())
    (spoilt / "rx.onnx").write_bytes(rx.SerializeToString())
    resign(spoilt)
    assert set(made(spoilt, "opset, IR, domains")["opset, IR, domains"].problems) == {
        "'rx.onnx' keeps weights in another file, which is never read",
        "'tx.onnx' must use opset 18 of ONNX, not [('', 19)]",
        "'tx.onnx' must be of IR version 8, not 10",
    }


@pytest.mark.parametrize("make", [OnnxRuntime, OnnxReference])
def test_a_graph_that_does_not_run_is_told(bundle: Path, make: Callable[..., OnnxRuntime]) -> None:
    with pytest.raises(GraphRunError):
        make(onnx.load(bundle / "tx.onnx")).run(["indices"], {"input": np.zeros((1, 5, 5), np.float32)})


def test_a_card_must_say_what_the_manifest_says(spoilt: Path) -> None:
    assert "link card" not in made(spoilt, FIRST, "link card")  # a bundle made by hand has none
    card = link_card(load_manifest(spoilt, "bundle"))
    (spoilt / CARD_FILE).write_text(card, encoding="utf-8")
    resign(spoilt, CARD_FILE)
    assert made(spoilt, "link card")["link card"].passed
    (spoilt / CARD_FILE).write_text(card.replace("%", "% at least"), encoding="utf-8")
    resign(spoilt)
    check = made(spoilt, "link card")["link card"]
    assert check.problems == (f"'{CARD_FILE}' is not made from the manifest",)


# --- latency


def test_quantiles_of_known_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """101 calls that take 0, 1, ..., 100 us on a clock of the test's own."""
    clock = [0]
    durations = iter([7_000] * 3 + [1000 * number for number in range(101)])

    def call() -> None:
        clock[0] += next(durations)

    monkeypatch.setattr(run_checks, "perf_counter_ns", lambda: clock[0])
    assert measure_latency(call, calls=101, warm_up=3) == Latency(50.0, 99.0, 101)
