"""Two heads and a tiny network, made once for all tests of batches."""

import pytest

from bleedmap.phantom.head import Bleed
from bleedmap.volume import Volume
from drawn_heads import small_head


@pytest.fixture(scope="session")
def heads() -> tuple[Volume, Volume]:
    """One with a bleed, one without."""
    return small_head(Bleed("IPH", 30.0, "left")).volume, small_head().volume


@pytest.fixture(scope="session")
def weights(spots: str) -> str:
    return spots
