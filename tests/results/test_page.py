"""A study's tables, pictures and page: true, whole, harmless, for a negative study too."""

import base64
import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset
from scipy import ndimage
from scipy.spatial.distance import pdist

from bleedmap.arrays import BoolArray
from bleedmap.geometry import PlaneTurn, SliceGrid, axial_affine
from bleedmap.inference.backends import BackendRecord
from bleedmap.inference.weights import locate
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.io.dicom.series import DicomSeries, SeriesChoice
from bleedmap.phantom.bleeds import Bleed
from bleedmap.phantom.head import Phantom, PhantomSettings, make_phantom
from bleedmap.postprocess import label_lesions
from bleedmap.results import pictures
from bleedmap.results.overlay import blend
from bleedmap.results.page import model_card, write_report
from bleedmap.results.tables import COLUMNS, lesion_rows, summary, write_lesions_csv
from bleedmap.study.gate.check import Check
from bleedmap.study.result import Result, summarise_volume, to_json
from bleedmap.study.words import millilitres, spans
from bleedmap.volume import Mask, ProbabilityMap, Volume
from html_page import Page
from tiny_network import write_tiny_network

FILES = {"mask": "head_dseg.nii.gz", "lesion table": "head_lesions.csv"}
CHECKS = (
    Check("slice count", "pass", "16 slices", "10 to 400 slices"),
    Check("age", "not known", "not stated", "16 years and older", "Children were not measured."),
    Check("gantry tilt", "warning", "12.4°", "up to 10°", "Few tilted heads were seen."),
    Check("contrast", "refusal", "IOMERON", "none", "Vessels look like blood."),
)
HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    bleeds = (Bleed("IPH", 20.0, "left"), Bleed("EDH", 12.0, "right"))
    return make_phantom(PhantomSettings(seed=3, shape=(16, 128, 128), spacing_mm=(9.0, 1.8, 1.8), bleeds=bleeds))


@pytest.fixture(scope="module")
def study(phantom: Phantom) -> Callable[..., Result]:
    """Results of a phantom: its true mask, or another."""

    def build(mask: BoolArray | None = None, grid: SliceGrid | None = None) -> Result:
        marked, grid = phantom.mask.array if mask is None else mask, grid or phantom.volume.grid
        found = ProbabilityMap(np.where(marked, np.float32(0.9), np.float32(0.1)), grid)
        volume = Volume(phantom.volume.hu, grid)
        return Result(
            name="head", source="in/head.zip", volume=volume, mask=Mask(marked, grid), probability=found,
            findings=summarise_volume(found, Mask(marked, grid), volume), checks=CHECKS[:1],
            acquisition=Acquisition(modality="CT", contrast="", kvp=120.0), dicom=None, nifti=None, weights=locate(),
            backend=BackendRecord("openvino 1", "cpu", "fp32"), threshold=0.5, notes=(),
        )  # fmt: skip

    return build


def nothing(phantom: Phantom) -> BoolArray:
    return np.zeros_like(phantom.mask.array)


def thirty_lesions(phantom: Phantom) -> BoolArray:
    mask = nothing(phantom)
    for number in range(30):
        slice_, place = divmod(number, 6)
        mask[3 + 2 * slice_, 40:45, 20 + 14 * place : 22 + 14 * place + number % 5] = True
    return mask


def from_dicom(result: Result, text: str) -> Result:
    """The same study as if read from DICOM, with `text` wherever files may hold any, and a patient in the headers."""
    header = Dataset()
    header.PatientName, header.PatientID, header.PatientBirthDate = "Secret^Person", "ID-4711", "19700102"
    choice = (
        SeriesChoice(3, text, 16, True, f"thickest axial series {text}"),
        SeriesChoice(None, "Topogram", 1, False, "a scout of 1 image"),
    )
    scan = Acquisition(modality="CT", description=text, contrast=text, kernel=text, scanner=text, image_type=(text,))
    series = DicomSeries(result.volume, PlaneTurn(), (header,) * 16, None, scan, (text,), choice)
    checks = tuple(replace(one, found=text, meaning=text) for one in CHECKS)
    return replace(result, name=text, dicom=series, acquisition=scan, notes=(text,), checks=checks)


def page_of(result: Result, folder: Path, files: dict[str, str] = FILES) -> Page:
    write_report(folder / "head_report.html", result, files)
    return Page.read(folder / "head_report.html")


# The lesion table


