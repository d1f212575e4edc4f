"""Sort what the user named into a study or pictures to segment; each is looked into before any work starts."""

import re
from dataclasses import dataclass
from pathlib import Path

from bleedmap.errors import InputError
from bleedmap.io import images, nifti
from bleedmap.io.dicom.files import holds_dicom
from bleedmap.io.kinds import identify

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
    """Sort what was named into study, pictures and ignored files; pictures are decoded once to check them.

    A folder that holds DICOM anywhere is a study, whatever else lies there: previews, reports, converted files.

    Raises:
        InputError: nothing to segment, a study together with something else, or an unusable picture.
    """
    folders = [path for path in paths if path.is_dir() and holds_dicom(path)]
    if folders and len(paths) == 1:
        return Inputs(paths[0], (), ())
    if folders:
        raise _not_alone(folders[0], len(paths) - 1)
    files, ignored = _expand(paths)
    studies = [path for path in files if is_study(path)]
    if studies:
        if len(files) > 1:
            raise _not_alone(studies[0], len(files) - 1)
        return Inputs(studies[0], (), tuple(ignored))
    if not files:
        if len(paths) == 1 and paths[0].is_dir() and not any(nifti.is_nifti(one.path) for one in ignored):
            return Inputs(paths[0], (), ())
        raise _nothing(paths, ignored)
    for path in files:
        images.read_grey(path)
    return Inputs(None, _name_pictures(files), tuple(ignored))


def _not_alone(study: Path, others: int) -> InputError:
    return InputError(
        study,
        found=f"a study (DICOM or NIfTI) together with {others} other input(s)",
        needed="one study, or pictures only",
        remedy="name the folder that holds the study's files; `bleedmap batch` takes many studies",
    )


def is_study(path: Path) -> bool:
    """Whether a file that the user named is for the readers of studies: anything but a picture."""
    if path.is_dir():
        return False
    return path.suffix.lower() not in images.SUFFIXES or nifti.is_nifti(path) or nifti.holds_dicom(path)


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
    if path.is_dir():
        return "a folder"
    if nifti.is_nifti(path):
        return "a NIfTI volume; name the file itself to segment it"
    if path.suffix.lower() in images.SUFFIXES:
        return None
    kind = identify(path)
    return f"{kind.words}, not a JPEG or PNG picture by its name" if kind else "not a JPEG or PNG picture"


def _nothing(paths: list[Path], ignored: list[Ignored]) -> InputError:
    seen = "; ".join(f"{one.path.name}: {one.reason}" for one in ignored[:5])
    more = f"; and {len(ignored) - 5} more" if len(ignored) > 5 else ""
    return InputError(
        ", ".join(map(str, paths)),
        found=f"no slice to segment ({seen}{more})" if ignored else "an empty folder",
        needed="a DICOM study, one .nii or .nii.gz volume, or JPEG or PNG slices",
        remedy="name the folder that holds the slices, or the files themselves",
    )


def natural(path: Path) -> list[tuple[int, str]]:
    """A sort key that puts 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _name_pictures(files: list[Path]) -> tuple[Picture, ...]:
    """Stems, numbered where two would meet, on disks that do not tell upper from lower case too."""
    taken: set[str] = set()
    pictures = []
    stems = {path.stem.lower() for path in files}
    for path in files:
        name, number = path.stem, 1
        while name.lower() in taken or (number > 1 and name.lower() in stems):
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        pictures.append(Picture(path, name))
    return tuple(pictures)
