"""Pair images with their reference masks by their files' names and folders alone, in the layouts that people use.

Beside each other: `14.jpg` and `14_HGE_Seg.jpg`, `x.nii.gz` and `x_seg.nii.gz`, `image_1.png` and `mask_1.png`, or a
folder for each study with `image.nii.gz` and `label.nii.gz`. In two folders, anywhere below: `images/a/1.png` and
`masks/a/1.png`, `a/CT/x.nii` and `a/segmentation/x.nii`, nnU-Net's `imagesTr/x_0000.nii.gz` and `labelsTr/x.nii.gz`. In
BIDS the mask ends with `_dseg` and may lie among the derivatives: `sub-01/ct/sub-01_ct.nii.gz` and
`…/sub-01_desc-manual_dseg.nii.gz`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bleedmap.io.images import SUFFIXES
from bleedmap.io.names import compose

Kind = Literal["pictures", "nifti"]

# Words of file and folder names, in lower case. What ends with 'mask' is one too: 'lesionmask'.
_MASK = frozenset((
    "mask", "masks", "seg", "segs", "segmentation", "segmentations", "label", "labels", "labelmap", "dseg", "annot",
    "annotation", "annotations", "truth", "truths", "groundtruth", "groundtruths", "gt", "roi", "rois", "voi", "vois",
))  # fmt: skip
_BESIDE_MASK = frozenset(("ground", "lesion", "lesions", "hge", "hemorrhage", "bleed", "bleeds"))
_IMAGE = frozenset((
    "image", "images", "img", "imgs", "ct", "cts", "ncct", "scan", "scans", "data", "volume", "volumes", "brain",
    "slice", "slices", "picture", "pictures", "raw", "input", "inputs",
))  # fmt: skip
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")  # 'labelsTr' is two, '0ROI' too
_APART = "_-. "
_Parts = tuple[str, ...]  # of a place below a folder
_OTHER_NAME = "no mask of the name that --mask-name gives"
_PROBABILITY = re.compile(r"[_-]probseg$", re.IGNORECASE)
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

    `unclear`: images that are left out because more than one mask may be theirs, or their mask another's. `spare`:
    masks without an image of this kind.
    """

    pairs: tuple[Pair, ...]
    left_out: tuple[LeftOut, ...]
    unclear: tuple[Pair, ...] = ()
    spare: tuple[Path, ...] = ()


def stem(path: Path) -> str:
    """Return a file's name without its ending; '.nii.gz' is one ending. Its accents are spelled one way."""
    name = re.sub(r"\.gz$", "", compose(path.name), flags=re.IGNORECASE)
    return name.rsplit(".", 1)[0] if "." in name[1:] else name


@dataclass(frozen=True)
class MaskNames:
    """How masks are told by their names.

    Attributes:
        word: what a mask's name begins or ends with, or what its folder is called; None: the usual words.
    """

    word: str | None = None

    def bare(self, name: str) -> tuple[str, ...]:
        """What the image of a mask of this name may be called, the likeliest first; nothing where it names no mask."""
        if self.word is not None:
            word, folded = self.word.casefold(), name.casefold()
            if folded.endswith(word):
                return (name[: len(name) - len(word)].rstrip(_APART),)
            return (name[len(word) :].lstrip(_APART),) if folded.startswith(word) else ()
        words = list(_WORD.finditer(name))
        kinds = [_kind_of(one[0]) for one in words]
        end = len(kinds)
        while end and kinds[end - 1] == "mask":
            end -= 1
        if end < len(kinds):
            at = [words[end].start()]
            while end and kinds[end - 1] == "beside":
                end -= 1
                at.append(words[end].start())
            return tuple(dict.fromkeys(name[:one].rstrip(_APART) for one in at))
        start = next((row for row, kind in enumerate(kinds) if kind != "mask"), len(kinds))
        return (name[words[start].start() :],) if start else ()

    def within(self, name: str) -> str:
        """What the image may be called where a usual word stands within: 'p1' of 'p1_mask_v2'; '' where none does."""
        first = next((one for one in _WORD.finditer(name) if _kind_of(one[0]) == "mask"), None)
        return name[: first.start()].rstrip(_APART) if first and self.word is None else ""

    def is_folder(self, name: str) -> bool:
        """Whether a folder of this name may hold masks."""
        if self.word is not None:
            return name.casefold() == self.word.casefold()
        return any(_kind_of(one) == "mask" for one in _WORD.findall(name))

    def fits(self, path: Path, root: Path) -> bool:
        """Whether a file below `root` may be a mask, by its own name or by that of a folder."""
        return bool(self.bare(stem(path))) or any(map(self.is_folder, _parts(path, root)[:-1]))


