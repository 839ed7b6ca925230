"""A report's words say what was simulated, also where it is not quite what was asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from twophase.sim.results.report_json import channel_text, csi_text
from twophase.sim.settings import Settings


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("awgn", "symbol"), "AWGN"),
        (("rayleigh", "symbol"), "flat Rayleigh fading"),
        (("rician", "sample", 3.0), "Rician (3 dB) block fading"),
        (("rician", 12), "Rician (6 dB) fading in blocks of 12 symbols"),
        (("tdl-c", "symbol"), "TDL-C under OFDM, 300 ns (simulated: 306 ns)"),
        (("tdl-a", "symbol", 6.0, 50.0), "TDL-A under OFDM, 50 ns (simulated: 66 ns)"),
        (("tdl-c", "symbol", 6.0, 1.5), "TDL-C under OFDM, 1.5 ns (simulated: 0 ns)"),
    ],
)
def test_a_channel_is_named(arguments, text) -> None:
    assert channel_text(*arguments) == text


@pytest.mark.parametrize("coherence", [6, "sample"])
def test_an_estimated_noise_variance_is_said_to_come_from_the_first_block(coherence) -> None:
    settings = Settings(channel="rayleigh", coherence=coherence, csi="pilot", noise_estimate="pilot")
    assert csi_text(settings).endswith(
        "a noise variance estimated from the pilots (from the first block of each frame)"
    )
    assert "first block" not in csi_text(Settings(channel="rayleigh", coherence=coherence, csi="pilot"))


def test_words_do_not_import_commpy() -> None:
    code = "import sys, twophase.sim.results.report_json\nassert not {'commpy', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
