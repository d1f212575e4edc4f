"""`bleedmap evaluate`: a network on a split, records of the protocol, or a folder of studies."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.markup import escape

from bleedmap.cli import options
from bleedmap.cli.console import (
    explain_interrupt,
    make_table,
    or_dash,
    print_json,
    print_line,
    print_rows,
    print_table,
    progress_bar,
)
from bleedmap.errors import SettingsError

if TYPE_CHECKING:
    from bleedmap.arrays import FloatArray
    from bleedmap.evaluation.report import ScoredMethods
    from bleedmap.evaluation.slices import Subject
    from bleedmap.evaluation.studies.find import NoMask, Places
    from bleedmap.evaluation.studies.labels import Role
    from bleedmap.evaluation.studies.report import ExternalReport
    from bleedmap.training.run import Run

_OF_A_SPLIT = ("split_file", "side", "slices", "grid", "device", "precision")
_OF_STUDIES = (
    "masks", "mask_name", "mask_labels", "labels", "label_columns", "patients", "weights", "no_mask_means", "window",
    "accept",
)  # fmt: skip
_REFUSALS = 10
_EVERY, _LESION = "{report[slices]:,} slices", "{report[lesion_slices]} lesion slices"
_PATIENTS, _FREE = "{report[lesion_patients]} patients", "{free:,} slices"
_THESIS = (("Dice", "dice", _EVERY), ("mean IoU", "mean_iou", _EVERY), ("accuracy", "accuracy", _EVERY))
# Title, key in the report, and rows of (words, name in the report, over what).
_GROUPS = (
    ("Thesis, pooled", "thesis_pooled", _THESIS),
    ("Thesis, per slice", "thesis_per_slice", _THESIS),
    ("Strict", "strict", (
        ("Dice, lesion slices", "lesion_slice_dice", _LESION),
        ("IoU, lesion slices", "lesion_slice_iou", _LESION),
        ("precision, lesion slices", "lesion_slice_precision", _LESION),
        ("recall, lesion slices", "lesion_slice_recall", _LESION),
        ("Dice, mean of patients' means", "patient_mean_dice", _PATIENTS),
        ("Dice, each patient's slices pooled", "patient_stack_dice", _PATIENTS),
        ("precision, pooled pixels", "pooled_precision", _EVERY),
        ("recall, pooled pixels", "pooled_recall", _EVERY),
        ("lesion-free slices marked anywhere", "lesion_free_slices_marked", _FREE),
    )),
    ("Detection", "detection", (
        ("ROC AUC, slices", "slice_roc_auc", _EVERY), ("ROC AUC, pixels", "pixel_roc_auc", _EVERY),
    )),
)  # fmt: skip
_FIRST_MEASURES = (
    "patient_mean_dice", "volume_dice", "lesion_sensitivity_touched", "false_positives_per_study_touched",
    "lesion_free_slices_marked", "slice_auc", "study_auc", "slice_sensitivity", "slice_specificity",
    "study_sensitivity", "study_specificity", "abstained",
)  # fmt: skip


@click.command()
@click.argument("inputs", metavar="[RUN|WEIGHTS|RECORDS.json ...]", nargs=-1)
@click.option(
    "--protocol", type=click.Choice(["cross-validation"]),
    help="Make the protocol's tables and report from records of a cross-validation. Needs no network.",
)  # fmt: skip
@options.path_option(
    "--predictions",
    text="With --protocol: folder of the first method's predictions, for the report's pictures. Needs --data.",
)
@options.path_option("--split", "split_file", text="Split file. Not given: the network's own split.")
@click.option(
    "--side", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True,
    help="Which side of the split to measure on.",
)  # fmt: skip
@options.choice_option(
    "--slices", ("split", "all"), "The slices of that side, or all slices of its patients (only for splits by patient)."
)
@options.choice_option(
    "--grid",
    ("original", "network"),
    "Where pixels are counted: on the slice's own grid, or on the network's, as in the thesis.",
)
@options.out_option(
    "A JSON file for the whole report, slice by slice. With --protocol or --studies: a folder for the report.",
    required=False,
)
@options.path_option(
    "--studies", text="External validation: a folder of head CTs with reference masks, or with --labels."
)
@options.path_option(
    "--masks", text="With --studies: the folder of the masks, if they are not in the same folders as the images."
)
@options.mask_name_option
@options.mask_label_option
@options.path_option(
    "--labels",
    text="With --studies: a CSV that says which studies or slices bleed, in place of masks: columns study, slice, "
    "bleeds; or types, several readers, a line for each box. Or boxes as COCO's JSON file or YOLO's folder.",
)
@click.option(
    "--label-column", "label_columns", multiple=True, metavar="ROLE=NAME",
    help="With --labels: which column is meant, as study=Case, slice=Image or bleeds=Blood. Repeat for several; of "
    "several for bleeds, one says yes. Not given: known by the usual names.",
)  # fmt: skip
@options.patients_option
@options.weights_option
@options.choice_option(
    "--no-mask-means",
    ("unknown", "lesion-free"),
    "With --studies: what a slice or study without a mask file is, or a study without a label. Unknown ones are "
    "left out.",
)
@click.option(
    "--window", nargs=2, type=float, metavar="LEVEL WIDTH",
    help="With --studies: the window in HU in which pictures were exported. Not given: 40 120.",
)  # fmt: skip
@click.option(
    "--accept", multiple=True, metavar="CHECK",
    help="With --studies: measure studies that this input check refuses; the report says so. Repeat for several.",
)  # fmt: skip
@options.data_option
@options.device_option
@options.precision_option
@options.json_option
@click.pass_context
def command(
    context: click.Context, /, inputs: tuple[str, ...], protocol: str | None, predictions: Path | None,
    split_file: Path | None, side: str, slices: str, grid: str, out: Path | None, studies: Path | None,
    masks: Path | None, mask_name: str | None, mask_labels: tuple[int, ...], labels: Path | None,
    label_columns: tuple[str, ...], patients: Path | None, weights: str | None, no_mask_means: "NoMask",
    window: tuple[float, float] | None, accept: tuple[str, ...], data: Path | None, device: str, precision: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure a trained network in one of three ways.

    1. On one side of a split of CT-ICH. In: a run folder, an .onnx file or the name of installed weights such as
    ct-ich-first, and the data set. Out: the thesis' measures under a stated convention, stricter measures, and
    detection, with 95 % intervals over patients. If the network was trained on some of these patients, the table and
    the report say so.

    \b
    bleedmap evaluate runs/quick --data ct-ich                 the run's own test side
    bleedmap evaluate runs/quick --data ct-ich --slices all    all slices of the test patients
    bleedmap evaluate ct-ich-first --data ct-ich               the first weights on their test patients

    2. With --protocol cross-validation, from records. In: one or more files of records, each with the counts of one
    method on patients that it had never seen. Not given: the records that come with the program. Out: a table of
    measures, targets and intervals; with -o a folder with report.html (complete in one file), scores.json, scores.csv
    and figures. The first method is compared with each of the others. With --predictions and --data the report also
    shows pictures: misses, false alarms, and ten cases by rank.

    \b
    bleedmap evaluate --protocol cross-validation
    bleedmap evaluate --protocol cross-validation ours.json theirs.json -o report
    bleedmap evaluate --protocol cross-validation ours.json --predictions ours/ --data ct-ich -o report

    3. With --studies, on your own studies (external validation). In: a folder of head CTs with reference masks, as
    pictures, NIfTI, or DICOM with SEG objects or NIfTI masks; docs/external-validation.md explains how they must lie.
    Without masks, a table with --labels says which studies or slices bleed; boxes will do. Out: a folder with
    report.html, report.json and tables as CSV: the protocol's measures where they apply, agreement of volumes in mL,
    surface distances, and refused studies with the reason. You can stop at any moment and give the same command again
    to continue.

    \b
    bleedmap evaluate --studies hospital/ -o report
    bleedmap evaluate --studies ct/ --masks readers/ --weights ours.onnx -o report --json
    bleedmap evaluate --studies ct/ --labels readers.csv -o report
    """
    if studies is not None:
        _refuse(context, ("protocol", "predictions", *_OF_A_SPLIT, "data"), "is not for --studies")
        if out is None:
            raise click.UsageError("--studies writes a report: give -o REPORT_FOLDER too.")
        if len(inputs) + (weights is not None) > 1:
            raise click.UsageError("--studies measures one network: give one weights' name or .onnx file.")
        if (masks or mask_name or mask_labels or None) is not None and labels is not None:
            raise click.UsageError("masks and --labels are two kinds of reference: give one.")
        from bleedmap.evaluation.studies.find import Places

        if label_columns and labels is None:
            raise click.UsageError("--label-column speaks of a table: give --labels TABLE too.")
        name = weights or next(iter(inputs), None)
        places = Places(
            studies, masks, out, no_mask_means, labels, _read_roles(label_columns), mask_name or None,
            frozenset(mask_labels),
        )  # fmt: skip
        _evaluate_studies(places, patients, name, window, accept, as_json)
        return
    _refuse(context, _OF_STUDIES, "is for --studies FOLDER")
    if protocol is not None:
        _refuse(context, _OF_A_SPLIT, "is for measuring a network; --protocol reads records")
        _evaluate_records([Path(name) for name in inputs], predictions, data, out, as_json)
        return
    if len(inputs) > 1 or predictions is not None:
        raise click.UsageError("several inputs, and --predictions, are for --protocol cross-validation.")
    _evaluate_side(next(iter(inputs), None), split_file, side, slices, grid, out, data, device, precision, as_json)


