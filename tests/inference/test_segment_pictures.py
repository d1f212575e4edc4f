"""Weights, backends, segmentation and findings, with a network small enough to know its answers."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bleedmap
from bleedmap import RESEARCH_ONLY
from bleedmap.arrays import BoolArray, FloatArray
from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.datasets.splits import read_split
from bleedmap.errors import BleedmapError, SettingsError, WeightsError
from bleedmap.geometry import SliceGrid, axial_affine
from bleedmap.inference.backends import BackendRecord, Prediction, Segmented
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import _share_air, segment_slices
from bleedmap.inference.weights import WeightsFile, installed, locate
from bleedmap.io import images
from bleedmap.preprocess import neighbour_rows
from bleedmap.study.inputs import gather, natural
from bleedmap.study.result import summarise_pictures, summarise_volume, to_json
from bleedmap.volume import Mask, ProbabilityMap
from tiny_network import RECORD, SIZE, head_hu, write_tiny_network


@pytest.fixture
def tiny(tmp_path: Path) -> WeightsFile:
    write_tiny_network(tmp_path / "tiny.onnx")
    return locate(tmp_path / "tiny.onnx")


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> WeightsFile:
    """A real, small U-Net with random weights, exported as a release would be."""
    pytest.importorskip("torch")
    import torch

    from bleedmap.models.export import export_onnx
    from bleedmap.models.networks import UNetSettings
    from bleedmap.models.unet import build

    settings = UNetSettings(filters=(8, 16, 32))
    network = build(settings, seed=1)
    with torch.no_grad():
        network.head.weight *= 20  # logits that spread, so that a wrong answer shows
    path = tmp_path_factory.mktemp("unet") / "unet.onnx"
    export_onnx(network, SIZE, {**RECORD, "name": "unet", "network": settings.to_dict()}, path)
    return locate(path)


def manifest(folder: Path, **entry: Any) -> str:
    sha256 = write_tiny_network(folder / "tiny.onnx")
    size = (folder / "tiny.onnx").stat().st_size
    stated = {"file": "tiny.onnx", "sha256": sha256, "bytes": size, "description": "tests'", **entry}
    content = {"default": "tiny", "weights": {"tiny": stated}}
    (folder / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    return sha256


# Weights


def test_a_file_of_ones_own(tiny: WeightsFile) -> None:
    assert (tiny.name, tiny.threshold, tiny.trained_on) == ("tiny", 0.5, RECORD["trained_on"])
    assert tiny.sha256 == hashlib.sha256(tiny.path.read_bytes()).hexdigest()
    assert tiny.network.filters == (4, 8)
    assert tiny.preprocessing.size == SIZE


def test_installed_weights_by_default_and_by_name(tmp_path: Path) -> None:
    sha256 = manifest(tmp_path, licence="Apache-2.0")
    listed = installed(tmp_path)
    assert [(one.name, one.state, one.is_default, one.licence) for one in listed] == [
        ("tiny", "ok", True, "Apache-2.0")
    ]
    assert locate(None, tmp_path).sha256 == locate("tiny", tmp_path).sha256 == sha256


def test_no_weights_installed_says_what_to_do(tmp_path: Path) -> None:
    assert installed(tmp_path) == []
    with pytest.raises(WeightsError, match="no weights are installed") as caught:
        locate(None, tmp_path)
    assert "--weights" in caught.value.remedy


def test_damaged_weights_are_refused_before_they_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = manifest(tmp_path)
    path = tmp_path / "tiny.onnx"
    damaged = bytearray(path.read_bytes())
    damaged[40] ^= 1
    path.write_bytes(damaged)
    parsed: list[bytes] = []
    monkeypatch.setattr("bleedmap.inference.weights.read_model", parsed.append)
    with pytest.raises(WeightsError) as caught:
        locate(None, tmp_path)
    message = caught.value.explain()
    assert all(part in message for part in (str(path), expected, hashlib.sha256(damaged).hexdigest(), "install"))
    assert parsed == []
    assert installed(tmp_path)[0].state == "damaged"
    path.unlink()
    assert installed(tmp_path)[0].state == "missing"
    with pytest.raises(WeightsError, match="No such file"):
        locate(None, tmp_path)


def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    inner = tmp_path / "weights"
    inner.mkdir()
    manifest(inner, file="../tiny.onnx")
    assert installed(inner)[0].path == inner / "tiny.onnx"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"default": "a", "weights": {"a": {}}}', '{"weights": 3}'])
def test_a_broken_manifest_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(WeightsError, match="cannot be read as the list of weights"):
        installed(tmp_path)


def test_a_hash_beside_ones_own_file_is_held(tiny: WeightsFile) -> None:
    beside = tiny.path.with_name("tiny.onnx.sha256")
    beside.write_text(f"{tiny.sha256}  tiny.onnx\n", encoding="utf-8")
    assert locate(tiny.path).sha256 == tiny.sha256
    beside.write_text("0" * 64, encoding="utf-8")
    with pytest.raises(WeightsError, match=tiny.sha256):
        locate(tiny.path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(400)])
def test_what_is_no_network_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match="not a network of bleedmap's"):
        locate(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    "changes",
    [
        {"input_name": "image"}, {"size": 32}, {"name": None}, {"threshold": None}, {"threshold": 0},
        {"threshold": "a"}, {"trained_on": None},
    ],
)  # fmt: skip
def test_another_network_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    write_tiny_network(tmp_path / "other.onnx", **changes)
    with pytest.raises(WeightsError, match="not a network of bleedmap's"):
        locate(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    "preprocessing",
    [None, [], {"size": SIZE}, {"size": SIZE, "frame": "odd", "window": {"level_hu": 40, "width_hu": 120}},
     {"size": SIZE, "frame": "whole", "window": {"level_hu": 40, "width_hu": 0}}],
)  # fmt: skip
def test_unusable_preprocessing_is_refused(preprocessing: dict[str, Any], tmp_path: Path) -> None:
    write_tiny_network(tmp_path / "other.onnx", preprocessing=preprocessing)
    with pytest.raises(WeightsError, match="preprocessing cannot be used"):
        locate(tmp_path / "other.onnx")


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "nothing"])
def test_pickles_and_unknown_names_are_refused_unread(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(WeightsError, match=r"neither installed weights nor an \.onnx file"):
        locate(tmp_path / name, tmp_path)


# Backends


def test_openvino_gives_the_networks_own_answer(tiny: WeightsFile) -> None:
    backend = OpenVinoBackend(tiny, "fp32")
    slices = np.random.default_rng(0).random((3, SIZE, SIZE), np.float32)
    low, high = (np.float16(60 * part) for part in (70 / 120, 110 / 120))
    expected = 1 / (1 + np.exp(-(60 * slices - low))) / (1 + np.exp(-(high - 60 * slices)))
    np.testing.assert_allclose(backend.predict(slices[:, None]).probability, expected, atol=1e-4)
    assert (backend.record.device, backend.record.precision) == ("cpu", "fp32")


def test_a_slice_does_not_depend_on_its_company(unet: WeightsFile) -> None:
    slices = np.random.default_rng(0).random((5, SIZE, SIZE), np.float32)
    backend = OpenVinoBackend(unet)
    alone = backend.predict(slices[3:4, None]).probability
    np.testing.assert_array_equal(backend.predict(slices[:, None]).probability[3:4], alone)
    assert backend.predict(slices[:0, None]).probability.shape == (0, SIZE, SIZE)
    one_by_one = OpenVinoBackend(unet, one_by_one=True)
    np.testing.assert_array_equal(one_by_one.predict(slices[3:4, None]).probability, alone)


def test_after_an_error_the_next_slices_are_computed_as_ever(unet: WeightsFile) -> None:
    """One slice fits, the next does not while the first is under way."""
    slices = np.random.default_rng(0).random((5, 1, SIZE, SIZE), np.float32)
    backend = OpenVinoBackend(unet)
    expected = backend.predict(slices).probability
    for bad in (1, 3):
        torn = [*slices[:bad], slices[bad, :, 1:], *slices[bad + 1 :]]
        with pytest.raises(RuntimeError):
            backend.predict(torn)  # type: ignore[arg-type]
        np.testing.assert_array_equal(backend.predict(slices).probability, expected)


def test_backends_agree(unet: WeightsFile) -> None:
    from bleedmap.inference.torch_backend import TorchBackend

    slices = np.random.default_rng(0).random((10, 1, SIZE, SIZE), np.float32)
    in_torch = TorchBackend(unet).predict(slices).probability
    assert np.ptp(in_torch) > 0.2  # else agreement would say nothing
    np.testing.assert_allclose(OpenVinoBackend(unet, "fp32").predict(slices).probability, in_torch, atol=1e-4)
    np.testing.assert_allclose(OpenVinoBackend(unet, "auto").predict(slices).probability, in_torch, atol=0.02)


@pytest.mark.parametrize("installed_name", [one.name for one in installed()])
def test_backends_agree_on_real_slices(installed_name: str, ct_ich_root: Path) -> None:
    """The installed weights on real slices: the same masks from OpenVINO and from torch."""
    from bleedmap.inference.torch_backend import TorchBackend

    weights, data = locate(installed_name), open_ct_ich(ct_ich_root)
    names = read_split(locate("ct-ich-first").path.with_suffix(".split.json")).test[::60]
    hu = np.stack([data.read_hu(data.slice(name)) for name in names])
    backends = (OpenVinoBackend(weights), TorchBackend(weights))
    one, other = (segment_slices(hu, weights.preprocessing, backend).probability for backend in backends)
    assert one.max() > 0.9
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert ((one >= 0.5) != (other >= 0.5)).sum() <= 2  # of 3.8 million pixels


def test_a_device_that_is_not_there_is_refused(unet: WeightsFile) -> None:
    from bleedmap.inference.torch_backend import TorchBackend

    with pytest.raises(SettingsError, match="'tpu', which torch"):
        TorchBackend(unet, "tpu")


def test_torch_refuses_what_is_not_its_network(tiny: WeightsFile) -> None:
    pytest.importorskip("torch")
    from bleedmap.inference.torch_backend import TorchBackend

    with pytest.raises(WeightsError, match="weights missing"):
        TorchBackend(tiny)


_ALONE = """
import os, socket, sys
def refuse(*_, **__): print("CALLED", flush=True); os._exit(9)
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = socket.getaddrinfo = refuse
import atexit, time, numpy as np
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.weights import locate
backend = OpenVinoBackend(locate(sys.argv[1]))
said = backend.predict(np.full((1, 1, 64, 64), 0.7, np.float32))
print(said.probability.max() > 0.9, sys.modules.get("openvino_telemetry"))
atexit.register(time.sleep, 0.5)  # a sender's thread would have its chance
"""


def test_nobody_is_called(tiny: WeightsFile, tmp_path: Path) -> None:
    """OpenVINO's import reports to its maker, unless hidden; and only outside continuous integration."""
    home = tmp_path / "home"
    home.mkdir()
    keep = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, str(tiny.path)],
        env=keep | {"HOME": str(home)}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "None"]
    assert list(home.iterdir()) == []


