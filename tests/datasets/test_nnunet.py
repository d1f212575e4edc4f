"""CT-ICH in nnU-Net's layout."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.datasets.folds import Fold, ProtocolFolds, protocol_folds
from bleedmap.datasets.nnunet import export_nnunet
from bleedmap.errors import OutputError, SplitError


def test_images_labels_and_folds(jpeg_release: Path, tmp_path: Path) -> None:
    data = open_ct_ich(jpeg_release)
    folds = ProtocolFolds(
        data.release, data.content_sha256(), 0, (Fold(1, (50,), (49,)), Fold(2, (49,), (50,)), Fold(3, (49,), (51,)))
    )
    out = tmp_path / "Dataset501_CTICH"
    export_nnunet(data, folds, out)
    described = json.loads((out / "dataset.json").read_text())
    assert described["numTraining"] == 3
    assert described["labels"] == {"background": 0, "hemorrhage": 1}
    assert json.loads((out / "splits_final.json").read_text())[1] == {
        "train": ["ctich_049", "ctich_051"], "val": ["ctich_050"],
    }  # fmt: skip
    for patient in data.patients:
        image = nib.load(out / f"imagesTr/ctich_{patient.number:03d}_0000.nii.gz")
        label = nib.load(out / f"labelsTr/ctich_{patient.number:03d}.nii.gz")
        assert image.shape == label.shape == (32, 24, len(patient.slices))
        np.testing.assert_allclose(image.affine, label.affine)
        assert np.abs(image.affine[:3, 2]).max() == 5
        lesion = np.asarray(label.dataobj)
        assert set(np.unique(lesion)) <= {0, 1}
        assert [int(lesion[..., index].sum()) for index in range(len(patient.slices))] == [
            int(data.read_mask(one).sum()) for one in patient.slices
        ]
    with pytest.raises(OutputError):
        export_nnunet(data, folds, out)


def test_other_data_are_refused(jpeg_release: Path, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="other files"):
        export_nnunet(open_ct_ich(jpeg_release), protocol_folds(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
