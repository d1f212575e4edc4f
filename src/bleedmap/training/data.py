"""A side of a split in memory: network inputs and masks, as tensors on the training device."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bleedmap.arrays import BoolArray, ByteArray, FloatArray
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.phantom.head import make_phantom, random_settings
from bleedmap.preprocess import Preprocessing, network_input, resize_into

Progress = Callable[[int, int], None]
PHANTOM_SEED = 1_000_000  # training phantoms start here; the demo's and the tests' are below


@dataclass(frozen=True, eq=False)
class Side:
    """Slices ready to train on: `inputs` (n, 1, size, size) float32, `masks` the same in uint8, a row an id."""

    ids: tuple[str, ...]
    inputs: Tensor
    masks: Tensor

    @property
    def has_lesion(self) -> BoolArray:
        """(n,) whether the mask at the network's size marks anything."""
        return np.asarray(self.masks.flatten(1).amax(dim=1).cpu().numpy() > 0)

    def parted(self, count: int) -> "tuple[Side, Side]":
        """The first `count` slices, and the rest."""
        return (
            Side(self.ids[:count], self.inputs[:count], self.masks[:count]),
            Side(self.ids[count:], self.inputs[count:], self.masks[count:]),
        )

    def chosen(self, ids: Sequence[str]) -> "Side":
        """The slices called `ids`, in that order.

        Raises:
            KeyError: one of them is not here.
        """
        row_of = {name: row for row, name in enumerate(self.ids)}
        rows = torch.tensor([row_of[name] for name in ids], dtype=torch.int64, device=self.inputs.device)
        return Side(tuple(ids), self.inputs[rows], self.masks[rows])

    def to(self, device: torch.device) -> "Side":
        """The same on another device."""
        return Side(self.ids, self.inputs.to(device), self.masks.to(device))


def prepare(hu: FloatArray, mask: BoolArray, settings: Preprocessing) -> tuple[FloatArray, ByteArray]:
    """One slice and its mask (rows, columns) -> both (size, size); the mask thresholded after resizing."""
    inputs, frames = network_input(hu[None], settings)
    if not mask.any():
        return inputs[0], np.zeros((settings.size, settings.size), np.uint8)
    return inputs[0], (resize_into(mask, frames[0], settings.size) >= 0.5).astype(np.uint8)


def load_side(
    data: CtIch, ids: Sequence[str], settings: Preprocessing, progress: Progress = lambda done, of: None
) -> Side:
    """Read and prepare the slices called `ids`, in that order."""

    def one(name: str) -> tuple[FloatArray, ByteArray]:
        record = data.slice(name)
        return prepare(data.read_hu(record), data.read_mask(record), settings)

    return _collect(ids, one, settings.size, progress)


def load_phantoms(count: int, settings: Preprocessing, seed: int, progress: Progress = lambda done, of: None) -> Side:
    """Draw `count` phantom heads; all their slices, as of a side."""
    ids: list[str] = []
    pairs: list[tuple[FloatArray, ByteArray]] = []
    for number in range(count):
        phantom = make_phantom(random_settings(PHANTOM_SEED + 10_000 * seed + number))
        for index, (hu, mask) in enumerate(zip(phantom.volume.hu, phantom.mask.array, strict=True)):
            ids.append(f"phantom-{number}/{index + 1}")
            pairs.append(prepare(hu, mask, settings))
        progress(number + 1, count)
    return _stack(ids, pairs)


def joined(first: Side, second: Side) -> Side:
    """Both sides as one."""
    return Side(
        first.ids + second.ids,
        torch.cat([first.inputs, second.inputs]),
        torch.cat([first.masks, second.masks]),
    )


def _collect(
    ids: Sequence[str],
    read: Callable[[str], tuple[FloatArray, ByteArray]],
    size: int,
    progress: Progress,
) -> Side:
    pairs = []
    with ThreadPoolExecutor(4) as pool:
        for done, pair in enumerate(pool.map(read, ids), start=1):
            pairs.append(pair)
            progress(done, len(ids))
    return _stack(ids, pairs)


def _stack(ids: Sequence[str], pairs: list[tuple[FloatArray, ByteArray]]) -> Side:
    inputs, masks = (np.stack(part)[:, None] for part in zip(*pairs, strict=True))
    return Side(tuple(ids), torch.from_numpy(inputs), torch.from_numpy(masks))
