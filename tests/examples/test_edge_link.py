"""Both ends of the edge example as processes of their own, over UDP on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


def start(script: str, *words: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLES / script), *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@contextmanager
def receiving(
    *words: object, env: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A receiver at a free port, and that port; it is killed if the test forgets it."""
    with start("edge_rx.py", "--port", 0, *words, env=env) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first, process.communicate()[1]
            yield process, json.loads(first)["port"]
        finally:
            process.kill()


def send(*words: object, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a sender."""
    with start("edge_tx.py", *words, env=env) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def datagram(port: int, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        for each in datagrams:
            sender.send(each)


@pytest.mark.parametrize(("kind", "snr_db"), [("table", 12.0), ("content", 0.0), ("text", 12.0)])
def test_what_is_sent_is_decided(
    edge_bundle: Callable[[str], Path], tmp_path: Path, kind: str, snr_db: float
) -> None:
    """At 40 dB, whatever the ends believe; neither has a heavy package."""
    (tmp_path / "sitecustomize.py").write_text(NO_HEAVY)
    env = {"PYTHONPATH": str(tmp_path)}
    bundle = edge_bundle(kind)
    with np.load(bundle / "eval.npz") as data:
        best, labels = data["input"][:, :4].argmax(axis=1).tolist(), data["label"].tolist()
    believed = ("--bundle", bundle, "--snr", snr_db)
    with receiving("--channel-snr", 40, *believed, env=env) as (receiver, port):
        status, sent, sender_err = send("--port", port, *believed, env=env)
        out, err = receiver.communicate(timeout=60)
    assert (status, sender_err, receiver.returncode, err) == (0, "", 0, "")
    stated, (*decided, counted) = lines(sent), lines(out)
    assert [entry["sequence"] for entry in stated] == list(range(24))
    assert [entry["label"] for entry in stated] == labels
    right = sum(entry["decided"] == label for entry, label in zip(decided, labels, strict=True))
    assert counted == {
        "counted": {"accepted": 24, "reordered": 0},
        "lost": 0,
        "ended": True,
        "symbols_per_frame": round(sum(entry["symbols"] for entry in stated) / 24, 2),
        "accuracy_if_test_split": round(right / 24, 4),
    }
    for one, other, choice in zip(stated, decided, best, strict=True):
        assert (other["sequence"], other["mode"]) == (one["sequence"], one["mode"])
        assert (other["decided"], other["name"]) == (choice, "abcd"[choice])
    assert len({entry["mode"] for entry in stated}) == (1 if kind == "table" else 4)


@pytest.mark.parametrize("kind", ["table", "text"])
def test_samples_or_sentences_of_ones_own_without_labels(
    edge_bundle: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    bundle = edge_bundle(kind)
    np.savez(tmp_path / "mine.npz", input=np.eye(4, 5, dtype=np.float64)[[3, 0, 2]])
    own = ["--data", tmp_path / "mine.npz", "--count", 2]
    if kind == "text":
        own = ["--text", "a fine second film", "--text", "awful first " + "film " * 10_000]
    with receiving("--bundle", bundle, "--channel-snr", 40, "--snr", 12) as (receiver, port):
        status, sent, err = send("--bundle", bundle, "--snr", 12, "--port", port, *own)
        out, _ = receiver.communicate(timeout=60)
    assert (status, err) == (0, "1 of 1 texts cut to 16 tokens\n" if kind == "text" else "")
    assert [sorted(entry) for entry in lines(sent)] == [["mode", "sequence", "snr_db", "symbols"]] * 2
    assert [entry["name"] for entry in lines(out)[:-1]] == ["d", "a"]


def test_bad_datagrams_are_counted_and_the_rest_decided(frames: ModuleType, table_bundle: Path) -> None:
    from twophase.link import Transmitter

    with np.load(table_bundle / "eval.npz") as data:
        features, labels = data["input"], data["label"]
    sent = Transmitter(table_bundle).transmit(features[:5], 12.0)
    good = [frames.pack(0, 9, row, sent.iq[row, : sent.count[row]]) for row in range(5)]
    damaged = bytearray(good[1])
    damaged[30] ^= 4
    foreign = frames.pack(0, 8, 0, np.ones(1, np.complex64))
    end = frames.pack(frames.END, 9, 5, np.zeros(0, np.complex64))
    with receiving("--bundle", table_bundle, "--channel-snr", 40, "--snr", 12) as (receiver, port):
        # Frame 1 is lost, 3 comes before 2, 4 twice.
        junk = (b"", b"hello", good[0][:20], bytes(damaged), foreign)
        datagram(port, good[0], *junk, good[3], good[2], good[4], good[4], end)
        out, err = receiver.communicate(timeout=60)
    *decided, counted = lines(out)
    assert (receiver.returncode, err) == (0, "")
    assert [entry["sequence"] for entry in decided] == [0, 3, 2, 4]
    assert [entry["decided"] for entry in decided] == labels[[0, 3, 2, 4]].tolist()
    assert (counted.pop("symbols_per_frame") > 0, counted.pop("accuracy_if_test_split") >= 0) == (True, True)
    assert counted == {
        "counted": {"accepted": 4, "damaged": 1, "foreign": 2, "reordered": 1, "repeated": 1, "short": 2},
        "lost": 1,
        "ended": True,
    }


@pytest.mark.parametrize(
    ("kind", "status", "message", "counted"),
    [
        (0, 0, "no more frames for 1 s: the sender is gone", {"accepted": 1, "reordered": 0}),
        (1, 1, "no frame came for 1 s", {"foreign": 1}),
    ],
    ids=["samples", "a stray end"],
)
def test_a_receiver_to_which_nothing_comes_ends(
    frames: ModuleType, table_bundle: Path, kind: int, status: int, message: str, counted: dict[str, int]
) -> None:
    with receiving("--bundle", table_bundle, "--timeout", 1) as (receiver, port):
        datagram(port, frames.pack(kind, 9, 0, np.ones(1 - kind, np.complex64)))
        out, err = receiver.communicate(timeout=60)
    assert (receiver.returncode, err) == (status, f"edge_rx: {message}\n")
    last = lines(out)[-1]
    assert {name: last[name] for name in ("counted", "lost", "ended")} == {
        "counted": counted,
        "lost": 0,
        "ended": False,
    }


def test_an_end_that_is_repeated_keeps_no_receiver(frames: ModuleType, table_bundle: Path) -> None:
    none = np.zeros(0, np.complex64)
    with receiving("--bundle", table_bundle, "--timeout", 60) as (receiver, port):
        datagram(port, frames.pack(frames.SAMPLES, 9, 0, np.ones(1, np.complex64)))
        for _ in range(200):  # of two frames one is lost: the receiver gives it half a second
            datagram(port, frames.pack(frames.END, 9, 2, none))
            with suppress(subprocess.TimeoutExpired):
                receiver.wait(timeout=0.1)
                break
        assert receiver.returncode == 0


def test_a_sender_whose_receiver_is_killed_ends(table_bundle: Path) -> None:
    with (
        receiving("--bundle", table_bundle) as (receiver, port),
        start("edge_tx.py", "--bundle", table_bundle, "--port", port, "--rate", 20) as sender,
    ):
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
        with start("edge_tx.py", "--bundle", table_bundle, "--port", port, "--rate", 10) as sender:
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


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("edge_rx.py", "--bundle nowhere", "'nowhere' is not a folder"),
        ("edge_tx.py", "--snr high", "argument --snr: invalid float value: 'high' (see edge_tx --help)"),
        ("edge_tx.py", "--count 0", "argument --count: out of range"),
        ("edge_rx.py", "--timeout nan", "argument --timeout: out of range"),
        ("edge_rx.py", "--host 192.0.2.1", "edge_rx: "),
        ("edge_tx.py", "--data no.npz", "'no.npz' is no npz with an array 'input'"),
        ("edge_tx.py", "--data array.npy", "'array.npy' is no npz with an array 'input'"),
        ("edge_tx.py", "--data words.npz", "'features' must be real numbers"),
        ("edge_tx.py", "--data labels.npz", "must hold one whole number in 'label' for each sample"),
        ("edge_tx.py", "--format ort", "has no 'ort/tx.ort': export it with --ort"),
        ("of text", "--text=", "'text' must be a non-empty string, not ''"),
        ("of text", "--text a --data x.npz", "argument --data: not allowed with argument --text"),
        ("of text", "--data ends.npz", "'text' and 'text_ends': 'text_ends' must rise"),
    ],
)
def test_bad_input_is_one_line(
    edge_bundle: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    words: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("array.npy", np.zeros((2, 5)))
    np.savez("words.npz", input=np.full((2, 5), "a"))
    np.savez("labels.npz", input=np.zeros((2, 5)), label=np.zeros(3, dtype=int))
    np.savez("ends.npz", text=np.frombuffer(b"a fine film", np.uint8), text_ends=[4])
    script, kind = ("edge_tx.py", "text") if script == "of text" else (script, "table")
    with start(script, "--bundle", edge_bundle(kind), "--port", 47801, *words.split(" ")) as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (2, 1), err
    assert message in err
