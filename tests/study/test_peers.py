"""What users of other programs asked for in vain, each from files to files with the installed network."""

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from bleedmap import segment
from bleedmap.errors import InputError
from bleedmap.geometry import PlaneTurn
from bleedmap.inference.backends import BackendRecord
from bleedmap.inference.weights import locate
from bleedmap.io import nifti
from bleedmap.io.dicom.producer import ABC2
from bleedmap.phantom.dicom import CtOptions, ct_instances, write_series
from bleedmap.phantom.scan import scan
from bleedmap.results.save import save
from bleedmap.study.read import read_study
from bleedmap.study.result import Result
from bleedmap.study.segment import conclude
from bleedmap.volume import Volume
from damage_dicom import GEOMETRY, HEAD, NAME, NUMBER, SECRETS, base_files, base_scan, write_base

# What the installed network marks too much in this phantom: a quarter in slices of 10 mm, an eighth in slices of 5.
MARKED, MARKED_IN_5_MM = 0.3, 0.2
AS_IT_LIES = 0.05  # of the volume found in the same head, straight and even
FINER = replace(GEOMETRY, slices=28, spacing_mm=5.0)
UNEVEN_MM = (*range(-65, -15, 10), *range(-20, 20, 5), *range(20, 70, 10))
CLOSED = """
import resource, sys
asked = []
def refuse(event, given):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "pickle.")):
        asked.append(event)
        raise PermissionError(event)
sys.addaudithook(refuse)
from bleedmap.cli.main import main
try:
    main(["segment", sys.argv[1], "-o", sys.argv[2], "--fractional"])
finally:
    # Not ru_maxrss of its own: that begins with what the process held that started this one.
    own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    peak = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    print(peak, *asked, file=open(sys.argv[3], "w"))
"""


@dataclass(frozen=True)
class ClosedRun:
    """A run without network and pickle: its results, what it said, what it asked for in vain, its peak memory."""

    out: Path
    said: str
    complaints: str
    asked: tuple[str, ...]
    peak_bytes: int


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head with 30 mL of blood as DICOM, somebody's name in every file."""
    return write_base(tmp_path_factory.mktemp("study"), base_files("jpeg-ls"))


@pytest.fixture(scope="module")
def closed_run(study: Path) -> ClosedRun:
    out, told = study.parent / "out", study.parent / "told"
    command = [sys.executable, "-c", CLOSED, str(study), str(out), str(told)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    peak_kib, *asked = told.read_text().split()
    return ClosedRun(out, ended.stdout, ended.stderr, tuple(asked), int(peak_kib) * 1024)


def head() -> Volume:
    """The same head in memory, in whole HU as DICOM stores them."""
    return Volume(np.rint(base_scan().volume.hu), base_scan().volume.grid)


@pytest.fixture(scope="module")
def seen() -> Result:
    """Segmented in memory."""
    return segment(head())


@pytest.fixture(scope="module")
def straight() -> Result:
    """In slices of 5 mm, straight and even."""
    return segment(scan(HEAD, FINER).volume)


def with_mask(source: Path | Volume, mask: np.ndarray) -> Result:
    """A study's result with a mask in place of the network's."""
    return conclude(
        read_study(source), (), mask.astype(np.float32), locate(None), BackendRecord("test", "cpu", "fp32"), 0.5
    )


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text("utf-8"))


def ras_places(path: Path) -> np.ndarray:
    """(voxel, 3) places of a NIfTI mask's voxels in mm, in order."""
    image = nib.load(path)
    places = np.argwhere(np.asarray(image.dataobj) > 0) @ image.affine[:3, :3].T + image.affine[:3, 3]
    return np.array(sorted(np.round(places, 2).tolist()))


