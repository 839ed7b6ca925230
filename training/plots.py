"""Pictures of a training run: losses, temperatures, entropies, |LLR|, soft and hard accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twophase.link.escape import figure as figure_text
from twophase.link.files import atomic_path
from twophase.link.modes import LinkConfig
from twophase.link.plotting import neutral
from twophase.training.monitor import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_training"]


def plot_training(path: Path, records: list[EpochRecord], link: LinkConfig, title: str) -> None:
    """Draw all curves of a run over its epochs into one PNG; with several modes their usage too."""
    with neutral({}), atomic_path(path) as temporary:
        _draw(records, link, figure_text(title)).savefig(temporary, format="png", dpi=110)


def _draw(records: list[EpochRecord], link: LinkConfig, title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [record.epoch for record in records]
    several = len(link.modes) > 1
    figure = Figure(figsize=(14, 12 if several else 9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(4 if several else 3, 2, sharex=True).flat)
    accuracy, losses, temperature, entropies, llr, gap = panels[:6]
    figure.suptitle(title)

    for split, style in (("train", ":"), ("validation", "-")):
        for kind, colour in (("hard", "tab:blue"), ("soft", "tab:orange")):
            values = [getattr(record, f"{split}_accuracy_{kind}") for record in records]
            accuracy.plot(epochs, values, style, color=colour, label=f"{split}, {kind}")
    accuracy.set_ylabel("accuracy over the training SNRs")

    for number, name in enumerate(dict.fromkeys(name for record in records for name in record.losses)):
        shown = [(record.epoch, record.losses[name]) for record in records if name in record.losses]
        losses.plot(*zip(*shown, strict=True), _style(number), label=name)
    losses.set_ylabel("loss (unweighted terms)")
    losses.set_yscale("symlog", linthresh=1e-2)

    temperature.plot(epochs, [record.vq_temperature for record in records], label="codebook")
    temperature.plot(epochs, [record.symbol_temperature for record in records], "--", label="symbols")
    temperature.plot(epochs, [record.hard_forward for record in records], ":", label="hard forward")
    temperature.set_ylabel("temperature; share of hard forward")

    for index, size in enumerate(link.codebook_sizes):
        entropies.plot(epochs, [record.vq_entropy[index] for record in records], label=f"codewords of {size}")
    for number, name in enumerate(link.modes.names):
        used = [record.symbol_entropy[number] for record in records]
        entropies.plot(epochs, used, _style(number + 10), label=f"symbols, {name}")
        llr.plot(epochs, [record.mean_abs_llr[number] for record in records], _style(number), label=name)
    entropies.set_ylabel("entropy of use (nats)")
    llr.set_ylabel("mean |LLR|")

    values = [100 * (record.validation_accuracy_hard - record.validation_accuracy_soft) for record in records]
    gap.plot(epochs, values, label="validation")
    gap.axhline(-2, color="tab:red", linestyle="--", label="limit of the verdict")
    gap.set_ylabel("hard minus soft (points)")

    if several:
        usage, rate = panels[6:]
        shares = [
            [100 * record.mode_usage[number] for record in records] for number in range(len(link.modes))
        ]
        usage.stackplot(epochs, shares, labels=link.modes.names, alpha=0.8)
        usage.set_ylabel("the router's use of the modes, %")
        rate.plot(epochs, [record.symbols_per_sample for record in records], label="symbols per sample")
        rate.plot(epochs, [record.router_entropy for record in records], label="entropy of the router (nats)")
        rate.set_ylabel("rate and router")
    for panel in panels:
        _finish(panel, records)
    for panel in panels[-2:]:
        panel.set_xlabel("epoch")
    return figure


def _style(number: int) -> str:
    """Colour and line of a curve, another for each of 40."""
    return f"C{number % 10}{('-', ':', '--', '-.')[number // 10 % 4]}"


def _finish(panel: Axes, records: list[EpochRecord]) -> None:
    starts = [record.epoch for record in records if record.phase == "alignment"]
    if starts and len(starts) < len(records):
        panel.axvline(starts[0] - 0.5, color="grey", linewidth=0.8)
    panel.grid(alpha=0.3)
    many = len(panel.get_legend_handles_labels()[0]) > 6
    size = "xx-small" if many else "x-small"
    panel.legend(fontsize=size, loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the curves
