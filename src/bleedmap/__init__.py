"""bleedmap: intracranial hemorrhage on head CT, found and outlined. Research software, not a medical device."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bleedmap.study.result import Result
    from bleedmap.study.segment import segment
    from bleedmap.volume import Volume

__all__ = ["Result", "Volume", "__version__", "segment"]
__version__ = "0.1.0"
RESEARCH_ONLY = "Research software, not a medical device: no result may be used to diagnose or treat a patient."

_HOMES = {"Result": "study.result", "Volume": "volume", "segment": "study.segment"}


def __getattr__(name: str) -> Any:
    """What users call, loaded when it is first asked for, so that the command line starts fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bleedmap' has no attribute '{name}'")
    return getattr(importlib.import_module(f"bleedmap.{_HOMES[name]}"), name)