USUAL = MaskNames()


def _kind_of(word: str) -> Literal["mask", "beside", "image", ""]:
    folded = word.casefold()
    if folded in _MASK or folded.endswith("mask"):
        return "mask"
    return "beside" if folded in _BESIDE_MASK else "image" if folded in _IMAGE else ""


def _call_image(path: Path) -> tuple[str, ...]:
    """What an image may be called, folded: its name, and the name without what says that it is an image."""
    name, whole = stem(path), _without_channel(path)
    words = list(_WORD.finditer(whole))
    kinds = [_kind_of(one[0]) == "image" for one in words]
    found = [name, whole]
    if kinds and kinds[-1]:
        found.append(whole[: words[-1].start()].rstrip(_APART))
    if kinds and kinds[0]:
        found.append(whole[words[0].end() :].lstrip(_APART))
    return tuple(dict.fromkeys(one.casefold() for one in found))


def pair_by_name(
    files: Iterable[Path], masks: Iterable[Path] | None, folders: tuple[Path, Path], kind: Kind,
    names: MaskNames = USUAL,
) -> Pairing:  # fmt: skip
    """Pair files of one kind.

    Args:
        files: below the images' folder; where `masks` is None, the masks are among them, known by their names and
            folders.
        masks: files below the masks' folder, all of them masks.
        folders: of the images and of the masks, whose inner folders are alike.
        kind: 'pictures', where a number at the end of a name is a slice's, or 'nifti', where it may be a channel's.
        names: how masks are told.
    """
    root, left = folders[0], list[LeftOut]()

    def leave_out(paths: Iterable[Path], reason: str, among: Iterable[Path], below: Path = root) -> list[Path]:
        gone = set(paths)
        left.extend(LeftOut(_display(path, below), reason) for path in among if path in gone)
        return [path for path in among if path not in gone]

    files = list(files)
    files = leave_out(filter(_is_map, files), "a probability map, by its name", files)
    if kind == "nifti":
        first = {path.with_name(stem(path)[:-5]) for path in files if stem(path).endswith("_0000")}
        channels = [one for one in files if _CHANNEL.search(stem(one)) and not stem(one).endswith("_0000")]
        other = [one for one in channels if one.with_name(stem(one)[:-5]) in first]
        files = leave_out(other, "another channel of an image", files)
    if masks is not None:
        masks = [path for path in masks if not _is_map(path)]
        if names.word is not None:
            unlike = [path for path in masks if not names.fits(path, folders[1])]
            masks = leave_out(unlike, _OTHER_NAME, masks, folders[1])
        return _match(_pair_apart(files, masks, folders, names), root, folders[1], left)
    if names.word is not None:
        usual = _bare(files, USUAL)
        unlike = [one for one in files if (usual[one] or USUAL.fits(one, root)) and not names.fits(one, root)]
        files = leave_out(unlike, _OTHER_NAME, files)
    found = _pair_beside(files, root, names)
    found.images = leave_out(found.copies, "a copy, beside a folder of images with the same names", found.images)
    return _match(found, root, root, left)


@dataclass
class _Found:
    """Images, masks, and which masks may belong to which image.

    `folders`: of images, as the parts of their places; they are no part of a study's name. `copies`: images of a
    mask that has one in a folder of images.
    """

    images: list[Path]
    masks: list[Path]
    of: dict[Path, list[Path]]
    folders: set[_Parts]
    copies: set[Path]


