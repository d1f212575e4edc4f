"""Which study or slice a table means by a name: as reports have it, or as files, folders and DICOM headers do."""

import re
from collections import defaultdict
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bleedmap.errors import InputError
from bleedmap.io.dicom.files import scan
from bleedmap.io.dicom.header import text
from bleedmap.io.names import fold_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bleedmap.evaluation.studies.find import Case

_ENDING = re.compile(r"\.(nii|nii\.gz|dcm|dicom|ima|png|jpe?g|tiff?|bmp|webp)$")
_DECIMALS = re.compile(r"^(\d+)[.,]0+$")


def to_whole(name: str) -> str:
    """A number without the empty decimals that programs of tables add: '10.0' as '10'; another name as it is."""
    return _DECIMALS.sub(r"\1", name)


def fold_label(name: str) -> str:
    """A name without case, ending, signs, leading zeros and decimals of 0: 'CQ500-CT-7' as 'cq500ct7', '9.0' as '9'."""
    folded = re.sub(r"[\W_]", "", _ENDING.sub("", to_whole(fold_name(name))))
    return str(int(folded)) if folded.isdecimal() else folded


class CaseIndex:
    """The studies of a folder, by what a table may call them.

    An exact name goes before a folded one, and file names before headers, which are read only where they are needed.
    """

    def __init__(self, cases: "Sequence[Case]") -> None:
        self._cases = cases
        self._found: dict[str, tuple[Case, ...]] = {}
        self._exact: dict[str, list[Case]] = defaultdict(list)
        self._folded: dict[str, dict[str, Case]] = defaultdict(dict)
        for case in cases:
            for name in filter(None, (case.name, case.uid)):
                self._exact[name].append(case)
            for part in case.name.split("/"):
                for name in (part, *part.split()):
                    self._folded[fold_label(name)][case.name] = case
            self._folded[fold_label(case.name)][case.name] = case
            if len(case.images) == 1:
                self._folded[fold_label(case.images[0].name)][case.name] = case

    def find_study(self, name: str) -> "tuple[Case, ...]":
        """Find the studies of that name: none, one, or several that it does not tell apart."""
        if name not in self._found:
            found = tuple(self._exact.get(name, ())) or next(filter(None, self._look_up(name)), ())
            self._found[name] = found
        return self._found[name]

    def _look_up(self, name: str) -> "Iterator[tuple[Case, ...]]":
        last = re.split(r"[/\\]", name)[-1]
        for index in (self._folded, self._of_headers):
            for one in dict.fromkeys((fold_label(name), fold_label(last))):
                yield tuple(index.get(one, {}).values()) if one else ()

    @cached_property
    def _of_headers(self) -> "dict[str, dict[str, Case]]":
        """Patient ID and accession number, folded -> studies."""
        found: dict[str, dict[str, Case]] = defaultdict(dict)
        for case in self._cases:
            for keyword in ("PatientID", "AccessionNumber"):
                if value := case.read_text(keyword):
                    found[fold_label(value)][case.name] = case
        return found

    def find_slice(self, name: str) -> "tuple[tuple[Case, ...], str]":
        """Find the studies that have a slice of that name, which comes back as `find_name` has it."""
        parts = re.split(r"[/\\]", name)
        near, last = "/".join(parts[-2:]), parts[-1]  # 'P1/1.png' of any longer place, then '1.png'
        for one in dict.fromkeys((name, near, last, _ENDING.sub("", last))):
            if places := self._slices.get(one):
                cases = tuple({case.name: case for case, _ in places}.values())
                return cases, self.find_name(cases[0], places[0][1].name) if len(cases) == 1 else name
        if name in self._instances:
            return (self._instances[name],), name
        return (), name

    def find_name(self, case: "Case", name: str) -> str:
        """Name a slice as its labels must: a DICOM file by its SOP Instance UID, all else as the table does."""
        name = to_whole(name)
        if case.kind != "DICOM" or name.isdecimal():
            return name
        for of_case, path in self._slices.get(name, ()):
            if of_case is case:
                return next((uid for uid in _read_instances(path)), name)
        return name

    @cached_property
    def _slices(self) -> "dict[str, list[tuple[Case, Path]]]":
        """Names of files, with and without their endings -> their studies and themselves."""
        found: dict[str, list[tuple[Case, Path]]] = defaultdict(list)
        for case in self._cases:
            for path in case.images if case.kind != "NIfTI" else ():
                for name in dict.fromkeys((path.name, path.stem)):
                    found[name].append((case, path))
                    found[f"{path.parent.name}/{name}"].append((case, path))
        return found

    @cached_property
    def _instances(self) -> "dict[str, Case]":
        """SOP Instance UIDs -> their studies."""
        return {
            uid: case
            for case in self._cases if case.kind == "DICOM"
            for path in case.images for uid in _read_instances(path)
        }  # fmt: skip


def _read_instances(path: Path) -> "Iterator[str]":
    with suppress(InputError):
        for file in scan(path).files:
            if uid := text(file.header, "SOPInstanceUID"):
                yield uid
