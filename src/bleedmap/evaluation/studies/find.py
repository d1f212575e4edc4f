"""Find the studies of a folder that have a reference: a mask (pictures, NIfTI, DICOM SEG), or lines in a table.

If a folder holds DICOM or NIfTI, its pictures are taken for previews and left out.
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bleedmap.archive.find import Source, display_path, find_studies, plain_files
from bleedmap.arrays import ignore
from bleedmap.errors import InputError
from bleedmap.evaluation.studies.case_index import CaseIndex
from bleedmap.evaluation.studies.labels import Labels, LabelTable, Line, Role, gather_labels, read_labels, table_error
from bleedmap.evaluation.studies.pairs import LeftOut, MaskNames, Pair, Pairing, call_mask, pair_by_name, stem
from bleedmap.io import images, nifti
from bleedmap.io.dicom.files import holds_dicom, scan
from bleedmap.io.dicom.header import find_sop_class, text
from bleedmap.io.dicom.seg_read import SEGMENTATIONS
from bleedmap.io.kinds import identify
from bleedmap.io.names import compose
from bleedmap.study.inputs import natural

NoMask = Literal["unknown", "lesion-free"]
Kind = Literal["pictures", "NIfTI", "DICOM"]
_NUMBERED = re.compile(r"^(.+?)[_. -]+(?:slice)?\d+$", re.IGNORECASE)
_SEVERAL = "a line for several studies"
_SPLIT = "as many readers say that it bleeds as that it does not"
_OTHER_VOLUMES = (".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".mgz", ".mgh", ".mnc", ".npy", ".mat")
_WINDOWS = ("brain", "bone")  # CT-ICH: the same slices in two windows, each in a folder of its own


@dataclass(frozen=True)
class Case:
    """One study with its reference.

    `images`: pictures in the order of their numbers; or the one NIfTI file; or all DICOM files of the study.
    `masks`: of each picture, None for a slice without lesion; or the one mask file, or none; or the SEG objects. A
    DICOM study without SEG objects may have a mask as NIfTI.
    """

    name: str  # of the study, as reports and `patients.csv` have it: its place below the folder
    kind: Kind  # what its files are
    images: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    uid: str | None = None  # Study Instance UID, for DICOM
    labels: Labels | None = None  # the reference where it is no mask
    mask_labels: frozenset[int] = frozenset()  # numbers in the masks that are hemorrhage; none: all but 0

    @property
    def digest(self) -> str:
        """Digest of the files' names, sizes and times, and of the labels: another after one was changed."""
        digest = hashlib.sha256()
        if self.labels is not None:
            digest.update(f"{self.labels.bleeds} {sorted(self.labels.slices or ())}\0".encode())
        if self.mask_labels:
            digest.update(f"{sorted(self.mask_labels)}\0".encode())
        for path in (*self.images, *(one for one in self.masks if one is not None)):
            now = path.stat() if path.exists() else None
            state = "gone" if now is None else f"{now.st_size} {now.st_mtime_ns}"
            digest.update(f"{path}\0{state}\0".encode("utf-8", "backslashreplace"))
        return digest.hexdigest()

    def read_text(self, keyword: str) -> str | None:
        """Read a text of the first DICOM header that can be read; None where there is none, as in other files."""
        for path in self.images if self.kind == "DICOM" else ():
            with suppress(InputError, IndexError):
                return text(scan(path).files[0].header, keyword)
        return None

    @property
    def images_sha256(self) -> str:
        """Hash of the images' bytes, by which a study is known again under any name."""
        hashes = [hash_file(path) for path in self.images]
        return hash_words(hashes if self.kind == "pictures" else sorted(hashes))  # of pictures the order counts


