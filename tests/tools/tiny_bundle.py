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

from itertools import product
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tools.mutate import nodes
from tools.tiny_text import FILLERS, NUMERALS, OPINIONS, WORDS, sentences, text_arrays, write_tokenizer
from twophase.link.bits import bits_to_symbols, indices_to_bits, pad_bits
from twophase.link.constellation import qam
from twophase.link.input_scale import InputScale
from twophase.link.manifest import EVAL_FILE, TOKENIZER_FILE, Front, Manifest, Reference, write_manifest
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
    link: LinkConfig = LINK,
    references: tuple[str, ...] = ("learning", "aligned"),
    samples: int = 240,
    wrong_receiver: bool = False,
    wrong_learning_receiver: bool = False,
    text: bool = False,
) -> Path:
    """Write a bundle into ``folder`` and return it.

    ``hysteresis_db`` is that of the router ``table``.
    ``wrong_receiver`` swaps two classes in the deployed receiver, which the verdict must notice;
    ``wrong_learning_receiver`` swaps them in the one of the learning reference.
    ``text`` puts a tokenizer and a table of words ahead of it.
    """
    modes = link.modes
    table = TABLE if len(modes) > 1 else SnrTable((), (0,))
    header = HEADER if router == "content" else ()
    routing = Routing(router if len(modes) > 1 else "fixed", table, hysteresis_db, header)
    tables = _tables(modes)
    graphs = {
        "tx_head.onnx" if text else "tx.onnx": _transmitter(tables, modes, routing),
        "rx.onnx": _receiver(tables, modes, swapped=wrong_receiver),
        "soft.onnx": _soft_transmitter(tables, modes, routing, temperature=0.5),
    }
    if "aligned" in references:
        graphs["rx_aligned.onnx"] = _receiver(tables, modes, swapped=False)
    if "learning" in references:
        graphs["soft_learning.onnx"] = _soft_transmitter(tables, modes, routing, temperature=0.7)
        graphs["rx_learning.onnx"] = _receiver(tables, modes, swapped=wrong_learning_receiver)
    if text:
        graphs["tx.onnx"] = _transmitter(tables, modes, routing, from_words=True)
    folder.mkdir(parents=True)
    for name, model in graphs.items():
        (folder / name).write_bytes(model.SerializeToString(deterministic=True))
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, samples)
    scores = 2.0 * np.eye(CLASSES)[label] + 0.5 * rng.standard_normal((samples, CLASSES))
    wanted = rng.integers(0, len(modes), samples)
    split = {"input": np.column_stack([scores, wanted]).astype(np.float32), "label": label}
    if text:
        encoder = TextEncoder(write_tokenizer(folder / TOKENIZER_FILE), FRONT.max_length)
        split = text_arrays(sentences(label, rng, wanted), label, CLASSES, encoder)
        split["input"] = word_features(split["input_ids"], split["attention_mask"])
    else:
        wrong = np.random.default_rng(1).random(samples) < 0.05
        split["without_link"] = np.where(wrong, (label + 1) % CLASSES, label)
    np.savez(folder / EVAL_FILE, **split)
    files = (*graphs, EVAL_FILE, *((TOKENIZER_FILE,) if text else ()))
    write_manifest(folder, _manifest(link, routing, references, FRONT if text else None), files)
    return folder