def test_openvino_is_imported_in_one_place() -> None:
    """Anywhere else the import would report before it could be kept from doing so."""
    source = Path(str(bleedmap.__file__)).parent
    importing = re.compile(r"^\s*(import|from)\s+openvino\b|import_module\(.openvino", re.MULTILINE)
    found = [path.name for path in source.rglob("*.py") if importing.search(path.read_text(encoding="utf-8"))]
    assert found == ["openvino_runtime.py"]


# Slices to probabilities


@pytest.mark.parametrize("frame", ["whole", "head"])
@pytest.mark.parametrize("shape", [(128, 128), (200, 150), (90, 310)])
def test_a_bleed_is_marked_where_it_is(frame: str, shape: tuple[int, int], tmp_path: Path) -> None:
    write_tiny_network(tmp_path / "n.onnx", preprocessing={**RECORD["preprocessing"], "frame": frame})  # type: ignore[dict-item]
    weights = locate(tmp_path / "n.onnx")
    hu = np.stack([head_hu(*shape), head_hu(*shape, bleed=False)])
    probability = segment_slices(hu, weights.preprocessing, OpenVinoBackend(weights)).probability
    assert probability.shape == hu.shape
    assert probability.dtype == np.float32
    found, true = probability[0] >= 0.5, hu[0] == 70
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.8
    assert probability[1].max() < 0.5


