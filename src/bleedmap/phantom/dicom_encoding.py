"""A phantom's pixels in any transfer syntax that a scanner or a PACS may send: DICOM PS3.5 section 10, annex A."""

import tempfile
from pathlib import Path
from types import MappingProxyType

import gdcm  # type: ignore[import-untyped]
import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from bleedmap.errors import SettingsError

TRANSFER_SYNTAXES = MappingProxyType({
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg": JPEGLosslessSV1,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
})  # fmt: skip
_PLUGINS = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}


def encode(instance: Dataset, name: str) -> None:
    """Bring an instance with native little-endian pixels to a transfer syntax without loss, in place.

    Raises:
        SettingsError: no such transfer syntax.
    """
    if name not in TRANSFER_SYNTAXES:
        raise SettingsError(
            f"transfer syntax {name}", found="not known", needed=f"one of {', '.join(TRANSFER_SYNTAXES)}",
            remedy="for example explicit",
        )  # fmt: skip
    syntax = TRANSFER_SYNTAXES[name]
    if syntax in _PLUGINS:
        instance.compress(syntax, encoding_plugin=_PLUGINS[syntax], generate_instance_uid=False)
    elif syntax == JPEGLosslessSV1:
        _encode_by_gdcm(instance, syntax)
    elif syntax == ExplicitVRBigEndian:
        instance.PixelData = np.frombuffer(instance.PixelData, "<u2").astype(">u2").tobytes()
    instance.file_meta.TransferSyntaxUID = syntax


def _encode_by_gdcm(instance: Dataset, syntax: UID) -> None:
    """gdcm works on files; only the pixels are taken back from it."""
    with tempfile.TemporaryDirectory() as folder:
        native, encoded = str(Path(folder, "native.dcm")), str(Path(folder, "encoded.dcm"))
        instance.save_as(native, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(native)
        reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise RuntimeError(f"gdcm cannot encode {syntax.name}")
        writer = gdcm.ImageWriter()
        writer.SetFileName(encoded)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()
        instance.PixelData = pydicom.dcmread(encoded).PixelData
    instance["PixelData"].is_undefined_length = True
