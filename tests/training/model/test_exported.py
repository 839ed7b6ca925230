"""The deployed programs: the link's definition, each sample in its mode, and who chooses the mode."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from tools import small_link
from tools.small_link import give_opinions, normal
from twophase.link.bits import bits_to_symbols, indices_to_bits, pad_bits
from twophase.link.constellation import qam
from twophase.link.modes import LinkConfig
from twophase.link.routing import HeaderStep, Routing, SnrTable, fixed_routing
from twophase.training.model.exported import HardTransmitter, Receiver, SoftTransmitter
from twophase.training.model.network import LinkModel

ONE_MODE = [
    LinkConfig((64,), (4,), (16,), 5),
    LinkConfig((4,), (12,), (16,), 3),
    LinkConfig((16,), (3,), (256,), 2),  # 12 bits in two symbols of eight: padding
    LinkConfig((8,), (3,), (4,), 4),  # nine bits in five QPSK symbols
]
LINK = LinkConfig((4, 8), (5, 3), (4, 16), 3)  # nine bits of the larger codebook: padding in both its modes
TENTH = float(np.float32(0.1))
NEXT = float(np.nextafter(np.float32(0.1), np.float32(1)))
STEPS = SnrTable((-7.25, -1.5, 4.0, 11.015625), (0, 2, 0, 3, 1))
TABLES = [
    SnrTable((), (2,)),
    SnrTable((0.0,), (3, 1)),
    STEPS,
    # No round numbers, neighbours in float32, and far beyond the SNR of any radio.
    SnrTable((float(np.float32(-1e30)), TENTH, NEXT), (1, 0, 3, 2)),
]
ROUTER = torch.tensor([-1])


def make_model(link: LinkConfig = LINK, content: bool = False) -> LinkModel:
    model = small_link.make_model(link, 6, 3, 16, content=content)
    if model.router is not None:
        give_opinions(model, normal(200, 6), -10, 15)
    return model.eval()


def by_table(table: SnrTable = STEPS, router: str = "snr") -> Routing:
    return Routing(router, table, hysteresis_db=0.0, header=())  # type: ignore[arg-type]


def by_content() -> Routing:
    steps = (HeaderStep(-10.0, "rm14"), HeaderStep(5.0, "plain"))
    return Routing("content", SnrTable((3.0,), (0, 1)), hysteresis_db=0.0, header=steps)


def transmitters(model: LinkModel, routing: Routing) -> list[torch.nn.Module]:
    return [HardTransmitter(model, routing), SoftTransmitter(model, routing, 0.7)]


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


# --- one mode ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ONE_MODE)
def test_the_hard_path_is_the_numpy_definition_whatever_the_batch(link: LinkConfig) -> None:
    model, mode, features = make_model(link), link.modes[0], normal(50, 6)
    transmitter = HardTransmitter(model, fixed_routing())
    outputs = transmitter(features, torch.zeros(50))
    latents = model.latents(model.content(features), mode).double()
    codewords = model.codebook(mode).codewords.double()
    nearest = (latents[:, :, None] - codewords).square().sum(-1).argmin(-1).numpy()
    labels = model.codebook(mode).labels.numpy()[nearest]
    bits = pad_bits(indices_to_bits(labels, mode.bits_per_index).reshape(50, -1), mode.bits_per_symbol)
    symbols = bits_to_symbols(bits, mode.bits_per_symbol)
    counts = np.full(50, mode.channel_bits), np.full(50, mode.symbols)
    for found, expected in zip(outputs, [np.zeros(50), nearest, bits, symbols, *counts], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert [str(part.numpy().dtype) for part in outputs] == [*["int64"] * 2, "uint8", *["int64"] * 3]
    points = torch.view_as_complex(model.digital_signal(outputs[1], mode).symbols)
    np.testing.assert_allclose(points, qam(mode.order).points[symbols], atol=1e-6)

    order = torch.randperm(50, generator=torch.Generator().manual_seed(6))
    permuted = transmitter(features[order], torch.zeros(50))
    alone = [transmitter(features[i : i + 1], torch.zeros(1)) for i in range(50)]
    for place, whole in enumerate(outputs):
        assert torch.equal(whole[order], permuted[place])
        assert torch.equal(whole, torch.cat([part[place] for part in alone]))


# --- several modes ----------------------------------------------------------------------------------------


def test_a_sample_gets_in_a_batch_of_all_modes_what_its_mode_gives_it_alone() -> None:
    model, modes, features = make_model(), LINK.modes, normal(8, 6, seed=3)
    chosen = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    esn0_db = torch.tensor([-9.0, 12.0, -3.0, 7.0])[chosen]
    sent = HardTransmitter(model, by_table())(features, esn0_db, ROUTER)
    mode_out, soft = SoftTransmitter(model, by_table(), 0.7)(features, esn0_db, ROUTER)
    llr = normal(8, modes.max_bits, seed=4)
    logits, posterior, decided = Receiver(model)(llr, chosen)
    _, indices, bits, symbols, bit_count, symbol_count = sent
    assert torch.equal(sent[0], chosen)
    assert torch.equal(mode_out, chosen)
    for sample, number in enumerate(chosen.tolist()):
        mode = modes[number]
        content = model.content(features[sample : sample + 1])
        scores = model.codebook(mode).scores(model.latents(content, mode))
        alone = model.hard_transmit(scores, mode)
        seen = model.receive(llr[sample : sample + 1, : mode.channel_bits], mode)
        wanted = {
            "indices": (indices, alone.indices, -1),
            "bits": (bits, alone.bits, 0),
            "symbols": (symbols, alone.points, 0),
            "soft": (soft, model.soft_transmit(scores, mode, 0.7).symbols, 0),
            "decided": (decided, seen.posterior.argmax(-1), -1),
        }
        for name, (found, expected, filling) in wanted.items():
            used = expected.shape[1]
            torch.testing.assert_close(found[sample, :used], expected[0], msg=name)
            assert (found[sample, used:] == filling).all(), name
        assert (bit_count[sample], symbol_count[sample]) == (mode.channel_bits, mode.symbols)
        score = model.classify(model.features(seen.embedding, seen.soft_bits, mode))
        torch.testing.assert_close(logits[sample], score[0])
        torch.testing.assert_close(posterior[sample, : mode.tokens, : mode.codebook_size], seen.posterior[0])
        assert not posterior[sample, mode.tokens :].any()
        assert not posterior[sample, :, mode.codebook_size :].any()


def test_what_was_sent_in_any_mode_is_decoded_where_llrs_are_certain() -> None:
    model, features = make_model(), normal(64, 6)
    mode, indices, bits, *_ = HardTransmitter(model, by_table())(
        features, torch.linspace(-10, 14, 64), ROUTER
    )
    _, posterior, decided = Receiver(model)(200.0 * bits.float() - 100.0, mode)
    assert mode.unique().tolist() == [0, 1, 2, 3]
    assert torch.equal(decided, indices)
    tokens = torch.tensor([entry.tokens for entry in LINK.modes])[mode]
    torch.testing.assert_close(posterior.sum((1, 2)), tokens.float())


# --- who chooses ------------------------------------------------------------------------------------------


def around(table: SnrTable) -> Tensor:
    """Every threshold, its float32 neighbours, mid-points and extremes."""
    thresholds = np.array(table.thresholds_db, dtype=np.float32)
    values = [
        thresholds,
        np.nextafter(thresholds, np.float32(-np.inf)),
        np.nextafter(thresholds, np.float32(np.inf)),
        (thresholds[1:] + thresholds[:-1]) / 2,
        np.array([-3e38, -50.0, -0.0, 0.0, 50.0, 3e38], dtype=np.float32),
    ]
    return torch.from_numpy(np.concatenate(values).astype(np.float32))


@pytest.mark.parametrize("router", ["snr", "table"])
@pytest.mark.parametrize("table", TABLES, ids=range(len(TABLES)))
def test_a_table_is_looked_up_as_both_ends_do(table: SnrTable, router: str) -> None:
    esn0_db = around(table)
    expected = table.choose(esn0_db.numpy())
    assert set(expected.tolist()) == set(table.modes)
    for module in transmitters(make_model(), by_table(table, router)):
        mode, *_ = module(normal(len(esn0_db), 6), esn0_db, ROUTER)
        assert mode.dtype == torch.int64
        np.testing.assert_array_equal(mode, expected)


def test_a_content_router_decides_by_the_best_score_of_the_sample() -> None:
    model, features, esn0_db = make_model(content=True), normal(200, 6), torch.linspace(-5, 15, 200)
    expected = model.router.scores(model.content(features), esn0_db).argmax(1)
    for module in transmitters(model, by_content()):
        mode, *_ = module(features, esn0_db, ROUTER)
        elsewhere, *_ = module(features.flip(0), esn0_db, ROUTER)
        assert torch.equal(mode, expected)
        assert len(mode.unique()) > 2
        assert not torch.equal(mode, elsewhere)
        assert not np.array_equal(mode, by_content().table.choose(esn0_db.numpy()))


@pytest.mark.parametrize(
    "routing", [by_table(), by_table(router="table"), by_content(), fixed_routing()], ids=lambda r: r.router
)
def test_a_request_overrules_every_router(routing: Routing) -> None:
    model, features = make_model(content=routing.router == "content"), normal(40, 6)
    esn0_db = torch.linspace(-10, 20, 40)
    for number in range(4):
        always = by_table(SnrTable((), (number,)))
        for asked, made in zip(transmitters(model, routing), transmitters(model, always), strict=True):
            found = asked(features, esn0_db, torch.tensor([number]))
            assert (found[0] == number).all()
            assert all(map(torch.equal, found, made(features, esn0_db, ROUTER)))
