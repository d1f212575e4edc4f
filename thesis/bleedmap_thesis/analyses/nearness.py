"""The gap's control: how near a test slice is to what was trained on, and what copying that slice's mask scores."""

from collections.abc import Iterator, Sequence
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
from bleedmap.page.section import DOES_NOT_APPLY, NOT_APPLICABLE, Estimate, Row, Table, tabulate
from bleedmap_thesis.analyses import paired_slices as paired
from bleedmap_thesis.plan import KINDS, Scale, name_method
from bleedmap_thesis.record import CellResult

THIRDS = 3
COPY = "copy-nearest"
_RANK_RESAMPLES = 1000  # of rank correlations


@dataclass(frozen=True, eq=False)
class Near:
    """The nearest training slice of each lesion slice of a `Pair`, and the Dice of copying its mask."""

    ids: AnyArray  # (n,) slice ids
    patients: AnyArray  # (n,) of the slices
    dice: dict[str, DoubleArray]  # kind -> (n,) Dice of the pair's network
    distance: dict[str, DoubleArray]  # kind -> (n,) distance
    same_patient: dict[str, AnyArray]  # kind -> (n,) bool
    copied: dict[str, DoubleArray]  # kind -> (n,) Dice of the copied mask


def find_nearest(
    results: Sequence[CellResult], scale: Scale, main: paired.Pair, lesions: frozenset[str]
) -> Near | None:
    """Look up the main method's lesion slices; None where the baseline that copies the nearest slice is not done."""
    found = {}
    for kind in KINDS:
        places: dict[tuple[int, str], list[float]] = {}
        for one in paired.select(results, scale, "folds", COPY, kind):
            dice = paired.gather([one], lesions).dice.tolist()
            columns = zip(one.last.ids, one.last.extra["distance"], one.last.extra["same_patient"], dice, strict=True)
            places |= {(one.cell.seed, name): values for name, *values in columns}
        found[kind] = places
    keys = list(zip(main.by_slice.seeds.tolist(), main.by_slice.ids.tolist(), strict=True))
    rows = np.array([row for row, key in enumerate(keys) if all(key in found[kind] for kind in KINDS)], np.int64)
    if len(rows) < 2 * THIRDS:
        return None
    values = {kind: np.array([found[kind][keys[row]] for row in rows], np.float64).T for kind in KINDS}
    return Near(
        main.by_slice.ids[rows], main.patients[rows],
        {"slice": main.by_slice.dice[rows], "patient": main.by_patient.dice[rows]},
        {kind: one[0] for kind, one in values.items()}, {kind: one[1] > 0 for kind, one in values.items()},
        {kind: one[2] for kind, one in values.items()},
    )  # fmt: skip


def _correlate_ranks(patients: AnyArray, one: DoubleArray, other: DoubleArray) -> Estimate:
    """Compute Spearman's correlation with its interval over patients."""

    def statistic(rows: AnyArray) -> float:
        if not np.ptp(one[rows]) or not np.ptp(other[rows]):
            return float("nan")
        return float(np.corrcoef(stats.rankdata(one[rows]), stats.rankdata(other[rows]))[0, 1])

    low, high = patient_bootstrap(patients, lambda rows, _: [statistic(rows)], resamples=_RANK_RESAMPLES, seed=0)[0]
    return Estimate(statistic(np.arange(len(one))), float(low), float(high))


