"""Make a volume into one Enhanced CT multi-frame instance: DICOM PS3.3 A.38, functional groups C.7.6.16, C.8.15.3."""

from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage
from pydicom.valuerep import VR

from bleedmap.errors import SettingsError
from bleedmap.geometry import PlaneTurn, StoredPlanes
from bleedmap.phantom.dicom import (
    AS_VIEWED,
    PLAIN,
    CtOptions,
    add_pixels,
    encode,
    format_decimal,
    locate_planes,
    new_instance,
    stored_values,
)
from bleedmap.volume import Volume

_TYPE = ("VOLUME", "NONE")  # values 3 and 4 of the image type; the first two are the options'


def enhanced_ct(volume: Volume, *, turn: PlaneTurn = AS_VIEWED, options: CtOptions = PLAIN) -> Dataset:
    """Make one Enhanced CT Image Storage instance of the whole series, a frame a slice, in the order of the slices.

    Args:
        volume: in the standard view, on any grid with rows at right angles to columns.
        turn: from the stored rows and columns to that view; here it is undone.
        options: `reverse_numbers` stores the frames head to feet.

    Raises:
        SettingsError: as `phantom.dicom.ct_instances`; or MONOCHROME1, which an Enhanced CT cannot be.
    """
    if options.monochrome1:
        raise SettingsError(
            "phantom DICOM, enhanced CT", found="asked for as MONOCHROME1", needed="MONOCHROME2 (PS3.3 C.8.15.2)",
            remedy="write a classic series",
        )  # fmt: skip
    planes = locate_planes(volume, turn)
    stored = turn.undo(stored_values(volume.hu, options))
    order = list(range(len(stored)))[:: -1 if options.reverse_numbers else 1]
    one = new_instance(options, EnhancedCTImageStorage, options.uid("enhanced", options.series_number))
    _add_image(one, options)
    _add_dimensions(one, options)
    one.SharedFunctionalGroupsSequence = [_make_shared_groups(volume, planes, options)]
    one.PerFrameFunctionalGroupsSequence = [
        _make_frame_groups(planes, index, frame) for frame, index in enumerate(order, start=1)
    ]
    one.NumberOfFrames = len(order)
    add_pixels(one, np.ascontiguousarray(stored[order]), options)
    encode(one, options.transfer_syntax)
    return one


def _add_image(one: Dataset, options: CtOptions) -> None:
    """Add the enhanced CT image, acquisition context and contrast modules at image level."""
    one.InstanceNumber = 1
    one.ImageType = [*options.image_type[:2], *_TYPE]
    _describe(one)
    one.AcquisitionNumber, one.AcquisitionDuration = 1, 1000.0
    one.AcquisitionDateTime = one.StudyDate + one.StudyTime
    one.ContentQualification, one.BurnedInAnnotation = "RESEARCH", "NO"
    one.PresentationLUTShape = "IDENTITY"
    one.AcquisitionContextSequence = []
    if options.contrast is not None:
        one.ContrastBolusAgentSequence = _make_sequence(
            CodeValue="7140000", CodingSchemeDesignator="SCT", CodeMeaning=options.contrast,
            ContrastBolusAgentNumber=1, ContrastBolusVolume=None, ContrastBolusIngredientConcentration=None,
            ContrastBolusAdministrationRouteSequence=[_make_code("47625008", "Intravenous route")],
            ContrastBolusIngredientCodeSequence=[_make_code("44588005", "Iodine")],
        )  # fmt: skip


def _add_dimensions(one: Dataset, options: CtOptions) -> None:
    """Index the frames by their place in one stack."""
    organization = options.uid("dimensions", options.series_number)
    one.DimensionOrganizationSequence = _make_sequence(DimensionOrganizationUID=organization)
    one.DimensionIndexSequence = [
        _make_item(
            DimensionOrganizationUID=organization, DimensionIndexPointer=Tag(keyword),
            FunctionalGroupPointer=Tag("FrameContentSequence"),
        )
        for keyword in ("StackID", "InStackPositionNumber")
    ]  # fmt: skip


def _make_shared_groups(volume: Volume, planes: StoredPlanes, options: CtOptions) -> Dataset:
    shared = Dataset()
    frame_type = _make_item(FrameType=[*options.image_type[:2], *_TYPE])
    _describe(frame_type)
    shared.CTImageFrameTypeSequence = [frame_type]
    shared.PixelMeasuresSequence = _make_sequence(
        PixelSpacing=[format_decimal(one) for one in planes.pixel_mm],
        SliceThickness=format_decimal(volume.grid.thickness_mm),
    )
    shared.PlaneOrientationSequence = _make_sequence(
        ImageOrientationPatient=[format_decimal(one) for one in planes.orientation]
    )
    shared.FrameAnatomySequence = _make_sequence(
        FrameLaterality="U", AnatomicRegionSequence=[_make_code("69536005", "Head")]
    )
    shared.PixelValueTransformationSequence = _make_sequence(
        RescaleIntercept=format_decimal(options.intercept),
        RescaleSlope=format_decimal(options.slope),
        RescaleType="HU",
    )
    shared.FrameVOILUTSequence = _make_sequence(WindowCenter="40", WindowWidth="80")
    if options.contrast is not None:
        shared.ContrastBolusUsageSequence = _make_sequence(
            ContrastBolusAgentNumber=1, ContrastBolusAgentAdministered="YES", ContrastBolusAgentDetected="YES"
        )
    _add_acquisition(shared, volume, planes.pixel_mm, options)
    return shared


