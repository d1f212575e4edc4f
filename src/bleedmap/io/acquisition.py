"""How a scan was made, as far as its files say; each value is None where they do not."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Acquisition:
    """What the input checks ask for. No name, date or number of a patient is in it.

    Attributes:
        modality: DICOM (0008,0060), 'CT'.
        image_type: (0008,0008), for example ('ORIGINAL', 'PRIMARY', 'AXIAL').
        body_part: (0018,0015), upper case.
        description: of series and study and the protocol's name, joined by ' / '.
        contrast: the agent that the files name ((0018,0010) or a code's meaning); '' where they say none was given.
        kvp: peak voltage, (0018,0060).
        kernel: (0018,1210), several joined by '\\'.
        age_years: (0010,1010) in years.
        thickness_mm: nominal slice thickness, (0018,0050).
        gantry_tilt_deg: as the files state it, (0018,1120); geometry is taken from positions, not from here.
        scanner: manufacturer and model.
    """

    modality: str | None = None
    image_type: tuple[str, ...] = ()
    body_part: str | None = None
    description: str | None = None
    contrast: str | None = None
    kvp: float | None = None
    kernel: str | None = None
    age_years: float | None = None
    thickness_mm: float | None = None
    gantry_tilt_deg: float | None = None
    scanner: str | None = None