def test_slices_of_air_are_asked_for_once_and_change_nothing(unet: WeightsFile) -> None:
    head, random = head_hu(40, 56), np.random.default_rng(0)
    hu = np.full((23, 40, 56), -1000, np.float32)
    for index in (4, 5, 6, 11, 12, 13, 14, 15, 16, 17, 18):
        hu[index] = head + random.normal(0, 8, head.shape)
    backend, asked, seen = OpenVinoBackend(unet), [], list[int]()

    class Counting:
        record = backend.record

        def predict(self, slices: FloatArray) -> Prediction:
            asked.append(len(slices))
            return backend.predict(slices)

    said = segment_slices(hu, unet.preprocessing, Counting(), seen.append)
    assert sum(asked) == 12
    assert sum(seen) == 23
    for index in range(23):
        alone = segment_slices(hu[index : index + 1], unet.preprocessing, backend)
        assert np.abs(said.probability[index] - alone.probability[0]).max() < 1e-6
        assert said.extent[index] == pytest.approx(alone.extent[0], abs=1e-6)


def test_slices_whose_pixels_are_not_wanted_stay_0_and_the_rest_is_the_same(unet: WeightsFile) -> None:
    hu = np.stack([head_hu(40, 56)] * 5) + np.arange(5, dtype=np.float32)[:, None, None]
    backend, wanted = OpenVinoBackend(unet), np.array([True, False, False, True, True])
    whole = segment_slices(hu, unet.preprocessing, backend)

    def opened(said: Segmented) -> BoolArray:
        assert (said.extent == whole.extent).all()
        assert not said.probability.any()
        return wanted

    some = segment_slices(hu, unet.preprocessing, backend, choose_slices=opened)
    assert whole.probability[~wanted].any()
    assert not some.probability[~wanted].any()
    assert (some.probability[wanted] == whole.probability[wanted]).all()
    assert (some.extent == whole.extent).all()


