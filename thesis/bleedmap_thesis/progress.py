"""What has been run: which cells are done, where and by what; which folds are still missing; what collapsed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bleedmap import __version__
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.page.section import Section, Table, tabulate
from bleedmap_thesis.plan import FOLDS, PARTS, SCALES, Cell, Scale, cells, name_method
from bleedmap_thesis.record import CellResult

COLLAPSE = 0.2  # of training Dice
_OF_A_SEED = 2 * FOLDS  # by slice and by patient


@dataclass(frozen=True)
class FoldCount:
    """How many cells of a method's folds are done, `of` how many of the seeds that are used."""

    cells: int
    of: int

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return 0 < self.cells == self.of

    def __str__(self) -> str:
        return f"{self.cells} of {self.of} cells done"


def _count_seeds(results: Iterable[CellResult], scale: Scale, label: str) -> dict[int, int]:
    """Seed -> how many of its cells are done."""
    wanted = (scale.name, "folds", label)
    found = {one.cell.key: one.cell for one in results}.values()
    seeds = [cell.seed for cell in found if (cell.scale, cell.part, cell.label) == wanted]
    return {seed: seeds.count(seed) for seed in sorted(set(seeds))}


def count_folds(results: Iterable[CellResult], scale: Scale, label: str) -> FoldCount:
    """Count the cells of the method's whole seeds, or where there is none, of all seeds that were begun."""
    counts = list(_count_seeds(results, scale, label).values())
    counts = [count for count in counts if count == _OF_A_SEED] or counts
    return FoldCount(sum(counts), _OF_A_SEED * max(1, len(counts)))


def _find_begun(results: Iterable[CellResult], scale: Scale, label: str) -> dict[int, int]:
    """Find the seeds that are only begun where a method has a whole one, and how many of their cells are done."""
    if not count_folds(results, scale, label).whole:
        return {}
    return {seed: count for seed, count in _count_seeds(results, scale, label).items() if count < _OF_A_SEED}


def drop_begun_seeds(results: Sequence[CellResult], scale: Scale) -> list[CellResult]:
    """Leave out the folds of seeds that are only begun, for methods that have a whole seed."""
    begun = {label: _find_begun(results, scale, label) for label in {one.cell.label for one in results}}
    own = (scale.name, "folds")
    return [
        one for one in results
        if (one.cell.scale, one.cell.part) != own or one.cell.seed not in begun[one.cell.label]
    ]  # fmt: skip


def describe_missing(results: Sequence[CellResult], scale: Scale, labels: Iterable[str]) -> str:
    """Say which folds of these methods are missing; empty where none are."""
    missing = []
    for label in labels:
        if not (done := count_folds(results, scale, label)).whole:
            missing.append(f"{name_method(label)}, {done}")
        missing += [
            f"{name_method(label)}, seed {seed}, {FoldCount(count, _OF_A_SEED)} and left out"
            for seed, count in _find_begun(results, scale, label).items()
        ]
    return f"Incomplete: {'; '.join(missing)}." if missing else ""


def add_note(tables: Iterable[Table], text: str) -> list[Table]:
    """Begin the tables' captions with `text`, where there is one."""
    return [replace(one, note=f"{text} {one.note}") if text else one for one in tables]


def list_planned(planned: Sequence[Cell], results: Sequence[CellResult]) -> list[Cell]:
    """List the cells asked for or done, and one seed of the full scale and of every scale asked for or done."""
    asked = {cell.key: cell for cell in [*planned, *(one.cell for one in results)]}
    for name in sorted({"full", *(cell.scale for cell in asked.values())}):
        asked |= {cell.key: cell for cell in cells(SCALES[name])}
    return list(asked.values())


def progress_section(planned: Sequence[Cell], results: Sequence[CellResult]) -> Section:
    """Tabulate how many cells of each scale and part are done."""
    rows = []
    for scale in [name for name in SCALES if any(cell.scale == name for cell in planned)]:
        for part in PARTS:
            asked = sum((cell.scale, cell.part) == (scale, part) for cell in planned)
            own = [one for one in results if (one.cell.scale, one.cell.part) == (scale, part)]
            by_slice = sum(one.cell.kind == "slice" for one in own)
            rows.append({
                "scale": scale, "part": part, "cells done": len(own), "cells planned": asked,
                "done, by slice": by_slice, "done, by patient": len(own) - by_slice, "hours of computing": _hours(own),
            })  # fmt: skip
    table = tabulate(
        "cells", "Cells done and planned",
        "Grid: Table 1's networks, 80/10/10; folds: five folds, networks and baselines; factors: the factorial design.",
        rows, {"hours of computing": 2},
    )  # fmt: skip
    words = "A cell is one training run, or one baseline, on one split. The table holds counts of cells, no scores."
    return Section("cells", "What has been run", (words,), (table,))


def _hours(results: Sequence[CellResult]) -> float:
    return sum(float(one.made.get("seconds", 0)) for one in results) / 3600


def describe_origin(results: Sequence[CellResult], data: CtIch | None) -> dict[str, Any]:
    """Gather what the head of the page says of where the numbers come from."""
    made = [one.made for one in results]
    machines = {
        f"{one.get('device', 'unknown device')}, {one.get('threads', '?')} threads, "
        f"{'bf16' if one.get('bf16') else 'fp32'}, torch {one.get('torch', '?')}"
        for one in made
    }
    return {
        "program": f"bleedmap {__version__}",
        "code": sorted({str(one.get("code", "unknown")) for one in made}),
        "machines": sorted(machines),
        "hours": _hours(results),
        "releases": sorted({str(one.split["release"]) for one in results} | ({data.release} if data else set())),
        "data_sha256": data.content_sha256() if data else None,
        "split_sha256": sorted({str(one.split["data_sha256"]) for one in results}),
    }


def find_collapsed(results: Sequence[CellResult]) -> list[CellResult]:
    """Find trainings whose training Dice ends more than `COLLAPSE` below their own best epoch."""
    trained = [(one, [entry["loss"] for entry in one.curves]) for one in results if one.curves]
    return [one for one, losses in trained if losses[-1] > min(losses) + COLLAPSE]


def trainings_section(results: Sequence[CellResult]) -> Section:
    """Count the trainings of a scale, and name those that collapsed at the end."""
    names = [one.cell.key.partition("/")[2] for one in find_collapsed(results)]
    row = {
        "trainings": sum(bool(one.curves) for one in results), "collapsed": len(names),
        "cells that collapsed": ", ".join(names),
    }  # fmt: skip
    words = (
        f"A training collapsed if its training Dice at the end is more than {COLLAPSE} below its own best epoch. The "
        "scores of such trainings stand in the tables as they are."
    )
    table = tabulate(
        "trainings", "Trainings, and those that collapsed", "Of both kinds of split, all seeds and folds.", [row]
    )
    return Section("trainings", "Did every training end well?", (words,), (table,))
