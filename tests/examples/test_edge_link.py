"""Both ends of the edge example as processes of their own, over UDP on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NO_HEAVY = """
import sys
HEAVY = {"torch", "onnx", "scipy", "matplotlib", "commpy", "jinja2", "sklearn", "rich"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"{name} is not for the edge", name=name)
sys.meta_path.insert(0, Refuse())
"""


def command(script: str, *words: object) -> list[str]:
    return [sys.executable, str(EXAMPLES / script), *map(str, words)]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@contextmanager
def receiving(
    *words: object, env: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A receiver at a free port, and that port; it is killed if the test forgets it."""
    with subprocess.Popen(
        command("edge_rx.py", "--port", 0, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first, process.communicate()[1]
            yield process, json.loads(first)["port"]
        finally:
            process.kill()


def send(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("edge_tx.py", *words), capture_output=True, text=True, check=False, env=env, timeout=60
    )


def sending(bundle: Path, port: int, rate: float) -> subprocess.Popen[str]:
    """A sender that takes its time."""
    return subprocess.Popen(
        command("edge_tx.py", "--bundle", bundle, "--port", port, "--rate", rate),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("kind", "snr_db"), [("table", 12.0), ("content", 0.0), ("text", 12.0)])
def test_what_is_sent_is_decided(
    edge_bundle: Callable[[str], Path], tmp_path: Path, kind: str, snr_db: float
) -> None:
    """At 40 dB, whatever the ends believe; neither has a heavy package."""
    (tmp_path / "sitecustomize.py").write_text(NO_HEAVY)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    bundle = edge_bundle(kind)
    with np.load(bundle / "eval.npz") as data:
        best, labels = data["input"][:, :4].argmax(axis=1).tolist(), data["label"].tolist()
    believed = ("--bundle", bundle, "--snr", snr_db)
    with receiving("--channel-snr", 40, *believed, env=env) as (receiver, port):
        sent = send("--port", port, *believed, env=env)
        out, err = receiver.communicate(timeout=60)
    assert (sent.returncode, sent.stderr, receiver.returncode, err) == (0, "", 0, "")
    told, (*decided, counted) = lines(sent.stdout), lines(out)
    assert [entry["sequence"] for entry in told] == list(range(24))
    assert [entry["label"] for entry in told] == labels
    assert counted == {"counted": {"accepted": 24, "reordered": 0}, "lost": 0, "ended": True}
    for one, other, choice in zip(told, decided, best, strict=True):
        assert (other["sequence"], other["mode"]) == (one["sequence"], one["mode"])
        assert (other["decided"], other["name"]) == (choice, "abcd"[choice])
    assert len({entry["mode"] for entry in told}) == (1 if kind == "table" else 4)


def test_samples_of_ones_own_without_labels(table_bundle: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", input=np.eye(4, 5, dtype=np.float64)[[2, 0, 3]])
    with receiving("--bundle", table_bundle, "--channel-snr", 30) as (receiver, port):
        words = ("--snr", 30, "--port", port, "--data", tmp_path / "mine.npz", "--count", 2)
        sent = send("--bundle", table_bundle, *words)
        out, _ = receiver.communicate(timeout=60)
    assert [sorted(entry) for entry in lines(sent.stdout)] == [["mode", "sequence", "snr_db", "symbols"]] * 2
    assert [entry["decided"] for entry in lines(out)[:-1]] == [2, 0]


def test_sentences_of_ones_own(text_bundle: Path) -> None:
    own = ("--text", "a fine second film", "--text", "awful first " + "film " * 10_000)
    with receiving("--bundle", text_bundle, "--channel-snr", 40, "--snr", 12) as (receiver, port):
        sent = send("--bundle", text_bundle, "--snr", 12, "--port", port, *own)
        out, _ = receiver.communicate(timeout=60)
    assert (sent.returncode, sent.stderr) == (0, "1 of 1 texts cut to 16 tokens\n")
    told = lines(sent.stdout)
    assert [sorted(entry) for entry in told] == [["mode", "sequence", "snr_db", "symbols"]] * 2
    assert [entry["mode"] for entry in told] == ["4x16qam", "4x4qam"]
    assert [entry["name"] for entry in lines(out)[:-1]] == ["d", "a"]


def test_bad_datagrams_are_counted_and_the_rest_decided(frames: ModuleType, table_bundle: Path) -> None:
    from twophase.link import Transmitter

    with np.load(table_bundle / "eval.npz") as data:
        features, labels = data["input"], data["label"]
    sent = Transmitter(table_bundle).transmit(features[:5], 12.0)
    good = [frames.pack(0, 9, row, sent.iq[row, : sent.count[row]]) for row in range(5)]
    damaged = bytearray(good[1])
    damaged[30] ^= 4
    end = frames.pack(frames.END, 9, 5, np.zeros(0, np.complex64))
    with receiving("--bundle", table_bundle, "--channel-snr", 40, "--snr", 12) as (receiver, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", port))
            junk = (
                b"",
                b"hello",
                good[0][:20],
                bytes(damaged),
                frames.pack(0, 8, 0, np.ones(1, np.complex64)),
            )
            # Frame 1 is lost, 3 comes before 2, 4 twice.
            for datagram in (good[0], *junk, good[3], good[2], good[4], good[4], end):
                sender.send(datagram)
        out, err = receiver.communicate(timeout=60)
    *decided, counted = lines(out)
    assert (receiver.returncode, err) == (0, "")
    assert [entry["sequence"] for entry in decided] == [0, 3, 2, 4]
    assert [entry["decided"] for entry in decided] == labels[[0, 3, 2, 4]].tolist()
    assert counted == {
        "counted": {"accepted": 4, "damaged": 1, "foreign": 2, "reordered": 1, "repeated": 1, "short": 2},
        "lost": 1,
        "ended": True,
    }


def test_a_receiver_whose_sender_falls_silent_ends(frames: ModuleType, table_bundle: Path) -> None:
    with receiving("--bundle", table_bundle, "--timeout", 1) as (receiver, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(frames.pack(0, 9, 0, np.ones(3, np.complex64)), ("127.0.0.1", port))
        out, err = receiver.communicate(timeout=60)
    assert (receiver.returncode, err) == (0, "edge_rx: no more frames for 1 s: the sender is gone\n")
    *decided, counted = lines(out)
    assert len(decided) == counted["counted"]["accepted"] == 1
    assert not counted["ended"]


def test_a_sender_whose_receiver_is_killed_ends(table_bundle: Path) -> None:
    with receiving("--bundle", table_bundle) as (receiver, port), sending(table_bundle, port, 20) as sender:
        assert receiver.stdout is not None
        assert receiver.stdout.readline()
        receiver.kill()
        receiver.wait()
        _, err = sender.communicate(timeout=60)
    assert sender.returncode == 1
    assert err.startswith(f"edge_tx: nobody receives at 127.0.0.1:{port}; ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_end_ends_cleanly_and_so_does_the_other(
    table_bundle: Path, number: signal.Signals
) -> None:
    with receiving("--bundle", table_bundle) as (receiver, port):
        with sending(table_bundle, port, 10) as sender:
            assert sender.stdout is not None
            assert sender.stdout.readline()
            sender.send_signal(number)
            _, sender_err = sender.communicate(timeout=60)
        out, err = receiver.communicate(timeout=60)
    assert (sender.returncode, sender_err) == (130, "edge_tx: interrupted\n")
    assert (receiver.returncode, err) == (0, "")
    assert lines(out)[-1]["ended"]
    with receiving("--bundle", table_bundle) as (receiver, port):
        receiver.send_signal(number)
        out, err = receiver.communicate(timeout=60)
    assert (receiver.returncode, err) == (130, "edge_rx: interrupted\n")
    assert lines(out) == [{"counted": {}, "lost": 0, "ended": False}]


def test_nothing_or_a_stray_end_is_no_frame(frames: ModuleType, table_bundle: Path) -> None:
    with receiving("--bundle", table_bundle, "--timeout", 1) as (receiver, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as radio:
            radio.sendto(frames.pack(frames.END, 99, 0, np.zeros(0, np.complex64)), ("127.0.0.1", port))
        out, err = receiver.communicate(timeout=60)
    assert (receiver.returncode, err) == (1, "edge_rx: no frame came for 1 s\n")
    assert lines(out) == [{"counted": {"foreign": 1}, "lost": 0, "ended": False}]


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("edge_tx.py", "--bundle nowhere", "'nowhere' is not a folder"),
        ("edge_rx.py", "--bundle nowhere", "'nowhere' is not a folder"),
        ("edge_tx.py", "--snr high", "argument --snr: invalid float value: 'high' (see edge_tx --help)"),
        ("edge_tx.py", "--count 0", "argument --count: out of range"),
        ("edge_rx.py", "--timeout nan", "argument --timeout: out of range"),
        ("edge_rx.py", "--port 70000", "argument --port: out of range"),
        ("edge_rx.py", "--channel-snr 1e9", "'esn0_db' must give a noise variance"),
        ("edge_rx.py", "--host 192.0.2.1", "edge_rx: "),
        ("edge_tx.py", "--data no.npz", "'no.npz' is no npz with an array 'input'"),
        ("edge_tx.py", "--data text.npz", "'text.npz' is no npz with an array 'input'"),
        ("edge_tx.py", "--data array.npy", "'array.npy' is no npz with an array 'input'"),
        ("edge_tx.py", "--data shape.npz", "'features' must have shape (5,)"),
        ("edge_tx.py", "--data words.npz", "'features' must be real numbers"),
        ("edge_tx.py", "--data labels.npz", "must hold one whole number in 'label' for each sample"),
        ("edge_tx.py", "--format ort", "has no 'ort/tx.ort': export it with --ort"),
        ("of text", "--text=", "'text' must be a non-empty string, not ''"),
        ("of text", "--text a --data x.npz", "argument --data: not allowed with argument --text"),
        ("of text", "--data words.npz", "'words.npz' is no npz with arrays 'text' and 'text_ends': "),
        ("of text", "--data ends.npz", "'text' and 'text_ends': 'text_ends' must rise"),
    ],
)
def test_bad_input_is_one_line(
    edge_bundle: Callable[[str], Path], tmp_path: Path, script: str, words: str, message: str
) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "array.npy", np.zeros((2, 5)))
    np.savez(tmp_path / "shape.npz", input=np.zeros((2, 4)))
    np.savez(tmp_path / "words.npz", input=np.full((2, 5), "a"))
    np.savez(tmp_path / "labels.npz", input=np.zeros((2, 5)), label=np.zeros(3, dtype=int))
    np.savez(tmp_path / "ends.npz", text=np.frombuffer(b"a fine film", np.uint8), text_ends=[4])
    script, kind = ("edge_tx.py", "text") if script == "of text" else (script, "table")
    given = ["--bundle", str(edge_bundle(kind)), "--port", "47801", *words.split(" ")]
    done = subprocess.run(
        command(script, *given), capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("script", ["edge_tx.py", "edge_rx.py"])
def test_help_has_examples(script: str) -> None:
    done = subprocess.run(command(script, "--help"), capture_output=True, text=True, check=True)
    assert f"python examples/{script}" in done.stdout
    assert "--bundle" in done.stdout
