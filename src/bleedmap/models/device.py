"""Which device torch computes on."""

import torch

from bleedmap.errors import SettingsError


def require_device(name: str) -> str:
    """`name`, or for 'auto' the fastest device here.

    Raises:
        SettingsError: a device that is not here.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [device for device, found in there.items() if found]  # the fastest first
    if name == "auto":
        return here[0]
    if name not in here:
        raise SettingsError(
            "--device",
            found=f"'{name}', which torch {torch.__version__} does not find here",
            needed=f"one of {', '.join(here)}",
            remedy="use --device cpu, or install torch for that device",
        )
    return name
