"""The settings of a training run: its config file, the flags, the checkpoint's record and the tables in the docs.

A network of the thesis is trained by passes over single slices (`TrainConfig`); the network that ships by steps over
whole studies, in stages, each by a `Recipe` (`LiteConfig`).
"""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from bleedmap.errors import SettingsError
from bleedmap.models.networks import LiteUNetSettings, UNetSettings, network_settings
from bleedmap.preprocess import Preprocessing

LARGEST = 2**31  # of any number here; torch and NumPy take such seeds
STORED = 9 / 7  # side of a stored slice over the input's: warping takes from more pixels than it gives

LITE = "lite"  # stands for the network in the config file of a run in stages


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """Settings whose dataclass is their JSON."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """From `to_dict`.

        Raises:
            SettingsError: an unknown or impossible setting.
        """
        known: dict[str, tuple[type, ...]] = {setting.name: (type(setting.default),) for setting in fields(cls)}
        for name, types in known.items():
            known[name] = {float: (int, float), type(None): (int, float, type(None))}.get(types[0], types)
        wrong = [
            f"{name} = {value!r}"
            for name, value in content.items()
            if name not in known or not isinstance(value, known[name])
        ]
        if wrong:
            raise SettingsError(
                "training settings",
                found=f"unknown, or of another type: {', '.join(sorted(wrong))}",
                needed="the settings of this version",
                remedy="resume with the version that began the run, or begin a new one",
            )
        return cls(**content)


@dataclass(frozen=True)
class TrainConfig(Settings):
    """All that decides how a network of the thesis is trained, but the data and the machine."""

    network: str = _setting("model-2", "network of the thesis: model-1, model-2 or original")
    width: float = _setting(1.0, "factor on the filters of every level")
    size: int = _setting(256, "rows and columns of the input")
    frame: Literal["whole", "head"] = _setting("whole", "what is resized: the whole slice, or a square around the head")
    clahe: bool = _setting(False, "equalise each slice's histogram by CLAHE (the thesis tried it and left it out)")
    dropout: float | None = _setting(None, "dropout rate between a block's convolutions; not given: the network's own")
    kernel: int = _setting(3, "rows and columns of a block's convolution kernels")
    downsample: Literal["pool", "stride"] = _setting(
        "pool", "how the size is halved: by a 2×2 maximum, or by convolutions in steps of 2"
    )
    epochs: int = _setting(1000, "passes over the training side")
    batch_size: int = _setting(32, "slices in each step, of all processes together")
    optimiser: Literal["adam", "sgd"] = _setting(
        "adam", "Adam, or stochastic gradient descent with Nesterov momentum 0.9"
    )
    learning_rate: float = _setting(1e-4, "the optimiser's learning rate")
    schedule: Literal["constant", "cosine"] = _setting(
        "constant", "course of the learning rate; cosine warms up, then falls to 0"
    )
    loss: Literal["dice", "dice+bce"] = _setting("dice", "loss: -Dice of the batch, or that plus binary cross-entropy")
    mirrors: Literal["fresh", "offline", "none"] = _setting(
        "fresh",
        "mirror images: fresh draws them anew each epoch, offline shows the original and both mirrors each epoch",
    )
    warp: float = _setting(0.0, "strength of random rotation, scaling and shift; 1 is up to 20°, 20 %, 8 %")
    intensity: float = _setting(0.0, "strength of random window shift, gain and noise; 1 is 6 HU, 10 %, 4 HU")
    lesion_free: Literal["all", "matched"] = _setting(
        "all",
        "lesion-free slices of the training side in each epoch: all, or as many as lesion slices, drawn anew",
    )
    phantoms: int = _setting(0, "synthetic heads added to the training side")
    validate_every: int = _setting(1, "epochs between validations")
    keep_every: int = _setting(0, "epochs between networks kept for good, beside the best one; 0 keeps none")
    seed: int = _setting(0, "seed of the weights, the order, mirrors and dropout")

    def __post_init__(self) -> None:
        positive = ("epochs", "batch_size", "learning_rate", "width", "validate_every")
        negative = ("warp", "intensity", "phantoms", "keep_every", "seed")
        bad = [name for name in positive if not 0 < getattr(self, name) < LARGEST]
        bad += [name for name in negative if not 0 <= getattr(self, name) < LARGEST]
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                bad.append(name)
        if bad:
            raise SettingsError(
                "training settings",
                found=", ".join(f"{name} = {getattr(self, name)}" for name in bad),
                needed="counts and rates above 0, strengths and seeds from 0, and known words",
                remedy="see `bleedmap train --help`",
            )
        self.preprocessing()
        self.network_settings()

    def preprocessing(self) -> Preprocessing:
        """What turns a slice into this network's input."""
        return Preprocessing(size=self.size, frame=self.frame, clahe=self.clahe)

    def network_settings(self) -> UNetSettings:
        """The network's numbers, widened or narrowed."""
        named = network_settings(self.network)
        filters = tuple(max(1, round(count * self.width)) for count in named.filters)
        dropout = named.dropout if self.dropout is None else self.dropout
        return replace(named, filters=filters, dropout=dropout, kernel=self.kernel, downsample=self.downsample)


