"""The modem and the front door: integers to I/Q and back, as both ends and every simulation use it."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

import twophase.link
from tools.tiny_bundle import write_tiny_bundle
from twophase.link import (
    Hysteresis,
    InputError,
    LinkConfig,
    Receiver,
    Transmitter,
    esn0_db_to_noise_var,
    llr_exact,
    qam,
)
from twophase.link.decode import class_posterior
from twophase.link.errors import ArtifactError
from twophase.link.manifest import load_manifest, write_manifest
from twophase.link.modem import (
    after,
    frames_of,
    group_by_mode,
    header_llr,
    modulate,
    payload_llr,
    received_frames,
    stream_hash,
    symbol_stream,
)

MODES = LinkConfig((4, 16), (3, 2), (4, 16), embedding_dim=2).modes
SNR_DB = 12.0


@pytest.fixture(params=["table", "content"])
def bundle(request, tiny_bundle):
    """A link whose mode both ends look up, and one that sends it in a header."""
    return tiny_bundle(request.param)


@pytest.fixture
def features(bundle):
    with np.load(bundle / "eval.npz") as arrays:
        return arrays["input"]


def noise(rng, shape, noise_var):
    return np.sqrt(noise_var / 2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def test_rows_are_grouped_by_mode_in_order():
    groups = group_by_mode(np.array([3, 0, 3, 1]), MODES)
    assert [(mode, rows.tolist()) for mode, rows in groups] == [
        (MODES[0], [1]),
        (MODES[1], [3]),
        (MODES[3], [0, 2]),
    ]
    with pytest.raises(ArtifactError, match="mode 4 of 4"):
        group_by_mode(np.array([0, 4]), MODES)


def test_a_frame_is_header_then_payload_then_nothing():
    header, counts = np.array([[0, 3, -1], [2, 1, 0], [-1, -1, -1]]), np.array([2, 3, 0])
    payload = np.array([[1 + 1j, 2], [3, 4], [5, 0]])
    frames = frames_of(header, counts, payload)
    points = qam(4).points
    assert frames.tolist() == [
        [points[0], points[3], 1 + 1j, 2, 0],
        [points[2], points[1], points[0], 3, 4],
        [5, 0, 0, 0, 0],
    ]
    assert np.array_equal(after(frames, counts, 2), payload)
    assert np.array_equal(frames_of(header[:, :0], np.zeros(3, dtype=np.int64), payload), payload)


def test_modulation_and_llrs_are_those_of_each_row_by_itself():
    rng = np.random.default_rng(1)
    mode = rng.integers(0, len(MODES), 40)
    groups = group_by_mode(mode, MODES)
    symbols = np.stack([rng.integers(0, MODES[number].order, MODES.max_symbols) for number in mode])
    points = modulate(symbols, groups)
    received = points + noise(rng, points.shape, 0.2)
    noise_var = rng.uniform(0.1, 0.4, points.shape)
    gain = rng.uniform(0.5, 1.5, points.shape) + 0.3j
    llr = payload_llr(received, noise_var, gain, groups, MODES.max_bits, 60.0)
    for row, number in enumerate(mode):
        entry = MODES[number]
        sent, constellation = slice(0, entry.symbols), qam(entry.order)
        assert np.array_equal(points[row, sent], constellation.points[symbols[row, sent]])
        assert not points[row, entry.symbols :].any()
        alone = llr_exact(received[row, sent], constellation, noise_var[row, sent], gain[row, sent], 60.0)
        assert np.array_equal(llr[row, : entry.channel_bits], alone)
        assert not llr[row, entry.channel_bits :].any()
    first = header_llr(received, noise_var, gain, 3, 50.0)
    assert np.array_equal(first, llr_exact(received[:, :3], qam(4), noise_var[:, :3], gain[:, :3], 50.0))
    assert header_llr(received, noise_var, gain, 0, 50.0) is None


def test_the_stream_is_the_mode_and_the_symbols_that_are_sent():
    mode, symbols, counts = [2, 0, 255], [[7, 255, 9, 0], [1, 2, 3, 4], [0, 0, 0, 0]], [2, 4, 0]
    stream = symbol_stream(mode, symbols, counts)
    assert stream == bytes([2, 7, 255, 0, 1, 2, 3, 4, 255])
    rows = [symbol_stream(mode[i : i + 1], symbols[i : i + 1], counts[i : i + 1]) for i in range(3)]
    assert b"".join(rows) == symbol_stream(np.int64(mode), np.int64(symbols), np.int64(counts)) == stream
    assert stream_hash(rows) == hashlib.sha256(stream).hexdigest()
    assert stream_hash([]) == hashlib.sha256(b"").hexdigest()


def test_one_value_for_all_for_each_frame_and_for_each_symbol():
    received = np.arange(6).reshape(2, 3) + 1j
    for noise_var in (0.5, [0.5, 0.5], np.full((2, 3), 0.5)):
        symbols, variance, gains = received_frames(received, noise_var, [1.0, 2j], 3)
        assert np.array_equal(symbols, received)
        assert np.array_equal(variance, np.full((2, 3), 0.5))
        assert np.array_equal(gains, [[1, 1, 1], [2j, 2j, 2j]])
    symbols, variance, gains = received_frames(received[0], 0.5, [1, 2, 3], 3)
    assert (symbols.shape, gains.tolist()) == ((1, 3), [[1, 2, 3]])


def test_missing_symbols_are_erased_and_further_ones_left_out():
    symbols, variance, gains = received_frames(np.ones(2), 0.5, 1.0, 4)
    assert gains.tolist() == [[1, 1, 0, 0]]
    assert not llr_exact(symbols, qam(16), variance, gains)[:, 8:].any()
    assert received_frames(np.ones((2, 9)), 0.5, 1.0, 4)[0].shape == (2, 4)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ((np.ones((2, 2, 2)), 0.5, 1.0), "received"),
        ((np.ones((0, 2)), 0.5, 1.0), "received"),
        (([1.0, np.nan], 0.5, 1.0), "received"),
        ((np.ones((2, 3)), [0.5] * 3, 1.0), "noise_var"),
        ((np.ones((2, 3)), 0.0, 1.0), "noise_var"),
        ((np.ones((2, 3)), 1j, 1.0), "noise_var"),
        ((np.ones((2, 3)), 0.5, np.ones((3, 2))), "gain"),
        ((np.ones((2, 3)), 0.5, np.inf), "gain"),
    ],
)
def test_what_is_given_is_checked(given, name):
    with pytest.raises(InputError) as raised:
        received_frames(*given, 3)
    assert raised.value.name == name


def test_a_sample_travels_as_iq(bundle, features):
    transmitter, receiver = Transmitter(bundle), Receiver(bundle)
    sent = transmitter.transmit(features, SNR_DB)
    assert sent.iq.dtype == np.complex64
    noise_var = esn0_db_to_noise_var(SNR_DB)
    received = sent.iq + noise(np.random.default_rng(3), sent.iq.shape, noise_var)
    decided = receiver.decide(received, noise_var, 1.0, SNR_DB)
    assert np.array_equal(decided.mode, sent.mode)
    link = transmitter.manifest
    assert np.array_equal(transmitter.send(features, SNR_DB).symbols, sent.symbols)
    for row, number in enumerate(sent.mode):
        mode, start, end = link.modes[number], sent.header_count[row], sent.count[row]
        assert end - start == mode.symbols
        assert not sent.iq[row, end:].any()
        llr = llr_exact(received[row, start:end], qam(mode.order), noise_var, clip=link.llr_clip)
        assert decided.llr[row, : mode.channel_bits] == pytest.approx(llr)
        alone = receiver.decide(received[row, :end], noise_var, 1.0, SNR_DB)
        assert np.array_equal(alone.logits, decided.logits[row : row + 1])
    assert np.array_equal(decided.classes, receiver.receive(decided.llr, decided.mode).classes)
    assert decided.posterior.sum(axis=1) == pytest.approx(1)


def test_the_channel_gain_is_taken_out(bundle, features):
    sent = Transmitter(bundle).transmit(features, SNR_DB)
    receiver = Receiver(bundle)
    gain = 0.7 * np.exp(1j * np.linspace(0, 3, len(features)))
    plain = receiver.decide(sent.iq, 0.1, 1.0, SNR_DB)
    faded = receiver.decide(gain[:, np.newaxis] * sent.iq, 0.1 * 0.49, gain, SNR_DB)
    assert faded.llr == pytest.approx(plain.llr, rel=1e-4, abs=1e-4)


def test_a_payload_has_unit_energy_by_the_manifest(tmp_path):
    """With the energy of its outer points a mode sends them at a distance of one, and is received so."""
    folder = write_tiny_bundle(tmp_path / "bundle", router="table")
    link = load_manifest(folder, "bundle")
    energies = [float(np.abs(qam(mode.order).points[-1]) ** 2) for mode in link.modes]
    write_manifest(folder, replace(link, symbol_energy=tuple(energies)), tuple(link.files))
    transmitter, receiver = Transmitter(folder), Receiver(folder)
    for number, mode in enumerate(link.modes):
        sent = transmitter.transmit(np.zeros(link.input_shape, dtype=np.float32), 0.0, number)
        points = qam(mode.order).points[sent.symbols[0, : mode.symbols]]
        assert sent.iq[0, : sent.count[0]] == pytest.approx(points / np.sqrt(energies[number]), rel=1e-6)
        expected = receiver.decide(points, 0.5, 1.0, 0.0, mode=number, amplitude=1.0)
        scaled = receiver.decide(sent.iq, 0.5 / energies[number], 1.0, 0.0, mode=number)
        assert scaled.llr == pytest.approx(expected.llr, rel=1e-5, abs=1e-5)


def test_ends_that_hold_do_not_follow_a_jitter(tmp_path):
    folder = write_tiny_bundle(tmp_path / "bundle", router="table", hysteresis_db=2.0)
    transmitter, receiver = Transmitter(folder, hold=True), Receiver(folder, hold=True)
    link = transmitter.manifest
    sample = np.zeros(link.input_shape, dtype=np.float32)
    threshold = link.routing.table.thresholds_db[0]
    held = Hysteresis.of(link.routing)
    for estimate in (threshold + 0.5, threshold - 1.0, threshold - 3.0, threshold + 1.0, threshold + 4.0):
        sent = transmitter.transmit(sample, estimate)
        decided = receiver.decide(sent.iq, 0.1, 1.0, estimate)
        assert sent.mode[0] == decided.mode[0] == link.routing.table.choose(held.hold(estimate))
    free = Transmitter(folder)
    assert free.transmit(sample, threshold + 0.5).mode != free.transmit(sample, threshold - 1.0).mode


def test_a_prior_changes_the_posterior_by_bayes_rule():
    rng = np.random.default_rng(5)
    logits, frequency = rng.standard_normal((6, 4)), np.array([0.1, 0.2, 0.3, 0.4])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    each = np.eye(4)[rng.integers(0, 4, 6)]
    for prior in (None, 7 * frequency, np.array([0.4, 0.1, 0.0, 0.5]), each):
        posterior, classes = class_posterior(logits, frequency, prior)
        joint = shares if prior is None else shares / frequency * prior
        assert posterior == pytest.approx(joint / joint.sum(axis=1, keepdims=True))
        assert np.array_equal(classes, joint.argmax(axis=1))


def test_candidates_are_named_to_the_receiver(bundle, features):
    receiver = Receiver(bundle)
    sent = Transmitter(bundle).transmit(features, SNR_DB)
    decided = receiver.decide(sent.iq, 1.0, 1.0, SNR_DB, prior=[0, 1, 1, 0])
    assert set(decided.classes.tolist()) <= {1, 2}
    assert not decided.posterior[:, [0, 3]].any()
    for prior in ([1, 1], [1, -1, 0, 0], [0, 0, 0, 0], [1, 2, 3, np.inf], ["a"] * 4):
        with pytest.raises(InputError, match="prior"):
            receiver.decide(sent.iq, 1.0, 1.0, SNR_DB, prior=prior)


def test_the_front_door_names_what_there_is():
    for name in twophase.link.__all__:
        assert getattr(twophase.link, name).__name__ == name
    assert set(twophase.link.__all__) <= set(dir(twophase.link))
    with pytest.raises(AttributeError, match="nothing_such"):
        twophase.link.nothing_such  # noqa: B018
