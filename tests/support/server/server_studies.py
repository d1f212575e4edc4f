"""Studies in a server's folder and database, as its worker leaves them; a small phantom with a known outline."""

import io
import time
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from sqlalchemy import insert

from bleedmap.inference.backends import BackendRecord
from bleedmap.inference.certainty import Certainty
from bleedmap.inference.weights import locate
from bleedmap.phantom.bleeds import Bleed
from bleedmap.phantom.dicom import ct_instances
from bleedmap.phantom.head import Phantom, PhantomSettings, make_phantom
from bleedmap.results.save import save
from bleedmap.server.place import Place, new_id
from bleedmap.server.store.engine import Database
from bleedmap.server.store.studies import add_event
from bleedmap.server.store.tables import identity, study
from bleedmap.server.view import write_view
from bleedmap.study.read import read_study
from bleedmap.study.result import Result
from bleedmap.study.segment import conclude
from dicom_studies import write
from tiny_network import write_tiny_network

NAME, NUMBER, BORN = "FAMILY^GIVEN", "ID-4711", "19550304"


@cache
def phantom() -> Phantom:
    """A head of 10 slices of 96 × 96 pixels with an intraparenchymal bleed."""
    settings = PhantomSettings(seed=3, spacing_mm=(10.0, 2.3, 2.3), shape=(14, 96, 96), bleeds=(Bleed("IPH", 25.0),))
    return make_phantom(settings)


def scanned(**turn: Any) -> list[Dataset]:
    """The phantom as a scanner sends it, of a patient with a name."""
    instances = ct_instances(phantom().volume, **turn)
    for one in instances:
        one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = NAME, NUMBER, BORN, "F"
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    return instances


def result_of(folder: Path, instances: list[Dataset], marked: Any) -> Result:
    """A result on slices that were written as DICOM and read again: probability 0.9 where `marked`, else 0.05."""
    read = read_study(write(folder / "dicom", instances))
    write_tiny_network(folder / "tiny.onnx")
    marked = np.asarray(marked)
    certainty = Certainty(
        tuple(0.98 if one.any() else 0.03 for one in marked), 0.97 if marked.any() else 0.04,
        (("EDH", 0.02), ("IPH", 0.93), ("SDH", 0.05), ("IVH", 0.11), ("SAH", 0.03)), (18.0, 33.0), 0.8,
    )  # fmt: skip
    probability = np.where(marked, 0.9, 0.05).astype(np.float32)
    record = BackendRecord("openvino", "cpu", "fp32")
    return conclude(read, (), probability, locate(folder / "tiny.onnx"), record, 0.5, certainty)


def add_row(database: Database, **values: Any) -> str:
    """Add a study's row, its patient's and the first of its history; return its identifier."""
    number, now = values.pop("id", None) or new_id(), time.time()
    row = {
        "id": number, "version": 1, "uid": f"2.25.{int(number, 36)}", "key": number, "state": "delivered",
        "state_since": now, "first_seen": now, "last_seen": now, "instances": 28, "sender_ae": "CT1",
        "description": "CT HEAD", "study_at": "2026-11-29T08:15:00",
    } | values  # fmt: skip
    with database.write() as connection:
        connection.execute(insert(study).values(**row))
        if row["version"] == 1:
            who = {"name": NAME, "patient_id": NUMBER, "birth_date": BORN, "sex": "F", "accession": "A-99"}
            connection.execute(insert(identity).values(study=number, **who))
        add_event(connection, now, number, row["version"], row["state"], "a test")
    return number


def add_study(place: Place, database: Database, instances: list[Dataset], marked: Any, **values: Any) -> str:
    """Add a segmented study with all its files."""
    number = new_id()
    folder = place.version(number, values.get("version", 1))
    folder.mkdir(parents=True)
    result = result_of(folder, instances, marked)
    save(result, folder / "results")
    for path in list((folder / "dicom").iterdir()):
        path.rename(path.with_name(f"{path.name}.dcm"))
    (folder / "view").mkdir()
    write_view(folder / "view", result)
    found = result.found
    told = {
        "verdict": "bleed marked" if found else "no bleed marked", "score": 0.97 if found else 0.04,
        "volume_ml": result.volume_ml, "lesions": len(result.findings.lesions), "headline": "said in a sentence",
        "instances": len(instances),
    }  # fmt: skip
    return add_row(database, **({"id": number} | told | values))


def as_bytes(instance: Dataset) -> bytes:
    """An instance as it lies in a file."""
    stream = io.BytesIO()
    instance.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def as_zip(files: dict[str, bytes]) -> bytes:
    """A zip of these files, by name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return stream.getvalue()
