"""Whole studies as training samples: slices in bytes, each with its neighbours, mask and labels."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, ByteArray, FloatArray
from bleedmap.datasets.ct_ich import TYPES, CtIch, Patient
from bleedmap.io.files import written_whole
from bleedmap.models.networks import LABELS
from bleedmap.phantom.bleeds import TYPES as PHANTOM_TYPES
from bleedmap.phantom.head import make_phantom, random_settings
from bleedmap.preprocess import Preprocessing, network_input, resize_into

Progress = Callable[[int, int], None]
PHANTOM_SEED = 2_000_000  # these phantoms' seeds begin here; the demo's, the tests' and the thesis recipe's are below
BLEEDING_SHARE = 0.85  # of the phantoms; slices without a bleed are plenty


@dataclass(frozen=True, eq=False)
class Samples:
    """Slices of whole studies, feet first, one study after the other.

    Attributes:
        slices: (n, side, side) uint8, 0 to 255 over the window.
        masks: (n, side, side) uint8, 255 times the lesion's share of the pixel.
        labels: (n, 6) float32 0 or 1 in the order of `bleedmap.models.networks.LABELS`.
        study: (n,) int, number of the study: a patient's, or a phantom's.
    """

    slices: ByteArray
    masks: ByteArray
    labels: FloatArray
    study: AnyArray

    @property
    def has_lesion(self) -> BoolArray:
        """(n,) whether the reference marks anything."""
        return np.asarray(self.labels[:, 0] > 0)

    def of(self, studies: Sequence[int]) -> "Samples":
        """Those of some studies, in the order of all."""
        kept = np.isin(self.study, list(studies))
        return Samples(self.slices[kept], self.masks[kept], self.labels[kept], self.study[kept])

    def neighbours(self, index: AnyArray, reach: int) -> AnyArray:
        """(k,) rows -> (k, 2·reach + 1) rows of the same study, feet first; ends repeat themselves."""
        begins = np.searchsorted(self.study, self.study[index], side="left")
        ends = np.searchsorted(self.study, self.study[index], side="right") - 1
        wanted = np.asarray(index)[:, None] + np.arange(-reach, reach + 1)
        rows: AnyArray = np.clip(wanted, begins[:, None], ends[:, None])
        return rows


def load_patients(
    data: CtIch, settings: Preprocessing, cache: Path | None = None, progress: Progress = lambda done, of: None
) -> Samples:
    """All of the data set, by patient's number.

    Args:
        data: CT-ICH.
        settings: the size to store and the frame.
        cache: a folder that keeps the decoded slices for the next run; none without it.
        progress: called with patients done and of how many.
    """
    name = sha256(f"{data.content_sha256()} {settings}".encode()).hexdigest()[:16]
    stored = None if cache is None else cache / f"ct-ich-{name}.npz"
    if stored is not None and stored.is_file():
        with np.load(stored) as arrays:
            return Samples(arrays["slices"], arrays["masks"], arrays["labels"], arrays["study"])
    parts = []
    with ThreadPoolExecutor(2) as pool:
        for done, part in enumerate(pool.map(lambda one: _patient(data, one, settings), data.patients), start=1):
            parts.append(part)
            progress(done, len(data.patients))
    samples = _joined(parts)
    if stored is not None:
        with written_whole(stored) as beside, beside.open("wb") as file:
            np.savez(file, slices=samples.slices, masks=samples.masks, labels=samples.labels, study=samples.study)
    return samples


def load_phantoms(
    count: int, settings: Preprocessing, seed: int = 0, progress: Progress = lambda done, of: None
) -> Samples:
    """Draw `count` phantom heads, numbered from 0, seen through the window as the data set's pictures are."""
    parts, order = [], list[str](PHANTOM_TYPES)
    for number in range(count):
        phantom = make_phantom(random_settings(PHANTOM_SEED + 10_000 * seed + number, bleeding_share=BLEEDING_SHARE))
        told = [phantom.mask.array, *(phantom.labels == 1 + order.index(name) for name in LABELS[1:])]
        labels = np.stack([one.any(axis=(1, 2)) for one in told], axis=1).astype(np.float32)
        parts.append(_study(number, phantom.volume.hu, phantom.mask.array, labels, settings))
        progress(number + 1, count)
    return _joined(parts)


def _patient(data: CtIch, patient: Patient, settings: Preprocessing) -> Samples:
    hu = np.stack([data.read_hu(one) for one in patient.slices])
    masks = np.stack([data.read_mask(one) for one in patient.slices])
    labels = np.array([[one.has_lesion, *(name in one.types for name in TYPES)] for one in patient.slices], np.float32)
    return _study(patient.number, hu, masks, labels, settings)


def _study(number: int, hu: FloatArray, masks: BoolArray, labels: FloatArray, settings: Preprocessing) -> Samples:
    inputs, frames = network_input(hu, settings)
    cover = np.stack([resize_into(mask, frame, settings.size) for mask, frame in zip(masks, frames, strict=True)])
    return Samples(_bytes(inputs), _bytes(cover), labels, np.full(len(hu), number))


def _bytes(unit: FloatArray) -> ByteArray:
    return np.asarray(np.rint(np.clip(unit, 0, 1) * 255), np.uint8)


def _joined(parts: Sequence[Samples]) -> Samples:
    columns = zip(*((one.slices, one.masks, one.labels, one.study) for one in parts), strict=True)
    return Samples(*(np.concatenate(column) for column in columns))
