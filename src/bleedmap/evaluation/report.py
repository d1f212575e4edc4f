"""The report of a cross-validation: one page that stands alone, the same as JSON and CSV, and its figures as PNG."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.arrays import AnyArray, BoolArray
from bleedmap.datasets.folds import LOADS
from bleedmap.errors import InputError
from bleedmap.evaluation import protocol
from bleedmap.evaluation import report_sections as parts
from bleedmap.evaluation.gallery import Pixels, galleries
from bleedmap.evaluation.records import TYPE_NAMES, OutOfFold
from bleedmap.evaluation.report_sections import Method
from bleedmap.evaluation.scores import Comparison, Score, compare_methods, cross_validation
from bleedmap.evaluation.tables import Tables
from bleedmap.figures import prediction, scores, style
from bleedmap.io.files import folder_written_whole, write_json
from bleedmap.metrics.bootstrap import RESAMPLES
from bleedmap.metrics.roc import at_specificity, roc_curve
from bleedmap.page.section import Picture, Section, to_json
from bleedmap.page.writer import embed_png, write_csv, write_page

Progress = Callable[[str, int, int], None]  # (what is being done, done, of)
_FORMAT = "bleedmap cross-validation report 1"


@dataclass(frozen=True, eq=False)
class ScoredMethods:
    """Methods on the same patients, scored and compared; the others are compared with the first."""

    methods: tuple[Method, ...]
    comparisons: tuple[Comparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: what scores.json holds."""
        content = {
            "format": _FORMAT, "program": f"bleedmap {__version__}", "protocol": protocol.PROTOCOL,
            "seed": protocol.SEED, "note": RESEARCH_ONLY,
            "methods": [
                one.scores.to_dict() | {"choices": [asdict(fold) for fold in one.records.choices]}
                for one in self.methods
            ],
            "comparisons": [one.to_dict() for one in self.comparisons],
        }  # fmt: skip
        safe: dict[str, Any] = to_json(content)
        return safe


def evaluate_records(
    records: Sequence[OutOfFold],
    *,
    resamples: int = RESAMPLES,
    progress: Progress = lambda what, done, of: None,
) -> ScoredMethods:
    """Score every method, and compare the first with each other one, on the same patients in the same folds.

    Raises:
        InputError: two methods of one name, or not on the same patients.
    """
    names = [one.method for one in records]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            twice[0],
            found="the name of two methods",
            needed="records of different methods, each under its own name",
            remedy="give each file of records once, or record a further seed under a name of its own",
        )
    steps = 2 * len(records) - 1
    methods, comparisons = [], []
    for number, one in enumerate(records, 1):
        progress("scoring", number - 1, steps)
        methods.append(Method(one, cross_validation(one, resamples=resamples)))
    for number, one in enumerate(records[1:], 1):
        progress("comparing", len(records) + number - 1, steps)
        comparisons.append(compare_methods(records[0], one, resamples=resamples))
    return ScoredMethods(tuple(methods), tuple(comparisons))


def write_report(
    scored: ScoredMethods,
    words: protocol.ReportWords,
    out: Path,
    *,
    pixels: Pixels | None = None,
    progress: Progress = lambda what, done, of: None,
) -> Path:
    """Write `out`/report.html, scores.json, scores.csv and figures/, whole or not at all; an earlier one is replaced.

    Without `pixels`, of the first method, the report says how to have the pictures of slices.

    Returns:
        The page.

    Raises:
        InputError: `pixels` cannot be read, or are not those of the first method's records.
        OutputError: `out` holds files of others, or cannot be written.
    """
    first = scored.methods[0].records
    shows = galleries(first, pixels, lambda done, of: progress("drawing slices", done, of))
    drawn = pictures(scored.methods)
    with folder_written_whole(out, overwrite=True) as folder:
        style.save_pictures({one.key: one for one in drawn}, folder / "figures", progress)
        write_json(folder / "scores.json", scored.to_dict())
        _write_scores(folder / "scores.csv", scored)
        write_page(
            folder / "report.html", "cross_validation.html", words=words,
            methods=[_describe(one) for one in scored.methods], sections=_sections(scored, words), galleries=shows,
            drawn=pixels is not None, first=scored.methods[0].name,
            colours={"reference": prediction.REFERENCE, "prediction": prediction.PREDICTION},
            embedded=lambda name: embed_png(folder / f"figures/{name}.png"),
        )  # fmt: skip
    return out / "report.html"


def _write_scores(path: Path, scored: ScoredMethods) -> None:
    """A row for each method and measure; a field is empty where a number cannot be had."""
    rows = [
        [method.name, *asdict(score).values()]
        for method in scored.methods
        for score in (*method.scores.scores, *method.scores.abstained, *(method.scores.answered or ()))
    ]
    write_csv(path, ["method", *(one.name for one in fields(Score))], rows)


def _sections(scored: ScoredMethods, words: protocol.ReportWords) -> list[Section]:
    methods = scored.methods
    made = (
        parts.headline(methods), parts.published(methods, words.peers, words.peers_caution),
        parts.differences(scored.comparisons),
        Section("figures", "In pictures", (), (), pictures(methods)),
        parts.by_fold(methods), parts.every_measure(methods), parts.abstentions(methods), parts.choices(methods),
    )  # fmt: skip
    return [one for one in made if one is not None]


