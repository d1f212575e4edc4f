"""All result files of a comparison in one folder."""

from pathlib import Path
from typing import Any

from bleedmap.comparison.compare import Comparison, describe_gap
from bleedmap.comparison.examination import Identity
from bleedmap.comparison.growth import CRITERION, CRITERION_ML, CRITERION_PERCENT, DERIVED_FOR, Growth
from bleedmap.comparison.match import MEANINGS, NEAR_MM
from bleedmap.comparison.pictures import describe_viewer, draw_overview, still_pairs
from bleedmap.comparison.planes import Planes, lay_out
from bleedmap.comparison.tables import COLUMNS, lesion_table, to_json
from bleedmap.comparison.words import expansion_words, growth_of, headline, interval_is, interval_words
from bleedmap.io.files import folder_written_whole, write_json
from bleedmap.io.images import write_png
from bleedmap.page.writer import environment, write_csv, write_page
from bleedmap.results.page import round_top
from bleedmap.study.words import millilitres, span_ml

PAGE, JSON, TABLE, PICTURE = "compare.html", "compare.json", "growth.csv", "compare.png"
_FILES = {"page": PAGE, "table": TABLE, "picture": PICTURE}
_LEFT, _RIGHT = 20.0, 900.0  # of the chart's axis, in its own units


def save(comparison: Comparison, folder: str | Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Write page, picture, table and JSON into a new folder, whole or not at all; return what `compare.json` holds.

    Args:
        folder: new or empty; of earlier results with `overwrite`.
        overwrite: replace earlier results there.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    with folder_written_whole(Path(folder), overwrite=overwrite) as inside:
        planes = lay_out(comparison)
        write_png(inside / PICTURE, draw_overview(comparison, planes))
        write_csv(inside / TABLE, COLUMNS, lesion_table(comparison))
        _write_page(inside / PAGE, comparison, planes)
        content = to_json(comparison, _FILES)
        write_json(inside / JSON, content)
        return content


def _write_page(path: Path, comparison: Comparison, planes: Planes) -> None:
    environment().filters.update({"ml": millilitres, "span_ml": span_ml, "growth_of": growth_of})
    growth, first, second = comparison.growth, comparison.first.identity, comparison.second.identity
    known = first.taken is not None and second.taken is not None
    kinds = {one.kind for one in comparison.groups or ()}
    write_page(
        path, "compare.html", comparison=comparison, headline=headline(comparison),
        gap=describe_gap(second, first) if known else "", scanned=(_describe_time(first), _describe_time(second)),
        chart=None if growth is None else chart_growth(growth),
        interval="" if growth is None else interval_words(growth),
        interval_is="" if growth is None or growth.coverage is None else interval_is(growth.coverage),
        criterion=CRITERION, derived_for=DERIVED_FOR, expansion="" if growth is None else expansion_words(growth),
        kinds={kind: meaning for kind, meaning in MEANINGS.items() if kind in kinds}, near_mm=NEAR_MM,
        planes=len(planes.planes), pairs=still_pairs(comparison, planes), viewer=describe_viewer(comparison, planes),
    )  # fmt: skip


def _describe_time(one: Identity) -> str:
    if one.taken is None:
        return "not known"
    return one.taken.strftime("%Y-%m-%d %H:%M" if one.exact else "%Y-%m-%d")


def chart_growth(growth: Growth) -> dict[str, Any] | None:
    """Lay out the growth, its interval and the criterion's two limits on an axis in mL, as the page draws it.

    None where neither study is marked.
    """
    if not growth.first_ml and not growth.second_ml:
        return None
    limits = {CRITERION_ML: f"{CRITERION_ML:g} mL"}
    if growth.first_ml:
        limits[growth.first_ml * CRITERION_PERCENT / 100] = f"{CRITERION_PERCENT:g} %"
    ends = growth.interval_ml or (growth.ml, growth.ml)
    low, high = min(0.0, *ends), max(*limits, *ends)
    step = round_top((high - low) / 8)
    low, high = step * (low // step), step * -(-high // step)

    def place(ml: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (ml - low) / (high - low), 1)

    ticks = [low + step * number for number in range(round((high - low) / step) + 1)]
    return {
        "width": 940.0, "height": 110.0, "left": _LEFT, "right": _RIGHT, "floor": 84.0, "middle": 58.0,
        "at": place(growth.ml), "interval": None if growth.interval_ml is None else tuple(map(place, ends)),
        "limits": [(place(at), words, 16.0 * row) for row, (at, words) in enumerate(sorted(limits.items()))],
        "ticks": [(place(at), f"{at + 0.0:g}") for at in ticks],
    }  # fmt: skip
