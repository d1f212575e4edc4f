"""`bleedmap demo`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.options import json_option, progress_bar

if TYPE_CHECKING:
    from bleedmap.arrays import BoolArray, FloatArray
    from bleedmap.cli.segment_outputs import Job
    from bleedmap.datasets.phantom import Phantom, PhantomSettings

_SEED = 13  # chosen by eye: open sulci, a bleed in the basal ganglia
_PICTURES = 6
_SUMMARY = "demo.json"


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
@click.option("--weights", help="Installed weights by name, or an .onnx file; default: the installed ones.")
@click.option("--overwrite", is_flag=True, help="Replace the results of an earlier demo in that folder.")
@json_option
def command(out: Path, weights: str | None, overwrite: bool, as_json: bool) -> None:
    """Make a phantom head CT with two bleeds, segment it, and compare with the truth.

    In: nothing; the head is synthetic and the same every time.

    \b
    Out, in the folder:
      phantom.nii.gz          the CT, in HU
      phantom_truth.nii.gz    the bleeds' true mask
      phantom_dseg.nii.gz     the mask that the network found
      phantom_probseg.nii.gz  its probability, 0 to 1
      phantom_overlay.png     to look at
      demo.json               volumes found and true, Dice, weights

    \b
    bleedmap demo
    bleedmap demo -o first-look/

    The installed network was also trained on other phantoms: what it scores on this one says that the program works,
    not how well it works on patients. `bleedmap evaluate` measures that.
    """
    from bleedmap.datasets.phantom import make_phantom
    from bleedmap.inference.segment import preprocessing_of
    from bleedmap.io.files import folder_written_whole, refuse_folder, write_json
    from bleedmap.models.weights import locate

    refuse_folder(out, overwrite=overwrite)
    chosen = locate(weights)
    preprocessing_of(chosen)  # unusable weights are refused before the folder is begun
    with folder_written_whole(out, overwrite=overwrite) as folder:
        from bleedmap.cli.segment_outputs import Job
        from bleedmap.inference.openvino_backend import OpenVinoBackend

        settings = _settings()
        phantom = make_phantom(settings)
        with progress_bar("Segmenting the phantom") as report:
            finished: list[int] = []

            def advance(slices: int) -> None:
                finished.append(slices)
                report(sum(finished), len(phantom.volume.hu))

            job = Job(chosen, OpenVinoBackend(chosen), chosen.threshold, folder, advance)
            probability, mask = job.segment(phantom.volume.hu)
        score = _compare(phantom, mask)
        _write_volumes(folder, phantom, probability, mask)
        _draw(job, phantom, probability, mask, score)
        record = _record(settings, phantom, job, score)
        write_json(folder / _SUMMARY, record)
    if as_json:
        click.echo(json.dumps({**record, "out": str(out)}, indent=2))
    else:
        _print(phantom, score, out)


def _settings() -> "PhantomSettings":
    from bleedmap.datasets.phantom import PhantomSettings
    from bleedmap.datasets.phantom_bleeds import Bleed

    return PhantomSettings(seed=_SEED, bleeds=(Bleed("IPH", 20.0, "left"), Bleed("EDH", 25.0, "right")))


def _compare(phantom: "Phantom", mask: "BoolArray") -> _Score:
    from bleedmap.metrics.overlap import count, dice
    from bleedmap.volume import Mask

    counts = count(phantom.mask.array, mask).pooled()
    found = Mask(mask, phantom.mask.grid)
    return _Score(found.volume_ml, phantom.mask.volume_ml, float(dice(counts, empty=1.0)[0]))


def _write_volumes(folder: Path, phantom: "Phantom", probability: "FloatArray", mask: "BoolArray") -> None:
    from bleedmap.io import nifti
    from bleedmap.volume import Mask, ProbabilityMap

    grid = phantom.volume.grid
    nifti.write(folder / "phantom.nii.gz", phantom.volume)
    nifti.write(folder / "phantom_truth.nii.gz", phantom.mask)
    nifti.write(folder / "phantom_dseg.nii.gz", Mask(mask, grid))
    nifti.write(folder / "phantom_probseg.nii.gz", ProbabilityMap(probability, grid))


def _draw(job: "Job", phantom: "Phantom", probability: "FloatArray", mask: "BoolArray", score: _Score) -> None:
    """A sheet of the slices with the most blood, feet to head."""
    import numpy as np

    from bleedmap.figures.overlay import SliceView
    from bleedmap.window import BRAIN

    voxel_ml = phantom.volume.grid.voxel_ml
    true_ml, found_ml = (one.sum(axis=(1, 2)) * voxel_ml for one in (phantom.mask.array, mask))
    views = [
        SliceView(
            np.rint(BRAIN.to_unit(phantom.volume.hu[index]) * 255).astype(np.uint8), probability[index],
            f"slice {index + 1}: found {found_ml[index]:.1f} mL, true {true_ml[index]:.1f} mL", sides=("R", "L"),
        )
        for index in sorted(np.argsort(-true_ml, kind="stable")[:_PICTURES])
    ]  # fmt: skip
    title = f"Phantom: found {score.found_ml:.1f} mL, true {score.true_ml:.1f} mL, Dice {score.dice:.2f}"
    job.draw("phantom", views, title)


def _record(settings: "PhantomSettings", phantom: "Phantom", job: "Job", score: _Score) -> dict[str, Any]:
    from bleedmap.inference.results import RESEARCH_ONLY

    weights, backend = job.weights, job.backend.record
    return {
        "phantom": True,
        "research_only": RESEARCH_ONLY,
        "seed": settings.seed,
        "bleeds": [
            {"type": one.asked.type, "side": one.asked.side, "true_volume_ml": round(one.true_volume_ml, 4)}
            for one in phantom.bleeds
        ],
        "weights": {"name": weights.name, "sha256": weights.sha256, "trained_on": weights.trained_on},
        "backend": {"name": backend.name, "device": backend.device, "precision": backend.precision},
        "threshold": job.threshold,
        "found_ml": round(score.found_ml, 4),
        "true_ml": round(score.true_ml, 4),
        "dice": round(score.dice, 4),
    }


def _print(phantom: "Phantom", score: _Score, out: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from bleedmap.inference.results import RESEARCH_ONLY

    bleeds = " and ".join(f"an {one.asked.type} of {one.true_volume_ml:.1f} mL" for one in phantom.bleeds)
    console = Console(highlight=False)
    console.print(f"[bold]A phantom, not a patient[/]: a synthetic head with {bleeds}.", soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("", "Found", "True"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("Volume, mL", f"{score.found_ml:.1f}", f"{score.true_ml:.1f}")
    table.add_row("Dice", f"{score.dice:.3f}", "")
    console.print(table)
    console.print(f"Picture: {escape(str(out / 'phantom_overlay.png'))}", soft_wrap=True)
    console.print(RESEARCH_ONLY, style="yellow", soft_wrap=True)