def corners_mm(plane: BoolArray, grid: SliceGrid) -> np.ndarray:
    places = [np.argwhere(plane) + np.array([half, other]) for half in (-0.5, 0.5) for other in (-0.5, 0.5)]
    return np.concatenate(places) @ np.stack([grid.row_step_mm, grid.column_step_mm])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 2), st.floats(0.3, 2))
def test_longest_diameter_is_the_largest_distance_of_all(seed: int, row_mm: float, column_mm: float) -> None:
    mask = np.random.default_rng(seed).random((3, 9, 8)) < 0.12
    mask[1, 4, 4] = True
    grid = SliceGrid.from_affine(axial_affine((5.0, row_mm, column_mm), mask.shape), 3)
    probability = ProbabilityMap(mask.astype(np.float32), grid)
    volume = Volume(np.zeros(mask.shape, np.float32), grid)
    result = Result(
        "r", "r", volume, Mask(mask, grid), probability, summarise_volume(probability, Mask(mask, grid), volume),
        (), Acquisition(), None, None, locate(), BackendRecord("b", "cpu", "fp32"), 0.5, (),
    )  # fmt: skip
    rows = lesion_rows(result)
    labels = label_lesions(mask)
    expected = [
        round(max(pdist(corners_mm(plane, grid)).max() for plane in labels == number if plane.any()), 1)
        for number in range(1, int(labels.max()) + 1)
    ]
    assert [row["longest_axial_diameter_mm"] for row in rows] == expected
    slices = [int((labels == number).any(axis=(1, 2)).sum()) for number in range(1, len(rows) + 1)]
    assert [row["slice_count"] for row in rows] == slices


def test_table_agrees_with_the_phantom(study: Callable[..., Result], phantom: Phantom, tmp_path: Path) -> None:
    result = study()
    write_lesions_csv(tmp_path / "lesions.csv", result)
    with (tmp_path / "lesions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(COLUMNS)
    assert sum(float(row["volume_ml"]) for row in rows) == pytest.approx(phantom.mask.volume_ml, abs=1e-3)
    for row in rows:
        widest = max(float(row["extent_rows_mm"]), float(row["extent_columns_mm"]))
        assert widest <= 0.05 + float(row["longest_axial_diameter_mm"]) <= 0.1 + 2**0.5 * widest
        assert int(row["slice_count"]) == int(row["last_slice"]) - int(row["first_slice"]) + 1
    sides = sorted(float(row["centroid_l_mm"]) for row in rows if float(row["volume_ml"]) > 5)
    assert sides[0] < 0 < sides[-1]  # one bleed on the right, one on the left


def test_a_negative_study_has_a_table_of_names_alone(
    study: Callable[..., Result], phantom: Phantom, tmp_path: Path
) -> None:
    write_lesions_csv(tmp_path / "lesions.csv", study(nothing(phantom)))
    assert (tmp_path / "lesions.csv").read_text("utf-8") == ",".join(COLUMNS) + "\n"


# The summary


def test_summary_is_json_and_keeps_the_shared_keys(study: Callable[..., Result], phantom: Phantom) -> None:
    for mask in (None, nothing(phantom), thirty_lesions(phantom)):
        result = study(mask)
        content = json.loads(json.dumps(summary(result, FILES), allow_nan=False))
        shared = to_json(result.findings, result.weights, result.backend, result.threshold, [])
        for key in shared.keys() - {"slices", "lesions"}:
            assert content[key] == shared[key]
        for key in ("slices", "lesions"):
            for one, other in zip(content[key], shared[key], strict=True):
                assert other.items() <= one.items()
        assert sum(one["volume_ml"] for one in content["slices"]) == pytest.approx(result.volume_ml, abs=1e-3)
        assert content["files"] == FILES
        assert content["series"] is None


def test_summary_and_page_hold_no_patient(study: Callable[..., Result], tmp_path: Path) -> None:
    result = from_dicom(study(), "Head 5 mm")
    content = summary(result, FILES)
    page_of(result, tmp_path)
    texts = json.dumps(content), (tmp_path / "head_report.html").read_text("utf-8")
    for text in texts:
        words = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text)
        assert not re.search("secret|person|4711|19700102", words, re.IGNORECASE)
    assert [one["overruled"] for one in content["checks"]] == [False, False, False, True]
    assert content["series"][0]["chosen"]


