"""Stored pixels to HU: every transfer syntax, signs, padding, unused bits; what is no HU is refused."""

import os
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import JPEGExtended12Bit, JPEGLSNearLossless, LegacyConvertedEnhancedCTImageStorage, generate_uid

from bleedmap.errors import InputError
from bleedmap.io.dicom.read import read_series, scan
from bleedmap.phantom.dicom import TRANSFER_SYNTAXES, CtOptions
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from bleedmap.volume import Volume
from dicom_studies import assert_same, even_grid, read, series, volume_on, write

COMPRESSED = ("rle", "jpeg", "jpeg-ls", "jpeg-2000")
EXPECTED = volume_on(even_grid())
SIGNED = {"signed": True, "bits_stored": 16, "intercept": 0.0}


def stored(one: Dataset) -> np.ndarray:
    """The words of a native instance, to write on."""
    return np.frombuffer(one.PixelData, "<u2").reshape(one.Rows, one.Columns).copy()


def store(one: Dataset, words: np.ndarray) -> None:
    one.PixelData = words.astype("<u2").tobytes()


@pytest.mark.parametrize("name", TRANSFER_SYNTAXES)
@pytest.mark.parametrize("options", [{}, {"signed": True, "intercept": 0.0}, SIGNED], ids=["u12", "s12", "s16"])
def test_every_transfer_syntax_gives_the_same_hu(tmp_path, name, options):
    assert_same(read(write(tmp_path, series(EXPECTED, transfer_syntax=name, **options))), EXPECTED)


@pytest.mark.parametrize("name", ["explicit", "big-endian", "deflated", *COMPRESSED])
def test_multi_frame_in_every_transfer_syntax(tmp_path, name):
    options = CtOptions(transfer_syntax=name, reverse_numbers=True, contrast="Iohexol")
    found = read(write(tmp_path, [enhanced_ct(EXPECTED, options=options)]))
    assert_same(found, EXPECTED)
    assert found.headers[3] is found.headers[0]
    made = found.acquisition
    assert (made.kernel, made.kvp, made.contrast, made.body_part) == ("H31s", 120.0, "Iohexol", "HEAD")


def test_near_lossless_stays_within_its_error(tmp_path):
    instances = series(EXPECTED)
    for one in instances:
        one.compress(JPEGLSNearLossless, jls_error=3, generate_instance_uid=False)
        one.LossyImageCompression, one.LossyImageCompressionRatio = "01", ["1.2", "7.9"]
    found = read(write(tmp_path, instances))
    assert 0 < np.abs(found.volume.hu - EXPECTED.hu).max() <= 3
    assert "12 of 12 slices were compressed with loss (Lossy Image Compression (0028,2110)), to 1/8:" in " ".join(
        found.notes
    )


def test_legacy_converted_multi_frame(tmp_path):
    one = enhanced_ct(EXPECTED)
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = LegacyConvertedEnhancedCTImageStorage
    assert_same(read(write(tmp_path, [one])), EXPECTED)


def test_what_all_frames_share_may_stand_in_no_group(tmp_path):
    """Some converters leave rescale and geometry where a classic image has them; a place is a frame's own."""
    one = enhanced_ct(EXPECTED)
    (shared,) = one.SharedFunctionalGroupsSequence
    for group in ("PixelValueTransformationSequence", "PixelMeasuresSequence", "PlaneOrientationSequence"):
        one.update(shared[group][0])
        del shared[group]
    assert_same(read(write(tmp_path / "a", [one])), EXPECTED)
    one.update(one.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence[0])
    del one.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence
    assert "1 slice of the series cannot be placed" in read(write(tmp_path / "b", [one])).acquisition.unread


