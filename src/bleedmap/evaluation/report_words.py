"""What the report of a protocol says that no record holds: its title, rules, credits and limits."""

from dataclasses import dataclass

from bleedmap.evaluation.protocol import PEERS, PROTOCOL, Peer

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
    """What changes from one set of studies to another.

    Attributes:
        title: of the page.
        about: paragraphs on the protocol and the data.
        credits: of the data.
        peers: published figures to stand beside.
        peers_caution: what holds for all of them.
        limits: one sentence each.
        again: commands that make the page again, a line each.
    """

    title: str
    about: tuple[str, ...]
    credits: str
    peers: tuple[Peer, ...]
    peers_caution: str
    limits: tuple[str, ...]
    again: tuple[str, ...]


CT_ICH_WORDS = ReportWords(
    title="Intracranial hemorrhage on head CT: patients that the network has never seen",
    about=(
        f"Protocol “{PROTOCOL}” (docs/protocol.md): folds, measures and rules were written before any network was "
        "trained on them; its number 2 lets a recipe in that was written after an earlier one's test sides had been "
        "seen, and such a method says so. All 82 "
        "patients and all 2,501 slices of CT-ICH 1.0.0; 36 patients bleed, in 318 slices. Five folds by patient: every "
        "patient is tested once, by networks, thresholds and calibration that never met this patient.",
        "The reference is the radiologists' mask. Pixels are counted on the slice's own grid of 650×650, after "
        "resampling back and all postprocessing. The release has no pixel spacing: no mm, no mL, no surface distance.",
    ),
    credits="Data: Hssayeni et al., Computed Tomography Images for Intracranial Hemorrhage Detection and Segmentation, "
    "PhysioNet, doi 10.13026/w8q8-ky94, CC BY 4.0; slices in the pictures are theirs, windowed, cropped and outlined "
    "here.",
    peers=PEERS,
    peers_caution="None was measured on these folds: to stand beside, not to be subtracted. Figures of networks split "
    "by slice (Dice 0.87 to 0.89) are left out: they were tested on patients that they were trained on.",
    limits=(
        "One data set, 82 patients of whom 36 bleed, from one hospital: another scanner, protocol or population is not "
        "in any interval.",
        "Intervals hold the trained networks fixed, and over so few patients they are too narrow; most of all for a "
        "type that four to seven patients have.",
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
