"""The model in the form that is exported: tensors in, tensors out, padded to the largest mode.

Each module computes what every mode would give and selects by sample, so that a sample's result does not
depend on its batch.  A link of several modes takes one more input, ``mode_request``: a mode number for all
samples, or -1 to let the router choose.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twophase.link.errors import VerificationError
from twophase.link.grid import EXACT_LIMIT
from twophase.link.modes import Mode
from twophase.link.routing import Routing
from twophase.training.model.integer_grid import ACTIVATION_LIMIT, INPUT_LIMITS, GridLinear, Unit
from twophase.training.model.network import LinkModel, Received, ScaledInput, widen

__all__ = ["FloatSearch", "GridSearch", "HardTransmitter", "ModeChoice", "Receiver", "SoftTransmitter"]


class ModeChoice(nn.Module):
    """Who travels in which mode: the model's router, or the table of a routing that both ends evaluate."""

    def __init__(self, model: LinkModel, routing: Routing) -> None:
        super().__init__()
        self.router = model.router if routing.router == "content" else None
        self.several = len(model.modes) > 1
        table = routing.table
        self.register_buffer("thresholds", torch.tensor(table.thresholds_db, dtype=torch.float32))
        self.register_buffer("steps", torch.tensor(table.modes, dtype=torch.int64))

    def forward(self, content: Tensor, snr_db: Tensor, request: Tensor | None) -> Tensor:
        """Mode numbers: (batch, width), (batch,), (1,) -> (batch,) int64."""
        if not self.several:
            return torch.zeros_like(snr_db, dtype=torch.int64)
        if self.router is not None:
            routed = self.router.scores(content, snr_db).argmax(-1)
        elif len(self.get_buffer("thresholds")) == 0:
            # Not as an empty sum: ONNX Runtime 1.31 confuses the buffers of tensors without elements.
            routed = self.get_buffer("steps").expand_as(snr_db)
        else:
            step = (snr_db[:, None] >= self.get_buffer("thresholds")).sum(-1)
            routed = F.embedding(step, self.get_buffer("steps")[:, None])[:, 0]
        if request is None:
            return routed
        wanted = request.expand_as(snr_db)
        return torch.where(wanted >= 0, wanted, routed)


class FloatSearch(nn.Module):
    """Features to codeword indices in float32."""

    def __init__(self, model: LinkModel) -> None:
        super().__init__()
        self.model = model

    def content(self, features: Tensor) -> Tensor:
        """(batch, *input_shape) -> (batch, hidden)."""
        return self.model.content(features)

    def routed_content(self, content: Tensor) -> Tensor:
        """What a router sees of the content, on the scale of its training."""
        return content

    def indices(self, content: Tensor, mode: Mode) -> Tensor:
        """(batch, hidden) -> (batch, N)."""
        codebook = self.model.codebook(mode)
        return codebook.hard_indices(codebook.scores(self.model.latents(content, mode)))


class _GridLayer(nn.Module):
    """A layer in whole numbers: products, sums, and a shift to the unit of its output.

    ``input_limit`` is the largest magnitude of an input; the output is clipped between ``limits``, in units.
    """

    def __init__(
        self,
        layer: GridLinear,
        input_unit: Unit,
        input_limit: int,
        output_unit: Unit,
        limits: tuple[int, int],
    ) -> None:
        super().__init__()
        if (largest := layer.largest_sum(input_unit, input_limit)) >= EXACT_LIMIT:
            raise VerificationError(
                "the transmitter's integer grid",
                [f"a sum may reach {largest:.3g}, not below 2^24: lower --learning-rate or --hidden"],
            )
        weight, bias = layer.whole_numbers(input_unit)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.shift = 2.0 ** (layer.unit.known + input_unit.known - output_unit.known)
        self.limits = limits

    def forward(self, inputs: Tensor) -> Tensor:
        """Whole numbers in, whole numbers out, all of them float32: (batch, in) -> (batch, out)."""
        sums = F.linear(inputs, self.get_buffer("weight"), self.get_buffer("bias"))
        return (sums * self.shift).round().clamp(*self.limits)


