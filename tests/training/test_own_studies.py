"""`bleedmap train --studies`: one's own studies with masks, by patient, to weights that segment."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bleedmap.datasets.own_split import OwnSplit, OwnStudy, read_own_split  # noqa: E402
from bleedmap.errors import SplitError  # noqa: E402
from bleedmap.evaluation.records import TYPE_NAMES  # noqa: E402
from bleedmap.evaluation.studies.find import Places, find_cases  # noqa: E402
from bleedmap.evaluation.studies.patients import read_patients  # noqa: E402
from bleedmap.evaluation.studies.run import note_trained  # noqa: E402
from bleedmap.folds.choices import _calibrate_types  # noqa: E402
from bleedmap.folds.own_studies import OwnStudies, _show, describe_cases  # noqa: E402
from bleedmap.geometry import SliceGrid, axial_affine  # noqa: E402
from bleedmap.inference.backends import BackendRecord, Prediction  # noqa: E402
from bleedmap.inference.weights import locate  # noqa: E402
from bleedmap.io import nifti  # noqa: E402
from bleedmap.io.dicom.producer import write_dicom  # noqa: E402
from bleedmap.io.dicom.read import read_series, scan  # noqa: E402
from bleedmap.io.dicom.seg import LesionMeasure, make_mask_segmentation  # noqa: E402
from bleedmap.models.checkpoint import read_checkpoint  # noqa: E402
from bleedmap.phantom.dicom import CtOptions, ct_instances, write_series  # noqa: E402
from bleedmap.phantom.head import Bleed, Phantom, PhantomSettings, make_phantom  # noqa: E402
from bleedmap.study.read import read_study  # noqa: E402
from bleedmap.study.segment import Segmenter  # noqa: E402
from bleedmap.training.config import PRESETS, LiteConfig  # noqa: E402
from bleedmap.training.run import open_run  # noqa: E402
from bleedmap.training.samples import load_studies  # noqa: E402
from bleedmap.volume import Mask, Volume  # noqa: E402
from bleedmap.window import BRAIN  # noqa: E402
from command_line import run  # noqa: E402
from dicom_result_studies import producer  # noqa: E402
from drawn_heads import small_head  # noqa: E402
from head_release import write_heads  # noqa: E402
from tiny_lite import RECIPE  # noqa: E402
from tiny_network import write_tiny_network  # noqa: E402

_SMALL = replace(RECIPE, phantom=0, phantoms=0, steps=2)
STAGES = LiteConfig((("patients", _SMALL), ("mixed", replace(_SMALL, learning_rate=1e-4, start_share=0.5))))
NAMES = ("Meyer^Anna", "secret-7")


@pytest.fixture(scope="module")
def heads() -> tuple[Phantom, Phantom]:
    """One that bleeds, one that does not."""
    return small_head(Bleed("IPH", 30.0, "left")), small_head()


def write_pairs(folder: Path, heads: tuple[Phantom, Phantom], bleeding: int, free: int) -> Path:
    """NIfTI pairs: as many studies of each head, by noise of their own; names that tell a patient."""
    folder.mkdir(parents=True)
    for head, count in zip(heads, (bleeding, free), strict=True):
        for number in range(count):
            noise = np.random.default_rng(number).normal(0, 1, head.volume.hu.shape).astype(np.float32)
            name = f"{NAMES[1]}-{'bleed' if head is heads[0] else 'free'}-{number}"
            nifti.write(folder / f"{name}.nii.gz", Volume(head.volume.hu + noise, head.volume.grid))
            nifti.write(folder / f"{name}_mask.nii.gz", head.mask)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset lite takes a second or two."""
    monkeypatch.setitem(PRESETS, "lite", ("in seconds", STAGES))


def train(folder: Path, out: Path, *more: object) -> int:
    """The verb on a folder of studies."""
    return run("train", "--studies", folder, "-o", out, "--device", "cpu", "--precision", "fp32", *more)


BLEEDS = [f"{NAMES[1]}-bleed-{number}" for number in range(3)]


