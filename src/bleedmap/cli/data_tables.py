"""`bleedmap data summary` as tables."""

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from bleedmap.cli.console import make_table, print_line, print_table
from bleedmap.datasets.ct_ich_summary import Oddity, Spread, Summary

_BAR_CELLS = 24


def print_summary(counts: Summary, oddities: Sequence[Oddity], folder: Path) -> None:
    """Print counts, types and oddities on standard output."""
    print_line(f"[bold]CT-ICH, release {counts.release}[/bold]   {escape(str(folder))}\n")
    for table in (_facts(counts), _types(counts), _oddities(oddities)):
        print_table(table)
        print_line()
    if counts.patients_ticked_otherwise == 0:
        print_line(
            f"The type and fracture ticks of the demographics agree with the slice labels in all "
            f"{counts.patients} patients; only their diagnosis text does not, where listed above."
        )


def _facts(counts: Summary) -> Table:
    table = make_table()
    table.add_column(style="bold")
    table.add_column(justify="right", style="cyan")
    table.add_column(overflow="fold")
    table.add_row("Patients", f"{counts.patients:,}", f"{counts.male} male, {counts.female} female")
    table.add_row("  with a hemorrhage", f"{counts.lesion_patients:,}", _masks(counts))
    table.add_row("  with several types", f"{counts.patients_of_several_types:,}", "")
    table.add_row("  with a fracture", f"{counts.fracture_patients:,}", "")
    if (age := counts.age_years) is not None:
        words = f"mean; median {age.median:g}, from {_age(age.smallest)} to {_age(age.largest)}"
        table.add_row("Age in years", f"{age.mean:.1f}", words)
    each = counts.slices_a_patient
    table.add_row("Slices", f"{counts.slices:,}", f"{each.smallest:.0f} to {each.largest:.0f} a patient")
    table.add_row("  with bone values", f"{counts.bone_slices:,}", "")
    table.add_row("  of the bleeding patients", f"{counts.slices_of_lesion_patients:,}", "lesion or not")
    table.add_row("  with a lesion mask", f"{counts.lesion_slices:,}", _share(counts))
    table.add_row("  with several types", f"{counts.slices_of_several_types:,}", "")
    table.add_row("  with a fracture", f"{counts.fracture_slices:,}", "")
    if counts.lesion_pixels is not None and counts.lesion_percent_of_image is not None:
        sizes = ", ".join(f"{rows}×{columns}" for rows, columns in counts.lesion_image_sizes)
        area = counts.lesion_pixels
        table.add_row("Lesion area in pixels", f"{area.median:,.0f}", f"{_spread(area, ',.0f')}; of {sizes}")
        percent = counts.lesion_percent_of_image
        table.add_row("  in % of the image", f"{percent.median:.2f}", _spread(percent, ".2g"))
    return table


def _types(counts: Summary) -> Table:
    caption = "A slice or patient with several types counts in each."
    table = make_table("Type", "", ">Slices", ">Patients", "", title="Types", caption=caption)
    table.columns[2].style = table.columns[3].style = "cyan"
    most = max(count.slices for count in counts.types)
    for count in counts.types:
        bar = "█" * round(_BAR_CELLS * count.slices / max(most, 1))
        table.add_row(count.name, count.short_name, f"{count.slices:,}", f"{count.patients:,}", f"[red]{bar}[/red]")
    return table


def _oddities(oddities: Sequence[Oddity]) -> Table:
    table = make_table(title=f"Oddities ({len(oddities)})")
    table.show_header = True
    table.add_column("Place", overflow="fold", style="yellow")
    table.add_column("Found", overflow="fold")
    table.add_column("What bleedmap does", max_width=24)
    for oddity in oddities:
        table.add_row(escape(oddity.place), escape(oddity.found), escape(oddity.treatment))
    return table


def _masks(counts: Summary) -> str:
    each = counts.lesion_slices_a_lesion_patient
    return f"{each.smallest:.0f} to {each.largest:.0f} lesion slices each" if each else ""


def _share(counts: Summary) -> str:
    return f"{100 * counts.lesion_slices / counts.slices:.1f} % of all slices"


def _spread(spread: Spread, form: str) -> str:
    return f"median; mean {spread.mean:{form}}, from {spread.smallest:{form}} to {spread.largest:{form}}"


def _age(years: float) -> str:
    return f"{years:g}" if years >= 1 else f"{round(years * 365.25)} day{'s' if years * 365.25 >= 1.5 else ''}"
