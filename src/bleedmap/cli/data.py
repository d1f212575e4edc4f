"""`bleedmap data`: download, verify and count CT-ICH."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from bleedmap.cli import options
from bleedmap.cli.console import make_table, print_json, print_line, print_table, progress_bar

if TYPE_CHECKING:
    from bleedmap.datasets.ct_ich_summary import Oddity, Spread, Summary

_BAR_CELLS = 24
_LISTED = 20  # damaged files that are named; the rest is counted


@click.group()
def command() -> None:
    """Download the CT-ICH data set, verify it, count it, or write it in nnU-Net's layout.

    CT-ICH holds 82 head CTs. In 36 of them two radiologists outlined an intracranial hemorrhage (Hssayeni et al., Data
    2020, 5(1), 14; doi 10.13026/w8q8-ky94). Two releases can be read: 1.0.0, which is open, as JPEGs in the brain
    window; and 1.3.1, which is restricted, as NIfTI in HU.

    \b
    bleedmap data download -o ct-ich
    bleedmap data verify --data ct-ich
    bleedmap data summary --data ct-ich
    bleedmap data nnunet --data ct-ich -o nnUNet_raw/Dataset501_CTICH
    """


@command.command()
@options.data_option
@options.json_option
def summary(data: Path | None, as_json: bool) -> None:
    """Count patients, slices, lesions and types, and list what is odd in the files.

    In: the data set's folder. Out: tables, or with --json every count and oddity. Reading all masks takes a
    few seconds.

    \b
    bleedmap data summary --data ct-ich
    bleedmap data summary --data ct-ich --json > counts.json
    """
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.datasets.ct_ich_summary import find_oddities, summarise

    dataset = open_ct_ich(data_root(data))
    with progress_bar("Reading masks") as report:
        counts = summarise(dataset, report)
    oddities = find_oddities(dataset)
    if as_json:
        about = {"folder": str(dataset.root), "content_sha256": dataset.content_sha256()}
        print_json(about | asdict(counts) | {"oddities": [asdict(oddity) for oddity in oddities]})
    else:
        _print_summary(counts, oddities, dataset.root)


@command.command()
@options.data_option
@options.json_option
def verify(data: Path | None, as_json: bool) -> None:
    """Check every file against the publisher's SHA-256 sums.

    In: the data set's folder with the publisher's list, SHA256SUMS or SHA256SUMS.txt. Out: the files that are
    missing or changed; exit code 2 if there are any.

    \b
    bleedmap data verify --data ct-ich
    """
    from bleedmap.datasets.checksums import SUMS_NAMES
    from bleedmap.datasets.checksums import verify as verify_files
    from bleedmap.datasets.ct_ich import data_root, locate
    from bleedmap.errors import DataError

    folder = data_root(data)
    if not any((folder / name).is_file() for name in SUMS_NAMES):
        folder = locate(folder)
    with progress_bar("Verifying") as report:
        result = verify_files(folder, report)
    if as_json:
        print_json({"folder": str(folder), **asdict(result)})
    for state, names in (("missing", result.missing), ("changed", result.changed)):
        for name in names[: 0 if as_json else _LISTED]:
            click.echo(f"{state}  {name}")
        if len(names) > _LISTED and not as_json:
            click.echo(f"{state}  … and {len(names) - _LISTED:,} more")
    if result.missing or result.changed:
        raise DataError(
            folder, needed="every file as the publisher lists it",
            found=f"of the listed files, {len(result.missing):,} missing and {len(result.changed):,} changed",
            remedy=f"`bleedmap data download -o {folder}` fetches those files again, and no others",
        )  # fmt: skip
    if not as_json:
        click.echo(f"{folder}: all {len(result.intact):,} files are as the publisher lists them")


@command.command()
@options.out_option("Folder for the files: a new one, or that of an earlier run, to resume it.")
@click.option(
    "--url", help="Address of the folder at the publisher or on a mirror. Not given: release 1.0.0 at PhysioNet."
)
@click.option(
    "--connections", type=click.IntRange(1, 16), default=4, show_default=True,
    help="Number of files to fetch at the same time.",
)  # fmt: skip
@options.json_option
def download(out: Path, url: str | None, connections: int, as_json: bool) -> None:
    """Fetch the open release 1.0.0 from PhysioNet.

    In: nothing. Out: the folder with 82 patients' pictures and masks, two tables and the list of checksums. Each
    file is checked before it gets its name. You can stop at any moment and run the same command again: files that are
    complete are kept, all others are fetched. It needs the extra `data`, which `train` contains.

    \b
    bleedmap data download -o ct-ich
    export BLEEDMAP_DATA=ct-ich

    The data are by Hssayeni et al., under Creative Commons Attribution 4.0: name the authors if you use them.
    If the publisher asks for a login, download by hand and give the folder with --data.
    """
    from bleedmap.datasets.download import URL
    from bleedmap.datasets.download import download as fetch_files

    with progress_bar("Downloading") as report:
        result = fetch_files(out, url or URL, connections=connections, progress=report)
    if as_json:
        print_json({"folder": str(out), **asdict(result)})
        return
    size_mb = result.received_bytes / 1e6
    click.echo(f"{out}: {result.fetched:,} files fetched ({size_mb:.1f} MB), {result.kept:,} were there already")
    click.echo("Licence: CC BY 4.0. Cite: Hssayeni et al., Data 2020, 5(1), 14; doi 10.13026/w8q8-ky94")
    click.echo(f"Next: bleedmap data summary --data {out}")


@command.command()
@options.out_option("A new folder, for example Dataset501_CTICH.")
@options.data_option
def nnunet(out: Path, data: Path | None) -> None:
    """Write the data set in nnU-Net v2's layout, with the protocol's five folds by patient.

    In: CT-ICH 1.0.0. Out: imagesTr, labelsTr and dataset.json for nnUNet_raw, and splits_final.json, which belongs in
    nnU-Net's folder of preprocessed data. A fold's 'val' is its test side; pixel size is a guess (250 mm view).

    \b
    bleedmap data nnunet --data ct-ich -o nnUNet_raw/Dataset501_CTICH
    """
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.datasets.folds import protocol_folds
    from bleedmap.datasets.nnunet import export_nnunet

    dataset = open_ct_ich(data_root(data))
    with progress_bar("Writing patients") as report:
        export_nnunet(dataset, protocol_folds(), out, report)
    click.echo(f"{out}: {len(dataset.patients)} patients, {len(protocol_folds().folds)} folds")


def _print_summary(counts: "Summary", oddities: "Sequence[Oddity]", folder: Path) -> None:
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


def _facts(counts: "Summary") -> Table:
    each, many = counts.lesion_slices_a_lesion_patient, counts.slices_a_patient
    masks = f"{each.smallest:.0f} to {each.largest:.0f} lesion slices each" if each else ""
    share = f"{100 * counts.lesion_slices / counts.slices:.1f} % of all slices"
    rows = [
        ("Patients", f"{counts.patients:,}", f"{counts.male} male, {counts.female} female"),
        ("  with a hemorrhage", f"{counts.lesion_patients:,}", masks),
        ("  with several types", f"{counts.patients_of_several_types:,}", ""),
        ("  with a fracture", f"{counts.fracture_patients:,}", ""),
    ]
    if (age := counts.age_years) is not None:
        words = f"mean; median {age.median:g}, from {_age(age.smallest)} to {_age(age.largest)}"
        rows.append(("Age in years", f"{age.mean:.1f}", words))
    rows += [
        ("Slices", f"{counts.slices:,}", f"{many.smallest:.0f} to {many.largest:.0f} a patient"),
        ("  with bone values", f"{counts.bone_slices:,}", ""),
        ("  of the bleeding patients", f"{counts.slices_of_lesion_patients:,}", "lesion or not"),
        ("  with a lesion mask", f"{counts.lesion_slices:,}", share),
        ("  with several types", f"{counts.slices_of_several_types:,}", ""),
        ("  with a fracture", f"{counts.fracture_slices:,}", ""),
    ]
    if (area := counts.lesion_pixels) is not None and (percent := counts.lesion_percent_of_image) is not None:
        sizes = ", ".join(f"{rows}×{columns}" for rows, columns in counts.lesion_image_sizes)
        rows.append(("Lesion area in pixels", f"{area.median:,.0f}", f"{_spread(area, ',.0f')}; of {sizes}"))
        rows.append(("  in % of the image", f"{percent.median:.2f}", _spread(percent, ".2g")))
    table = make_table("", ">", "", rows=rows)
    table.columns[0].style, table.columns[1].style, table.columns[2].overflow = "bold", "cyan", "fold"
    return table


def _types(counts: "Summary") -> Table:
    most = max(count.slices for count in counts.types)
    rows = (
        (one.name, one.short_name, f"{one.slices:,}", f"{one.patients:,}",
         f"[red]{'█' * round(_BAR_CELLS * one.slices / max(most, 1))}[/red]")
        for one in counts.types
    )  # fmt: skip
    caption = "A slice or patient with several types counts in each."
    table = make_table("Type", "", ">Slices", ">Patients", "", rows=rows, title="Types", caption=caption)
    table.columns[2].style = table.columns[3].style = "cyan"
    return table


def _oddities(oddities: "Sequence[Oddity]") -> Table:
    rows = ([escape(one.place), escape(one.found), escape(one.treatment)] for one in oddities)
    heads = ("Place", "Found", "What bleedmap does")
    table = make_table(*heads, rows=rows, title=f"Oddities ({len(oddities)})")
    place, found, treatment = table.columns
    place.overflow, place.style, found.overflow, treatment.max_width = "fold", "yellow", "fold", 24
    return table


def _spread(spread: "Spread", form: str) -> str:
    return f"median; mean {spread.mean:{form}}, from {spread.smallest:{form}} to {spread.largest:{form}}"


def _age(years: float) -> str:
    return f"{years:g}" if years >= 1 else f"{round(years * 365.25)} day{'s' if years * 365.25 >= 1.5 else ''}"