@pytest.fixture(scope="module")
def finished(heads, tmp_path_factory) -> Path:
    """A folder with `hospital`, NIfTI pairs and DICOM with SEG, and `run` on it: a patient has two studies, one patient
    is kept for testing."""
    root = tmp_path_factory.mktemp("own")
    folder = write_pairs(root / "hospital", heads, 3, 3)
    instances = ct_instances(heads[0].volume, options=CtOptions(seed=5))
    for one in instances:
        one.PatientName, one.PatientID = NAMES
    write_series(folder / "pacs", instances)
    told = [LesionMeasure("Lesion 1", 1.0, None, 0.5, 0.5, None)]
    labels = heads[0].mask.array.astype(np.uint8)
    made = make_mask_segmentation(read_series(scan(folder / "pacs")), labels, told, producer(100))
    write_dicom(folder / "pacs/seg.dcm", made)
    patients = {BLEEDS[0]: "A", "pacs": "A", BLEEDS[1]: "B", BLEEDS[2]: "T"}
    patients |= {f"{NAMES[1]}-free-{number}": f"F{number}" for number in range(3)}
    table = ["study,patient,IPH,SDH", *(f"{study},{who},{int(who in 'ABT')},0" for study, who in patients.items())]
    (folder / "patients.csv").write_text("\n".join(table) + "\n")
    (root / "test.csv").write_text("Patient\nT\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "lite", ("in seconds", STAGES))
        assert train(folder, root / "run", "--test", root / "test.csv", "--validation", "0.5", "--seed", "3") == 0
        assert run("export", root / "run", "-o", root / "own.onnx") == 0
    return root


@pytest.mark.exhaustive
def test_from_masks_to_weights_that_segment(finished, tmp_path, capsys):
    folder, out, onnx = finished / "hospital", finished / "run", finished / "own.onnx"
    split = open_run(out).own_split()
    by_images = {one.images: one for one in split.studies}
    found = find_cases(Places(folder, None, out, "unknown"))
    cases = describe_cases(found, read_patients(found))
    sides = {one.case.name: by_images[one.images] for one in cases}
    assert sides["pacs"].side == sides[BLEEDS[0]].side != sides[BLEEDS[1]].side
    assert sides["pacs"].patient == sides[BLEEDS[0]].patient
    assert [name for name, one in sides.items() if one.side == "test"] == [BLEEDS[2]]
    assert {sides[f"{NAMES[1]}-free-{number}"].side for number in range(3)} == {"train", "validation"}

    record = locate(onnx).record
    assert record["trained_studies"] == sorted(one.images for one in split.side("train"))
    assert record["chosen_on_studies"] == [one.images for one in split.side("validation")]
    assert record["data_sha256"] == split.data_sha256
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file()) + onnx.read_bytes()
    assert not re.search(b"Meyer|secret|hospital", written)
    assert run("segment", folder / f"{BLEEDS[2]}.nii.gz", "--weights", onnx, "-o", tmp_path / "result") == 0
    assert record["measured_on"] == {"thickness_mm": 10.0, "spacing_mm": [7.0, 15.0]}
    summary = json.loads((tmp_path / "result/summary.json").read_text())
    assert summary["format"] == "bleedmap study 1"
    assert not any("mm apart" in one for one in summary["certainty"]["abstained"])
    capsys.readouterr()
    assert run("evaluate", out, "--data", folder) == 2
    assert "bleedmap evaluate --studies" in " ".join(capsys.readouterr().err.split())


@pytest.mark.exhaustive
def test_measuring_on_studies_that_were_trained_on_is_told(finished):
    """By their images, whatever they are called now; of the installed weights nothing is told."""
    split = open_run(finished / "run").own_split()
    found = find_cases(Places(finished / "hospital", None, finished / "out", "unknown"))
    told = " ".join(note_trained(found, locate(finished / "own.onnx")).notes)
    assert f"{len(split.side('train'))} of the studies were trained on" in told
    assert f"{len(split.side('validation'))} of the studies were used to choose" in told
    assert note_trained(found, locate(None)) is found


@pytest.mark.exhaustive
def test_a_stopped_run_goes_on_with_the_same_studies(finished, tmp_path, capsys):
    folder, out = shutil.copytree(finished / "hospital", tmp_path / "moved"), tmp_path / "run"
    shutil.copytree(finished / "run", out)
    (out / "best.safetensors").unlink()
    shutil.rmtree(out / "mixed")
    (folder / f"{BLEEDS[2]}.nii.gz").unlink()  # the test side is not needed
    assert run("train", "--resume", out) == 2
    assert "resume it with --studies FOLDER" in " ".join(capsys.readouterr().err.split())
    assert run("train", "--resume", out, "--studies", folder) == 0
    ends = [read_checkpoint(one / "mixed/network.safetensors").tensors for one in (finished / "run", out)]
    assert all(torch.equal(one, ends[1][name]) for name, one in ends[0].items())
    mask = nifti.read_volume(folder / f"{BLEEDS[1]}_mask.nii.gz")[0]
    nifti.write(folder / f"{BLEEDS[1]}_mask.nii.gz", Mask(mask.hu == 0, mask.grid))
    assert run("train", "--resume", out, "--studies", folder) == 2
    assert f"other masks or types than the run began with: {BLEEDS[1]}" in " ".join(capsys.readouterr().err.split())


