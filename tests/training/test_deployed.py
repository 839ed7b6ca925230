"""Who travels in which mode when deployed: as the shared table says, the network, or whoever asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from twophase.link.modes import LinkConfig
from twophase.link.routing import HeaderStep, Routing, SnrTable, fixed_routing
from twophase.training.model.exported import HardTransmitter, Receiver, SoftTransmitter
from twophase.training.model.network import LinkModel

LINK = LinkConfig(
    (4, 8), (5, 3), (4, 16), 3
)  # nine bits of the larger codebook: padding in both of its modes
ONE_MODE = LinkConfig((4,), (5,), (16,), 3)
MODES = range(len(LINK.modes))
TENTH = float(np.float32(0.1))
NEXT = float(np.nextafter(np.float32(0.1), np.float32(1)))
TABLES = [
    SnrTable((), (2,)),
    SnrTable((0.0,), (3, 1)),
    SnrTable((-7.25, -1.5, 4.0, 11.015625), (0, 2, 0, 3, 1)),
    # No round numbers, neighbours in float32, and far beyond the SNR of any radio.
    SnrTable((float(np.float32(-1e30)), TENTH, NEXT), (1, 0, 3, 2)),
]
HEADER = (HeaderStep(-10.0, "rm14"), HeaderStep(5.0, "plain"))
ROUTER = Tensor([-1]).long()


def make_model(link: LinkConfig = LINK, content: bool = False) -> LinkModel:
    torch.manual_seed(0)
    model = LinkModel(link, (6,), classes=3, hidden=16, surrogate="product", content_router=content)
    if model.router is not None:
        give_opinions(model)
    return model.eval()


@torch.no_grad()
def give_opinions(model: LinkModel) -> None:
    """Make the router choose all modes, by the SNR and, if it reads it, by the content."""
    assert model.router is not None
    for parameter in model.router.parameters():
        parameter *= 4
    if model.router.reads_content:
        model.router.content_input.weight *= 10
    content = model.content(make_features(200))
    scores = model.router.scores(content, torch.linspace(-10, 15, 200)).mean(0).unflatten(0, (2, 2))
    model.router.rate.bias -= scores.mean(1)
    model.router.modulation.bias -= scores.mean(0)


def by_table(table: SnrTable, router: str = "snr") -> Routing:
    return Routing(router, table, hysteresis_db=0.0, header=())  # type: ignore[arg-type]


def by_content() -> Routing:
    return Routing("content", SnrTable((3.0,), (0, 1)), hysteresis_db=0.0, header=HEADER)


def make_features(size: int, seed: int = 2) -> Tensor:
    return torch.randn(size, 6, generator=torch.Generator().manual_seed(seed))


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


def transmitters(model: LinkModel, routing: Routing) -> list[torch.nn.Module]:
    return [HardTransmitter(model, routing), SoftTransmitter(model, routing, 0.7)]


@pytest.mark.parametrize("router", ["snr", "table"])
@pytest.mark.parametrize("table", TABLES, ids=range(len(TABLES)))
def test_a_table_is_looked_up_as_both_ends_do(table: SnrTable, router: str) -> None:
    esn0_db = around(table)
    expected = table.choose(esn0_db.numpy())
    assert set(expected.tolist()) == set(table.modes)
    for module in transmitters(make_model(), by_table(table, router)):
        with torch.no_grad():
            mode, *_ = module(make_features(len(esn0_db)), esn0_db, ROUTER)
        assert mode.dtype == torch.int64
        np.testing.assert_array_equal(mode, expected)


def test_a_content_router_decides_by_the_best_score_of_the_sample() -> None:
    model = make_model(content=True)
    features, esn0_db = make_features(200), torch.linspace(-5, 15, 200)
    assert model.router is not None
    for module in transmitters(model, by_content()):
        with torch.no_grad():
            mode, *_ = module(features, esn0_db, ROUTER)
            expected = model.router.scores(model.content(features), esn0_db).argmax(1)
            elsewhere, *_ = module(features.flip(0), esn0_db, ROUTER)
        assert torch.equal(mode, expected)
        assert len(mode.unique()) > 2
        assert not torch.equal(mode, elsewhere)
        assert not np.array_equal(mode, by_content().table.choose(esn0_db.numpy()))


ROUTINGS = [
    pytest.param(False, by_table(TABLES[2]), id="snr"),
    pytest.param(False, by_table(TABLES[2], "table"), id="table"),
    pytest.param(True, by_content(), id="content"),
    pytest.param(False, fixed_routing(), id="fixed"),
]


@pytest.mark.parametrize(("content", "routing"), ROUTINGS)
def test_a_request_overrules_every_router(content: bool, routing: Routing) -> None:
    model = make_model(content=content)
    esn0_db = torch.linspace(-10, 20, 40)
    features = make_features(40)
    with torch.no_grad():
        shared = model.content(features)
        for number, mode in enumerate(LINK.modes):
            request = torch.tensor([number])
            scores = model.codebook(mode).scores(model.latents(shared, mode))
            hard, soft = model.hard_transmit(scores, mode), model.soft_transmit(scores, mode, 0.7)
            sent = HardTransmitter(model, routing)(features, esn0_db, request)
            assert sent[0].tolist() == [number] * 40
            assert torch.equal(sent[1][:, : mode.tokens], hard.indices)
            assert torch.equal(sent[2][:, : mode.channel_bits], hard.bits)
            assert torch.equal(sent[3][:, : mode.symbols], hard.points)
            assert sent[4].tolist() == [mode.channel_bits] * 40
            assert sent[5].tolist() == [mode.symbols] * 40
            chosen, symbols = SoftTransmitter(model, routing, 0.7)(features, esn0_db, request)
            assert chosen.tolist() == [number] * 40
            torch.testing.assert_close(symbols[:, : mode.symbols], soft.symbols)


@pytest.mark.parametrize("number", MODES)
def test_llrs_behind_a_modes_bits_reach_nothing(number: int) -> None:
    receiver, mode = Receiver(make_model()), LINK.modes[number]
    llr = torch.randn(6, LINK.modes.max_bits, generator=torch.Generator().manual_seed(4))
    changed = llr.clone()
    changed[:, mode.information_bits :] = 50
    assert not torch.equal(llr, changed) or mode.information_bits == LINK.modes.max_bits
    chosen = torch.full((6,), number)
    with torch.no_grad():
        for first, second in zip(receiver(llr, chosen), receiver(changed, chosen), strict=True):
            assert torch.equal(first, second)


def test_what_was_sent_in_any_mode_is_decoded_where_llrs_are_certain() -> None:
    model = make_model()
    features, esn0_db = make_features(64), torch.linspace(-10, 14, 64)
    with torch.no_grad():
        mode, indices, bits, *_ = HardTransmitter(model, by_table(TABLES[2]))(features, esn0_db, ROUTER)
        _, posterior, decided = Receiver(model)(200.0 * bits.float() - 100.0, mode)
    assert mode.unique().tolist() == list(MODES)
    assert torch.equal(decided, indices)
    tokens = torch.tensor([entry.tokens for entry in LINK.modes])[mode]
    torch.testing.assert_close(posterior.sum((1, 2)), tokens.float())