def test_a_converted_series_keeps_what_the_choice_and_the_checks_go_by(tmp_path):
    """highdicom lays kernel and voltage, which have no group of their own there, where no converter assigned them."""
    converted = []
    for number, kernel in ((1, "H70h"), (2, "H31s")):
        slices = series(EXPECTED, kernel=kernel, series_number=number, series_description="Head")
        for one in slices:
            one.PatientName = "Phantom^Head"
        converted.append(
            LegacyConvertedEnhancedCTImage(
                slices, series_instance_uid=generate_uid(), series_number=number, sop_instance_uid=generate_uid(),
                instance_number=1,
            )
        )  # fmt: skip
    found = read(write(tmp_path, converted))
    assert_same(found, EXPECTED)
    made = found.acquisition
    assert (made.kernel, made.kvp, made.contrast) == ("H31s", 120.0, None)
    assert "H70h" in found.choice[1].reason


def test_lossy_jpeg_of_twelve_bits(tmp_path):
    """JPEG Extended as dcmtk writes it; gdcm's own encoder shifts all values."""
    if shutil.which("dcmcjpeg") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs dcmcjpeg: install the Debian package dcmtk")
    smooth = np.broadcast_to(np.linspace(-900, 900, 48, dtype=np.float32).round(), EXPECTED.hu.shape)
    folder = write(tmp_path, series(Volume(smooth, EXPECTED.grid)))
    for path in folder.iterdir():
        subprocess.run(["dcmcjpeg", "+ee", path, path], check=True)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEGExtended12Bit
    assert 0 < np.abs(read(folder).volume.hu - smooth).max() < 15


def test_slope_and_intercept_of_each_slice(tmp_path):
    instances = series(EXPECTED)
    for number, one in enumerate(instances):
        one.RescaleSlope, one.RescaleIntercept = str(1 + number / 2), str(-1000 - number)
    found = read(write(tmp_path, instances))
    words = EXPECTED.hu + 1024
    factors = np.arange(len(words))[:, None, None]
    expected = np.maximum(words * (1 + factors / 2) - 1000 - factors, -1024)
    np.testing.assert_allclose(found.volume.hu, expected, atol=1e-3)


def test_slope_and_intercept_of_each_frame(tmp_path):
    one = enhanced_ct(EXPECTED)
    del one.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    for number, frame in enumerate(one.PerFrameFunctionalGroupsSequence):
        rescale = Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = str(1 + number / 2), str(-1000 - number)
        rescale.RescaleType = "HU"
        frame.PixelValueTransformationSequence = [rescale]
    found = read(write(tmp_path, [one]))
    factors = np.arange(len(EXPECTED.hu))[:, None, None]
    expected = np.maximum((EXPECTED.hu + 1024) * (1 + factors / 2) - 1000 - factors, -1024)
    np.testing.assert_allclose(found.volume.hu, expected, atol=1e-3)
    assert "differs from slice to slice" in found.notes[0]


@pytest.mark.parametrize("multi_frame", [False, True])
def test_values_whose_unit_is_left_open_are_taken_for_hu_and_told(tmp_path, multi_frame):
    """GDCM, through which ITK and SimpleITK write, puts 'US' (unspecified) into every CT that states no unit."""
    instances = [enhanced_ct(EXPECTED)] if multi_frame else series(EXPECTED)
    for one in instances:
        shared = one.SharedFunctionalGroupsSequence[0] if multi_frame else one
        place = shared.PixelValueTransformationSequence[0] if multi_frame else one
        place.RescaleType = "US"
    found = read(write(tmp_path, instances))
    assert_same(found, EXPECTED)
    assert sum("The unit of the values is left open in 12 of 12 slices" in one for one in found.notes) == 1


@pytest.mark.parametrize("unit", ["hu", "HOUNSFIELD", "Hounsfield Units"])
def test_the_unit_may_be_written_out(tmp_path, unit):
    instances = series(EXPECTED)
    for one in instances:
        one.RescaleType = unit
    np.testing.assert_array_equal(read(write(tmp_path, instances)).volume.hu, EXPECTED.hu)


