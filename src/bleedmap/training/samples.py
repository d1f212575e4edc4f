"""Training data in memory: whole studies with neighbours and labels (`Samples`), or single slices (`Side`)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bleedmap.arrays import AnyArray, BoolArray, ByteArray, DoubleArray, FloatArray, Progress, ignore
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.errors import InputError
from bleedmap.io.files import written_whole
from bleedmap.models.networks import LABELS
from bleedmap.phantom.bleeds import TYPES as PHANTOM_TYPES
from bleedmap.phantom.head import make_phantom, random_settings
from bleedmap.preprocess import Preprocessing, bone_input, network_input, resize_into
from bleedmap.training.studies import Studies

# Seeds of training phantoms begin here, for single slices and for whole studies; those of demo and tests are below.
SIDE_PHANTOM_SEED, PHANTOM_SEED = 1_000_000, 2_000_000
BLEEDING_SHARE = 0.85  # of the phantoms; slices without a bleed are plenty
_LISTED = 5  # studies that an error names


@dataclass(frozen=True, eq=False)
class Samples:
    """Slices of whole studies, feet first, one study after the other.

    `bones`: as `slices`, 0 to 255 over what lies above the window; None where no network sees it.
    """

    slices: ByteArray  # (n, side, side) uint8, 0 to 255 over the window
    masks: ByteArray  # (n, side, side) uint8, 255 times the lesion's share of the pixel
    labels: FloatArray  # (n, 6) float32 0 or 1 in the order of `bleedmap.models.networks.LABELS`; NaN: not known
    study: AnyArray  # (n,) int, number of the study: a patient's, or a phantom's
    bones: ByteArray | None = None

    @property
    def has_lesion(self) -> BoolArray:
        """(n,) whether the reference marks anything."""
        return np.asarray(self.labels[:, 0] > 0)

    def of(self, studies: Sequence[int]) -> "Samples":
        """Those of some studies, in the order of all."""
        kept = np.isin(self.study, list(studies))
        bones = None if self.bones is None else self.bones[kept]
        return Samples(self.slices[kept], self.masks[kept], self.labels[kept], self.study[kept], bones)

    def neighbours(self, index: AnyArray, reach: int) -> AnyArray:
        """(k,) rows -> (k, 2·reach + 1) rows of the same study, feet first; ends repeat themselves."""
        begins = np.searchsorted(self.study, self.study[index], side="left")
        ends = np.searchsorted(self.study, self.study[index], side="right") - 1
        wanted = np.asarray(index)[:, None] + np.arange(-reach, reach + 1)
        rows: AnyArray = np.clip(wanted, begins[:, None], ends[:, None])
        return rows


@dataclass(frozen=True, eq=False)
class Pools:
    """Where a batch's slices come from: training patients, phantoms, and blood painted into those patients."""

    patients: Samples
    phantoms: Samples | None
    paintings: Samples | None = None

    @cached_property
    def lesion_weights(self) -> DoubleArray:
        """(n,) chance of each slice among those with a lesion: a patient's share grows with the root of its slices."""
        has = self.patients.has_lesion
        _, inverse, counts = np.unique(self.patients.study[has], return_inverse=True, return_counts=True)
        weights = np.zeros(len(has))
        weights[has] = 1 / np.sqrt(counts[inverse])
        normed: DoubleArray = weights / weights.sum()
        return normed

    @cached_property
    def painting_rows(self) -> AnyArray:
        """Rows of the paintings that a batch takes: an outermost slice, cut from its study, has no neighbour."""
        assert self.paintings is not None
        study = self.paintings.study
        inner: AnyArray = np.flatnonzero((study[1:-1] == study[:-2]) & (study[1:-1] == study[2:])) + 1
        return inner


def load_studies(
    studies: Studies, settings: Preprocessing, cache: Path | None = None, progress: Progress = ignore
) -> Samples:
    """All studies, by their numbers.

    Args:
        settings: the size to store and the frame.
        cache: a folder that keeps the decoded slices for the next run; none without it.

    Raises:
        InputError: some cannot be read or used; all of them are named.
    """
    stored = None
    if cache is not None:
        name = sha256(f"{studies.content_sha256()} {settings}".encode()).hexdigest()[:16]
        stored = cache / f"ct-ich-{name}.npz"
        if stored.is_file():
            with np.load(stored) as arrays:
                return Samples(**arrays)

    def read(number: int) -> Samples | InputError:
        try:
            one = studies.read(number, settings)
        except InputError as error:
            return error
        return _study(number, one.hu, one.share, one.labels, settings, one.pixel_mm)

    parts, refused = [], []
    with ThreadPoolExecutor(studies.threads) as pool:
        for done, part in enumerate(pool.map(read, studies.numbers), start=1):
            if isinstance(part, InputError):
                refused.append(part)
            else:
                parts.append(part)
            progress(done, len(studies.numbers))
    if refused:
        raise _explain_refused(refused)
    samples = concatenate(parts)
    if stored is not None:
        with written_whole(stored) as temporary, temporary.open("wb") as file:
            np.savez(file, **{name: one for name, one in vars(samples).items() if one is not None})
    return samples


