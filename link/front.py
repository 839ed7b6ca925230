"""What stands ahead of a link whose transmitter takes text."""

from __future__ import annotations

from dataclasses import dataclass

from twophase.link.errors import InputError

__all__ = ["BACKBONE_PROGRAM", "TOKENIZER_FILE", "Front"]

TOKENIZER_FILE = "tokenizer.json"
"""The tokenizer of a text link in the format of the ``tokenizers`` library, in its run and in its bundle."""
BACKBONE_PROGRAM = "programs/backbone.pt2"
"""The program of a run that takes token ids and a mask and gives the features that the head takes."""


@dataclass(frozen=True)
class Front:
    """A tokenizer and a backbone in float32; what they give are the features that the link is trained on."""

    backbone: str
    """What it was made from, a name or a path, for people."""
    max_length: int
    """Tokens of a text, special ones included; the rest is cut."""
    pooling: str = "mean"
    """How the backbone makes one vector of the tokens': their mean over the mask."""

    def __post_init__(self) -> None:
        if not self.backbone:
            raise InputError("backbone", "be a name or a path", self.backbone)
        if self.max_length < 2:
            raise InputError("max_length", "be at least 2 tokens", self.max_length)
        if not self.pooling:
            raise InputError("pooling", "name how tokens are pooled", self.pooling)