def test_rows_and_columns_by_the_standard_alone(tmp_path):
    """Against PS3.3 C.7.6.2.1.1 written out, with no helper of ours: 40 rows 0.6 mm apart, 48 columns 0.5 mm apart."""
    instances = series()
    for number, one in enumerate(instances):
        words = np.zeros((40, 48), "<u2")
        words[7, 31] = 1000 + number
        one.Rows, one.Columns, one.PixelData = 40, 48, words.tobytes()
        one.PixelSpacing, one.ImageOrientationPatient = ["0.6", "0.5"], ["1", "0", "0", "0", "1", "0"]
        one.ImagePositionPatient = ["-10", "20", str(30 + 5 * number)]
    found = read(write(tmp_path, instances)).volume
    assert found.hu.shape == (12, 40, 48)
    assert found.hu[3, 7, 31] == 1003 - 1024
    place_mm = (-10 + 31 * 0.5, 20 + 7 * 0.6, 30 + 5 * 3)
    np.testing.assert_allclose(found.grid.to_mm(np.array([3, 7, 31])), place_mm, atol=1e-6)


def test_inverted_photometric_interpretation_is_about_display_alone(tmp_path):
    assert_same(read(write(tmp_path, series(EXPECTED, monochrome1=True))), EXPECTED)


@pytest.mark.parametrize("vr", ["US", "SS"])
@pytest.mark.parametrize("signed", [True, False])
def test_padding_in_whichever_sign_it_is_written(tmp_path, vr, signed):
    options = {**SIGNED, "signed": signed, "intercept": 5000.0 if signed else -5000.0}
    words = 63536  # 3,000 HU where signed, 58,536 HU where not: padding that is missed stays visible
    instances = series(EXPECTED, **options)
    for one in instances:
        pixels = stored(one)
        pixels[:3] = words
        store(one, pixels)
        one.add_new("PixelPaddingValue", vr, words if vr == "US" else words - 65536)
    found = read(write(tmp_path, instances))
    assert (found.volume.hu[:, :3] == -1024).all()
    np.testing.assert_array_equal(found.volume.hu[:, 3:], EXPECTED.hu[:, 3:])
    assert f"{12 * 3 * 48:,} pixels (7.5 %) outside the field of view" in found.notes[0]


def test_a_range_of_padding(tmp_path):
    instances = series(EXPECTED, **{**SIGNED, "intercept": 5000.0})
    for one in instances:
        pixels = stored(one)
        pixels[0], pixels[1], pixels[2] = 63536, 63541, 63546  # -2000, -1995, -1990: 3,000 to 3,010 HU
        store(one, pixels)
        one.add_new("PixelPaddingValue", "SS", -2000)
        one.add_new("PixelPaddingRangeLimit", "SS", -1990)
    found = read(write(tmp_path, instances))
    assert (found.volume.hu[:, :3] == -1024).all()
    np.testing.assert_array_equal(found.volume.hu[:, 3:], EXPECTED.hu[:, 3:])


def test_padding_beyond_the_stored_bits(tmp_path):
    instances = series(EXPECTED)  # 12 bits stored
    for one in instances:
        pixels = stored(one)
        pixels[:3] = 63536
        store(one, pixels)
        one.add_new("PixelPaddingValue", "US", 63536)
    found = read(write(tmp_path, instances))
    assert (found.volume.hu[:, :3] == -1024).all()
    np.testing.assert_array_equal(found.volume.hu[:, 3:], EXPECTED.hu[:, 3:])


def test_padding_in_words_without_their_sign(tmp_path):
    """Twelve signed bits, the four above left 0: -2000 stands as 2096 in the file."""
    hu = np.abs(EXPECTED.hu) % 100
    instances = series(Volume(hu, EXPECTED.grid), signed=True, intercept=1000.0)
    for one in instances:
        pixels = stored(one)
        pixels[:3] = 65536 - 2000
        store(one, pixels & 0x0FFF)
        one.add_new("PixelPaddingValue", "SS", -2000)  # -1,000 HU, were it no padding
    found = read(write(tmp_path, instances))
    assert (found.volume.hu[:, :3] == -1024).all()
    np.testing.assert_array_equal(found.volume.hu[:, 3:], hu[:, 3:])


