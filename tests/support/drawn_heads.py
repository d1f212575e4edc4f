"""Phantom heads, each drawn once in a process, because drawing takes a second or two."""

from functools import cache

from bleedmap.phantom.head import Bleed, Phantom, PhantomSettings, make_phantom


@cache
def draw_head(settings: PhantomSettings) -> Phantom:
    """What `make_phantom` draws; nobody may change its voxels."""
    phantom = make_phantom(settings)
    for voxels in (phantom.volume.hu, phantom.mask.array, phantom.labels):
        voxels.flags.writeable = False
    return phantom


def small_head(*bleeds: Bleed, seed: int = 1) -> Phantom:
    """A whole head in 14 slices of 128 × 128."""
    return draw_head(PhantomSettings(seed=seed, spacing_mm=(10.0, 1.8, 1.8), shape=(14, 128, 128), bleeds=bleeds))
