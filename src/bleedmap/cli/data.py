"""`bleedmap data`: download, verify and count CT-ICH."""

from dataclasses import asdict
from pathlib import Path

import click

from bleedmap.cli.console import print_json, progress_bar
from bleedmap.cli.options import data_option, json_option

_LISTED = 20  # damaged files that are named; the rest is counted


@click.group(short_help="The CT-ICH data set: download, verify, summary, nnU-Net's layout.")
def command() -> None:
    """The CT-ICH data set: download, verify, summary, nnU-Net's layout.

    CT-ICH is 82 head CTs, 36 of them with an intracranial hemorrhage that two radiologists outlined (Hssayeni et
    al., Data 2020, 5(1), 14; doi 10.13026/w8q8-ky94). Two releases can be read: 1.0.0, open, brain-window JPEGs;
    and 1.3.1, restricted, NIfTI in HU.

    \b
    bleedmap data download -o ct-ich
    bleedmap data verify --data ct-ich
    bleedmap data summary --data ct-ich
    bleedmap data nnunet --data ct-ich -o nnUNet_raw/Dataset501_CTICH
    """


@command.command()
@data_option
@json_option
def summary(data: Path | None, as_json: bool) -> None:
    """Count patients, slices, lesions and types, and name what is odd.

    In: the data set's folder. Out: tables, or JSON that holds every count and oddity. All masks are read, which
    takes a few seconds.

    \b
    bleedmap data summary --data ct-ich
    bleedmap data summary --data ct-ich --json > counts.json
    """
    from bleedmap.cli.data_tables import print_summary
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.datasets.ct_ich_summary import find_oddities, summarise

    dataset = open_ct_ich(data_root(data))
    with progress_bar("Reading masks") as report:
        counts = summarise(dataset, report)
    oddities = find_oddities(dataset)
    if as_json:
        content = {
            "folder": str(dataset.root),
            "content_sha256": dataset.content_sha256(),
            **asdict(counts),
            "oddities": [asdict(oddity) for oddity in oddities],
        }
        print_json(content)
    else:
        print_summary(counts, oddities, dataset.root)


@command.command()
@data_option
@json_option
def verify(data: Path | None, as_json: bool) -> None:
    """Check every file against the publisher's SHA-256 sums.

    In: the data set's folder with the publisher's list, SHA256SUMS or SHA256SUMS.txt. Out: the files that are
    missing or changed; exit code 2 where there are any.

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
            folder,
            found=f"of the listed files, {len(result.missing):,} missing and {len(result.changed):,} changed",
            needed="every file as the publisher lists it",
            remedy=f"`bleedmap data download -o {folder}` fetches those files again, and no others",
        )
    if not as_json:
        click.echo(f"{folder}: all {len(result.intact):,} files are as the publisher lists them")


@command.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the files: a new one, or that of an earlier run, to resume it.",
)
@click.option("--url", help="Folder at the publisher, or a mirror of it; PhysioNet's release 1.0.0 by default.")
@click.option(
    "--connections", type=click.IntRange(1, 16), default=4, show_default=True, help="Files fetched at a time."
)
@json_option
def download(out: Path, url: str | None, connections: int, as_json: bool) -> None:
    """Fetch the open release 1.0.0 from PhysioNet.

    In: nothing. Out: the folder with 82 patients' pictures and masks, two tables and the list of checksums. Each
    file is checked before it gets its name. You can stop at any moment and run the same command again: files that are
    complete are kept, all others are fetched. It needs the extra `data`, which `train` contains.

    \b
    bleedmap data download -o ct-ich
    export BLEEDMAP_DATA=ct-ich

    The data are by Hssayeni et al., under Creative Commons Attribution 4.0: name the authors where you use them.
    Where the publisher asks for a login, download by hand and give the folder with --data.
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
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="A new folder, for example Dataset501_CTICH."
)
@data_option
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