@pytest.mark.exhaustive
def test_training_goes_on_from_weights_and_with_ct_ich(finished, tmp_path, capsys):
    folder, ct_ich = finished / "hospital", write_heads(tmp_path / "ct-ich")
    start = ("--start", finished / "own.onnx", "--validation", "0.5")
    assert train(folder, tmp_path / "run", *start, "--data", tmp_path / "ct-ich") == 0
    told = capsys.readouterr().err
    assert "with CT-ICH's 12 patients" in told
    assert "testing on none; patients: by patients.csv" in told
    onward = open_run(tmp_path / "run")
    assert [name for name, _ in onward.settings().stages] == ["mixed"]  # the last stage alone
    before, begun = read_checkpoint(finished / "run/best.safetensors"), read_checkpoint(onward.start_file)
    for name, tensor in before.part("network").items():  # the file holds halves of their precision
        torch.testing.assert_close(begun.part("network")[name], tensor, rtol=1e-3, atol=1e-3)
    after = read_checkpoint(onward.best_file)
    weights = [name for name in after.part("network") if name.startswith("merges") and "conv" in name]
    moved = max(float((after.part("network")[one] - begun.part("network")[one]).abs().max()) for one in weights)
    assert 0 < moved < 1e-3
    record = after.record["export"]
    assert "first of all own" in record["trained_on"]
    assert "12 patients" in record["trained_on"]
    assert len(record["trained_patients"]) == 12
    assert record["measured_on"] == {"thickness_mm": 5.0, "spacing_mm": [3.5, 15.0]}  # of both
    assert set(locate(finished / "own.onnx").record["trained_studies"]) < set(record["trained_studies"])  # seen before
    assert onward.own_split().ct_ich["data_sha256"] == ct_ich.content_sha256()
    assert run("train", "--resume", onward.folder, "--studies", folder) == 2
    assert "--data" in capsys.readouterr().err
    assert train(folder, tmp_path / "bone", "--preset", "bone", *start) == 2
    assert "another network" in capsys.readouterr().err


@pytest.mark.parametrize(("bleeding", "free", "said"), [
    (0, 2, "2 patients to train on, of whom 0 bleed"), (2, 0, "2 bleed and 0 do not"), (2, 3, "3 or more of each kind"),
])  # fmt: skip
def test_too_few_patients_are_told(heads, tmp_path, capsys, bleeding, free, said):
    folder = write_pairs(tmp_path / "own", heads, bleeding, free)
    assert train(folder, tmp_path / "run") == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_told_at_once(heads, tmp_path, capsys):
    """All studies that cannot be trained on are named; nothing is begun."""
    folder, out = write_pairs(tmp_path / "own", heads, 3, 3), tmp_path / "run"
    names = sorted(path.name.removesuffix("_mask.nii.gz") for path in folder.glob("*_mask.nii.gz"))

    def said() -> str:
        assert not out.exists()
        return " ".join(capsys.readouterr().err.split())

    for wrong in (("--preset", "quick"), ("--epochs", "3"), ("--split", "x.json")):
        assert train(folder, out, *wrong) == 2
    assert run("train", "--start", "ct-ich-lite", "--split", "x.json", "-o", out) == 2
    assert "--studies FOLDER" in said()
    (tmp_path / "test.csv").write_text(f"patient\n{names[0]}\nnobody\n")  # without a table a study is its own patient
    assert train(folder, out, "--test", tmp_path / "test.csv") == 2
    assert "line 3: no patient 'nobody' has a mask" in said()
    shutil.copy(folder / f"{names[0]}.nii.gz", folder / "copy.nii.gz")
    shutil.copy(folder / f"{names[0]}_mask.nii.gz", folder / "copy_mask.nii.gz")
    assert train(folder, out) == 2
    assert "the same images twice" in said()
    (folder / "copy.nii.gz").unlink()
    (folder / "copy_mask.nii.gz").unlink()
    grid = SliceGrid.from_affine(axial_affine((10.0, 1.8, 1.8), (14, 128, 64)), 14)
    for name in names[:2]:
        nifti.write(folder / f"{name}_mask.nii.gz", Mask(np.zeros((14, 128, 64), np.bool_), grid))
    assert train(folder, out) == 2
    told = said()
    assert "2 studies: " in told
    assert told.count("a mask of 14 × 128 × 64 voxels") == 2
    assert "resample the mask" in told
    probability = heads[0].mask.array * np.float32(0.7)
    nifti.write(folder / f"{names[0]}_mask.nii.gz", Volume(probability, heads[0].mask.grid))
    assert train(folder, out) == 2
    told = said()
    assert "values such as 0.7" in told
    assert "the report of `bleedmap evaluate --studies`" in told
    assert "resample" not in told


