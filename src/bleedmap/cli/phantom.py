"""`bleedmap phantom`."""

import json
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bleedmap.cli.options import json_option

if TYPE_CHECKING:
    from bleedmap.datasets.phantom import Phantom, PhantomSettings
    from bleedmap.datasets.phantom_bleeds import Bleed


@click.command(short_help="Write a synthetic head CT with known bleeds as NIfTI.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The CT: a new .nii or .nii.gz file.")
@click.option("--mask", type=click.Path(path_type=Path), help="The true mask of all bleeds, another NIfTI file.")
@click.option(
    "--bleed", "bleeds", multiple=True, metavar="TYPE:ML[:SIDE[:HU]]",
    help="A bleed, its volume in mL, the patient's side and the blood's HU; repeat for several. None: a healthy head.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same head, at every spacing.")
@click.option(
    "--spacing", type=float, nargs=3, default=(5.0, 0.45, 0.45), show_default=True,
    help="Distance between slices, rows and columns, in mm.",
)  # fmt: skip
@click.option("--shape", type=int, nargs=3, default=(28, 512, 512), show_default=True, help="Slices, rows and columns.")
@click.option("--noise", type=float, default=3.5, show_default=True, help="Standard deviation of the noise, in HU.")
@click.option("--streaks/--no-streaks", default=True, help="Dark bands between the petrous bones.")
@click.option("--beam-hardening/--no-beam-hardening", default=True, help="The bright rim under the skull.")
@click.option("--headrest/--no-headrest", default=True, help="The holder's arc behind the head.")
@click.option("--overwrite", is_flag=True, help="Replace the files.")
@json_option
def command(
    out: Path, mask: Path | None, bleeds: tuple[str, ...], seed: int, spacing: tuple[float, float, float],
    shape: tuple[int, int, int], noise: float, streaks: bool, beam_hardening: bool, headrest: bool,
    overwrite: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write a phantom: a synthetic head CT in HU, with bleeds of known volume.

    In: nothing. Out: a NIfTI volume, with --mask the truth beside it, and a table of each bleed's true volume: that
    of its mask, which is within 3 % of the volume asked for where the anatomy has room. No patient's data is in it.

    \b
    bleedmap phantom -o head.nii.gz                                      a healthy head
    bleedmap phantom -o head.nii.gz --mask truth.nii.gz --bleed IPH:12 --bleed SDH:30:right
    bleedmap phantom -o thin.nii.gz --spacing 1 0.9 0.9 --shape 140 256 256 --seed 7

    Types: EDH, SDH, SAH, IPH, IVH. Where two bleeds meet, the one named first keeps the voxels.
    """
    from bleedmap.datasets.phantom import PhantomSettings, make_phantom
    from bleedmap.io import nifti
    from bleedmap.io.files import written_whole

    _check_targets(out, mask, overwrite)
    settings = PhantomSettings(
        seed=seed, spacing_mm=spacing, shape=shape, bleeds=tuple(_bleed(one) for one in bleeds), noise_hu=noise,
        streaks=streaks, beam_hardening=beam_hardening, headrest=headrest,
    )  # fmt: skip
    phantom = make_phantom(settings)
    with ExitStack() as both:  # each takes its name only when the other is written too
        ct_beside = both.enter_context(written_whole(out))
        if mask is not None:
            nifti.write(both.enter_context(written_whole(mask)), phantom.mask)
        nifti.write(ct_beside, phantom.volume)
    if as_json:
        click.echo(json.dumps(_record(settings, phantom, out, mask), indent=2))
    else:
        _print(settings, phantom, [path for path in (out, mask) if path is not None])


def _bleed(text: str) -> "Bleed":
    """'IPH:12:right:60' -> a bleed.

    Raises:
        SettingsError: not of that form, or a value that cannot be.
    """
    from bleedmap.datasets.phantom_bleeds import Bleed
    from bleedmap.errors import SettingsError

    kind, *values = text.split(":")
    try:
        if not 1 <= len(values) <= 3:
            raise ValueError
        volume_ml = float(values[0])
        hu = float(values[2]) if len(values) > 2 else None
    except ValueError:
        raise SettingsError(
            f"--bleed {text}", found="not TYPE:ML[:SIDE[:HU]]", needed="a type and a volume, for example IPH:12",
            remedy="write --bleed IPH:12, --bleed SDH:30:right or --bleed EDH:20:left:65",
        ) from None  # fmt: skip
    side: Any = values[1].lower() if len(values) > 1 else "left"
    type_: Any = kind.upper()
    return Bleed(type_, volume_ml, side, hu)


def _check_targets(out: Path, mask: Path | None, overwrite: bool) -> None:
    """Refuse before computing what could not be written after it."""
    from bleedmap.errors import OutputError
    from bleedmap.io.nifti import is_nifti

    for path in (out, mask):
        if path is None:
            continue
        if not is_nifti(path):
            raise OutputError(
                path, found="not named as NIfTI", needed="a name that ends in .nii or .nii.gz",
                remedy="for example head.nii.gz",
            )  # fmt: skip
        if path.is_dir() or (path.exists() and not overwrite):
            raise OutputError(
                path, found="a folder" if path.is_dir() else "already exists", needed="the name of a new file",
                remedy="give another name, or --overwrite to replace a file",
            )  # fmt: skip
    if mask is not None and mask.resolve() == out.resolve():
        raise OutputError(mask, found="named for the CT and for the mask", needed="two files", remedy="rename one")


def _record(settings: "PhantomSettings", phantom: "Phantom", out: Path, mask: Path | None) -> dict[str, Any]:
    plain = {one.name: getattr(settings, one.name) for one in fields(settings) if one.name != "bleeds"}
    return {
        "phantom": True,
        "out": str(out),
        "mask": None if mask is None else str(mask),
        **plain,
        "true_volume_ml": round(phantom.mask.volume_ml, 4),
        "bleeds": [
            {
                "type": one.asked.type, "side": one.asked.side, "hu": round(one.hu, 1),
                "asked_ml": one.asked.volume_ml, "true_volume_ml": round(one.true_volume_ml, 4),
            }
            for one in phantom.bleeds
        ],
    }  # fmt: skip


def _print(settings: "PhantomSettings", phantom: "Phantom", written: list[Path]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"Phantom, seed {settings.seed}", title_justify="left", title_style="bold",
                  box=None, padding=(0, 2, 0, 0))  # fmt: skip
    for name in ("Bleed", "Side"):
        table.add_column(name)
    for name in ("HU", "Asked, mL", "True, mL"):
        table.add_column(name, justify="right")
    for one in phantom.bleeds:
        table.add_row(
            one.asked.type, one.asked.side, f"{one.hu:.0f}", f"{one.asked.volume_ml:.1f}", f"{one.true_volume_ml:.1f}"
        )
    if phantom.bleeds:
        console.print(table)
    else:
        console.print(f"Phantom, seed {settings.seed}: a head without a bleed.", highlight=False)
    for path in written:
        console.print(f"Written: {path}", soft_wrap=True, highlight=False)
