"""Synthetic head CTs with bleeds of known type and volume, as arrays or DICOM: for demonstrations, tests, training."""

from bleedmap.phantom.dicom import CtOptions, ct_instances, scout, write_series
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom

__all__ = [
    "Bleed", "CtOptions", "PhantomSettings", "ct_instances", "enhanced_ct", "make_phantom", "scout", "write_series",
]  # fmt: skip
