"""`bleedmap evaluate --protocol cross-validation`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from rich.markup import escape

from bleedmap.cli.console import make_table, print_json, print_line, print_table, progress_bar

if TYPE_CHECKING:
    from bleedmap.evaluation.gallery import Pixels
    from bleedmap.evaluation.report import ScoredMethods

_NOT_HERE = ("split_file", "side", "slices", "grid", "device", "precision")  # flags that measuring a network has


def refuse_flags(context: click.Context) -> None:
    """Refuse flags that would do nothing: no network runs here.

    Raises:
        click.UsageError: one is given.
    """
    for name in _NOT_HERE:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = "--" + name.removesuffix("_file")
            raise click.UsageError(f"{flag} is for measuring a network; --protocol reads records.")


def evaluate_protocol(
    records: Sequence[Path], predictions: Path | None, data: Path | None, out: Path | None, as_json: bool
) -> None:
    """Score records, print the headline table or all as JSON, and write the report where `out` is given."""
    from bleedmap.datasets.folds import protocol_folds
    from bleedmap.evaluation.protocol import CT_ICH_WORDS
    from bleedmap.evaluation.records import committed_records, read_out_of_fold
    from bleedmap.evaluation.report import evaluate_records, write_report
    from bleedmap.io.files import refuse_folder

    if predictions is not None and out is None:
        raise click.UsageError("--predictions is for the report's pictures: give -o REPORT_FOLDER too.")
    methods = [read_out_of_fold(path) for path in records or committed_records()]
    for one in methods:
        one.check_against(protocol_folds())
    if out is not None:
        refuse_folder(out, overwrite=True)  # the report comes last: what would stop it is better met now
    pixels = _pixels(predictions, data)
    with progress_bar("evaluating", quiet=as_json) as report:
        scored = evaluate_records(methods, progress=lambda what, done, of: report(done, of))
        page = None
        if out is not None:
            page = write_report(
                scored, CT_ICH_WORDS, out, pixels=pixels, progress=lambda what, done, of: report(done, of)
            )  # fmt: skip
    if as_json:
        print_json(scored.to_dict())
    else:
        _print(scored, page)


def _pixels(predictions: Path | None, data: Path | None) -> "Pixels | None":
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.evaluation.gallery import ct_ich_pixels

    if predictions is None:
        return None
    return ct_ich_pixels(open_ct_ich(data_root(data)), predictions)


def _print(scored: "ScoredMethods", page: Path | None) -> None:
    """The headline under the measures' keys, a table a method; their titles and conventions stand in the report."""
    from bleedmap.evaluation.measure_table import HEADLINE
    from bleedmap.evaluation.report_sections import differences

    for method in scored.methods:
        studies = method.records.studies
        bleeding = sum(bool(one.counts.reference.any()) for one in studies)
        print_line(f"[bold]{escape(method.name)}[/]: {len(studies)} patients, {bleeding} bleed")
        table = make_table("measure", ">value", "95 %", "target", "")
        for score in map(method.scores.score, HEADLINE):
            value = "–" if score.value is None else f"{score.value:.3f}"
            ends = "" if score.low is None or score.high is None else f"{score.low:.3f} to {score.high:.3f}"
            met = {True: "met", False: "[bold red]missed[/]", None: ""}[score.met]
            table.add_row(score.key, value, ends, score.target or "", met)
        print_table(table)
    compared = differences(scored.comparisons)
    for line in compared.words if compared else ():
        print_line(escape(line))
    print_line("Intervals: bootstrap over patients; a share of 0 or 1 has Wilson's.")
    end = f"Report: {page}. " if page else "With -o FOLDER: the whole report. "
    print_line(f"{escape(end)}Research use only.")
