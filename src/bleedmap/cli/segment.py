"""`bleedmap segment`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.options import json_option, progress_bar
from bleedmap.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bleedmap.inference.backends import Backend, Precision
    from bleedmap.models.weights import WeightsFile

_BAR_FROM = 11  # slices; fewer are done before a bar could be read
_TABLE_ROWS = 20
_NAMES_SHOWN = 8
_SUMMARY = "summary.json"


@click.command(short_help="Outline hemorrhage on slices (JPEG, PNG) or a volume (NIfTI in HU).")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path),
    help="A new or empty folder for the results; written whole or not at all.",
)  # fmt: skip
@click.option("--weights", help="Installed weights by name, or an .onnx file; default: the installed ones.")
@click.option(
    "--backend", "backend_name", type=click.Choice(["openvino", "torch"]), default="openvino", show_default=True,
    help="What computes; torch needs the extra 'train'.",
)  # fmt: skip
@click.option(
    "--device", type=click.Choice(["cpu", "cuda", "mps"]), default="cpu", show_default=True,
    help="Where; cuda and mps need --backend torch.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["fp32", "auto"]), default="fp32", show_default=True,
    help="fp32: the same on every machine. auto: OpenVINO may take bf16, faster, other at lesions' edges.",
)  # fmt: skip
@click.option(
    "--threshold", type=click.FloatRange(0, 1, min_open=True),
    help="Lesion from this probability on; default: the weights' own.",
)  # fmt: skip
@click.option(
    "--window", nargs=2, type=float, metavar="LEVEL WIDTH",
    help="Window in HU that the pictures were exported in; default: the brain window, 40 120.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the results of an earlier run in that folder.")
@json_option
def command(
    inputs: tuple[Path, ...], out: Path, weights: str | None, backend_name: str, device: str,
    precision: "Precision", threshold: float | None, window: tuple[float, float] | None, overwrite: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Outline hemorrhage on head CT.

    In: JPEG or PNG slices in the brain window (files, or a folder of them), or one NIfTI volume in HU.

    \b
    Out, for each slice:
      NAME_mask.png       0 or 255, the slice's own size
      NAME_prob.png       16-bit: probability × 65535
      NAME_overlay.png    to look at: white at 0.5 to red at 1, nothing below
    Out, for a volume, on the file's own grid:
      NAME_dseg.nii.gz    mask, 0 or 1
      NAME_probseg.nii.gz probability, 0 to 1
      NAME_overlay.png    contact sheet of the slices with lesions
    and summary.json: lesions, pixels, mL (volumes only), weights, version.

    Slices count from 1, in a volume from feet to head. "No hemorrhage found" is a result: the empty mask is
    written, exit code 0.

    \b
    bleedmap segment slices/ -o result/
    bleedmap segment head.nii.gz -o result/ --json
    """
    from bleedmap.inference.inputs import gather
    from bleedmap.inference.segment import preprocessing_of
    from bleedmap.io.files import folder_written_whole, refuse_folder, write_json
    from bleedmap.io.nifti import read_volume
    from bleedmap.models.weights import locate
    from bleedmap.window import BRAIN, Window

    _check_flags(backend_name, device)
    shown_in = Window(*window) if window else BRAIN
    _refuse_own_input(out, inputs)
    refuse_folder(out, overwrite=overwrite)
    found = gather(list(inputs))
    volume = read_volume(found.volume) if found.volume else None
    if volume and window:
        raise SettingsError(
            "--window", found="given for a NIfTI volume", needed="pictures; a volume is in HU already",
            remedy="leave --window out",
        )  # fmt: skip
    chosen = locate(weights)
    preprocessing_of(chosen)  # unusable settings are refused before the folder is begun
    count = len(volume[0].hu) if volume else len(found.pictures)
    with (
        folder_written_whole(out, overwrite=overwrite) as folder,
        _progress(count, as_json) as advance,
    ):
        # What writes results draws with Pillow and loads OpenVINO: late, once the inputs are known to be good.
        from bleedmap.cli.segment_outputs import Job, segment_pictures, segment_volume

        level = chosen.threshold if threshold is None else threshold
        job = Job(chosen, _load(chosen, backend_name, device, precision), level, folder, advance)
        if volume and found.volume:
            summary = segment_volume(job, found.volume, *volume, found.ignored)
        else:
            summary = segment_pictures(job, found.pictures, shown_in, found.ignored)
        write_json(folder / _SUMMARY, summary)
    if as_json:
        click.echo(json.dumps(summary | {"out": str(out)}, indent=2, ensure_ascii=False))
    else:
        _print(summary, out)