def hash_file(path: Path | None) -> str:
    """SHA-256 of a file; words for none."""
    if path is None:
        return "no mask"
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_words(words: Sequence[str]) -> str:
    """SHA-256 of words in their order."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


@dataclass(frozen=True)
class Cases:
    """What a folder holds."""

    folder: Path  # that was searched
    cases: tuple[Case, ...]  # the studies to measure, in the order of their names
    left_out: tuple[LeftOut, ...]  # studies and files that are not measured, each with its reason
    notes: tuple[str, ...]  # how the folder was understood, in sentences


@dataclass(frozen=True)
class Places:
    """Where to look."""

    studies: Path  # the folder of images
    masks: Path | None  # that of the masks; None where they lie among or beside the images
    results: Path  # the program's own folder, which may lie inside
    no_mask: NoMask  # what a slice or study without a mask file is; with labels, a study without a line
    labels: Path | None = None  # a table of labels, in place of masks
    label_columns: tuple[tuple[Role, str], ...] = ()  # of that table: what a column of this name is
    mask_name: str | None = None  # what masks' names begin or end with, or what their folders are called
    mask_labels: frozenset[int] = frozenset()  # numbers in the masks that are hemorrhage; none: all but 0


def find_cases(places: Places, seen: Callable[[int], None] = ignore) -> Cases:
    """Find every study that has a reference.

    Args:
        seen: called with the number of DICOM files looked at so far.

    Raises:
        InputError: no such folder, or nothing in it that can be measured, with the reasons.
    """
    for folder in filter(None, (places.studies, places.masks)):
        if not folder.is_dir():
            found = "is a file" if folder.exists() else "no such folder"
            raise InputError(folder, found=found, needed="a folder", remedy="check the path")
    if places.labels is not None:
        return _find_labelled(places, read_labels(places.labels, places.label_columns), seen)
    left: list[LeftOut] = []
    notes: list[str] = []
    cases, spare = _find_pairs(places, "nifti", left, notes)
    if holds_dicom(places.studies):
        cases += _find_dicom(places, spare, left, seen)
    if not cases and not left and not spare:
        cases, spare = _find_pairs(places, "pictures", left, notes)
    left += [LeftOut(_place(path, places), "a mask without its image") for path in spare]
    left += _list_other_volumes(places)
    if places.no_mask == "lesion-free":
        notes.append("A slice or study without a mask file counts as free of lesions: --no-mask-means lesion-free.")
        if spare:
            masks = "1 mask fits" if len(spare) == 1 else f"{len(spare):,} masks fit"
            notes.append(f"{masks} no image by name: studies that are theirs may count as free of lesions.")
    if places.mask_labels:
        notes.append(f"Hemorrhage in masks: label {', '.join(map(str, sorted(places.mask_labels)))}; others are not.")
    if not cases:
        raise _explain_nothing(places, left)
    cases = [replace(one, mask_labels=places.mask_labels) for one in _tell_apart(cases, places.studies)]
    cases.sort(key=lambda one: [natural(Path(part)) for part in one.name.split("/")])
    return Cases(places.studies, tuple(cases), tuple(left), (*notes, *_note_copies(cases)))


def _note_copies(cases: Sequence[Case]) -> list[str]:
    """Note studies that are there twice; only those whose files have the same sizes are hashed."""
    by_sizes: dict[tuple[int, ...], list[Case]] = defaultdict(list)
    for one in cases:
        by_sizes[tuple(path.stat().st_size for path in one.images)].append(one)
    copies: dict[str, list[str]] = defaultdict(list)
    for alike in by_sizes.values():
        for one in alike if len(alike) > 1 else ():
            copies[one.images_sha256].append(one.name)
    same = [names for names in copies.values() if len(names) > 1]
    shown = "; ".join(" and ".join(names) for names in same[:3]) + ("; …" if len(same) > 3 else "")
    return [f"The same images under several names, each of which counts: {shown}."] if same else []


def _list_other_volumes(places: Places) -> list[LeftOut]:
    """Volumes in forms that are not read: a reader's masks may be among them."""
    found: dict[Path, LeftOut] = {}
    for folder in filter(None, (places.studies, places.masks)):
        for path in plain_files(folder, places.results)[0]:
            if path.suffix.lower() in _OTHER_VOLUMES and (kind := identify(path)) and not kind.nifti:
                found[path.resolve()] = LeftOut(_place(path, places), f"{kind.words}: not read, save it as NIfTI")
    return list(found.values())


def _place(path: Path, places: Places) -> str:
    """A file's place below the folder of studies or of masks."""
    below = next(one for one in (places.studies, places.masks) if one is not None and path.is_relative_to(one))
    return display_path(path.relative_to(below))


def _tell_apart(cases: list[Case], folder: Path) -> list[Case]:
    """Name NIfTI studies that would have another study's name by their whole place: one's results would be both's."""
    times = Counter(one.name for one in cases)
    return [
        replace(one, name=one.images[0].relative_to(folder).as_posix())
        if one.kind == "NIfTI" and times[one.name] > 1 else one
        for one in cases
    ]  # fmt: skip


