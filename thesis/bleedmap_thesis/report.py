"""The report of the thesis' experiment: one page that stands alone, and the same as JSON, CSV and PNG.

A chapter a scale, the thesis' own first: what was measured at one scale never stands in a table with the other's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bleedmap.arrays import ignore
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.evaluation.slices import RESAMPLES
from bleedmap.figures import style
from bleedmap.io.files import folder_written_whole, refuse_folder, write_json, written_whole
from bleedmap.page.section import DOES_NOT_APPLY, NOT_MEASURED, Section, to_json, to_plain
from bleedmap.page.writer import embed_png, write_csv, write_page
from bleedmap_thesis import pictures as thesis_pictures
from bleedmap_thesis.analyses import (
    comparison,
    conventions,
    factors,
    gap,
    grid,
    lesion_free,
    table1,
    trained_conventions,
)
from bleedmap_thesis.pictures import Progress, RunOf
from bleedmap_thesis.plan import SCALES, Cell, Scale
from bleedmap_thesis.progress import describe_origin, list_planned, progress_section, trainings_section
from bleedmap_thesis.record import CellResult

_FORMAT = "bleedmap thesis report 1"
# Each: (results, scale) -> Section or None, None where it has nothing to say.
ANALYSES = (
    trained_conventions.section, gap.section, lesion_free.section, grid.section, factors.section,
    comparison.section,
)  # fmt: skip
CSV_README = f"""# Tables of the report

Each file is one table of `report.html`: the first row names the columns, units stand in the names. `X low` and `X high`
are the ends of X's 95 % interval. A field is empty where nothing was measured ('{NOT_MEASURED}' on the page), or
where nothing belongs; '{DOES_NOT_APPLY}' stands where a measure does not apply to a method. A file's name begins with
the scale; two scales never share a table. What all numbers of a table share (kind of split, convention, interval) is in
`report.json`: the table's `note` and its section's `words`.

"""


@dataclass(frozen=True)
class Chapter:
    """Sections that share a scale; `key` begins the names of their files."""

    key: str
    title: str
    words: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Sources:
    """What a report may draw on beside the results."""

    data: CtIch | None = None  # for Figures 1 and 4 and CLAHE, which without it are said to be missing
    runs: RunOf = ignore  # a cell's run folder, or None, for Figure 4
    progress: Progress = ignore  # called with (what is being done, done, of)
    resamples: int = RESAMPLES  # of the bootstrap over patients in Table 1 and CLAHE


def write_report(results: Sequence[CellResult], planned: Sequence[Cell], out: Path, sources: Sources) -> Path:
    """Write `out`/report.html, report.json, tables/ and figures/, whole or not at all; an earlier report is replaced.

    Args:
        results: finished cells, of one scale or more.
        planned: the cells that were asked for; the full scale, and each that has cells, stands with all cells of one
            seed.
        out: a folder of the report's own.
        sources: what the report may draw on beside the results.

    Returns:
        The page.

    Raises:
        OutputError: `out` holds files of others, or cannot be written.
        MissingExtraError: OpenCV is not installed, which CLAHE needs.
    """
    refuse_folder(out, overwrite=True)
    sections = (
        progress_section(list_planned(planned, results), results), conventions.section(),
        thesis_pictures.data_and_network(sources.data),
        thesis_pictures.clahe_contrast(sources.data, sources.progress, resamples=sources.resamples),
    )  # fmt: skip
    common = Chapter("common", "What holds at every scale", "Progress, data, network and preparation.", sections)
    chapters = [common, *make_scale_chapters(results, sources)]
    return write_chapters(chapters, describe_origin(results, sources.data), out, sources.progress)


def make_scale_chapters(results: Sequence[CellResult], sources: Sources) -> list[Chapter]:
    """Make a chapter for the thesis' own scale, and one for each other that has results."""
    found = {scale.name: [one for one in results if one.cell.scale == scale.name] for scale in SCALES.values()}
    return [_make_chapter(SCALES[name], own, sources) for name, own in found.items() if name == "full" or own]


def write_chapters(chapters: Sequence[Chapter], facts: dict[str, Any], out: Path, progress: Progress = ignore) -> Path:
    """Write chapters, in their order, as a report, whole or not at all; `facts` are of `progress.describe_origin`.

    Raises:
        OutputError: `out` holds files of others, or cannot be written.
    """
    pictures = {
        f"{chapter.key}-{one.key}": one
        for chapter in chapters for section in chapter.sections for one in section.pictures
    }  # fmt: skip
    content = [
        {"key": one.key, "title": one.title, "words": one.words,
         "sections": [_describe_section(one.key, section) for section in one.sections]}
        for one in chapters
    ]  # fmt: skip
    with folder_written_whole(out, overwrite=True) as folder:
        _write_tables(folder / "tables", chapters)
        style.save_pictures(pictures, folder / "figures", progress)
        write_json(folder / "report.json", {"format": _FORMAT, **facts, "chapters": content})
        write_page(
            folder / "report.html", "thesis.html", chapters=chapters, facts=facts,
            embedded=lambda name: embed_png(folder / f"figures/{name}.png"),
        )  # fmt: skip
    return out / "report.html"


def _make_chapter(scale: Scale, own: Sequence[CellResult], sources: Sources) -> Chapter:
    title = "The thesis' own scale" if scale.name == "full" else f"The {scale.name} scale"
    words = f"What this chapter holds may not be compared with another scale's. {scale.describe()}"
    if not own:
        words += " Nothing has been measured at it yet: Table 1 stands with empty places."
    made: list[Section | None] = []
    if scale.name == "full" or any(one.cell.part == "grid" for one in own):
        made.append(table1.section(own, scale, resamples=sources.resamples))
    if own:
        made.append(trainings_section(own))
        made.append(thesis_pictures.curves_and_prediction(own, scale, sources.data, sources.runs))
        for number, analyse in enumerate(ANALYSES, start=1):
            sources.progress(f"analysing the {scale.name} scale", number, len(ANALYSES))
            made.append(analyse(own, scale))
    return Chapter(scale.name, title, words, tuple(one for one in made if one is not None))


def _write_tables(folder: Path, chapters: Sequence[Chapter]) -> None:
    notes = []
    for chapter in chapters:
        for table in [table for section in chapter.sections for table in section.tables]:
            path = folder / f"{chapter.key}-{table.key}.csv"
            assert not path.exists(), f"two tables are called {path.stem}"
            write_csv(path, table.columns, table.rows)
            notes.append(f"- `{path.name}`: {table.title}\n")
    with written_whole(folder / "README.md") as part:
        part.write_text(CSV_README + "".join(notes), "utf-8")


def _describe_section(key: str, section: Section) -> dict[str, Any]:
    """Give what report.json holds of a section: the page's words and numbers, unrounded."""
    return {
        "key": section.key,
        "title": section.title,
        "words": list(section.words),
        "tables": [
            {
                "key": table.key, "csv": f"tables/{key}-{table.key}.csv", "title": table.title, "note": table.note,
                "columns": list(table.columns), "rows": [[to_plain(value) for value in row] for row in table.rows],
            }
            for table in section.tables
        ],
        "figures": [
            {"key": one.key, "png": f"figures/{key}-{one.key}.png", "alt": one.alt} for one in section.pictures
        ],
        "data": to_json(section.data),
    }  # fmt: skip
