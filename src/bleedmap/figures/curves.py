"""Loss, IoU and Dice over the epochs of one or more training runs (the thesis' Figure 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bleedmap.arrays import DoubleArray
from bleedmap.errors import InputError
from bleedmap.figures import style
from bleedmap.training.run import open_run

MOST = len(style.PALETTE)  # runs that colours tell apart
_PITCH_MM = style.WIDTH_MM / 3  # from panel to panel
_WIDE_MM, _HIGH_MM, _LEFT_MM, _ABOVE_MM, _BELOW_MM = 45.5, 44.0, 12.0, 5.0, 11.0
_DASHED = (0, (3, 1.5))
_FEW = 40  # epochs up to which each one gets its dot


@dataclass(frozen=True)
class TrainingCurve:
    """One training run: its name, its setting in a few words, and an entry for each epoch as in metrics.jsonl."""

    name: str
    setting: str
    entries: Sequence[Mapping[str, Any]]

    def values(self, key: str) -> tuple[DoubleArray, DoubleArray]:
        """(n,) epochs that have `key`, and its (n,) values."""
        found = [(entry["epoch"], entry[key]) for entry in self.entries if entry.get(key) is not None]
        epochs, values = np.array(found, np.float64).reshape(-1, 2).T
        return epochs, values

    def best(self) -> tuple[float, float] | None:
        """The epoch with the highest validation Dice, whose weights a run keeps, and that Dice."""
        epochs, values = self.values("validation_dice")
        if not np.isfinite(values).any():
            return None
        index = int(np.nanargmax(values))
        return float(epochs[index]), float(values[index])


def read_curve(folder: Path) -> TrainingCurve:
    """Read the curve of a training run, finished or not.

    Raises:
        InputError: not a run, or no epoch has finished yet.
        SettingsError: a run in stages over whole studies.
    """
    run = open_run(folder)
    config, entries = run.config(), run.metrics()
    if not entries:
        raise InputError(
            run.metrics_file,
            found="no epoch has finished yet",
            needed="a line of JSON an epoch, as `bleedmap train` writes them",
            remedy="wait for the first epoch, or give another run",
        )
    split = run.split()
    width = f" × {config.width:g} filters" if config.width != 1 else ""
    setting = (
        f"{config.network}{width}, {config.size} × {config.size}, loss {config.loss}, batch {config.batch_size}, "
        f"split by {split.kind}, epoch {entries[-1]['epoch']} of {config.epochs}"
    )
    return TrainingCurve(folder.resolve().name, setting, entries)


def curves(runs: Sequence[TrainingCurve]) -> Figure:
    """Panels of loss, mean IoU and Dice; a colour a run, of 1 to `MOST` with one epoch or more."""
    legend_mm = sum(len(_entry(run)) for run in runs) * style.CAPTION_LINE_MM
    words = (
        "a: loss on the training side (dashed) and on the validation side. b, c: validation side at the network’s "
        "size, all pixels pooled, probability ≥ 0.5; mean IoU is the mean over lesion and background. "
        "The ring is the epoch of the highest validation Dice, whose weights are kept."
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _HIGH_MM + _BELOW_MM + legend_mm, words)
        panels = [
            style.panel(figure, _LEFT_MM + index * _PITCH_MM, _ABOVE_MM, _WIDE_MM, _HIGH_MM) for index in range(3)
        ]
        for run, colour in zip(runs, style.PALETTE, strict=False):
            _line(panels[0], run, "loss", colour, linestyle=_DASHED, linewidth=0.8)
            for axes, key in zip(panels, ("validation_loss", "validation_mean_iou", "validation_dice"), strict=True):
                _line(axes, run, key, colour)
            if best := run.best():
                ring: dict[str, Any] = {"markersize": 5, "markerfacecolor": "none", "markeredgecolor": colour}
                panels[2].plot(*best, "o", **ring, clip_on=False, zorder=5)
        panels[0].plot([], [], color=style.FAINT, linestyle=_DASHED, linewidth=0.8, label="training")
        panels[0].plot([], [], color=style.FAINT, label="validation")
        panels[0].legend(frameon=False, fontsize=style.SMALL_PT, loc="upper right", borderaxespad=0)
        last = max(entry["epoch"] for run in runs for entry in run.entries)
        for index, (axes, name) in enumerate(zip(panels, ("loss", "mean IoU", "Dice"), strict=True)):
            _finish(axes, name, last)
            style.letter(figure, index, index * _PITCH_MM + 0.5, 2.2)
        _legend(figure, runs, _ABOVE_MM + _HIGH_MM + _BELOW_MM + 0.5)
    return figure


def _line(axes: Axes, run: TrainingCurve, key: str, colour: str, **how: Any) -> None:
    epochs, values = run.values(key)
    marker = "o" if len(epochs) <= _FEW else ""
    axes.plot(epochs, values, color=colour, marker=marker, markersize=1.8, **how)


def _finish(axes: Axes, name: str, last: float) -> None:
    axes.set(xlabel="epoch", ylabel=name, xlim=(0, last * 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", color=style.RULE, linewidth=0.4)
    axes.set_axisbelow(True)
    if name != "loss":
        axes.set_ylim(0, 1)


def _entry(run: TrainingCurve) -> list[str]:
    """A run's lines of the legend: name, setting, best Dice."""
    best = run.best()
    score = f"highest validation Dice {best[1]:.3f} in epoch {best[0]:.0f}" if best else "not validated yet"
    return style.wrapped(f"{run.name}: {run.setting}; {score}", style.WIDTH_MM - 8)


def _legend(figure: Figure, runs: Sequence[TrainingCurve], top_mm: float) -> None:
    """A line of its colour, then what each run is."""
    key = style.panel(figure, 0, top_mm, style.WIDTH_MM, 1)
    key.set(xlim=(0, style.WIDTH_MM), ylim=(1, 0))
    key.axis("off")
    line_mm = 0.0
    for run, colour in zip(runs, style.PALETTE, strict=False):
        key.plot((0.5, 6), (line_mm, line_mm), color=colour, clip_on=False)
        for line in _entry(run):
            style.write(figure, 7.5, top_mm + line_mm, line)
            line_mm += style.CAPTION_LINE_MM
