"""The types that every module shares: arrays, whose index order is (slice, row, column), and reports of progress."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]

Progress = Callable[[int, int], None]  # what is told how work goes on: units done, and of how many


def ignore(*_: object) -> None:
    """In place of a report that nobody wants."""
