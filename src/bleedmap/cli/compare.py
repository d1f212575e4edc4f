"""`bleedmap compare`."""

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from bleedmap.cli import options
from bleedmap.cli.console import (
    ProgressBar,
    explain_interrupt,
    make_table,
    or_dash,
    print_json,
    print_line,
    print_rows,
    print_table,
)
from bleedmap.errors import SettingsError

if TYPE_CHECKING:
    from bleedmap.comparison.compare import Comparison
    from bleedmap.inference.backends import Precision

_ROWS, _MANY = 20, 50


@click.command()
@click.argument("first", required=False, type=click.Path(path_type=Path))
@click.argument("second", required=False, type=click.Path(path_type=Path))
@options.out_option("A new or empty folder for the results; with --pairs also that of an earlier run, to resume it.")
@click.option(
    "--pairs", type=click.Path(path_type=Path), metavar="CSV|FOLDER",
    help="Many pairs in place of FIRST and SECOND: a table with the columns first, second and, if wanted, name; or a "
    "folder that holds a folder for each pair.",
)  # fmt: skip
@click.option(
    "--accept", multiple=True, metavar="CHECK",
    help="Go on although this check refuses: patient (two patient IDs), order (the first study is later), or an input "
    "check as for `bleedmap segment`. The results say so. Repeat for several checks.",
)  # fmt: skip
@options.weights_option
@options.inference_precision_option
@options.threads_option
@options.threshold_option
@click.option("--retry", is_flag=True, help="With --pairs: try again those that were refused or failed.")
@options.overwrite_option
@options.json_option
def command(
    first: Path | None, second: Path | None, out: Path, pairs: Path | None, accept: tuple[str, ...],
    weights: str | None, precision: "Precision", threads: int | None, threshold: float | None, retry: bool,
    overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare two head CTs of one patient, the earlier one first.

    Research software, not a medical device: do not use its results to diagnose or treat a patient.

    In: FIRST and SECOND, each a study as DICOM (a folder, a .zip or a file) or NIfTI in HU, which is segmented; or a
    folder that `bleedmap segment` wrote, whose mask is taken as it lies there, also if you have corrected it. The study
    must then still be where it was. Pictures are refused: their pixels have no size.

    \b
    Out:
      compare.html   a page to scroll through both studies side by side; growth, lesions, what to mind
      compare.png    the planes with lesions side by side, on one sheet
      growth.csv     one row for each lesion or group: matched, merged, split, new, gone, cut or outside; mL, growth
      compare.json   the same for programs, with the alignment, intervals and notes

    Volumes are always measured on each study's own slices. The second head is laid upon the first by a rigid motion
    (thickness, tilt, field of view and orientation may differ), only to match lesions and to show the same places. If
    the heads do not fit, the page says so, and only the totals are compared. A lesion at a place that the other study
    does not show is neither new nor gone.

    Growth is given in mL and per cent, with an interval where both volumes have one, and against the criterion of
    hematoma expansion: more than 6 mL or more than 33 % (Dowlatshahi et al. 2011; derived for intracerebral, that is
    parenchymal, hemorrhage). If the program gives no verdict on either study, no growth is claimed.

    Refused unless accepted: two Patient IDs (--accept patient), and a first study that is later than the second
    (--accept order). No ID is ever printed.

    With --pairs, paths in the table count from its own folder. In a folder of pairs, each folder holds two studies, and
    their dates say which is first. Give the same command again to resume. Out then: growth.csv with a row for each
    pair, data-dictionary.csv, index.html, growth.json, and a folder NAME/ for each pair.

    \b
    bleedmap compare monday/ tuesday/ -o growth/
    bleedmap compare result-1/ result-2/ -o growth/ --json
    bleedmap compare --pairs pairs.csv -o cohort/
    """
    from bleedmap.archive.memory import collect_seldom

    collect_seldom()
    from bleedmap.comparison.compare import compare_examinations, examine_pair, split_accept
    from bleedmap.comparison.save import save
    from bleedmap.inference.weights import locate
    from bleedmap.io.files import refuse_folder
    from bleedmap.study.segment import Segmenter

    _check_arguments(first, second, pairs, retry)
    of_pair, of_inputs = split_accept(accept)
    chosen = locate(weights)  # what is wrong with it is said before the work
    load = cache(lambda: Segmenter.load(weights, threshold=threshold, precision=precision, threads=threads))
    if pairs is not None:
        settings = {
            "weights": chosen.name, "weights_sha256": chosen.sha256,
            "threshold": chosen.threshold if threshold is None else threshold, "precision": precision,
        }  # fmt: skip
        _compare_many(pairs, out, load, settings, accept, retry=retry, overwrite=overwrite, as_json=as_json)
        return
    assert first is not None
    assert second is not None
    options.refuse_inside(out, first, second)
    refuse_folder(out, overwrite=overwrite)
    with ProgressBar(quiet=as_json) as bar:

        def report(done: int, words: str) -> None:
            bar.report("Comparing", done, 5, words)

        one, other = examine_pair(first, second, load, of_pair, of_inputs, report=report)
        report(3, "aligning the heads")
        comparison = compare_examinations(one, other, accept=of_pair)
        report(4, "writing")
        content = save(comparison, out, overwrite=overwrite)
    if as_json:
        print_json(content | {"out": str(out)})
    else:
        _print(comparison, content, out)


def _check_arguments(first: Path | None, second: Path | None, pairs: Path | None, retry: bool) -> None:
    if pairs is None and second is None:
        raise SettingsError(
            "bleedmap compare", found="one study or none", needed="two studies, the earlier one first",
            remedy="name FIRST and SECOND, or many pairs with --pairs",
        )  # fmt: skip
    if pairs is not None and first is not None:
        needed = "either FIRST and SECOND, or --pairs"
        raise SettingsError("--pairs", found=f"given beside {first}", needed=needed, remedy="leave one out")
    if retry and pairs is None:
        raise SettingsError("--retry", found="given for one pair", needed="--pairs", remedy="leave --retry out")


def _print(comparison: "Comparison", content: dict[str, Any], out: Path) -> None:
    from bleedmap.comparison.growth import CRITERION, DERIVED_FOR
    from bleedmap.comparison.words import expansion_words, headline, interval_words, share, signed_ml
    from bleedmap.study.words import millilitres

    growth, said = comparison.growth, headline(comparison)
    if growth is None:
        print_line("[bold yellow]No growth is claimed[/]: do not compare the volumes that follow.")
        for reason in comparison.reasons:
            print_line(f"[yellow]no growth:[/] {escape(reason)}")
    else:
        style = "bold red" if growth.expansion == "met" else "bold"
        print_line(f"[{style}]{escape(said[0].upper() + said[1:])}[/]")
    studies = [
        (name, escape(one.name), one.verdict, millilitres(one.volume_ml), f"{len(one.findings.lesions)}",
         f"{len(one.findings.slices)}")
        for name, one in (("first", comparison.first), ("second", comparison.second))
    ]  # fmt: skip
    print_rows("Study", "Name", "Verdict", ">mL", ">Lesions", ">Slices", rows=studies)
    if growth is not None:
        if words := interval_words(growth):
            print_line(escape(words))
        print_line(f"Criterion of expansion, {escape(CRITERION)}: [bold]{expansion_words(growth)}[/]. {DERIVED_FOR}")
    if comparison.groups:
        table = make_table("Lesions", ">First", ">mL", ">Second", ">mL", ">Growth, mL")
        for group in comparison.groups[:_ROWS]:
            first, second = (", ".join(map(str, one)) or "–" for one in (group.first, group.second))
            grown = None if growth is None else group.growth_ml
            shown = "–" if grown is None else f"{signed_ml(grown)}{share(group.growth_percent)}"
            table.add_row(
                group.kind, first, millilitres(group.first_ml), second, millilitres(group.second_ml), shown
            )  # fmt: skip
        if len(comparison.groups) > _ROWS:
            table.caption = f"and {len(comparison.groups) - _ROWS} smaller, see growth.csv"
        print_table(table)
    for note in comparison.notes:
        print_line(f"[yellow]note:[/] {escape(note)}")
    print_line(f"Results: {escape(str(out / content['files']['page']))}")
    print_line(content["research_only"], style="yellow")


def _compare_many(
    pairs: Path, out: Path, load: Any, settings: dict[str, Any], accept: tuple[str, ...], *, retry: bool,
    overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    from bleedmap.comparison.cohort import INDEX, Row, find_pairs, run_cohort

    found = find_pairs(pairs)
    with explain_interrupt(), ProgressBar(quiet=as_json) as bar:

        def report(done: int, of: int, name: str, row: Row | None) -> None:
            bar.report("Pairs", done, of, name)
            if row is not None:
                bar.log(f"{done:,}/{of:,} {name}: {row['status']}, {row['seconds']:,.1f} s")

        content = run_cohort(
            found, out, load, settings, accept=accept, retry=retry, overwrite=overwrite, report=report
        )  # fmt: skip
    if as_json:
        print_json(content | {"out": str(out)})
    else:
        _print_many(content, out / INDEX)
    if content["counts"]["failed"]:
        sys.exit(1)


def _print_many(content: dict[str, Any], page: Path) -> None:
    from bleedmap.comparison.words import signed_ml, signed_percent

    rows = content["pairs"]
    shown: dict[str, Any] = {
        "first_ml": ",.1f", "second_ml": ",.1f", "growth_ml": signed_ml, "growth_percent": signed_percent,
    }  # fmt: skip
    cells = (
        (escape(row["name"]), row["status"], *(or_dash(row[key], form) for key, form in shown.items()))
        for row in rows[:_MANY]
    )
    table = make_table("Pair", "Status", ">First, mL", ">Second, mL", ">Growth, mL", ">%", rows=cells)
    table.columns[0].overflow = "fold"
    if len(rows) > _MANY:
        table.caption = f"and {len(rows) - _MANY:,} more, see growth.csv"
    print_table(table)
    for row in [one for one in rows if one["error"]][:_ROWS]:
        print_line(f"[yellow]{row['status']}[/] {escape(row['name'])}: {escape(row['error'])}")
    counted = ", ".join(f"{count:,} {status}" for status, count in content["counts"].items() if count)
    print_line(f"[bold]{len(rows):,} {'pair' if len(rows) == 1 else 'pairs'}[/]: {counted}")
    print_line(f"Look at: {escape(str(page))}")
    print_line(content["research_only"], style="yellow")