@dataclass(frozen=True)
class Recipe(Settings):
    """All that decides a stage of the training of the network that ships, but data, start and machine.

    `start_share`: Wortsman et al., CVPR 2022, arXiv:2109.01903: what was known is not forgotten. Painted blood:
    `bleedmap.training.painting`.
    """

    size: int = _setting(224, "rows and columns of the input, a multiple of 32")
    neighbours: int = _setting(1, "slices on each side, as channels")
    steps: int = _setting(4500, "steps of the optimiser")
    lesion: int = _setting(4, "slices of a batch with a lesion")
    lesion_free: int = _setting(3, "slices of a batch without a lesion")
    phantom: int = _setting(1, "slices of a batch from phantoms, with or without a lesion")
    phantoms: int = _setting(80, "phantoms that these slices are taken from")
    learning_rate: float = _setting(1e-3, "highest learning rate of decoder and heads")
    encoder_rate: float = _setting(0.3, "learning rate of the encoder, as a share of that")
    weight_decay: float = _setting(0.02, "weight decay of AdamW")
    warm_up: float = _setting(
        0.05, "share of the steps in which the learning rate rises; then it falls to 0 by a cosine"
    )
    labels_weight: float = _setting(
        0.2, "weight of the loss of presence and types, which is added to that of the pixels (Dice + cross-entropy)"
    )
    average: float = _setting(0.998, "decay of the moving average of the weights, which is kept as the result")
    warp: float = _setting(1.0, "strength of rotation (20°), scaling (20 %), stretching and shift (8 %)")
    intensity: float = _setting(
        1.0, "strength of window shift (8 HU), gain (15 %), noise (6 HU), slow shading (4 HU), blur and sharpening"
    )
    alone: float = _setting(
        0.1, "share of the samples whose neighbours are replaced by the slice itself, as for a single picture"
    )
    seed: int = _setting(0, "seed of everything random")
    painted: int = _setting(
        0, "slices of a batch with blood drawn into bleed-free patients' heads; a third lie just above or below it"
    )
    paintings: int = _setting(0, "bleeds drawn into each of these patients")
    start_share: float = _setting(0.0, "share of the weights that the stage began with in those that are kept")
    frame_mm: float = _setting(
        0.0, "side of the input in mm, so that sizes are true, painted ones too; 0: the head fills it"
    )
    bone: bool = _setting(False, "whether the HU above the brain window are a channel")
    boneless: float = _setting(0.0, "share of the samples in which that channel is 0, as for a picture")
    mirrored: bool = _setting(False, "whether the slice's mirror image is a channel")
    decoys: float = _setting(0.0, "share of the paintings that draw something bright that is not blood")
    slice_dice: float = _setting(
        0.0, "share of the Dice loss that is computed for each lesion slice, not for the batch"
    )
    free_weight: float = _setting(1.0, "weight of slices without a lesion in the pixels' cross-entropy")
    varied: bool = _setting(
        False,
        "paintings also show mixed subdural blood, gaps of the skull and tissue pushed aside; decoys also "
        "bright arteries and sinuses",
    )
    deep: float = _setting(
        0.0, "weight of the pixels' loss at a fourth and an eighth of the input size, in training alone"
    )
    skull: float = _setting(0.0, "weight of a second region, the inside of the skull, in training alone")
    fine: int = _setting(0, "filters of a last step at the input's own size; 0: pixels are told at half of it")

    def __post_init__(self) -> None:
        shares = (self.start_share, self.boneless, self.decoys, self.slice_dice)
        counts = (self.lesion, self.lesion_free, self.phantom, self.painted)
        if (
            self.size % 32
            or self.steps < 1
            or min(counts) < 0
            or sum(counts) < 1
            or (self.phantom and not self.phantoms)
            or (self.painted > 0) != (self.paintings > 0)
            or not 0 <= min(shares) <= max(shares) < 1
            or min(self.free_weight, self.deep, self.skull, self.fine) < 0
        ):
            raise SettingsError(
                "recipe",
                found=f"size {self.size}, steps {self.steps}, slices of a batch {counts}, phantoms {self.phantoms}, "
                f"paintings {self.paintings}, shares {shares}, weights {self.free_weight}, {self.deep}, {self.skull}",
                needed="a size that 32 divides, a step and a slice a batch at least, phantoms and paintings where a "
                "batch has some, start_share, boneless, decoys and slice_dice from 0 and below 1, no weight below 0",
                remedy="start from a stage of the preset lite (docs/training-settings.md)",
            )

    @property
    def batch(self) -> int:
        """Slices a step."""
        return self.lesion + self.lesion_free + self.phantom + self.painted

    def preprocessing(self) -> Preprocessing:
        """What makes the network's input of a study."""
        return Preprocessing(
            size=self.size, frame="study", neighbours=self.neighbours, frame_mm=self.frame_mm, bone=self.bone,
            mirrored=self.mirrored,
        )  # fmt: skip

    def stored(self) -> Preprocessing:
        """The same, as slices are stored for warping."""
        return replace(self.preprocessing(), size=round(self.size * STORED))

    def network(self) -> LiteUNetSettings:
        """The network's definition."""
        last = (self.fine,) if self.fine else ()
        return LiteUNetSettings(self.preprocessing().channels, LiteUNetSettings.decoder + last)

    @property
    def guided(self) -> bool:
        """Whether the network has answers that only its training asks for."""
        return self.deep > 0 or self.skull > 0