@pytest.mark.parametrize(
    ("name", "changes", "note"),
    [
        ("test_peer_01 a tilted gantry", {"tilt_deg": 20.0}, "The gantry was tilted by 20.0°"),
        ("test_peer_02 uneven slices", {"positions_mm": UNEVEN_MM}, "The slices are uneven, 5.00 to 10.00 mm apart"),
    ],
)
def test_peer_01_and_02_a_tilted_or_uneven_head_is_segmented_as_it_lies(tmp_path, name, changes, note, seen, straight):
    """Its volume is near the truth, and nearer to what is found in the same head, straight and even: in slices of 5 mm;
    uneven, between what is found in slices of 5 and of 10 mm."""
    made = scan(HEAD, replace(FINER, **changes))
    write_series(tmp_path / "in", ct_instances(made.volume))
    found = segment(tmp_path / "in")
    assert found.volume_ml == pytest.approx(made.true_volume_ml, rel=MARKED_IN_5_MM), name
    if "tilt_deg" in changes:
        assert found.volume_ml == pytest.approx(straight.volume_ml, rel=AS_IT_LIES), name
    else:
        assert straight.volume_ml < found.volume_ml < seen.volume_ml, name
    assert any(note in one for one in found.notes)
    centre = found.findings.lesions[0].centroid
    assert np.linalg.norm(found.mask.grid.to_mm(np.array(centre)) - made.true_centroid_mm) < 5


@pytest.mark.parametrize("turn", [PlaneTurn(True, False, True), PlaneTurn(False, True, True)])
def test_peer_03_the_outline_of_dicom_is_never_flipped(tmp_path, turn, seen):
    instances = ct_instances(head(), turn=turn, options=CtOptions(reverse_numbers=True))
    write_series(tmp_path / "in", instances, names="uid")
    turned = segment(tmp_path / "in")
    assert seen.found
    np.testing.assert_array_equal(turned.mask.array, seen.mask.array)
    save(turned, tmp_path / "out")
    nifti.write(tmp_path / "expected.nii.gz", seen.mask)
    np.testing.assert_allclose(ras_places(tmp_path / "out/in_dseg.nii.gz"), ras_places(tmp_path / "expected.nii.gz"))


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SAL"])
def test_peer_03_the_outline_of_nifti_is_never_flipped(tmp_path, axes, seen):
    """A path in and the same kind out: axes, flips and affine are the file's own."""
    nifti.write(tmp_path / "ours.nii.gz", head())
    image = nib.load(tmp_path / "ours.nii.gz")
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(axes))
    )  # fmt: skip
    nib.save(image.as_reoriented(turn), tmp_path / "in.nii")
    save(segment(tmp_path / "in.nii"), tmp_path / "out")
    given, mask = nib.load(tmp_path / "in.nii"), nib.load(tmp_path / "out/in_dseg.nii.gz")
    assert mask.shape == given.shape
    np.testing.assert_allclose(mask.affine, given.affine, atol=1e-5)
    nifti.write(tmp_path / "expected.nii.gz", seen.mask)
    np.testing.assert_allclose(ras_places(tmp_path / "out/in_dseg.nii.gz"), ras_places(tmp_path / "expected.nii.gz"))


def test_peer_04_the_volume_is_right_where_the_mask_touches_the_border(tmp_path, study):
    mask = np.zeros(base_scan().volume.hu.shape, bool)
    mask[:2, :5, :4] = True  # the first slices, the first rows and columns
    mask[-1, -3:, -7:] = True  # and the last
    expected_ml = [40 * 10.0 * 2.4**2 / 1000, 21 * 10.0 * 2.4**2 / 1000]
    save(with_mask(study, mask), tmp_path / "out")
    summary = summary_of(tmp_path / "out")
    assert summary["volume_ml"] == pytest.approx(sum(expected_ml), rel=1e-4)
    assert [one["volume_ml"] for one in summary["lesions"]] == pytest.approx(expected_ml, rel=1e-4)
    with (tmp_path / "out/study_lesions.csv").open(newline="") as stream:
        assert [float(row["volume_ml"]) for row in csv.DictReader(stream)] == pytest.approx(expected_ml, rel=1e-4)
    assert volumes_in(tmp_path / "out/dicom/report.dcm") == pytest.approx([sum(expected_ml), *expected_ml], rel=1e-3)


def test_peer_04_the_volume_is_that_of_the_blood(closed_run):
    assert summary_of(closed_run.out)["volume_ml"] == pytest.approx(base_scan().true_volume_ml, rel=MARKED)


