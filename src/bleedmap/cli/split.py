"""`bleedmap split`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from bleedmap.cli import options
from bleedmap.cli.console import make_table, print_json, print_line, print_table

if TYPE_CHECKING:
    from bleedmap.datasets.ct_ich import CtIch
    from bleedmap.datasets.splits import Kind, Split


@click.command()
@options.data_option
@options.choice_option(
    "--kind", ("patient", "slice"),
    "What stays together. By slice, as in the thesis, the test side holds neighbours of training slices.",
)  # fmt: skip
@click.option(
    "--balanced/--all-slices", default=True, show_default=True,
    help="All lesion slices and equally many without a lesion, as in the thesis; or all slices, as in a clinic.",
)  # fmt: skip
@click.option(
    "--folds", type=click.IntRange(min=2), help="Cross-validation: write one file for each fold into a folder."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True,
    help="Seed of the random split: the same seed gives the same split.",
)  # fmt: skip
@options.out_option("The split file to write; with --folds, a folder.")
@click.option("--overwrite", is_flag=True, help="Replace the file or folder if it exists.")
@options.json_option
def command(
    data: Path | None, kind: "Kind", balanced: bool, folds: int | None, seed: int, out: Path, overwrite: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Write a split file: train, validation and test, by patient or by slice.

    In: the data set. Out: a JSON file with the slices of each side (80, 10 and 10 % of the patients, or of the slices)
    and the checksum of the data, which `train` and `evaluate` check. Every side gets bleeding and bleed-free patients
    in proportion. With --folds N: a folder of N files, in which each patient is tested exactly once.

    \b
    bleedmap split --data ct-ich -o split.json                    patients stay whole
    bleedmap split --data ct-ich --kind slice -o thesis.json      as the thesis split
    bleedmap split --data ct-ich --folds 5 -o folds/              cross-validation

    A balanced split takes all lesion slices (318) and equally many without. It is the default because results then
    compare with the thesis, and training sees lesions often. Only one slice in eight bleeds: to measure the rate of
    false alarms in practice, test on --all-slices.
    """
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.datasets.splits import make_folds, make_split
    from bleedmap.io.files import folder_written_whole

    dataset = open_ct_ich(data_root(data))
    if folds is None:
        _refuse_existing(out, overwrite)
        splits = [make_split(dataset, kind, seed, balanced)]
        splits[0].write(out)
    else:
        splits = make_folds(dataset, kind, seed, balanced, folds)
        with folder_written_whole(out, overwrite=overwrite) as folder:
            for split in splits:
                split.write(folder / f"fold-{split.fold}.json")
    if as_json:
        print_json({"out": str(out), "splits": [_described(dataset, split) for split in splits]})
    else:
        _print(dataset, splits, out)


def _refuse_existing(out: Path, overwrite: bool) -> None:
    from bleedmap.errors import OutputError

    if out.is_dir() or (out.exists() and not overwrite):
        found, other = ("a folder", "") if out.is_dir() else ("already exists", ", or --overwrite to replace it")
        needed = "the name of a new file, such as split.json"
        raise OutputError(out, found=found, needed=needed, remedy=f"give another name{other}")


def _described(data: "CtIch", split: "Split") -> dict[str, Any]:
    """A split's sides, counted."""
    from bleedmap.datasets.splits import SIDES

    described: dict[str, Any] = {
        "kind": split.kind, "balanced": split.balanced, "seed": split.seed, "fold": split.fold,
        "data_sha256": split.data_sha256,
    }  # fmt: skip
    for side in SIDES:
        records = [data.slice(name) for name in split.side(side)]
        lesion = [record for record in records if record.has_lesion]
        described[side] = {
            "patients": len({record.patient for record in records}),
            "lesion_patients": len({record.patient for record in lesion}),
            "slices": len(records), "lesion_slices": len(lesion),
        }  # fmt: skip
    return described


def _print(data: "CtIch", splits: "Sequence[Split]", out: Path) -> None:
    from bleedmap.datasets.ct_ich import SHORT_NAMES, TYPES
    from bleedmap.datasets.splits import SIDES

    title = f"By {splits[0].kind}, {'balanced' if splits[0].balanced else 'all slices'}, seed {splits[0].seed}"
    numbers = ("Patients", "bleeding", "Slices", "lesion", *(SHORT_NAMES[name] for name in TYPES))
    rows = []
    for split in splits:
        counted = _described(data, split)
        for side in SIDES:
            records = [data.slice(name) for name in split.side(side)]
            types = [sum(name in record.types for record in records) for name in TYPES]
            fold = str(split.fold) if side == SIDES[0] else ""
            rows.append([fold, side, *(f"{number:,}" for number in [*counted[side].values(), *types])])
    skip = 0 if splits[0].folds else 1  # without folds they have no column
    heads = ["Fold", "Side", *(f">{name}" for name in numbers)]
    table = make_table(*heads[skip:], rows=(row[skip:] for row in rows), title=title)
    print_table(table)
    if splits[0].kind == "slice":
        print_line("Slices of one patient are on several sides: scores on this split are too good.", style="yellow")
    print_line(f"Written: {escape(str(out))}")
