"""What the receiver takes LLRs for: the manifest's labels, and its prior."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twophase.export.compare.inputs import llr_batches
from twophase.export.compare.tally import POSTERIOR_MARGIN, TOLERANCE
from twophase.export.graphs.run import OnnxRuntime
from twophase.export.verify.bundle import Bundle, Finding
from twophase.link.bits import label_bits
from twophase.link.decode import codeword_log_posterior, hard_indices
from twophase.link.manifest import Manifest

__all__ = ["labels"]

_LLR = 20.0
"""LLR of a bit, in favour of the one that was sent: no prior outweighs it below a million codewords."""

_MIXTURES, _RANDOM = 64, 64
"""Rows of random codewords, and of random LLRs, in each mode."""

_ROWS = 256
"""Rows run at once."""

_UNSEEN_SHARE = 0.1
"""The receiver's prior is the usage with so much of a uniform share, for codewords that were never seen."""


def labels(bundle: Bundle) -> Finding:
    """Labels become their codewords again, and LLRs the posterior that NumPy computes.

    INT8 receivers as well: only what follows the posterior is quantised.
    """
    manifest = bundle.manifest
    runner = OnnxRuntime(bundle.model("rx.onnx"))
    problems: list[str] = []
    sent = 0
    for number, name in enumerate(manifest.modes.names):
        rows = _rows(manifest, number)
        sent += len(rows)
        got = _decided(runner, manifest, number, rows)
        differs = (got != rows).any(axis=1) if got.shape == rows.shape else np.ones(len(rows), dtype=bool)
        if differs.any():
            row = int(differs.argmax())
            problems.append(
                f"mode {number} ({name}): the labels of the codewords {_shown(rows, row)} are received as "
                f"{_shown(got, row)}, and {differs.sum()} of {len(rows)} rows otherwise than they were sent"
            )
    compared, found = _posteriors(runner, manifest)
    return Finding(
        problems + found,
        f"{sent:,} rows of labels come back as codewords; posteriors of {compared:,} samples are NumPy's",
    )


def _rows(manifest: Manifest, number: int) -> NDArray[np.int64]:
    """Every codeword at every token, then mixtures; -1 at tokens that the mode does not have."""
    mode = manifest.modes[number]
    mixed = np.random.default_rng([0, number]).integers(0, mode.codebook_size, (_MIXTURES, mode.tokens))
    each = np.repeat(np.arange(mode.codebook_size)[:, np.newaxis], mode.tokens, axis=1)
    rows = np.full((len(each) + len(mixed), manifest.modes.max_tokens), -1, dtype=np.int64)
    rows[:, : mode.tokens] = np.concatenate([each, mixed])
    return rows


def _decided(
    runner: OnnxRuntime, manifest: Manifest, number: int, rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Indices that are received where ``rows`` were sent."""
    mode = manifest.modes[number]
    table = label_bits(manifest.label_array(mode.codebook))
    found = []
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS, : mode.tokens]
        llr = np.zeros((len(part), manifest.modes.max_bits), dtype=np.float32)
        llr[:, : mode.information_bits] = _LLR * (2.0 * table[part].reshape(len(part), -1) - 1.0)
        found += runner.run(["indices"], {"llr": llr, "mode": np.full(len(part), number)})
    return np.concatenate(found)


def _posteriors(runner: OnnxRuntime, manifest: Manifest) -> tuple[int, list[str]]:
    """Samples compared, and one sentence for each mode whose posterior is not NumPy's."""
    problems: dict[int, str] = {}
    compared = 0
    for llr, modes in llr_batches(manifest, _RANDOM * len(manifest.modes), seed=0):
        posterior, indices = runner.run(["posterior", "indices"], {"llr": llr, "mode": modes})
        compared += len(llr)
        for number in np.unique(modes).tolist():
            here = modes == number
            problem = _unlike(llr[here], posterior[here], indices[here], manifest, number)
            if problem:
                name = manifest.modes.names[number]
                problems.setdefault(number, f"mode {number} ({name}): {problem}")
    return compared, list(problems.values())


def _unlike(
    llr: NDArray[np.float32],
    posterior: NDArray[np.float32],
    indices: NDArray[np.int64],
    manifest: Manifest,
    number: int,
) -> str | None:
    """How what was received differs from NumPy's posterior; None if it does not."""
    mode = manifest.modes[number]
    prior = np.asarray(manifest.usage[mode.codebook]) + _UNSEEN_SHARE / mode.codebook_size
    table = label_bits(manifest.label_array(mode.codebook))
    expected = codeword_log_posterior(
        llr[:, : mode.information_bits], table, np.log(prior / (1.0 + _UNSEEN_SHARE))
    )
    wanted = np.zeros((len(llr), manifest.modes.max_tokens, manifest.modes.max_codebook_size))
    if posterior.shape != wanted.shape:
        return f"'posterior' has shape {posterior.shape}, not {wanted.shape}"
    wanted[:, : mode.tokens, : mode.codebook_size] = np.exp(expected)
    error = np.abs(posterior - wanted)
    if not (error <= TOLERANCE * (1.0 + wanted)).all():
        return f"'posterior' differs by up to {error.max():.3g} from that of the manifest's labels and usage"
    # e^-margin is the ratio of the two largest; below it the decision may hang by a rounding error
    best = np.sort(expected, axis=-1)
    clear = best[..., -1] - best[..., -2] > 10.0 * POSTERIOR_MARGIN
    if (indices[:, : mode.tokens] != hard_indices(expected))[clear].any():
        return "'indices' are not the most probable codewords"
    return None


def _shown(rows: NDArray[np.int64], row: int) -> str:
    """A row up to its padding, its beginning if it is long."""
    values = rows[row][rows[row] >= 0].tolist()
    return ", ".join(map(str, values[:4])) + (", ..." if len(values) > 4 else "")