def _manifest(
    link: LinkConfig, routing: Routing, references: tuple[str, ...], front: Front | None
) -> Manifest:
    learning = ("best model of the learning phase, soft", "soft_learning.onnx", "rx_learning.onnx", 0.7)
    known = {
        "learning": Reference("learning", *learning),
        "aligned": Reference(
            "aligned", "aligned model on its soft path", "soft.onnx", "rx_aligned.onnx", 0.5
        ),
    }
    return Manifest(
        kind="bundle",
        task="tiny",
        classes=tuple("abcd"),
        input_shape=(CLASSES + 1,),
        input=InputScale(),
        link=link,
        routing=routing,
        codebooks=tuple(tuple((float(k), 0.0) for k in range(size)) for size in link.codebook_sizes),
        labels=LABELS[: len(link.codebook_sizes)],
        usage=tuple((1 / size,) * size for size in link.codebook_sizes),
        symbol_energy=(1.0,) * len(link.modes),
        class_frequency=(1 / CLASSES,) * CLASSES,
        llr_clip=100.0,
        references=tuple(known[name] for name in references),
        training={
            "method": "by hand",
            "seed": 0,
            "deployed": {"train_accuracy_hard": 0.99, "validation_accuracy_hard": 0.97},
        },
        provenance={},
        front=front,
    )


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
    for row, (mode, label) in enumerate(product(modes, range(CLASSES))):
        sent = np.array(SENT[mode.codebook][label])
        labels = np.array(LABELS[mode.codebook])[sent]
        bits = pad_bits(indices_to_bits(labels, mode.bits_per_index).ravel(), mode.bits_per_symbol)
        symbols = bits_to_symbols(bits, mode.bits_per_symbol)
        points = qam(mode.order).points[symbols]
        iq = np.stack([points.real, points.imag], axis=-1)
        for name, value in {"indices": sent, "bits": bits, "symbols": symbols, "iq": iq}.items():
            tables[name][row, : len(value)] = value
        tables["bit_count"][row], tables["symbol_count"][row] = bits.size, symbols.size
    return tables


Ports = dict[str, tuple[int, list[str | int]]]
"""Types and axes of inputs or outputs."""


def _transmitter(
    tables: dict[str, np.ndarray], modes: ModeTable, routing: Routing, from_words: bool = False
) -> onnx.ModelProto:
    outputs: Ports = {
        "mode": (TensorProto.INT64, ["batch"]),
        "indices": (TensorProto.INT64, ["batch", modes.max_tokens]),
        "bits": (TensorProto.UINT8, ["batch", modes.max_bits]),
        "symbols": (TensorProto.INT64, ["batch", modes.max_symbols]),
        "bit_count": (TensorProto.INT64, ["batch"]),
        "symbol_count": (TensorProto.INT64, ["batch"]),
    }
    text = _choice(modes, routing) + (
        "; best = ArgMax<axis=1, keepdims=0>(scores); first_row = Mul(chosen, classes);"
        "row = Add(first_row, best)"
    )
    text += "".join(f"; {name} = Gather<axis=0>({name}_table, row)" for name in outputs)
    constants = {f"{name}_table": tables[name] for name in outputs} | _constants(routing)
    if from_words:
        text = f"{_FRONT}; {text}"
        outputs["features"] = (TensorProto.FLOAT, ["batch", CLASSES + 1])
    return _model("tx", text, _features(modes, from_words), outputs, constants)