def test_peer_05_a_negative_study_yields_every_file(tmp_path, study):
    marked = np.zeros(base_scan().volume.hu.shape, bool)
    save(with_mask(study, marked), tmp_path / "negative", fractional=True)
    marked[6:8, 40:50, 40:50] = True
    save(with_mask(study, marked), tmp_path / "positive", fractional=True)
    negative, positive = (
        {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file() and path.parent.name != "pictures"}
        for top in (tmp_path / "negative", tmp_path / "positive")
    )
    assert negative == positive >= {"dicom/segmentation.dcm", "dicom/report.dcm", "report.html", "summary.json"}
    assert list((tmp_path / "negative/dicom/pictures").iterdir())
    assert summary_of(tmp_path / "negative")["hemorrhage_found"] is False
    assert not np.asarray(nib.load(tmp_path / "negative/study_dseg.nii.gz").dataobj).any()
    assert "not detected" in str(pydicom.dcmread(tmp_path / "negative/dicom/report.dcm"))
    assert "No hemorrhage" in (tmp_path / "negative/report.html").read_text("utf-8")


def test_peer_06_the_report_is_a_dicom_sr_of_template_1500(closed_run):
    report = pydicom.dcmread(closed_run.out / "dicom/report.dcm")
    assert report.SOPClassUID == pydicom.uid.Comprehensive3DSRStorage
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert report.VerificationFlag == "UNVERIFIED"
    volumes = volumes_in(closed_run.out / "dicom/report.dcm")
    summary = summary_of(closed_run.out)
    assert summary["lesions"]
    low, high = summary["certainty"]["volume_ml"]  # told as what lies below and above the volume
    volume = summary["volume_ml"]
    expected = [volume, volume - low, high - volume, *(one["volume_ml"] for one in summary["lesions"])]
    assert sorted(volumes) == pytest.approx(sorted(expected), rel=1e-3, abs=6e-4)  # told to a thousandth


def volumes_in(report: Path) -> list[float]:
    """Every volume in mL of a structured report, but for the estimate by ABC/2."""
    found = []
    for item in content_of(pydicom.dcmread(report)):
        if item.get("MeasuredValueSequence"):
            values = [one.ConceptCodeSequence[0].CodeValue for one in content_of(item) if "ConceptCodeSequence" in one]
            (measured,) = item.MeasuredValueSequence
            if measured.MeasurementUnitsCodeSequence[0].CodeValue == "mL" and ABC2.value not in values:
                found.append(float(measured.NumericValue))
    return found


def content_of(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """All content items below one."""
    for one in item.get("ContentSequence", ()):
        yield one
        yield from content_of(one)


def test_peer_07_the_threshold_is_the_users_and_stated(seen):
    strict = segment(head(), threshold=0.95)
    assert 0 < strict.mask.array.sum() < seen.mask.array.sum()
    np.testing.assert_array_equal(strict.mask.array, strict.probability.array >= 0.95)
    assert strict.threshold == 0.95


def test_peer_07_the_input_is_checked_and_an_overruled_refusal_stays_visible(tmp_path):
    no_bone = Volume(np.where(head().hu > 300, 40, head().hu), head().grid)
    with pytest.raises(InputError, match="refused by the input checks:") as refusal:
        segment(no_bone)
    asked = refusal.value.remedy.split("--accept ")[1:]
    accepted = segment(no_bone, accept=tuple(one.split()[0] for one in asked))
    save(accepted, tmp_path / "out")
    overruled = [one["name"] for one in summary_of(tmp_path / "out")["checks"] if one["overruled"]]
    assert len(overruled) == len(asked) > 0


def test_peer_11_memory_is_bounded(closed_run):
    assert 50 << 20 < closed_run.peak_bytes < 1 << 30


def test_peer_12_weights_are_installed_and_nothing_is_fetched(closed_run):
    summary = summary_of(closed_run.out)
    assert summary["weights"] | {"trained_on": ""} == {
        "name": locate(None).name, "sha256": locate(None).sha256, "trained_on": "",
    }  # fmt: skip
    assert closed_run.asked == ()
    assert closed_run.complaints == ""


def test_peer_15_no_identity_leaves_the_dicom_files_and_no_pickle_is_read(closed_run):
    said = [closed_run.said, closed_run.complaints]
    for path in closed_run.out.rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            said += [path.name, content.decode("latin-1")]
    for secret in SECRETS:
        assert not any(secret in one for one in said)
    results = list((closed_run.out / "dicom").rglob("*.dcm"))
    assert len(results) > 3
    for path in results:  # where a PACS needs it, it is what it was
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert (str(header.PatientName), header.PatientID) == (NAME, NUMBER)
    assert not [one for one in closed_run.asked if one.startswith("pickle.")]
