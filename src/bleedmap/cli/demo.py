"""`bleedmap demo`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.options import json_option, progress_bar

if TYPE_CHECKING:
    from bleedmap.arrays import ByteArray
    from bleedmap.datasets.phantom import Phantom, PhantomSettings
    from bleedmap.models.weights import WeightsFile
    from bleedmap.volume import Mask, ProbabilityMap

_SEED = 5  # chosen by eye: an upright head with open sulci
_PICTURES = 6


@dataclass(frozen=True)
class _Score:
    """What was found beside what is there."""

    found_ml: float
    true_ml: float
    dice: float


@click.command(short_help="Make a phantom head CT with a bleed, segment it, show the result.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True,
    help="A new or empty folder for the results.",
)  # fmt: skip
@click.option("--weights", help="An installed network by name, or an .onnx file; default: the installed one.")
@click.option("--overwrite", is_flag=True, help="Replace the folder.")
@json_option
def command(out: Path, weights: str | None, overwrite: bool, as_json: bool) -> None:
    """Make a phantom head CT with two bleeds, segment it, and compare with the truth.

    In: nothing; the head is synthetic and the same every time. Out, in the folder: phantom.nii.gz (HU),
    phantom_truth.nii.gz, mask.nii.gz, probability.nii.gz, overlay.png and demo.json.

    \b
    bleedmap demo
    bleedmap demo -o first-look/

    The network learned from patients: what it scores on a phantom says that the program works, not how well it
    works on patients.
    """
    from bleedmap.datasets.phantom import make_phantom
    from bleedmap.io.files import folder_written_whole
    from bleedmap.io.images import write_png
    from bleedmap.models.weights import locate

    chosen = locate(weights)
    with folder_written_whole(out, overwrite=overwrite) as folder:
        settings = _settings()
        phantom = make_phantom(settings)
        probability, mask = _segment(phantom, chosen)
        score = _compare(phantom, mask)
        _write_volumes(folder, phantom, probability, mask)
        write_png(folder / "overlay.png", _picture(phantom, probability, mask, chosen, score))
        record = _record(settings, phantom, chosen, score)
        (folder / "demo.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if as_json:
        click.echo(json.dumps({**record, "out": str(out)}, indent=2))
    else:
        _print(phantom, score, out)


def _settings() -> "PhantomSettings":
    from bleedmap.datasets.phantom import PhantomSettings
    from bleedmap.datasets.phantom_bleeds import Bleed

    return PhantomSettings(seed=_SEED, bleeds=(Bleed("IPH", 20.0, "left"), Bleed("EDH", 25.0, "right")))


def _segment(phantom: "Phantom", weights: "WeightsFile") -> "tuple[ProbabilityMap, Mask]":
    from bleedmap.inference.openvino_backend import OpenVinoBackend
    from bleedmap.inference.segment import preprocessing_of, segment_slices
    from bleedmap.postprocess import to_mask
    from bleedmap.volume import Mask, ProbabilityMap

    volume = phantom.volume
    done = 0
    with progress_bar("Segmenting the phantom") as report:

        def advance(slices: int) -> None:
            nonlocal done
            done += slices
            report(done, len(volume.hu))

        found = segment_slices(volume.hu, preprocessing_of(weights), OpenVinoBackend(weights), advance)
    return ProbabilityMap(found, volume.affine), Mask(to_mask(found, weights.threshold), volume.affine)


def _compare(phantom: "Phantom", mask: "Mask") -> _Score:
    from bleedmap.metrics.overlap import count, dice

    counts = count(phantom.mask.array, mask.array).pooled()
    return _Score(mask.volume_ml, phantom.mask.volume_ml, float(dice(counts, empty=1.0)[0]))


def _write_volumes(folder: Path, phantom: "Phantom", probability: "ProbabilityMap", mask: "Mask") -> None:
    from bleedmap.io import nifti

    nifti.write(folder / "phantom.nii.gz", phantom.volume)
    nifti.write(folder / "phantom_truth.nii.gz", phantom.mask)
    nifti.write(folder / "probability.nii.gz", probability)
    nifti.write(folder / "mask.nii.gz", mask)


def _picture(
    phantom: "Phantom", probability: "ProbabilityMap", mask: "Mask", weights: "WeightsFile", score: _Score
) -> "ByteArray":
    """A sheet of the slices with the most blood, feet to head: RGB (row, column, 3)."""
    import numpy as np

    from bleedmap.figures.overlay import SliceView, draw_sheet
    from bleedmap.geometry import voxel_volume_ml
    from bleedmap.inference.results import RESEARCH_ONLY
    from bleedmap.window import BRAIN

    voxel_ml = voxel_volume_ml(mask.affine)
    true_ml, found_ml = (one.array.sum(axis=(1, 2)) * voxel_ml for one in (phantom.mask, mask))
    views = [
        SliceView(
            np.rint(BRAIN.to_unit(phantom.volume.hu[index]) * 255).astype(np.uint8), probability.array[index],
            f"slice {index + 1}: found {found_ml[index]:.1f} mL, true {true_ml[index]:.1f} mL", sides=("R", "L"),
        )
        for index in sorted(np.argsort(-true_ml, kind="stable")[:_PICTURES])
    ]  # fmt: skip
    title = f"Phantom: found {score.found_ml:.1f} mL, true {score.true_ml:.1f} mL, Dice {score.dice:.2f}"
    return draw_sheet(views, title=title, footer=RESEARCH_ONLY, threshold=weights.threshold)


def _record(settings: "PhantomSettings", phantom: "Phantom", weights: "WeightsFile", score: _Score) -> dict[str, Any]:
    from bleedmap.inference.results import RESEARCH_ONLY

    return {
        "phantom": True,
        "research_only": RESEARCH_ONLY,
        "seed": settings.seed,
        "bleeds": [
            {"type": one.asked.type, "side": one.asked.side, "true_volume_ml": round(one.true_volume_ml, 4)}
            for one in phantom.bleeds
        ],
        "weights": {"name": weights.name, "sha256": weights.sha256, "trained_on": weights.trained_on},
        "threshold": weights.threshold,
        "found_ml": round(score.found_ml, 4),
        "true_ml": round(score.true_ml, 4),
        "dice": round(score.dice, 4),
    }


def _print(phantom: "Phantom", score: _Score, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from bleedmap.inference.results import RESEARCH_ONLY

    bleeds = " and ".join(f"{one.asked.type} of {one.true_volume_ml:.1f} mL" for one in phantom.bleeds)
    console = Console(highlight=False)
    console.print(f"A phantom, not a patient: a synthetic head with {bleeds}.")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("", "Found", "True"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("Volume, mL", f"{score.found_ml:.1f}", f"{score.true_ml:.1f}")
    table.add_row("Dice", f"{score.dice:.3f}", "")
    console.print(table)
    console.print(f"Picture: {out / 'overlay.png'}", soft_wrap=True)
    console.print(RESEARCH_ONLY, style="yellow", soft_wrap=True)
