"""Scores by lesion: which lesions of the reference were found, which marked regions are false alarms.

Two rules, always reported both. 'Touched': a lesion is found when one voxel of it is marked, a region is false when
it touches no reference voxel. 'Overlap': a lesion is found when some region has an IoU of at least `FOUND_IOU`
with it, a region is false when it reaches that with no lesion. Neither pairs one with one: a region that covers two
lesions may find both, and a lesion found in two parts is found once. The overlap rule is the harder on parts: of
a lesion marked in many small pieces each piece is a false alarm.

Without lesions there is no sensitivity (NaN), without regions there are no false alarms (0).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray

FOUND_IOU = 0.1  # low on purpose: to point at a bleed is to find it, and lesions in thick slices have soft edges


@dataclass(frozen=True, eq=False)
class Pieces:
    """The lesions of a reference, or the regions of a prediction: a row for each connected piece."""

    voxels: AnyArray  # (n,) voxels of the piece
    shared: AnyArray  # (n,) how many of these the other mask has too
    best_iou: DoubleArray  # (n,) highest IoU with one piece of the other mask; 0 where none touches it

    def __len__(self) -> int:
        return len(self.voxels)

    @property
    def touched(self) -> BoolArray:
        """(n,) whether any voxel is shared."""
        return np.asarray(self.shared > 0, np.bool_)

    @property
    def overlapped(self) -> BoolArray:
        """(n,) whether the best IoU reaches `FOUND_IOU`."""
        return np.asarray(self.best_iou >= FOUND_IOU, np.bool_)

    def to_dict(self) -> dict[str, list[float]]:
        """As JSON can hold it: a list for each column."""
        return {name: getattr(self, name).tolist() for name in ("voxels", "shared", "best_iou")}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Pieces":
        """From `to_dict`; other entries of `content` are left alone."""
        voxels, shared = (np.array(content[name], np.int64) for name in ("voxels", "shared"))
        return cls(voxels, shared, np.array(content["best_iou"], np.float64))


def compare(reference: AnyArray, prediction: AnyArray) -> tuple[Pieces, Pieces]:
    """Compare the connected pieces of two masks: the lesions and the regions, in the order of their numbers.

    Args:
        reference: integer of any shape: 0, or the number of the lesion, 1 to the number of lesions.
        prediction: the same for the marked regions, the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"reference {reference.shape} and prediction {prediction.shape} differ in shape")
    lesions, regions = int(reference.max(initial=0)), int(prediction.max(initial=0))
    pairs = reference.ravel().astype(np.int64) * (regions + 1) + prediction.ravel()
    table = np.bincount(pairs, minlength=(lesions + 1) * (regions + 1)).reshape(lesions + 1, regions + 1)
    of_lesion, of_region = table.sum(axis=1)[1:], table.sum(axis=0)[1:]
    both = table[1:, 1:]
    iou = both / (of_lesion[:, None] + of_region[None] - both)
    return (
        Pieces(of_lesion, both.sum(axis=1), iou.max(axis=1, initial=0.0)),
        Pieces(of_region, both.sum(axis=0), iou.max(axis=0, initial=0.0)),
    )