def _add_acquisition(shared: Dataset, volume: Volume, pixel_mm: tuple[float, float], options: CtOptions) -> None:
    """Add what an original image must say of tube, table, gantry and reconstruction."""
    shared.CTAcquisitionTypeSequence = _make_sequence(
        AcquisitionType="SEQUENCED", ConstantVolumeFlag="NO", FluoroscopyFlag="NO"
    )
    shared.CTAcquisitionDetailsSequence = _make_sequence(
        RotationDirection="CW", RevolutionTime=1.0, SingleCollimationWidth=volume.grid.thickness_mm,
        TotalCollimationWidth=volume.grid.thickness_mm, TableHeight=150.0,
        GantryDetectorTilt=round(volume.grid.gantry_tilt_deg, 3) + 0.0, DataCollectionDiameter=500.0,
    )  # fmt: skip
    shared.CTTableDynamicsSequence = _make_sequence(TableSpeed=10.0)
    shared.CTGeometrySequence = _make_sequence(
        DistanceSourceToDetector=1000.0, DistanceSourceToDataCollectionCenter=500.0
    )
    diameter_mm = min(volume.hu.shape[1] * volume.grid.spacing_mm[1], volume.hu.shape[2] * volume.grid.spacing_mm[2])
    shared.CTReconstructionSequence = _make_sequence(
        ReconstructionAlgorithm="FILTER_BACK_PROJ", ConvolutionKernel=options.kernel,
        ConvolutionKernelGroup="BRAIN", ReconstructionDiameter=diameter_mm,
        ReconstructionAngle=360.0, ReconstructionPixelSpacing=list(pixel_mm), ImageFilter="none",
    )  # fmt: skip
    shared.CTExposureSequence = _make_sequence(
        ExposureTimeInms=1000.0, XRayTubeCurrentInmA=250.0, ExposureInmAs=250.0,
        ExposureModulationType="NONE",
    )  # fmt: skip
    shared.CTXRayDetailsSequence = _make_sequence(
        KVP=format_decimal(options.kvp), FocalSpots=["1.2"], FilterType="FLAT", FilterMaterial="ALUMINUM"
    )
    shared.IrradiationEventIdentificationSequence = _make_sequence(IrradiationEventUID=options.uid("irradiation"))


def _make_frame_groups(planes: StoredPlanes, index: int, frame: int) -> Dataset:
    """Make what differs from frame to frame; `index` counts from 0 feet to head, `frame` from 1 as stored."""
    groups = Dataset()
    position = planes.positions_mm[index]
    groups.FrameContentSequence = _make_sequence(
        FrameAcquisitionNumber=1, FrameAcquisitionDateTime="20240102030405",
        FrameReferenceDateTime="20240102030405", FrameAcquisitionDuration=1000.0,
        StackID="1", InStackPositionNumber=index + 1, DimensionIndexValues=[1, index + 1],
        FrameLabel=f"frame {frame}",
    )  # fmt: skip
    groups.PlanePositionSequence = _make_sequence(ImagePositionPatient=[format_decimal(one) for one in position])
    groups.CTPositionSequence = _make_sequence(
        TablePosition=float(position[2]), ReconstructionTargetCenterPatient=[float(one) for one in position],
        DataCollectionCenterPatient=[float(one) for one in position],
    )  # fmt: skip
    return groups


def _describe(image: Dataset) -> None:
    """Add the common CT/MR image description, of the image or of a frame: PS3.3 C.8.16.2."""
    image.PixelPresentation, image.VolumetricProperties = "MONOCHROME", "VOLUME"
    image.VolumeBasedCalculationTechnique = "NONE"


def _make_code(value: str, meaning: str) -> Dataset:
    return _make_item(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)


def _make_sequence(**attributes: Any) -> list[Dataset]:
    """Make a sequence of one item."""
    return [_make_item(**attributes)]


def _make_item(**attributes: Any) -> Dataset:
    """Make one item of a sequence."""
    item = Dataset()
    for keyword, value in attributes.items():
        item.add_new(keyword, VR(dictionary_VR(keyword)), value)
    return item
