"""The neural link: encoder, codebooks and classifier, with a hard and a soft way through.

One sample travels in one mode (a codebook over a constellation); the methods that take a ``mode`` work on
samples that share it.  ``exported`` wraps the model for export.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twophase.link.grid import CODEWORD_LIMIT
from twophase.link.input_scale import InputScale
from twophase.link.modes import LinkConfig, Mode
from twophase.training.model.codebook import Codebook
from twophase.training.model.integer_grid import ACTIVATION_LIMIT, INPUT_LIMITS, GridLinear, Unit
from twophase.training.model.router import Router
from twophase.training.model.soft_symbols import (
    QamTables,
    codeword_log_posterior,
    exact_llr,
    hard_symbols,
    product_symbols,
    reported_symbols,
)

__all__ = [
    "Encoder",
    "HardSignal",
    "LinkModel",
    "Received",
    "ScaledInput",
    "SoftSignal",
    "pack_bits",
    "widen",
]


@dataclass(frozen=True)
class HardSignal:
    """What the deployed transmitter makes of a batch of latents."""

    indices: Tensor
    """(batch, N) int64."""
    bits: Tensor
    """(batch, channel_bits) uint8, zero-padded to whole symbols."""
    points: Tensor
    """(batch, n) int64: constellation point numbers."""
    symbols: Tensor
    """(batch, n, 2): I and Q of these points."""


@dataclass(frozen=True)
class SoftSignal:
    """Its soft surrogate."""

    assignment: Tensor
    """(batch, N, K): softmax over the codewords."""
    bit_probs: Tensor
    """(batch, channel_bits): P(b=1), zero for padding."""
    symbols: Tensor
    """(batch, n, 2)."""


@dataclass(frozen=True)
class Received:
    """What the classifier sees of a sample; a function of LLRs and mode alone."""

    posterior: Tensor
    """(batch, N, K)."""
    embedding: Tensor
    """(batch, N, C): posterior mean of the sent codewords (the MMSE estimate)."""
    soft_bits: Tensor
    """(batch, information_bits): tanh(LLR / 2) = E[2b - 1 | LLR]."""


class ScaledInput(nn.Module):
    """Features in the units of the data to what the first layer takes: :mod:`twophase.link.input_scale`.

    The result is counted in units of ``unit``, a power of two.
    """

    def __init__(self, scale: InputScale, unit: float = 1.0) -> None:
        super().__init__()
        self.has_offset = any(scale.offset)
        self.register_buffer("offset", torch.tensor(scale.offset), persistent=False)
        factors = [2.0**-exponent / unit for exponent in scale.exponent]
        self.factor = factors[0] if len(factors) == 1 else None
        self.register_buffer("factors", torch.tensor(factors), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, *input_shape) -> (batch, features)."""
        flat = features.flatten(1)
        if self.has_offset:
            flat = flat - self.get_buffer("offset")
        if self.factor is None:
            flat = flat * self.get_buffer("factors")
        elif self.factor != 1:
            flat = flat * self.factor
        return flat


