"""What `bleedmap segment` prints of a summary."""

from itertools import groupby
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bleedmap.cli.console import make_table, print_line, print_table
from bleedmap.study.words import chance, interval

_TABLE_ROWS = 20
_NAMES_SHOWN = 8
_SUMMARY = "summary.json"


def print_summary(summary: dict[str, Any], out: Path) -> None:
    """Print what was found, the checks that did not pass, and where the results are.

    Args:
        summary: as `summary.json` holds it, of a study or of pictures.
        out: the folder of results.
    """
    _print_found(summary)
    for one in summary.get("checks", []):
        if one["verdict"] in ("warning", "refusal"):
            verdict = f"{one['verdict']}{', overruled' if one['overruled'] else ''}"
            said = f"{one['name']}: {one['found']} (passes: {one['limit']}). {one['meaning']}"
            print_line(f"[yellow]{verdict}:[/] {escape(said)}")
    for note in summary["notes"]:
        print_line(f"[yellow]note:[/] {escape(note)}")
    by_reason = sorted(summary.get("ignored", []), key=lambda one: str(one["reason"]))
    for reason, group in groupby(by_reason, key=lambda one: str(one["reason"])):
        names = [Path(one["file"]).name for one in group]
        more = f" and {len(names) - _NAMES_SHOWN} more, see {_SUMMARY}" if len(names) > _NAMES_SHOWN else ""
        print_line(f"ignored, {reason}: {escape(', '.join(names[:_NAMES_SHOWN]))}{more}")
    backend = summary["backend"]
    network = f"{summary['weights']['name']} on {backend['name']}, {backend['device']}, {backend['precision']}"
    shown = out / summary["files"]["report"] if "files" in summary else out
    print_line(f"Results: {escape(str(shown))} [dim]({escape(network)})[/]")
    print_line(summary["research_only"], style="yellow")


def _print_found(summary: dict[str, Any]) -> None:
    volume_ml, marked, count = summary["volume_ml"], len(summary["slices_with_lesion"]), summary["slice_count"]
    slices, certainty = "1 slice" if count == 1 else f"{count:,} slices", summary["certainty"]
    if certainty is not None and certainty["abstained"]:
        print_line("[bold yellow]No verdict[/]: what follows is not to be relied on.")
        for reason in certainty["abstained"]:
            print_line(f"[yellow]no verdict:[/] {escape(reason)}")
    if summary["hemorrhage_found"]:
        size = f"{summary['lesion_pixels']:,} pixels" if volume_ml is None else f"{volume_ml:,.2f} mL"
        found = "Hemorrhage found" if certainty is None else "Bleed marked"
        print_line(f"[bold red]{found}[/]: {size} in {marked} of {slices}")
    else:
        found, what = ("hemorrhage found", "probability") if certainty is None else ("bleed marked", "pixel")
        print_line(
            f"[bold]No {found}[/] in {slices} "
            f"(highest {what} {summary['highest_probability']:.2f}, threshold {summary['threshold']:g})"
        )
    if certainty is not None:
        print_line(_certainty_line(certainty))
    if summary["hemorrhage_found"]:
        print_table(_lesion_table(summary))
        if volume_ml is None:
            print_line(f"No volume in mL: {summary['volume_note']}.")


def _certainty_line(certainty: dict[str, Any]) -> str:
    """'Study probability 0.97; volume: 80 % interval 22 to 41 mL; in the study: IPH 0.91, …'."""
    said = [f"Study probability {chance(certainty['study_probability'])}"]
    if certainty["volume_ml"] is not None:
        low_ml, high_ml = certainty["volume_ml"]
        said.append(f"volume: {interval((low_ml, high_ml), certainty['coverage'])} mL")
    if certainty["types"]:
        types = ", ".join(f"{name} {chance(probability)}" for name, probability in certainty["types"].items())
        said.append(f"types in the whole study: {types}")
    return "; ".join(said)


def _lesion_table(summary: dict[str, Any]) -> Table:
    """The largest lesions; slices by name for pictures, by number in a volume."""
    lesions, in_ml = summary["lesions"], summary["volume_ml"] is not None
    table = make_table(">Lesion", "Slice", ">Pixels", *([">mL"] if in_ml else []), ">Highest probability")
    for lesion in lesions[:_TABLE_ROWS]:
        first, last = lesion["first_slice"], lesion["last_slice"]
        place = f"{first}" if first == last else f"{first}–{last}"
        place = summary["slices"][first - 1].get("name", place)
        size = [f"{lesion['volume_ml']:,.2f}"] if in_ml else []
        peak = f"{lesion['highest_probability']:.2f}"
        table.add_row(str(lesion["lesion"]), Text(place), f"{lesion['pixels']:,}", *size, peak)
    if len(lesions) > _TABLE_ROWS:
        table.caption = f"and {len(lesions) - _TABLE_ROWS} smaller, see {_SUMMARY}"
    return table
