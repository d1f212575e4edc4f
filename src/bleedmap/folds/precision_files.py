"""What a fold said in each number format, on disk, and the table that all folds make."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bleedmap.errors import InputError
from bleedmap.evaluation import measures
from bleedmap.evaluation.records import Choices, OutOfFold, StudyRecord
from bleedmap.evaluation.tables import Tables
from bleedmap.io.files import write_json

LARGEST_FALL = 0.002  # of the mean Dice, from which on a format is no default
REFERENCE = "fp32"
_FORMAT = "bleedmap precisions 1"


@dataclass(frozen=True, eq=False)
class Answer:
    """A study in one number format, held against the same in fp32.

    Attributes:
        form: the precision that the backend states: 'fp32', what '--precision auto' takes here, or 'bf16'.
        backend: what computed it.
        study: counts and verdict, on the slices' own grid.
        told: what a reader is told: a bleed, none, or that no verdict is given.
        changed: pixels whose mark differs from fp32's.
        pixels: of the study.
        dice: of its mask and fp32's; None where both mark nothing.
        difference: the largest of a pixel's probability from fp32's, before the slices' gate.
    """

    form: str
    backend: Mapping[str, str]
    study: StudyRecord
    told: Literal["positive", "negative", "abstained"]
    changed: int
    pixels: int
    dice: float | None
    difference: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        kept = ("form", "told", "changed", "pixels", "dice", "difference")
        return {name: getattr(self, name) for name in kept} | {
            "backend": dict(self.backend), "study": self.study.to_dict(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Answer":
        """From `to_dict`."""
        return cls(**{**content, "study": StudyRecord.from_dict(content["study"])})


@dataclass(frozen=True, eq=False)
class FoldAnswers:
    """A fold's test patients in every format.

    Attributes:
        choices: the fold's own, the same for all formats.
        weights_sha256: of the file that all formats come from.
        left_out: formats that this machine does not compute, with the reason.
        answers: patient by patient, fp32 first.
    """

    choices: Choices
    weights_sha256: str
    left_out: Mapping[str, str]
    answers: tuple[Answer, ...]

    def of(self, patients: Sequence[int]) -> "FoldAnswers":
        """Only some patients."""
        return replace(self, answers=tuple(one for one in self.answers if one.study.patient in patients))

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        content = {
            "format": _FORMAT, "choices": asdict(self.choices), "weights_sha256": self.weights_sha256,
            "left_out": dict(self.left_out), "answers": [one.to_dict() for one in self.answers],
        }  # fmt: skip
        write_json(path, content, compact=True)


def read_answers(path: Path) -> FoldAnswers | None:
    """A fold's answers; None where there are none yet.

    Raises:
        InputError: not a file that `FoldAnswers.write` wrote.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return FoldAnswers(
            Choices(**content["choices"]), content["weights_sha256"], content["left_out"],
            tuple(Answer.from_dict(one) for one in content["answers"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            path, found=f"cannot be used ({error})", needed="a fold's answers, as bleedmap wrote them",
            remedy="delete the file and give the command again",
        ) from error  # fmt: skip


def summarise(folds: Sequence[FoldAnswers]) -> dict[str, Any]:
    """Folds, patients, what was left out, and a row a format, fp32 first.

    A format could be a default where the mean volume Dice falls by less than `LARGEST_FALL` and no study's verdict
    changes.
    """
    told = _of(folds, REFERENCE)
    found = list(dict.fromkeys(answer.form for fold in folds for answer in fold.answers))
    forms = [form for form in found if len(_of(folds, form)) == len(told)]
    scores = {form: _scores(folds, form) for form in forms}
    rows = []
    for form in forms:
        answers = _of(folds, form)
        changed = [one.study.patient for one, first in zip(answers, told, strict=True) if one.told != first.told]
        whole, own = scores[REFERENCE]["volume_dice"], scores[form]["volume_dice"]
        fall = None if whole is None or own is None else whole - own
        rows.append(
            {"format": form, **scores[form], "dice_fall": fall, **_differences(answers), "verdicts_changed": changed}
            | {"passes": not changed and (fall is None or fall < LARGEST_FALL)}
        )
    return {
        "folds": [one.choices.fold for one in folds], "patients": len(told),
        "bleeding": sum(bool(one.study.counts.reference.any()) for one in told),
        "left_out": {name: why for fold in folds for name, why in fold.left_out.items()}
        | {form: "not measured in all of these folds" for form in found if form not in forms},
        "formats": rows,
    }  # fmt: skip


def _of(folds: Sequence[FoldAnswers], form: str) -> list[Answer]:
    return [one for fold in folds for one in fold.answers if one.form == form]


def _scores(folds: Sequence[FoldAnswers], form: str) -> dict[str, float | None]:
    """Both Dice of the protocol's tables; a bleeding patient on whom nothing is marked counts 0."""
    studies = tuple(one.study for one in _of(folds, form))
    tables = Tables.of(OutOfFold(form, "", tuple(one.choices for one in folds), studies))
    volume = measures.volume_dice(tables).value
    values = {"volume_dice": volume, "authors_dice": measures.authors_dice(tables).value}
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def _differences(answers: Sequence[Answer]) -> dict[str, Any]:
    dice = [one.dice for one in answers if one.dice is not None]
    marked = sum(int((one.study.counts.predicted > 0).sum()) for one in answers)
    return {
        "changed_share": sum(one.changed for one in answers) / sum(one.pixels for one in answers),
        "mask_dice_mean": float(np.mean(dice)) if dice else None, "mask_dice_min": min(dice, default=None),
        "largest_difference": max(one.difference for one in answers), "slices_marked": marked,
    }  # fmt: skip
