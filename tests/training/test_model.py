"""The model's hard path is the link's definition, its soft path the surrogate, its receiver blind."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from twophase.link.bits import bits_to_symbols, indices_to_bits, pad_bits
from twophase.link.constellation import qam
from twophase.link.modes import LinkConfig
from twophase.link.routing import Routing, SnrTable, fixed_routing
from twophase.training.model.exported import HardTransmitter, Receiver, SoftTransmitter
from twophase.training.model.network import LinkModel
from twophase.training.phases import charged_energy


def make_model(link: LinkConfig, surrogate: str = "product") -> LinkModel:
    torch.manual_seed(0)
    model = LinkModel(link, input_shape=(6,), classes=3, hidden=16, surrogate=surrogate)
    for mode in model.modes:
        model.codebook(mode).set_labels(torch.randperm(mode.codebook_size))
    return model.eval()


LINKS = [
    LinkConfig((64,), (4,), (16,), 5),
    LinkConfig((4,), (12,), (16,), 3),
    LinkConfig((16,), (3,), (256,), 2),  # 12 bits in two symbols of eight: padding
    LinkConfig((8,), (3,), (4,), 4),  # nine bits in five QPSK symbols
]


@pytest.mark.parametrize("link", LINKS)
def test_hard_path_equals_the_numpy_definition(link: LinkConfig) -> None:
    model, mode = make_model(link), link.modes[0]
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        latents = model.latents(model.content(features), mode).double().numpy()
        sent = [part.numpy() for part in HardTransmitter(model, fixed_routing())(features, torch.zeros(50))]
    codewords = model.codebook(mode).codewords.detach().double().numpy()
    nearest = ((latents[:, :, None] - codewords) ** 2).sum(-1).argmin(-1)
    labels = model.codebook(mode).labels.numpy()[nearest]
    bits = pad_bits(indices_to_bits(labels, mode.bits_per_index).reshape(50, -1), mode.bits_per_symbol)
    symbols = bits_to_symbols(bits, mode.bits_per_symbol)
    for found, expected in zip(sent, [np.zeros(50), nearest, bits, symbols], strict=False):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(sent[4], np.full(50, mode.channel_bits))
    np.testing.assert_array_equal(sent[5], np.full(50, mode.symbols))
    assert [str(part.dtype) for part in sent] == ["int64", "int64", "uint8", "int64", "int64", "int64"]
    with torch.no_grad():
        scores = model.codebook(mode).scores(model.latents(model.content(features), mode))
        points = model.hard_transmit(scores, mode).symbols
    expected_points = qam(mode.order).points[symbols]
    np.testing.assert_allclose(points[..., 0] + 1j * points[..., 1], expected_points, atol=1e-6)


SEVERAL = LinkConfig((4, 16), (3, 2), (4, 16), 2)
BY_SNR = Routing("snr", SnrTable((0.0, 5.0, 10.0), (2, 0, 3, 1)), hysteresis_db=0.0, header=())
SNR_OF_MODE = torch.tensor([2.0, 12.0, -3.0, 7.0])
NO_WISH = torch.tensor([-1])


def test_several_modes_are_selected_by_sample() -> None:
    """A sample gets in a batch of all modes what its mode gives it alone."""
    model, modes = make_model(SEVERAL), SEVERAL.modes
    features = torch.randn(8, 6, generator=torch.Generator().manual_seed(3))
    chosen = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    esn0_db = SNR_OF_MODE[chosen]
    with torch.no_grad():
        sent = HardTransmitter(model, BY_SNR)(features, esn0_db, NO_WISH)
        mode_out, soft = SoftTransmitter(model, BY_SNR, 0.7)(features, esn0_db, NO_WISH)
        llr = torch.randn(8, modes.max_bits, generator=torch.Generator().manual_seed(4))
        logits, posterior, decided = Receiver(model)(llr, chosen)
    _, indices, bits, symbols, bit_count, symbol_count = sent
    assert torch.equal(sent[0], chosen)
    assert torch.equal(mode_out, chosen)
    for sample, number in enumerate(chosen.tolist()):
        mode = modes[number]
        with torch.no_grad():
            content = model.content(features[sample : sample + 1])
            scores = model.codebook(mode).scores(model.latents(content, mode))
            alone = model.hard_transmit(scores, mode)
            soft_alone = model.soft_transmit(scores, mode, 0.7).symbols
            seen = model.receive(llr[sample : sample + 1, : mode.channel_bits], mode)
            score = model.classify(model.features(seen.embedding, seen.soft_bits, mode))
        torch.testing.assert_close(indices[sample, : mode.tokens], alone.indices[0])
        assert (indices[sample, mode.tokens :] == -1).all()
        torch.testing.assert_close(bits[sample, : mode.channel_bits], alone.bits[0])
        assert not bits[sample, mode.channel_bits :].any()
        torch.testing.assert_close(symbols[sample, : mode.symbols], alone.points[0])
        assert not symbols[sample, mode.symbols :].any()
        assert (bit_count[sample], symbol_count[sample]) == (mode.channel_bits, mode.symbols)
        torch.testing.assert_close(soft[sample, : mode.symbols], soft_alone[0])
        assert not soft[sample, mode.symbols :].any()
        torch.testing.assert_close(logits[sample], score[0])
        torch.testing.assert_close(posterior[sample, : mode.tokens, : mode.codebook_size], seen.posterior[0])
        assert not posterior[sample, mode.tokens :].any()
        assert not posterior[sample, :, mode.codebook_size :].any()
        torch.testing.assert_close(decided[sample, : mode.tokens], seen.posterior[0].argmax(-1))
        assert (decided[sample, mode.tokens :] == -1).all()


@pytest.mark.parametrize("link", LINKS)
def test_a_sample_does_not_depend_on_its_batch(link: LinkConfig) -> None:
    model = make_model(link)
    features = torch.randn(30, 6, generator=torch.Generator().manual_seed(5))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(6))
    transmitter = HardTransmitter(model, fixed_routing())
    with torch.no_grad():
        together = transmitter(features, torch.zeros(30))
        permuted = transmitter(features[order], torch.zeros(30))
        alone = [transmitter(features[i : i + 1], torch.zeros(1)) for i in range(30)]
    for place, whole in enumerate(together):
        assert torch.equal(whole[order], permuted[place])
        assert torch.equal(whole, torch.cat([part[place] for part in alone]))


def test_energy_is_charged_by_groups_of_similar_snr() -> None:
    symbols = torch.zeros(16, 2, 2)
    symbols[:8, :, 0] = 2.0
    symbols[8:, :, 0] = 1.0
    energy = charged_energy(symbols)
    torch.testing.assert_close(energy, torch.tensor([4.0] * 8 + [1.0] * 8))


def test_llr_follows_the_true_snr_after_charging() -> None:
    """Twice the amplitude at the same Es/N0 leaves the sign errors as they are: energy buys nothing."""
    model, mode = make_model(LINKS[3]), LINKS[3].modes[0]
    generator = torch.Generator().manual_seed(9)
    signs = torch.randint(2, (4000, mode.symbols, 2), generator=generator).float() * 2 - 1
    noise = torch.randn(4000, mode.symbols, 2, generator=generator)
    errors = []
    for amplitude in (1.0, 2.0):
        sent = amplitude * signs / math.sqrt(2)
        llr = model.llr(sent, charged_energy(sent), noise, torch.full((4000,), 4.0), mode)
        wrong = (llr.reshape(4000, -1, 2) > 0) == (signs > 0)
        errors.append(wrong.float().mean().item())
    assert errors[0] == pytest.approx(errors[1], abs=1e-6)
    # Q(sqrt(2 * 10^0.4 / 2)) = 0.0565; 40,000 bits: five standard deviations are 0.006.
    assert errors[0] == pytest.approx(0.0565, abs=0.006)