def _find_labelled(places: Places, table: LabelTable, seen: Callable[[int], None]) -> Cases:
    """Find the studies with a line in a table of labels; masks that lie there are not read."""
    found = find_cases(replace(places, labels=None, masks=None, no_mask="lesion-free"), seen)
    left = list(found.left_out)
    given = gather_labels(table.path, _name_cases(found.cases, table, left))
    cases = []
    split = {one.what for one in left if one.reason == _SPLIT}
    for one in found.cases:
        if one.name in split:
            continue
        if one.name not in given and places.no_mask == "unknown":
            left.append(LeftOut(one.name, "no line in the table of labels"))
            continue
        labels = given.get(one.name, Labels(bleeds=False, slices=frozenset()))
        cases.append(replace(one, masks=(), labels=labels))
    if not cases or not given:
        several = sum(one.reason == _SEVERAL for one in left)
        names = f"none of its {len({one.study for one in table.lines})} names is that of one study in {places.studies}"
        raise table_error(
            table.path, names + (f"; {several} may be of several" if several else ""),
            f"names such as '{found.cases[0].name}'" + (" or its Study Instance UID" if found.cases[0].uid else ""),
        )  # fmt: skip
    notes = [one for one in found.notes if "--no-mask-means" not in one]
    notes += ["The reference is a table of labels: it says which slices or studies bleed, not where.", *table.notes]
    if places.no_mask == "lesion-free":
        notes.append("A study without a line counts as free of lesions: --no-mask-means lesion-free.")
    return Cases(places.studies, tuple(cases), tuple(left), tuple(notes))


def _name_cases(cases: Sequence[Case], table: LabelTable, left: list[LeftOut]) -> list[Line]:
    """Put each line's study and slice as the cases have them; lines without a study, or of several, go to `left`."""
    index = CaseIndex(cases)
    named: list[Line] = []
    told: dict[str, str] = {}  # case -> the study's name in the table
    reasons: dict[tuple[str, str], str] = {}  # (name, reason) -> what is left out; a name may be a Patient ID
    for line in table.lines:
        mates, part = index.find_study(line.study), line.slice
        of_slice = False
        if table.either and not part and (not mates or "/" in line.study):  # a place below the folder is one file's
            of_one, name = index.find_slice(line.study)
            if of_slice := bool(of_one):
                mates, part = of_one, name
        if len(mates) != 1:
            reason = "a line of the table of labels, but no such study" if not mates else _SEVERAL
            reasons.setdefault((line.study, reason), f"line {line.number}")
            continue
        case = mates[0]
        if not of_slice and told.setdefault(case.name, line.study) != line.study:
            found = f"labels '{case.name}' as '{told[case.name]}' and as '{line.study}'"
            raise table_error(table.path, found, "one name a study")
        if line.bleeds is None:
            reasons[case.name, _SPLIT] = case.name
        named.append(replace(line, study=case.name, slice=index.find_name(case, part) if part else ""))
    left += [LeftOut(what, reason) for (_, reason), what in reasons.items()]
    return named


def _find_pairs(
    places: Places, kind: Literal["pictures", "nifti"], left: list[LeftOut], notes: list[str]
) -> tuple[list[Case], list[Path]]:
    """Find the studies of one kind of file, and masks of none of them; what is left out goes to the lists."""
    found = _pair_files(places, kind)
    left += found.left_out
    spare, pairs = list(found.spare), list(found.pairs)
    if kind == "nifti" and holds_dicom(places.studies):  # whose masks may lie in a folder without images
        names = MaskNames(places.mask_name)
        lone = [one for one in pairs if one.mask is None and names.fits(one.image, places.studies)]
        spare += [one.image for one in lone]
        pairs = [one for one in pairs if one not in lone]
    if not pairs:
        return [], spare
    if kind == "pictures":
        return _group_slices(pairs, found.unclear, places.no_mask, left, notes), spare
    if places.no_mask == "unknown":
        left += [LeftOut(one.name, "no mask") for one in pairs if one.mask is None]
        pairs = [one for one in pairs if one.mask is not None]
    return [Case(one.name, "NIfTI", (one.image,), (one.mask,) if one.mask else ()) for one in pairs], spare