def _check_flags(backend_name: str, device: str) -> None:
    if backend_name == "openvino" and device != "cpu":
        raise SettingsError(
            "--device", found=f"'{device}' with --backend openvino", needed="cpu, or --backend torch",
            remedy=f"give --backend torch --device {device}, or leave --device out",
        )  # fmt: skip


def _refuse_own_input(out: Path, inputs: tuple[Path, ...]) -> None:
    place = out.resolve()
    holding = next((path for path in inputs if path.resolve().is_relative_to(place)), None)
    if holding is not None:
        raise OutputError(
            out, found=f"holds the input {holding}", needed="a folder of its own for the results",
            remedy="give another folder with -o",
        )  # fmt: skip


def _load(weights: "WeightsFile", backend_name: str, device: str, precision: "Precision") -> "Backend":
    if backend_name == "torch":
        from bleedmap.inference.torch_backend import TorchBackend

        return TorchBackend(weights, device)
    from bleedmap.inference.openvino_backend import OpenVinoBackend

    return OpenVinoBackend(weights, precision)


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


def _print(summary: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    volume_ml, marked, count = summary["volume_ml"], len(summary["slices_with_lesion"]), summary["slice_count"]
    slices = "1 slice" if count == 1 else f"{count:,} slices"
    if summary["hemorrhage_found"]:
        size = f"{summary['lesion_pixels']:,} pixels" if volume_ml is None else f"{volume_ml:,.2f} mL"
        console.print(f"[bold red]Hemorrhage found[/]: {size} in {marked} of {slices}")
        console.print(_lesion_table(summary))
        if volume_ml is None:
            console.print(f"No volume in mL: {summary['volume_note']}.")
    else:
        console.print(
            f"[bold]No hemorrhage found[/] in {slices} "
            f"(highest probability {summary['highest_probability']:.2f}, threshold {summary['threshold']:g})"
        )
    for note in summary["notes"]:
        console.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)
    by_reason = sorted(summary["ignored"], key=lambda one: str(one["reason"]))
    for reason, group in groupby(by_reason, key=lambda one: str(one["reason"])):
        names = [Path(one["file"]).name for one in group]
        more = f" and {len(names) - _NAMES_SHOWN} more, see {_SUMMARY}" if len(names) > _NAMES_SHOWN else ""
        console.print(f"ignored, {reason}: {escape(', '.join(names[:_NAMES_SHOWN]))}{more}", soft_wrap=True)
    backend = summary["backend"]
    network = f"{summary['weights']['name']} on {backend['name']}, {backend['device']}, {backend['precision']}"
    console.print(f"Results: {escape(str(out))} [dim]({escape(network)})[/]", soft_wrap=True)
    console.print(summary["research_only"], style="yellow", soft_wrap=True)


def _lesion_table(summary: dict[str, Any]) -> Any:
    """The largest lesions; slices by name for pictures, by number in a volume."""
    from rich.table import Table
    from rich.text import Text

    lesions, in_ml = summary["lesions"], summary["volume_ml"] is not None
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("Lesion", "Slice", "Pixels", *(["mL"] if in_ml else []), "Highest probability"):
        table.add_column(name, justify="left" if name == "Slice" else "right")
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
