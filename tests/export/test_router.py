"""Which routing a bundle gets, and which wishes are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tools.tiny_run import CONTENT, FOUR_MODES, ONE_MODE, run_manifest
from twophase.export.options import exported_routing
from twophase.link.errors import InputError
from twophase.link.header import HeaderStep

ONE, FOUR, BY_CONTENT = (run_manifest(spec, ()) for spec in (ONE_MODE, FOUR_MODES, CONTENT))
BY_TABLE = replace(FOUR, routing=replace(FOUR.routing, router="table", hysteresis_db=2.0))


@pytest.mark.parametrize("manifest", [ONE, FOUR, BY_CONTENT, BY_TABLE])
def test_the_trained_routing_stays_as_it_is(manifest) -> None:
    assert exported_routing(manifest) == manifest.routing


@pytest.mark.parametrize("manifest", [FOUR, BY_CONTENT])
def test_a_table_takes_the_place_of_a_router(manifest) -> None:
    routing = exported_routing(manifest, "table")
    assert (routing.router, routing.table) == ("table", manifest.routing.table)
    assert (routing.hysteresis_db, routing.header) == (1.0, ())
    assert exported_routing(manifest, "table", 0.0).hysteresis_db == 0.0


def test_a_table_keeps_its_own_hysteresis_unless_another_is_given() -> None:
    assert exported_routing(BY_TABLE, "table").hysteresis_db == 2.0
    assert exported_routing(BY_TABLE, "table", 0.5).hysteresis_db == 0.5
    assert exported_routing(BY_TABLE, "trained", 0.5) == replace(BY_TABLE.routing, hysteresis_db=0.5)


def test_one_code_takes_the_place_of_the_plan() -> None:
    routing = exported_routing(BY_CONTENT, header="rm14")
    assert routing.header == (HeaderStep(BY_CONTENT.routing.header[0].from_db, "rm14"),)
    assert replace(routing, header=BY_CONTENT.routing.header) == BY_CONTENT.routing


@pytest.mark.parametrize(
    ("manifest", "options", "message"),
    [
        (FOUR, {"router": "oracle"}, "'router' must be one of trained, table, not 'oracle'"),
        (ONE, {"router": "table"}, "'router' must be 'trained' for a link of one mode"),
        (FOUR, {"hysteresis_db": 1.0}, "'hysteresis_db' must be left out for the router 'snr'"),
        (BY_CONTENT, {"hysteresis_db": 1.0}, "'hysteresis_db' must be left out for the router 'content'"),
        (FOUR, {"router": "table", "hysteresis_db": -0.5}, "must be finite and at least 0, not -0.5"),
        (FOUR, {"router": "table", "hysteresis_db": float("nan")}, "must be finite and at least 0, not nan"),
        (FOUR, {"header": "rm14"}, "'header' must be 'auto' for the router 'snr': it sends no header"),
        (ONE, {"header": "plain"}, "'header' must be 'auto' for the router 'fixed': it sends no header"),
        (BY_CONTENT, {"router": "table", "header": "rm14"}, "'header' must be 'auto' for the router 'table'"),
        (BY_CONTENT, {"header": "turbo"}, "'header' must be one of "),
    ],
)
def test_wishes_that_contradict_the_link_are_refused(manifest, options, message: str) -> None:
    with pytest.raises(InputError) as caught:
        exported_routing(manifest, **options)
    assert message in str(caught.value)