def _pair_files(places: Places, kind: Literal["pictures", "nifti"]) -> Pairing:
    images_at, masks_at = places.studies, places.masks
    files, _ = plain_files(images_at, places.results)
    chosen = [path for path in files if _is_kind(path, kind)]
    bones = [path for path in chosen if path.parent.name.casefold() == "bone"] if kind == "pictures" else []
    left = [LeftOut(path.relative_to(images_at).as_posix(), "a bone window, by its folder's name") for path in bones]
    chosen = [path for path in chosen if path not in set(bones)]
    masks = None
    if masks_at is not None and masks_at.resolve() != images_at.resolve():
        inside = masks_at.resolve()
        chosen = [path for path in chosen if not path.resolve().is_relative_to(inside)]
        masks = [path for path in plain_files(masks_at, places.results)[0] if _is_kind(path, kind)]
    folders = (images_at, images_at if masks is None or masks_at is None else masks_at)
    found = pair_by_name(chosen, masks, folders, kind, MaskNames(places.mask_name))
    return replace(found, left_out=(*left, *found.left_out))


def _is_kind(path: Path, kind: Literal["pictures", "nifti"]) -> bool:
    return nifti.is_nifti(path) if kind == "nifti" else path.suffix.lower() in images.SUFFIXES


def _group_slices(
    pairs: Sequence[Pair], unclear: Sequence[Pair], no_mask: NoMask, left: list[LeftOut], notes: list[str]
) -> list[Case]:
    """Group pictures by patient; a patient with a slice of which nothing is known is left out whole."""
    cases = []
    for name, slices in _sort_by_patient([*pairs, *unclear], notes).items():
        ordered = sorted(slices, key=lambda one: natural(one.image))
        lost = sum(one in unclear for one in ordered)
        if lost:
            if lost < len(ordered):  # else each slice stands there by itself
                left.append(LeftOut(f"{name} ({lost} of {len(ordered)} slices)", "slices whose mask is not clear"))
            continue
        without = sum(one.mask is None for one in ordered)
        if without and no_mask == "unknown":
            all_of = f"{without} of {len(ordered)} slices have no mask"
            left.append(LeftOut(f"{name} ({all_of})", "slices without a mask"))
        else:
            cases.append(
                Case(name, "pictures", tuple(one.image for one in ordered), tuple(one.mask for one in ordered))
            )
    return cases


def _sort_by_patient(pairs: Sequence[Pair], notes: list[str]) -> dict[str, list[Pair]]:
    """Take each folder for a patient; in a single folder, files whose names begin alike are one, if all names fit."""
    groups: dict[str, list[Pair]] = defaultdict(list)
    for one in pairs:
        groups[_name_patient_folder(one)].append(one)
    if len(groups) > 1:
        notes.append(f"Pictures: each of {len(groups)} folders is taken for one patient.")
        return groups
    matches = {one.name: _NUMBERED.match(stem(one.image)) for one in pairs}
    beginnings = Counter(match[1] for match in matches.values() if match)
    if all(matches.values()) and len(beginnings) > 1:
        groups.clear()
        for one in pairs:
            match = matches[one.name]
            groups[match[1] if match else one.name].append(one)
        notes.append(f"Pictures in one folder: {len(groups)} patients by what their names begin with.")
        return groups
    notes.append("Pictures in one folder, whose names do not tell patients: each is taken for a patient of its own.")
    return {one.name: [one] for one in pairs}


def _name_patient_folder(one: Pair) -> str:
    parts = Path(one.name).parts[:-1]
    parts = parts[:-1] if parts and parts[-1].casefold() in _WINDOWS else parts
    return "/".join(parts) or "."


