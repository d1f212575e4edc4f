"""A table that says which studies or slices bleed: read in the forms in which readers and data sets write it."""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from bleedmap.errors import DataError, usable
from bleedmap.io.files import Row, read_csv
from bleedmap.io.names import compose

Role = Literal["study", "slice", "bleeds"]
ROLES: tuple[Role, ...] = ("study", "slice", "bleeds")
YES = ("1", "yes", "true", "x", "y", "ja", "positive", "pos", "present")
NO = ("0", "no", "false", "n", "nein", "negative", "neg", "absent")
CORRECT = "correct the table of labels, or say which columns are meant: --label-column study=NAME, slice=…, bleeds=…"
# Names of columns in lower case, letters and digits alone; the first that a table has is taken.
_STUDY = (
    "study", "studyinstanceuid", "studyuid", "studyid", "case", "caseid", "patient", "patientid",
    "patientnumber", "subject", "subjectid", "scan", "scanid", "exam", "examid", "accessionnumber", "accession",
    "volume",
)  # fmt: skip
_SLICE = ("slice", "sopinstanceuid", "sopuid", "slicenumber", "sliceid", "imageid", "image", "imagename", "picture")
_EITHER = ("name", "id", "filename", "file", "path")  # of a study, or of a slice where the table has no other for it
_ANY = frozenset(("any", "bleeds", "bleed", "bleeding", "ich", "hemorrhage", "haemorrhage", "hemorrhagic", "label"))
_TYPES = frozenset((
    "edh", "epidural", "extradural", "iph", "intraparenchymal", "sdh", "subdural", "ivh", "intraventricular", "sah",
    "subarachnoid",
))  # fmt: skip
_NONE = frozenset(("no", "normal", "healthy"))
_FILLERS = frozenset(("hematoma", "haematoma", "acute"))
_READER = re.compile(r"^(r|reader|rater|radiologist|observer|annotator|annot)$")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ENDING = re.compile(r"[ _-]([A-Za-z]+)$")


@dataclass(frozen=True)
class Labels:
    """What a table says of a study that nobody outlined.

    `slices`: names of the slices that bleed, boxed ones among them; None where the table speaks of the study alone.
    """

    bleeds: bool  # whether it does
    slices: frozenset[str] | None


@dataclass(frozen=True)
class Line:
    """What one line says.

    `study`, `slice`: names, '' where the line has none.
    """

    study: str
    slice: str
    bleeds: bool | None  # None where as many readers say yes as no
    number: int  # of the line in the file


@dataclass(frozen=True)
class LabelTable:
    """A table of labels."""

    path: Path  # of the file
    lines: tuple[Line, ...]  # what it says
    either: bool  # whether the column for the study may hold names of slices
    notes: tuple[str, ...]  # how its columns were understood, in sentences


@dataclass(frozen=True)
class _Finding:
    """The columns of one reader."""

    any: list[str] = field(default_factory=list)  # whether there is a hemorrhage at all
    types: list[str] = field(default_factory=list)  # one for each type
    none: list[str] = field(default_factory=list)  # whether there is none

    def columns(self) -> list[str]:
        """Those that decide."""
        return self.any or self.types or self.none


def read_labels(path: Path, columns: Iterable[tuple[Role, str]] = ()) -> LabelTable:
    """Read a table of labels: a line for each study, each slice, or each box.

    Args:
        path: a table with a name of a study or of a slice in each line, and columns that say whether it bleeds: one,
            or one for each type, each perhaps for several readers, of whom the majority counts. Without such columns a
            line with a slice says that it bleeds. Names may also end with a type: 'ID_1_epidural'. Or boxes: a JSON
            file in COCO's form, or a folder of YOLO's text files; a picture without a box does not bleed.
        columns: role and name of those that the user names, in place of the usual ones.

    Raises:
        DataError: a table that cannot be read, lacks a column, or holds another value.
    """
    if path.is_dir() or path.suffix.lower() == ".json":
        lines = _read_coco(path) if path.is_file() else _read_yolo(path)
        return LabelTable(path, tuple(lines), True, ("Labels: boxes; a picture without one does not bleed.",))
    given: dict[Role, list[str]] = defaultdict(list)
    for role, name in columns:
        given[role].append(name)
    needed = "study or StudyInstanceUID; slice or SOPInstanceUID; bleeds, ICH, or the types of hemorrhage"
    rows = read_table(path, bool, needed, CORRECT)
    names = list(rows[0])
    for name in (one for several in given.values() for one in several if one not in names):
        raise table_error(
            path, f"no column '{name}' (columns {', '.join(names)})", "the column that --label-column names"
        )
    study, either = _find_column(names, (*_STUDY, *_EITHER), given["study"]), False
    one_slice = _find_column([one for one in names if one != study], (*_SLICE, *_EITHER), given["slice"])
    if study is None and one_slice is not None:
        study, one_slice = one_slice, None
        either = True
    elif study is not None and one_slice is None:
        either = not given["study"] and _fold(study) in _EITHER
    readers = {"": _Finding(given["bleeds"])} if given["bleeds"] else _find_readers(names)
    if study is None or not (readers or one_slice or either):
        raise DataError(path, found=f"columns {', '.join(names)}", needed=f"the columns {needed}", remedy=CORRECT)
    named = [(row[study], row[one_slice] if one_slice else "", row, row.line) for row in rows]
    notes = [_describe(study, one_slice, readers)]
    if either and not one_slice and len(readers) == 1 and (long := _split_types(named, readers)) is not None:
        notes = [
            f"Labels: column '{study}' names each line's study or slice and a type; a line with 1 says that it bleeds."
        ]
        return LabelTable(path, tuple(_join_types(path, long, readers)), either, tuple(notes))
    read = [
        Line(*_check_names(path, name, part, number), _decide(path, row, readers, number), number)
        for name, part, row, number in named
    ]
    gather_labels(path, read)  # also where such a study is not in the folder
    return LabelTable(path, tuple(read), either, tuple(notes))


