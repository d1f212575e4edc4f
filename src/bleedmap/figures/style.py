"""The style of all figures: a journal's full width, one typeface, colours that colour-blind readers can tell apart."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath
from matplotlib.ticker import NullFormatter

from bleedmap.errors import OutputError
from bleedmap.io.files import written_whole
from bleedmap.page.section import Picture

WIDTH_MM = 180.0  # two columns of a journal page
PNG_DPI = 300
TEXT_PT, SMALL_PT = 7.0, 6.0
CAPTION_LINE_MM = 3.4
INK, FAINT, RULE = "#1a1a1a", "#5f6368", "#c9ccd1"
# Okabe and Ito 2008, without yellow, which is too light for a thin line on paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#1a1a1a")

_FAMILY = "DejaVu Sans"  # comes with matplotlib: the same figure on every machine
_MM_PER_INCH = 25.4
_POINTS_PER_INCH = 72
_METADATA: dict[str, dict[str, Any]] = {  # no dates: the same figure is the same file
    ".png": {"Software": "bleedmap"},
    ".pdf": {"Creator": "bleedmap", "CreationDate": None},
    ".svg": {"Creator": "bleedmap", "Date": None},
}
SETTINGS: dict[str, Any] = {
    "font.family": _FAMILY,
    "font.size": TEXT_PT,
    "text.color": INK,
    "text.parse_math": False,  # a run may be called "a$b$"
    "axes.labelsize": TEXT_PT,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": SMALL_PT,
    "ytick.labelsize": SMALL_PT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.1,
    "pdf.fonttype": 42,  # letters stay letters
    "svg.hashsalt": "bleedmap",
}


def check_suffix(path: Path) -> None:
    """Refuse a name that no figure can be written to.

    Raises:
        OutputError: it does not end in .png, .pdf or .svg.
    """
    if path.suffix.lower() not in _METADATA:
        raise OutputError(
            path,
            found=f"the suffix '{path.suffix}'" if path.suffix else "no suffix",
            needed=f"a name that ends in {', '.join(_METADATA)}",
            remedy=f"write to {path.stem or 'figure'}.png, for example",
        )


def page(height_mm: float, caption: str) -> Figure:
    """Make a white page of `WIDTH_MM` with its caption below `height_mm` of room for the panels."""
    lines = wrapped(caption, WIDTH_MM - 1)
    total_mm = height_mm + (len(lines) + 0.5) * CAPTION_LINE_MM
    figure = Figure(figsize=(WIDTH_MM / _MM_PER_INCH, total_mm / _MM_PER_INCH), facecolor="white")
    for number, line in enumerate(lines):
        write(figure, 0.5, height_mm + (number + 0.5) * CAPTION_LINE_MM, line, color=FAINT)
    return figure


def wrapped(words: str, width_mm: float, size_pt: float = TEXT_PT) -> list[str]:
    """Wrap words into lines of at most `width_mm` in the page's typeface; a single word may be longer."""
    face, limit_pt = FontProperties(family=_FAMILY, size=size_pt), width_mm / _MM_PER_INCH * _POINTS_PER_INCH
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        fits = TextToPath().get_text_width_height_descent(longer, face, ismath=False)[0] <= limit_pt
        lines[-1:] = [longer] if fits or not lines[-1] else [lines[-1], word]
    return lines


def panel(figure: Figure, left_mm: float, top_mm: float, width_mm: float, height_mm: float) -> Axes:
    """Add axes whose upper left corner is that far from the page's."""
    total_mm = figure.get_size_inches()[1] * _MM_PER_INCH
    bounds = (left_mm / WIDTH_MM, 1 - (top_mm + height_mm) / total_mm, width_mm / WIDTH_MM, height_mm / total_mm)
    return figure.add_axes(bounds)


def picture(figure: Figure, left_mm: float, top_mm: float, side_mm: float, pixels: Any) -> Axes:
    """Add a square panel with pixels: (row, column) in 0 to 1, black to white, or (row, column, 3) RGB; no axes."""
    axes = panel(figure, left_mm, top_mm, side_mm, side_mm)
    axes.set(facecolor="black", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    axes.set_aspect("equal", adjustable="datalim")  # a slice that is not square stands on black
    return axes


def write(figure: Figure, left_mm: float, top_mm: float, words: str, **how: Any) -> None:
    """Write text whose left middle is that far from the page's upper left corner."""
    total_mm = figure.get_size_inches()[1] * _MM_PER_INCH
    figure.text(left_mm / WIDTH_MM, 1 - top_mm / total_mm, words, **({"va": "center"} | how))


def letter(figure: Figure, place: int, left_mm: float, top_mm: float, **how: Any) -> None:
    """Write the letter of a panel, a for place 0."""
    write(figure, left_mm, top_mm, chr(ord("a") + place), **({"weight": "bold", "size": TEXT_PT + 1} | how))


def headings(figure: Figure, lefts_mm: Sequence[float], top_mm: float, heads: Sequence[str]) -> None:
    """Write a, b, … each with its head above columns that begin there."""
    for place, (left_mm, head) in enumerate(zip(lefts_mm, heads, strict=True)):
        letter(figure, place, left_mm, top_mm)
        write(figure, left_mm + 3, top_mm, head)


def letters(figure: Figure, lefts_mm: Sequence[float]) -> None:
    """Write a, b, … above panels that begin there."""
    for place, left_mm in enumerate(lefts_mm):
        letter(figure, place, left_mm, 2.2)


def plain_logarithms(axis: Axis) -> None:
    """Write numbers in full along a logarithmic axis: powers need math text, which `SETTINGS` leaves out."""
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: Path) -> None:
    """Write a figure as .png (300 dpi), .pdf or .svg, by the suffix; whole or not at all.

    Raises:
        OutputError: another suffix, or the file cannot be written.
    """
    check_suffix(path)
    kind = path.suffix.lower()
    with mpl.rc_context(SETTINGS), written_whole(path) as part:
        figure.savefig(part, format=kind[1:], dpi=PNG_DPI, metadata=_METADATA[kind])


def save_pictures(
    pictures: Mapping[str, Picture], folder: Path, progress: Callable[[str, int, int], None]
) -> None:  # fmt: skip
    """Draw a report's figures and write each as `folder`/NAME.png.

    Args:
        pictures: by the name of the file, without its suffix.
        folder: it need not exist.
        progress: called with ("drawing figures", figure from 1, of).

    Raises:
        OutputError: a file cannot be written.
    """
    for number, (name, picture) in enumerate(pictures.items(), start=1):
        progress("drawing figures", number, len(pictures))
        save(picture.draw(), folder / f"{name}.png")