class Encoder(nn.Module):
    """Features in the units of the data, scaled, and two layers to what codebooks and router see of a sample.

    ``activation`` is a rectifier where the layers come to lie on a grid, whose activations are whole numbers
    from 0 up.
    """

    def __init__(self, features: int, hidden: int, activation: nn.Module, scale: InputScale) -> None:
        super().__init__()
        self.first, self.second = GridLinear(features, hidden), GridLinear(hidden, hidden)
        self.activation = activation
        self.input_unit, self.first_unit, self.second_unit = Unit(), Unit(), Unit()
        self.scale, self.input = scale, ScaledInput(scale)

    def scaled(self, features: Tensor) -> Tensor:
        """What the first layer takes, real numbers: (batch, *input_shape) -> (batch, features)."""
        values: Tensor = self.input(features)
        return values if self.scale.limits is None else values.clamp(*self.scale.limits)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, *input_shape) -> (batch, hidden)."""
        inputs = self.input_unit.snap(self.scaled(features), *INPUT_LIMITS)
        first = self.activation(self.first.on(inputs, self.input_unit))
        first = self.first_unit.snap(first, 0, ACTIVATION_LIMIT)
        second = self.activation(self.second.on(first, self.first_unit))
        return self.second_unit.snap(second, 0, ACTIVATION_LIMIT)

    @torch.no_grad()
    def cover(self, features: Tensor) -> None:
        """Choose units that cover the values that ``features`` lead to."""
        flat = self.scaled(features)
        largest = float(flat.abs().max())
        if self.scale.limits is not None:  # one more unit lies below zero than above
            largest = min(largest, self.scale.limits[1])
        self.input_unit.cover(largest, INPUT_LIMITS[1])
        self.first.cover(self.input_unit, -INPUT_LIMITS[0])
        first = self.activation(self.first.on(self.input_unit.snap(flat, *INPUT_LIMITS), self.input_unit))
        self.first_unit.cover(float(first.max()), ACTIVATION_LIMIT)
        self.second.cover(self.first_unit, ACTIVATION_LIMIT)
        first = self.first_unit.snap(first, 0, ACTIVATION_LIMIT)
        second = self.activation(self.second.on(first, self.first_unit))
        self.second_unit.cover(float(second.max()), ACTIVATION_LIMIT)


class LinkModel(nn.Module):
    """Encoder, codebooks, constellation tables and classifier of a link.

    Parameters
    ----------
    input_shape
        Shape of one sample's features.
    hidden
        Width of encoder and classifier.
    surrogate
        ``product`` or ``reported``: the map from bit probabilities to soft symbols.
    content_router
        Whether the router reads the content as well as the SNR.  A link of one mode has no router.
    snr_range_db
        Lowest and highest Es/N0 of training, for the router.
    on_grid
        Whether the transmitter will compute on an integer grid, which ``cover_grid`` lays down.
    scale
        Units of the features.
    """

    def __init__(
        self,
        link: LinkConfig,
        input_shape: tuple[int, ...],
        classes: int,
        hidden: int,
        surrogate: str,
        *,
        content_router: bool = False,
        snr_range_db: tuple[float, float] = (-15.0, 33.0),
        on_grid: bool = False,
        scale: InputScale | None = None,
    ) -> None:
        super().__init__()
        self.link = link
        self.modes = link.modes
        self.surrogate = surrogate
        features = torch.Size(input_shape).numel()
        self.codebooks = nn.ModuleList(Codebook(size, link.embedding_dim) for size in link.codebook_sizes)
        self.constellations = nn.ModuleDict({str(order): QamTables(order) for order in link.qam_orders})
        activation = nn.ReLU() if on_grid else nn.GELU()
        self.encoder = Encoder(features, hidden, activation, scale or InputScale())
        self.latent_heads = nn.ModuleList(
            GridLinear(hidden, count * link.embedding_dim) for count in link.tokens
        )
        self.mode_inputs = nn.ModuleList(
            nn.Linear(mode.tokens * link.embedding_dim + mode.information_bits, hidden) for mode in self.modes
        )
        self.classifier = nn.Sequential(
            nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, classes)
        )
        several = len(self.modes) > 1
        self.router = Router(link, hidden if content_router else 0, snr_range_db) if several else None

    def codebook(self, mode: Mode) -> Codebook:
        """The codebook of a mode."""
        module = self.codebooks[mode.codebook]
        assert isinstance(module, Codebook)
        return module

    def tables(self, mode: Mode) -> QamTables:
        """The constellation of a mode."""
        module = self.constellations[str(mode.order)]
        assert isinstance(module, QamTables)
        return module

    def content(self, features: Tensor) -> Tensor:
        """What the codebooks and the router see of a sample: (batch, *input_shape) -> (batch, hidden)."""
        result: Tensor = self.encoder(features)
        return result

    def latents(self, content: Tensor, mode: Mode) -> Tensor:
        """(batch, hidden) -> (batch, N, C)."""
        flat = self.latent_head(mode).on(content, self.encoder.second_unit)
        return self.codebook(mode).snap_latents(flat.reshape(-1, mode.tokens, self.link.embedding_dim))

    def latent_head(self, mode: Mode) -> GridLinear:
        """The layer that makes a mode's latents."""
        module = self.latent_heads[mode.codebook]
        assert isinstance(module, GridLinear)
        return module

    @torch.no_grad()
    def cover_grid(self, features: Tensor) -> None:
        """Lay the transmitter on an integer grid whose units cover the values that ``features`` lead to.

        Units that are laid down already only grow, so that they settle as the training goes on.
        """
        self.encoder.cover(features)
        for mode in self.one_mode_per_codebook():
            codebook = self.codebook(mode)
            codebook.unit.cover(float(codebook.codewords.abs().max()), CODEWORD_LIMIT)
            self.latent_head(mode).cover(self.encoder.second_unit, ACTIVATION_LIMIT)

    @property
    def on_grid(self) -> bool:
        """Whether the transmitter computes on an integer grid."""
        return self.encoder.input_unit.exponent is not None

    def one_mode_per_codebook(self) -> list[Mode]:
        """The first mode of each codebook, in their order."""
        return list({mode.codebook: mode for mode in reversed(list(self.modes))}.values())[::-1]

    def hard_transmit(self, scores: Tensor, mode: Mode) -> HardSignal:
        """Digital transmitter: nearest codewords, label bits, points; no softmax, no temperature."""
        return self.digital_signal(self.codebook(mode).hard_indices(scores), mode)

    def digital_signal(self, indices: Tensor, mode: Mode) -> HardSignal:
        """What is sent for codeword indices (batch, N): table look-ups and bit packing, nothing else."""
        information = self.codebook(mode).hard_bits(indices).reshape(-1, mode.information_bits)
        bits = widen(information, mode.channel_bits, 0)
        points = pack_bits(bits, mode.bits_per_symbol)
        return HardSignal(indices, bits, points, hard_symbols(points, self.tables(mode)))

    def soft_transmit(self, scores: Tensor, mode: Mode, temperature: float) -> SoftSignal:
        """Soft surrogate: assignment, bit probabilities, expected symbols."""
        codebook, tables = self.codebook(mode), self.tables(mode)
        assignment = codebook.soft_assignment(scores, temperature)
        information = codebook.soft_bits(assignment).flatten(1)
        bit_probs = F.pad(information, (0, mode.channel_bits - mode.information_bits))
        if self.surrogate == "product":
            symbols = product_symbols(bit_probs, tables)
        else:
            symbols = reported_symbols(bit_probs, tables, temperature)
        return SoftSignal(assignment, bit_probs, symbols)

    def llr(self, symbols: Tensor, energy: Tensor, noise: Tensor, esn0_db: Tensor, mode: Mode) -> Tensor:
        """AWGN channel at unit transmitted energy, and the demapper that knows gain and noise variance.

        Parameters
        ----------
        symbols
            (batch, n, 2).
        energy
            (batch,): average energy that the symbols are charged for; they are sent divided by its root.
        noise
            (batch, n, 2): standard normal draws.
        esn0_db
            (batch,).

        Returns
        -------
        (batch, channel_bits)
        """
        # Dividing the signal by sqrt(E) and the received value by the gain 1/sqrt(E) again leaves the
        # signal as it was and multiplies the noise variance by E.
        noise_var = (energy * 10 ** (-esn0_db / 10))[:, None]
        received = symbols + noise * (noise_var[..., None] / 2).sqrt()
        return exact_llr(received, noise_var, self.tables(mode))

    def receive(self, llr: Tensor, mode: Mode) -> Received:
        """LLRs (batch, channel_bits) to codeword posterior, MMSE embedding and soft bits."""
        codebook = self.codebook(mode)
        information = llr[:, : mode.information_bits]
        per_token = information.unflatten(1, (mode.tokens, mode.bits_per_index))
        log_posterior = codeword_log_posterior(
            per_token, codebook.label_bits.to(llr.dtype), codebook.log_prior
        )
        posterior = log_posterior.exp()
        return Received(posterior, posterior @ codebook.words, torch.tanh(information / 2))

    def features(self, embedding: Tensor, soft_bits: Tensor, mode: Mode) -> Tensor:
        """First layer of the classifier: (batch, N, C), (batch, information_bits) -> (batch, hidden)."""
        result: Tensor = self.mode_inputs[self.modes.modes.index(mode)](
            torch.cat([embedding.flatten(1), soft_bits], 1)
        )
        return result

    def classify(self, features: Tensor) -> Tensor:
        """(batch, hidden) -> (batch, classes)."""
        result: Tensor = self.classifier(features)
        return result


def pack_bits(bits: Tensor, bits_per_symbol: int) -> Tensor:
    """(batch, n * bits_per_symbol) bits, MSB first -> (batch, n) int64 point numbers."""
    places = torch.tensor([1 << place for place in reversed(range(bits_per_symbol))], device=bits.device)
    return (bits.reshape(-1, bits.shape[1] // bits_per_symbol, bits_per_symbol).long() * places).sum(-1)


def widen(values: Tensor, width: int, fill: int) -> Tensor:
    """Pad the second axis to ``width``."""
    if values.shape[1] == width:
        return values
    missing = [0, 0] * (values.dim() - 2) + [0, width - values.shape[1]]
    return F.pad(values, missing, value=fill)
