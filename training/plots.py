"""Pictures of a training run: losses, temperatures, entropies, |LLR|, soft and hard accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twophase.link.files import atomic_path
from twophase.training.monitor import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_training"]


def plot_training(path: Path, records: list[EpochRecord], title: str) -> None:
    """Draw all curves of a run over its epochs into one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [record.epoch for record in records]
    figure = Figure(figsize=(11, 9), layout="constrained")
    FigureCanvasAgg(figure)
    accuracy, losses, temperature, entropies, llr, gap = figure.subplots(3, 2, sharex=True).flat
    figure.suptitle(title)

    for split, style in (("train", ":"), ("validation", "-")):
        for kind, colour in (("hard", "tab:blue"), ("soft", "tab:orange")):
            values = [getattr(record, f"{split}_accuracy_{kind}") for record in records]
            accuracy.plot(epochs, values, style, color=colour, label=f"{split}, {kind}")
    accuracy.set_ylabel("accuracy over the training SNRs")

    for name in dict.fromkeys(name for record in records for name in record.losses):
        shown = [(record.epoch, record.losses[name]) for record in records if name in record.losses]
        losses.plot(*zip(*shown, strict=True), label=name)
    losses.set_ylabel("loss (unweighted terms)")
    losses.set_yscale("symlog", linthresh=1e-2)

    temperature.plot(epochs, [record.vq_temperature for record in records], label="codebook")
    temperature.plot(epochs, [record.symbol_temperature for record in records], "--", label="symbols")
    temperature.plot(epochs, [record.hard_forward for record in records], ":", label="hard forward")
    temperature.set_ylabel("temperature; share of hard forward")

    entropies.plot(epochs, [record.vq_entropy for record in records], label="codewords")
    entropies.plot(epochs, [record.symbol_entropy for record in records], label="symbols")
    entropies.set_ylabel("entropy of use (nats)")

    llr.plot(epochs, [record.mean_abs_llr for record in records], label="forward pass")
    llr.set_ylabel("mean |LLR|")

    values = [100 * (record.validation_accuracy_hard - record.validation_accuracy_soft) for record in records]
    gap.plot(epochs, values, label="validation")
    gap.axhline(-2, color="tab:red", linestyle="--", label="limit of the verdict")
    gap.set_ylabel("hard minus soft (points)")

    for panel in (accuracy, losses, temperature, entropies, llr, gap):
        _finish(panel, records)
    for panel in (llr, gap):
        panel.set_xlabel("epoch")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _finish(panel: Axes, records: list[EpochRecord]) -> None:
    starts = [record.epoch for record in records if record.phase == "alignment"]
    if starts and len(starts) < len(records):
        panel.axvline(starts[0] - 0.5, color="grey", linewidth=0.8)
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
