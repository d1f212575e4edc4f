"""The thesis' Table 1 beside ours: every cell under the convention of the comparison, the strict measures with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bleedmap.datasets.splits import Kind
from bleedmap.evaluation.slices import RESAMPLES
from bleedmap.page.section import Picture, Section, Table, Value
from bleedmap_thesis.analyses.conventions import CONVENTIONS, TABLE_1, TableRow, described_formula
from bleedmap_thesis.analyses.paired_slices import RESAMPLES as STRICT_RESAMPLES
from bleedmap_thesis.analyses.table1_scores import PERCENT, PRINTED, STRICT, THESIS, Measured, measure
from bleedmap_thesis.analyses.trained_conventions import COMPARISON_CONVENTION
from bleedmap_thesis.plan import THESIS_EPOCHS, THESIS_STEP, Scale
from bleedmap_thesis.record import CellResult, Evaluation
from bleedmap_thesis.table1_figure import Series, dice_over_epochs

_PLACE = ("model", "batch, thesis", "batch, here", "epochs, thesis", "epochs, here")
MODELS, BATCHES = (1, 2), (16, 32)
TARGET = (2, 32, 1000)  # the thesis' best: model, batch, epochs
BY_PATIENT = ((1, 16), (2, 32))  # model, batch
SPLIT_WORDS: Mapping[Kind, str] = {
    "slice": "80/10/10 by slice, balanced: the test slices are of patients that were trained on",
    "patient": "80/10/10 by patient, balanced: no test patient was trained on",
}
_FORMULA = (
    "Beside it the thesis' own formula, under its own name: the mean of lesion and background IoU, mean over lesion "
    "slices; an unmarked lesion scores near one half by it. What the thesis prints as mean IoU is held against IoU "
    "(lesion)."
)
_STRICT_NOTE = (
    "Lesion-slice Dice: mean over lesion slices. Per-patient Dice: each patient's mean over its lesion slices, then "
    "the mean over patients with a lesion. A lesion that is not marked scores 0; lesion-free slices lend no score, "
    "and the share of them with any marked pixel stands beside. Slice AUC: bleed or not, by a slice's highest "
    "probability. Pixels at the network's size, probability ≥ 0.5."
)


@dataclass(frozen=True)
class MeasuredCell:
    """A cell of Table 1, all seeds together; `scores` is empty where none has been run."""

    model: int
    batch: int
    thesis_epochs: int
    kind: Kind
    seeds: int
    numbers: Mapping[str, int]  # slices, lesion slices, lesion patients, lesion-free slices; summed over seeds
    scores: Mapping[str, Measured]

    def thesis(self) -> TableRow | None:
        """What Table 1 prints for it."""
        place = (self.model, self.batch, self.thesis_epochs)
        rows = [row for row in TABLE_1 if (row.model, row.batch, row.epochs) == place]
        return rows[0] if rows and self.kind == "slice" else None


def section(results: Sequence[CellResult], scale: Scale, *, resamples: int = RESAMPLES) -> Section:
    """Table 1 at a scale; stands with 'not measured' where `results` has nothing.

    Args:
        results: of any scale; those of `scale` are taken.
        scale: which.
        resamples: of the bootstrap over patients.
    """
    grid = [one for one in results if one.cell.scale == scale.name and one.cell.part == "grid"]
    by_slice = _cells(grid, scale, "slice", [(model, batch) for model in MODELS for batch in BATCHES], resamples)
    tables = [_comparison(by_slice, scale, "slice", resamples)]
    if any(cell.scores for cell in by_slice):
        tables.append(_strict(by_slice, scale, "slice"))
    by_patient = _cells(grid, scale, "patient", BY_PATIENT, resamples)
    if any(cell.scores for cell in by_patient):
        tables += [_comparison(by_patient, scale, "patient", resamples), _strict(by_patient, scale, "patient")]
    words = [_answer(by_slice, scale), described_formula(), _how(scale)]
    picture = Picture("table-1", _alt(scale), lambda: dice_over_epochs(_series(by_slice), _caption(scale, resamples)))
    return Section("table-1", "Table 1: the thesis' figures beside ours", tuple(words), tuple(tables), (picture,))


def conventions_section() -> Section:
    """What the pairs that the thesis prints can mean, whatever is measured."""
    rows = []
    for one in sorted(CONVENTIONS, key=lambda one: -sum(map(one.allows, TABLE_1))):
        forbidden = [row for row in TABLE_1 if not one.allows(row)]
        example = f"{forbidden[-1].dice:.2f}, {forbidden[-1].mean_iou:.2f}" if forbidden else ""
        rows.append((one.text, len(TABLE_1) - len(forbidden), len(TABLE_1), example))
    note = (
        "From the thesis' printed figures alone, at its scale, split by slice; rounding granted. A convention that "
        "forbids a pair of Dice and IoU is not how that pair was scored; one that allows all may be."
    )
    columns = ("scored by", "cells allowed", "cells", "a pair that it forbids (Dice, IoU)")
    table = Table(
        "conventions", "Ways of scoring, and how many cells of Table 1 each allows", note, columns, tuple(rows)
    )
    whole = [str(row[0]) for row in rows if row[1] == row[2]]
    words = (
        f"Of {len(rows)} ways of scoring, {len(whole)} allow{'s' * (len(whole) == 1)} all {len(TABLE_1)} cells of "
        f"Table 1: {'; '.join(whole) or 'none'}. For the comparison this report uses: {COMPARISON_CONVENTION}."
    )
    return Section("conventions", "What the thesis' figures can mean", (words, described_formula()), (table,))


def _cells(
    grid: Sequence[CellResult], scale: Scale, kind: Kind, networks: Sequence[tuple[int, int]], resamples: int
) -> list[MeasuredCell]:
    made = []
    for model, batch in networks:
        for epochs in range(THESIS_STEP, THESIS_EPOCHS + 1, THESIS_STEP):
            found = _evaluations(grid, scale, f"model-{model}-b{batch}", kind, epochs)
            scores = measure(found, resamples) if found else {}
            made.append(MeasuredCell(model, batch, epochs, kind, len(found), _numbers(found), scores))
    return made


def _evaluations(
    grid: Sequence[CellResult], scale: Scale, label: str, kind: Kind, thesis_epochs: int
) -> list[Evaluation]:
    """One a seed: of the run that ended there if the seed has one, else of a longer run that passed through."""
    epoch, found = scale.epochs(thesis_epochs), dict[int, Evaluation]()
    for name in (label, f"{label}-alone-{thesis_epochs}"):
        own = [one for one in grid if (one.cell.label, one.cell.kind) == (name, kind)]
        found |= {one.cell.seed: test for one in own for test in one.evaluations if test.epoch == epoch}
    return [found[seed] for seed in sorted(found)]


def _numbers(found: Sequence[Evaluation]) -> dict[str, int]:
    results = [one.results() for one in found]
    return {
        "slices": sum(len(one.ids) for one in results),
        "lesion slices": sum(int(one.has_lesion.sum()) for one in results),
        "lesion patients": len({name for one in results for name in one.patients[one.has_lesion]}),
        "lesion-free slices": sum(int((~one.has_lesion).sum()) for one in results),
    }


def interval_columns(name: str) -> tuple[str, str, str]:
    """A measure and both ends of its interval: three columns that the page prints as one."""
    return name, f"{name} low", f"{name} high"


def _comparison(cells: Sequence[MeasuredCell], scale: Scale, kind: Kind, resamples: int) -> Table:
    several = any(cell.seeds > 1 for cell in cells)
    columns = list(_PLACE)
    for key, name in THESIS:
        columns += [f"{PRINTED[key][1]}, thesis"] if kind == "slice" and key in PRINTED else []
        columns += _score_columns(name, several)
    rows = []
    for cell in cells:
        row, thesis = _place(cell, scale), cell.thesis()
        for key, _ in THESIS:
            if kind == "slice" and key in PRINTED:
                row.append("" if thesis is None else _printed(thesis, key))
            row += _score_values(cell, key, several)
        rows.append((*row, cell.numbers["slices"], cell.seeds))
    digits = {f"accuracy %{end}": 2 for end in ("", ", thesis", " low", " high", " lowest seed", " highest seed")}
    digits |= {f"{name}, thesis": 2 for _, name in PRINTED.values()}
    note = f"{_shared(scale, kind, resamples)} Convention of the comparison: {COMPARISON_CONVENTION}. {_FORMULA}"
    key, title = _named("table-1", "Table 1 under the convention of the comparison", kind)
    return Table(key, title, note, (*columns, "n slices", "seeds"), tuple(rows), digits)


def _strict(cells: Sequence[MeasuredCell], scale: Scale, kind: Kind) -> Table:
    several = any(cell.seeds > 1 for cell in cells)
    columns = list(_PLACE)
    for _, name in STRICT:
        columns += _score_columns(name, several)
    counted = ("lesion slices", "lesion patients", "lesion-free slices")
    rows = []
    for cell in cells:
        row = _place(cell, scale)
        for key, _ in STRICT:
            row += _score_values(cell, key, several)
        rows.append((*row, *(cell.numbers[name] for name in counted), cell.seeds))
    note = f"{_shared(scale, kind, STRICT_RESAMPLES)} Convention: {_STRICT_NOTE}"
    digits = {f"lesion-free slices marked %{end}": 1 for end in ("", " low", " high", " lowest seed", " highest seed")}
    key, title = _named("table-1-strict", "The same cells, strictly", kind)
    return Table(key, title, note, (*columns, *(f"n {name}" for name in counted), "seeds"), tuple(rows), digits)


def _named(key: str, title: str, kind: Literal["slice", "patient"]) -> tuple[str, str]:
    return (key, f"{title}, by slice") if kind == "slice" else (f"{key}-by-patient", f"{title}, by patient")


def _place(cell: MeasuredCell, scale: Scale) -> list[Value]:
    batch = cell.batch // scale.batch_over
    return [f"Model {cell.model}", cell.batch, batch, cell.thesis_epochs, scale.epochs(cell.thesis_epochs)]


def _score_columns(name: str, several: bool) -> list[str]:
    return [*interval_columns(name), *([f"{name} lowest seed", f"{name} highest seed"] if several else [])]


def _score_values(cell: MeasuredCell, key: str, several: bool) -> list[Value]:
    one = cell.scores.get(key, Measured(None, None, None, None, None))
    return [one.value, one.low, one.high, *([one.lowest_seed, one.highest_seed] if several else [])]


def _shared(scale: Scale, kind: Kind, resamples: int) -> str:
    return (
        f"Scale: {scale.text}. Split: {SPLIT_WORDS[kind]}. n: test slices, summed over seeds. Means over seeds; 95 % "
        f"intervals by a bootstrap over patients ({resamples:,} resamples), too narrow where few patients bleed."
    )


def _answer(cells: Sequence[MeasuredCell], scale: Scale) -> str:
    best = next(cell for cell in cells if (cell.model, cell.batch, cell.thesis_epochs) == TARGET)
    thesis = best.thesis()
    assert thesis is not None
    what = f"Model 2, batch 32, {thesis.epochs:,} epochs, by slice"
    theirs = f"mean IoU {thesis.mean_iou:.2f}, Dice {thesis.dice:.2f}, accuracy {100 * thesis.accuracy:.2f} %"
    if not best.scores:
        done = sum(bool(cell.scores) for cell in cells)
        return (
            f"{what}: not measured at this scale. The thesis prints {theirs}. Of the {len(cells)} cells of model, "
            f"batch and epochs, {done} are measured."
        )
    ours = ", ".join(_in_words(best, key, name) for key, name in THESIS)
    told = (
        f"{what} (here batch {thesis.batch // scale.batch_over}, {scale.epochs(thesis.epochs):,} epochs): {ours}; "
        f"{best.numbers['slices']} test slices, "
        f"{best.seeds} seed{'s' * (best.seeds > 1)}. The thesis prints {theirs}. "
    )
    if scale.epochs_over > 1:
        return told + "This scale is not the thesis' own, so that it neither confirms nor refutes these figures."
    short = [name for key, name in THESIS if key in PRINTED and _below(best, key, thesis)]
    return told + (f"Below the thesis: {', '.join(short)}." if short else "All three are reached.")


def _printed(thesis: TableRow, key: str) -> float:
    """What Table 1 prints for our measure, in the unit of our column."""
    return round(float(getattr(thesis, PRINTED[key][0])) * (100 if key in PERCENT else 1), 2)


def _below(cell: MeasuredCell, key: str, thesis: TableRow) -> bool:
    """Against the printed figure, our own rounded as the thesis rounds."""
    ours = cell.scores[key].value
    return ours is None or round(ours, 2) < _printed(thesis, key)


def _in_words(cell: MeasuredCell, key: str, name: str) -> str:
    one = cell.scores[key]
    if one.value is None or one.low is None or one.high is None:
        return f"{name} not measured"
    name, unit = (name.removesuffix(" %"), " %") if name.endswith("%") else (name, "")
    return f"{name} {one.value:.2f}{unit} (95 % interval {one.low:.2f}–{one.high:.2f})"


def _how(scale: Scale) -> str:
    mapped = ""
    if scale.epochs_over > 1:
        mapped = (
            f" Here {scale.epochs(THESIS_EPOCHS)} epochs stand for the schedule's {THESIS_EPOCHS:,}, and so on in "
            f"proportion (1 for {scale.epochs_over})."
        )
    return (
        "The thesis planned runs of up to 1,400 epochs and prints up to 1,000. The learning rate is constant, so one "
        "run passes through every shorter one and is measured on the way; cells trained alone, where there are any, "
        f"take that seed's place.{mapped} An empty field in a column of the thesis means that it prints nothing there."
    )


def _series(cells: Sequence[MeasuredCell]) -> list[Series]:
    made = []
    for model in MODELS:
        for colour, batch in enumerate(BATCHES):
            own = [cell for cell in cells if (cell.model, cell.batch) == (model, batch)]
            printed = [(cell.thesis_epochs, row.dice, None, None) for cell in own if (row := cell.thesis()) is not None]
            ours = [
                (cell.thesis_epochs, one.value, one.low, one.high)
                for cell in own
                if cell.scores and (one := cell.scores["dice"]).value is not None
            ]
            made.append(Series(f"Model {model}", f"thesis, batch {batch}", tuple(printed), True, colour))
            made.append(Series(f"Model {model}", f"ours, batch {batch}", tuple(ours), False, colour))
    return made


def _caption(scale: Scale, resamples: int) -> str:
    return f"Dice on the test slices; {_shared(scale, 'slice', resamples)} Convention: {COMPARISON_CONVENTION}."


def _alt(scale: Scale) -> str:
    return f"Dice over the epochs of Model 1 and 2, batch 16 and 32, the thesis' points beside ours; {scale.name} scale"