def _pair_apart(images: Sequence[Path], masks: Sequence[Path], folders: tuple[Path, Path], names: MaskNames) -> _Found:
    """Pair with the masks of a folder of their own: at the same place in it; else by a name that comes once."""
    by_place: dict[tuple[_Parts | None, str], list[Path]] = defaultdict(list)
    for path in masks:
        for bare in call_mask(path, names):
            by_place[_parts(path, folders[1])[:-1], bare].append(path)
            by_place[None, bare].append(path)
    inside = Counter(path.parent for path in images)
    times = Counter(name for path in images for name in _call_image(path))
    of = {}
    for image in images:
        above = _parts(image, folders[0])[:-1]
        keys: list[tuple[_Parts | None, str]] = [(above, name) for name in _call_image(image)]
        keys += [(None, name) for name in _call_image(image) if name and times[name] == 1]
        if above and inside[image.parent] == 1:  # P1/scan.nii.gz has the mask P1.nii.gz
            keys.append((None, above[-1].casefold()))
        of[image] = next((by_place[key] for key in keys if key in by_place), [])
    return _add_bids(_Found(list(images), list(masks), of, set(), set()))


def _pair_beside(files: Sequence[Path], root: Path, names: MaskNames) -> _Found:
    """Pair with masks among the images, known by their own names or by their folders'."""
    bare = _bare(files, names)
    found = _pair_folders(files, [path for path in files if not bare[path]], root, names)
    found.masks = [path for path in files if bare[path] or path in set(found.masks)]
    found.images = [path for path in files if path not in set(found.masks)]
    beside: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in found.masks:
        for name in bare[path]:
            beside[path.parent, name.casefold()].append(path)
    of = {}
    for image in found.images:
        near = next((beside[key] for name in _call_image(image) if (key := (image.parent, name)) in beside), [])
        of[image] = list(dict.fromkeys([*near, *found.of.get(image, ())]))
    taken = {mask for several in of.values() for mask in several}
    alone = Counter(path.parent for path in found.images)
    for image in found.images:  # with the masks of its readers in a folder: image.nii.gz, label_reader_1.nii.gz
        if alone[image.parent] == 1 and not of[image]:
            of[image] = [path for path in found.masks if path.parent == image.parent and path not in taken]
    found.of = of
    return _add_bids(found)


def _bare(files: Sequence[Path], names: MaskNames) -> dict[Path, tuple[str, ...]]:
    """What the image of each file may be called; nothing where it is no mask.

    'p1_mask_v2' is one beside a 'p1'; 'roi_1' is none beside its 'roi_1_mask'.
    """
    bare = {path: names.bare(stem(path)) for path in files}
    masked = {(path.parent, one.casefold()) for path, several in bare.items() for one in several}
    bare |= {path: () for path in files if (path.parent, stem(path).casefold()) in masked}
    images = {(path.parent, name) for path in files if not bare[path] for name in _call_image(path)}
    for path in files:
        within = names.within(stem(path))
        if not bare[path] and within and (path.parent, within.casefold()) in images:
            bare[path] = (within,)
    return bare


def _pair_folders(files: Sequence[Path], images: Sequence[Path], root: Path, names: MaskNames) -> _Found:
    """Pair files by a folder that is called one of masks: beside one of images, or inside it.

    Only what has a mate counts: a folder called 'label_192' may hold both.
    """
    beside: dict[tuple[_Parts, _Parts, str], list[tuple[Path, str]]] = defaultdict(list)
    above: dict[tuple[_Parts, str], list[Path]] = defaultdict(list)
    for path in images:
        parts = _parts(path, root)
        for name in _call_image(path):
            above[parts[:-1], name].append(path)
            for row, part in enumerate(parts[:-1]):
                if not names.is_folder(part):
                    beside[parts[:row], parts[row + 1 : -1], name].append((path, part))
    found = _Found([], [], defaultdict(list), set(), set())
    rows = {path: [row for row, part in enumerate(_parts(path, root)[:-1]) if names.is_folder(part)] for path in files}
    of_masks: set[_Parts] = set()  # folders
    mask_folders: dict[_Parts, set[str]] = defaultdict(set)  # above -> their names
    for path in files:
        for row in rows[path]:
            mask_folders[_parts(path, root)[:row]].add(_parts(path, root)[row])
    for path in sorted((path for path in files if rows[path]), key=lambda one: -rows[one][-1]):
        parts = _parts(path, root)
        for row in [] if path in found.of else reversed(rows[path]):
            outer, inner = parts[:row], parts[row + 1 : -1]
            all_mates = {image: part for name in call_mask(path, names) for image, part in beside[outer, inner, name]}
            only = len(mask_folders[outer]) == 1  # then it is theirs, whatever else it is called
            mates = {
                image: part for image, part in all_mates.items()
                if _fit(part, parts[row], names) or (only and _fold(part)[1])
            }  # fmt: skip
            sure = {image: part for image, part in mates.items() if _fold(part)[1]}
            found.copies |= set(mates) - set(sure) if sure else set()
            found.folders |= {(*outer, part) for part in (sure or mates).values()}
            nested = {image: "" for name in call_mask(path, names) for image in above[outer + inner, name]}
            for image in (mates := sure or mates or nested):
                found.of[image].append(path)
            if mates:
                of_masks.add(parts[: row + 1])
                found.masks.append(path)
                break
    found.masks += [
        path for path in files if path not in found.of and path not in set(found.masks)
        and any(_parts(path, root)[: row + 1] in of_masks for row in rows[path])
    ]  # fmt: skip
    return found


