"""The link: what runs at both ends, and what defines it; NumPy and ONNX Runtime alone.

>>> from twophase.link import Receiver, Transmitter, esn0_db_to_noise_var   # doctest: +SKIP
>>> transmitter = Transmitter("runs/digits/bundle")   # doctest: +SKIP
>>> receiver = Receiver("runs/digits/bundle")   # doctest: +SKIP
>>> sent = transmitter.transmit(features, snr_db=5.0)   # doctest: +SKIP
>>> received = your_radio(sent.iq)   # doctest: +SKIP
>>> decided = receiver.decide(received, esn0_db_to_noise_var(5.0), gain=1.0, snr_db=5.0)   # doctest: +SKIP
>>> decided.classes, decided.posterior, decided.mode   # doctest: +SKIP
"""

from __future__ import annotations

import os
from importlib import import_module

TYPE_CHECKING = False  # of no import, for a command must answer a signal as soon as it has begun
if TYPE_CHECKING:
    from typing import Any

    from twophase.link.constellation import Constellation, qam
    from twophase.link.demap import llr_exact, llr_hard, llr_maxlog
    from twophase.link.errors import ArtifactError, InputError, LinkError, PackageError, VerificationError
    from twophase.link.graphs import GraphOptions
    from twophase.link.manifest import Manifest, load_manifest
    from twophase.link.modem import Transmission
    from twophase.link.modes import LinkConfig
    from twophase.link.noise import esn0_db_to_noise_var, noise_var_to_esn0_db
    from twophase.link.receiver import Decision, Receiver, Reception
    from twophase.link.routing import Hysteresis
    from twophase.link.transmitter import Frame, Transmitter

# ONNX Runtime reads it at its import: from 1.29 on it would write an identity of the device and a database of
# what it ran to the user's cache folder, and look up a host.  Who wants that has set the variable.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_PLACES = {
    "constellation": ("Constellation", "qam"),
    "demap": ("llr_exact", "llr_hard", "llr_maxlog"),
    "errors": ("ArtifactError", "InputError", "LinkError", "PackageError", "VerificationError"),
    "graphs": ("GraphOptions",),
    "manifest": ("Manifest", "load_manifest"),
    "modem": ("Transmission",),
    "modes": ("LinkConfig",),
    "noise": ("esn0_db_to_noise_var", "noise_var_to_esn0_db"),
    "receiver": ("Decision", "Receiver", "Reception"),
    "routing": ("Hysteresis",),
    "transmitter": ("Frame", "Transmitter"),
}
"""Modules and what users need of each; imported at first use, as the commands' ``--help`` needs none."""

__all__ = [  # noqa: RUF022 - both ends first
    "Transmitter",
    "Receiver",
    "Frame",
    "Decision",
    "Transmission",
    "Reception",
    "GraphOptions",
    "Hysteresis",
    "Manifest",
    "load_manifest",
    "LinkConfig",
    "Constellation",
    "qam",
    "llr_exact",
    "llr_maxlog",
    "llr_hard",
    "esn0_db_to_noise_var",
    "noise_var_to_esn0_db",
    "LinkError",
    "InputError",
    "ArtifactError",
    "PackageError",
    "VerificationError",
]


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
