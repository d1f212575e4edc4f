"""`bleedmap evaluate --studies`: external validation on a user's own folder of images and reference masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.markup import escape
from rich.table import Table

from bleedmap.cli.console import make_table, print_json, print_line, print_table, progress_bar
from bleedmap.cli.options import Verb, weights_option
from bleedmap.errors import OutputError

if TYPE_CHECKING:
    from bleedmap.evaluation.external_report import ExternalReport
    from bleedmap.evaluation.reference_find import NoMask

_FIRST = (
    "patient_mean_dice", "volume_dice", "lesion_sensitivity_touched", "false_positives_per_study_touched",
    "lesion_free_slices_marked", "slice_auc", "study_auc", "slice_sensitivity", "slice_specificity",
    "study_sensitivity", "study_specificity",
)  # fmt: skip
_REFUSALS = 10
_OWN = ("masks", "weights", "no_mask_means", "window", "accept")  # flags that only --studies has
_NOT_HERE = (
    "protocol", "predictions", "split_file", "side", "slices", "grid", "data", "device", "precision",
)  # fmt: skip
_OPTIONS = (
    click.option(
        "--studies", type=click.Path(path_type=Path),
        help="External validation: a folder of head CTs with reference masks, measured with installed weights.",
    ),
    click.option(
        "--masks", type=click.Path(path_type=Path),
        help="With --studies: the masks' folder, if they do not lie beside the images.",
    ),
    weights_option,
    click.option(
        "--no-mask-means", type=click.Choice(["unknown", "lesion-free"]), default="unknown", show_default=True,
        help="With --studies: what a slice or study without a mask file is; unknown ones are left out.",
    ),
    click.option(
        "--window", nargs=2, type=float, metavar="LEVEL WIDTH",
        help="With --studies, pictures: the window in HU that they were exported in; default: 40 120.",
    ),
    click.option(
        "--accept", multiple=True, metavar="CHECK",
        help="With --studies: measure studies that this input check refuses; the report says so.",
    ),
)  # fmt: skip


def studies_options(verb: Verb) -> Verb:
    """The flags of `--studies`."""
    for option in reversed(_OPTIONS):
        verb = option(verb)
    return verb


def asked_for_studies(
    context: click.Context, inputs: tuple[str, ...], out: Path | None, as_json: bool, given: dict[str, Any]
) -> bool:
    """Evaluate the folder of `--studies` where it was given; returns whether.

    Args:
        context: of the verb.
        inputs: its arguments: weights may stand there too.
        out: of -o.
        as_json: of --json.
        given: the flags of `studies_options`.

    Raises:
        click.UsageError: flags that do not go together.
    """
    stray = _NOT_HERE if given["studies"] is not None else _OWN
    for name in stray:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = "--" + name.removesuffix("_file").replace("_", "-")
            words = "not for --studies" if given["studies"] is not None else "for --studies FOLDER"
            raise click.UsageError(f"{flag} is {words}.")
    if given["studies"] is None:
        return False
    if out is None:
        raise click.UsageError("--studies writes a report: give -o REPORT_FOLDER too.")
    if len(inputs) + (given["weights"] is not None) > 1:
        raise click.UsageError("--studies measures one network: give one weights' name or .onnx file.")
    flags = StudiesFlags(
        given["studies"], given["masks"], given["weights"] or next(iter(inputs), None), out, given["no_mask_means"],
        given["window"], given["accept"],
    )  # fmt: skip
    evaluate_studies(flags, as_json=as_json)
    return True


@dataclass(frozen=True)
class StudiesFlags:
    """The flags of `--studies`.

    Attributes:
        studies: folder of images.
        masks: folder of masks; None where they lie beside the images.
        weights: installed weights by name, or an .onnx file; None: the installed ones.
        out: folder of results.
        no_mask: what a slice or study without a mask file is.
        window: level and width in HU in which pictures were exported; None: the brain window.
        accept: names of input checks whose refusal is overruled.
    """

    studies: Path
    masks: Path | None
    weights: str | None
    out: Path
    no_mask: "NoMask"
    window: tuple[float, float] | None
    accept: tuple[str, ...]


def evaluate_studies(flags: StudiesFlags, *, as_json: bool) -> None:
    """Find the pairs, run the network, write the report, print its first figures.

    Raises:
        BleedmapError: nothing to measure, weights or a table that cannot be used, a folder of results of others.
    """
    from bleedmap.evaluation.external import ExternalOptions, external_ledger, run_external
    from bleedmap.evaluation.external_patients import read_patients
    from bleedmap.evaluation.external_report import write_report
    from bleedmap.evaluation.reference_find import Places, find_cases
    from bleedmap.study.segment import Segmenter
    from bleedmap.window import BRAIN, Window

    for folder in filter(None, (flags.studies, flags.masks)):
        if folder.resolve().is_relative_to(flags.out.resolve()):
            raise OutputError(
                flags.out, found=f"holds the input {folder}", needed="a folder of its own for the results",
                remedy="give another folder with -o",
            )  # fmt: skip
    external_ledger(flags.out).refuse_foreign_files()
    window = Window(*flags.window) if flags.window else BRAIN
    options = ExternalOptions(window, flags.accept, flags.no_mask)
    segmenter = Segmenter.load(flags.weights)
    with progress_bar("Looking for studies", quiet=as_json) as seen:
        places = Places(flags.studies, flags.masks, flags.out, flags.no_mask)
        found = find_cases(places, lambda files: seen(files, files))
    patients = read_patients(flags.studies, [one.name for one in found.cases])
    with progress_bar("Evaluating studies", quiet=as_json) as progress:
        studies = run_external(found, flags.out, segmenter, options, progress)
    report = write_report(flags.out, found, studies, patients, segmenter, options)
    if as_json:
        print_json(report.content | {"out": str(flags.out)})
    else:
        _print(report, flags.out)


def _print(report: "ExternalReport", out: Path) -> None:
    content = report.content
    counts = content["counts"]
    told = "by patients.csv" if content["patients_told"] else "each study taken for one"
    print_line(f"[bold]{escape(content['weights']['name'])}[/] on {escape(content['folder'])}")
    print_line(
        f"{counts['measured']:,} of {counts['studies_with_reference']:,} studies measured, {counts['patients']:,} "
        f"patients ({told}); {counts['bleeding_studies']:,} studies bleed; {counts['slices']:,} slices, "
        f"{counts['lesion_slices']:,} with a lesion",
    )
    for words in content["understood"]:
        print_line(escape(words))
    if report.scores is not None:
        print_table(_measures(report.scores.to_dict()))
        for group, one in report.scores.volumes.items():
            limits = "" if one.low is None else f", limits of agreement {one.low:,.1f} to {one.high:,.1f} mL"
            print_line(f"Volume, {group} ({one.studies:,}): bias {one.bias:+,.2f} mL{limits}")
    for one in content["left_out"]:
        said = f"left out, {one['reason']}: {one['count']:,} ({', '.join(one['examples'][:2])})"
        print_line(f"[yellow]{escape(said)}[/]")
    for one in content["refused"][:_REFUSALS]:
        print_line(f"[yellow]refused[/] {escape(one['study'])}: {escape(one['error'])}")
    if counts["refused"] > _REFUSALS:
        print_line(f"and {counts['refused'] - _REFUSALS:,} more refused, see studies.csv")
    for one in content["notes"]:
        print_line(f"[dim]{one['count']:,} × {escape(one['reason'])}[/]")
    print_line(f"The network was trained on: {escape(content['weights']['trained_on'])}")
    print_line(f"Report: {escape(str(out / 'report.html'))}")
    print_line(content["research_only"], style="yellow")


def _measures(scores: dict[str, Any]) -> Table:
    """The first figures; the report has all."""
    table = make_table("", "of", ">value", ">95 % interval", ">cases")
    by_key = {one["key"]: one for one in scores["measures"]}
    for one in (by_key[key] for key in _FIRST):
        value = "–" if one["value"] is None else f"{one['value']:.3f}"
        ends = "" if one["low"] is None else f"{one['low']:.3f} to {one['high']:.3f}"
        table.add_row(f"{one['group']}: {one['title']}", one["over"], value, ends, f"{one['cases']:,}")
    return table