def test_air_beside_a_head_is_asked_for() -> None:
    """A slice is of air alone only if its neighbours are too: the network looks at them."""
    slices = np.zeros((12, 8, 8), np.float32)
    slices[[3, 4, 8]] = 0.5
    asked, answer = _share_air(slices, neighbour_rows(len(slices), 1))
    assert asked.tolist() == [0, 2, 3, 4, 5, 7, 8, 9]
    assert answer.tolist() == [0, 0, 1, 2, 3, 4, 0, 5, 6, 7, 0, 0]


def test_chunks_change_nothing_and_progress_adds_up(tiny: WeightsFile) -> None:
    hu = np.stack([head_hu(64, 64, bleed=index % 3 == 0) for index in range(19)])
    seen: list[int] = []
    backend = OpenVinoBackend(tiny)
    together = segment_slices(hu, tiny.preprocessing, backend, seen.append).probability
    apart = np.concatenate([segment_slices(one[None], tiny.preprocessing, backend).probability for one in hu])
    np.testing.assert_array_equal(together, apart)
    assert sum(seen) == 19
    assert len(seen) > 1


# Findings


RAN = BackendRecord("openvino", "cpu", "fp32")


def blocks() -> tuple[ProbabilityMap, Mask, FloatArray]:
    probability = np.zeros((4, 10, 12), np.float32)
    probability[1:3, 2:4, 3:6] = 0.9  # 12 voxels on two slices
    probability[3, 8, 8] = 0.6
    grid = SliceGrid.from_affine(axial_affine((5.0, 0.5, 0.4), (4, 10, 12)), 4)
    return ProbabilityMap(probability, grid), Mask(probability >= 0.5, grid), 60 + 10 * probability