def _describe(method: Method) -> dict[str, Any]:
    """A method's name, how its recipe was chosen, and what its records say of themselves."""
    made = method.records.made
    level = str(made.get("recipe_level", protocol.NO_LEVEL))
    facts = [("Patients", f"{len(method.records.studies):,}"), ("Data, SHA-256", method.records.data_sha256)]
    facts += [(name.replace("_", " "), _in_words(value)) for name, value in made.items()]
    return {"name": method.name, "level": protocol.LEVELS.get(level, level), "facts": facts}


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name.replace('_', ' ')} {_in_words(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return (" / " if any(isinstance(one, Mapping) for one in value) else ", ").join(map(_in_words, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def pictures(methods: Sequence[Method]) -> tuple[Picture, ...]:
    """All figures, drawn when the report is written; of more methods than there are colours, the first."""
    shown = methods[: len(style.PALETTE)]
    dice = "Dice of each bleeding patient's volume, ranked, and against the lesion's voxels."
    roc = "ROC curves of slices and of studies, with the fixed operating point."
    reliability = "Share of bleeding cases against the probability given, for slices and studies."
    sensitivity = "Sensitivity for lesions, slices and studies, by size and by type."
    found = (
        Picture("dice", dice, lambda: _draw_dice(shown)),
        Picture("roc", roc, lambda: _draw_roc(shown)),
        Picture("reliability", reliability, lambda: _draw_reliability(shown)),
        Picture("sensitivity", sensitivity, lambda: _draw_sensitivity(shown)),
    )
    bleeds = any(one.counts.reference.any() for one in methods[0].records.studies)
    return found if bleeds else found[2:3]


def _draw_roc(methods: Sequence[Method]) -> Figure:
    def curve(method: Method, key: str, truth: BoolArray, score: AnyArray, specificity: float) -> scores.RocCurve:
        area, point = method.scores.score(key).value, at_specificity(truth, score, specificity)
        return scores.RocCurve(
            f"{method.name}, area {'–' if area is None else f'{area:.3f}'}", *roc_curve(truth, score),
            None if point is None else (1 - point.specificity, point.sensitivity),
        )  # fmt: skip

    slices, studies = [], []
    for method in methods:
        tables = Tables.of(method.records)
        of = tables.slices
        slices.append(curve(method, "slice_auc", of.has_lesion, of.presence, protocol.SLICE_SPECIFICITY))
        whole = tables.studies
        studies.append(curve(method, "study_auc", whole.bleeds, whole.probability, protocol.STUDY_SPECIFICITY))
    words = (
        "ROC curves out of fold, all folds' probabilities in one ranking. Circles: specificity "
        f"{protocol.SLICE_SPECIFICITY} for slices, {protocol.STUDY_SPECIFICITY} for studies, at the lowest threshold "
        "that reaches it, read off these same cases: points of the curve, not promises."
    )
    return scores.roc((("Slices", slices), ("Studies", studies)), words)


def _draw_reliability(methods: Sequence[Method]) -> Figure:
    slices = [scores.Reliability(method.name, method.scores.slice_reliability) for method in methods]
    studies = [scores.Reliability(method.name, method.scores.study_reliability) for method in methods]
    words = (
        "Of the cases given a probability, the share that bleeds; a calibrated probability lies on the diagonal. Ten "
        "bins of equal width; beneath, the cases of each on a logarithmic scale. Bins of few cases scatter by chance."
    )
    return scores.reliability_diagram((("Slices", slices), ("Studies", studies)), words)


def _draw_dice(methods: Sequence[Method]) -> Figure:
    series = []
    for method in methods:
        studies = Tables.of(method.records).studies
        order = np.argsort(studies.patient, kind="stable")
        kept = order[studies.bleeds[order]]
        series.append(scores.PatientDice(method.name, studies.dice[kept], studies.voxels[kept]))
    words = (
        "Dice of each bleeding patient's whole volume, false alarms on lesion-free slices counted. "
        f"a: ranked by {methods[0].name}. b: against the size of the lesions, on a logarithmic scale."
    )
    return scores.dice_by_patient(series, words)


def _draw_sensitivity(methods: Sequence[Method]) -> Figure:
    def rows(method: Method, key: str, parts: Sequence[str]) -> list[scores.Sensitivity]:
        found = [(part, method.scores.score(f"{key}_{part}")) for part in parts]
        return [scores.Sensitivity(part, one.value, one.low, one.high, one.cases) for part, one in found]

    kinds = (
        ("Lesions touched", "lesion_sensitivity_touched", protocol.LESION_VOXELS),
        (f"Slices, specificity {protocol.SLICE_SPECIFICITY}", "slice_sensitivity_fixed", protocol.SLICE_PIXELS),
        (f"Studies, specificity {protocol.STUDY_SPECIFICITY}", "study_sensitivity_fixed", LOADS),
    )
    panels = [
        (title, [(one.name, rows(one, key, (*sizes, *TYPE_NAMES))) for one in methods]) for title, key, sizes in kinds
    ]
    words = (
        "Sensitivity with 95 % intervals, in brackets the cases. Sizes in voxels of the lesion, pixels of the slice "
        "and voxels of the patient, as the tables say; types are labels of slices, and a case of several types counts "
        "under each."
    )
    return scores.sensitivity_panels(panels, words)
