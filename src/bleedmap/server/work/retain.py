"""Delete by age: first the images of a study, later its results. The row, its history and its readings stay."""

import shutil

from bleedmap.server.config import Settings
from bleedmap.server.log import logger
from bleedmap.server.place import Place
from bleedmap.server.states import MOVES, StudyState
from bleedmap.server.store import audit, studies
from bleedmap.server.store.engine import Database

_DAY_S = 86400.0


def delete_expired(database: Database, place: Place, settings: Settings) -> int:
    """Delete what is old enough; return how many versions were touched. After a kill it is done again."""
    limits = settings.limits
    with database.read() as connection:
        rows = studies.list_expired(connection, database.now(connection))
    touched = 0
    for row in rows:
        number, version = row["id"], row["version"]
        has_images = place.dicom(number, version).is_dir()
        later_s = (limits.keep_results_days - limits.keep_days) * _DAY_S if limits.keep_results_days else None
        goes_now = not has_images or (later_s is not None and later_s <= 0)
        if goes_now and StudyState.GONE not in MOVES[StudyState(row["state"])]:
            continue
        for folder in (place.dicom(number, version), place.view(number, version)):
            shutil.rmtree(folder, ignore_errors=True)
        if goes_now:
            shutil.rmtree(place.version(number, version), ignore_errors=True)
        with database.write() as connection:
            now = database.now(connection)
            if goes_now:
                studies.move(connection, now, number, version, StudyState.GONE, "by age", delete_after=None)
            else:
                after = None if later_s is None else now + later_s
                studies.change(connection, number, version, delete_after=after)
                studies.add_event(connection, now, number, version, row["state"], "its images were deleted by age")
            what = "everything" if goes_now else "images"
            audit.record(connection, now, "server", "deleted by age", study=number, version=version, what=what)
        touched += 1
    if touched:
        logger.info("deleted by age: %d", touched)
    return touched
