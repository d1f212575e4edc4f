"""Predictions out of fold on disk, one file for each patient: what the report's pictures are drawn from."""

import zlib
from math import ceil
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from bleedmap.arrays import BoolArray, FloatArray
from bleedmap.errors import InputError
from bleedmap.io.files import written_whole

# What numpy, zipfile and zlib raise for a missing or damaged archive.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, BadZipFile, zlib.error)
_STEPS = 255  # a probability is kept in steps of 1/255


def write_prediction(folder: Path, patient: int, probability: FloatArray, mask: BoolArray) -> Path:
    """Write the prediction of patient 7, say, as `folder`/007.npz, whole or not at all.

    Args:
        folder: one for each method; it need not exist.
        patient: its number.
        probability: (slice, row, column) 0 to 1 on the slices' own grid; kept as uint8, in steps of 1/255.
        mask: the same shape, bool: the final mask, after all postprocessing; kept in bits.

    Raises:
        ValueError: the shapes differ or are not of three axes, or a probability is not in 0 to 1.
        OutputError: the disk is full, or the folder cannot be written.
    """
    if probability.ndim != 3 or probability.shape != mask.shape:
        raise ValueError(f"probability {probability.shape} and mask {mask.shape} are not one (slice, row, column)")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("a probability below 0, above 1 or not a number")
    steps = np.rint(probability * np.float32(_STEPS)).astype(np.uint8)
    path = _path(folder, patient)
    with written_whole(path) as part:
        np.savez_compressed(part, probability=steps, mask=np.packbits(mask), shape=np.array(mask.shape))
    return path


def read_prediction(folder: Path, patient: int) -> tuple[FloatArray, BoolArray]:
    """Read what `write_prediction` wrote.

    Returns:
        (probability float32 in steps of 1/255, mask bool), both (slice, row, column).

    Raises:
        InputError: the file is missing or damaged, or not of this kind.
    """
    path = _path(folder, patient)
    try:
        with np.load(path) as content:  # numpy's own default: arrays alone, no objects
            steps, packed, shape = content["probability"], content["mask"], tuple(content["shape"].tolist())
        bits = steps.dtype == packed.dtype == np.uint8 and packed.shape == (ceil(steps.size / 8),)
        if not bits or steps.shape != shape or len(shape) != 3:
            raise ValueError(f"probability {steps.dtype} {steps.shape}, mask {packed.dtype} {packed.shape} of {shape}")
        mask = np.unpackbits(packed, count=steps.size).astype(np.bool_).reshape(shape)
        return steps.astype(np.float32) / np.float32(_STEPS), mask
    except _DAMAGED as error:
        missing = isinstance(error, FileNotFoundError)
        raise InputError(
            path,
            found="no such file" if missing else f"cannot be used ({error})",
            needed="this patient's prediction out of fold, as bleedmap wrote it",
            remedy="give the folder with the predictions that these records were counted from",
        ) from error


def _path(folder: Path, patient: int) -> Path:
    return folder / f"{patient:03d}.npz"
