"""A network's architecture, drawn from what the built network computes, operation by operation (the thesis' Figure 2).

The network runs once on torch's meta device, which computes shapes and no numbers, while every operation is
recorded: a change to the network changes the drawing, and an operation that the drawing does not know stops it.
"""

from dataclasses import dataclass
from math import log2
from typing import Any, Literal

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bleedmap.figures import style
from bleedmap.models.networks import UNetSettings
from bleedmap.models.unet import build

SIZE = 256  # rows and columns of the slice, as in the thesis

Shape = tuple[int, ...]  # (filters, rows, columns)
_ENDS = {"relu": "across", "sigmoid": "across", "max_pool2d": "down", "conv_transpose2d": "up", "cat": "join"}
_TOP_MM, _GAP_MM, _LOWEST_MM, _STEP_MM = 3.5, 8.0, 18.0, 4.0
_FILL = "#e9eef4"
_LINE_MM = 4.0
_UPWARDS: dict[str, Any] = {"rotation": 90, "rotation_mode": "anchor", "ha": "center", "va": "center_baseline"}


@dataclass(frozen=True)
class Stage:
    """The tensor after a step of the network."""

    shape: Shape  # (filters, rows, columns)
    operations: tuple[str, ...] = ()  # in words, since the stage before; none for the input
    direction: Literal["start", "across", "down", "up", "join"] = "start"  # where the step leads in the drawing
    joined: int = -1  # for 'join', the index of the stage that is concatenated to the one before


class _Recorder(TorchFunctionMode):
    """Notes each operation on tensors, in the order in which the network calls them."""

    def __init__(self, slices: Tensor) -> None:
        super().__init__()
        self.stages = [Stage(_shape(slices))]
        self._pending: list[str] = []
        self._stage_of = {id(slices): 0}
        self._alive = [slices]  # so that no id is given twice

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self._note(func.__name__, result, args, kwargs or {})
        return result

    def _note(self, name: str, result: Tensor, args: Any, kwargs: dict[str, Any]) -> None:
        direction: Any = _ENDS.get(name, "")
        if direction in ("down", "up") and self._pending:  # a dropout after a block
            self._close(self.stages[-1].shape, "across")
        if words := _operation_in_words(name, args, kwargs):
            self._pending.append(words)
        if direction:
            joined = self._stage_of[id(args[0][1])] if name == "cat" else -1
            self._close(_shape(result), direction, joined)
        self._stage_of[id(result)] = len(self.stages) - (not self._pending)
        self._alive.append(result)

    def _close(self, shape: Shape, direction: Any, joined: int = -1) -> None:
        self.stages.append(Stage(shape, tuple(self._pending), direction, joined))
        self._pending.clear()


def _operation_in_words(name: str, args: Any, kwargs: dict[str, Any]) -> str:
    """One operation for the legend; empty for a dropout of rate 0."""
    match name:
        case "conv2d":
            return "conv {}×{}".format(*args[1].shape[2:])
        case "conv_transpose2d":
            return "transposed conv {}×{}, stride {}".format(*args[1].shape[2:], args[3][0])
        case "max_pool2d":
            return f"max-pool {args[1]}×{args[1]}"
        case "dropout":
            return f"dropout {kwargs['p']:g}" if kwargs["p"] else ""
        case "batch_norm" | "relu" | "sigmoid" | "cat":
            return {"batch_norm": "batch norm", "relu": "ReLU", "cat": "concatenate"}.get(name, name)
    raise NotImplementedError(f"the architecture figure has no drawing for the operation '{name}'")


def _shape(tensor: Tensor) -> Shape:
    return tuple(tensor.shape[1:])


def trace(settings: UNetSettings, size: int = SIZE) -> tuple[tuple[Stage, ...], int]:
    """Build the network, pass one slice of `size` × `size` through it.

    Returns:
        Every stage from the slice to the probability, and the number of parameters.
    """
    network = build(settings, seed=0).to("meta").eval()
    slices = torch.empty(1, settings.channels, size, size, device="meta")
    with torch.no_grad(), _Recorder(slices) as recorder:
        torch.sigmoid(network(slices))
    return tuple(recorder.stages), sum(parameter.numel() for parameter in network.parameters())


@dataclass(frozen=True)
class Box:
    """A stage on the page: its centre, upper edge and size in mm from the upper left corner."""

    shape: Shape
    centre_mm: float
    top_mm: float
    width_mm: float
    height_mm: float

    @property
    def label(self) -> str:
        """Filters × rows × columns."""
        return " × ".join(map(str, self.shape))

    @property
    def left_mm(self) -> float:
        """The left edge."""
        return self.centre_mm - self.width_mm / 2

    @property
    def right_mm(self) -> float:
        """The right edge."""
        return self.centre_mm + self.width_mm / 2

    @property
    def middle_mm(self) -> float:
        """Half-way down."""
        return self.top_mm + self.height_mm / 2

    @property
    def bottom_mm(self) -> float:
        """The lower edge."""
        return self.top_mm + self.height_mm


