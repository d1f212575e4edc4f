"""`bleedmap reproduce precisions`."""

from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from bleedmap.cli import options
from bleedmap.cli.console import or_dash, print_json, print_line, print_rows, progress_bar
from bleedmap.cli.reproduce.folds import folds_option, open_with_folds

FOLDS = ("1", "2", "3", "4", "5")
_ROWS = (  # words, key, how it is printed
    ("volume Dice", "volume_dice", "{:.4f}"), ("  its fall", "dice_fall", "{:+.4f}"),
    ("authors' Dice", "authors_dice", "{:.4f}"), ("slices marked", "slices_marked", "{:d}"),
    ("pixels changed", "changed_share", "{:.4%}"), ("mask Dice, mean", "mask_dice_mean", "{:.4f}"),
    ("  lowest", "mask_dice_min", "{:.4f}"), ("largest probability difference", "largest_difference", "{:.3f}"),
)  # fmt: skip


@click.command(short_help="What bf16 costs against fp32, out of fold.")
@folds_option
@click.option("--fold", "wanted", type=click.Choice(FOLDS), multiple=True, help="Only this fold. Repeat for several.")
@click.option(
    "--patients", type=click.IntRange(min=1), metavar="N",
    help="Only the first N test patients of each fold: a trial, which is not kept.",
)  # fmt: skip
@options.data_option
@options.json_option
def command(out: Path, wanted: tuple[str, ...], patients: int | None, data: Path | None, as_json: bool) -> None:
    """Compare number formats: each fold's network on its test patients in fp32, --precision auto and bf16.

    In: the data set and the folds' networks. Out: a table, and precisions.json in each fold's folder. Half a minute of
    a processor a fold; a fold whose precisions.json is there is not computed again.

    \b
    volume Dice         mean over bleeding patients; nothing marked counts 0; its fall: from fp32's
    authors' Dice       the data set authors' measure: mean over a patient's lesion slices, then over patients
    pixels changed      marked in one and not in the other
    mask Dice           of the mask and fp32's, where either marks something: mean, and lowest of a patient
    largest difference  of any pixel's probability, before slices classified as free of blood are cleared
    verdicts changed    studies with another verdict: a bleed, none, or no verdict
    could be a default  the Dice falls by less than 0.002 and no verdict changes

    \b
    bleedmap reproduce precisions -o folds/mixed --data ct-ich
    bleedmap reproduce precisions -o folds/mixed --data ct-ich --fold 1 --patients 4
    """
    from bleedmap.folds.precisions import compare_fold, summarise

    dataset, folds = open_with_folds(data)
    found = []
    for number in sorted(map(int, set(wanted or FOLDS))):
        with progress_bar(f"fold {number}", quiet=as_json) as progress:
            found.append(compare_fold(dataset, folds, out, number, progress, patients))
    summary = summarise(found)
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)


def _print_summary(summary: dict[str, Any]) -> None:
    forms = summary["formats"]
    rows = [
        *((words, *(or_dash(one[key], form.format) for one in forms)) for words, key, form in _ROWS),
        ("verdicts changed", *(str(len(one["verdicts_changed"])) for one in forms)),
        ("could be a default", *("passes" if one["passes"] else "fails" for one in forms)),
    ]
    print_rows("", *(f">{one['format']}" for one in forms), rows=rows)
    folds = ", ".join(map(str, summary["folds"]))
    print_line(f"Folds {folds}: {summary['patients']} test patients, {summary['bleeding']} bleeding.")
    for one in summary["formats"]:
        if one["verdicts_changed"]:
            names = ", ".join(f"{patient:03d}" for patient in one["verdicts_changed"])
            print_line(f"{one['format']}: other verdicts than in fp32: patients {names}")
    for name, why in summary["left_out"].items():
        print_line(f"left out: {escape(name)}: {escape(why)}")
