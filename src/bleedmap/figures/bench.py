"""A benchmark's record as one page: backends, a study's stages, growing work, training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.figures import style

_PITCH_MM, _RIGHT_MM = style.WIDTH_MM / 2, 15.0  # on its right a panel leaves room for an axis, or its bars' words
_NAMES_MM, _NUMBERS_MM = 30.0, 14.0  # on its left, for the names of bars or an axis
_ABOVE_MM, _HIGH_MM, _ROW_MM = 6.0, 34.0, 52.0

Record = Mapping[str, Any]


def bench(record: Record) -> Figure:
    """A panel for each part that was measured.

    Args:
        record: what `bleedmap bench` writes as bench.json, with one part at least.
    """
    panels: list[tuple[str, float, Callable[[Axes, Any], None], Any]] = []
    if "network" in record:
        panels.append(("The network alone, slices/s", _NAMES_MM, _network, record["network"]))
    if "study" in record:
        panels.append(("A whole study, s", _NAMES_MM, _study, record["study"]))
    if "growth" in record:
        growth = record["growth"]
        panels.append(("Growing work: slices", _NUMBERS_MM, _by_slices, growth["slices"]))
        panels.append(("Growing work: pixels a side", _NUMBERS_MM, _by_pixels, growth["pixels"]))
        panels.append(("Growing work: studies of a batch", _NUMBERS_MM, _by_studies, growth["studies"]))
    if "training" in record:
        panels.append(("Training, slices/s", _NAMES_MM, _training, record["training"]))
    rows = (len(panels) + 1) // 2
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(rows * _ROW_MM, _caption(record))
        for number, (title, before_mm, draw, content) in enumerate(panels):
            left_mm, top_mm = (number % 2) * _PITCH_MM, (number // 2) * _ROW_MM
            style.write(figure, left_mm + 0.5, top_mm + 2.2, chr(ord("a") + number), weight="bold")
            style.write(figure, left_mm + 4, top_mm + 2.2, title)
            wide_mm = _PITCH_MM - before_mm - _RIGHT_MM
            draw(style.panel(figure, left_mm + before_mm, top_mm + _ABOVE_MM, wide_mm, _HIGH_MM), content)
    return figure


def _caption(record: Record) -> str:
    machine = record["machine"]
    load = "" if machine["load"] is None else f", load at the start {machine['load']:.1f}"
    versions = ", ".join(f"{name} {found}" for name, found in machine["versions"].items())
    words = (
        f"{machine['processor']}, {record['threads'] or 'each backend’s own choice'} of {machine['threads']} threads"
        f"{load}; {versions}; weights {record['weights']['name']}. Medians of {record['repeats']}, measured in turn "
        "in one run."
    )
    if "network" in record:
        words += f" After the bars: ratio to {record['network']['reference']}, share of the machine’s matrix product."
    if "growth" in record:
        words += " Dashed: the most memory that the process held."
    return words


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float], words: Sequence[str]) -> None:
    axes.barh(range(len(names)), values, color=style.PALETTE[0], height=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(values))  # room for the words
    for row, (value, word) in enumerate(zip(values, words, strict=True)):
        axes.text(value, row, f" {word}", va="center", size=style.SMALL_PT)


def _network(axes: Axes, found: Record) -> None:
    backends = found["backends"]
    names = [f"{one['name']} {one['precision']}".replace("fp32, ", "") for one in backends]  # the decoder's
    _bars(
        axes, names, [one["slices_per_s"] for one in backends],
        [f"{one['slices_per_s']:.1f}; {one['ratio']:.2f}×, {one['share']:.0%}" for one in backends],
    )  # fmt: skip


def _training(axes: Axes, found: Record) -> None:
    rates = [found["plain_slices_per_s"], found["ours_slices_per_s"]]
    ratios = ("1.00", f"{found['ratio']:.2f}")
    words = [f"{rate:.1f}; {ratio}×" for rate, ratio in zip(rates, ratios, strict=True)]
    _bars(axes, ["plain loop, fp32", "the recipe"], rates, words)


def _study(axes: Axes, found: Record) -> None:
    """The warm study's stages end to end, above the fresh process."""
    cold, warm, begun = found["cold"], found["warm"], 0.0
    for (name, seconds), colour in zip(warm["parts_s"].items(), style.PALETTE, strict=False):
        axes.barh(0, seconds, left=begun, color=colour, height=0.6, label=name.replace("_", " "))
        begun += seconds
    axes.barh(1, cold["seconds"], color=style.RULE, height=0.6)
    axes.set_yticks((0, 1), ("warm", "fresh process"))
    axes.set_ylim(1.6, -1.4)  # room for the legend
    axes.legend(frameon=False, fontsize=style.SMALL_PT, ncols=2, loc="upper left", borderaxespad=0)


def _by_slices(axes: Axes, found: Sequence[Record]) -> None:
    _line(axes, [one["shape"][0] for one in found], found)


def _by_pixels(axes: Axes, found: Sequence[Record]) -> None:
    _line(axes, [one["shape"][1] for one in found], found)


def _by_studies(axes: Axes, found: Sequence[Record]) -> None:
    _line(axes, [one["studies"] for one in found], found)


def _line(axes: Axes, sizes: Sequence[int], found: Sequence[Record]) -> None:
    """Seconds on the left; the most memory on the right, where it is known."""
    axes.plot(sizes, [one["seconds"] for one in found], color=style.PALETTE[0], marker="o", markersize=3, clip_on=False)
    axes.set_ylabel("s", color=style.PALETTE[0])
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    peaks = [one["peak_mib"] for one in found]
    if None not in peaks:
        right = axes.twinx()
        right.plot(
            sizes, peaks, color=style.PALETTE[1], marker="s", markersize=3, linestyle=(0, (3, 1.5)), clip_on=False
        )
        right.set_ylabel("MiB of the first process", color=style.PALETTE[1])
        right.set_ylim(bottom=0)
        right.spines["right"].set_visible(True)
