"""What INT8 is calibrated on, and which samples its roundings decide clearly.

Calibration: training samples are sent by the transmitter in every mode, over AWGN at Es/N0 from -5 to 20 dB,
and demapped with the true noise variance.  Ranges are the least and the largest value seen: with steps that
are powers of two, narrower ranges (percentiles, least squared error) lead to the same steps or lose more than
they gain.

Roundings: an activation is computed in float32, with an error that differs between runtimes, and then rounded
to a whole step.  Where it lies half-way between two steps up to that error, one runtime takes the lower and
another the upper one, and what follows differs by far more than a rounding error.  That is no fault of
either; ``steady_rows`` says which samples are clear of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, numpy_helper

from twophase.export.graphs.run import GraphRunError, OnnxRuntime, Values, rows_of
from twophase.link.errors import ArtifactError
from twophase.link.graphs import MODE_REQUEST
from twophase.link.manifest import Manifest
from twophase.link.modem import modulate, payload_llr
from twophase.link.noise import esn0_db_to_noise_var
from twophase.link.samples import load_split

__all__ = [
    "CALIBRATION_FILE",
    "CLEARANCE",
    "SNRS_DB",
    "load_calibration",
    "observe",
    "receptions",
    "steady_rows",
]

CLEARANCE = 1e-4
"""Distance from half-way between two steps, in steps, below which a rounding is not clear.  Between ONNX
Runtime and ``onnx.reference`` activations of a link for digits differed by up to 1.5e-5 steps."""

_EXACT = frozenset({"Clip", "Flatten", "Identity", "Max", "Min", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that change no value but to a stored one, if all but their first input are stored."""


def steady_rows(model: ModelProto, feed: Values) -> NDArray[np.bool_]:
    """Which samples keep clear of the middle between two steps, wherever the graph rounds; (batch,).

    What a graph rounds of its inputs themselves does not count, for that is exact.  Nor is this needed for a
    transmitter on an integer grid, where all is.  Steps must be stored; without any, every sample is steady.
    ``GraphRunError`` if ONNX Runtime cannot run the graph.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    steps = {
        node.input[0]: float(numpy_helper.to_array(stored[node.input[1]]).item())
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and not _is_given(model.graph, node.input[0])
    }
    steady = np.full(len(next(iter(feed.values()))), True)
    if not steps:
        return steady
    values = OnnxRuntime(model, inner=steps).run(list(steps), feed)
    for value, step in zip(values, steps.values(), strict=True):
        places = np.asarray(value, dtype=np.float64).reshape(len(steady), value.size // len(steady)) / step
        steady &= (np.abs(places - np.floor(places) - 0.5) >= CLEARANCE).all(axis=1)
    return steady


def _is_given(graph: GraphProto, name: str) -> bool:
    """Whether a tensor holds what the graph was given, or what is stored: it is the same everywhere."""
    makers = {output: node for node in graph.node for output in node.output}
    while name in makers:
        source, *bounds = makers[name].input
        if makers[name].op_type not in _EXACT or any(bound in makers for bound in bounds):
            return False
        name = source
    return True


CALIBRATION_FILE = "calibration.npz"
"""Training samples in a run folder: ``input`` and ``label``."""

SNRS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
"""Es/N0 of the calibration; the samples take them in turn."""

_CHUNK = 2048


def load_calibration(run: Path, manifest: Manifest) -> Values:
    """Inputs of the transmitter: training samples that a run keeps, (samples, *input_shape), and Es/N0.

    ``ArtifactError`` if the run keeps none, or they do not fit its manifest.
    """
    path = run / CALIBRATION_FILE
    if not path.is_file():
        raise ArtifactError(f"'{path}' is missing: INT8 is calibrated on training samples; train again")
    features = load_split(path, manifest).features
    snr_db = np.resize(np.array(SNRS_DB, dtype=np.float32), len(features))
    return {"input": features, "snr_db": snr_db}


def receptions(transmitter: ModelProto, manifest: Manifest, calibration: Values, seed: int) -> Values:
    """Inputs of the receiver: every sample in every mode, received at its own ``snr_db``.

    These are ``llr``, (samples * modes, max_bits), and ``mode``, (samples * modes,).  ``ArtifactError`` if
    the transmitter does not run.
    """
    graph = OnnxRuntime(transmitter)
    noise_var = esn0_db_to_noise_var(calibration["snr_db"])
    llrs, modes = [], []
    for number, mode in enumerate(manifest.modes):
        request = {MODE_REQUEST: np.array([number])} if len(manifest.modes) > 1 else {}
        try:
            (symbols,) = graph.run(["symbols"], {**calibration, **request})
        except GraphRunError as error:
            raise ArtifactError(f"the transmitter does not run on the calibration data: {error}") from error
        groups = [(mode, np.arange(len(symbols)))]
        points = modulate(symbols[:, : mode.symbols], groups)
        noise = np.random.default_rng([seed, number]).standard_normal((2, *points.shape))
        total = float(np.mean(np.abs(points) ** 2)) * noise_var[:, np.newaxis]
        received = points + np.sqrt(total / 2) * (noise[0] + 1j * noise[1])
        llr = payload_llr(received, total, 1.0, groups, mode.channel_bits, manifest.llr_clip)
        llrs.append(np.pad(llr, ((0, 0), (0, manifest.modes.max_bits - mode.channel_bits))))
        modes.append(np.full(len(llr), number, dtype=np.int64))
    return {"llr": np.concatenate(llrs).astype(np.float32), "mode": np.concatenate(modes)}


def observe(model: ModelProto, names: tuple[str, ...], feed: Values) -> dict[str, tuple[float, float]]:
    """Least and largest value of tensors of float32, inputs or inner ones, zero included, by name.

    ``ArtifactError`` if there is no sample, the graph does not run, or a value is not finite.
    """
    if min((len(values) for values in feed.values()), default=0) == 0:
        raise ArtifactError("the calibration data hold no sample")
    graph = OnnxRuntime(model, inner=names)
    ranges = dict.fromkeys(names, (0.0, 0.0))
    for start in range(0, max(map(len, feed.values())), _CHUNK):
        try:
            values = graph.read(names, rows_of(feed, slice(start, start + _CHUNK)))
        except GraphRunError as error:
            raise ArtifactError(f"the graph does not run on the calibration data: {error}") from error
        for name in names:
            seen = values[name]
            if not np.isfinite(seen).all():
                raise ArtifactError(f"'{name}' is not finite on the calibration data")
            low, high = ranges[name]
            ranges[name] = (min(low, float(seen.min())), max(high, float(seen.max())))
    return ranges
