"""How much of the five folds is in: a verdict waits for all folds of both kinds of split of a seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bleedmap.page.section import Table
from bleedmap_thesis.plan import FOLDS, Scale
from bleedmap_thesis.record import CellResult
from bleedmap_thesis.titles import title

_OF_A_SEED = 2 * FOLDS  # by slice and by patient


@dataclass(frozen=True)
class Done:
    """Cells of one method's folds: how many are in, `of` how many of the seeds that are used."""

    cells: int
    of: int

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return 0 < self.cells == self.of

    def __str__(self) -> str:
        return f"{self.cells} of {self.of} cells done"


def _seeds(results: Iterable[CellResult], scale: Scale, label: str) -> dict[int, int]:
    """Seed -> how many of its cells are in."""
    wanted = (scale.name, "folds", label)
    found = {one.cell.key: one.cell for one in results}.values()
    seeds = [cell.seed for cell in found if (cell.scale, cell.part, cell.label) == wanted]
    return {seed: seeds.count(seed) for seed in sorted(set(seeds))}


def folds_done(results: Iterable[CellResult], scale: Scale, label: str) -> Done:
    """Of the method's whole seeds, or where there is none, of all that were begun."""
    counts = list(_seeds(results, scale, label).values())
    counts = [count for count in counts if count == _OF_A_SEED] or counts
    return Done(sum(counts), _OF_A_SEED * max(1, len(counts)))


def settled(results: Sequence[CellResult], scale: Scale) -> list[CellResult]:
    """Without the folds of seeds that are only begun, for methods that have a whole seed."""
    methods = {one.cell.label for one in results if (one.cell.scale, one.cell.part) == (scale.name, "folds")}
    begun = {
        (label, seed)
        for label in methods if folds_done(results, scale, label).whole
        for seed, count in _seeds(results, scale, label).items() if count < _OF_A_SEED
    }  # fmt: skip
    return [
        one for one in results
        if (one.cell.scale, one.cell.part) != (scale.name, "folds") or (one.cell.label, one.cell.seed) not in begun
    ]  # fmt: skip


def incomplete(results: Iterable[CellResult], scale: Scale, labels: Iterable[str]) -> str:
    """What of the folds of these methods is missing, for words and notes; empty where nothing is."""
    results, told = list(results), []
    for label in labels:
        done = folds_done(results, scale, label)
        if not done.whole:
            told.append(f"{title(label)}, {done}")
            continue
        told += [
            f"{title(label)}, seed {seed}, {Done(count, _OF_A_SEED)} and left out"
            for seed, count in _seeds(results, scale, label).items() if count < _OF_A_SEED
        ]  # fmt: skip
    return f"Incomplete: {'; '.join(told)}." if told else ""


def noted(tables: Iterable[Table], text: str) -> list[Table]:
    """The tables, their notes beginning with `text` if there is one."""
    return [replace(one, note=f"{text} {one.note}") if text else one for one in tables]
