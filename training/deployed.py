"""The model in the form that is exported: tensors in, tensors out, padded to the largest mode.

Each module computes what every mode would give and selects by sample, so that a sample's result does not
depend on its batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twophase.training.model import LinkModel, widen

__all__ = ["HardTransmitter", "Receiver", "SoftTransmitter"]


class HardTransmitter(nn.Module):
    """The deployed transmitter, in the form that is exported; integers out."""

    def __init__(self, model: LinkModel) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("bit_counts", torch.tensor([mode.channel_bits for mode in model.modes]))
        self.register_buffer("symbol_counts", torch.tensor([mode.symbols for mode in model.modes]))

    def forward(self, features: Tensor, snr_db: Tensor) -> tuple[Tensor, ...]:
        """(mode, indices, bits, symbols, bit_count, symbol_count), padded to the largest mode."""
        model, modes = self.model, self.model.modes
        chosen = model.choose_mode(features, snr_db)
        found = [
            codebook.hard_indices(codebook.scores(model.latents(features, mode)))
            for mode, codebook in ((mode, model.codebook(mode)) for mode in modes)
        ]
        indices = _select([widen(entry, modes.max_tokens, -1) for entry in found], chosen)

        # From here on nothing but the indices and the mode: the exporter cuts the graph at this point.
        signals = [
            model.digital_signal(indices[:, : mode.tokens].clamp(0, mode.codebook_size - 1), mode)
            for mode in modes
        ]
        bits = _select([widen(s.bits, modes.max_bits, 0) for s in signals], chosen)
        symbols = _select([widen(s.points, modes.max_symbols, 0) for s in signals], chosen)
        return (
            chosen,
            indices,
            bits,
            symbols,
            self._counts("bit_counts", chosen),
            self._counts("symbol_counts", chosen),
        )

    def _counts(self, name: str, chosen: Tensor) -> Tensor:
        return F.embedding(chosen, self.get_buffer(name)[:, None])[:, 0]


class SoftTransmitter(nn.Module):
    """The soft reference transmitter at one temperature, in the form that is exported."""

    def __init__(self, model: LinkModel, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(self, features: Tensor, snr_db: Tensor) -> tuple[Tensor, Tensor]:
        """(mode, symbols_iq), padded to the largest mode."""
        model, modes = self.model, self.model.modes
        chosen = model.choose_mode(features, snr_db)
        symbols = []
        for mode in modes:
            scores = model.codebook(mode).scores(model.latents(features, mode))
            soft = model.soft_transmit(scores, mode, self.temperature).symbols
            symbols.append(widen(soft, modes.max_symbols, 0))
        return chosen, _select(symbols, chosen)


class Receiver(nn.Module):
    """The receiver, in the form that is exported: it sees LLRs, mode and its own weights."""

    def __init__(self, model: LinkModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, llr: Tensor, mode: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(logits, posterior, indices), padded to the largest mode."""
        model, modes = self.model, self.model.modes
        logits, posteriors, indices = [], [], []
        for entry in modes:
            seen = model.receive(llr[:, : entry.channel_bits], entry)
            logits.append(model.classify(model.features(seen.embedding, seen.soft_bits, entry)))
            missing = modes.max_codebook_size - entry.codebook_size
            posteriors.append(widen(F.pad(seen.posterior, (0, missing)), modes.max_tokens, 0))
            indices.append(widen(seen.posterior.argmax(-1), modes.max_tokens, -1))
        return _select(logits, mode), _select(posteriors, mode), _select(indices, mode)


def _select(per_mode: list[Tensor], chosen: Tensor) -> Tensor:
    """Row i of the tensor of its mode: list of (batch, ...) -> (batch, ...)."""
    if len(per_mode) == 1:
        return per_mode[0]
    stacked = torch.stack(per_mode, 1)
    place = chosen.view(-1, *([1] * (stacked.dim() - 1))).expand(-1, 1, *stacked.shape[2:])
    return stacked.gather(1, place)[:, 0]