def _find_dicom(places: Places, spare: list[Path], left: list[LeftOut], seen: Callable[[int], None]) -> list[Case]:
    """Find the DICOM studies, with the SEG objects that belong to them by their UIDs; the rest goes to `left`.

    Of `spare`, NIfTI masks without an image, those of a study without SEG objects are taken out.
    """
    studies: dict[str, tuple[str, list[Path]]] = {}
    objects: dict[str, list[Path]] = defaultdict(list)
    masks = places.masks
    for place in [places.studies] if masks is None or not holds_dicom(masks) else [places.studies, masks]:
        for source in find_studies(place, places.results, seen).sources:
            if nifti.is_nifti(source.path):
                continue
            if source.uid is None or source.path.suffix.lower() == ".zip":
                zipped = source.path.suffix.lower() == ".zip"
                left.append(LeftOut(source.place, "a zip: unpack it" if zipped else "DICOM that cannot be read"))
                continue
            of_images, of_masks = _sort_files(source)
            if of_images:
                name = compose(source.place if source.place != "." else place.resolve().name)
                studies.setdefault(source.uid, (name, []))[1].extend(of_images)
            objects[source.uid] += [one for one in of_masks if one not in objects[source.uid]]
    lost = [path for uid, paths in objects.items() if uid not in studies for path in paths]
    left += [LeftOut(display_path(path), "a SEG object of a study that is not in the folder") for path in lost]
    times = Counter(place for place, _ in studies.values())
    cases = [
        Case(
            place if times[place] == 1 else f"{place}#{uid}", "DICOM", tuple(dict.fromkeys(files)),
            tuple(objects.get(uid, ())), uid,
        )
        for uid, (place, files) in studies.items()
    ]  # fmt: skip
    volumes = _find_volume_masks(cases, spare, places)
    several = {name: paths for name, paths in volumes.items() if len(paths) > 1}
    left += [
        LeftOut(f"{name} ({', '.join(_place(one, places) for one in paths)})", "several files are named as its mask")
        for name, paths in several.items()
    ]  # fmt: skip
    cases = [
        replace(one, masks=one.masks or tuple(volumes.get(one.name, ()))) for one in cases if one.name not in several
    ]
    if places.no_mask == "unknown":
        left += [LeftOut(one.name, "no SEG object, and no mask as NIfTI") for one in cases if not one.masks]
        cases = [one for one in cases if one.masks]
    return cases


def _find_volume_masks(cases: Sequence[Case], spare: list[Path], places: Places) -> dict[str, list[Path]]:
    """Find NIfTI masks of DICOM studies, by a name that is the study's UID or one of its folders', or by their folder.

    They are taken out of `spare`. A mask that may be of several studies stays.
    """
    names, found = MaskNames(places.mask_name), defaultdict[str, list[Path]](list)
    open_cases = [one for one in cases if not one.masks]
    for path in list(spare):
        root = next(one for one in (places.masks, places.studies) if one is not None and path.is_relative_to(one))
        above = tuple(one for one in map(compose, path.relative_to(root).parts[:-1]) if not names.is_folder(one))
        called = set(call_mask(path, names))
        mates = [
            one for one in open_cases if called & {part.casefold() for part in (*one.name.split("/"), one.uid or "")}
        ]
        if not mates:
            mates = [one for one in open_cases if _lies_in(above, one, root)]
        if len(mates) == 1:
            found[mates[0].name].append(path)
            spare.remove(path)
    return found


def _lies_in(above: tuple[str, ...], case: Case, root: Path) -> bool:
    """Whether a mask below these folders lies in the study's folder, or in one that holds the whole study."""
    of_case = tuple(case.name.partition("#")[0].split("/"))
    if Path(os.path.commonpath([one.parent for one in case.images])) == root:
        return True
    shorter = min(len(above), len(of_case))
    return shorter > 0 and above[:shorter] == of_case[:shorter]


def _sort_files(source: Source) -> tuple[list[Path], list[Path]]:
    """Tell a study's files of images, unreadable ones among them, from its SEG objects."""
    image_files: list[Path] = []
    seg_files: list[Path] = []
    for path in map(Path, source.files):
        try:
            kinds = {find_sop_class(file.header) for file in scan(path).files}
        except InputError:
            kinds = set()
        (seg_files if kinds & set(SEGMENTATIONS) else image_files).append(path)
    return image_files, seg_files


def _explain_nothing(places: Places, left: Sequence[LeftOut]) -> InputError:
    reasons = Counter(one.reason for one in left)
    first = {one.reason: one.what for one in reversed(left)}
    found = "; ".join(
        f"{count:,} × {reason} ({first[reason]}{', …' if count > 1 else ''})" for reason, count in reasons.items()
    )
    several = any("several files" in reason for reason in reasons)
    unknown = any("no mask" in reason or "without a mask" in reason or "no SEG" in reason for reason in reasons)
    remedy = (
        "name the masks after their images, x_mask beside x, or lay them into a folder 'masks' beside 'images'; or "
    )
    remedy += "give their folder with --masks, or what their names end with by --mask-name"
    if several:
        remedy = "say which file is the mask, by --mask-name: what its name begins or ends with"
    elif unknown:
        remedy += ". Only if a slice or study without a mask file has no lesion: --no-mask-means lesion-free"
    return InputError(
        places.studies,
        found=f"no study can be measured: {found}" if found else "holds no pictures, NIfTI files or DICOM",
        needed="images and their masks, as docs/external-validation.md shows", remedy=remedy,
    )  # fmt: skip
