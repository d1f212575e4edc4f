"""The protocol of cross-validation in numbers; in words: docs/protocol.md. Nothing here may change after a training."""

from dataclasses import dataclass

PROTOCOL = "cross-validation 2"

# The data set's authors: main.py of their code sets row 21, patient 49 + 21, to NaN: "this subject has chronic ICH".
AUTHORS_LEFT_OUT = 70
SMALLEST_LESION_VOXELS = 10  # a smaller piece of a reference is JPEG's: five have 1 or 2, the next has 171
SLICE_SPECIFICITY = 0.95  # at which sensitivity is read off the ROC curve
STUDY_SPECIFICITY = 0.90  # 46 bleed-free patients: at most four of them called
SEED = 0

# From, up to but not including. Pixels and voxels of 650×650 slices: the release has no pixel spacing, so no mm or mL.
LESION_VOXELS = {"small": (0, 1_000), "medium": (1_000, 5_000), "large": (5_000, None)}  # about a third each
SLICE_PIXELS = {"small": (0, 1_000), "medium": (1_000, 3_000), "large": (3_000, None)}  # 97, 126, 95 lesion slices


@dataclass(frozen=True)
class Target:
    """What issue and docs promise to reach, or to say that it was not reached."""

    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        """Whether the value itself, not its interval, is on the right side."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f"≥ {self.at_least:.2f}" if self.at_least is not None else f"≤ {self.at_most:.2f}"


TARGETS = {
    "authors_dice": Target(at_least=0.60),
    "volume_dice": Target(at_least=0.60),
    "study_auc": Target(at_least=0.97),
    "slice_auc": Target(at_least=0.95),
    "bleed_free_patients_slices_marked": Target(at_most=0.05),
    "slice_ece": Target(at_most=0.03),
}


@dataclass(frozen=True)
class Peer:
    """A published figure on this data set."""

    measure: str  # the key of ours that it is nearest to
    low: float
    high: float
    who: str
    caution: str  # why it is not quite the same


PEERS = (
    Peer("authors_dice", 0.31, 0.31, "Hssayeni et al. 2020, U-Net, five folds", "their folds, their 640×640 crop"),
    Peer("volume_dice", 0.321, 0.321, "ResNet-34 U-Net", "one test side; how empty slices count is not known"),
    Peer("volume_dice", 0.407, 0.44, "trained without masks", "other splits; how empty slices count is not known"),
    Peer("study_auc", 0.964, 0.974, "RSNA 2019 winner and another, on 75 scans", "trained on another data set"),
)
