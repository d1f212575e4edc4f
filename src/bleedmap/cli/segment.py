"""`bleedmap segment`."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bleedmap.cli import options
from bleedmap.cli.console import make_table, print_json, print_line, print_table, slices_bar
from bleedmap.errors import InputError, SettingsError

if TYPE_CHECKING:
    from bleedmap.inference.backends import Precision
    from bleedmap.study.read import Study
    from bleedmap.study.segment import Segmenter

_TABLE_ROWS, _NAMES_SHOWN = 20, 8


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@options.out_option("A new or empty folder for the results. It is written whole or not at all.")
@options.weights_option
@click.option(
    "--backend", "backend_name", type=click.Choice(["openvino", "torch"]), default="openvino", show_default=True,
    help="The library that runs the network; torch needs the extra 'train'.",
)  # fmt: skip
@options.choice_option("--device", ("cpu", "cuda", "mps"), "Where the network runs; cuda and mps need --backend torch.")
@options.inference_precision_option
@options.threads_option
@options.threshold_option
@options.window_option
@options.accept_option
@click.option(
    "--series", type=int, help="DICOM: segment the series with this number instead of the one bleedmap chooses."
)
@click.option("--study", help="DICOM: segment the study with this Study Instance UID, if the folder holds several.")
@options.no_dicom_option
@options.fractional_option
@options.remote_options
@options.overwrite_option
@options.json_option
def command(
    inputs: tuple[str, ...], out: Path, weights: str | None, backend_name: str, device: str,
    precision: "Precision", threads: int | None, threshold: float | None, window: tuple[float, float] | None,
    accept: tuple[str, ...], series: int | None, study: str | None, no_dicom: bool, fractional: bool,
    token_file: str, ca_file: str, overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Outline hemorrhage on a head CT.

    Research software, not a medical device: do not use its results to diagnose or treat a patient.

    In: one study as DICOM (a folder, a .zip or a file) or as NIfTI in HU; or axial slices in the brain window as
    pictures, JPEG, PNG, TIFF, WebP or BMP (files, or a folder of them). For many studies use `bleedmap batch`. A study
    may lie on a DICOMweb server or in a bucket, as https://pacs/dicom-web/studies/UID or s3://BUCKET/STUDY: it is
    fetched, and the copy removed at the end. Passwords come from ~/.netrc or --token-file, never from the URL.

    \b
    Out, for a study:
      report.html              a page to scroll through all slices: lesions, checks, limits
      NAME_dseg.nii.gz         mask: 0 or 1
      NAME_probseg.nii.gz      probability: 0 to 1
      NAME_overlay.png         the slices with lesions on one sheet
      NAME_lesions.csv         one line for each lesion: mL, mm, HU, slices
      dicom/segmentation.dcm   for DICOM: a segmentation on the original slices,
      dicom/report.dcm         a structured report (TID 1500, unverified)
      dicom/pictures/          and secondary captures for any viewer
    Out, for each picture:
      NAME_mask.png            0 or 255, of the slice's own size
      NAME_prob.png            16-bit: probability × 65535
      NAME_overlay.png         to look at: white at 0.5 to red at 1, nothing below 0.5
    and summary.json for programs: lesions, mL (studies only), checks, weights, version.

    What fails an input check (not a head, contrast agent, not in HU, another window, inverse grey and others) is
    refused, and the message gives the reason. Slices are numbered from 1, in a study from feet to head. "No hemorrhage
    found" is a result: all files are written and the exit code is 0.

    The default network also states how sure it is: the probability that the study shows a bleed, an interval for the
    volume, and the types. If it cannot judge a study, the verdict is "no verdict", with the reason: do not rely on what
    is outlined then. The exit code is 0 in this case too.

    The network is compiled for this machine once and kept for the next start, in your cache folder or in the folder
    that the variable BLEEDMAP_CACHE names. BLEEDMAP_CACHE=off keeps nothing.

    \b
    bleedmap segment study/ -o result/
    bleedmap segment head.nii.gz -o result/ --json
    bleedmap segment slices/*.jpg -o result/
    bleedmap segment https://pacs/dicom-web/studies/1.2.840.1 -o result/
    """
    from bleedmap.archive.memory import collect_seldom

    collect_seldom()  # before the modules below bring their thousands of objects
    from bleedmap.io.files import refuse_folder
    from bleedmap.io.nifti import is_nifti
    from bleedmap.results.save import save, save_pictures
    from bleedmap.study.gate.gate import read_accepted
    from bleedmap.study.inputs import check_pictures, gather
    from bleedmap.study.read import read_study
    from bleedmap.window import BRAIN, Window

    _check_flags(backend_name, device, precision)
    paths, shown = [Path(one) for one in inputs], None
    options.refuse_inside(out, *paths)
    refuse_folder(out, overwrite=overwrite)
    if any("://" in one for one in inputs):
        fetching = _fetched(inputs, out, study, token_file, ca_file)
        copy, shown = click.get_current_context().with_resource(fetching)
        paths = [copy]
    elif token_file or ca_file:
        raise click.UsageError("--token-file and --ca-file are for URLs, not for files.")
    found = gather(paths)
    network = (weights, backend_name, device, precision, threads, threshold)
    of_dicom = {"--series": series, "--study": study, "--no-dicom": no_dicom, "--fractional": fractional}
    if found.study is None:
        _refuse_flags(of_dicom, "pictures", "a study (DICOM or NIfTI)")
        exported_in = Window(*window) if window else BRAIN
        read_accepted(accept)
        checked = check_pictures(found.pictures, exported_in, accept)
        segmenter = _load(*network, one_by_one=True)
        with slices_bar("Segmenting", len(found.pictures), quiet=as_json) as advance:
            summary = save_pictures(segmenter, found, checked, exported_in, out, overwrite=overwrite, advance=advance)
    else:
        path = found.study
        _refuse_flags({"--window": window}, "a study, which is in HU already", "pictures")
        if is_nifti(path):
            _refuse_flags(of_dicom, "a NIfTI volume", "a DICOM study")
        read_accepted(accept)
        name = None if shown is None else shown.rpartition("/")[2]
        reading = _start(lambda: read_study(path, study=study, series=series, name=name))
        segmenter = _load(*network)
        read = reading.result() if shown is None else replace(reading.result(), source=shown)
        with slices_bar("Segmenting", len(read.volume.hu), quiet=as_json) as advance:
            result = segmenter.segment(read, accept=accept, advance=advance)
        summary = save(result, out, overwrite=overwrite, dicom=not no_dicom, fractional=fractional)
    if as_json:
        print_json(summary | {"out": str(out)})
    else:
        print_summary(summary, out)