def test_values_below_air_without_padding_are_air(tmp_path):
    instances = series(EXPECTED, **SIGNED)
    for one in instances:
        pixels = stored(one)
        pixels[:, :2] = 65536 - 3024
        store(one, pixels)
    found = read(write(tmp_path, instances))
    assert (found.volume.hu[:, :, :2] == -1024).all()
    assert "as low as -3,024 HU" in found.notes[0]


def test_padding_that_looks_like_tissue_makes_no_holes_in_it(tmp_path):
    """0 as padding and intercept 0: outside the head it is padding, inside it is water."""
    hu = np.full(EXPECTED.hu.shape, 35.0, np.float32)
    hu[:, :5], hu[:, 20:25, 20:25] = 0, 0
    instances = series(Volume(hu, EXPECTED.grid), **SIGNED)
    for one in instances:
        one.add_new("PixelPaddingValue", "SS", 0)
    found = read(write(tmp_path, instances)).volume.hu
    assert (found[:, :5] == -1024).all()
    assert (found[:, 20:25, 20:25] == 0).all()


def test_overlays_in_unused_bits_are_cleaned_away(tmp_path):
    instances = series(EXPECTED)
    for one in instances:
        pixels = stored(one)
        pixels[::2] |= 1 << 13
        store(one, pixels)
        one.add_new((0x6000, 0x0100), "US", 16)
        one.add_new((0x6000, 0x0102), "US", 13)
    assert_same(read(write(tmp_path, instances)), EXPECTED)


def change(**values):
    def on(one: Dataset) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(one, keyword)
            else:
                setattr(one, keyword, value)

    return on


def too_many_bits(one: Dataset) -> None:
    pixels = stored(one)
    pixels[0, :7] |= 1 << 13
    store(one, pixels)


def cut_pixels(one: Dataset) -> None:
    one.PixelData = one.PixelData[:-100]


def with_bytes(keyword: str, value: bytes):
    """A value as a broken device may write it, past pydicom's checks."""

    def on(one: Dataset) -> None:
        tag = tag_for_keyword(keyword)
        del one[tag]
        one[tag] = RawDataElement(Tag(tag), "DS", len(value), value, 0, False, True)

    return on


def modality_lut(one: Dataset) -> None:
    one.ModalityLUTSequence = [Dataset()]