class Recording:
    """A backend that keeps what it is shown."""

    def __init__(self) -> None:
        self.record, self.shown = BackendRecord("none", "none", "fp32"), []

    def predict(self, inputs: np.ndarray) -> Prediction:
        self.shown.append(inputs.copy())
        return Prediction(np.zeros((len(inputs), *inputs.shape[2:]), np.float32))


def test_training_sees_what_segmenting_shows(tmp_path):
    """Thin slices of a tilted gantry: the very pixels, of slabs, at the size that the network has."""
    window = {"level_hu": 40.0, "width_hu": 120.0}
    preprocessing = {"size": 64, "frame": "study", "window": window}
    write_tiny_network(tmp_path / "tiny.onnx", preprocessing=preprocessing)
    weights, bleeds = locate(tmp_path / "tiny.onnx"), (Bleed("IPH", 30.0, "left"),)
    head = make_phantom(PhantomSettings(seed=4, spacing_mm=(2.0, 1.8, 1.8), shape=(70, 128, 128), bleeds=bleeds))
    tilt = np.outer(np.arange(70), (0, 2 * np.tan(np.radians(12)), 0))
    grid = replace(head.volume.grid, origins_mm=head.volume.grid.origins_mm + tilt)
    volume, mask = Volume(head.volume.hu, grid), Mask(head.mask.array, grid)
    nifti.write(tmp_path / "own/thin.nii.gz", volume)
    nifti.write(tmp_path / "own/thin_mask.nii.gz", mask)
    backend = Recording()
    Segmenter(weights, backend, 0.5).segment(read_study(tmp_path / "own/thin.nii.gz"))
    shown = np.concatenate(backend.shown)[:, 0]
    found = find_cases(Places(tmp_path / "own", None, tmp_path / "run", "unknown"))
    cases = describe_cases(found, read_patients(found))
    samples = load_studies(OwnStudies(tuple(cases), BRAIN, ()), weights.preprocessing)
    assert len(shown) == len(samples.slices) < len(volume.hu) / 1.9
    np.testing.assert_array_equal(np.rint(shown * 255).astype(np.uint8), samples.slices)
    bleeding = np.flatnonzero(mask.array.any(axis=(1, 2)))
    assert samples.has_lesion.sum() == pytest.approx(len(bleeding) * len(shown) / len(volume.hu), abs=1)
    assert samples.masks.reshape(len(shown), -1).sum(axis=1).argmax() == pytest.approx(
        mask.array.sum(axis=(1, 2)).argmax() * len(shown) / len(volume.hu), abs=2
    )
    assert np.isnan(samples.labels[samples.has_lesion, 1:]).all()  # nobody told a type


def test_types_are_labels_only_where_they_are_sure():
    hu, share = np.zeros((3, 4, 4), np.float32), np.zeros((3, 4, 4), np.float32)
    share[1, 0, 0] = 0.4  # fills no pixel by half, and is not lost
    one, two, none = (
        _show(hu, share, types, None, 1.0) for types in (frozenset({"SDH"}), frozenset({"SDH", "IPH"}), None)
    )
    at = 1 + TYPE_NAMES.index("SDH")
    assert one.labels[1].tolist() == [1.0 if column in (0, at) else 0.0 for column in range(6)]
    assert np.isnan(two.labels[1, at])
    assert two.labels[1, 1 + TYPE_NAMES.index("EDH")] == 0
    assert two.types.any(axis=0).sum() == 2
    assert np.isnan(none.labels[1, 1:]).all()
    assert none.types is None
    for shown in (one, two, none):
        assert not shown.labels[[0, 2]].any()
    assert _calibrate_types([]) == (1.0, 0.0)


def test_a_split_that_leaks_or_is_damaged_is_refused(tmp_path):
    studies = [OwnStudy(str(number), "", number, "validation" if number == 2 else "train") for number in (1, 2, 3)]
    OwnSplit(0, {}, None, tuple(studies)).write(tmp_path / "split.json")
    assert read_own_split(tmp_path / "split.json").side("validation") == (studies[1],)
    for wrong in (replace(studies[2], patient=2), replace(studies[2], images="1")):
        with pytest.raises(SplitError, match=r"more than one side|named twice"):
            OwnSplit(0, {}, None, (*studies[:2], wrong))
    (tmp_path / "split.json").write_text((tmp_path / "split.json").read_text().replace("validation", "elsewhere"))
    with pytest.raises(SplitError, match="nothing on the validation side"):
        read_own_split(tmp_path / "split.json")
