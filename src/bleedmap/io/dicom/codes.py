"""The coded words of our DICOM results: SNOMED CT, UCUM and DICOM codes, and our own where no standard one exists.

DICOM PS3.16; the decision on each is in docs/decisions/0008-dicom-results.md.
"""

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

OWN_SCHEME = "99BLEEDMAP"  # PS3.16 section 8: a private scheme's designator begins with 99

# What a segment is: CID 7150, 7159, 7151.
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
HEMORRHAGE = Code("50960005", "SCT", "Hemorrhage")
BRAIN = Code("12738006", "SCT", "Brain")

# What a report says: TID 1500, 1501, 1411.
INTRACRANIAL_HEMORRHAGE = Code("1386000", "SCT", "Intracranial hemorrhage")
DETECTED = Code("260373001", "SCT", "Detected")
NOT_DETECTED = Code("260415000", "SCT", "Not detected")
INDETERMINATE = Code("82334004", "SCT", "Indeterminate")
HEAD_CT = Code("303653007", "SCT", "Computed tomography of head")
ENGLISH = Code("en", "RFC5646", "English")
COMMENT = codes.DCM.Comment
AI = codes.DCM.ArtificialIntelligence  # CID 7162, the algorithm's family

# What is measured, CID 7469 and 7464, and in what.
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
ATTENUATION = codes.DCM.AttenuationCoefficient
PROBABILITY = Code("probability", OWN_SCHEME, "Network's probability of hemorrhage per pixel")
MEAN = Code("373098007", "SCT", "Mean")
MAXIMUM = Code("56851009", "SCT", "Maximum")
MILLILITRE = Code("mL", "UCUM", "milliliter")
MILLIMETRE = Code("mm", "UCUM", "millimeter")
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = Code("%", "UCUM", "percent")

# How sure the program is of a study: CID 225, and what no standard code says.
UPPER_UNCERTAINTY = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
LOWER_UNCERTAINTY = Code("371885007", "SCT", "-, range of lower measurement uncertainty")
STUDY_PROBABILITY = Code("probability-any", OWN_SCHEME, "Calibrated probability of hemorrhage in the study")
INTERVAL_COVERAGE = Code("coverage", OWN_SCHEME, "Coverage of volume interval in unseen bleeding patients")
TYPE_PROBABILITY = {
    short: Code(f"probability-{short}", OWN_SCHEME, f"Probability of {name} hemorrhage in the study")
    for short, name in (
        ("EDH", "epidural"), ("IPH", "intraparenchymal"), ("SDH", "subdural"), ("IVH", "intraventricular"),
        ("SAH", "subarachnoid"),
    )
}  # fmt: skip
