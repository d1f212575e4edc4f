"""`bleedmap demo`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from bleedmap import RESEARCH_ONLY
from bleedmap.cli import options
from bleedmap.cli.console import print_json, print_line, print_rows, slices_bar

if TYPE_CHECKING:
    from bleedmap.phantom.head import Phantom
    from bleedmap.study.result import Result

_SEED = 13  # chosen by eye: open sulci, a bleed in the basal ganglia
_STUDY, _RESULT = "phantom", "result"


@click.command()
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True,
    help="A new or empty folder for the results.",
)  # fmt: skip
@options.weights_option
@options.overwrite_option
@options.json_option
def command(out: Path, weights: str | None, overwrite: bool, as_json: bool) -> None:
    """Make a phantom head CT with two bleeds, segment it, and compare the result with the truth.

    In: nothing. The head is synthetic and the same every time.

    \b
    Out, in the folder:
      phantom/              the study: a CT series as DICOM, with a scout
      phantom_truth.nii.gz  the true mask of the bleeds
      result/               what `bleedmap segment` writes; open result/report.html
      demo.json             volumes true and found of each bleed, Dice, weights

    \b
    bleedmap demo
    bleedmap demo -o first-look/

    The default network was also trained on phantoms. A good score here shows that the program works, not how well it
    works on patients; `bleedmap evaluate` measures that.
    """
    from bleedmap.io import nifti
    from bleedmap.io.files import folder_written_whole, refuse_folder, write_json
    from bleedmap.phantom.bleeds import Bleed
    from bleedmap.phantom.dicom import ct_instances, scout, write_series
    from bleedmap.phantom.head import SCANNER_KERNEL_MM, PhantomSettings, make_phantom
    from bleedmap.study.read import read_study
    from bleedmap.study.segment import Segmenter

    refuse_folder(out, overwrite=overwrite)
    segmenter = Segmenter.load(weights)  # unusable weights are refused before the folder is begun
    with folder_written_whole(out, overwrite=overwrite) as folder:
        bleeds = Bleed("IPH", 20.0, "left"), Bleed("EDH", 25.0, "right")
        settings = PhantomSettings(seed=_SEED, bleeds=bleeds, kernel_mm=SCANNER_KERNEL_MM)
        phantom = make_phantom(settings)
        write_series(folder / _STUDY, [scout(phantom.volume), *ct_instances(phantom.volume)])
        nifti.write(folder / "phantom_truth.nii.gz", phantom.mask)
        study = replace(read_study(folder / _STUDY), source=str(out / _STUDY))
        with slices_bar("Segmenting the phantom", len(phantom.volume.hu), quiet=as_json) as advance:
            result = segmenter.segment(study, advance=advance)
        files = result.save(folder / _RESULT)["files"]
        record = _record(phantom, result)
        write_json(folder / "demo.json", record)
    if as_json:
        print_json({**record, "out": str(out)})
    else:
        _print(record, out / _RESULT, files)


def _record(phantom: "Phantom", result: "Result") -> dict[str, Any]:
    from bleedmap.metrics.overlap import count, dice

    weights, backend = result.weights, result.backend
    counts = count(phantom.mask.array, result.mask.array).pooled()
    found_ml = phantom.share_out(result.mask)
    return {
        "phantom": True,
        "research_only": RESEARCH_ONLY,
        "seed": _SEED,
        "bleeds": [
            {
                "type": one.asked.type, "side": one.asked.side, "true_volume_ml": round(one.true_volume_ml, 4),
                "found_ml": round(found_ml[one.asked.type], 4),
            }
            for one in phantom.bleeds
        ],
        "false_ml": round(found_ml[None], 4),
        "weights": {"name": weights.name, "sha256": weights.sha256, "trained_on": weights.trained_on},
        "backend": {"name": backend.name, "device": backend.device, "precision": backend.precision},
        "threshold": result.threshold,
        "found_ml": round(result.mask.volume_ml, 4),
        "true_ml": round(phantom.mask.volume_ml, 4),
        "dice": round(float(dice(counts, empty=1.0)[0]), 4),
    }  # fmt: skip


def _print(record: dict[str, Any], result: Path, files: dict[str, str]) -> None:
    from bleedmap.study.words import millilitres

    print_line("[bold]A phantom, not a patient[/]: a synthetic head with two bleeds.")
    rows = [(one["type"], one["side"], one["true_volume_ml"], one["found_ml"]) for one in record["bleeds"]]
    cells = (
        (name, side, millilitres(true_ml), millilitres(found_ml), f"{found_ml / true_ml:.2f}")
        for name, side, true_ml, found_ml in (*rows, ("all", "", record["true_ml"], record["found_ml"]))
    )
    print_rows("mL", "Side", ">True", ">Found", ">Found / true", rows=cells)
    away = record["false_ml"]
    print_line(
        f"Dice {record['dice']:.2f}; {millilitres(away) + ' mL' if away else 'nothing'} marked where no blood is."
    )
    print_line(f"Report: {escape(str(result / files['report']))}")
    print_line(f"Picture: {escape(str(result / files['overlay']))}")
    print_line(RESEARCH_ONLY, style="yellow")