def layout(stages: tuple[Stage, ...]) -> list[Box]:
    """A box for each stage: levels from top to bottom, the way down to the left, the way up to the right.

    The box of a 'join' holds the box before it in its right part and the joined copy in its left.
    """
    lowest = min(stage.shape[1] for stage in stages)
    heights = {rows: _LOWEST_MM + _STEP_MM * log2(rows / lowest) for rows in {stage.shape[1] for stage in stages}}
    tops, top_mm = {}, _TOP_MM
    for rows in sorted(heights, reverse=True):
        tops[rows], top_mm = top_mm, top_mm + heights[rows] + _GAP_MM
    widths = [2.8 + 0.25 * log2(stage.shape[0]) for stage in stages]
    across = [width for stage, width in zip(stages, widths, strict=True) if stage.direction == "across"]
    gap_mm = (style.WIDTH_MM - 1 - widths[0] - sum(across)) / len(across)
    boxes: list[Box] = []
    for stage, width_mm in zip(stages, widths, strict=True):
        wide_mm = width_mm
        if stage.direction == "start":
            centre_mm = 0.5 + width_mm / 2
        elif stage.direction == "across":
            centre_mm = boxes[-1].right_mm + gap_mm + width_mm / 2
        elif stage.direction == "join":
            wide_mm = boxes[-1].width_mm + boxes[stage.joined].width_mm
            centre_mm = boxes[-1].right_mm - wide_mm / 2
        else:
            centre_mm = boxes[-1].centre_mm
        boxes.append(Box(stage.shape, centre_mm, tops[stage.shape[1]], wide_mm, heights[stage.shape[1]]))
    return boxes


def architecture(name: str, settings: UNetSettings) -> Figure:
    """The network as a U: a box for what each step leaves, an arrow for what it does."""
    stages, parameters = trace(settings)
    boxes = layout(stages)
    height_mm = max(box.bottom_mm for box in boxes) + 3
    words = (
        f"U-Net “{name}”: {parameters:,} parameters. Boxes: filters × rows × columns for one slice of {SIZE} × {SIZE}, "
        "as the built network computes them; width grows with the logarithm of the filters, height with that of the "
        "rows."
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(height_mm, words)
        axes = style.panel(figure, 0, 0, style.WIDTH_MM, height_mm)
        axes.set(xlim=(0, style.WIDTH_MM), ylim=(height_mm, 0))
        axes.axis("off")
        for index, (stage, box) in enumerate(zip(stages, boxes, strict=True)):
            if stage.direction == "join":
                _join(axes, boxes[stage.joined], boxes[index - 1], box, _colour(stage))
                continue
            _box(axes, box.left_mm, box)
            if index:
                _arrow(axes, *_ends(stage, boxes[index - 1], box), _colour(stage))
        for box, word in ((boxes[0], "slice"), (boxes[-1], "probability")):
            at = "left" if box is boxes[0] else "right"
            edge_mm = box.left_mm if box is boxes[0] else box.right_mm
            axes.text(edge_mm, box.bottom_mm + 2.2, word, ha=at, va="center", size=style.SMALL_PT)
        _legend(axes, stages, height_mm)
    return figure


def _box(axes: Axes, left_mm: float, box: Box, edge: str = style.FAINT, **line: Any) -> None:
    """`box`, moved to `left_mm`, with its label along it."""
    place = (left_mm, box.top_mm)
    axes.add_patch(Rectangle(place, box.width_mm, box.height_mm, facecolor=_FILL, edgecolor=edge, lw=0.6, **line))
    middle_mm = left_mm + box.width_mm / 2
    axes.text(middle_mm, box.middle_mm, box.label, size=style.SMALL_PT, **_UPWARDS)


def _join(axes: Axes, source: Box, before: Box, box: Box, colour: str) -> None:
    """The copy beside the box before it, the arrow that brings it, and the shape of both together above."""
    _box(axes, box.left_mm, source, edge=colour, linestyle=(0, (3, 1.5)))
    _arrow(axes, (source.right_mm, box.middle_mm), (box.left_mm, box.middle_mm), colour, dashed=True)
    axes.text(box.centre_mm, box.top_mm - 1.6, box.label, ha="center", va="center", size=style.SMALL_PT)


def _ends(stage: Stage, before: Box, box: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the arrow to `box` starts and ends."""
    if stage.direction == "down":
        return (box.centre_mm, before.bottom_mm), (box.centre_mm, box.top_mm)
    if stage.direction == "up":
        return (box.centre_mm, before.top_mm), (box.centre_mm, box.bottom_mm)
    return (before.right_mm, box.middle_mm), (box.left_mm, box.middle_mm)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, *, dashed: bool = False
) -> None:
    line = (0, (4, 2)) if dashed else "solid"
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>,head_length=3.2,head_width=1.6", mutation_scale=1, lw=1.1, color=colour,
            linestyle=line, shrinkA=0.6, shrinkB=0.6, joinstyle="miter",
        )
    )  # fmt: skip


def _colour(stage: Stage) -> str:
    """The same for the same kind of step in every network."""
    plain, added, pooled, raised, joined, last, dropped = style.PALETTE
    if stage.direction != "across":
        return {"down": pooled, "up": raised, "join": joined}[stage.direction]
    if "sigmoid" in stage.operations:
        return last
    if not any(words.startswith("conv") for words in stage.operations):
        return dropped
    return plain if len(stage.operations) == 2 else added


def _legend(axes: Axes, stages: tuple[Stage, ...], height_mm: float) -> None:
    """What each arrow does, in the free corner under the way down."""
    kinds = list({stage.operations: stage for stage in stages if stage.operations}.values())
    for index, stage in enumerate(reversed(kinds)):
        y_mm = height_mm - 3 - index * _LINE_MM
        _arrow(axes, (0.5, y_mm), (6.5, y_mm), _colour(stage), dashed=stage.direction == "join")
        axes.text(8, y_mm, ", ".join(stage.operations), va="center")