def test_uneven_slices_are_said_and_counted(study: Callable[..., Result], phantom: Phantom, tmp_path: Path) -> None:
    origins = phantom.volume.grid.origins_mm.copy()
    origins[8:, 2] += 9.0  # one slice is missing in the middle
    result = study(grid=replace(phantom.volume.grid, origins_mm=origins))
    content = summary(result, {})
    assert content["geometry"]["even"] is False
    assert content["geometry"]["slice_distance_mm"] == [9.0, 18.0]
    pixels, first = content["slices"][7]["lesion_pixels"], content["slices"][6]["lesion_pixels"]
    voxel_ml = 9 * 1.8**2 / 1000
    assert content["slices"][7]["volume_ml"] == pytest.approx(1.5 * pixels * voxel_ml, abs=1e-4)
    assert content["slices"][6]["volume_ml"] == pytest.approx(first * voxel_ml, abs=1e-4)
    page = page_of(result, tmp_path)
    assert "uneven, 9.00 to 18.00 mm, median 9.00 mm" in page.words
    assert f"{millilitres(result.volume_ml)} mL" in page.words


# The pictures


def test_captures_show_every_lesion_slice_whole(study: Callable[..., Result]) -> None:
    result = study()
    captured = pictures.capture_pictures(result)
    assert tuple(index for index, _ in captured) == result.findings.slices_with_lesion
    for index, picture in captured:
        strip = (len(picture) - 512) // 2
        assert picture.shape == (512 + 2 * strip, 512, 3)  # 128 pixels, four times as large
        drawn = picture[strip:-strip]
        grey = np.rint((np.clip(result.volume.hu[index], -20, 100) + 20) / 120 * 255)
        inside = ndimage.binary_erosion(result.mask.array[index])
        outside = ~ndimage.binary_dilation(result.mask.array[index], iterations=2)
        shown = drawn.reshape(128, 4, 128, 4, 3).mean(axis=(1, 3))
        assert np.corrcoef(shown[outside, 1], grey[outside])[0, 1] > 0.98
        assert (shown[inside, 0] > shown[inside, 1] + 50).all()
        assert picture[-strip:].max() > 150  # words


def test_slices_of_512_pixels_are_captured_pixel_for_pixel(study: Callable[..., Result]) -> None:
    small = study()
    large = np.kron(small.volume.hu[:1], np.ones((1, 4, 4), np.float32))
    grid = replace(small.volume.grid, origins_mm=small.volume.grid.origins_mm[:1])
    probability = ProbabilityMap(np.full(large.shape, 0.7, np.float32), grid)
    mask = Mask(np.ones(large.shape, bool), grid)
    volume = Volume(large, grid)
    found = summarise_volume(probability, mask, volume)
    result = replace(small, volume=volume, mask=mask, probability=probability, findings=found)
    ((_, picture),) = pictures.capture_pictures(result)
    strip = (len(picture) - 512) // 2
    grey = np.rint((np.clip(large[0], -20, 100) + 20) / 120 * 255)
    expected = blend(grey, probability.array[0], 0.5)
    assert (picture[strip:-strip, 60:-60] == expected[:, 60:-60]).all()


def test_a_negative_study_is_shown_through_the_brain(study: Callable[..., Result], phantom: Phantom) -> None:
    result = study(nothing(phantom))
    captured = pictures.capture_pictures(result)
    assert 3 <= len(captured) <= pictures.NEGATIVE_SLICES
    soft = ((phantom.volume.hu > 5) & (phantom.volume.hu < 80)).sum(axis=(1, 2))
    assert min(soft[index] for index, _ in captured) > 0.4 * soft.max()
    assert pictures.overview(result).ndim == 3


def test_oblong_pixels_and_turned_views_are_drawn_as_they_are(study: Callable[..., Result]) -> None:
    result = study()
    grid = replace(result.volume.grid, row_step_mm=result.volume.grid.row_step_mm / 2)
    oblong = replace(result, volume=Volume(result.volume.hu, grid))
    (_, picture), *_ = pictures.capture_pictures(oblong)
    strip = (pictures.capture_pictures(result)[0][1].shape[0] - 512) // 2
    assert (len(picture) - 2 * strip, picture.shape[1]) == (256, 512)
    assert pictures.patient_sides(grid) == ("R", "L")
    assert pictures.patient_sides(replace(grid, column_step_mm=np.array([-1.8, 0.1, 0]))) == ("L", "R")
    coronal = SliceGrid(np.zeros((1, 3)), np.array([0, 0, 1.0]), np.array([-1.0, 0, 0]), 5.0)
    sagittal = replace(coronal, column_step_mm=np.array([0, 1.0, 0.1]))
    assert (pictures.patient_sides(coronal), pictures.patient_sides(sagittal)) == (("L", "R"), ("A", "P"))


