"""`bleedmap segment`."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.console import print_json, progress_bar
from bleedmap.cli.options import (
    fractional_option,
    inference_precision_option,
    json_option,
    no_dicom_option,
    threads_option,
    threshold_option,
    weights_option,
)
from bleedmap.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bleedmap.inference.backends import Precision
    from bleedmap.study.inputs import Inputs
    from bleedmap.study.read import Study
    from bleedmap.study.segment import Segmenter

_BAR_FROM = 11  # slices; fewer are done before a bar could be read
_SUMMARY = "summary.json"


@click.command(short_help="Outline hemorrhage on a head CT: DICOM, NIfTI in HU, or slices (JPEG, PNG).")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path),
    help="A new or empty folder for the results; written whole or not at all.",
)  # fmt: skip
@weights_option
@click.option(
    "--backend", "backend_name", type=click.Choice(["openvino", "torch"]), default="openvino", show_default=True,
    help="What computes; torch needs the extra 'train'.",
)  # fmt: skip
@click.option(
    "--device", type=click.Choice(["cpu", "cuda", "mps"]), default="cpu", show_default=True,
    help="Where; cuda and mps need --backend torch.",
)  # fmt: skip
@inference_precision_option
@threads_option
@threshold_option
@click.option(
    "--window", nargs=2, type=float, metavar="LEVEL WIDTH",
    help="Pictures: the window in HU that they were exported in; default: the brain window, 40 120.",
)  # fmt: skip
@click.option(
    "--accept", multiple=True, metavar="CHECK",
    help="A study: go on although this input check refuses it; the results say so. Repeat for several.",
)  # fmt: skip
@click.option("--series", type=int, help="DICOM: the series of this number, in place of the one that would be chosen.")
@click.option("--study", help="DICOM: the study of this Study Instance UID, where the folder holds several.")
@no_dicom_option
@fractional_option
@click.option("--overwrite", is_flag=True, help="Replace the results of an earlier run in that folder.")
@json_option
def command(
    inputs: tuple[Path, ...], out: Path, weights: str | None, backend_name: str, device: str,
    precision: "Precision", threads: int | None, threshold: float | None, window: tuple[float, float] | None,
    accept: tuple[str, ...], series: int | None, study: str | None, no_dicom: bool, fractional: bool, overwrite: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Outline hemorrhage on head CT.

    In: one study as DICOM (a folder, a .zip, a file) or NIfTI in HU; or JPEG or PNG slices in the brain window (files,
    or a folder of them). `bleedmap batch` takes many studies.

    \b
    Out, for a study:
      report.html              to look at: pictures, lesions, checks, limits
      NAME_dseg.nii.gz         mask, 0 or 1
      NAME_probseg.nii.gz      probability, 0 to 1
      NAME_overlay.png         the slices with lesions on one sheet
      NAME_lesions.csv         a line for each lesion: mL, mm, HU, slices
      dicom/segmentation.dcm   DICOM in: a segmentation on the original slices,
      dicom/report.dcm         a structured report (TID 1500, unverified)
      dicom/pictures/          and secondary captures for any viewer
    Out, for each picture:
      NAME_mask.png            0 or 255, the slice's own size
      NAME_prob.png            16-bit: probability × 65535
      NAME_overlay.png         to look at: white at 0.5 to red at 1, nothing below
    and summary.json: lesions, mL (studies only), checks, weights, version.

    A study that fails an input check (not a head, contrast, not in HU, …) is refused with the reason. Slices count
    from 1, in a study from feet to head. "No hemorrhage found" is a result: all files are written, exit code 0.

    A network that was trained to say how sure it is tells a study's probability, an interval for its volume and types
    too; or "no verdict" and why: then what is outlined is not to be relied on. Exit code 0.

    The network, compiled for this machine, is kept for the next start: in the user's folder for caches, or that in
    the variable BLEEDMAP_CACHE; BLEEDMAP_CACHE=off keeps nothing.

    \b
    bleedmap segment study/ -o result/
    bleedmap segment head.nii.gz -o result/ --json
    bleedmap segment slices/*.jpg -o result/
    """
    from bleedmap.archive.memory import collect_seldom

    collect_seldom()  # before the modules below bring their thousands
    from bleedmap.cli.segment_summary import print_summary
    from bleedmap.io.files import refuse_folder
    from bleedmap.study.inputs import gather

    _check_flags(backend_name, device, precision)
    _refuse_own_input(out, inputs)
    refuse_folder(out, overwrite=overwrite)
    found = gather(list(inputs))
    of_studies = {
        "--accept": accept, "--series": series, "--study": study, "--no-dicom": no_dicom, "--fractional": fractional,
    }  # fmt: skip
    network = _Network(weights, backend_name, device, precision, threads, threshold)
    if found.study:
        _refuse_flags({"--window": window}, "a study, which is in HU already", "pictures")
        choice = _Choice(accept, series, study, dicom=not no_dicom, fractional=fractional)
        summary = _study(found.study, choice, network, out, overwrite, as_json)
    else:
        _refuse_flags(of_studies, "pictures", "a study (DICOM or NIfTI)")
        summary = _pictures(found, window, network, out, overwrite, as_json)
    if as_json:
        print_json(summary | {"out": str(out)})
    else:
        print_summary(summary, out)


