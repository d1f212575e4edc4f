"""A sender of DICOM, pynetdicom's: what a scanner or a PACS does towards the server."""

from collections.abc import Iterable
from contextlib import contextmanager

from pydicom import Dataset
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification


@contextmanager
def associate(port: int, contexts: Iterable[tuple[str, str]] = (), *, title: str = "CT1", **named):
    """Yield an association with a server on loopback: (SOP class, transfer syntax) pairs, and C-ECHO."""
    ae = AE(ae_title=title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    chosen = [build_context(one, syntax) for one, syntax in dict.fromkeys(contexts)]
    association = ae.associate("127.0.0.1", port, [*chosen, build_context(Verification)], **named)
    assert association.is_established, "no association"
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def send(port: int, instances: Iterable[Dataset], *, title: str = "CT1", **named) -> list[int]:
    """Send instances over one association; return the statuses."""
    instances = list(instances)
    contexts = [(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in instances]
    with associate(port, contexts, title=title, **named) as association:
        return [association.send_c_store(one).Status for one in instances]


def echo(port: int, **named) -> int:
    with associate(port, **named) as association:
        return association.send_c_echo().Status
