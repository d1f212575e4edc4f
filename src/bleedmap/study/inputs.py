"""Sort what the user named into a study or pictures to segment, and check the pictures before any work starts."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bleedmap.errors import InputError, spell
from bleedmap.io import images, nifti
from bleedmap.io.dicom.files import holds_dicom, is_dicom
from bleedmap.io.kinds import identify
from bleedmap.io.names import fit_name, fold_name, number_name
from bleedmap.study.gate.check import Check
from bleedmap.study.gate.gate import find_refusal
from bleedmap.study.gate.picture_look import PictureLook, measure_picture
from bleedmap.study.gate.pictures import WANTED, judge_pictures, list_doubts
from bleedmap.study.words import counted
from bleedmap.window import Window

_NAMED = 5  # pictures that a note names
CT_ICH_MASK_ENDING = "_hge_seg"  # of CT-ICH's reference masks, beside their slices


@dataclass(frozen=True)
class Picture:
    """One slice: its file, and a name for its results that no other slice of this run has."""

    path: Path
    name: str


@dataclass(frozen=True)
class Ignored:
    """A file that was not segmented, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Inputs:
    """Either one study (DICOM or NIfTI), or one or more pictures in their natural order."""

    study: Path | None
    pictures: tuple[Picture, ...]
    ignored: tuple[Ignored, ...]


def gather(paths: list[Path]) -> Inputs:
    """Sort what was named into study, pictures and ignored files.

    A folder that holds DICOM anywhere is a study, whatever else lies there: previews, reports, converted files.

    Raises:
        InputError: nothing to segment, or a study together with something else.
    """
    folders = [path for path in paths if path.is_dir() and holds_dicom(path)]
    if folders and len(paths) == 1:
        return Inputs(paths[0], (), ())
    if folders:
        raise _not_alone(folders[0], len(paths) - 1)
    files, ignored = _expand(paths)
    studies = [one for one in files if not images.is_picture(one) or nifti.is_nifti(one) or is_dicom(one)]
    if studies:
        if len(files) > 1:
            raise _not_alone(studies[0], len(files) - 1)
        return Inputs(studies[0], (), tuple(ignored))
    if not files:
        if len(paths) == 1 and paths[0].is_dir() and not any(nifti.is_nifti(one.path) for one in ignored):
            return Inputs(paths[0], (), ())
        raise _nothing(paths, ignored)
    return Inputs(None, _name_pictures(files), tuple(ignored))


@dataclass(frozen=True)
class CheckedPictures:
    """What the input checks say of pictures."""

    checks: tuple[Check, ...]  # of all pictures
    doubts: tuple[tuple[str, ...], ...]  # for each picture, the names of those checks that it did not pass
    notes: tuple[str, ...]  # what reading had to decide, in sentences


def check_pictures(pictures: Sequence[Picture], window: Window, accept: Iterable[str] = ()) -> CheckedPictures:
    """Read every picture once, and make the input checks.

    Args:
        window: in which they were exported.
        accept: names of input checks whose refusal is overruled.

    Raises:
        InputError: one cannot be read, or a check refuses them and is not among `accept`.
        SettingsError: `accept` names no check.
    """
    looks = []
    for one in pictures:
        pixels, turned = images.read_picture(one.path)
        looks.append(measure_picture(one.name, pixels, window, turned))
    checks = judge_pictures(looks, window)
    first = pictures[0].path
    refusal = find_refusal(spell(first if len(pictures) == 1 else first.parent), checks, accept, WANTED)
    if refusal is not None:
        raise refusal
    return CheckedPictures(checks, tuple(map(list_doubts, looks)), note_turned(looks))


def note_turned(looks: Sequence[PictureLook]) -> tuple[str, ...]:
    """Say which pictures were turned, in a sentence; none where none was."""
    turned = [f"{one.name} {one.turned}" for one in looks if one.turned]
    if not turned:
        return ()
    more = f" and {len(turned) - _NAMED} more" if len(turned) > _NAMED else ""
    return (
        f"{counted(len(turned), 'picture')} put upright, by EXIF orientation: {', '.join(turned[:_NAMED])}{more}. The "
        "results lie on the picture as it is to be seen, not as it is stored.",
    )


def _not_alone(study: Path, others: int) -> InputError:
    return InputError(
        study,
        found=f"a study (DICOM or NIfTI) together with {others} other input(s)",
        needed="one study, or pictures only",
        remedy="name the folder that holds the study's files; `bleedmap batch` takes many studies",
    )


def _expand(paths: list[Path]) -> tuple[list[Path], list[Ignored]]:
    """List each file once: folders are opened, masks and files of another kind are set apart."""
    files: dict[Path, Path] = {}
    ignored = []
    for given in paths:
        inside = given.is_dir()
        for path in sorted(given.iterdir(), key=natural) if inside else [given]:
            reason = _why_ignored(path, inside)
            if reason:
                ignored.append(Ignored(path, reason))
            else:
                files.setdefault(path.resolve(), path)
    return list(files.values()), ignored


def _why_ignored(path: Path, in_folder: bool) -> str | None:
    if path.stem.lower().endswith(CT_ICH_MASK_ENDING):
        return "a reference mask of CT-ICH"
    if not in_folder:
        return None  # named by the user: whatever is wrong with it is an error
    if path.name.startswith(".") or path.is_dir():  # what a Mac leaves beside each file is hidden: ._slice.jpg
        return "hidden" if path.name.startswith(".") else "a folder"
    if nifti.is_nifti(path):
        return "a NIfTI volume; name the file itself to segment it"
    if images.is_picture(path):
        return None
    kind = identify(path)
    return f"{kind.words}, no picture" if kind else "no picture"


def _nothing(paths: list[Path], ignored: list[Ignored]) -> InputError:
    seen = "; ".join(f"{spell(one.path.name)}: {one.reason}" for one in ignored[:5])
    more = f"; and {len(ignored) - 5} more" if len(ignored) > 5 else ""
    return InputError(
        ", ".join(map(str, paths)),
        found=f"no slice to segment ({seen}{more})" if ignored else "an empty folder",
        needed=f"a DICOM study, one NIfTI volume, or slices as pictures ({images.KINDS})",
        remedy="name the folder that holds the slices, or the files themselves",
    )


def natural(path: Path) -> list[tuple[int, str]]:
    """A sort key that puts 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _name_pictures(files: list[Path]) -> tuple[Picture, ...]:
    """Stems as every disk takes them, numbered where two would meet."""
    names = [fit_name(path.stem, "picture") for path in files]
    stems, taken = {fold_name(one) for one in names}, set[str]()
    pictures = []
    for path, name in zip(files, names, strict=True):
        chosen = number_name(name, taken | stems) if fold_name(name) in taken else name
        taken.add(fold_name(chosen))
        pictures.append(Picture(path, chosen))
    return tuple(pictures)