@dataclass(frozen=True)
class _Network:
    """The flags that say what computes."""

    weights: str | None
    backend: str
    device: str
    precision: "Precision"
    threads: int | None
    threshold: float | None

    def load(self, *, one_by_one: bool = False) -> "Segmenter":
        from bleedmap.inference.weights import locate
        from bleedmap.study.segment import Segmenter

        if self.backend == "openvino":
            return Segmenter.load(
                self.weights, threshold=self.threshold, precision=self.precision, threads=self.threads,
                one_by_one=one_by_one,
            )  # fmt: skip
        from bleedmap.inference.torch_backend import TorchBackend

        chosen = locate(self.weights)
        level = chosen.threshold if self.threshold is None else self.threshold
        return Segmenter(chosen, TorchBackend(chosen, self.device, self.threads), level)


@dataclass(frozen=True)
class _Choice:
    """The flags of a study alone."""

    accept: tuple[str, ...]
    series: int | None
    study: str | None
    dicom: bool
    fractional: bool


def _study(path: Path, choice: _Choice, network: _Network, out: Path, overwrite: bool, as_json: bool) -> dict[str, Any]:
    """The flags are checked first; the study is read and segmented before the folder is begun."""
    from bleedmap.io.nifti import is_nifti
    from bleedmap.results.save import save
    from bleedmap.study.gate.gate import accepted_names
    from bleedmap.study.read import read_study

    if is_nifti(path):
        of_dicom = {
            "--series": choice.series, "--study": choice.study, "--no-dicom": not choice.dicom,
            "--fractional": choice.fractional,
        }  # fmt: skip
        _refuse_flags(of_dicom, "a NIfTI volume", "a DICOM study")
    accepted_names(choice.accept)
    reading = _beside(lambda: read_study(path, study=choice.study, series=choice.series))
    segmenter = network.load()
    study = reading.result()
    with _progress(len(study.volume.hu), as_json) as advance:
        result = segmenter.segment(study, accept=choice.accept, advance=advance)
    return save(result, out, overwrite=overwrite, dicom=choice.dicom, fractional=choice.fractional)


def _beside(work: "Callable[[], Study]") -> "Future[Study]":
    """Do it in a thread: much of reading and of loading is outside Python, so that they share two cores. Nobody waits
    for that thread when the program ends by an error or by Ctrl-C."""
    told: Future[Study] = Future()

    def run() -> None:
        try:
            told.set_result(work())
        except BaseException as error:
            told.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return told


def _pictures(
    found: "Inputs", window: tuple[float, float] | None, network: _Network, out: Path, overwrite: bool, as_json: bool
) -> dict[str, Any]:
    from bleedmap.cli.segment_pictures import segment_pictures
    from bleedmap.io.files import folder_written_whole, write_json
    from bleedmap.window import BRAIN, Window

    shown_in = Window(*window) if window else BRAIN
    segmenter = network.load(one_by_one=True)
    with (
        folder_written_whole(out, overwrite=overwrite) as folder,
        _progress(len(found.pictures), as_json) as advance,
    ):
        summary = segment_pictures(segmenter, found.pictures, shown_in, found.ignored, folder, advance)
        write_json(folder / _SUMMARY, summary)
    return summary


def _refuse_flags(flags: dict[str, Any], given_for: str, meant_for: str) -> None:
    wrong = [name for name, value in flags.items() if value not in (None, False, ())]
    if wrong:
        raise SettingsError(
            wrong[0], found=f"given for {given_for}", needed=meant_for, remedy=f"leave {wrong[0]} out",
        )  # fmt: skip


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


def _refuse_own_input(out: Path, inputs: tuple[Path, ...]) -> None:
    place = out.resolve()
    holding = next((path for path in inputs if path.resolve().is_relative_to(place)), None)
    if holding is not None:
        raise OutputError(
            out, found=f"holds the input {holding}", needed="a folder of its own for the results",
            remedy="give another folder with -o",
        )  # fmt: skip


@contextmanager
def _progress(count: int, quiet: bool) -> "Iterator[Callable[[int], None]]":
    """Yields advance(slices); a bar from eleven slices on."""
    if quiet or count < _BAR_FROM:
        yield lambda slices: None
        return
    done = 0
    with progress_bar("Segmenting") as report:

        def advance(slices: int) -> None:
            nonlocal done
            done += slices
            report(done, count)

        yield advance
