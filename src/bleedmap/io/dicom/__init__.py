"""DICOM: find, choose, order and decode CT series; write segmentations, reports and pictures.

pydicom imports `requests`, where it is installed, to fetch its own test files: that takes time at each start and opens
a socket, which a program that reads patients' images may not do. So it is hidden while that module of pydicom loads.
"""

import importlib
import sys

if "requests" in sys.modules:
    importlib.import_module("pydicom.data.download")
else:
    sys.modules["requests"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("pydicom.data.download")
    finally:
        del sys.modules["requests"]
