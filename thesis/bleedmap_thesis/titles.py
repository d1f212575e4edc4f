"""How methods, scales and panels are called on the page; results keep their labels."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from bleedmap.figures import style
from bleedmap_thesis.plan import FOLD_EPOCHS, Scale

_BATCH = 32  # the thesis' best
_ALONE = "-alone-"
# In the order in which tables list them.
_TITLES = {
    "model-2-b32": "Model 2, batch 32",
    "model-2-b16": "Model 2, batch 16",
    "model-1-b32": "Model 1, batch 32",
    "model-1-b16": "Model 1, batch 16",
    "model-2-b32-clahe": "Model 2, batch 32, CLAHE",
    "original-u-net-b32": "Original U-Net, batch 32",
    "copy-nearest": "Copy of the nearest training slice",
    "fuzzy-c-means": "Laplacian pyramid + fuzzy c-means",
    "sift": "SIFT + classifier",
    "kaze": "KAZE + classifier",
    "cnn-13": "13-layer CNN",
    "alexnet": "AlexNet",
    "resnet-50": "ResNet-50",
}
_PLACES = {label: number for number, label in enumerate(_TITLES)}


def title(label: str) -> str:
    """A label as a reader knows it; labels that are not of the plan's grid or folds stay as they are."""
    base, alone, epochs = label.partition(_ALONE)
    if base not in _TITLES:
        return label
    return f"{_TITLES[base]}, trained alone for {epochs} epochs" if alone else _TITLES[base]


def place(label: str) -> tuple[int, int, str]:
    """Sorts labels as tables list them; unknown ones last."""
    base, _, epochs = label.partition(_ALONE)
    return _PLACES.get(base, len(_PLACES)), len(epochs), epochs


def at_scale(scale: Scale) -> str:
    """A sentence for notes and captions: the scale, and what the thesis' batch and epochs are at it."""
    if scale.batch_over == scale.epochs_over == 1:
        return f"Scale: {scale.text}."
    return (
        f"Scale: {scale.text}. Batches and epochs are named as in the thesis: 'batch {_BATCH}' is "
        f"{_BATCH // scale.batch_over} slices here, 'batch {_BATCH // 2}' is {_BATCH // 2 // scale.batch_over}, and "
        f"{FOLD_EPOCHS:,} epochs are {scale.epochs(FOLD_EPOCHS)}."
    )


def seeds_in_words(seeds: int) -> str:
    """'1 seed', '3 seeds'."""
    return f"{seeds} seed{'' if seeds == 1 else 's'}"


def letters(figure: Figure, lefts_mm: Sequence[float]) -> None:
    """a, b, … above the panels that begin there."""
    for index, left_mm in enumerate(lefts_mm):
        style.write(figure, left_mm, 2.2, chr(ord("a") + index), weight="bold", size=style.TEXT_PT + 1)
