"""`bleedmap batch`."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.options import (
    fractional_option,
    inference_precision_option,
    json_option,
    no_dicom_option,
    progress_bar,
    threshold_option,
    weights_option,
)
from bleedmap.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bleedmap.archive.find import Found
    from bleedmap.archive.run import Step
    from bleedmap.inference.backends import Precision

_TABLE_ROWS, _REASONS = 50, 10
_STYLES = {
    "found": "bold red",
    "not found": "green",
    "no verdict": "bold yellow",
    "refused": "yellow",
    "failed": "bold magenta",
}


@click.command(short_help="Segment a folder of many studies, DICOM or NIfTI, into one summary table.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path),
    help="A new or empty folder for the results, or that of an earlier run, which is gone on with.",
)  # fmt: skip
@weights_option
@inference_precision_option
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N",
    help="Of the processor's threads, how many the network uses in each process; default: all, shared out evenly.",
)  # fmt: skip
@click.option(
    "--processes", type=click.IntRange(1, 64), metavar="N",
    help="Studies at a time, each in a process of its own of about 0.5 GB, fewer where there are few studies; default: "
    "as many as the processor has threads, at most 4.",
)  # fmt: skip
@threshold_option
@click.option(
    "--accept", multiple=True, metavar="CHECK",
    help="Go on although this input check refuses a study; its results say so. Repeat for several.",
)  # fmt: skip
@no_dicom_option
@fractional_option
@click.option("--retry", is_flag=True, help="Give studies that were refused or failed another turn.")
@click.option("--overwrite", is_flag=True, help="Make results anew that were made with other settings.")
@json_option
def command(
    folder: Path, out: Path, weights: str | None, precision: "Precision", threads: int | None, processes: int | None,
    threshold: float | None, accept: tuple[str, ...], no_dicom: bool, fractional: bool, retry: bool, overwrite: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Outline hemorrhage on all head CTs in a folder.

    In: a folder, searched to its depths. A study is a NIfTI file in HU; a .zip of DICOM; or DICOM files, which belong
    together by their Study Instance UID wherever they lie. What is no study is counted at the end.

    \b
    Out:
      summary.csv     a row for each study: found, not found, no verdict, refused or failed; study probability, mL
                      and its interval, lesions, slices, highest probability, why no verdict, warnings of the input
                      checks, seconds, error; up to date when the batch ends or is interrupted, before that a
                      minute and a study behind at most
      summary.json    the same for programs, with the settings and what was passed by
      NAME/           what `bleedmap segment` writes of a study; NAME comes from its path

    A study that cannot be read or fails an input check is refused, with the reason in its row; the others go on. Stop
    it at any moment and give the same command again: what is done is not done again, unless a study's files changed
    since. Several processes share the work, and several such commands at once do too: on several machines give them
    --precision fp32 from the start, since auto depends on the processor and results of two kinds do not mix.

    'No verdict': the program abstains and says why; what it outlined is there, not to be relied on.

    Exit code 0: no study failed. 1: at least one did, by a fault of the program or files of others in its folder. 2: it
    could not go on.

    The network, compiled for this machine, is kept for the next start: in the user's folder for caches, or that in
    the variable BLEEDMAP_CACHE; BLEEDMAP_CACHE=off keeps nothing.

    \b
    bleedmap batch studies/ -o results/
    bleedmap batch studies/ -o results/ --retry --accept slice-count
    """
    from bleedmap.archive.memory import collect_seldom

    collect_seldom()
    from bleedmap.archive.find import find_studies
    from bleedmap.archive.ledger import open_studies, refuse_strangers
    from bleedmap.archive.run import BatchOptions, Company, run_batch
    from bleedmap.archive.workers import processes_for
    from bleedmap.inference.backends import available_threads, check_threads
    from bleedmap.inference.weights import locate

    if folder.resolve().is_relative_to(out.resolve()):
        raise OutputError(
            out, found=f"holds the studies, {folder}", needed="a folder of its own for the results",
            remedy="give another folder with -o",
        )  # fmt: skip
    refuse_strangers(out)
    check_threads(threads)
    locate(weights)  # what is wrong with it is said before the search
    with progress_bar("Looking for studies", quiet=as_json) as seen:
        found = find_studies(folder, out, lambda files: seen(files, files))
    processes = processes_for(open_studies(found, out, retry=retry, overwrite=overwrite), processes)
    threads = threads or max(1, available_threads() // processes)
    company = Company(processes - 1, weights, threshold, precision, threads)
    segmenter = company.load()
    options = BatchOptions(accept, not no_dicom, fractional, retry, overwrite)
    with _progress(found, quiet=as_json) as report:
        summary = run_batch(found, out, segmenter, options, report, company)
    if as_json:
        click.echo(json.dumps(summary | {"out": str(out)}, indent=2, ensure_ascii=False))
    else:
        _print(summary, out)
    if summary["counts"]["failed"]:
        sys.exit(1)


@contextmanager
def _progress(found: "Found", *, quiet: bool) -> "Iterator[Callable[[Step], None]]":
    """A bar with the current study's name and the time left; where there is no terminal, a line for each study."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield (lambda step: None) if quiet else _lines()
        return
    columns = (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, speed_estimate_period=1800) as progress:
        task = progress.add_task("", total=len(found.sources))
        started = False

        def report(step: "Step") -> None:
            nonlocal started
            if not started:  # what earlier runs did says nothing of the speed
                progress.reset(task, total=step.of, completed=int(step.done))
                started = True
            if step.exit_code:
                progress.console.print(_lost(step), highlight=False)
            progress.update(task, completed=step.done, description=_shown(step.name))

        yield report


def _lines() -> "Callable[[Step], None]":
    begun, done_before = time.monotonic(), -1.0

    def report(step: "Step") -> None:
        nonlocal done_before
        done_before = step.done if done_before < 0 else done_before
        if step.exit_code:
            click.echo(_lost(step), err=True)
        if step.row is None:
            return
        done = step.done - done_before
        left_s = (time.monotonic() - begun) / done * (step.of - step.done)
        volume = "" if step.row.volume_ml is None else f", {step.row.volume_ml:,.2f} mL"
        line = f"{step.done:,.0f}/{step.of:,} {step.name}: {step.row.status}{volume}, {step.row.seconds:,.1f} s"
        click.echo(f"{line}; {left_s / 60:,.1f} min left", err=True)

    return report


def _lost(step: "Step") -> str:
    return f"one of the processes ended early, exit code {step.exit_code}; the others take its studies"


def _shown(name: str) -> str:
    from rich.markup import escape

    return escape(name if len(name) <= 40 else f"{name[:39]}…")


def _print(summary: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    rows, counts = summary["studies"], summary["counts"]
    console.print(_table(rows))
    reasons = [(row, row["error"] or " ".join(row["abstained"])) for row in rows if row["error"] or row["abstained"]]
    for row, why in reasons[:_REASONS]:
        console.print(f"[yellow]{row['status']}[/] {escape(row['name'])}: {escape(why)}", soft_wrap=True)
    if len(reasons) > _REASONS:
        console.print(f"and {len(reasons) - _REASONS:,} more, see summary.csv")
    for one in summary["passed_by"]:
        more = ", …" if one["count"] > len(one["examples"]) else ""
        said = f"passed by, {one['reason']}: {one['count']:,} ({', '.join(one['examples'])}{more})"
        console.print(f"[dim]{escape(said)}[/]", soft_wrap=True)
    total = f"{len(rows):,} {'study' if len(rows) == 1 else 'studies'}"
    counted = [f"{count:,} {status}" for status, count in counts.items() if count or status != "no verdict"]
    console.print(f"[bold]{total}[/]: {', '.join(counted)}")
    console.print(f"Summary: {escape(str(out / 'summary.csv'))}", soft_wrap=True)
    console.print(summary["research_only"], style="yellow", soft_wrap=True)


def _table(rows: list[dict[str, Any]]) -> Any:
    """Columns of certainty only where a row has it: not all weights say how sure they are."""
    from rich.table import Table
    from rich.text import Text

    table, columns = Table(box=None, padding=(0, 2, 0, 0)), _columns(rows)
    for name in ("Study", "", *columns, "Warnings"):
        table.add_column(name, justify="left" if name in ("Study", "", "Warnings") else "right")
    for row in rows[:_TABLE_ROWS]:
        table.add_row(
            Text(row["name"]),
            Text(row["status"], _STYLES[row["status"]]),
            *("–" if row[key] is None else form(row) for key, form in columns.values()),
            Text(", ".join(row["warnings"])),
        )
    if len(rows) > _TABLE_ROWS:
        table.caption = f"and {len(rows) - _TABLE_ROWS:,} more, see summary.csv"
    return table


def _columns(rows: list[dict[str, Any]]) -> "dict[str, tuple[str, Callable[[dict[str, Any]], str]]]":
    """Column -> the key that must be known, and what is shown of the row."""
    from bleedmap.study.words import chance, percent, span_ml

    coverage = next((row["interval_coverage"] for row in rows if row["interval_coverage"] is not None), None)
    sure = any(row["study_probability"] is not None for row in rows)
    columns: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {}
    if sure:
        columns["Study probability"] = "study_probability", lambda row: chance(row["study_probability"])
    columns["mL"] = "volume_ml", lambda row: f"{row['volume_ml']:,.2f}"
    if coverage is not None:
        ends = ("volume_low_ml", "volume_high_ml")
        columns[f"{percent(coverage)} interval"] = ends[0], lambda row: span_ml((row[ends[0]], row[ends[1]]))
    columns["Lesions"] = "lesions", lambda row: f"{row['lesions']:,}"
    columns["Slices"] = "slices", lambda row: f"{row['slices']:,}"
    highest = "Highest pixel" if sure else "Highest probability"
    columns[highest] = "highest_probability", lambda row: f"{row['highest_probability']:.2f}"
    columns["Seconds"] = "seconds", lambda row: f"{row['seconds']:,.1f}"
    return columns
