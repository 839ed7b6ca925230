"""A small, valid bundle made by hand: four classes, four modes, lookup tables for a model.

The first four of a sample's five features are class scores.  The transmitter sends the codewords of the class
with the best score; the receiver correlates LLRs with the codewords' bits.  Soft transmitters send the mean
of the points of all classes, weighted by a softmax over the scores.

The mode follows from the SNR by thresholds (routers ``snr`` and ``table``), or the fifth feature of a sample
chooses it, hard and soft alike, and a header tells it (``content``): all modes in one batch at one SNR.
With :data:`ONE_MODE` there is nothing to choose.

With ``text``, a sample is a sentence: each word adds its row of a table to the features, a word of opinion
the score of its class, a numeral the choice of the mode.  The sums are exact in any order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tools.tiny_text import FILLERS, NUMERALS, OPINIONS, WORDS, sentences, text_arrays, write_tokenizer
from twophase.link.bits import bits_to_symbols, indices_to_bits, pad_bits
from twophase.link.constellation import qam
from twophase.link.manifest import TOKENIZER_FILE, Front, Manifest, Reference, write_manifest
from twophase.link.modes import LinkConfig, ModeTable
from twophase.link.routing import HeaderStep, Router, Routing, SnrTable
from twophase.link.text import TextEncoder

__all__ = ["CLASSES", "HEADER", "LINK", "MODE_SNR", "ONE_MODE", "TABLE", "write_tiny_bundle"]

CLASSES = 4
LINK = LinkConfig(codebook_sizes=(4, 16), tokens=(3, 1), qam_orders=(4, 16), embedding_dim=2)
ONE_MODE = LinkConfig(codebook_sizes=(4,), tokens=(3,), qam_orders=(16,), embedding_dim=2)
LABELS = ((0, 1, 3, 2), tuple(int(k ^ (k >> 1)) for k in range(16)))
TABLE = SnrTable(thresholds_db=(2.0, 6.0, 10.0), modes=(0, 1, 2, 3))
HEADER = (HeaderStep(-10.0, "hamming84"), HeaderStep(5.0, "plain"))
"""Four symbols below 5 dB, one from there on."""
MODE_SNR = (0.0, 4.0, 8.0, 12.0)
"""An Es/N0 in dB at which each mode is chosen."""
# Codeword indices that each class sends, for either codebook.
SENT = (((0, 1, 2), (1, 3, 0), (2, 0, 3), (3, 2, 1)), ((0,), (5,), (10,), (15,)))


FRONT = Front(backbone="a table", max_length=16, pooling="sum")


def write_tiny_bundle(
    folder: Path,
    *,
    router: Router = "snr",
    hysteresis_db: float = 0.0,
    header: tuple[HeaderStep, ...] = HEADER,
    link: LinkConfig = LINK,
    references: tuple[str, ...] = ("learning", "aligned"),
    samples: int = 240,
    seed: int = 0,
    wrong_receiver: bool = False,
    wrong_learning_receiver: bool = False,
    text: bool = False,
) -> Path:
    """Write a bundle into ``folder`` and return it.

    ``header`` is that of the router ``content``, ``hysteresis_db`` that of ``table``.
    ``wrong_receiver`` swaps two classes in the deployed receiver, which the verdict must notice;
    ``wrong_learning_receiver`` swaps them in the one of the learning reference.
    ``text`` puts a tokenizer and a table of words ahead of it.
    """
    folder.mkdir(parents=True)
    modes = link.modes
    table = TABLE if len(modes) > 1 else SnrTable((), (0,))
    routing = Routing(
        router=router if len(modes) > 1 else "fixed",
        table=table,
        hysteresis_db=hysteresis_db,
        header=header if router == "content" else (),
    )
    tables = _tables(modes)
    _save(folder / ("tx_head.onnx" if text else "tx.onnx"), _transmitter(tables, modes, routing))
    _save(folder / "rx.onnx", _receiver(tables, modes, swapped=wrong_receiver))
    _save(folder / "soft.onnx", _soft_transmitter(tables, modes, routing, temperature=0.5))
    files = ["tx_head.onnx" if text else "tx.onnx", "rx.onnx", "soft.onnx", "eval.npz"]
    if "learning" in references:
        _save(folder / "soft_learning.onnx", _soft_transmitter(tables, modes, routing, temperature=0.7))
        _save(folder / "rx_learning.onnx", _receiver(tables, modes, swapped=wrong_learning_receiver))
        files += ["soft_learning.onnx", "rx_learning.onnx"]
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, samples)
    scores = 2.0 * np.eye(CLASSES)[label] + 0.5 * rng.standard_normal((samples, CLASSES))
    wanted = rng.integers(0, len(modes), samples)
    split = {"input": np.column_stack([scores, wanted]).astype(np.float32), "label": label}
    if text:
        _save(folder / "tx.onnx", _transmitter(tables, modes, routing, from_words=True))
        encoder = TextEncoder(write_tokenizer(folder / TOKENIZER_FILE), FRONT.max_length)
        split = text_arrays(sentences(label, rng, wanted), label, CLASSES, encoder, seed)
        split["input"] = word_features(split["input_ids"], split["attention_mask"])
        files += ["tx.onnx", TOKENIZER_FILE]
    np.savez(folder / "eval.npz", **split)
    known = {
        "learning": Reference(
            "learning",
            "best model of the learning phase, soft",
            "soft_learning.onnx",
            "rx_learning.onnx",
            0.7,
        ),
        "aligned": Reference("aligned", "aligned model on its soft path", "soft.onnx", "rx.onnx", 0.5),
    }
    manifest = Manifest(
        kind="bundle",
        task="tiny",
        classes=tuple("abcd"),
        input_shape=(CLASSES + 1,),
        link=link,
        routing=routing,
        codebooks=tuple(tuple((float(k), 0.0) for k in range(size)) for size in link.codebook_sizes),
        labels=LABELS[: len(link.codebook_sizes)],
        usage=tuple((1 / size,) * size for size in link.codebook_sizes),
        symbol_energy=(1.0,) * len(link.modes),
        class_frequency=(1 / CLASSES,) * CLASSES,
        llr_clip=100.0,
        references=tuple(known[name] for name in references),
        training={"method": "by hand", "seed": seed},
        provenance={},
        front=FRONT if text else None,
    )
    write_manifest(folder, manifest, tuple(files))
    return folder


def word_features(ids: NDArray[np.integer], mask: NDArray[np.integer]) -> NDArray[np.float32]:
    """Features of the texts of token ids and mask, both (texts, length)."""
    return (_word_table()[ids] * mask[..., np.newaxis]).sum(axis=1, dtype=np.float32)


def _word_table() -> NDArray[np.float32]:
    """What each word adds to the features, in eighths: (words, CLASSES + 1)."""
    rng = np.random.default_rng(7)
    table = np.zeros((len(WORDS), CLASSES + 1), dtype=np.float32)
    for word in ("[UNK]", *FILLERS):
        table[WORDS.index(word), :CLASSES] = rng.integers(-2, 3, CLASSES) / 8
    for number in range(CLASSES):
        table[WORDS.index(OPINIONS[number]), number] = 2
    for number, word in enumerate(NUMERALS):
        table[WORDS.index(word), CLASSES] = number
    return table


def _tables(modes: ModeTable) -> dict[str, np.ndarray]:
    """What each (mode, class) sends, row ``mode * CLASSES + class``, padded to the widest mode."""
    rows = len(modes) * CLASSES
    tables = {
        "mode": np.repeat(np.arange(len(modes)), CLASSES),
        "indices": np.full((rows, modes.max_tokens), -1, dtype=np.int64),
        "bits": np.zeros((rows, modes.max_bits), dtype=np.uint8),
        "symbols": np.zeros((rows, modes.max_symbols), dtype=np.int64),
        "bit_count": np.zeros(rows, dtype=np.int64),
        "symbol_count": np.zeros(rows, dtype=np.int64),
        "iq": np.zeros((rows, modes.max_symbols, 2), dtype=np.float32),
    }
    for number, mode in enumerate(modes):
        for label in range(CLASSES):
            row = number * CLASSES + label
            sent = np.array(SENT[mode.codebook][label])
            labels = np.array(LABELS[mode.codebook])[sent]
            bits = pad_bits(indices_to_bits(labels, mode.bits_per_index).ravel(), mode.bits_per_symbol)
            symbols = bits_to_symbols(bits, mode.bits_per_symbol)
            points = qam(mode.order).points[symbols]
            tables["indices"][row, : mode.tokens] = sent
            tables["bits"][row, : bits.size] = bits
            tables["symbols"][row, : symbols.size] = symbols
            tables["bit_count"][row] = bits.size
            tables["symbol_count"][row] = symbols.size
            tables["iq"][row, : symbols.size] = np.stack([points.real, points.imag], axis=-1)
    return tables


def _transmitter(
    tables: dict[str, np.ndarray], modes: ModeTable, routing: Routing, from_words: bool = False
) -> onnx.ModelProto:
    outputs = {
        "mode": (TensorProto.INT64, ["batch"]),
        "indices": (TensorProto.INT64, ["batch", modes.max_tokens]),
        "bits": (TensorProto.UINT8, ["batch", modes.max_bits]),
        "symbols": (TensorProto.INT64, ["batch", modes.max_symbols]),
        "bit_count": (TensorProto.INT64, ["batch"]),
        "symbol_count": (TensorProto.INT64, ["batch"]),
    }
    nodes = [
        *(_front() if from_words else ()),
        *_scores(),
        *_choice(modes, routing),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
        helper.make_node("Mul", ["chosen", "classes"], ["first_row"]),
        helper.make_node("Add", ["first_row", "best"], ["row"]),
        *(helper.make_node("Gather", [f"{name}_table", "row"], [name], axis=0) for name in outputs),
    ]
    constants = {f"{name}_table": tables[name] for name in outputs} | _constants(routing)
    if from_words:
        outputs["features"] = (TensorProto.FLOAT, ["batch", CLASSES + 1])
    return _model("tx", nodes, _features(modes, from_words), outputs, constants)


def _soft_transmitter(
    tables: dict[str, np.ndarray], modes: ModeTable, routing: Routing, temperature: float
) -> onnx.ModelProto:
    width = modes.max_symbols
    nodes = [
        *_scores(),
        *_choice(modes, routing),
        helper.make_node("Identity", ["chosen"], ["mode"]),
        helper.make_node("Div", ["scores", "temperature"], ["sharpened"]),
        helper.make_node("Softmax", ["sharpened"], ["weights"], axis=1),
        helper.make_node("Unsqueeze", ["weights", "axis_one"], ["row_weights"]),
        helper.make_node("Gather", ["iq_table", "chosen"], ["candidates"], axis=0),
        helper.make_node("MatMul", ["row_weights", "candidates"], ["mixed"]),
        helper.make_node("Reshape", ["mixed", "iq_shape"], ["symbols_iq"]),
    ]
    constants = _constants(routing) | {
        "temperature": np.float32(temperature),
        "axis_one": np.array([1]),
        "iq_table": tables["iq"].reshape(len(modes), CLASSES, width * 2),
        "iq_shape": np.array([-1, width, 2]),
    }
    outputs = {"mode": (TensorProto.INT64, ["batch"]), "symbols_iq": (TensorProto.FLOAT, ["batch", width, 2])}
    return _model("soft", nodes, _features(modes), outputs, constants)


def _receiver(tables: dict[str, np.ndarray], modes: ModeTable, swapped: bool) -> onnx.ModelProto:
    tokens, codewords, width = modes.max_tokens, modes.max_codebook_size, modes.max_bits
    used = np.arange(width) < tables["bit_count"][:, None]
    class_signs = np.where(used, tables["bits"] - 0.5, 0).reshape(len(modes), CLASSES, width)
    if swapped:
        class_signs = class_signs[:, [1, 0, 2, 3]]
    signs = np.zeros((len(modes), tokens, codewords, width))
    mask = np.full((len(modes), tokens, codewords), -1e9)
    for number, mode in enumerate(modes):
        size, step = mode.codebook_size, mode.bits_per_index
        bits = indices_to_bits(np.array(LABELS[mode.codebook]), step) - 0.5
        for token in range(mode.tokens):
            signs[number, token, :size, token * step : (token + 1) * step] = bits
            mask[number, token, :size] = 0
    used_token = np.array([[token < mode.tokens for token in range(tokens)] for mode in modes])
    nodes = [
        helper.make_node("Unsqueeze", ["llr", "last_axis"], ["column"]),
        helper.make_node("Gather", ["class_signs", "mode"], ["class_rows"], axis=0),
        helper.make_node("MatMul", ["class_rows", "column"], ["class_column"]),
        helper.make_node("Squeeze", ["class_column", "last_axis"], ["logits"]),
        helper.make_node("Gather", ["signs", "mode"], ["token_rows"], axis=0),
        helper.make_node("MatMul", ["token_rows", "column"], ["token_column"]),
        helper.make_node("Reshape", ["token_column", "token_shape"], ["correlation"]),
        helper.make_node("Gather", ["mask", "mode"], ["token_mask"], axis=0),
        helper.make_node("Add", ["correlation", "token_mask"], ["evidence"]),
        helper.make_node("Softmax", ["evidence"], ["posterior"], axis=2),
        helper.make_node("ArgMax", ["evidence"], ["likeliest"], axis=2, keepdims=0),
        helper.make_node("Gather", ["used_token", "mode"], ["is_used"], axis=0),
        helper.make_node("Where", ["is_used", "likeliest", "absent"], ["indices"]),
    ]
    constants = {
        "last_axis": np.array([2]),
        "class_signs": class_signs.astype(np.float32),
        "signs": signs.reshape(len(modes), tokens * codewords, width).astype(np.float32),
        "token_shape": np.array([-1, tokens, codewords]),
        "mask": mask.astype(np.float32),
        "used_token": used_token,
        "absent": np.int64(-1),
    }
    inputs = {"llr": (TensorProto.FLOAT, ["batch", width]), "mode": (TensorProto.INT64, ["batch"])}
    outputs = {
        "logits": (TensorProto.FLOAT, ["batch", CLASSES]),
        "posterior": (TensorProto.FLOAT, ["batch", tokens, codewords]),
        "indices": (TensorProto.INT64, ["batch", tokens]),
    }
    return _model("rx", nodes, inputs, outputs, constants)


def _features(modes: ModeTable, from_words: bool = False) -> dict[str, tuple[int, list[str | int]]]:
    features: dict[str, tuple[int, list[str | int]]] = {"input": (TensorProto.FLOAT, ["batch", CLASSES + 1])}
    if from_words:
        names = ("input_ids", "attention_mask")
        features = {name: (TensorProto.INT64, ["batch", "length"]) for name in names}
    features["snr_db"] = (TensorProto.FLOAT, ["batch"])
    request = {"mode_request": (TensorProto.INT64, ["requests"])}
    return features | request if len(modes) > 1 else features


def _front() -> list[onnx.NodeProto]:
    """Nodes that give ``input``, and ``features`` of the same values: the sum of the words' rows."""
    return [
        helper.make_node("Gather", ["word_table", "input_ids"], ["rows"], axis=0),
        helper.make_node("Cast", ["attention_mask"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weight", "word_axis"], ["weights_of_words"]),
        helper.make_node("Mul", ["rows", "weights_of_words"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "one"], ["input"], keepdims=0),
        helper.make_node("Identity", ["input"], ["features"]),
    ]


def _scores() -> list[onnx.NodeProto]:
    return [helper.make_node("Slice", ["input", "zero", "score_end", "one"], ["scores"])]


def _choice(modes: ModeTable, routing: Routing) -> list[onnx.NodeProto]:
    """Nodes that give ``chosen``: what is requested, or else what the router says."""
    if routing.router == "content":
        nodes = [
            helper.make_node("Slice", ["input", "score_end", "input_end", "one"], ["wish"]),
            helper.make_node("Squeeze", ["wish", "one"], ["wished"]),
            helper.make_node("Cast", ["wished"], ["routed"], to=TensorProto.INT64),
        ]
    else:
        nodes = [
            helper.make_node("Unsqueeze", ["snr_db", "one"], ["snr_column"]),
            helper.make_node("GreaterOrEqual", ["snr_column", "thresholds"], ["is_above"]),
            helper.make_node("Cast", ["is_above"], ["above"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", ["above", "one"], ["step"], keepdims=0),
            helper.make_node("Gather", ["step_modes", "step"], ["routed"], axis=0),
        ]
    if len(modes) == 1:
        return [*nodes, helper.make_node("Identity", ["routed"], ["chosen"])]
    return [
        *nodes,
        helper.make_node("Shape", ["snr_db"], ["batch_shape"]),
        helper.make_node("Expand", ["mode_request", "batch_shape"], ["requested"]),
        helper.make_node("GreaterOrEqual", ["requested", "no_mode"], ["is_requested"]),
        helper.make_node("Where", ["is_requested", "requested", "routed"], ["chosen"]),
    ]


def _constants(routing: Routing) -> dict[str, np.ndarray]:
    return {
        "zero": np.array([0]),
        "score_end": np.array([CLASSES]),
        "input_end": np.array([CLASSES + 1]),
        "one": np.array([1]),
        "word_axis": np.array([2]),
        "word_table": _word_table(),
        "thresholds": np.array(routing.table.thresholds_db, dtype=np.float32),
        "step_modes": np.array(routing.table.modes),
        "classes": np.int64(CLASSES),
        "no_mode": np.int64(0),
        # The default of an input of the same name: no request.
        "mode_request": np.array([-1]),
    }


def _model(name, nodes, inputs, outputs, constants) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    used = {entry for node in nodes for entry in node.input}
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, *value) for key, value in inputs.items()],
        [helper.make_tensor_value_info(key, *value) for key, value in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items() if key in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _save(path: Path, model: onnx.ModelProto) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))
