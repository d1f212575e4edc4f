"""How much of the blood in phantoms is found, by type, and beside it of the patients out of fold.

`python tests/support/matrices/phantom_volumes.py` prints both tables in Markdown.

A phantom holds one bleed; the ratio is what was found of its marked regions over the truth. Of patients, the pixels
found over the radiologists' on slices that are labelled with one type alone and were found at all: a slice that is
missed whole says nothing of an edge.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from bleedmap.evaluation.records import TYPE_NAMES, committed_records, read_out_of_fold
from bleedmap.phantom.bleeds import TYPES, Bleed, BleedType
from bleedmap.phantom.head import SCANNER_KERNEL_MM, PhantomSettings, make_phantom
from bleedmap.study.read import read_study
from bleedmap.study.segment import Segmenter

SEEDS = (701, 702, 703)  # no network was trained on them
VOLUMES_ML: dict[BleedType, tuple[float, ...]] = {
    "EDH": (10.0, 25.0, 50.0), "SDH": (20.0, 40.0, 60.0), "SAH": (6.0, 10.0, 15.0), "IPH": (8.0, 20.0, 40.0),
    "IVH": (4.0, 8.0, 12.0),
}  # fmt: skip


def measure_phantoms(
    kinds: list[BleedType], seeds: tuple[int, ...], kernel_mm: float
) -> Iterator[tuple[BleedType, int, float, float]]:
    """Yields type, seed, true and found mL of a phantom with one bleed, as `bleedmap phantom` makes it."""
    segmenter = Segmenter.load(precision="fp32")
    for kind in kinds:
        for number, seed in enumerate(seeds):
            bleed = Bleed(kind, VOLUMES_ML[kind][number % 3], "left" if number % 2 else "right")
            phantom = make_phantom(PhantomSettings(seed=seed, bleeds=(bleed,), kernel_mm=kernel_mm))
            result = segmenter.segment(read_study(phantom.volume))
            yield kind, seed, phantom.mask.volume_ml, phantom.share_out(result.mask)[kind]


def measure_patients() -> dict[str, list[float]]:
    """Ratio of found to true pixels by type, a slice each, of the first committed records."""
    ratios = defaultdict(list)
    for study in read_out_of_fold(committed_records()[0]).studies:
        true = study.counts.true_positive + study.counts.false_negative
        found = study.counts.true_positive + study.counts.false_positive
        for index in np.flatnonzero((study.types.sum(axis=1) == 1) & (study.counts.true_positive > 0)):
            ratios[TYPE_NAMES[int(study.types[index].argmax())]].append(float(found[index] / true[index]))
    return ratios


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", nargs="*", choices=TYPES, default=list(TYPES))
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--kernel", type=float, default=SCANNER_KERNEL_MM)
    asked = parser.parse_args()
    print("| phantom | seed | true mL | found mL | found / true |\n| --- | ---: | ---: | ---: | ---: |")
    for kind, seed, true_ml, found_ml in measure_phantoms(asked.types, tuple(asked.seeds), asked.kernel):
        print(f"| {kind} | {seed} | {true_ml:.1f} | {found_ml:.1f} | {found_ml / true_ml:.2f} |", flush=True)
    print("\n| patients, slices of | slices | median found / true | quartiles |\n| --- | ---: | ---: | --- |")
    for kind_name, ratios in measure_patients().items():
        low, middle, high = np.percentile(ratios, (25, 50, 75))
        print(f"| {kind_name} | {len(ratios)} | {middle:.2f} | {low:.2f} to {high:.2f} |")


if __name__ == "__main__":
    main()