# The page


def test_page_tells_what_was_found(study: Callable[..., Result], tmp_path: Path) -> None:
    result = study()
    page = page_of(result, tmp_path)
    assert "Hemorrhage detected" in page.words
    assert "No hemorrhage" not in page.words
    assert f"Volume{millilitres(result.volume_ml)} mL" in page.words.replace("Volume ", "Volume")
    assert len(page.all("img")) == len(result.findings.slices_with_lesion)
    bars = [one for one in page.all("rect") if one.get("class") in ("blood", "pixel", "slice")]
    assert len(bars) == 2 * 16  # both charts
    for text in ("not a medical device", result.weights.sha256, result.weights.trained_on, "openvino 1", "120 kV"):
        assert text in page.words
    for row in lesion_rows(result):
        names = ("longest_axial_diameter_mm", "perpendicular_diameter_mm", "height_mm")
        across = "×".join(f"{row[name]:.0f}" for name in names)
        told = f"{millilitres(row['volume_ml'])}{row['side']}{across}{millilitres(row['abc2_ml'])}"
        assert told in page.words.replace(" ", "")


def test_bars_and_pictures_hold_each_slices_own_number_and_volume(
    study: Callable[..., Result], phantom: Phantom, tmp_path: Path
) -> None:
    """Of an uneven stack: a bar with another slice's voxel, or a number off by one, would not be seen."""
    origins = phantom.volume.grid.origins_mm.copy()
    origins[10:, 2] += 9.0  # from here on the slices stand for more
    grid = replace(phantom.volume.grid, origins_mm=origins)
    result = study(grid=grid)
    write_report(tmp_path / "report.html", result, {})
    text = (tmp_path / "report.html").read_text("utf-8")
    bars = re.findall(r'<rect [^>]*height="([\d.]+)" class="blood"><title>([^<]*)</title>', text)
    assert [words.split(":")[0] for _, words in bars] == [f"slice {number} of 16" for number in range(1, 17)]
    volumes = result.mask.array.sum(axis=(1, 2)) * grid.voxel_ml
    assert grid.voxel_ml[9] > grid.voxel_ml[0]
    heights = np.array([float(height) for height, _ in bars])
    np.testing.assert_allclose(heights / heights.max(), volumes / volumes.max(), atol=0.01)
    shown = [int(number) for number in re.findall(r"<figcaption><b>Slice (\d+)</b>", text)]
    assert shown == [index + 1 for index in np.flatnonzero(volumes > 0)]


def test_negative_study_says_so_and_what_that_does_not_mean(
    study: Callable[..., Result], phantom: Phantom, tmp_path: Path
) -> None:
    page = page_of(study(nothing(phantom)), tmp_path)
    assert "No hemorrhage detected" in page.words
    assert "does not exclude a hemorrhage" in page.words
    assert "Hemorrhage detected" not in page.words
    assert "Highest probability0.10 (threshold 0.5)" in page.words.replace("probability 0", "probability0")
    assert page.all("img")


def test_what_stands_against_the_study_comes_first(study: Callable[..., Result], tmp_path: Path) -> None:
    page = page_of(replace(study(), checks=CHECKS), tmp_path)
    assert "Read first: the input did not pass 2 checks" in page.words
    assert page.words.index("Refusal, overruled, contrast: IOMERON") < page.words.index("Warning, gantry tilt: 12.4°")
    assert page.words.index("Warning, gantry tilt") < page.words.index("Slices with lesions R and L")
    table = page.words[page.words.index("Checks of the input") :]
    places = [table.index(name) for name in ("contrast", "gantry tilt", "age", "slice count")]
    assert places == sorted(places)
    assert "Read first" not in page_of(study(), tmp_path).words
    wide = [one for one in page.all("div") if one.get("class") == "scroll"]
    assert all(one["tabindex"] == "0" for one in wide)  # to be scrolled by keys
    assert len(wide) >= 3


OUR_SCRIPTS = [{"type": "application/json", "id": "slices-data"}, {}]  # data, and the viewer; both inline