def _fold(folder: str) -> tuple[tuple[str, ...], bool]:
    """A folder's words beside those for images and masks, and whether it is called one of images."""
    words = [one.casefold() for one in _WORD.findall(folder)]
    return tuple(one for one in words if not _kind_of(one)), any(_kind_of(one) == "image" for one in words)


def _fit(images: str, masks: str, names: MaskNames) -> bool:
    """Whether a folder of images goes with one of masks: 'imagesTr' with 'labelsTr', and anything with 'masks'."""
    (rest, is_image), rest_of_masks = _fold(images), () if names.word is not None else _fold(masks)[0]
    return rest == rest_of_masks or (not is_image and not rest_of_masks)


def _add_bids(found: _Found) -> _Found:
    """Give an image of BIDS that has no mask yet its subject's, wherever it lies."""
    by_subject: dict[str, list[Path]] = defaultdict(list)
    for path in found.masks:
        for bare in USUAL.bare(stem(path))[:1] if _BIDS.match(path.name) else ():
            by_subject[_BIDS_OF_MASK.sub("", bare).casefold()].append(path)
    for image in found.images:
        if not found.of[image] and _BIDS.match(image.name):
            found.of[image] = next((by_subject[name] for name in _call_image(image) if name in by_subject), [])
    return found


def _match(found: _Found, root: Path, masks_root: Path, left: list[LeftOut]) -> Pairing:
    """Give each image its one mask; images that are claimed twice are left out, masks that nobody claims are spare."""
    of = {image: found.of[image] for image in found.images}
    claims = Counter(mask for several in of.values() for mask in several)
    pairs, unclear = [], []
    for image, several in of.items():
        name = _name(image, root, found.folders)
        if len(several) > 1:
            reason = "several files are named as its mask"
        elif any(claims[mask] > 1 for mask in several):
            reason = "another image has the same mask, by their names"
        else:
            pairs.append(Pair(name, image, several[0] if several else None))
            continue
        unclear.append(Pair(name, image, None))
        masks = ", ".join(_display(one, masks_root) for one in several)
        left.append(LeftOut(f"{_display(image, root)} ({masks})", reason))
    spare = tuple(mask for mask in found.masks if not claims[mask])
    return Pairing(tuple(pairs), tuple(left), tuple(unclear), spare)


def call_mask(path: Path, names: MaskNames) -> tuple[str, ...]:
    """What the image of a mask may be called, folded, where its folder is one of masks; the likeliest first."""
    name = stem(path)
    words = list(_WORD.finditer(name))
    beside = words and _kind_of(words[-1][0]) == "beside"  # x_lesion, where the folder says that it is a mask
    found = (name, *names.bare(name), *([name[: words[-1].start()].rstrip(_APART)] if beside else ()))
    return tuple(dict.fromkeys(one.casefold() for one in (*found, names.within(name) or name)))


def _is_map(path: Path) -> bool:
    return _PROBABILITY.search(stem(path)) is not None


def _name(image: Path, root: Path, folders: set[_Parts]) -> str:
    *above, _ = parts = _parts(image, root)
    kept = [part for row, part in enumerate(above) if parts[: row + 1] not in folders]
    return "/".join([*kept, _without_channel(image)])


def _without_channel(path: Path) -> str:
    """A file's name without its ending and nnU-Net's number; of a picture that number is a slice's."""
    name = stem(path)
    return name.removesuffix("_0000") if path.suffix.lower() not in SUFFIXES else name


def _parts(path: Path, root: Path) -> _Parts:
    return tuple(map(compose, path.relative_to(root).parts))


def _display(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