@contextmanager
def _fetched(
    inputs: tuple[str, ...], out: Path, study: str | None, token_file: str, ca_file: str
) -> Iterator[tuple[Path, str]]:
    """Yield a copy of the study that a URL names, beside the results, and how it is named in them."""
    from bleedmap.archive.remote.places import fetched, is_dicomweb, name_source, open_archive
    from bleedmap.archive.remote.web import persist

    if len(inputs) > 1:
        raise click.UsageError("a URL is segmented alone; `bleedmap batch` takes many studies.")
    uids = (study,) if study and is_dicomweb(inputs[0]) else ()
    archive = open_archive(inputs[0], token_file=token_file, ca_file=ca_file, uids=uids)
    sources = [one for one in persist(archive.find).sources if study in (None, one.uid)]
    if len(sources) != 1:
        raise InputError(
            archive.url, found=f"holds {len(sources):,} studies that fit", needed="one study",
            remedy="name it: --study UID, or …/studies/UID; `bleedmap batch` takes many studies",
        )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    with fetched(archive, sources[0], Path(mkdtemp(prefix=".bleedmap-", dir=out.parent))) as copy:
        yield copy.path, name_source(archive, sources[0])


def _load(
    weights: str | None, backend_name: str, device: str, precision: "Precision", threads: int | None,
    threshold: float | None, *, one_by_one: bool = False,
) -> "Segmenter":  # fmt: skip
    from bleedmap.inference.weights import locate
    from bleedmap.study.segment import Segmenter

    if backend_name == "openvino":
        return Segmenter.load(
            weights, threshold=threshold, precision=precision, threads=threads, one_by_one=one_by_one
        )  # fmt: skip
    from bleedmap.inference.torch_backend import TorchBackend

    chosen = locate(weights)
    level = chosen.threshold if threshold is None else threshold
    return Segmenter(chosen, TorchBackend(chosen, device, threads), level)


def _start(read: "Callable[[], Study]") -> "Future[Study]":
    """Read in a thread while the network loads: much of both is outside Python, so that they share two cores.

    Nobody waits for the thread when the program ends by an error or by Ctrl-C.
    """
    future: Future[Study] = Future()

    def run() -> None:
        try:
            future.set_result(read())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _refuse_flags(flags: dict[str, Any], given_for: str, meant_for: str) -> None:
    wrong = [name for name, value in flags.items() if value not in (None, False, ())]
    if wrong:
        raise SettingsError(wrong[0], found=f"given for {given_for}", needed=meant_for, remedy=f"leave {wrong[0]} out")


def _check_flags(backend_name: str, device: str, precision: str) -> None:
    if backend_name == "openvino" and device != "cpu":
        raise SettingsError(
            "--device", found=f"'{device}' with --backend openvino", needed="cpu, or --backend torch",
            remedy=f"give --backend torch --device {device}, or leave --device out",
        )  # fmt: skip
    if backend_name == "torch" and precision == "bf16":
        raise SettingsError(
            "--precision", found="'bf16' with --backend torch", needed="fp32, in which torch computes here",
            remedy="leave --precision or --backend out",
        )  # fmt: skip


