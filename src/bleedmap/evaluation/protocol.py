"""The protocol of cross-validation in numbers, and the words of its report that no record holds.

In full: docs/protocol.md. No number here may change after a training.
"""

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
# By true size, added with protocol 3: in mL, where the patient's pixel size is known.
SIZES_ML = {"below 1 mL": (0, 1), "1 to 10 mL": (1, 10), "10 mL or more": (10, None), "1 mL or more": (1, None)}
SLICE_PIXELS = {"small": (0, 1_000), "medium": (1_000, 3_000), "large": (3_000, None)}  # 97, 126, 95 lesion slices


@dataclass(frozen=True)
class Target:
    """A target that was set before training; the report says whether it was met or missed."""

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
    """A published figure on this data set, to stand beside one of our measures."""

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
    Peer("volume_dice", 0.339, 0.339, "BLAST-CT, one of its twelve models, on these 36 patients",
         "measured elsewhere, not trained on this data set; HU from both windows, true pixel sizes"),
    Peer("study_auc", 0.814, 0.814, "BLAST-CT, one of its twelve models, on 57 of the patients", "likewise"),
)  # fmt: skip

# How a method came by its recipe, by `made["recipe_level"]` of its records: a level of docs/protocol.md ("Recipe"). Any
# other text there is printed as it stands.
LEVELS = {
    "A": "Level A: each fold chose among the same list of recipes by its own validation patients.",
    "B": "Level B: the recipe was chosen in fold 1 alone, on its training and validation patients. Fold 1 is "
    "untouched; in the other folds the test patients, who are training or validation patients of fold 1, had a say in "
    "the recipe, never in weights, thresholds or calibration. Fold 1's own figures stand in the table by fold.",
}
NO_LEVEL = "The records do not say how the recipe was chosen."


@dataclass(frozen=True)
class ReportWords:
    """The words of a report that change from one data set to another."""

    title: str  # of the page
    about: tuple[str, ...]  # paragraphs on the protocol and the data
    credits: str  # of the data
    peers: tuple[Peer, ...]  # published figures to stand beside
    peers_caution: str  # what holds for all of them
    limits: tuple[str, ...]  # what the figures do not say, a sentence or two each
    again: tuple[str, ...]  # commands that make the page again, one on each line


CT_ICH_WORDS = ReportWords(
    title="Intracranial hemorrhage on head CT: patients that the network has never seen",
    about=(
        f"Protocol “{PROTOCOL}” (docs/protocol.md): folds, measures and rules were written before any network was "
        "trained on them; its number 2 also admits a recipe that was written after an earlier one's test sides had "
        "been seen, and such a method says so. All 82 "
        "patients and all 2,501 slices of CT-ICH 1.0.0; 36 patients bleed, in 318 slices. Five folds by patient: every "
        "patient is tested once, by networks, thresholds and calibration that never met this patient.",
        "The reference is the radiologists' mask. Pixels are counted on the slice's own grid of 650×650, after "
        "resampling back and all postprocessing. The release has no pixel spacing: no mm, no mL, no surface distance.",
    ),
    credits="Data: Hssayeni et al., Computed Tomography Images for Intracranial Hemorrhage Detection and Segmentation, "
    "PhysioNet, doi 10.13026/w8q8-ky94, CC BY 4.0; slices in the pictures are theirs, windowed, cropped and outlined "
    "here.",
    peers=PEERS,
    peers_caution="None was measured on these folds: look at them side by side, but subtract nothing. Figures of "
    "networks split by slice (Dice 0.87 to 0.89) are left out: they were tested on patients that they were trained on.",
    limits=(
        "One data set, 82 patients of whom 36 bleed, from one hospital: another scanner, protocol or population is not "
        "in any interval.",
        "Intervals are least to be trusted for a type that four to seven patients have.",
        "Networks had been trained on other splits of the same patients before. ‘Never seen’ is said of weights, "
        "thresholds and calibration, not of the programmers.",
        "Types are labels of whole slices: a lesion counts under every type that a slice of it bears.",
        "References are the masks as published; how far two readers differ is not known for them.",
        "The release holds the brain window only (−20 to 100 HU, clipped, compressed).",
    ),
    again=(
        "bleedmap evaluate --protocol cross-validation RECORDS.json -o report",
        "bleedmap evaluate --protocol cross-validation RECORDS.json --predictions FOLDER --data ct-ich -o report",
    ),
)
