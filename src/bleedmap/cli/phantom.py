"""`bleedmap phantom`."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import click
from rich.markup import escape

from bleedmap.cli import options
from bleedmap.cli.console import print_json, print_line, print_rows

if TYPE_CHECKING:
    from bleedmap.phantom.bleeds import Bleed
    from bleedmap.phantom.head import Phantom, PhantomSettings
    from bleedmap.phantom.scan import PhantomScan

_SYNTAXES = ("explicit", "implicit", "big-endian", "deflated", "rle", "jpeg", "jpeg-ls", "jpeg-2000")


@dataclass(frozen=True)
class _Form:
    """The form in which the CT is written."""

    dicom: bool
    multi_frame: bool
    transfer_syntax: str | None
    tilt_deg: float
    gaps: tuple[int, ...]


@click.command()
@options.out_option("The CT to write: a new .nii or .nii.gz file; with --dicom, a new folder.")
@options.path_option("--mask", text="Also write the true mask of all bleeds to this NIfTI file.")
@click.option(
    "--bleed", "bleeds", multiple=True, metavar="TYPE:ML[:SIDE[:HU]]",
    help="A bleed: type, volume in mL, the patient's side, HU of the blood. Repeat for several. Not given: none.",
)  # fmt: skip
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The same seed gives the same head, at every spacing."
)
@click.option(
    "--spacing", type=float, nargs=3, default=(5.0, 0.45, 0.45), show_default=True,
    help="Distance between slices, rows and columns, in mm.",
)  # fmt: skip
@click.option(
    "--shape", type=int, nargs=3, default=(28, 512, 512), show_default=True, help="Number of slices, rows and columns."
)
@click.option("--noise", type=float, default=3.5, show_default=True, help="Standard deviation of the noise, in HU.")
@click.option(
    "--kernel", type=float, default=0.4, show_default=True, metavar="MM",
    help="Standard deviation of the reconstruction kernel's blur; 0.4 is a scanner's for soft tissue.",
)  # fmt: skip
@click.option("--streaks/--no-streaks", default=True, help="Dark bands between the petrous bones, on by default.")
@click.option(
    "--beam-hardening/--no-beam-hardening", default=True, help="The bright rim under the skull, on by default."
)
@click.option("--headrest/--no-headrest", default=True, help="The arc of the headrest behind the head, on by default.")
@click.option(
    "--tilt", type=float, default=0.0, metavar="DEG",
    help="Tilt of the gantry in degrees, -45 to 45; it shears the slices.",
)  # fmt: skip
@click.option(
    "--dicom", is_flag=True, help="Write a DICOM series into a folder, one file for each slice, instead of NIfTI."
)
@click.option("--multi-frame", is_flag=True, help="With --dicom: write all slices into one Enhanced CT file.")
@click.option(
    "--transfer-syntax", type=click.Choice(_SYNTAXES),
    help="With --dicom: how the pixels are stored, always lossless. Not given: explicit, uncompressed.",
)  # fmt: skip
@click.option(
    "--gap", "gaps", type=int, multiple=True, metavar="INDEX",
    help="With --dicom: leave this slice out, counted from 0 at the feet. Repeat for several.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the files if they exist.")
@options.json_option
def command(
    out: Path, mask: Path | None, bleeds: tuple[str, ...], seed: int, spacing: tuple[float, float, float],
    shape: tuple[int, int, int], noise: float, kernel: float, streaks: bool, beam_hardening: bool, headrest: bool,
    tilt: float, dicom: bool, multi_frame: bool, transfer_syntax: str | None, gaps: tuple[int, ...], overwrite: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Write a phantom: a synthetic head CT in HU, with bleeds of known volume.

    In: nothing. Out: a NIfTI volume or, with --dicom, a CT series as a scanner sends it; with --mask the true mask as
    NIfTI; and a table of the true volume of each bleed, within 3 % of the volume asked for if the anatomy has room for
    it. It holds no patient's data.

    \b
    bleedmap phantom -o head.nii.gz                                      a healthy head
    bleedmap phantom -o head.nii.gz --mask truth.nii.gz --bleed IPH:12 --bleed SDH:30:right
    bleedmap phantom -o thin.nii.gz --spacing 1 0.9 0.9 --shape 140 256 256 --seed 7
    bleedmap phantom -o study --dicom --mask truth.nii.gz --bleed IPH:12 --tilt 20 --transfer-syntax jpeg-ls

    Types: EDH, SDH, SAH, IPH, IVH. Where two bleeds meet, the voxels belong to the one named first.

    With --tilt or --gap the same head is scanned in another way. The true volumes are those of the head; the mask shows
    what these slices show of them. At a gap, the NIfTI mask is empty.
    """
    from bleedmap.phantom.head import PhantomSettings

    form = _Form(dicom, multi_frame, transfer_syntax, tilt, gaps)
    _check_targets(out, mask, form, overwrite)
    settings = PhantomSettings(
        seed=seed, spacing_mm=spacing, shape=shape, bleeds=tuple(_parse_bleed(one) for one in bleeds), noise_hu=noise,
        streaks=streaks, beam_hardening=beam_hardening, headrest=headrest, kernel_mm=kernel,
    )  # fmt: skip
    phantom = _scan(settings, form)
    _write(phantom, settings, form, out, mask, overwrite)
    if as_json:
        print_json(_make_record(settings, phantom, form, out, mask))
    else:
        _print(settings, phantom, [path for path in (out, mask) if path is not None])