def test_a_volumes_findings() -> None:
    findings = summarise_volume(*blocks())
    assert findings.found
    assert (findings.lesion_pixels, findings.slices_with_lesion) == (13, (1, 2, 3))
    assert findings.volume_ml == pytest.approx(13 * 5 * 0.5 * 0.4 / 1000)
    first, second = findings.lesion_rows()
    assert (first["pixels"], first["first_slice"], first["last_slice"]) == (12, 2, 3)
    assert first["volume_ml"] == pytest.approx(0.012)
    assert first["extent_mm"] == pytest.approx([10, 1, 1.2])
    assert first["mean_hu"] == pytest.approx(69)
    assert first["centroid_lps_mm"] == pytest.approx([(4 - 5.5) * 0.4, (2.5 - 4.5) * 0.5, 0.0])
    assert second["highest_probability"] == pytest.approx(0.6)


def test_pictures_findings_have_no_volume_and_join_nothing() -> None:
    probability, mask, _ = blocks()
    findings = summarise_pictures(zip(probability.array, mask.array, strict=True))
    assert findings.volume_ml is None
    assert [(one.voxels, one.first[0], one.last[0]) for one in findings.lesions] == [
        (6, 1, 1),
        (6, 2, 2),
        (1, 3, 3),
    ]
    assert findings.lesion_rows()[0]["centroid_row"] == 2.5


def test_the_json_says_what_made_it(tiny: WeightsFile) -> None:
    content = to_json(summarise_volume(*blocks()), tiny, RAN, 0.5, ["a note"])
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["research_only"] == RESEARCH_ONLY
    assert content["weights"]["sha256"] == tiny.sha256
    assert content["backend"] == {"name": "openvino", "device": "cpu", "precision": "fp32"}
    assert content["slices_with_lesion"] == [2, 3, 4]
    assert content["volume_note"] is None


def test_nothing_found_is_a_result(tiny: WeightsFile) -> None:
    probability, _, hu = blocks()
    empty = summarise_volume(
        replace(probability, array=probability.array * 0), Mask(probability.array > 1, probability.grid), hu
    )
    content = to_json(empty, tiny, RAN, 0.5, [])
    assert (content["hemorrhage_found"], content["volume_ml"], content["lesions"]) == (False, 0.0, [])
    none = summarise_pictures([(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))])
    assert to_json(none, tiny, RAN, 0.5, [])["volume_note"] == "pictures carry no pixel spacing"


# Inputs


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write_png(path, np.full((20, 20), 100, np.uint8))
    return path


def test_pictures_come_in_natural_order() -> None:
    names = ["10.jpg", "2.jpg", "a10b2.png", "a9b11.png", "1.jpg", "B1.png"]
    assert sorted(map(Path, names), key=natural) == list(
        map(Path, ["1.jpg", "2.jpg", "10.jpg", "a9b11.png", "a10b2.png", "B1.png"])
    )


def test_a_folder_is_sorted_and_strangers_are_named(tmp_path: Path) -> None:
    for name in ("10.png", "9.png", "9_HGE_Seg.png"):
        picture(tmp_path / "s" / name)
    (tmp_path / "s/notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "s/bone").mkdir()
    (tmp_path / "s/head.nii.gz").write_bytes(b"")
    found = gather([tmp_path / "s"])
    assert [one.path.name for one in found.pictures] == ["9.png", "10.png"]
    assert {one.path.name: one.reason for one in found.ignored} == {
        "9_HGE_Seg.png": "a reference mask of CT-ICH",
        "notes.txt": "not a JPEG or PNG picture",
        "bone": "a folder",
        "head.nii.gz": "a NIfTI volume; name the file itself to segment it",
    }


def test_two_inputs_never_share_a_name(tmp_path: Path) -> None:
    given = [picture(tmp_path / name) for name in ("a/1.png", "b/1.png", "c/1-2.png", "d/1.png", "e/X.png", "f/x.png")]
    names = [one.name for one in gather(given).pictures]
    assert len({name.lower() for name in names}) == 6
    assert names[0] == "1"
    assert names[2] == "1-2"


def test_a_picture_named_twice_is_segmented_once(tmp_path: Path) -> None:
    one = picture(tmp_path / "1.png")
    assert len(gather([one, tmp_path, one]).pictures) == 1


def test_a_volume_comes_alone(tmp_path: Path) -> None:
    volume = tmp_path / "head.nii"
    assert gather([volume]).study == volume
    with pytest.raises(BleedmapError, match="together with 1 other"):
        gather([volume, picture(tmp_path / "1.png")])
