"""Deleting by age: images first, results later, and nothing that is not delivered."""

from dataclasses import replace

from sqlalchemy import select, update

from bleedmap.server.config import Limits
from bleedmap.server.store import studies, tables
from bleedmap.server.store.studies import Arrival
from bleedmap.server.store.tables import StudyState
from bleedmap.server.work.versions import delete_expired


def test_images_go_first_then_results_and_the_row_stays(settings, database, place):
    settings = replace(settings, limits=Limits(keep_days=1, keep_results_days=3))
    with database.write() as connection:
        now = database.now(connection)
        for key in ("old", "young", "waiting"):
            studies.note_arrivals(connection, now, [Arrival(key, f"1.2.{key}", "CT1", 1, False)], 5.0)
            number = studies.find_newest(connection, tables.study.c.key == key)["id"]
            studies.move(connection, now, number, 1, StudyState.COMPLETE)
            studies.move(connection, now, number, 1, StudyState.SEGMENTED)
            for folder in (place.dicom(number, 1), place.view(number, 1), place.results(number, 1)):
                folder.mkdir(parents=True)
                (folder / "file").write_bytes(b"x")
            if key != "waiting":
                after = now + (-1 if key == "old" else 3600)
                studies.move(connection, now, number, 1, StudyState.DELIVERED, delete_after=after)

    def left() -> dict[str, tuple[str, list[str]]]:
        with database.read() as connection:
            rows = connection.execute(select(tables.study)).mappings().all()
        found = {}
        for row in rows:
            home = place.version(row["id"], 1)
            found[row["key"]] = (row["state"], sorted(one.name for one in home.iterdir()) if home.exists() else [])
        return found

    everything = ["dicom", "results", "view"]
    others = {"young": ("delivered", everything), "waiting": ("segmented", everything)}
    assert delete_expired(database, place, settings) == 1
    assert left() == {"old": ("delivered", ["results"]), **others}
    assert delete_expired(database, place, settings) == 0, "its results are kept two days more"
    with database.write() as connection:
        old = tables.study.c.key == "old"
        connection.execute(update(tables.study).where(old).values(delete_after=tables.study.c.delete_after - 2 * 86400))
    assert delete_expired(database, place, settings) == 1
    assert left() == {"old": ("gone", []), **others}
    with database.read() as connection:
        told = [(one["action"], one["detail"]) for one in connection.execute(select(tables.audit)).mappings()][-2:]
    assert [action for action, _ in told] == ["deleted by age"] * 2
    assert ['"images"' in detail for _, detail in told] == [True, False]