def gather_labels(path: Path, lines: Iterable[Line]) -> dict[str, Labels]:
    """Put the lines of each study together; of a study with lines for slices, the others do not bleed.

    Lines on which readers are split say nothing.

    Raises:
        DataError: they contradict each other.
    """
    studies: dict[str, bool] = {}
    slices: dict[str, set[str]] = {}
    for line in lines:
        if line.bleeds is None:
            continue
        if line.slice:
            slices.setdefault(line.study, set()).update({line.slice} if line.bleeds else ())
        elif studies.setdefault(line.study, line.bleeds) != line.bleeds:
            found = f"line {line.number} says the opposite of study '{line.study}' than before"
            raise table_error(path, found, "one word a study")
    for study, named in slices.items():
        if studies.get(study, bool(named)) != bool(named):
            said = "to bleed, and none of its slices" if studies[study] else "not to bleed, and a slice of it to"
            raise table_error(path, f"study '{study}' is said {said}", "lines that agree")
    found_slices = {study: Labels(bool(named), frozenset(named)) for study, named in slices.items()}
    alone = {study: Labels(bleeds, None if bleeds else frozenset()) for study, bleeds in studies.items()}
    return alone | found_slices


def read_table(
    path: Path, fits: Callable[[set[str]], bool], needed: str, remedy: str, known: Sequence[str] = ()
) -> list[Row]:
    """Read a table of a folder of studies, a line a row, without the spaces around its cells.

    Args:
        path: as `read_csv` takes it.
        fits: whether it has the columns that it needs.
        known: names of columns that are known in any case: 'Study' comes back as 'study'.
        needed: those, in words.
        remedy: what to do about a table that does not fit.

    Raises:
        DataError: it cannot be read, has no lines, or does not fit.
    """
    text, save = "a table as text, its columns separated by commas, semicolons or tabs", "save the sheet as CSV (UTF-8)"
    with usable(path, DataError, text, f"{save}, and give that file", csv.Error, found="cannot be read"):
        rows = read_csv(path)
    names = {one.casefold(): one for one in known}
    rows = [
        Row({names.get(column.casefold(), column): compose(cell) for column, cell in row.items()}, row.line)
        for row in rows
    ]
    if not rows or not fits(set(rows[0])):
        found = f"columns {', '.join(rows[0]) if rows else 'none, or no lines'}"
        raise DataError(path, found=found, needed=f"the columns {needed}", remedy=remedy)
    return rows


def table_error(path: Path, found: str, needed: str) -> DataError:
    """Make the error of a table of labels."""
    return DataError(path, found=found, needed=needed, remedy=CORRECT)


@lru_cache(maxsize=1024)
def read_flag(value: str) -> bool | None:
    """Read yes or no as people write them, '1,0' among them; None for anything else."""
    folded = re.sub(r"^([01])[.,]0+$", r"\1", value.casefold())
    return True if folded in YES else False if folded in NO else None


def _read_coco(path: Path) -> list[Line]:
    """Read boxes in COCO's form: a line for each image, in the order of the file."""
    needed = "'images' with 'id' and 'file_name', and 'annotations' with 'image_id', as COCO has them"
    try:
        content = json.loads(path.read_text("utf-8-sig"))
        names = {one["id"]: str(one["file_name"]) for one in content["images"]}
        free = {
            one["id"] for one in content.get("categories", ()) if _kind_of_class(str(one.get("name", ""))) == "none"
        }
        boxed = {one["image_id"] for one in content["annotations"] if one.get("category_id") not in free}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise table_error(path, f"cannot be read as boxes ({type(error).__name__}: {error})", needed) from error
    return [Line(name, "", of in boxed, number) for number, (of, name) in enumerate(names.items(), start=1)]


def _read_yolo(folder: Path) -> list[Line]:
    """Read a folder of YOLO's text files, one for each picture, which has a line for each box."""
    paths = sorted(path for path in folder.rglob("*.txt") if path.name not in ("classes.txt", "train.txt", "val.txt"))
    if not paths:
        raise table_error(folder, "a folder without text files", "YOLO's boxes, x.txt for x.png; or a table")
    return [
        Line(path.relative_to(folder).with_suffix("").as_posix(), "", bool(path.read_bytes().strip()), number)
        for number, path in enumerate(paths, start=1)
    ]


