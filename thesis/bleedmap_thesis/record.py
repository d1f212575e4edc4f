"""What one cell leaves behind: counts of every test slice, from which all tables and figures are made. A small JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bleedmap.arrays import AnyArray, FloatArray
from bleedmap.datasets.splits import Split
from bleedmap.errors import InputError, usable
from bleedmap.evaluation.slices import SliceResults
from bleedmap.io.files import write_json
from bleedmap.metrics.overlap import Counts
from bleedmap.training.config import TrainConfig
from bleedmap_thesis.plan import Cell

_FORMAT = "bleedmap cell 1"
_DIGITS = 6  # of probabilities and their sums
THRESHOLD = 0.5  # a pixel is lesion from this probability on


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Some slices as one network (or baseline) marked them, at its own size; a row a slice."""

    epoch: int  # trained epochs, 0 for a baseline
    ids: tuple[str, ...]  # slice ids
    score: FloatArray  # (n,) how likely a bleed is in the slice; for a U-Net its highest probability
    counts: Counts | None  # pixels at probability 0.5; None for a method that only classifies slices
    soft_hit: AnyArray | None = None  # (n,) sum of probability over the reference; None where there is no probability
    soft_sum: AnyArray | None = None  # (n,) sum of probability over the slice; likewise
    extra: Mapping[str, list[Any]] = field(default_factory=dict)  # further columns of (n,), of a method's own

    @property
    def patients(self) -> AnyArray:
        """(n,) the patient of each slice."""
        return np.array([name.split("/")[0] for name in self.ids])

    def results(self) -> SliceResults:
        """For `evaluate.score` and `evaluate.intervals`."""
        assert self.counts is not None, "a classifier marks no pixels"
        return SliceResults(self.ids, self.patients, self.counts.reference > 0, self.score, self.counts, None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: columns."""
        columns: dict[str, Any] = {"score": _rounded(self.score)}
        if self.counts is not None:
            columns |= self.counts.to_dict()
        if self.soft_hit is not None and self.soft_sum is not None:
            columns |= {"soft_hit": _rounded(self.soft_hit), "soft_sum": _rounded(self.soft_sum)}
        return {"epoch": self.epoch, "ids": list(self.ids), **columns, "extra": dict(self.extra)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Evaluation":
        """From `to_dict`."""
        counts = Counts.from_dict(content) if "true_positive" in content else None
        soft = [np.array(content[name]) if name in content else None for name in ("soft_hit", "soft_sum")]
        score = np.array(content["score"], np.float32)
        return cls(content["epoch"], tuple(content["ids"]), score, counts, soft[0], soft[1], content["extra"])


@dataclass(frozen=True, eq=False)
class CellResult:
    """A finished cell."""

    cell: Cell  # what was run
    split: dict[str, Any]  # numbers of its split: slices, lesion slices and patients of each side, data_sha256
    parameters: int | None  # of the network, or None
    curves: list[dict[str, Any]]  # an entry an epoch, as metrics.jsonl holds them, without times
    evaluations: tuple[Evaluation, ...]  # the test side, at each kept epoch
    rest: Evaluation | None  # lesion-free slices of the by-patient test patients that no side of the split holds
    made: dict[str, Any]  # code version, machine, seconds: what may differ between two runs of the same cell

    @property
    def last(self) -> Evaluation:
        """The test side after all epochs."""
        return self.evaluations[-1]

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        cell = asdict(self.cell) | {"levels": dict(self.cell.levels)}
        content = {
            "format": _FORMAT, "cell": cell, "split": self.split, "parameters": self.parameters, "curves": self.curves,
            "evaluations": [one.to_dict() for one in self.evaluations],
            "rest": None if self.rest is None else self.rest.to_dict(), "made": self.made,
        }  # fmt: skip
        write_json(path, content, compact=True)


def read_result(path: Path) -> CellResult:
    """Read a finished cell.

    Raises:
        InputError: not a result of this program.
    """
    needed = "the result of a cell, as `bleedmap reproduce thesis` wrote it"
    with usable(path, InputError, needed, "delete the file: its cell is run again"):
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != _FORMAT or not content["evaluations"]:
            raise ValueError(f"format {content['format']!r}, {len(content['evaluations'])} evaluations")
        cell = content["cell"]
        config = None if cell["config"] is None else TrainConfig.from_dict(cell["config"])
        cell = Cell(**(cell | {"config": config, "levels": tuple(cell["levels"].items())}))
        rest = content["rest"]
        return CellResult(
            cell, content["split"], content["parameters"], content["curves"],
            tuple(Evaluation.from_dict(one) for one in content["evaluations"]),
            None if rest is None else Evaluation.from_dict(rest), content["made"],
        )  # fmt: skip


def count_sides(split: Split, lesion_ids: set[str]) -> dict[str, Any]:
    """Count slices, lesion slices, patients and bleeding patients of each side, and name the data by its hash."""
    sides = {
        name: {
            "slices": len(ids),
            "lesion_slices": len(lesion := [one for one in ids if one in lesion_ids]),
            "patients": len(split.patients(name)),
            "lesion_patients": len({one.split("/")[0] for one in lesion}),
        }
        for name in ("train", "validation", "test")
        for ids in (split.side(name),)
    }
    known = set(split.patients("train"))
    return {
        "kind": split.kind, "seed": split.seed, "fold": split.fold, "folds": split.folds, **sides,
        "test_patients_trained_on": len(known & set(split.patients("test"))),
        "data_sha256": split.data_sha256, "release": split.release,
    }  # fmt: skip


def _rounded(values: AnyArray) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]
