"""What the U-Nets are held against, on the same splits: the systems that the thesis names, and a control."""

from functools import partial

from bleedmap_thesis.baselines.base import Baseline, Prediction
from bleedmap_thesis.baselines.copy_nearest import copy_nearest
from bleedmap_thesis.baselines.fuzzy_c_means import fuzzy_c_means
from bleedmap_thesis.baselines.local_features import kaze, sift
from bleedmap_thesis.baselines.networks import CLASSIFIERS, train_classifier

__all__ = ["BASELINES", "Baseline", "Prediction"]

# By the names that `plan` gives them.
BASELINES: dict[str, Baseline] = {
    "copy-nearest": copy_nearest,
    "fuzzy-c-means": fuzzy_c_means,
    "sift": sift,
    "kaze": kaze,
    **{name: partial(train_classifier, name) for name in CLASSIFIERS},
}
