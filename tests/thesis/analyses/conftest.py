"""Made-up results of every cell, once for all analyses."""

import pytest

from bleedmap_thesis.record import CellResult
from synthetic_cells import synthetic_cells


@pytest.fixture(scope="session")
def results() -> list[CellResult]:
    return synthetic_cells()