def _scan(settings: "PhantomSettings", form: _Form) -> "Phantom | PhantomScan":
    from bleedmap.phantom.head import make_phantom
    from bleedmap.phantom.scan import ScanGeometry, scan

    if not form.tilt_deg and not form.gaps:
        return make_phantom(settings)
    slices, *plane = settings.shape
    geometry = ScanGeometry(
        slices=slices, spacing_mm=settings.spacing_mm[0], shape=(plane[0], plane[1]),
        pixel_mm=settings.spacing_mm[1:], tilt_deg=form.tilt_deg, missing=form.gaps,
    )  # fmt: skip
    return scan(settings, geometry)


def _write(
    phantom: "Phantom | PhantomScan", settings: "PhantomSettings", form: _Form, out: Path, mask: Path | None,
    overwrite: bool,
) -> None:  # fmt: skip
    """Write the CT and the mask; each takes its name only when the other is written too."""
    from bleedmap.io import nifti
    from bleedmap.io.files import written_whole
    from bleedmap.phantom.dicom import CtOptions, ct_instances, write_series
    from bleedmap.phantom.dicom_enhanced import enhanced_ct

    with ExitStack() as both:
        if not form.dicom:
            nifti.write(both.enter_context(written_whole(out)), phantom.volume)
        if mask is not None:
            nifti.write(both.enter_context(written_whole(mask)), phantom.mask)
        if form.dicom:
            chosen = CtOptions(
                seed=crc32(repr((settings, form)).encode()),  # other phantoms, other studies
                patient_id=f"PHANTOM-{settings.seed}",  # other heads, other patients
                transfer_syntax=form.transfer_syntax or _SYNTAXES[0],
                series_description=f"Head {settings.spacing_mm[0]:.1f} H31s",
            )  # fmt: skip
            series = [enhanced_ct(phantom.volume, options=chosen)] if form.multi_frame else None
            write_series(out, series or ct_instances(phantom.volume, options=chosen), overwrite=overwrite)


def _parse_bleed(text: str) -> "Bleed":
    """Parse a bleed such as 'IPH:12:right:60'.

    Raises:
        SettingsError: not of that form, or a value that cannot be.
    """
    from bleedmap.errors import SettingsError
    from bleedmap.phantom.bleeds import Bleed

    kind, *values = text.split(":")
    try:
        volume_ml, hu = float(values[0]), float(values[2]) if len(values) == 3 else None
        if len(values) > 3:
            raise ValueError
    except (ValueError, IndexError):
        raise SettingsError(
            f"--bleed {text}", found="not TYPE:ML[:SIDE[:HU]]", needed="a type and a volume, for example IPH:12",
            remedy="write --bleed IPH:12, --bleed SDH:30:right or --bleed EDH:20:left:65",
        ) from None  # fmt: skip
    side: Any = values[1].lower() if len(values) > 1 else "left"
    type_: Any = kind.upper()
    return Bleed(type_, volume_ml, side, hu)


