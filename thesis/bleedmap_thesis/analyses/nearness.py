"""The gap's control: how near a test slice is to what was trained on, and what copying that slice's mask scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.figures import style
from bleedmap.metrics.bootstrap import patient_bootstrap
from bleedmap.page.section import Table
from bleedmap_thesis.analyses.paired_slices import (
    INTERVAL,
    KINDS,
    LESION_DICE,
    NOT_APPLICABLE,
    Estimate,
    Pair,
    Row,
    gathered,
    in_words,
    mean,
    select,
)
from bleedmap_thesis.plan import Scale
from bleedmap_thesis.record import CellResult
from bleedmap_thesis.titles import at_scale, letters, title

TERCILES = 3
COLOURS = {"slice": style.PALETTE[0], "patient": style.PALETTE[1]}
_RANK_RESAMPLES = 1000  # of rank correlations
COPY = "copy-nearest"


@dataclass(frozen=True, eq=False)
class Near:
    """The nearest training slice of each row of a `Pair`; and the Dice of copying its mask.

    Attributes:
        distance: kind -> (n,) distance.
        same_patient: kind -> (n,) bool.
        copied: kind -> (n,) Dice of the copied mask.
        rows: (n,) rows of the pair.
    """

    distance: dict[str, DoubleArray]
    same_patient: dict[str, AnyArray]
    copied: dict[str, DoubleArray]
    rows: AnyArray


def nearness(results: Sequence[CellResult], scale: Scale, main: Pair, lesions: frozenset[str]) -> Near | None:
    """Of the main method's lesion slices; None where the baseline that looks for them is not done."""
    found = {}
    for kind in KINDS:
        cells = select(results, scale, "folds", COPY, kind)
        places: dict[tuple[int, str], list[float]] = {}
        for one in cells:
            dice = gathered([one], lesions).dice.tolist()
            columns = zip(one.last.ids, one.last.extra["distance"], one.last.extra["same_patient"], dice, strict=True)
            places |= {(one.cell.seed, name): values for name, *values in columns}
        found[kind] = places
    keys = list(zip(main.by_slice.seeds.tolist(), main.by_slice.ids.tolist(), strict=True))
    rows = np.array([row for row, key in enumerate(keys) if all(key in found[kind] for kind in KINDS)], np.int64)
    if len(rows) < 2 * TERCILES:
        return None
    values = {kind: np.array([found[kind][keys[row]] for row in rows], np.float64).T for kind in KINDS}
    return Near({kind: one[0] for kind, one in values.items()}, {kind: one[1] > 0 for kind, one in values.items()},
                {kind: one[2] for kind, one in values.items()}, rows)  # fmt: skip


def _rank_correlation(patients: AnyArray, one: DoubleArray, other: DoubleArray) -> Estimate:
    """Spearman's, with its interval over patients."""

    def statistic(rows: AnyArray) -> float:
        if not np.ptp(one[rows]) or not np.ptp(other[rows]):
            return float("nan")
        return float(np.corrcoef(stats.rankdata(one[rows]), stats.rankdata(other[rows]))[0, 1])

    low, high = patient_bootstrap(patients, lambda rows, _: [statistic(rows)], resamples=_RANK_RESAMPLES, seed=0)[0]
    return Estimate(statistic(np.arange(len(one))), float(low), float(high))


def tables(near: Near, main: Pair, scale: Scale) -> tuple[Table, Table]:
    """The control, and Dice in thirds of distance."""
    note = f"{INTERVAL}. {at_scale(scale)}"
    return _control(near, main, note), _thirds(near, main, note)


def _control(near: Near, main: Pair, note: str) -> Table:
    who, dice = main.patients[near.rows], _dice(near, main)
    n = len(np.unique(main.by_slice.ids[near.rows])), len(np.unique(who))
    rows: list[Row] = []
    for kind in KINDS:
        distance = near.distance[kind]
        quarters = (float(one) for one in np.percentile(distance, [50, 25, 75]))
        rows.append((f"by {kind}", *n, float(near.same_patient[kind].mean()), *quarters,
                     *mean(who, near.copied[kind]).cells,
                     *_rank_correlation(who, distance, dice[kind]).cells))  # fmt: skip
    change = _rank_correlation(who, near.distance["patient"] - near.distance["slice"], dice["slice"] - dice["patient"])
    rows.append(("gap against increase of distance", *n, *(NOT_APPLICABLE,) * 5, None, None, *change.cells))
    return Table(
        "gap-control", "How near is each lesion slice to its nearest training slice?",
        "Same patient: share of slices whose nearest training slice is of the same patient. Distance: root mean square "
        "difference of the network's inputs, mirrors tried. Copied Dice: the nearest training slice's mask taken as "
        f"the answer, nothing learned. Spearman: rank correlation of {title(main.label)}'s Dice and distance; the last "
        "row: of the paired gap and the increase of distance from split by slice to split by patient; intervals over "
        f"patients, {_RANK_RESAMPLES:,} resamples. An association: distance also grows with what makes a slice hard. "
        f"{note}",
        ("split", "lesion slices", "bleeding patients", "same patient", "median distance", "lower quartile",
         "upper quartile", "copied Dice", "copied Dice low", "copied Dice high", "Spearman", "Spearman low",
         "Spearman high"),
        tuple(rows),
        digits={"median distance": 4, "lower quartile": 4, "upper quartile": 4},
    )  # fmt: skip


