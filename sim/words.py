"""How a sweep was run, in words for the report."""

from __future__ import annotations

from twophase.link.modes import ModeTable
from twophase.link.routing import Routing
from twophase.sim.air.tdl import simulated_spread_ns
from twophase.sim.settings import ChannelName, CoherenceName, Settings

__all__ = ["channel_text", "csi_text", "estimates_text", "signalling_text"]


def channel_text(
    channel: ChannelName,
    coherence: CoherenceName | int,
    rician_k_db: float = 6.0,
    delay_spread_ns: float = 300.0,
) -> str:
    """The channel's name; on a tapped delay line with the delay spread asked for and the simulated one."""
    if channel == "awgn":
        return "AWGN"
    if channel in ("tdl-a", "tdl-c"):
        simulated = simulated_spread_ns(channel, delay_spread_ns)
        return f"{channel.upper()} under OFDM, {delay_spread_ns:g} ns (simulated: {simulated:.0f} ns)"
    name = "Rayleigh" if channel == "rayleigh" else f"Rician ({rician_k_db:g} dB)"
    if coherence == "symbol":
        return f"flat {name} fading"
    if coherence == "sample":
        return f"{name} block fading"
    return f"{name} fading in blocks of {coherence} symbols"


def csi_text(settings: Settings) -> str:
    """What the receiver knows of the channel; one sentence without a full stop."""
    mismatch = settings.noise_mismatch_db
    noise = "the noise variance"
    if settings.noise_estimate == "pilot":
        noise = "a noise variance estimated from the pilots (from the first block of each frame)"
    if mismatch:
        noise += f", taken {abs(mismatch):g} dB too {'high' if mismatch > 0 else 'low'}"
    if settings.csi == "none":
        return f"the receiver takes every gain for 1 and knows {noise}"
    if settings.csi == "perfect":
        return f"the receiver knows every gain and {noise}"
    method = "least squares" if settings.estimator == "ls" else "minimum mean square error"
    of = "12 subcarriers" if settings.channel.startswith("tdl") else "equal gain"
    if settings.channel == "awgn" or settings.coherence == "sample":
        of = "a frame"
    return (
        f"the receiver estimates gains by {method} from {settings.pilots} pilot symbols in each block of "
        f"{of}, counted as symbols, and knows {noise}"
    ).replace("block of a frame", "frame")


def signalling_text(routing: Routing, modes: ModeTable, settings: Settings) -> str:
    """Who chooses the mode and what it costs to tell it; one sentence without a full stop."""
    if len(modes) == 1:
        return "one mode, nothing to choose or to tell"
    if settings.mode is not None:
        name = modes.names[modes.find(settings.mode)]
        return f"mode {name} for every sample, known to both ends; no header is sent"
    if settings.header == "ideal":
        return (
            f"mode chosen by {_ROUTERS[routing.router]} and told to the receiver free of charge: no header "
            "symbol is sent or counted, no mode is mistaken"
        )
    if routing.tells_mode:
        return (
            f"mode chosen by {_ROUTERS[routing.router]} and told in a coded header over QPSK; its symbols "
            "count, its errors happen"
        )
    held = f", with {routing.hysteresis_db:g} dB of hysteresis" if routing.hysteresis_db else ""
    return f"each end looks the mode up for its own estimate of Es/N0{held}; no header is sent"


_KNOWN = {"mean": "mean Es/N0", "block": "Es/N0 of each block"}
_ROUTERS = {
    "fixed": "no router",
    "content": "a router that sees content and SNR",
    "snr": "the SNR",
    "table": "a table over the SNR",
}


def estimates_text(settings: Settings) -> str:
    """Which Es/N0 the ends choose a mode by, and how wrong their estimates of it are."""
    if settings.mode is not None:
        return "nobody chooses by Es/N0"
    bias, jitter = settings.snr_error_bias_db, settings.snr_error_jitter_db
    known = "Es/N0" if settings.channel == "awgn" else _KNOWN[settings.known_snr]
    if not bias and not jitter:
        return f"both ends know the {known} exactly"
    shared = settings.snr_error_at == "both"
    parts = [f"{bias:+g} dB {'at both ends' if shared else 'at the transmitter'}"] if bias else []
    if jitter:
        whose = "shared by both ends" if shared else "independent at each end"
        parts.append(f"{jitter:g} dB standard deviation, {whose}")
    return f"error of the estimated {known}: " + "; ".join(parts)
