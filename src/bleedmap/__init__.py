"""bleedmap: intracranial hemorrhage on head CT, found and outlined. Research software, not a medical device."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bleedmap.comparison.compare import Comparison, compare
    from bleedmap.errors import BleedmapError, InputError
    from bleedmap.geometry import SliceGrid
    from bleedmap.study.read import Study, read_study
    from bleedmap.study.result import Result
    from bleedmap.study.segment import Outcome, Segmenter, segment, segment_many
    from bleedmap.volume import Mask, Volume

__all__ = [
    "BleedmapError", "Comparison", "InputError", "Mask", "Outcome", "Result", "Segmenter", "SliceGrid", "Study",
    "Volume", "__version__", "compare", "read_study", "segment", "segment_many",
]  # fmt: skip
__version__ = "0.2.0"
RESEARCH_ONLY = "Research software, not a medical device: no result may be used to diagnose or treat a patient."

_NAMES = {
    "comparison.compare": ("Comparison", "compare"),
    "errors": ("BleedmapError", "InputError"),
    "geometry": ("SliceGrid",),
    "study.read": ("Study", "read_study"),
    "study.result": ("Result",),
    "study.segment": ("Outcome", "Segmenter", "segment", "segment_many"),
    "volume": ("Mask", "Volume"),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """What users call, loaded when it is first asked for, so that the command line starts fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bleedmap' has no attribute '{name}'")
    return getattr(importlib.import_module(f"bleedmap.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