def _check_targets(out: Path, mask: Path | None, form: _Form, overwrite: bool) -> None:
    """Refuse before computing what could not be written after it, and flags of DICOM without --dicom."""
    from bleedmap.errors import OutputError, SettingsError
    from bleedmap.io.files import refuse_folder
    from bleedmap.io.nifti import is_nifti

    asked = {"--multi-frame": form.multi_frame, "--transfer-syntax": form.transfer_syntax, "--gap": form.gaps}
    for flag in (flag for flag, value in asked.items() if value and not form.dicom):
        raise SettingsError(
            flag, found="asked of a NIfTI file", needed="a DICOM series: NIfTI knows only whole, even stacks",
            remedy=f"add --dicom, and name a folder with -o; or leave {flag} out",
        )  # fmt: skip
    if form.dicom:
        if is_nifti(out):
            raise OutputError(
                out, found="named as NIfTI", needed="the name of a folder: --dicom writes several files",
                remedy="for example -o study",
            )  # fmt: skip
        refuse_folder(out, overwrite=overwrite)
    for path in filter(None, (mask,) if form.dicom else (out, mask)):
        if not is_nifti(path):
            raise OutputError(
                path, found="not named as NIfTI", needed="a name that ends in .nii or .nii.gz",
                remedy="for example head.nii.gz, or --dicom for a folder of DICOM files",
            )  # fmt: skip
        if path.is_dir() or (path.exists() and not overwrite):
            raise OutputError(
                path, found="a folder" if path.is_dir() else "already exists", needed="the name of a new file",
                remedy="give another name, or --overwrite to replace a file",
            )  # fmt: skip
    if mask is not None and form.dicom and mask.resolve().is_relative_to(out.resolve()):
        raise OutputError(mask, found="inside the series' folder", needed="a place of its own", remedy="move it out")
    if mask is not None and mask.resolve() == out.resolve():
        raise OutputError(mask, found="named for the CT and for the mask", needed="two files", remedy="rename one")


def _make_record(
    settings: "PhantomSettings", phantom: "Phantom | PhantomScan", form: _Form, out: Path, mask: Path | None
) -> dict[str, Any]:
    plain = {one.name: getattr(settings, one.name) for one in fields(settings) if one.name != "bleeds"}
    return {
        "phantom": True, "out": str(out), "mask": None if mask is None else str(mask), **plain, **asdict(form),
        "true_volume_ml": round(sum(one.true_volume_ml for one in phantom.bleeds), 4),
        "mask_volume_ml": round(phantom.mask.volume_ml, 4),
        "bleeds": [
            {
                "type": one.asked.type, "side": one.asked.side, "hu": round(one.hu, 1),
                "asked_ml": one.asked.volume_ml, "true_volume_ml": round(one.true_volume_ml, 4),
            }
            for one in phantom.bleeds
        ],
    }  # fmt: skip


def _print(settings: "PhantomSettings", phantom: "Phantom | PhantomScan", written: list[Path]) -> None:
    title = f"Phantom, seed {settings.seed}"
    rows = (
        (one.asked.type, one.asked.side, f"{one.hu:.0f}", f"{one.asked.volume_ml:.1f}", f"{one.true_volume_ml:.1f}")
        for one in phantom.bleeds
    )
    if phantom.bleeds:
        print_rows("Bleed", "Side", ">HU", ">Asked, mL", ">True, mL", rows=rows, title=title)
    else:
        print_line(f"{title}: a head without a bleed.")
    for path in written:
        print_line(f"Written: {escape(str(path))}")
