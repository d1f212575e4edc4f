"""`bleedmap evaluate`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from bleedmap.cli.console import make_table, print_json, print_line, print_table, progress_bar
from bleedmap.cli.evaluate_studies import asked_for_studies, studies_options
from bleedmap.cli.options import data_option, device_option, json_option, precision_option
from bleedmap.errors import SettingsError

if TYPE_CHECKING:
    from bleedmap.arrays import FloatArray
    from bleedmap.datasets.ct_ich import CtIch
    from bleedmap.datasets.splits import Split
    from bleedmap.preprocess import Preprocessing


@dataclass(frozen=True)
class _Subject:
    """What is measured: a network, and what it was trained on."""

    name: str
    predict: "Callable[[FloatArray], FloatArray]"
    settings: "Preprocessing"
    threshold: float
    trained_patients: tuple[str, ...]
    chosen_on_patients: tuple[str, ...]  # the validation side, which decided which epoch was kept
    split: "Split | None"
    ran_on: str


@click.command(short_help="Measure a network: a split, the protocol, or studies of your own.")
@click.argument("inputs", metavar="[RUN|WEIGHTS|RECORDS.json ...]", nargs=-1)
@click.option(
    "--protocol", type=click.Choice(["cross-validation"]),
    help="Make the protocol's tables and report from records, which cross-validation leaves; needs no network.",
)  # fmt: skip
@click.option(
    "--predictions", type=click.Path(path_type=Path),
    help="With --protocol: folder of the first records' predictions, for the report's pictures; needs --data.",
)  # fmt: skip
@click.option("--split", "split_file", type=click.Path(path_type=Path), help="Split file; the run's own by default.")
@click.option(
    "--side", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True,
    help="Which side of the split.",
)  # fmt: skip
@click.option(
    "--slices",
    type=click.Choice(["split", "all"]),
    default="split",
    show_default=True,
    help="The side's slices, or all slices of its patients (by-patient splits only).",
)
@click.option(
    "--grid",
    type=click.Choice(["original", "network"]),
    default="original",
    show_default=True,
    help="Where pixels are counted: the slice's own grid, or the network's, as the thesis does.",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path),
    help="Write the whole report as JSON, slice by slice; with --protocol or --studies: the report's folder.",
)  # fmt: skip
@studies_options
@data_option
@device_option
@precision_option
@json_option
@click.pass_context
def command(
    context: click.Context, /, inputs: tuple[str, ...], protocol: str | None, predictions: Path | None,
    split_file: Path | None, side: str, slices: str, grid: str, out: Path | None, data: Path | None, device: str,
    precision: str, as_json: bool, **of_studies: Any,
) -> None:  # fmt: skip
    """Measure a trained network on one side of a split.

    In: a run folder, an .onnx file or the name of installed weights such as ct-ich-first, and the data set. Out: the
    thesis' measures under a stated convention, the strict ones beside them, and detection, with 95 % intervals over
    patients.

    \b
    bleedmap evaluate runs/quick --data ct-ich                 the run's own test side
    bleedmap evaluate runs/quick --data ct-ich --slices all    all slices of the test patients
    bleedmap evaluate ct-ich-first --data ct-ich               the first weights on their test patients

    A network that is measured on patients that it was trained on is said to be so, in the table and in the report.

    With --protocol cross-validation. In: one file of records or more, each a method's counts of patients that it had
    never seen (those that come with the program when left out). Out: the table of targets and intervals; with -o a
    folder with report.html (stands alone), scores.json, scores.csv and figures. The first method is the one that the
    others are compared with. --predictions and --data add the pictures: misses, false alarms, ten cases by rank.

    \b
    bleedmap evaluate --protocol cross-validation                          the committed records, as a table
    bleedmap evaluate --protocol cross-validation ours.json theirs.json -o report
    bleedmap evaluate --protocol cross-validation ours.json --predictions ours/ --data ct-ich -o report

    With --studies: external validation. In: a folder of head CTs with reference masks, as pictures, NIfTI or DICOM with
    SEG objects (docs/external-validation.md). Out: the protocol's measures where they apply, agreement of volumes in
    mL, surface distances, refused studies with the reason; a folder with report.html, report.json and tables as CSV.
    Stop it at any moment and give the same command again: what is done is not done again.

    \b
    bleedmap evaluate --studies hospital/ -o report
    bleedmap evaluate --studies ct/ --masks readers/ --weights ours.onnx -o report --json
    """
    if asked_for_studies(context, inputs, out, as_json, of_studies):
        return
    if protocol is not None:
        from bleedmap.cli.evaluate_protocol import evaluate_protocol, refuse_flags

        refuse_flags(context)
        evaluate_protocol([Path(name) for name in inputs], predictions, data, out, as_json)
        return
    if len(inputs) > 1 or predictions is not None:
        raise click.UsageError("several inputs, and --predictions, are for --protocol cross-validation.")
    _measure(inputs[0] if inputs else None, split_file, side, slices, grid, out, data, device, precision, as_json)


def _measure(
    network: str | None, split_file: Path | None, side: str, slices: str, grid: str, out: Path | None,
    data: Path | None, device: str, precision: str, as_json: bool,
) -> None:  # fmt: skip
    from bleedmap.datasets.ct_ich import data_root, open_ct_ich
    from bleedmap.datasets.splits import read_split
    from bleedmap.errors import SplitError
    from bleedmap.evaluation.slices import intervals, measure, score
    from bleedmap.io.files import write_json

    subject = _subject(network, device, precision)
    split = read_split(split_file) if split_file else subject.split
    if split is None:
        raise click.UsageError("these weights carry no split of their own: give --split FILE.")
    dataset = open_ct_ich(data_root(data))
    split.check_against(dataset)
    if slices == "all" and split.kind == "slice":
        raise SplitError(
            split_file or subject.name,
            found="a split by slice, whose patients stand on all sides",
            needed="a split by patient for --slices all",
            remedy="leave --slices all out, or train on a split by patient",
        )
    ids = _ids(dataset, split, side, slices)
    with progress_bar("measuring slices") as report_progress:
        results = measure(
            dataset, ids, subject.predict, subject.settings,
            grid=grid, threshold=subject.threshold, progress=report_progress,  # type: ignore[arg-type]
        )  # fmt: skip
    measured = set(results.patients.tolist())
    report = {
        "network": subject.name,
        "ran_on": subject.ran_on,
        "split": {"kind": split.kind, "seed": split.seed, "fold": split.fold, "side": side, "slices": slices},
        "grid": grid,
        "threshold": subject.threshold,
        "patients_also_trained_on": len(measured & set(subject.trained_patients)),
        "patients_that_chose_the_epoch": len(measured & set(subject.chosen_on_patients)),
        **score(results),
        "intervals": intervals(results),
    }
    if out is not None:
        counts = {name: column.tolist() for name, column in asdict(results.counts).items()}
        per_slice = {"ids": list(results.ids), "highest_probability": results.highest.tolist(), **counts}
        write_json(out, report | {"per_slice": per_slice})
    print_json(report) if as_json else _print(report)


def _subject(name: str | None, device: str, precision: str) -> _Subject:
    if name is not None and Path(name).is_dir():
        return _run_subject(Path(name), device, precision)
    if device not in ("auto", "cpu") or precision == "bf16":
        raise SettingsError(
            "--device" if precision != "bf16" else "--precision",
            found=f"--device {device} --precision {precision} for exported weights, which OpenVINO runs",
            needed="--device cpu and --precision fp32",
            remedy="leave the flags out, or evaluate the run's folder",
        )
    return _weights_subject(name)


def _run_subject(folder: Path, device: str, precision: str) -> _Subject:
    import torch

    from bleedmap.training.device import choose_machine, keep_memory
    from bleedmap.training.loop import predict
    from bleedmap.training.run import open_run

    keep_memory()
    run = open_run(folder)
    machine = replace(choose_machine(device, precision), rank=0, processes=1)  # type: ignore[arg-type]
    network, checkpoint = run.best()
    network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def probability(slices: "FloatArray") -> "FloatArray":
        logits = predict(network, torch.from_numpy(slices)[:, None].to(machine.device), machine)
        answer: FloatArray = torch.sigmoid(logits)[:, 0].cpu().numpy()
        return answer

    return _Subject(
        f"{folder}, epoch {checkpoint.record['epoch']}", probability, run.config().preprocessing(), 0.5,
        run.split().patients("train"), run.split().patients("validation"), run.split(), machine.describe(),
    )  # fmt: skip


def _weights_subject(name: str | None) -> _Subject:
    from bleedmap.datasets.splits import read_split
    from bleedmap.inference.openvino_backend import OpenVinoBackend
    from bleedmap.inference.weights import locate
    from bleedmap.models.networks import LiteUNetSettings

    weights = locate(name)
    if isinstance(weights.network, LiteUNetSettings):
        raise SettingsError(
            weights.name,
            found="a network that sees whole studies, not the slices of a split",
            needed="--protocol cross-validation (its expected performance) or --studies FOLDER (studies of your own)",
            remedy="choose one of these, or evaluate older weights: `bleedmap models` lists them",
        )
    backend = OpenVinoBackend(weights)

    def probability(slices: "FloatArray") -> "FloatArray":
        return backend.predict(slices[:, None]).probability

    own_split = weights.path.with_suffix(".split.json")
    return _Subject(
        f"{weights.name}, SHA-256 {weights.sha256[:12]}…", probability, weights.preprocessing,
        weights.threshold, tuple(weights.record.get("trained_patients", ())),
        tuple(weights.record.get("chosen_on_patients", ())),
        read_split(own_split) if own_split.is_file() else None,
        f"{backend.record.name}, {backend.record.device}, {backend.record.precision}",
    )  # fmt: skip


def _ids(dataset: "CtIch", split: "Split", side: str, slices: str) -> tuple[str, ...]:
    if slices == "split":
        return split.side(side)
    patients = set(split.patients(side))
    return tuple(record.id for record in dataset.slices if record.id.split("/")[0] in patients)


def _print(report: dict[str, Any]) -> None:
    split = report["split"]
    print_line(f"[bold]{escape(report['network'])}[/], {split['side']} side, split by {split['kind']}")
    print_line(
        f"{report['slices']:,} slices ({report['lesion_slices']} with a lesion) of {report['patients']} patients "
        f"({report['lesion_patients']} with a lesion)"
    )
    for title, key, rows in _groups(report):
        print_line(f"\n[bold]{title}[/]: {report[key]['convention']}")
        table = make_table()
        table.add_column(min_width=34)
        table.add_column(justify="right")
        table.add_column(min_width=17)
        for words, name, over in rows:
            value, ends = report[key][name], report["intervals"].get(key, {}).get(name)
            shown = "–" if value is None else f"{value:.4f}"
            table.add_row(words, shown, f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "", over)
        print_table(table)
    if report["patients_also_trained_on"]:
        print_line(
            f"\n[bold red]{report['patients_also_trained_on']} of these patients were also trained on[/]: "
            "these figures say little about new patients."
        )
    if report["patients_that_chose_the_epoch"]:
        print_line(
            f"\n[bold red]{report['patients_that_chose_the_epoch']} of these patients decided which epoch was kept[/]: "
            "these figures are not of unseen patients."
        )
    print_line(f"\nIntervals: {report['intervals']['convention']}.")
    print_line(f"Threshold {report['threshold']}, {report['grid']} grid, {report['ran_on']}. Research use only.")


def _groups(report: dict[str, Any]) -> list[tuple[str, str, list[tuple[str, str, str]]]]:
    """(title, key in the report, rows of (words, name in the report, over what))."""
    every = f"{report['slices']:,} slices"
    lesion = f"{report['lesion_slices']} lesion slices"
    patients = f"{report['lesion_patients']} patients"
    free = f"{report['strict']['lesion_free_slices']:,} slices"
    thesis = [("Dice", "dice", every), ("mean IoU", "mean_iou", every), ("accuracy", "accuracy", every)]
    return [
        ("Thesis, pooled", "thesis_pooled", thesis),
        ("Thesis, per slice", "thesis_per_slice", thesis),
        (
            "Strict",
            "strict",
            [
                ("Dice, lesion slices", "lesion_slice_dice", lesion),
                ("IoU, lesion slices", "lesion_slice_iou", lesion),
                ("precision, lesion slices", "lesion_slice_precision", lesion),
                ("recall, lesion slices", "lesion_slice_recall", lesion),
                ("Dice, mean of patients' means", "patient_mean_dice", patients),
                ("Dice, each patient's slices pooled", "patient_stack_dice", patients),
                ("precision, pooled pixels", "pooled_precision", every),
                ("recall, pooled pixels", "pooled_recall", every),
                ("lesion-free slices marked anywhere", "lesion_free_slices_marked", free),
            ],
        ),
        (
            "Detection",
            "detection",
            [("ROC AUC, slices", "slice_roc_auc", every), ("ROC AUC, pixels", "pixel_roc_auc", every)],
        ),
    ]