def _refuse(context: click.Context, names: Sequence[str], why: str) -> None:
    """Refuse flags that would do nothing here."""
    for one in context.command.params:
        if one.name in names and context.get_parameter_source(one.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{one.opts[0]} {why}.")


# --- a split --------------------------------------------------------------------------------------------------------


def _evaluate_side(
    name: str | None, split_file: Path | None, side: str, slices: Any, grid: Any, out: Path | None,
    data: Path | None, device: str, precision: str, as_json: bool,
) -> None:  # fmt: skip
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.datasets.splits import read_split
    from bleedmap.evaluation.slices import load_weights_subject, measure_side
    from bleedmap.io.files import write_json

    if name is not None and Path(name).is_dir():
        subject = _load_run(Path(name), device, precision)
    elif device not in ("auto", "cpu") or precision == "bf16":
        raise SettingsError(
            "--device" if precision != "bf16" else "--precision", needed="--device cpu and --precision fp32",
            found=f"--device {device} --precision {precision} for exported weights, which OpenVINO runs",
            remedy="leave the flags out, or evaluate the run's folder",
        )  # fmt: skip
    else:
        subject = load_weights_subject(name)
    split = read_split(split_file) if split_file else subject.split
    if split is None:
        raise click.UsageError(
            "these weights carry no split of CT-ICH: give --split FILE; or --studies FOLDER for studies of your own. "
            "What to expect of the network that ships: --protocol cross-validation."
        )
    with progress_bar("Measuring slices", quiet=as_json) as progress:
        dataset = open_ct_ich(data_root(data))
        report = measure_side(subject, dataset, split, side, slices=slices, grid=grid, progress=progress)
    if out is not None:
        write_json(out, report)
    del report["per_slice"]
    print_json(report) if as_json else _print_side(report)


def _load_run(folder: Path, device: str, precision: str) -> "Subject":
    """The best network of a run, measured in torch; of a run in stages, as it is exported, in OpenVINO."""
    import torch

    from bleedmap.evaluation.slices import Subject
    from bleedmap.training.config import TrainConfig
    from bleedmap.training.device import choose_machine, keep_memory
    from bleedmap.training.passes import predict
    from bleedmap.training.run import open_run

    keep_memory()
    run = open_run(folder)
    if not isinstance(config := run.settings(), TrainConfig):
        return _load_lite_run(run)
    machine = replace(choose_machine(device, precision), rank=0, processes=1)  # type: ignore[arg-type]
    network, checkpoint = run.best()
    network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def probability(slices: "FloatArray") -> "FloatArray":
        logits = predict(network, torch.from_numpy(slices)[:, None].to(machine.device), machine)
        answer: FloatArray = torch.sigmoid(logits)[:, 0].cpu().numpy()
        return answer

    return Subject(
        f"{folder}, epoch {checkpoint.record['epoch']}", probability, config.preprocessing(), 0.5,
        run.split().patients("train"), run.split().patients("validation"), run.split(), machine.describe(),
    )  # fmt: skip


def _load_lite_run(run: "Run") -> "Subject":
    from bleedmap.evaluation.slices import load_weights_subject
    from bleedmap.training.export import export_run

    split = run.split()
    with TemporaryDirectory(prefix="bleedmap-evaluate-") as folder:
        step = export_run(run, run.folder.name, Path(folder) / "network.onnx")["step"]
        subject = load_weights_subject(str(Path(folder) / "network.onnx"))
    return replace(
        subject, name=f"{run.folder}, step {step:,}", trained_patients=split.patients("train"),
        chosen_on_patients=split.patients("validation"), split=split,
    )  # fmt: skip


def _print_side(report: dict[str, Any]) -> None:
    split = report["split"]
    print_line(f"[bold]{escape(report['network'])}[/], {split['side']} side, split by {split['kind']}")
    print_line(
        f"{report['slices']:,} slices ({report['lesion_slices']} with a lesion) of {report['patients']} patients "
        f"({report['lesion_patients']} with a lesion)"
    )
    for title, key, measures in _GROUPS:
        print_line(f"\n[bold]{title}[/]: {report[key]['convention']}")
        rows = []
        for words, name, over in measures:
            ends = report["intervals"].get(key, {}).get(name)
            shown = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
            counted = over.format(report=report, free=report["strict"]["lesion_free_slices"])
            rows.append((words, or_dash(report[key][name], ".4f"), shown, counted))
        table = make_table("", ">", "", "", rows=rows)
        table.columns[0].min_width, table.columns[2].min_width = 34, 17
        print_table(table)
    if report["patients_also_trained_on"]:
        print_line(
            f"\n[bold red]{report['patients_also_trained_on']} of these patients were also trained on[/]: "
            "these figures say little about new patients."
        )
    if report["patients_that_chose_the_epoch"]:
        print_line(
            f"\n[bold red]{report['patients_that_chose_the_epoch']} of these patients chose the epoch or the thresholds"
            "[/]: these figures are not of unseen patients."
        )
    print_line(f"\nIntervals: {report['intervals']['convention']}.")
    print_line(f"Threshold {report['threshold']}, {report['grid']} grid, {report['ran_on']}. Research use only.")


# --- records of the protocol -----------------------------------------------------------------------------------------


_MET = {True: "met", False: "[bold red]missed[/]", None: ""}  # a target


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _evaluate_records(
    records: Sequence[Path], predictions: Path | None, data: Path | None, out: Path | None, as_json: bool
) -> None:
    """Score records, print the headline table or all as JSON, and write the report where `out` is given."""
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.datasets.folds import protocol_folds
    from bleedmap.evaluation.gallery import ct_ich_pixels
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
    pixels = None if predictions is None else ct_ich_pixels(open_ct_ich(data_root(data)), predictions)
    with progress_bar("Evaluating records", quiet=as_json) as report:
        show, page = lambda what, done, of: report(done, of), None
        scored = evaluate_records(methods, progress=show)
        if out is not None:
            page = write_report(scored, CT_ICH_WORDS, out, pixels=pixels, progress=show)
    if as_json:
        print_json(scored.to_dict())
    else:
        _print_records(scored, page)


def _print_records(scored: "ScoredMethods", page: Path | None) -> None:
    """The headline under the measures' keys, a table a method; their titles and conventions stand in the report."""
    from bleedmap.evaluation.measure_table import HEADLINE
    from bleedmap.evaluation.report_sections import differences

    for method in scored.methods:
        studies = method.records.studies
        bleeding = sum(bool(one.counts.reference.any()) for one in studies)
        print_line(f"[bold]{escape(method.name)}[/]: {len(studies)} patients, {bleeding} bleed")
        rows = (
            (score.key, or_dash(score.value, ".3f"), _span(score.low, score.high), score.target or "", _MET[score.met])
            for score in map(method.scores.score, HEADLINE)
        )
        print_rows("measure", ">value", "95 %", "target", "", rows=rows)
    compared = differences(scored.comparisons)
    for line in compared.words if compared else ():
        print_line(escape(line))
    print_line("Intervals: bootstrap over patients; a share of 0 or 1 has Wilson's.")
    end = f"Report: {page}. " if page else "With -o FOLDER: the whole report. "
    print_line(f"{escape(end)}Research use only.")


# --- studies of one's own --------------------------------------------------------------------------------------------


def _read_roles(columns: Sequence[str]) -> "tuple[tuple[Role, str], ...]":
    """Read `--label-column study=Case`."""
    from bleedmap.evaluation.studies.labels import ROLES

    pairs = [(name.partition("=")[0], name.partition("=")[2]) for name in columns]
    if wrong := [role for role, name in pairs if role not in ROLES or not name]:
        raise click.UsageError(f"--label-column {wrong[0]}: give study=NAME, slice=NAME or bleeds=NAME.")
    return tuple(pairs)  # type: ignore[arg-type]


def _evaluate_studies(
    places: "Places", table: Path | None, weights: str | None, window: tuple[float, float] | None,
    accept: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    from bleedmap.evaluation.studies.find import find_cases
    from bleedmap.evaluation.studies.patients import read_patients
    from bleedmap.evaluation.studies.report import write_report
    from bleedmap.evaluation.studies.run import ExternalOptions, external_ledger, note_trained, run_external
    from bleedmap.study.segment import Segmenter
    from bleedmap.window import BRAIN, Window

    out = places.results
    options.refuse_inside(out, *filter(None, (places.studies, places.masks, places.labels, table)))
    external_ledger(out).refuse_foreign_files()
    chosen = ExternalOptions(Window(*window) if window else BRAIN, accept, places.no_mask)
    segmenter = Segmenter.load(weights)
    with progress_bar("Looking for studies", quiet=as_json) as seen:
        found = find_cases(places, lambda files: seen(files, files))
        found = note_trained(found, segmenter.weights)
        patients = read_patients(found, table)
    with explain_interrupt(), progress_bar("Evaluating studies", quiet=as_json) as progress:
        measured = run_external(found, out, segmenter, chosen, progress)
    report = write_report(out, found, measured, patients, segmenter, chosen)
    if as_json:
        print_json(report.content | {"out": str(out)})
    else:
        _print_studies(report, out)


def _print_studies(report: "ExternalReport", out: Path) -> None:
    content = report.content
    counts, patients = content["counts"], escape(content["patients_told"])
    print_line(f"[bold]{escape(content['weights']['name'])}[/] on {escape(content['folder'])}")
    print_line(
        f"{counts['measured']:,} of {counts['studies_with_reference']:,} studies measured; bleeding studies: "
        f"{counts['bleeding_studies']:,}; slices: {counts['slices']:,}, with a lesion: "
        f"{or_dash(counts['lesion_slices'], ',')}; patients: {counts['patients']:,} ({patients})"
    )
    for words in content["understood"]:
        print_line(escape(words))
    if report.scores is not None:
        by_key = {one["key"]: one for one in report.scores.to_dict()["measures"]}  # the first ones; the report has all
        rows = (
            (f"{one['group']}: {one['title']}", one["over"], or_dash(one["value"], ".3f"),
             _span(one["low"], one["high"]), f"{one['cases']:,}")
            for one in (by_key[key] for key in _FIRST_MEASURES if key in by_key)
        )  # fmt: skip
        print_rows("", "of", ">value", ">95 % interval", ">cases", rows=rows)
        for group, one in report.scores.volumes.items():
            limits = "" if one.low is None else f", limits of agreement {one.low:,.1f} to {one.high:,.1f} mL"
            print_line(f"Volume, {group} ({one.studies:,}): bias {one.bias:+,.2f} mL{limits}")
    for one in content["left_out"]:
        sentence = f"left out, {one['reason']}: {one['count']:,} ({', '.join(one['examples'][:2])})"
        print_line(f"[yellow]{escape(sentence)}[/]")
    for one in content["refused"][:_REFUSALS]:
        print_line(f"[yellow]refused[/] {escape(one['study'])}: {escape(one['error'])}")
    if counts["refused"] > _REFUSALS:
        print_line(f"and {counts['refused'] - _REFUSALS:,} more refused, see studies.csv")
    for one in content["notes"]:
        print_line(f"[dim]{one['count']:,} × {escape(one['reason'])} ({escape(', '.join(one['examples'][:2]))})[/]")
    print_line(f"The network was trained on: {escape(content['weights']['trained_on'])}")
    print_line(f"Report: {escape(str(out / 'report.html'))}")
    print_line(content["research_only"], style="yellow")