def _explain_refused(errors: Sequence[InputError]) -> InputError:
    first = errors[0]
    if len(errors) == 1:
        return first
    named = "; ".join(f"{one.subject}: {one.found}" for one in errors[:_LISTED])
    alike = len({one.remedy for one in errors}) == 1
    remedy = first.remedy if alike else "see what to do about each in the report of `bleedmap evaluate --studies`"
    return InputError(
        f"{len(errors)} studies", found=f"{named}{'; …' if len(errors) > _LISTED else ''}",
        needed=first.needed if alike else "studies and masks that can be used",
        remedy=f"{remedy}; or take these studies out of the folder",
    )  # fmt: skip


def load_phantoms(count: int, settings: Preprocessing, seed: int = 0, progress: Progress = ignore) -> Samples:
    """Draw `count` phantom heads, numbered from 0, seen through the window as the data set's pictures are."""
    parts, order = [], list[str](PHANTOM_TYPES)
    for number in range(count):
        phantom = make_phantom(random_settings(PHANTOM_SEED + 10_000 * seed + number, bleeding_share=BLEEDING_SHARE))
        masks = [phantom.mask.array, *(phantom.labels == 1 + order.index(name) for name in LABELS[1:])]
        labels = np.stack([one.any(axis=(1, 2)) for one in masks], axis=1).astype(np.float32)
        pixel_mm = phantom.volume.grid.spacing_mm[1:] if settings.frame_mm else None
        parts.append(_study(number, phantom.volume.hu, phantom.mask.array, labels, settings, pixel_mm))
        progress(number + 1, count)
    return concatenate(parts)


def _study(
    number: int, hu: FloatArray, masks: BoolArray | FloatArray, labels: FloatArray, settings: Preprocessing,
    pixel_mm: tuple[float, float] | None,
) -> Samples:  # fmt: skip
    inputs, frames = network_input(hu, settings, pixel_mm)
    cover = np.stack([resize_into(mask, frame, settings.size) for mask, frame in zip(masks, frames, strict=True)])
    bones = bone_input(hu, frames, settings)
    return Samples(
        _bytes(inputs), _bytes(cover), labels, np.full(len(hu), number), None if bones is None else _bytes(bones)
    )


def _bytes(unit: FloatArray) -> ByteArray:
    return np.asarray(np.rint(np.clip(unit, 0, 1) * 255), np.uint8)


def concatenate(parts: list[Samples]) -> Samples:
    """All parts as one, in their order. The list is emptied: of gigabytes one column at a time is there twice."""
    names = [name for name, one in vars(parts[0]).items() if one is not None]
    columns = {name: [getattr(one, name) for one in parts] for name in names}
    parts.clear()
    return Samples(**{name: np.concatenate(columns.pop(name)) for name in names})


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

    def split_at(self, count: int) -> "tuple[Side, Side]":
        """The first `count` slices, and the rest."""
        return (
            Side(self.ids[:count], self.inputs[:count], self.masks[:count]),
            Side(self.ids[count:], self.inputs[count:], self.masks[count:]),
        )

    def select(self, ids: Sequence[str]) -> "Side":
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


def load_side(data: CtIch, ids: Sequence[str], settings: Preprocessing, progress: Progress = ignore) -> Side:
    """Read and prepare the slices called `ids`, in that order."""

    def one(name: str) -> tuple[FloatArray, ByteArray]:
        record = data.slice(name)
        return prepare(data.read_hu(record), data.read_mask(record), settings)

    pairs = []
    with ThreadPoolExecutor(4) as pool:
        for done, pair in enumerate(pool.map(one, ids), start=1):
            pairs.append(pair)
            progress(done, len(ids))
    return _stack(ids, pairs)


def load_phantom_side(count: int, settings: Preprocessing, seed: int, progress: Progress = ignore) -> Side:
    """Draw `count` phantom heads; all their slices, as of a side."""
    ids: list[str] = []
    pairs: list[tuple[FloatArray, ByteArray]] = []
    for number in range(count):
        phantom = make_phantom(random_settings(SIDE_PHANTOM_SEED + 10_000 * seed + number))
        for index, (hu, mask) in enumerate(zip(phantom.volume.hu, phantom.mask.array, strict=True)):
            ids.append(f"phantom-{number}/{index + 1}")
            pairs.append(prepare(hu, mask, settings))
        progress(number + 1, count)
    return _stack(ids, pairs)


def join_sides(first: Side, second: Side) -> Side:
    """Both sides as one."""
    return Side(
        first.ids + second.ids,
        torch.cat([first.inputs, second.inputs]),
        torch.cat([first.masks, second.masks]),
    )


def _stack(ids: Sequence[str], pairs: list[tuple[FloatArray, ByteArray]]) -> Side:
    inputs, masks = (np.stack(part)[:, None] for part in zip(*pairs, strict=True))
    return Side(tuple(ids), torch.from_numpy(inputs), torch.from_numpy(masks))
