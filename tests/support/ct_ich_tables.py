"""The tables of a small CT-ICH release, as the publisher writes them."""

from collections.abc import Mapping

HEADER = (
    "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural,"
    "No_Hemorrhage,Fracture_Yes_No\r\n"
)
PEOPLE = (
    '"Patient Number","Age\n(years)","Gender","Intraventricular","Intraparenchymal","Subarachnoid","Epidural",'
    '"Subdural","Fracture (Yes/No)","Condition on file","Note"\n'
    '49,35,"Male",,,,1,,1,"Extradural HGE ",\n'
    '50,0.5,"Female",,,,,,,"Normal CT",\n'
    '51,,"",,,,,,,"Subdural HGE","Chronic"\n'
)
# Patient -> slices; a slice is (lesion type or "", fracture).
SMALL: Mapping[int, tuple[tuple[str, bool], ...]] = {
    49: (("", False), ("Epidural", True), ("Epidural", False)),
    50: (("", False), ("", False)),
    51: (("", False), ("Subdural", False), ("", False)),
}


def label_rows(patients: Mapping[int, tuple[tuple[str, bool], ...]]) -> str:
    """The diagnosis table as the publisher writes it, less the byte-order mark."""
    names = HEADER.split(",")[2:7]
    rows = [HEADER]
    for patient, slices in patients.items():
        for number, (lesion, fracture) in enumerate(slices, start=1):
            flags = [int(name == lesion) for name in names] + [int(not lesion), int(fracture)]
            rows.append(",".join(map(str, (patient, number, *flags))) + "\r\n")
    return "".join(rows)
