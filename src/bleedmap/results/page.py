"""A study's report: one HTML page that stands alone, to read on a screen or on paper. It runs no script."""

import re
from collections.abc import Mapping, Sequence
from math import floor, log10
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from bleedmap.inference.weights import WeightsFile
from bleedmap.io.dicom.header import dash_date, text
from bleedmap.page.writer import embed_jpeg, environment, write_page
from bleedmap.results.overlay import SCALE_START, draw_slice
from bleedmap.results.pictures import choose_slices_to_show, letter_sides, slice_views
from bleedmap.results.tables import geometry, lesion_rows
from bleedmap.results.viewer import describe_slices
from bleedmap.study import words
from bleedmap.study.gate.check import Check
from bleedmap.study.measures import MIDLINE_MM, NARROW_MM
from bleedmap.study.result import Result

_PICTURE_SIDE = 480  # pixels; the page shows them at about 300
_JPEG_QUALITY = 88
_VERDICTS = {"refusal": "refusal, overruled", "warning": "warning", "not known": "not known", "pass": "passed"}
# A macro that calls a method or Jinja's own `replace` holds the page's context, and so the study, until the next
# garbage collection; these filters do not.
_FILTERS = {
    "ml": words.millilitres, "counted": words.counted, "chance": words.chance, "side": words.name_side,
    "dashed": lambda words: words.replace(" ", "-"),
}  # fmt: skip
_CARD = ".card.md"  # beside installed weights, under their name
_WIDTH, _HEIGHT = 940, 132  # of a chart, in its own units
_LEFT, _RIGHT, _TOP, _FLOOR = 46, 932, 10, 106  # of the bars' field
_LABELS = 16  # slice numbers under the bars, at most


def write_report(path: Path, result: Result, files: Mapping[str, str]) -> None:
    """Write the page.

    Args:
        result: the segmented study; a negative one has a page too.
        files: what each written file is -> its name, relative to the page.

    Raises:
        OutputError: the file cannot be written.
    """
    environment().filters.update(_FILTERS)
    write_page(
        path, "study.html", result=result, findings=result.findings,
        headline=words.headline(result.findings, result.certainty),
        certainty=result.certainty, certainty_words=_certainty_words(result),
        marked_slices=words.spans(index + 1 for index in result.findings.slices_with_lesion),
        lesions=lesion_rows(result), no_side=words.NO_SIDE, midline_mm=f"{MIDLINE_MM:g}", narrow_mm=f"{NARROW_MM:g}",
        attention=[one for one in _by_weight(result.checks) if one in result.warnings],
        checks=_by_weight(result.checks), verdict_words=_VERDICTS,
        pictures=_pictures(result), slices=describe_slices(result),
        volume_chart=_volume_chart(result), probability_chart=_probability_chart(result),
        acquisition=_acquisition(result), geometry=geometry(result.volume.hu.shape, result.volume.grid),
        settings=result.weights.preprocessing, scale_start=SCALE_START, card=model_card(result.weights),
        files={what: (name, quote(name)) for what, name in files.items()},
    )  # fmt: skip


def _certainty_words(result: Result) -> dict[str, str]:
    """The sentences around the figures of certainty; {} without any."""
    if result.certainty is None:
        return {}
    span_ml, coverage = result.certainty.volume_ml, result.certainty.coverage
    return {
        "verdict": words.verdict(result.findings, result.certainty),
        "do_not_rely": words.DO_NOT_RELY,
        "interval": "" if span_ml is None else words.interval(span_ml, coverage),
        "interval_is": "" if span_ml is None else words.interval_is(coverage),
        "types_are": words.TYPES_ARE,
    }


def _by_weight(checks: tuple[Check, ...]) -> list[Check]:
    """What stands against the study first; else in their own order."""
    return sorted(checks, key=lambda one: list(_VERDICTS).index(one.verdict))


def _pictures(result: Result) -> list[dict[str, Any]]:
    """The slices on the page: each picture as a URI, its size in pixels, and its words."""
    findings, chosen = result.findings, choose_slices_to_show(result)
    pictures = []
    for index, view in zip(chosen, slice_views(result, chosen), strict=True):
        picture = letter_sides(draw_slice(view, side=_PICTURE_SIDE, threshold=result.threshold), view.sides)
        pictures.append({
            "uri": embed_jpeg(picture, _JPEG_QUALITY), "width": picture.width, "height": picture.height,
            "number": index + 1, "marked": words.marked(findings, index),
            "likelihood": words.likelihood(findings, result.certainty, index),
        })  # fmt: skip
    return pictures


def _volume_chart(result: Result) -> SimpleNamespace | None:
    """mL in each slice; None where nothing was found."""
    findings = result.findings
    if not findings.found:
        return None
    voxel_ml = result.mask.grid.voxel_ml
    values = [one.lesion_pixels * float(voxel) for one, voxel in zip(findings.slices, voxel_ml, strict=True)]
    return slice_chart(values, _slice_words(result), top=round_top(max(values)))