def _soft_transmitter(
    tables: dict[str, np.ndarray], modes: ModeTable, routing: Routing, temperature: float
) -> onnx.ModelProto:
    width = modes.max_symbols
    text = _choice(modes, routing) + (
        "; mode = Identity(chosen); sharpened = Div(scores, temperature);"
        "weights = Softmax<axis=1>(sharpened); row_weights = Unsqueeze(weights, one);"
        "candidates = Gather<axis=0>(iq_table, chosen); mixed = MatMul(row_weights, candidates);"
        "symbols_iq = Reshape(mixed, iq_shape)"
    )
    constants = _constants(routing) | {
        "temperature": np.float32(temperature),
        "iq_table": tables["iq"].reshape(len(modes), CLASSES, width * 2),
        "iq_shape": np.array([-1, width, 2]),
    }
    outputs: Ports = {
        "mode": (TensorProto.INT64, ["batch"]),
        "symbols_iq": (TensorProto.FLOAT, ["batch", width, 2]),
    }
    return _model("soft", text, _features(modes), outputs, constants)


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
        mask[number, : mode.tokens, :size] = 0
        for token in range(mode.tokens):
            signs[number, token, :size, token * step : (token + 1) * step] = bits
    text = (
        "column = Unsqueeze(llr, last_axis); class_rows = Gather<axis=0>(class_signs, mode);"
        "class_column = MatMul(class_rows, column); logits = Squeeze(class_column, last_axis);"
        "token_rows = Gather<axis=0>(signs, mode); token_column = MatMul(token_rows, column);"
        "correlation = Reshape(token_column, token_shape); token_mask = Gather<axis=0>(mask, mode);"
        "evidence = Add(correlation, token_mask); posterior = Softmax<axis=2>(evidence);"
        "likeliest = ArgMax<axis=2, keepdims=0>(evidence); is_used = Gather<axis=0>(used_token, mode);"
        "indices = Where(is_used, likeliest, absent)"
    )
    constants = {
        "last_axis": np.array([2]),
        "class_signs": class_signs.astype(np.float32),
        "signs": signs.reshape(len(modes), tokens * codewords, width).astype(np.float32),
        "token_shape": np.array([-1, tokens, codewords]),
        "mask": mask.astype(np.float32),
        "used_token": np.arange(tokens) < np.array([[mode.tokens] for mode in modes]),
        "absent": np.int64(-1),
    }
    inputs: Ports = {"llr": (TensorProto.FLOAT, ["batch", width]), "mode": (TensorProto.INT64, ["batch"])}
    outputs: Ports = {
        "logits": (TensorProto.FLOAT, ["batch", CLASSES]),
        "posterior": (TensorProto.FLOAT, ["batch", tokens, codewords]),
        "indices": (TensorProto.INT64, ["batch", tokens]),
    }
    return _model("rx", text, inputs, outputs, constants)


def _features(modes: ModeTable, from_words: bool = False) -> Ports:
    inputs: Ports = {"input": (TensorProto.FLOAT, ["batch", CLASSES + 1])}
    if from_words:
        inputs = dict.fromkeys(("input_ids", "attention_mask"), (TensorProto.INT64, ["batch", "length"]))
    inputs["snr_db"] = (TensorProto.FLOAT, ["batch"])
    return inputs | ({"mode_request": (TensorProto.INT64, ["requests"])} if len(modes) > 1 else {})


_FRONT = (
    f"rows = Gather<axis=0>(word_table, input_ids); weight = Cast<to={TensorProto.FLOAT}>(attention_mask);"
    "weights_of_words = Unsqueeze(weight, word_axis); counted = Mul(rows, weights_of_words);"
    "input = ReduceSum<keepdims=0>(counted, one); features = Identity(input)"
)
"""Nodes that give ``input``, and ``features`` of the same values: the sum of the words' rows."""


def _choice(modes: ModeTable, routing: Routing) -> str:
    """Nodes that give the ``scores`` of classes, and ``chosen``: what is requested or routed."""
    text = "scores = Slice(input, zero, score_end, one);"
    if routing.router == "content":
        text += "wish = Slice(input, score_end, input_end, one); wished = Squeeze(wish, one);"
        text += f"routed = Cast<to={TensorProto.INT64}>(wished)"
    else:
        text += "snr_column = Unsqueeze(snr_db, one); is_above = GreaterOrEqual(snr_column, thresholds);"
        text += f"above = Cast<to={TensorProto.INT64}>(is_above); step = ReduceSum<keepdims=0>(above, one);"
        text += "routed = Gather<axis=0>(step_modes, step)"
    if len(modes) == 1:
        return f"{text}; chosen = Identity(routed)"
    return text + (
        "; batch_shape = Shape(snr_db); requested = Expand(mode_request, batch_shape);"
        "is_requested = GreaterOrEqual(requested, no_mode); chosen = Where(is_requested, requested, routed)"
    )


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


def _model(
    name: str, text: str, inputs: Ports, outputs: Ports, constants: dict[str, np.ndarray]
) -> onnx.ModelProto:
    made = nodes(text)
    used = {entry for node in made for entry in node.input}
    graph = helper.make_graph(
        made,
        name,
        [helper.make_tensor_value_info(key, *value) for key, value in inputs.items()],
        [helper.make_tensor_value_info(key, *value) for key, value in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items() if key in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
