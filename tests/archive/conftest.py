"""Two heads and a tiny network, made once for all tests of batches."""

import pytest

from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from bleedmap.volume import Volume


@pytest.fixture(scope="session")
def heads() -> tuple[Volume, Volume]:
    """One with a bleed, one without."""

    def head(*bleeds: Bleed) -> Volume:
        settings = PhantomSettings(seed=1, spacing_mm=(10.0, 1.8, 1.8), shape=(14, 128, 128), bleeds=bleeds)
        return make_phantom(settings).volume

    return head(Bleed("IPH", 30.0, "left")), head()


@pytest.fixture(scope="session")
def weights(spots: str) -> str:
    return spots
