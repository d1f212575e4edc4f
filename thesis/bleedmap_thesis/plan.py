"""The thesis' experiment and what goes beyond it, as a list of cells: one cell is one training run, or one baseline.

Three parts:

- grid: Model 1 and 2 × batch 16 and 32, split 80/10/10 by slice as the thesis does (and two of them by patient),
  measured every 200 of 1,400 epochs; once for each seed.
- folds: five folds of both kinds with training sides of the same size, so that every balanced slice is tested once by
  a network that knows its neighbours and once by one that does not; Model 1 and 2, CLAHE, the baselines.
- factors: a fractional factorial design over dropout, filters, optimiser, kernel size, stride and the kind of split.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from bleedmap.datasets.ct_ich import CtIch
from bleedmap.datasets.splits import Kind, Split, make_folds, make_split
from bleedmap.training.config import TrainConfig

Part = Literal["grid", "folds", "factors"]
PARTS: tuple[Part, ...] = ("grid", "folds", "factors")
KINDS: tuple[Kind, ...] = ("slice", "patient")
THESIS_EPOCHS, THESIS_STEP = 1400, 200
FOLD_EPOCHS = 1000  # of the thesis' schedule: where its best cell stands
FACTOR_EPOCHS = 600
FOLDS = 5
UNET = "u-net"
BASELINES = ("copy-nearest", "fuzzy-c-means", "sift", "kaze", "cnn-13", "alexnet", "resnet-50")


@dataclass(frozen=True)
class Scale:
    """How much of the thesis' experiment a machine can afford. Results of two scales never share a table."""

    name: str  # short
    text: str  # what differs from the thesis; stands at every chapter and figure
    width: float  # filters, times this
    size: int  # rows and columns of the input
    learning_rate: float  # Adam's
    epochs_over: int  # the thesis' epochs are divided by this
    batch_over: int  # the thesis' batches are divided by this, so that few epochs still hold many steps

    def epochs(self, thesis_epochs: int) -> int:
        """Convert the thesis' epochs to the epochs here that stand for them."""
        return max(1, thesis_epochs // self.epochs_over)

    def describe(self) -> str:
        """Say what the scale is, and what the thesis' batches and epochs are at it."""
        if self.batch_over == self.epochs_over == 1:
            return f"Scale: {self.text}."
        return (
            f"Scale: {self.text}. Batches and epochs are named as in the thesis: 'batch 32' is {32 // self.batch_over} "
            f"slices here, 'batch 16' is {16 // self.batch_over}, and {FOLD_EPOCHS:,} epochs are "
            f"{self.epochs(FOLD_EPOCHS)}."
        )


_CPU = "scale for CPU, not the thesis' own: 8 to 64 filters (an eighth), 128×128 (half)"
SCALES = {
    one.name: one for one in (
        Scale("full", "the thesis' own scale: 64 to 512 filters, 256×256, Adam 1e-4, all epochs", 1.0, 256, 1e-4, 1, 1),
        Scale("medium", f"medium {_CPU}, a tenth of the epochs, a quarter of the batch, Adam 3e-4 (three times)",
              0.125, 128, 3e-4, 10, 4),
        Scale("small", f"small {_CPU}, a fiftieth of the epochs, a quarter of the batch, Adam 1e-3 (ten times)",
              0.125, 128, 1e-3, 50, 4),
        Scale("trial", "trial scale, to see the command and its report at work in minutes: 4 to 32 filters, 64×64, a "
              "two-hundredth of the epochs; its figures say nothing about the thesis", 0.0625, 64, 1e-3, 200, 4),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One training run, or one baseline, on one split."""

    part: Part  # which question it serves
    scale: str  # name of its Scale
    method: str  # 'u-net', or a baseline's name
    label: str  # the method in words, the same for all splits and seeds
    kind: Kind  # of the split
    seed: int  # of the split, the weights and every draw
    fold: int | None  # of `FOLDS`, from 1; None is 80/10/10
    config: TrainConfig | None  # the U-Net's settings; None for a baseline
    levels: tuple[tuple[str, str], ...] = ()  # the factors' levels, for the part factors

    @property
    def key(self) -> str:
        """Its place among the results: 'small/folds/model-2-b32/slice-seed0-fold1'."""
        fold = "" if self.fold is None else f"-fold{self.fold}"
        return f"{self.scale}/{self.part}/{self.label}/{self.kind}-seed{self.seed}{fold}"


def thesis_config(scale: Scale, network: str, batch_size: int, epochs: int, seed: int) -> TrainConfig:
    """The thesis' recipe at a scale; `batch_size` and `epochs` are the thesis'."""
    return TrainConfig(
        network=network, width=scale.width, size=scale.size, learning_rate=scale.learning_rate,
        batch_size=batch_size // scale.batch_over, epochs=scale.epochs(epochs),
        keep_every=scale.epochs(THESIS_STEP), seed=seed,
    )  # fmt: skip


def cells(scale: Scale, parts: tuple[Part, ...] = PARTS, seeds: int = 1, *, alone: bool = False) -> list[Cell]:
    """All cells of the parts, in the order in which they are best run.

    Args:
        scale: how large.
        parts: which questions.
        seeds: repetitions of grid and folds, seeds 0 to `seeds` - 1; the factors have their own.
        alone: train each of the grid's epochs counts by its own run, instead of one run that passes through all.
    """
    made: list[Cell] = []
    for seed in range(seeds):
        if "grid" in parts:
            made += _grid(scale, seed, alone)
        if "folds" in parts:
            made += _folds(scale, seed)
        if "factors" in parts and seed == 0:
            made += _factors(scale)
    return made


def _grid(scale: Scale, seed: int, alone: bool) -> Iterator[Cell]:
    order: list[tuple[str, int, Kind]] = [
        ("model-2", 32, "slice"), ("model-1", 16, "slice"), ("model-2", 32, "patient"), ("model-1", 16, "patient"),
        ("model-2", 16, "slice"), ("model-1", 32, "slice"),
    ]  # fmt: skip
    for network, batch_size, kind in order:
        config = thesis_config(scale, network, batch_size, THESIS_EPOCHS, seed)
        label = f"{network}-b{batch_size}"
        if not alone:
            yield Cell("grid", scale.name, UNET, label, kind, seed, None, config)
            continue
        for epochs in range(THESIS_STEP, THESIS_EPOCHS + 1, THESIS_STEP):
            own = replace(config, epochs=scale.epochs(epochs), keep_every=scale.epochs(epochs))
            yield Cell("grid", scale.name, UNET, f"{label}-alone-{epochs}", kind, seed, None, own)


def _folds(scale: Scale, seed: int) -> Iterator[Cell]:
    """The main question first, then cheap methods, then dear ones."""
    base = thesis_config(scale, "model-2", 32, FOLD_EPOCHS, seed)
    methods: list[tuple[str, str, TrainConfig | None]] = [
        (UNET, "model-2-b32", base),
        *((name, name, None) for name in BASELINES),
        (UNET, "model-1-b32", replace(base, network="model-1")),
        (UNET, "model-2-b32-clahe", replace(base, clahe=True)),
        (UNET, "original-u-net-b32", replace(base, network="original")),
    ]
    for method, label, config in methods:
        for fold in range(1, FOLDS + 1):
            for kind in KINDS:
                yield Cell("folds", scale.name, method, label, kind, seed, fold, config)


# Two levels a factor, the thesis' own first; the last two follow from the first four (2^(6-2), resolution IV:
# no factor is confounded with an interaction of two): split = dropout·filters·optimiser, stride =
# filters·optimiser·kernel.
FACTORS: dict[str, tuple[str, str]] = {
    "dropout": ("0.1", "0"),
    "filters": ("all", "half"),
    "optimiser": ("adam", "sgd"),
    "kernel": ("3×3", "5×5"),
    "stride": ("pooled, 1", "2"),
    "split": ("slice", "patient"),
}
SGD_RATE = 100  # times Adam's learning rate


def _factors(scale: Scale) -> Iterator[Cell]:
    for dropout, filters, optimiser, kernel in product((0, 1), repeat=4):
        level = {
            "dropout": dropout, "filters": filters, "optimiser": optimiser, "kernel": kernel,
            "stride": (filters + optimiser + kernel) % 2, "split": (dropout + filters + optimiser) % 2,
        }  # fmt: skip
        base = thesis_config(scale, "model-2", 32, FACTOR_EPOCHS, seed=0)
        config = replace(
            base,
            dropout=(0.1, 0.0)[dropout],
            width=base.width / (1, 2)[filters],
            optimiser=("adam", "sgd")[optimiser],
            learning_rate=base.learning_rate * (1, SGD_RATE)[optimiser],
            kernel=(3, 5)[kernel],
            downsample=("pool", "stride")[level["stride"]],
            keep_every=base.epochs,
        )
        label = "run-" + "".join(str(value) for value in level.values())
        levels = tuple((name, FACTORS[name][value]) for name, value in level.items())
        kind: Kind = "patient" if level["split"] else "slice"
        yield Cell("factors", scale.name, UNET, label, kind, 0, 1, config, levels)


# Method label -> its name, in the order in which tables list them.
_NAMES = {
    "model-2-b32": "Model 2, batch 32", "model-2-b16": "Model 2, batch 16", "model-1-b32": "Model 1, batch 32",
    "model-1-b16": "Model 1, batch 16", "model-2-b32-clahe": "Model 2, batch 32, CLAHE",
    "original-u-net-b32": "Original U-Net, batch 32", "copy-nearest": "Copy of the nearest training slice",
    "fuzzy-c-means": "Laplacian pyramid + fuzzy c-means", "sift": "SIFT + classifier", "kaze": "KAZE + classifier",
    "cnn-13": "13-layer CNN", "alexnet": "AlexNet", "resnet-50": "ResNet-50",
}  # fmt: skip
_ALONE = "-alone-"  # between a label and the epochs that a run of its own was trained for


def name_method(label: str) -> str:
    """Give a label's name for readers; a label outside the grid and the folds stays as it is."""
    base, alone, epochs = label.partition(_ALONE)
    if base not in _NAMES:
        return label
    return f"{_NAMES[base]}, trained alone for {epochs} epochs" if alone else _NAMES[base]


def rank_method(label: str) -> tuple[int, int, str]:
    """Give a key that sorts labels as tables list them, unknown ones last."""
    base, _, epochs = label.partition(_ALONE)
    places = list(_NAMES)
    return places.index(base) if base in places else len(places), len(epochs), f"{epochs} {label}"


@dataclass(frozen=True)
class SplitPair:
    """Two splits of the same balanced slices.

    `rest`: lesion-free slices of the by-patient test patients that were not drawn: on no side of either.
    """

    by_slice: Split  # neighbours of its test slices are on the training side
    by_patient: Split  # no patient is on two sides
    rest: tuple[str, ...]

    def of(self, kind: Kind) -> Split:
        """The split of that kind."""
        return self.by_slice if kind == "slice" else self.by_patient


def split_pairs(data: CtIch, seed: int, folds: int) -> list[SplitPair]:
    """Cross-validation of both kinds, one pair a fold; the training sides of a pair are of the same size.

    From the larger training side lesion and lesion-free slices are left out at random until both sides have as many
    of each: neither the amount of training nor its balance differs within a pair.
    """
    lesions, made = {record.id for record in data.slices if record.has_lesion}, []
    for fold, pair in enumerate(zip(*(make_folds(data, kind, seed, True, folds) for kind in KINDS), strict=True), 1):
        groups = [
            [[name for name in split.train if (name in lesions) == bleeds] for bleeds in (True, False)]
            for split in pair
        ]  # fmt: skip
        wanted = [min(map(len, both)) for both in zip(*groups, strict=True)]
        equal = [_draw_training(data, *own, wanted, [seed, fold]) for own in zip(pair, groups, strict=True)]
        made.append(_pair(data, *equal))
    return made


def split_pair(data: CtIch, seed: int) -> SplitPair:
    """80/10/10 of both kinds, the thesis' own proportions; the training sides differ by a few slices."""
    return _pair(data, *(make_split(data, kind, seed, True) for kind in KINDS))


def _pair(data: CtIch, by_slice: Split, by_patient: Split) -> SplitPair:
    drawn, tested = {*by_slice.ids, *by_patient.ids}, set(by_patient.patients("test"))
    rest = (one.id for one in data.slices if not one.has_lesion and one.id not in drawn)
    return SplitPair(by_slice, by_patient, tuple(name for name in rest if name.split("/")[0] in tested))


def _draw_training(
    data: CtIch, split: Split, groups: list[list[str]], wanted: list[int], seed: list[int]
) -> Split:  # fmt: skip
    """Keep as many slices of each group of the training side as are wanted."""
    random = np.random.default_rng([*seed, split.kind == "patient"])
    draws = [random.choice(len(names), count, replace=False) for names, count in zip(groups, wanted, strict=True)]
    kept = {names[index] for names, draw in zip(groups, draws, strict=True) for index in draw}
    train = tuple(name for name in split.train if name in kept)
    content = data.content_sha256([*train, *split.validation, *split.test])
    return replace(split, train=train, data_sha256=content)