def _kind_of_class(name: str) -> str:
    words = {one.casefold() for one in _WORD.findall(name)}
    return "none" if words & _NONE else ""


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _find_column(names: Sequence[str], known: Sequence[str], given: Sequence[str]) -> str | None:
    if given:
        return given[0]
    by_fold = {_fold(name): name for name in reversed(names)}
    return next((by_fold[one] for one in known if one in by_fold), None)


def _find_readers(names: Sequence[str]) -> dict[str, _Finding]:
    """Find the columns that say whether something bleeds, by reader; '' where the names tell no reader.

    A column counts only if all its words do: 'R1:IPH' and 'No_Hemorrhage', but not 'R1:ChronicBleed'.
    """
    readers: dict[str, _Finding] = defaultdict(_Finding)
    alone: dict[str, _Finding] = defaultdict(_Finding)  # columns called by a reader alone: 'R1', 'Reader A'
    for name in names:
        words = [one.casefold() for one in _WORD.findall(name)]
        reader = ""
        for row, word in enumerate(words):
            if _READER.match(word):
                reader = "".join(words[row : row + 2]) if words[row + 1 : row + 2] else word
                if row == 0 and len(words) == 2 and (words[1].isdecimal() or len(words[1]) == 1):
                    alone[reader].any.append(name)
                words = words[:row] + words[row + 2 :]
                break
        about = set(words) - _FILLERS
        if not about or about - _ANY - _TYPES - _NONE:
            continue
        finding = readers[reader]
        of = finding.none if about & _NONE else finding.types if about & _TYPES else finding.any
        of.append(name)
    return dict(readers or (alone if len(alone) > 1 else {}))


def _describe(study: str, one_slice: str | None, readers: Mapping[str, _Finding]) -> str:
    named = f"column '{study}' names the study" + (f", '{one_slice}' the slice" if one_slice else "")
    if not readers:
        return f"Labels: {named}; each line says that it bleeds."
    columns = ", ".join(column for one in readers.values() for column in one.columns())
    if len(readers) > 1:
        return f"Labels: {named}; it bleeds if most of {len(readers)} readers say so ({columns})."
    one = next(iter(readers.values()))
    negated = "it does not bleed by" if not one.any and not one.types else "it bleeds by"
    return f"Labels: {named}; {negated} {columns}" + (", any of them." if len(one.columns()) > 1 else ".")


def _check_names(path: Path, study: str, one_slice: str, number: int) -> tuple[str, str]:
    if not study:
        raise table_error(path, f"line {number}: study '', slice '{one_slice}'", "a study, or a slice, in each line")
    return study, one_slice


def _decide(path: Path, row: Mapping[str, str], readers: Mapping[str, _Finding], number: int) -> bool | None:
    """Whether most readers say that it bleeds; None where they are split. Without columns a line says so."""
    if not readers:
        return True
    votes = [vote for one in readers.values() if (vote := _read_vote(path, row, one, number)) is not None]
    if not votes:
        columns = ", ".join(column for one in readers.values() for column in one.columns())
        raise table_error(path, f"line {number}: nothing under {columns}", "1 or 0 in each line")
    yes = sum(votes)
    return None if 2 * yes == len(votes) else 2 * yes > len(votes)


def _read_vote(path: Path, row: Mapping[str, str], one: _Finding, number: int) -> bool | None:
    """What a reader says; None where all their columns are empty."""
    flags = []
    for column in one.columns():
        flag = read_flag(row[column])
        if flag is None and row[column]:
            raise table_error(path, f"line {number}: {column} '{row[column]}'", "1 or 0 (yes, no, true, false, x)")
        flags.append(flag)
    if all(flag is None for flag in flags):
        return None
    said = any(flags)
    return said if one.any or one.types else not said


def _split_types(
    lines: Sequence[tuple[str, str, Mapping[str, str], int]], readers: Mapping[str, _Finding]
) -> list[tuple[str, str, Mapping[str, str], int]] | None:
    """Split names such as 'ID_1_epidural', if all end with a type or 'any', into name and that word."""
    found = []
    for name, _, row, number in lines:
        match = _ENDING.search(name)
        if match is None or match[1].casefold() not in _ANY | _TYPES:
            return None
        found.append((name[: match.start()], match[1].casefold(), row, number))
    return found


def _join_types(
    path: Path, lines: Iterable[tuple[str, str, Mapping[str, str], int]], readers: Mapping[str, _Finding]
) -> list[Line]:
    """One line for each name: what its 'any' says, else whether any type is there."""
    said: dict[str, list[tuple[bool, bool, int]]] = {}
    for name, word, row, number in lines:
        bleeds = _decide(path, row, readers, number)
        said.setdefault(name, []).append((word in _ANY, bool(bleeds), number))
    joined = []
    for name, told in said.items():
        sure = [bleeds for whole, bleeds, _ in told if whole] or [bleeds for _, bleeds, _ in told]
        joined.append(Line(name, "", any(sure), told[0][2]))
    return joined