def test_hostile_names_stay_words(study: Callable[..., Result], tmp_path: Path) -> None:
    result = from_dicom(study(), HOSTILE)
    files = {HOSTILE: "javascript:alert(1)", "b": HOSTILE}
    page = page_of(result, tmp_path, files)
    assert page.all("script") == OUR_SCRIPTS
    assert page.words.count(HOSTILE) >= 10
    assert "49" not in page.words.partition(HOSTILE)[0]
    addresses = [link["href"] or "" for link in page.all("a")]
    assert all(re.fullmatch(r"#\w+|[\w%./-]+", address) for address in addresses)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_page_stands_alone_and_can_be_read_aloud(study: Callable[..., Result], tmp_path: Path) -> None:
    result = from_dicom(study(), "Head")
    page = page_of(result, tmp_path)
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert page.all("script") == OUR_SCRIPTS
    text = (tmp_path / "head_report.html").read_text("utf-8")
    assert not re.search(r"url\((?!#)|@import|(?:src|href)=\"(?!data:|#|[\w./-]+\")", text)
    slices_ml = result.mask.array.sum(axis=(1, 2)) * result.mask.grid.voxel_ml
    numbers = []
    for image in page.all("img"):
        number, told_ml = re.match(r"Axial slice (\d+): (.+) mL in lesion", image["alt"] or "").groups()
        numbers.append(int(number))
        assert float(told_ml) == pytest.approx(slices_ml[int(number) - 1], abs=0.005, rel=0.005)
        content = base64.b64decode((image["src"] or "").partition(",")[2])
        with Image.open(BytesIO(content)) as picture:
            assert str(picture.width) == image["width"]
    assert numbers == (np.flatnonzero(slices_ml) + 1).tolist()
    assert all(drawing["aria-label"] for drawing in page.all("svg"))
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    headed = {attributes.get("id") for _, attributes in page.tags}
    assert all(one["aria-labelledby"] in headed for one in page.all("section"))


def test_thirty_lesions_on_large_slices_stay_small(
    study: Callable[..., Result], phantom: Phantom, tmp_path: Path
) -> None:
    small = study(thirty_lesions(phantom))
    noise = np.random.default_rng(0).normal(0, 4, (30, 512, 512)).astype(np.float32)
    order = np.arange(30) % 16
    hu = np.kron(small.volume.hu[order], np.ones((1, 4, 4), np.float32)) + noise
    mask = np.kron(small.mask.array[order], np.ones((1, 4, 4), bool))
    mask[:, 200:204, 200:204] = True  # all 30 slices bleed
    grid = SliceGrid.from_affine(axial_affine((5.0, 0.45, 0.45), hu.shape), 30)
    probability = ProbabilityMap(mask.astype(np.float32), grid)
    volume = Volume(hu, grid)
    found = summarise_volume(probability, Mask(mask, grid), volume)
    result = replace(small, volume=volume, mask=Mask(mask, grid), probability=probability, findings=found)
    page = page_of(result, tmp_path)
    assert (tmp_path / "head_report.html").stat().st_size < 3_000_000
    assert len(page.all("img")) == pictures.SHEET_SLICES
    assert f"{pictures.SHEET_SLICES} of 30, evenly spaced" in page.words
    assert len(page.all("tr")) == 1 + len(found.lesions) + 1 + 1
    assert len(found.lesions) > 30


def test_the_installed_weights_have_a_card_and_others_say_they_have_none(
    study: Callable[..., Result], tmp_path: Path
) -> None:
    first, limits = model_card(locate())
    assert "medical device" in first
    assert "hospital" in limits
    assert limits in page_of(study(), tmp_path).words
    write_tiny_network(tmp_path / "tiny.onnx")
    page = page_of(replace(study(), weights=locate(tmp_path / "tiny.onnx")), tmp_path)
    assert "have no model card" in page.words
    assert limits not in page.words


def test_the_same_study_gives_the_same_page(study: Callable[..., Result], tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        write_report(tmp_path / name, study(), FILES)
        texts.append((tmp_path / name).read_bytes())
    assert texts[0] == texts[1]


# Words


@pytest.mark.parametrize(
    ("numbers", "said"), [([], ""), ([4], "4"), ([4, 5], "4, 5"), ([1, 3, 4, 5, 9], "1, 3 to 5, 9")]
)
def test_runs_of_numbers_are_joined(numbers: list[int], said: str) -> None:
    assert spans(numbers) == said


@pytest.mark.parametrize(
    ("volume_ml", "said"),
    [
        (0, "0.00"),
        (0.004, "<0.01"),
        (0.01, "0.01"),
        (3.149, "3.15"),
        (9.996, "10.0"),
        (45.27, "45.3"),
        (99.96, "100"),
        (1234.5, "1,230"),
    ],
)
def test_volumes_have_three_digits_and_none_is_rounded_to_nothing(volume_ml: float, said: str) -> None:
    assert millilitres(volume_ml) == said
