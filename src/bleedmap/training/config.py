"""One frozen dataclass: the config file, the flags, the checkpoint's record and the table in the docs."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from bleedmap.errors import SettingsError
from bleedmap.models.networks import UNetSettings, network_settings
from bleedmap.preprocess import Preprocessing

LARGEST = 2**31  # of any number here; torch and NumPy take such seeds


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run but the data and the machine."""

    network: str = _setting("model-2", "model-1, model-2 or original")
    width: float = _setting(1.0, "filters of every level, times this")
    size: int = _setting(256, "rows and columns of the input")
    frame: Literal["whole", "head"] = _setting("whole", "what is resized: the whole slice, or a square around the head")
    clahe: bool = _setting(False, "equalise each slice's histogram by CLAHE (the thesis tried it and left it out)")
    dropout: float | None = _setting(None, "rate between a block's convolutions; the network's own where left out")
    kernel: int = _setting(3, "rows and columns of a block's convolutions")
    downsample: Literal["pool", "stride"] = _setting("pool", "a 2×2 maximum, or convolutions in steps of 2")
    epochs: int = _setting(1000, "passes over the training side")
    batch_size: int = _setting(32, "slices a step, over all processes together")
    optimiser: Literal["adam", "sgd"] = _setting("adam", "Adam, or gradient descent with Nesterov momentum 0.9")
    learning_rate: float = _setting(1e-4, "the optimiser's learning rate")
    schedule: Literal["constant", "cosine"] = _setting(
        "constant", "of the learning rate; cosine warms up, then falls to 0"
    )
    loss: Literal["dice", "dice+bce"] = _setting("dice", "-Dice of the batch, or that plus binary cross-entropy")
    mirrors: Literal["fresh", "offline", "none"] = _setting(
        "fresh", "drawn afresh each epoch; offline shows the original and both mirrors each epoch"
    )
    warp: float = _setting(0.0, "strength of random rotation, scaling and shift; 1 is up to 20°, 20 %, 8 %")
    intensity: float = _setting(0.0, "strength of random window shift, gain and noise; 1 is 6 HU, 10 %, 4 HU")
    lesion_free: Literal["all", "matched"] = _setting(
        "all",
        "of the training side's lesion-free slices: all each epoch, or as many as lesion slices, drawn anew",
    )
    phantoms: int = _setting(0, "synthetic heads added to the training side")
    validate_every: int = _setting(1, "epochs between validations")
    keep_every: int = _setting(0, "epochs between networks kept for good, beside the best one; 0 keeps none")
    seed: int = _setting(0, "of weights, order, mirrors and dropout")

    def __post_init__(self) -> None:
        positive = ("epochs", "batch_size", "learning_rate", "width", "validate_every")
        negative = ("warp", "intensity", "phantoms", "keep_every", "seed")
        bad = [name for name in positive if not 0 < getattr(self, name) < LARGEST]
        bad += [name for name in negative if not 0 <= getattr(self, name) < LARGEST]
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
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

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "TrainConfig":
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


_CHOICES = {
    "optimiser": ("adam", "sgd"),
    "downsample": ("pool", "stride"),
    "frame": ("whole", "head"),
    "schedule": ("constant", "cosine"),
    "loss": ("dice", "dice+bce"),
    "mirrors": ("fresh", "offline", "none"),
    "lesion_free": ("all", "matched"),
}

PRESETS: dict[str, tuple[str, TrainConfig]] = {
    "thesis": ("the thesis' Model 2, batch 32, 1,000 epochs: for a GPU", TrainConfig()),
    "quick": (
        "the thesis' Model 2 on 2 CPU cores in 20 minutes: a small square around the head, a fast schedule",
        TrainConfig(
            size=128, frame="head", epochs=16, batch_size=8, learning_rate=1e-3, schedule="cosine", loss="dice+bce",
        ),
    ),
    "first-weights": (
        "the recipe of the installed weights: Model 1 at half width, head frame, strong augmentation, phantoms",
        TrainConfig(
            network="model-1", width=0.5, size=192, frame="head", epochs=50, batch_size=16, learning_rate=1e-3,
            schedule="cosine", loss="dice+bce", warp=1.0, intensity=1.0, lesion_free="matched", phantoms=12,
            validate_every=2,
        ),
    ),
}  # fmt: skip