def _probability_chart(result: Result) -> SimpleNamespace:
    """Each slice's highest probability, the threshold, and the slice's own probability where there is one."""
    values = [one.highest_probability for one in result.findings.slices]
    curve = () if result.certainty is None else result.certainty.slices
    return slice_chart(values, _slice_words(result), top=1.0, line=result.threshold, curve=curve)


def _slice_words(result: Result) -> list[str]:
    """For a pointer over a bar; the highest pixel is said wherever the line does not say it."""
    lines = [words.slice_line(result.findings, result.certainty, index) for index in range(len(result.findings.slices))]
    if result.certainty is None:
        return lines
    pixels = [f"highest pixel {one.highest_probability:.2f}" for one in result.findings.slices]
    return [f"{line}, {pixel}" for line, pixel in zip(lines, pixels, strict=True)]


def _acquisition(result: Result) -> list[tuple[str, str]]:
    """What the files say about the scan, as (what, value)."""
    scan = result.acquisition
    date = None if result.dicom is None else dash_date(text(result.dicom.headers[0], "StudyDate"))
    contrast = "none given" if scan.contrast == "" else scan.contrast
    facts: list[tuple[str, Any, str]] = [
        ("Study date", date, ""),
        ("Modality", scan.modality, ""), ("Description", scan.description, ""), ("Body part", scan.body_part, ""),
        ("Image type", ", ".join(scan.image_type) or None, ""), ("Scanner", scan.scanner, ""),
        ("Contrast agent", contrast, ""), ("Peak voltage", scan.kvp, " kV"), ("Kernel", scan.kernel, ""),
        ("Age", scan.age_years, " years"), ("Slice thickness, as stated", scan.thickness_mm, " mm"),
        ("Gantry tilt, as stated", scan.gantry_tilt_deg, "°"),
    ]  # fmt: skip
    return [
        (what, f"{value:g}{unit}" if isinstance(value, float) else f"{value}{unit}")
        for what, value, unit in facts
        if value is not None
    ]


def model_card(weights: WeightsFile) -> tuple[str, ...]:
    """What the card beside installed weights says of them: its first paragraph, and its limits. () without a card."""
    path = weights.path.with_suffix(_CARD)
    text = path.read_text("utf-8") if path.is_file() else ""
    found = re.match(
        rf"# Model card: {re.escape(weights.name)}\n+(?P<intro>.+?)\n\n.*^## Limits\n+(?P<limits>.+?)(?:\n\n|\Z)",
        text, re.DOTALL | re.MULTILINE,
    )  # fmt: skip
    if found is None:
        return ()
    return tuple(" ".join(part.replace("**", "").split()) for part in (found["intro"], found["limits"]))


def slice_chart(
    values: Sequence[float], words: Sequence[str], *, top: float, line: float | None = None,
    curve: Sequence[float] = (),
) -> SimpleNamespace:  # fmt: skip
    """Lay out one bar a slice, feet to head, as the page's macro `chart` draws it.

    Args:
        values: one a slice, from 0 to `top`.
        words: one a slice, for a pointer over its bar.
        top: the value at the field's upper edge, above 0.
        line: the value at which a dashed line runs across.
        curve: one a slice, or none, from 0 to `top`: a second value that a line joins.
    """
    step = (_RIGHT - _LEFT) / len(values)
    width = min(0.78 * step, 36.0)
    middles = [_LEFT + (index + 0.5) * step for index in range(len(values))]
    heights = [_up(value, top) for value in values]
    every = next(one for one in (1, 5, 10, 20, 50, 100, 200) if len(values) <= _LABELS * one or one == 200)
    points = [(round(x, 2), _up(value, top)) for x, value in zip(middles, curve, strict=False)]
    return SimpleNamespace(
        bars=[
            {"x": x - width / 2, "y": y, "width": width, "height": _FLOOR - y, "words": said}
            for x, y, said in zip(middles, heights, words, strict=True)
        ],
        values=[{"at": _up(part * top, top), "label": f"{part * top:g}"} for part in (0.0, 0.5, 1.0)],
        slices=[
            {"at": x, "label": str(number)} for number, x in enumerate(middles, 1) if number == 1 or number % every == 0
        ],
        line=None if line is None else _up(line, top),
        curve=points, points=" ".join(f"{x},{y}" for x, y in points),
        left=_LEFT, right=_RIGHT, floor=_FLOOR, width=_WIDTH, height=_HEIGHT,
    )  # fmt: skip


def round_top(highest: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10, … (any power of ten) that holds `highest`, which is above 0."""
    power = 10.0 ** floor(log10(highest))
    return next(factor * power for factor in (1, 2, 4, 6, 8, 10) if highest <= factor * power * (1 + 1e-9))


def _up(value: float, top: float) -> float:
    return round(_FLOOR - (_FLOOR - _TOP) * value / top, 2)