def tabulate_control(near: Near, main: paired.Pair) -> Iterator[Table]:
    """Tabulate distance and copied Dice, the network less the copy, and Dice in thirds of distance."""
    who, increase = near.patients, near.distance["patient"] - near.distance["slice"]
    n = {"lesion slices": len(np.unique(near.ids)), "bleeding patients": len(np.unique(who))}
    quarters = ("median distance", "lower quartile", "upper quartile")
    rows, copies = list[Row](), list[Row]()
    for kind in KINDS:
        distance, dice, copied = near.distance[kind], near.dice[kind], near.copied[kind]
        rows.append({
            "split": f"by {kind}", **n, "same patient": near.same_patient[kind].mean(),
            **dict(zip(quarters, np.percentile(distance, [50, 25, 75]), strict=True)),
            "copied Dice": paired.estimate_mean(who, copied), "Spearman": _correlate_ranks(who, distance, dice),
        })  # fmt: skip
        copies.append({
            "split": f"by {kind}", **n, "network Dice": dice.mean(), "copied Dice": copied.mean(),
            "difference": paired.estimate_mean(who, dice - copied),
        })  # fmt: skip
    change = _correlate_ranks(who, increase, near.dice["slice"] - near.dice["patient"])
    rows.append({
        "split": "gap against increase of distance", **n, "same patient": DOES_NOT_APPLY,
        **dict.fromkeys(quarters, DOES_NOT_APPLY), "copied Dice": NOT_APPLICABLE, "Spearman": change,
    })  # fmt: skip
    yield tabulate(
        "gap-control", "How near is each lesion slice to its nearest training slice?",
        "Same patient: share of slices whose nearest training slice is of the same patient. Distance: root mean square "
        "difference of the network's inputs, mirrors tried. Copied Dice: that slice's mask taken as the answer, "
        "nothing learned. Spearman: rank correlation of Dice and distance, in the last row of gap and increase of "
        f"distance; {_RANK_RESAMPLES:,} resamples. Distance also grows with what makes a slice hard.",
        rows, dict.fromkeys(quarters, 4),
    )  # fmt: skip
    yield tabulate(
        "gap-copied", f"{name_method(main.label)} less the copy of the nearest training slice's mask",
        "Below 0 the network does not exploit the neighbours that are there, and the size of its gap says little of "
        "networks that do.",
        copies,
    )  # fmt: skip
    yield tabulate(
        "gap-terciles", f"{name_method(main.label)}: Dice in thirds of distance",
        "Thirds are of each kind's own distances; 1 is nearest; with several seeds a slice counts once for each.",
        list(_split_thirds(near)), {"smallest distance": 4, "largest distance": 4},
    )  # fmt: skip


def _split_thirds(near: Near) -> Iterator[Row]:
    for kind in KINDS:
        distance, dice = near.distance[kind], near.dice[kind]
        which = np.searchsorted(np.quantile(distance, np.arange(1, THIRDS) / THIRDS), distance, side="left")
        for third in range(THIRDS):
            if (own := which == third).any():
                yield {
                    "split": f"by {kind}", "third": third + 1, "rows": own.sum(),
                    "bleeding patients": len(np.unique(near.patients[own])), "smallest distance": distance[own].min(),
                    "largest distance": distance[own].max(),
                    "Dice": paired.estimate_mean(near.patients[own], dice[own]),
                }  # fmt: skip


def draw_distance(near: Near, main: paired.Pair, scale: Scale) -> Figure:
    """Draw Dice against distance. a: both kinds, a dot a slice, thirds as bars. b: gap against increase."""
    caption = main.describe(
        scale,
        "Distance of a test slice to the nearest training slice: root mean square difference of the inputs. a: a dot a "
        "slice; bars are the mean Dice in thirds of each kind's distances. b: what a slice loses from split by slice "
        "to split by patient, against its increase of distance.",
    )  # fmt: skip
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(70, caption)
        left, right = style.panel(figure, 14, 6, 76, 54), style.panel(figure, 108, 6, 70, 54)
        for kind in KINDS:
            distance, colour = near.distance[kind], paired.COLOURS[kind]
            left.scatter(distance, near.dice[kind], s=5, color=colour, alpha=0.35, linewidths=0, label=f"by {kind}")
            _draw_thirds(left, distance, near.dice[kind], colour)
        left.set(xlabel="distance to the nearest training slice", ylabel="Dice", ylim=(0, 1.02))
        left.set_xlim(left=0)
        left.legend(frameon=False, fontsize=style.SMALL_PT, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.99),
                    markerscale=2)  # fmt: skip
        right.axhline(0, color=style.FAINT, linewidth=0.6)
        increase = near.distance["patient"] - near.distance["slice"]
        right.scatter(increase, near.dice["slice"] - near.dice["patient"], s=5, color=style.INK, alpha=0.4,
                      linewidths=0)  # fmt: skip
        right.set(xlabel="increase of distance, by patient less by slice", ylabel="loss of Dice")
        style.letters(figure, (0.5, 95))
    return figure


def _draw_thirds(axes: Axes, distance: DoubleArray, dice: DoubleArray, colour: str) -> None:
    for low, high in pairwise(np.quantile(distance, np.linspace(0, 1, THIRDS + 1))):
        own = (distance >= low) & (distance <= high)
        for shade, width in (("white", 4.2), (colour, 2.6)):
            axes.plot([low, high], [dice[own].mean()] * 2, color=shade, linewidth=width, solid_capstyle="butt")
