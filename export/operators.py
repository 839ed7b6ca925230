"""Which operators a graph of a bundle may have: none random, none outside the standard."""

from __future__ import annotations

from onnx import ModelProto

from twophase.export.graph import all_nodes

__all__ = ["RANDOM_OPERATORS", "check_operators"]

RANDOM_OPERATORS = frozenset(
    {
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
"""Operators of ONNX that draw random numbers."""


def check_operators(model: ModelProto) -> list[str]:
    """Problems of a graph's operators: random ones, ones outside the ONNX standard, and ones of its own.

    A function of the model may have the name of a standard operator: what reads operators by their names, as
    the proofs do, would then read another graph than the one that runs.
    """
    functions = {(function.domain, function.name) for function in model.functions}
    problems = [
        f"'{function.domain}.{function.name}' is a function of the model's own, no standard operator"
        for function in model.functions
    ]
    for node in all_nodes(model):
        if node.op_type in RANDOM_OPERATORS:
            problems.append(f"{node.op_type} ('{node.name}') draws random numbers")
        elif node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in functions:
            problems.append(f"{node.op_type} ('{node.name}') of '{node.domain}' is no standard operator")
    return problems
