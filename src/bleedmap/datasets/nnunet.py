"""Export CT-ICH in nnU-Net v2's layout with the protocol's folds, to train nnU-Net on the same patients.

The layout is imagesTr/NAME_0000.nii.gz, labelsTr/NAME.nii.gz, dataset.json; splits_final.json, which nnU-Net reads from
its folder of preprocessed data (Isensee et al., Nature Methods 2021; MIC-DKFZ/nnUNet, documentation/dataset_format.md).
"""

from pathlib import Path

import numpy as np

from bleedmap.arrays import Progress, ignore
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.datasets.ct_ich_tables import SLICE_MM
from bleedmap.datasets.folds import ProtocolFolds
from bleedmap.geometry import SliceGrid, axial_affine
from bleedmap.io import nifti
from bleedmap.io.files import folder_written_whole, write_json
from bleedmap.preprocess import TRAINING_VIEW_MM
from bleedmap.volume import Mask, Volume


def export_nnunet(data: CtIch, folds: ProtocolFolds, out: Path, progress: Progress = ignore) -> None:
    """Write the data set and its folds; all or nothing.

    Args:
        data: CT-ICH 1.0.0, whose folds the protocol fixes.
        folds: the protocol's; a fold's 'val' are its test patients, 'train' all others, its validation patients among
            them: nnU-Net chooses no thresholds on them.
        out: a new folder, such as nnUNet_raw/Dataset501_CTICH.

    Raises:
        SplitError: the data are not those that the folds were drawn from.
        OutputError: `out` holds files, or cannot be written.
    """
    folds.check_against(data)
    with folder_written_whole(out) as folder:
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for done, patient in enumerate(data.patients, start=1):
            hu = np.stack([data.read_hu(one) for one in patient.slices])
            mask = np.stack([data.read_mask(one) for one in patient.slices])
            pixel_mm = TRAINING_VIEW_MM / max(hu.shape[1:])
            shape = (hu.shape[0], hu.shape[1], hu.shape[2])
            grid = SliceGrid.from_affine(axial_affine((SLICE_MM, pixel_mm, pixel_mm), shape), len(hu))
            nifti.write(folder / f"imagesTr/{_name(patient.number)}_0000.nii.gz", Volume(hu, grid))
            nifti.write(folder / f"labelsTr/{_name(patient.number)}.nii.gz", Mask(mask, grid))
            progress(done, len(data.patients))
        write_json(folder / "dataset.json", {
            "channel_names": {"0": "CT"}, "labels": {"background": 0, "hemorrhage": 1},
            "numTraining": len(data.patients), "file_ending": ".nii.gz", "name": "CT-ICH 1.0.0",
            "reference": "doi 10.13026/w8q8-ky94", "licence": "CC BY 4.0",
            "description": "HU from the brain window's grey, clipped to -20 to 100; pixel size guessed (250 mm view)",
        })  # fmt: skip
        write_json(folder / "splits_final.json", [
            {
                "train": [_name(one) for one in folds.patients if one not in fold.test],
                "val": [_name(one) for one in fold.test],
            }
            for fold in folds.folds
        ])  # fmt: skip


def _name(patient: int) -> str:
    return f"ctich_{patient:03d}"