RECIPE = Recipe()  # of the first networks that were judged on all folds, and of what the shipped ones begin with
# Before any patient: phantoms alone, from ImageNet's weights. One network for all folds, since no patient is in it.
PRETRAINING = Recipe(lesion=0, lesion_free=0, phantom=8, steps=1200)
# After RECIPE, on the same patients: larger, and with blood painted into those who have none.
PAINTED = Recipe(
    size=288, steps=1500, lesion=3, lesion_free=3, phantom=0, painted=2, paintings=12, learning_rate=5e-4, warm_up=0.1
)
# After PAINTED: more paintings, and phantoms again; half-way to what came of it. What ships.
MIXED = replace(PAINTED, steps=1600, lesion=2, lesion_free=3, phantom=1, painted=2, paintings=24, start_share=0.5)

# Judged on all folds (docs/decisions/0015), of no shipped network: bone as a channel, true sizes, more painted heads.
_SEEN: dict[str, Any] = {"frame_mm": 208.0, "bone": True, "boneless": 0.3, "mirrored": True}
BONE_PRETRAINING = replace(PRETRAINING, **_SEEN)
BONE = replace(
    MIXED, size=224, steps=2400, lesion=3, lesion_free=2, learning_rate=1e-3, warm_up=0.05, start_share=0.0, decoys=0.2,
    slice_dice=0.5, free_weight=0.5, **_SEEN,
)  # fmt: skip
# Judged on two folds (docs/decisions/0015), of no shipped network: all kinds of slices from the first step on, in one
# run, with the losses of `BONE`. It outlines about as well as what ships, with fewer and smaller steps.
BALANCED = replace(
    MIXED, size=224, steps=6000, lesion=3, lesion_free=2, learning_rate=1e-3, warm_up=0.05, start_share=0.0,
    slice_dice=0.5, free_weight=0.5,
)  # fmt: skip
# Judged on four folds, of no shipped network: the same with pixels told at the input's own size, in fewer steps,
# which cost more.
FINE_PRETRAINING = replace(PRETRAINING, fine=16)
FINE = replace(BALANCED, steps=4000, fine=16)


