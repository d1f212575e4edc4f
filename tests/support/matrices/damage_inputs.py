"""Inputs that are damaged, absurd or hostile: every kind, and one input for each seed."""

import random
from pathlib import Path

from damage_containers import base_nifti, nifti, other_kind, special_folder, zip_bomb, zip_bytes, zip_names
from damage_dicom import (
    Make,
    absurd_tag,
    base_files,
    changed_bytes,
    missing_tag,
    other_syntax,
    pixel_length,
    stream,
    write_base,
)

KINDS: dict[str, Make] = {
    "bytes flipped in a file": changed_bytes("flip", False),
    "bytes flipped in all files": changed_bytes("flip", True),
    "a file cut": changed_bytes("cut", False),
    "bytes put in": changed_bytes("insert", False),
    "tag missing": missing_tag,
    "tag absurd": absurd_tag,
    "tag absurd, again": absurd_tag,
    "transfer syntax wrong": other_syntax,
    "pixel data too short or long": pixel_length,
    "compressed stream damaged": stream,
    "zip bomb": zip_bomb,
    "zip names": zip_names,
    "zip damaged": zip_bytes,
    "NIfTI": nifti,
    "folder": special_folder,
    "other kind": other_kind,
}


def make_input(seed: int, folder: Path) -> tuple[str, Path]:
    """The kind of damage, and the input's path in `folder`; the same for one seed."""
    kind = tuple(KINDS)[seed % len(KINDS)]
    return kind, KINDS[kind](random.Random(seed), folder)


def undamaged_inputs(folder: Path) -> tuple[Path, Path]:
    """The study as DICOM and as NIfTI."""
    volume = folder / "study.nii"
    volume.write_bytes(base_nifti())
    return write_base(folder, base_files()), volume
