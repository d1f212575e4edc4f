"""Storage commitment: ask a PACS, by N-ACTION, whether it holds objects and keeps them; PS3.4 annex J.

It answers by N-EVENT-REPORT, at once over the same association or later over one of its own, to our listener. Both ends
meet in the table `delivery`, by the transaction's UID.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from sqlalchemy import select, update

from bleedmap.archive.remote.dicomweb import Object
from bleedmap.server.config import Settings, Target
from bleedmap.server.dicom.send import AwayError, associate
from bleedmap.server.store.engine import Database
from bleedmap.server.store.tables import delivery
from bleedmap.server.store.tables import job as jobs

CONFIRMED, MISSING, SENT, OPEN = "confirmed", "missing", "sent", "open"


def ask_commitment(
    settings: Settings, target: Target, objects: Sequence[Object], transaction_uid: str,
    on_report: Callable[[Dataset], object], is_answered: Callable[[], bool], wait_s: float,
) -> bool:  # fmt: skip
    """Ask a target to commit, and wait for its report; return whether it came.

    Args:
        settings: of us.
        target: of kind dimse.
        objects: asked for.
        transaction_uid: new for each asking.
        on_report: called with the event information where it comes over the same association, from another thread.
        is_answered: whether a report was recorded, by whichever way it came.
        wait_s: how long to wait for it, with the association open.

    Raises:
        AwayError: it cannot be reached, or refuses.
        UnsupportedError: it does not do storage commitment.
    """
    action = Dataset()
    action.TransactionUID = transaction_uid
    action.ReferencedSOPSequence = []
    for one in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.sop_class, one.sop_uid
        action.ReferencedSOPSequence.append(item)

    def take(event: Any) -> tuple[int, None]:
        on_report(event.event_information)
        return 0x0000, None

    model = StorageCommitmentPushModel
    with associate(settings, target, [(model, None)], [(evt.EVT_N_EVENT_REPORT, take)]) as association:
        status, _ = association.send_n_action(action, 1, model, StorageCommitmentPushModelInstance)
        if not status or status.get("Status") != 0x0000:
            said = f"0x{status.Status:04X}" if status and "Status" in status else "no answer"
            raise AwayError(f"its answer to storage commitment: {said}")
        until = time.monotonic() + wait_s
        while not is_answered():
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
    return True


def new_transaction() -> str:
    """A UID of a transaction."""
    return str(generate_uid())


def record_report(database: Database, report: Dataset) -> int:
    """Record what a target reports, for the objects that this transaction asked for; return their number."""
    transaction = str(report.get("TransactionUID", ""))
    held = [str(one.ReferencedSOPInstanceUID) for one in report.get("ReferencedSOPSequence", [])]
    failed = {
        str(one.ReferencedSOPInstanceUID): f"0x{int(one.get('FailureReason', 0)):04X}"
        for one in report.get("FailedSOPSequence", [])
    }
    if not transaction:
        return 0
    with database.write() as connection:
        now = database.now(connection)
        rows = connection.execute(
            select(delivery.c.job, delivery.c.sop_uid).where(delivery.c.transaction_uid == transaction)
        ).all()
        known = 0
        for job, uid in rows:
            if uid in held:
                values = {"state": CONFIRMED, "status": "", "asked_at": now}
            elif uid in failed:
                values = {"state": MISSING, "status": failed[uid], "asked_at": now}
            else:
                continue
            known += 1
            one = (delivery.c.job == job) & (delivery.c.sop_uid == uid) & (delivery.c.transaction_uid == transaction)
            connection.execute(update(delivery).where(one).values(**values))
        waiting = jobs.c.id.in_({row.job for row in rows}) & (jobs.c.lease == "")
        connection.execute(update(jobs).where(waiting).values(due=0.0))  # its answer is there: look at once
    return known
