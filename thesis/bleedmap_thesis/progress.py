"""The head of the report: which cells are done, where and by what."""

from collections.abc import Sequence
from typing import Any

from bleedmap import __version__
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.page.section import Section, Table, Value
from bleedmap_thesis.plan import PARTS, SCALES, Cell, cells
from bleedmap_thesis.record import CellResult

COLLAPSE = 0.2  # of training Dice


def all_planned(planned: Sequence[Cell], results: Sequence[CellResult]) -> list[Cell]:
    """The cells asked for or done, and all of one seed, of the full scale and of every scale asked for or done."""
    asked = {cell.key: cell for cell in [*planned, *(one.cell for one in results)]}
    for name in sorted({"full", *(cell.scale for cell in asked.values())}):
        asked |= {cell.key: cell for cell in cells(SCALES[name])}
    return list(asked.values())


def progress_section(planned: Sequence[Cell], results: Sequence[CellResult]) -> Section:
    """How many cells of each scale and part are done."""
    counts = []
    for name in _scales(planned):
        asked = sum(cell.scale == name for cell in planned)
        counts.append(f"{sum(one.cell.scale == name for one in results)} of {asked} cells at the {name} scale")
    words = f"Done: {' and '.join(counts)}. A cell is one training run, or one baseline, on one split."
    return Section("cells", "What has been run", (words,), (_cells_table(planned, results),))


def _scales(planned: Sequence[Cell]) -> list[str]:
    """Names of the scales that have cells, the thesis' own first."""
    return [name for name in SCALES if any(cell.scale == name for cell in planned)]


def _cells_table(planned: Sequence[Cell], results: Sequence[CellResult]) -> Table:
    rows: list[tuple[Value, ...]] = []
    for scale in _scales(planned):
        for part in PARTS:
            asked = sum((cell.scale, cell.part) == (scale, part) for cell in planned)
            own = [one for one in results if (one.cell.scale, one.cell.part) == (scale, part)]
            kinds = [sum(one.cell.kind == kind for one in own) for kind in ("slice", "patient")]
            rows.append((scale, part, len(own), asked, *kinds, _hours(own)))
    note = (
        "Counts of cells, scales side by side because nothing measured stands here. Grid: Table 1's networks, "
        "80/10/10; folds: five folds, networks and baselines; factors: the factorial design. Splits by slice and by "
        "patient. "
        + " ".join(f"{scale.name.capitalize()}: {scale.text}." for scale in (SCALES[name] for name in _scales(planned)))
    )
    columns = (
        "scale",
        "part",
        "cells done",
        "cells planned",
        "done, by slice",
        "done, by patient",
        "hours of computing",
    )
    return Table("cells", "Cells done and planned", note, columns, tuple(rows), {"hours of computing": 2})


def _hours(results: Sequence[CellResult]) -> float:
    return sum(float(one.made.get("seconds", 0)) for one in results) / 3600


def origin(results: Sequence[CellResult], data: CtIch | None) -> dict[str, Any]:
    """What the head of the page says of where the numbers come from."""
    made = [one.made for one in results]
    return {
        "program": f"bleedmap {__version__}",
        "code": sorted({str(one.get("code", "unknown")) for one in made}),
        "machines": sorted({_machine(one) for one in made}),
        "hours": _hours(results),
        "releases": sorted({str(one.split["release"]) for one in results} | ({data.release} if data else set())),
        "data_sha256": data.content_sha256() if data else None,
        "split_sha256": sorted({str(one.split["data_sha256"]) for one in results}),
    }


def _machine(made: dict[str, Any]) -> str:
    precision = "bf16" if made.get("bf16") else "fp32"
    device, threads = made.get("device", "unknown device"), made.get("threads", "?")
    return f"{device}, {threads} threads, {precision}, torch {made.get('torch', '?')}"


def collapsed(results: Sequence[CellResult]) -> list[CellResult]:
    """Trainings whose last epoch lost most of what they had learned: training Dice `COLLAPSE` below their best."""
    trained = [(one, [entry["loss"] for entry in one.curves]) for one in results if one.curves]
    return [one for one, losses in trained if losses[-1] > min(losses) + COLLAPSE]


def collapsed_in_words(results: Sequence[CellResult]) -> str:
    """A sentence of the trainings that collapsed, empty where none did."""
    trained, found = sum(bool(one.curves) for one in results), collapsed(results)
    if not found:
        return ""
    names = ", ".join(one.cell.key.partition("/")[2] for one in found)
    return (
        f"{len(found)} of {trained} trainings collapsed at the end (training Dice more than {COLLAPSE} below their own "
        f"best epoch): {names}. Their scores stand in the tables as they are."
    )