def _thirds(near: Near, main: Pair, note: str) -> Table:
    who, dice = main.patients[near.rows], _dice(near, main)
    rows: list[Row] = []
    for kind in KINDS:
        distance = near.distance[kind]
        ends = np.quantile(distance, np.arange(1, TERCILES) / TERCILES)
        which = np.searchsorted(ends, distance, side="left")
        for third in range(TERCILES):
            own = which == third
            if own.any():
                rows.append((f"by {kind}", third + 1, int(own.sum()), len(np.unique(who[own])),
                             float(distance[own].min()), float(distance[own].max()),
                             *mean(who[own], dice[kind][own]).cells))  # fmt: skip
    return Table(
        "gap-terciles", f"{title(main.label)}: Dice in thirds of distance", "Thirds are of each kind's own distances; "
        f"1 is nearest; with several seeds a slice counts once for each. {LESION_DICE}. {note}",
        ("split", "third", "rows", "bleeding patients", "smallest distance", "largest distance", "Dice", "Dice low",
         "Dice high"),
        tuple(rows),
        digits={"smallest distance": 4, "largest distance": 4},
    )  # fmt: skip


def _dice(near: Near, main: Pair) -> dict[str, DoubleArray]:
    return {"slice": main.by_slice.dice[near.rows], "patient": main.by_patient.dice[near.rows]}


def words(near: Near, main: Pair, control: Table) -> tuple[str, ...]:
    """What the control says."""
    by_slice, by_patient, change = control.rows
    same = [f"{100 * row[3]:.0f} %" for row in (by_slice, by_patient) if isinstance(row[3], float)]
    own = [f"{one.mean():.3f}" for one in _dice(near, main).values()]
    return (
        f"Of {by_slice[1]} lesion slices, {same[0]} have a slice of the same patient as their nearest training slice "
        f"when split by slice, {same[1]} by patient; the median distance is {by_slice[4]:.4f} and "
        f"{by_patient[4]:.4f}. Copying that slice's mask, with nothing learned, scores Dice "
        f"{in_words(by_slice[7:10])} by slice and {in_words(by_patient[7:10])} by patient, where {title(main.label)} "
        f"scores {own[0]} and {own[1]}.",
        f"Rank correlation of {title(main.label)}'s Dice with distance: {in_words(by_slice[10:])} by slice "
        f"({_association(by_slice)}), {in_words(by_patient[10:])} by patient ({_association(by_patient)}); of a "
        "slice's "
        f"gap with its increase of distance: {in_words(change[10:])} ({_association(change)}). Associations, not "
        "causes.",
    )


def beside_copying(near: Near, main: Pair, shown: bool) -> str:
    """Whether the network makes more of its neighbours than copying them does, split by slice.

    Args:
        near: of complete folds.
        main: the method.
        shown: whether a gap is shown.
    """
    who, own, copied = main.patients[near.rows], _dice(near, main)["slice"], near.copied["slice"]
    change = mean(who, own - copied)
    said = (
        f"Copying the nearest training slice's mask, with nothing learned, scores {copied.mean():.3f} by slice, where "
        f"the network scores {own.mean():.3f}: network less copy {in_words(change.cells)}"
    )
    if change.low > 0:
        return f"{said}. The network scores above its neighbours' masks."
    if change.high >= 0:
        return f"{said}. Whether it makes more of the neighbours than copying does cannot be told."
    about = (
        "how large the gap is is about this scale: a network that exploits them may show a larger one"
        if shown else "'no difference' is about this scale: it says nothing of networks that do exploit them"
    )  # fmt: skip
    return f"{said}. A network below that does not exploit the neighbours that are there, so that {about}."


def _association(row: Row) -> str:
    low, high = row[11:]
    if not isinstance(low, float) or not isinstance(high, float) or low <= 0 <= high:
        return "none shown"
    return "farther goes with more" if low > 0 else "farther goes with less"


def draw(near: Near, main: Pair, scale: Scale) -> Figure:
    """a: both kinds, a dot a slice, thirds as bars. b: gap against increase."""
    dice = _dice(near, main)
    caption = (
        f"{title(main.label)}, {main.done}, {len(np.unique(main.by_slice.ids[near.rows]))} lesion slices. Distance of "
        "a test slice to the nearest training slice: root mean square difference of the inputs. a: a dot a slice; bars "
        "are the mean Dice "
        "in thirds of each kind's distances. b: what a slice loses from split by slice to split by patient, against "
        f"its increase of distance. {LESION_DICE}. {at_scale(scale)}"
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(70, caption)
        left, right = style.panel(figure, 14, 6, 76, 54), style.panel(figure, 108, 6, 70, 54)
        for kind in KINDS:
            distance, colour = near.distance[kind], COLOURS[kind]
            left.scatter(distance, dice[kind], s=5, color=colour, alpha=0.35, linewidths=0, label=f"by {kind}")
            _bars(left, distance, dice[kind], colour)
        left.set(xlabel="distance to the nearest training slice", ylabel="Dice", ylim=(0, 1.02))
        left.set_xlim(left=0)
        left.legend(frameon=False, fontsize=style.SMALL_PT, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.99),
                    markerscale=2)  # fmt: skip
        right.axhline(0, color=style.FAINT, linewidth=0.6)
        increase = near.distance["patient"] - near.distance["slice"]
        right.scatter(increase, dice["slice"] - dice["patient"], s=5, color=style.INK, alpha=0.4, linewidths=0)
        right.set(xlabel="increase of distance, by patient less by slice", ylabel="loss of Dice")
        letters(figure, (0.5, 95))
    return figure


def _bars(axes: Axes, distance: DoubleArray, dice: DoubleArray, colour: str) -> None:
    ends = np.quantile(distance, np.linspace(0, 1, TERCILES + 1))
    for low, high in pairwise(ends):
        own = (distance >= low) & (distance <= high)
        axes.plot([low, high], [dice[own].mean()] * 2, color="white", linewidth=4.2, solid_capstyle="butt")
        axes.plot([low, high], [dice[own].mean()] * 2, color=colour, linewidth=2.6, solid_capstyle="butt")