@dataclass(frozen=True)
class LiteConfig:
    """How the network that ships is trained: its stages by name, one after the other, each from the weights before.

    The first stage begins with ImageNet's encoder; one without patients (`lesion` and `lesion_free` 0) sees phantoms.
    """

    stages: tuple[tuple[str, Recipe], ...]

    @property
    def recipe(self) -> Recipe:
        """The last stage's, whose network is kept."""
        return self.stages[-1][1]

    def preprocessing(self) -> Preprocessing:
        """What makes the network's input of a study."""
        return self.recipe.preprocessing()

    def change(self, *, seed: int | None = None, steps: int | None = None) -> "LiteConfig":
        """The same with another seed, or with `steps` of the optimiser in each stage."""
        given: dict[str, Any] = {name: one for name, one in (("seed", seed), ("steps", steps)) if one is not None}
        return LiteConfig(tuple((name, replace(recipe, **given)) for name, recipe in self.stages))

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"network": LITE, "stages": {name: recipe.to_dict() for name, recipe in self.stages}}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "LiteConfig":
        """From `to_dict`.

        Raises:
            SettingsError: an unknown or impossible setting.
        """
        stages = content.get("stages")
        if not isinstance(stages, dict) or not stages or not all(isinstance(one, dict) for one in stages.values()):
            raise SettingsError(
                "training settings", found="no stages", needed="the stages that `bleedmap train --preset lite` wrote",
                remedy="restore the run's config.json, or begin a new run",
            )  # fmt: skip
        return cls(tuple((name, Recipe.from_dict(one)) for name, one in stages.items()))


def read_config(content: dict[str, Any]) -> TrainConfig | LiteConfig:
    """The settings of either kind of run, from their `to_dict`.

    Raises:
        SettingsError: an unknown or impossible setting.
    """
    return LiteConfig.from_dict(content) if content.get("network") == LITE else TrainConfig.from_dict(content)


PRESETS: dict[str, tuple[str, TrainConfig | LiteConfig]] = {
    "thesis": ("the thesis' Model 2, batch 32, 1,000 epochs: for a GPU", TrainConfig()),
    "quick": (
        "the thesis' Model 2 on 2 CPU cores in 20 minutes: a small square around the head, a fast schedule",
        TrainConfig(
            size=128, frame="head", epochs=16, batch_size=8, learning_rate=1e-3, schedule="cosine", loss="dice+bce",
        ),
    ),
    "first-weights": (
        "the recipe of the weights ct-ich-first: Model 1 at half width, head frame, strong augmentation, phantoms",
        TrainConfig(
            network="model-1", width=0.5, size=192, frame="head", epochs=50, batch_size=16, learning_rate=1e-3,
            schedule="cosine", loss="dice+bce", warp=1.0, intensity=1.0, lesion_free="matched", phantoms=12,
            validate_every=2,
        ),
    ),
    "lite": (
        "the network that ships, trained on whole studies in four stages: hours on a CPU",
        LiteConfig((("phantoms", PRETRAINING), ("patients", RECIPE), ("painted", PAINTED), ("mixed", MIXED))),
    ),
    "bone": (
        "a bone channel, sizes in mm, small painted bleeds and decoys; judged, and not shipped; an hour on a CPU",
        LiteConfig((("phantoms", BONE_PRETRAINING), ("patients", BONE))),
    ),
    "balanced": (
        "the network that ships, trained in one run after the phantoms, with each lesion slice's own Dice in the loss; "
        "it outlined about as well on two folds and does not ship; an hour on a CPU",
        LiteConfig((("phantoms", PRETRAINING), ("patients", BALANCED))),
    ),
    "fine": (
        "the same as balanced with pixels told at the input's own size; on four folds it outlined less well, and "
        "does not ship; an hour on a CPU",
        LiteConfig((("phantoms", FINE_PRETRAINING), ("patients", FINE))),
    ),
}  # fmt: skip
