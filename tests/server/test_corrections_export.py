"""Readers' outlines come out as a data set that `evaluate --studies` measures; a pseudonymous one tells of nobody."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from sqlalchemy import select

from bleedmap.evaluation.studies.find import Places, find_cases
from bleedmap.evaluation.studies.references import read_case
from bleedmap.io.dicom.header import set_up_pydicom
from bleedmap.server import view
from bleedmap.server.config import Settings, write_settings
from bleedmap.server.place import Place
from bleedmap.server.store import readings, users
from bleedmap.server.store.engine import Database, open_database, prepare
from bleedmap.server.store.tables import audit
from bleedmap.server.work.corrections import _list_outlines
from bleedmap.window import BRAIN
from command_line import run
from debian_programs import complaints
from phantom_studies import NAME, NUMBER, make_study
from server_studies import add_row, add_study
from server_web import small_settings


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, dict[str, np.ndarray]]:
    """A server with five studies: corrected, agreed, a false alarm, missed without a correction, and never outlined."""
    settings = small_settings(tmp_path_factory.mktemp("judged"))
    place, database = Place(settings.data), open_database(settings)
    prepare(database)
    with database.write() as connection:
        user = users.add_user(connection, 0.0, "Dr Reader", "reader")
    marked = np.zeros((24, 96, 96), bool)
    marked[10:13, 40:50, 30:44] = True
    expected = {}
    for number, says in enumerate(("agree", "agree", "false alarm", "missed")):
        study = add_study(place, database, make_study(number), marked)
        with database.write() as connection:
            readings.add_reading(connection, 5.0, study, 1, user, says)
        expected[says] = np.zeros_like(marked) if says == "false alarm" else marked
        if number == 0:
            drawn = marked.copy()
            drawn[15, 20:30, 60:70] = True
            keep(database, place, study, user, drawn)
            expected["correction"] = drawn
    refused = add_study(place, database, make_study(9), marked, state="refused", verdict=None)
    with database.write() as connection:
        readings.add_reading(connection, 5.0, refused, 1, user, "agree")
    database.close()
    return settings, expected


def keep(database: Database, place: Place, study: str, user: str, drawn: np.ndarray) -> None:
    place.corrections(study).mkdir(parents=True)
    (place.corrections(study) / "a.nii.gz").write_bytes(view.pack_mask(drawn, {"pixel_mm": [1, 1]}))
    with database.write() as connection:
        readings.add_correction(
            connection, 6.0, study, 1, user, file="a.nii.gz", sha256=view.hash_mask(drawn), base_sha256="",
            voxels=int(drawn.sum()),
        )  # fmt: skip


@pytest.mark.parametrize("pseudonymous", [False, True])
def test_the_export_is_a_data_set(judged, pseudonymous: bool, tmp_path: Path, capsys) -> None:
    settings, expected = judged
    config, out = tmp_path / "s.toml", tmp_path / "out"
    config.write_text(write_settings(settings))
    words = ("--pseudonymous",) if pseudonymous else ()
    assert run("server", "corrections", "export", "--config", config, "-o", out, *words) == 0
    said = capsys.readouterr().out
    assert "1 × a reader said 'missed' and drew nothing" in said
    assert "Studies: 3. Written: " in said
    assert "1 × a reader said 'agree' and drew nothing" in said
    database = open_database(settings)
    with database.read() as connection:
        last = connection.execute(select(audit).order_by(audit.c.id.desc())).mappings().first()
    database.close()
    assert (last["action"], json.loads(last["detail"])) == (
        "corrections exported", {"count": 3, "pseudonymous": pseudonymous},
    )  # fmt: skip
    with (out / "studies.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(one["outline"] for one in rows) == ["agreed", "correction", "false alarm"]
    with (out / "patients.csv").open() as file:
        assert len({one["patient"] for one in csv.DictReader(file)}) == 1
    cases = find_cases(Places(out, None, tmp_path / "results", "unknown"))
    assert {one.name for one in cases.cases} == {one["study"] for one in rows}
    marks = {one.name: read_case(one, BRAIN).mask for one in cases.cases}
    for row in rows:
        wanted = expected[{"agreed": "agree"}.get(row["outline"], row["outline"])]
        np.testing.assert_array_equal(marks[row["study"]], wanted)
        seg = out / row["study"] / "outline.dcm"
        assert not [one for one in complaints(seg) if one.startswith("Error")]
        made = dcmread(seg)
        assert made.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
        assert (str(made.ContentCreatorName) == "Dr Reader") != pseudonymous
    if pseudonymous:
        set_up_pydicom()
        held = b"".join(one.read_bytes() for one in out.rglob("*") if one.is_file())
        uids = (make_study(0)[0].StudyInstanceUID, make_study(0)[3].SOPInstanceUID)
        for secret in (NAME, NUMBER, "ACC-", "Dr Reader", *uids):
            assert secret.encode() not in held
    assert run("evaluate", "--studies", out, "-o", tmp_path / "measured", "--weights", settings.data.parent / "no") != 0


def test_the_newest_correction_of_the_newest_version_that_was_judged_counts(database: Database) -> None:
    with database.write() as connection:
        user = users.add_user(connection, 0.0, "Dr Reader", "reader")
    study = add_row(database)
    for version in (2, 3):
        add_row(database, id=study, version=version)
    with database.write() as connection:
        for version, file in ((1, "a"), (2, "b"), (2, "c"), (1, "d")):
            readings.add_correction(
                connection, 6.0, study, version, user, file=file, sha256=file, base_sha256="", voxels=1
            )
        readings.add_reading(connection, 7.0, study, 1, user, "false alarm")
    with database.read() as connection:
        outlines = list(_list_outlines(connection, Counter()))
    assert [(one.row["version"], one.source, one.file) for one in outlines] == [(2, "correction", "c")]