def print_summary(summary: dict[str, Any], out: Path) -> None:
    """Print what was found, the checks that did not pass, and where the results are.

    Args:
        summary: as `summary.json` holds it, of a study or of pictures.
    """
    _print_found(summary)
    for one in summary.get("checks", []):
        if one["verdict"] in ("warning", "refusal"):
            verdict = f"{one['verdict']}{', overruled' if one['overruled'] else ''}"
            sentence = f"{one['name']}: {one['found']} (passes: {one['limit']}). {one['meaning']}"
            print_line(f"[yellow]{verdict}:[/] {escape(sentence)}")
    for note in summary["notes"]:
        print_line(f"[yellow]note:[/] {escape(note)}")
    by_reason = sorted(summary.get("ignored", []), key=lambda one: str(one["reason"]))
    for reason, group in groupby(by_reason, key=lambda one: str(one["reason"])):
        names = [Path(one["file"]).name for one in group]
        more = f" and {len(names) - _NAMES_SHOWN} more, see summary.json" if len(names) > _NAMES_SHOWN else ""
        print_line(f"ignored, {len(names)} × {escape(reason)}: {escape(', '.join(names[:_NAMES_SHOWN]))}{more}")
    backend = summary["backend"]
    network = f"{summary['weights']['name']} on {backend['name']}, {backend['device']}, {backend['precision']}"
    shown = out / summary["files"]["report"] if "files" in summary else out
    print_line(f"Results: {escape(str(shown))} [dim]({escape(network)})[/]")
    print_line(summary["research_only"], style="yellow")


def _print_found(summary: dict[str, Any]) -> None:
    from bleedmap.study.words import NO_SIDE, millilitres

    volume_ml, marked, count = summary["volume_ml"], len(summary["slices_with_lesion"]), summary["slice_count"]
    slices, certainty = "1 slice" if count == 1 else f"{count:,} slices", summary["certainty"]
    if certainty is not None and certainty["abstained"]:
        print_line("[bold yellow]No verdict[/]: do not rely on what follows.")
        for reason in certainty["abstained"]:
            print_line(f"[yellow]no verdict:[/] {escape(reason)}")
    if summary["hemorrhage_found"]:
        size = f"{summary['lesion_pixels']:,} pixels" if volume_ml is None else f"{millilitres(volume_ml)} mL"
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
            print_line(f"No volume in mL: {summary['volume_note']}. No side: pictures do not tell left from right.")
        elif any(lesion["side"] is None for lesion in summary["lesions"]):
            print_line(NO_SIDE)


def _certainty_line(certainty: dict[str, Any]) -> str:
    """'Study probability 0.97; the volume is likely between 22 and 41 mL (80 % interval); types …: IPH 0.91, …'."""
    from bleedmap.study.words import chance, interval

    parts = [f"Study probability {chance(certainty['study_probability'])}"]
    if certainty["volume_ml"] is not None:
        low_ml, high_ml = certainty["volume_ml"]
        parts.append(f"the volume is {interval((low_ml, high_ml), certainty['coverage'])}")
    if certainty["types"]:
        types = ", ".join(f"{name} {chance(probability)}" for name, probability in certainty["types"].items())
        parts.append(f"types in the whole study: {types}")
    return "; ".join(parts)


def _lesion_table(summary: dict[str, Any]) -> Table:
    """The largest lesions: in a volume with side, mL and diameters, by number of slices; in pictures by their name."""
    from bleedmap.study.words import millilitres, name_side

    lesions, in_ml = summary["lesions"], summary["volume_ml"] is not None
    measured = ("Side", ">mL", ">Diameters, mm") if in_ml else (">Pixels",)
    table = make_table(">Lesion", "Slice", *measured, ">Highest probability")
    for lesion in lesions[:_TABLE_ROWS]:
        first, last = lesion["first_slice"], lesion["last_slice"]
        place = summary["slices"][first - 1].get("name", f"{first}" if first == last else f"{first}–{last}")
        size = [f"{lesion['pixels']:,}"]
        if in_ml:
            names = ("longest_axial_diameter_mm", "perpendicular_diameter_mm", "height_mm")
            across = " × ".join(f"{lesion[name]:.0f}" for name in names)
            size = [name_side(lesion["side"]), millilitres(lesion["volume_ml"]), across]
        table.add_row(str(lesion["lesion"]), Text(place), *size, f"{lesion['highest_probability']:.2f}")
    if len(lesions) > _TABLE_ROWS:
        table.caption = f"and {len(lesions) - _TABLE_ROWS} smaller, see summary.json"
    return table
