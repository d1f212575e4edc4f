"""The report of a cross-validation: one page that stands alone, the same as JSON and CSV, and its figures as PNG."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.arrays import ignore
from bleedmap.errors import InputError
from bleedmap.evaluation import protocol
from bleedmap.evaluation import report_sections as parts
from bleedmap.evaluation.gallery import Pixels, galleries
from bleedmap.evaluation.records import OutOfFold
from bleedmap.evaluation.report_figures import pictures
from bleedmap.evaluation.report_sections import Method
from bleedmap.evaluation.scores import Comparison, Score, compare_methods, cross_validation
from bleedmap.figures import prediction, style
from bleedmap.io.files import folder_written_whole, write_json
from bleedmap.metrics.bootstrap import RESAMPLES
from bleedmap.page.section import Section, to_json
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
            "comparisons": [asdict(one) for one in self.comparisons],
        }  # fmt: skip
        safe: dict[str, Any] = to_json(content)
        return safe


def evaluate_records(
    records: Sequence[OutOfFold], *, resamples: int = RESAMPLES, progress: Progress = ignore
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
    progress: Progress = ignore,
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
