"""The recipe of the networks that are judged on patients that they have never seen, in one frozen dataclass."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from bleedmap.errors import SettingsError
from bleedmap.models.networks import LiteUNetSettings
from bleedmap.preprocess import Preprocessing

STORED = 9 / 7  # side of a stored slice over the input's: warping takes from more pixels than it gives


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training but data, start and machine.

    Attributes:
        size: rows and columns of the input, a multiple of 32.
        neighbours: slices on each side, as channels.
        steps: of the optimiser.
        lesion: slices of a batch that bear a lesion.
        lesion_free: slices of a batch that bear none.
        phantom: slices of a batch from phantoms, lesion or not as they come.
        phantoms: heads that these are taken from.
        learning_rate: of decoder and heads, at its highest.
        encoder_rate: the encoder's, over that.
        weight_decay: AdamW's.
        warm_up: part of the steps in which the rate rises; then it falls to 0 by a cosine.
        labels_weight: of the presence and type loss beside the pixels' (Dice + cross-entropy).
        average: decay of the weights' moving average, which is what is kept.
        warp: strength of rotation (20°), scaling (20 %), stretching and shift (8 %).
        intensity: strength of window shift (8 HU), gain (15 %), noise (6 HU), slow shading (4 HU), blur and sharpening.
        alone: part of the samples whose neighbours are replaced by the slice itself, as for a single picture.
        seed: of everything random.
        painted: slices of a batch from bleed-free patients into whose heads blood was drawn
            (`bleedmap.training.painting`); a third of them lie just above or below it.
        paintings: bleeds drawn into each of them.
        start_share: of the weights that it began with, in those that are kept (Wortsman et al., CVPR 2022,
            arXiv:2109.01903): what was known is not forgotten.
    """

    size: int = 224
    neighbours: int = 1
    steps: int = 4500
    lesion: int = 4
    lesion_free: int = 3
    phantom: int = 1
    phantoms: int = 80
    learning_rate: float = 1e-3
    encoder_rate: float = 0.3
    weight_decay: float = 0.02
    warm_up: float = 0.05
    labels_weight: float = 0.2
    average: float = 0.998
    warp: float = 1.0
    intensity: float = 1.0
    alone: float = 0.1
    seed: int = 0
    painted: int = 0
    paintings: int = 0
    start_share: float = 0.0

    def __post_init__(self) -> None:
        counts = (self.lesion, self.lesion_free, self.phantom, self.painted)
        if (
            self.size % 32
            or self.steps < 1
            or min(counts) < 0
            or sum(counts) < 1
            or (self.phantom and not self.phantoms)
            or (self.painted > 0) != (self.paintings > 0)
            or not 0 <= self.start_share < 1
        ):
            raise SettingsError(
                "recipe",
                found=f"size {self.size}, steps {self.steps}, slices of a batch {counts}, phantoms {self.phantoms}, "
                f"paintings {self.paintings}, start_share {self.start_share}",
                needed="a size that 32 divides, a step and a slice a batch at least, phantoms and paintings where a "
                "batch has some, a start_share from 0 and below 1",
                remedy="start from the recipe that docs/model.md names",
            )

    @property
    def batch(self) -> int:
        """Slices a step."""
        return self.lesion + self.lesion_free + self.phantom + self.painted

    def preprocessing(self) -> Preprocessing:
        """What makes the network's input of a study."""
        return Preprocessing(size=self.size, frame="study", neighbours=self.neighbours)

    def stored(self) -> Preprocessing:
        """The same, as slices are stored for warping."""
        return Preprocessing(size=round(self.size * STORED), frame="study", neighbours=self.neighbours)

    def network(self) -> LiteUNetSettings:
        """The network's definition."""
        return LiteUNetSettings(channels=2 * self.neighbours + 1)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Recipe":
        """From `to_dict`."""
        return cls(**content)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


RECIPE = Recipe()  # of the first networks that were judged on all folds, and of what the shipped ones begin with
# Before any patient: phantoms alone, from ImageNet's weights. One network for all folds, since no patient is in it.
PRETRAINING = Recipe(lesion=0, lesion_free=0, phantom=8, steps=1200)
# After RECIPE, on the same patients: larger, and with blood painted into those who have none.
PAINTED = Recipe(
    size=288, steps=1500, lesion=3, lesion_free=3, phantom=0, painted=2, paintings=12, learning_rate=5e-4, warm_up=0.1
)
# After PAINTED: more paintings, and phantoms again; half-way to what came of it. What ships.
MIXED = replace(PAINTED, steps=1600, lesion=2, lesion_free=3, phantom=1, painted=2, paintings=24, start_share=0.5)