REFUSED = {
    "no rescale": (change(RescaleSlope=None, RescaleIntercept=None), "stored values without a rescale"),
    "slope 0": (change(RescaleSlope="0"), "a rescale of slope 0 and intercept -1024"),
    "slope absurd": (change(RescaleSlope="1e20"), "a rescale of slope 1e[+]20"),
    "slope just beyond": (change(RescaleSlope="101"), "a rescale of slope 101"),
    "slope no number": (with_bytes("RescaleSlope", b"nan "), "stored values without a rescale"),
    "intercept absurd": (change(RescaleIntercept="-1e6"), "a rescale of slope 1 and intercept -1e[+]06"),
    "intercept no number": (with_bytes("RescaleIntercept", b"inf "), "stored values without a rescale"),
    "rescale type": (change(RescaleType="Z_EFF"), "values in 'Z_EFF'"),
    "modality LUT": (modality_lut, "values through a Modality LUT"),
    "colour": (change(PhotometricInterpretation="RGB"), r"1 value\(s\) a pixel, RGB"),
    "samples": (change(SamplesPerPixel=3), r"3 value\(s\) a pixel"),
    "32 bits": (change(BitsAllocated=32), "pixels of 32 bits"),
    "high bit": (change(HighBit=15), "pixels of 16 bits, 12 stored, the highest 15"),
    "sign": (change(PixelRepresentation=2), r"Pixel Representation \(0028,0103\) 2"),
    "unused bits": (too_many_bits, "7 pixels with more than the 12 bits that are stored"),
    "too few bytes": (cut_pixels, "3,740 of 3,840 bytes of pixels"),
    "no pixels": (change(PixelData=None), "no pixel data"),
    "huge": (change(Rows=60000, Columns=60000), "60,000 rows of 60,000 pixels"),
    "tiny": (change(Rows=4, Columns=4), "4 rows of 4 pixels"),
    "frames": (change(NumberOfFrames="2"), "2 frames in a classic CT image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pixels_that_are_no_hu_are_refused(tmp_path, case):
    damage, found = REFUSED[case]
    instances = series(EXPECTED)
    for one in instances:
        damage(one)
    with pytest.raises(InputError, match=found) as refused:
        read(write(tmp_path, instances))
    assert refused.value.needed
    assert refused.value.remedy


def test_a_compression_that_is_not_decoded_is_named_with_what_unpacks_it(tmp_path):
    folder = write(tmp_path, series(EXPECTED, transfer_syntax="jpeg"))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.4.55"))
    with pytest.raises(InputError, match="transfer syntax JPEG Full Progression, Non-Hierarchical") as refused:
        read(folder)
    assert "dcmdjpeg" in refused.value.remedy


def test_a_slice_with_too_few_bytes_is_left_out_and_told_by_its_name(tmp_path):
    instances = series(EXPECTED)
    cut_pixels(instances[5])
    folder = write(tmp_path, instances)
    found = read(folder)
    np.testing.assert_array_equal(found.volume.hu, np.delete(EXPECTED.hu, 5, axis=0))
    np.testing.assert_allclose(found.volume.grid.origins_mm, np.delete(EXPECTED.grid.origins_mm, 5, axis=0), atol=1e-3)
    cut = next(one for one in folder.iterdir() if pydicom.dcmread(one).SOPInstanceUID == instances[5].SOPInstanceUID)
    told = f"1 slice of the series could not be read ({cut.name}: 3,740 of 3,840 bytes of pixels)"
    assert found.acquisition.unread == told
    assert f"{told}; the rest was read." in found.notes
    assert len(found.headers) == len(found.volume.hu)


def test_many_damaged_slices_are_refused(tmp_path):
    instances = series(EXPECTED)
    for one in instances[1:]:
        cut_pixels(one)
    with pytest.raises(InputError, match="3,740 of 3,840 bytes of pixels"):
        read(write(tmp_path, instances))


@pytest.mark.parametrize("first", [True, False], ids=["before the whole one", "behind it"])
def test_a_damaged_copy_of_a_slice_is_left_out(tmp_path, first):
    instances = series(EXPECTED)
    folder = write(tmp_path, instances)
    cut_pixels(instances[5])
    instances[5].save_as(folder / ("0.dcm" if first else "zzz.dcm"), enforce_file_format=True)
    found = read(folder)
    assert_same(found, EXPECTED)
    assert "1 damaged slice was left out: a whole one lies at the same place." in found.notes
    assert not found.acquisition.unread


def test_a_volume_beyond_memory_is_refused_before_it_is_read(tmp_path):
    one = enhanced_ct(EXPECTED)
    frames = [Dataset() for _ in range(1500)]
    for number, frame in enumerate(frames):
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, number]
    one.PerFrameFunctionalGroupsSequence, one.NumberOfFrames = frames, len(frames)
    one.Rows = one.Columns = 512
    with pytest.raises(InputError, match=r"1,500 slices of 512 × 512 pixels, 1\.57 GB"):
        read(write(tmp_path, [one]))


def test_progress_counts_every_slice(tmp_path):
    steps: list[int] = []
    read_series(scan(write(tmp_path, series(EXPECTED))), advance=steps.append)
    assert sum(steps) == 12
