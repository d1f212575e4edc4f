"""One head through every door of the program: the same masks, bit for bit, and the same notes, word for word."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import bleedmap
from bleedmap.arrays import AnyArray
from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.evaluation.studies.find import Places, find_cases
from bleedmap.evaluation.studies.run import ExternalOptions, ExternalStudy, run_external
from bleedmap.figures.prediction import predict_slices
from bleedmap.inference.weights import locate
from bleedmap.study.segment import Segmenter
from bleedmap.window import BRAIN
from command_line import run
from tiny_network import ANY_PICTURE, head_hu, write_tiny_network

HEADS: dict[str, list[str]] = {
    "even": [], "uneven": ["--gap", "1", "--tilt", "20"],
    "thin": ["--shape", "48", "128", "128", "--spacing", "2.4", "1.8", "1.8", "--tilt", "15"],
}  # fmt: skip


@dataclass(frozen=True)
class Doors:
    """A folder with the heads in `ct`, and what the verbs wrote of them."""

    folder: Path
    external: dict[str, ExternalStudy]

    def results(self, door: str, name: str) -> tuple[dict[str, Any], AnyArray, AnyArray]:
        """A study's summary, mask and probability, as a verb wrote them."""
        folder = self.folder / door / name
        summary = json.loads((folder / "summary.json").read_text("utf-8"))
        arrays = (np.asanyarray(nib.load(folder / f"{name}_{kind}.nii.gz").dataobj) for kind in ("dseg", "probseg"))
        return summary, *arrays


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Doors:
    """Each verb's results; `evaluate --studies` is given the masks that `segment` made as the reference."""
    folder = tmp_path_factory.mktemp("doors")
    for name, geometry in HEADS.items():
        head = ("--shape", 16, 128, 128, "--spacing", 8, 1.8, 1.8, "--seed", 1, "--bleed", "IPH:30:left")
        assert run("phantom", "-o", folder / "ct" / name, "--dicom", *head, *geometry) == 0
        assert run("segment", folder / "ct" / name, "-o", folder / "segment" / name) == 0
        (folder / "masks").mkdir(exist_ok=True)
        made = folder / "segment" / name / "dicom" / "segmentation.dcm"
        (folder / "masks" / f"{name}.dcm").write_bytes(made.read_bytes())
    assert run("batch", folder / "ct", "-o", folder / "batch") == 0
    found = find_cases(Places(folder / "ct", folder / "masks", folder / "evaluate", "unknown"))
    measured = run_external(found, folder / "evaluate", Segmenter.load(), ExternalOptions())
    return Doors(folder, {one.name: one for one in measured})


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", HEADS)
def test_batch_writes_what_segment_writes(name: str, doors: Doors) -> None:
    (alone, *mine), (many, *theirs) = doors.results("segment", name), doors.results("batch", name)
    assert alone["notes"] == many["notes"]
    assert all(map(np.array_equal, mine, theirs))
    assert mine[0].any()
    assert alone["lesions"] == many["lesions"]
    assert alone["certainty"] == many["certainty"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", HEADS)
def test_evaluate_measures_what_segment_writes(name: str, doors: Doors) -> None:
    summary, *_ = doors.results("segment", name)
    measured = doors.external[name]
    *notes, about_reference = measured.notes
    assert notes == summary["notes"]
    assert "a program outlined it" in about_reference
    assert measured.record is not None
    counts = measured.record.counts
    assert counts.predicted.sum() == summary["lesion_pixels"] > 0
    assert (counts.predicted == counts.true_positive).all()
    assert (counts.reference == counts.true_positive).all()
    assert measured.record.verdict.study == pytest.approx(summary["certainty"]["study_probability"], abs=1e-6)
    assert measured.record.verdict.abstained == tuple(summary["certainty"]["abstained"])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", HEADS)
def test_python_gives_what_segment_writes(name: str, doors: Doors) -> None:
    summary, *_ = doors.results("segment", name)
    result = bleedmap.segment(doors.folder / "ct" / name)
    assert list(result.notes) == summary["notes"]
    assert [int(one.sum()) for one in result.mask.array] == [one["lesion_pixels"] for one in summary["slices"]]
    if result.volume.grid.is_even:
        stored = nib.load(doors.folder / "segment" / name / f"{name}_dseg.nii.gz")
        assert np.asanyarray(stored.dataobj).sum() == result.mask.array.sum()


@pytest.mark.exhaustive
def test_a_process_of_its_own_gives_what_one_gave_in_turn(doors: Doors) -> None:
    """What the first study leaves behind in a process changes nothing of the next."""
    study, out = doors.folder / "ct/uneven", doors.folder / "own/uneven"
    verb = [sys.executable, "-c", "from bleedmap.cli.main import main; main()", "segment"]
    subprocess.run([*verb, str(study), "-o", str(out)], stdout=subprocess.DEVNULL, check=True, timeout=300)
    (once, *mine), (again, *theirs) = doors.results("segment", "uneven"), doors.results("own", "uneven")
    assert once == again
    assert all(map(np.array_equal, mine, theirs))


@pytest.mark.exhaustive
def test_every_door_says_that_thin_slices_were_outlined_on_slabs(doors: Doors) -> None:
    for notes in (doors.results("batch", "thin")[0]["notes"], doors.external["thin"].notes):
        assert any("outlined on 24 slabs of 4.6 mm" in one for one in notes)


@pytest.mark.exhaustive
def test_every_door_notes_uneven_slices(doors: Doors) -> None:
    for notes in (doors.results("batch", "uneven")[0]["notes"], doors.external["uneven"].notes):
        assert any("The NIfTI files are on an even grid" in one for one in notes)


def test_a_figure_draws_what_segment_marks(jpeg_release: Path, tmp_path: Path) -> None:
    """The same picture of a bleeding head, as a slice of the data set and as a file of the user's."""
    picture = jpeg_release / "Patients_CT/051/brain/2.jpg"
    grey = np.round(255 * BRAIN.to_unit(head_hu(24, 32))).astype(np.uint8)
    Image.fromarray(grey).save(picture, quality=95)
    write_tiny_network(tmp_path / "tiny.onnx")
    run("segment", picture, "--weights", tmp_path / "tiny.onnx", "-o", tmp_path / "out", *ANY_PICTURE)
    with Image.open(tmp_path / "out" / "2_mask.png") as stored:
        mask = np.asarray(stored) > 0
    dataset, weights = open_ct_ich(jpeg_release), locate(tmp_path / "tiny.onnx")
    record = next(one for one in dataset.slices if one.id == "051/2")
    (drawn,) = predict_slices(dataset, [record], weights, None)
    assert mask.any()
    assert np.array_equal(drawn.probability >= weights.threshold, mask)
