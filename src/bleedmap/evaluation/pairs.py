"""Pair images with their reference masks by their files' names alone, in the layouts that people use.

Beside each other: `14.jpg` and `14_HGE_Seg.jpg`, `x.nii.gz` and `x_seg.nii.gz`. In parallel folders of equal names:
`images/a/1.png` and `masks/a/1.png`; nnU-Net's `imagesTr/x_0000.nii.gz` and `labelsTr/x.nii.gz`. In BIDS the mask ends
with `_dseg` and may lie among the derivatives: `sub-01/ct/sub-01_ct.nii.gz` and `…/sub-01_desc-manual_dseg.nii.gz`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["pictures", "nifti"]

PARALLEL = (  # folder of images, folder of masks, side by side
    ("images", "masks"), ("images", "labels"), ("image", "mask"), ("image", "label"),
    ("imagesTr", "labelsTr"), ("imagesTs", "labelsTs"), ("ct_scans", "masks"),
)  # fmt: skip
_MASK = re.compile(r"[_-](hge_seg|mask|masks|seg|segmentation|label|labels|dseg)$", re.IGNORECASE)
_PROBABILITY = re.compile(r"[_-]probseg$", re.IGNORECASE)
_VOLUME = re.compile(r"_(0000|ct|image|img)$", re.IGNORECASE)  # of a NIfTI image's name, not of its mask's
_CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net's: only the first is CT
_BIDS = re.compile(r"^sub-[A-Za-z0-9]+")
_BIDS_OF_MASK = re.compile(r"_(desc|label|space|res|den|atlas)-[A-Za-z0-9]+")  # entities that derivatives add


@dataclass(frozen=True)
class Pair:
    """An image and its mask; None where no file is named as its mask."""

    name: str  # the image's place below its folder, without endings
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class LeftOut:
    """A file or study that is not measured, and why, in a clause."""

    what: str
    reason: str


@dataclass(frozen=True)
class Pairing:
    """All images of one kind with their masks, in the order given, and the files that are neither.

    `unclear`: images that are left out because more than one mask may be theirs, or their mask another's.
    """

    pairs: tuple[Pair, ...]
    left_out: tuple[LeftOut, ...]
    unclear: tuple[Pair, ...] = ()


def stem(path: Path) -> str:
    """Return a file's name without its ending; '.nii.gz' is one ending."""
    name = re.sub(r"\.gz$", "", path.name, flags=re.IGNORECASE)
    return name.rsplit(".", 1)[0] if "." in name[1:] else name


def pair_by_name(
    images: Iterable[Path], masks: Iterable[Path] | None, folders: tuple[Path, Path], kind: Kind
) -> Pairing:
    """Pair files of one kind.

    Args:
        images: files below the images' folder; where `masks` is None, the masks are among them, known by their names.
        masks: files below the masks' folder, all of them masks.
        folders: of the images and of the masks, whose inner folders are alike.
        kind: 'pictures', where a number at the end of a name is a slice's, or 'nifti', where it may be a channel's.
    """
    images = list(images)
    beside = masks is None
    if masks is None:
        masks = [path for path in images if _MASK.search(stem(path))]
        images = [path for path in images if not _MASK.search(stem(path))]
    left = [LeftOut(_display(path, folders[0]), "a probability map, by its name") for path in images if _is_map(path)]
    images = [path for path in images if not _is_map(path)]
    if kind == "nifti":
        first = {stem(path)[:-5] for path in images if stem(path).endswith("_0000")}
        other = [one for one in images if _CHANNEL.search(stem(one)) and not stem(one).endswith("_0000")]
        other = [one for one in other if stem(one)[:-5] in first]
        left += [LeftOut(_display(path, folders[0]), "another channel of an image") for path in other]
        images = [path for path in images if path not in other]
    return _match(images, _Masks(masks, folders[1], beside=beside), folders[0], kind, left)


class _Masks:
    """Masks by what an image may be called that they belong to."""

    def __init__(self, masks: Sequence[Path] | Iterable[Path], folder: Path, *, beside: bool) -> None:
        self.all, self._folder = tuple(path for path in masks if not _is_map(path)), folder
        self._by_place: dict[tuple[Path, str], list[Path]] = defaultdict(list)
        self._by_subject: dict[str, list[Path]] = defaultdict(list)
        for path in self.all:
            bare = _MASK.sub("", stem(path))
            for name in {bare} if beside else {bare, stem(path)}:
                self._by_place[path.relative_to(folder).parent, name.casefold()].append(path)
            if _BIDS.match(bare):
                self._by_subject[_BIDS_OF_MASK.sub("", bare)].append(path)

    def of(self, image: Path, root: Path, kind: Kind) -> list[Path]:
        """Find the masks of an image."""
        names = [stem(image)]
        if kind == "nifti":
            names.append(_VOLUME.sub("", stem(image)))
        place = image.relative_to(root).parent
        for name in names:
            if found := self._by_place.get((place, name.casefold())):
                return found
        if kind == "nifti" and _BIDS.match(names[0]):
            return next((self._by_subject[name] for name in names if name in self._by_subject), [])
        return []

    def display(self, path: Path) -> str:
        return _display(path, self._folder)


def _match(images: Sequence[Path], masks: _Masks, root: Path, kind: Kind, left: list[LeftOut]) -> Pairing:
    """Give each image its one mask; images and masks that are claimed twice or by nobody are left out."""
    found = {image: masks.of(image, root, kind) for image in images}
    claims: dict[Path, int] = defaultdict(int)
    for several in found.values():
        for mask in several:
            claims[mask] += 1
    pairs, unclear = [], []
    for image, several in found.items():
        shared = [mask for mask in several if claims[mask] > 1]
        if len(several) > 1:
            reason = "several files are named as its mask"
        elif shared:
            reason = "another image has the same mask, by their names"
        else:
            pairs.append(Pair(_name(image, root, kind), image, several[0] if several else None))
            continue
        unclear.append(Pair(_name(image, root, kind), image, None))
        left.append(LeftOut(f"{_display(image, root)} ({', '.join(masks.display(one) for one in several)})", reason))
    left += [LeftOut(masks.display(mask), "a mask without its image") for mask in masks.all if not claims[mask]]
    return Pairing(tuple(pairs), tuple(left), tuple(unclear))


def parallel_folders(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Find the folders of images and of masks that lie side by side in `folder`, by their names."""
    inside = {path.name.casefold(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    for images, masks in PARALLEL:
        if images.casefold() in inside and masks.casefold() in inside:
            yield inside.pop(images.casefold()), inside.pop(masks.casefold())


def _is_map(path: Path) -> bool:
    return _PROBABILITY.search(stem(path)) is not None


def _name(image: Path, root: Path, kind: Kind) -> str:
    bare = _VOLUME.sub("", stem(image)) if stem(image).endswith("_0000") and kind == "nifti" else stem(image)
    return (image.relative_to(root).parent / bare).as_posix()


def _display(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