class GridSearch(nn.Module):
    """Features to codeword indices in whole numbers, held in float32.

    It computes what the model computes on its grid, every number divided by its unit: no sum reaches 2^24,
    so that each is exact in whatever order it is taken.
    """

    def __init__(self, model: LinkModel) -> None:
        super().__init__()
        encoder, rectified = model.encoder, (0, ACTIVATION_LIMIT)
        units = (encoder.input_unit, encoder.first_unit, encoder.second_unit)
        self.input = ScaledInput(encoder.scale, 2.0 ** units[0].known)
        self.content_unit = 2.0 ** units[2].known
        self.dim = model.link.embedding_dim
        self.first = _GridLayer(encoder.first, units[0], -INPUT_LIMITS[0], units[1], rectified)
        self.second = _GridLayer(encoder.second, units[1], ACTIVATION_LIMIT, units[2], rectified)
        heads = []
        for mode in model.one_mode_per_codebook():
            codebook, head = model.codebook(mode), model.latent_head(mode)
            limits = (-codebook.latent_limit, codebook.latent_limit)
            heads.append(_GridLayer(head, units[2], ACTIVATION_LIMIT, codebook.unit, limits))
            words = codebook.unit.units_of(codebook.words, *limits)
            self.register_buffer(f"codebook_{mode.codebook}", 2 * words)
            self.register_buffer(f"energy_{mode.codebook}", words.square().sum(-1))
        self.heads = nn.ModuleList(heads)

    def content(self, features: Tensor) -> Tensor:
        """(batch, *input_shape) -> (batch, hidden), in units."""
        inputs = self.input(features).round().clamp(*INPUT_LIMITS)
        content: Tensor = self.second(self.first(inputs))
        return content

    def routed_content(self, content: Tensor) -> Tensor:
        """What a router sees of the content, on the scale of its training."""
        return content * self.content_unit

    def indices(self, content: Tensor, mode: Mode) -> Tensor:
        """argmax_k 2 z . c_k - |c_k|^2, ties to the lowest index: (batch, hidden) -> (batch, N)."""
        latents = self.heads[mode.codebook](content).reshape(-1, mode.tokens, self.dim)
        energy = self.get_buffer(f"energy_{mode.codebook}")
        return F.linear(latents, self.get_buffer(f"codebook_{mode.codebook}"), -energy).argmax(-1)


class HardTransmitter(nn.Module):
    """The deployed transmitter, in the form that is exported; integers out."""

    def __init__(self, model: LinkModel, routing: Routing) -> None:
        super().__init__()
        self.model = model
        self.search = GridSearch(model) if model.on_grid else FloatSearch(model)
        self.choice = ModeChoice(model, routing)
        self.register_buffer("bit_counts", torch.tensor([mode.channel_bits for mode in model.modes]))
        self.register_buffer("symbol_counts", torch.tensor([mode.symbols for mode in model.modes]))

    def forward(
        self, features: Tensor, snr_db: Tensor, mode_request: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """(mode, indices, bits, symbols, bit_count, symbol_count), padded to the largest mode."""
        model, modes = self.model, self.model.modes
        content = self.search.content(features)
        chosen = self.choice(self.search.routed_content(content), snr_db, mode_request)
        # The modes of one codebook share its search.
        searched: dict[int, Tensor] = {}
        for mode in modes:
            if mode.codebook not in searched:
                found = self.search.indices(content, mode)
                searched[mode.codebook] = widen(found, modes.max_tokens, -1)
        indices = _select([searched[mode.codebook] for mode in modes], chosen)

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

    def __init__(self, model: LinkModel, routing: Routing, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.choice = ModeChoice(model, routing)
        self.temperature = temperature

    def forward(
        self, features: Tensor, snr_db: Tensor, mode_request: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(mode, symbols_iq), padded to the largest mode."""
        model, modes = self.model, self.model.modes
        content = model.content(features)
        chosen = self.choice(content, snr_db, mode_request)
        symbols = []
        for mode in modes:
            scores = model.codebook(mode).scores(model.latents(content, mode))
            soft = model.soft_transmit(scores, mode, self.temperature).symbols
            symbols.append(widen(soft, modes.max_symbols, 0))
        return chosen, _select(symbols, chosen)


class Receiver(nn.Module):
    """The receiver, in the form that is exported: it sees LLRs, mode and its own weights."""

    def __init__(self, model: LinkModel) -> None:
        super().__init__()
        self.model = model
        # Of modes that share a codebook, in any constellation, the codewords are decoded once.
        codebooks = list(dict.fromkeys(mode.codebook for mode in model.modes))
        self.codebook_of = [codebooks.index(mode.codebook) for mode in model.modes]
        self.register_buffer("codebook_numbers", torch.tensor(self.codebook_of, dtype=torch.int64))

    def forward(self, llr: Tensor, mode: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(logits, posterior, indices), padded to the largest mode."""
        model, modes = self.model, self.model.modes
        features: list[Tensor] = []
        decoded: dict[int, Received] = {}
        for entry, codebook in zip(modes, self.codebook_of, strict=True):
            if codebook not in decoded:
                decoded[codebook] = model.receive(llr[:, : entry.information_bits], entry)
            seen = decoded[codebook]
            features.append(model.features(seen.embedding, seen.soft_bits, entry))
        logits = model.classify(_select(features, mode))
        posteriors, indices = [], []
        for seen in decoded.values():
            missing = modes.max_codebook_size - seen.posterior.shape[-1]
            posteriors.append(widen(F.pad(seen.posterior, (0, missing)), modes.max_tokens, 0))
            indices.append(widen(seen.posterior.argmax(-1), modes.max_tokens, -1))
        number = F.embedding(mode, self.get_buffer("codebook_numbers")[:, None])[:, 0]
        return logits, _select(posteriors, number), _select(indices, number)


def _select(per_mode: list[Tensor], chosen: Tensor) -> Tensor:
    """Row i of the tensor of its mode: list of (batch, ...) -> (batch, ...)."""
    if len(per_mode) == 1:
        return per_mode[0]
    stacked = torch.stack(per_mode, 1)
    place = chosen.view(-1, *([1] * (stacked.dim() - 1))).expand(-1, 1, *stacked.shape[2:])
    return stacked.gather(1, place)[:, 0]
