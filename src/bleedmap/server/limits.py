"""What protects the server from what it is sent: numbers with their reasons, and the disk's free space."""

import shutil
from pathlib import Path

GB = 1_000_000_000
ACSE_TIMEOUT_S = 5.0  # a socket that says nothing is closed: 40 of them kept a true sender out for 30 s
DIMSE_TIMEOUT_S = 60.0  # a PACS that writes to tape may take long for one C-STORE
NETWORK_TIMEOUT_S = 60.0  # an association that is silent this long is aborted
CONNECT_TIMEOUT_S = 10.0  # to a target
TLS_HANDSHAKE_S = 5.0  # as ACSE_TIMEOUT_S, one layer below
SILENT_S = 60.0  # an open association that sends nothing this long holds no study open
TICK_S = 0.5  # the database is told of arrivals once in this time: files come at 160/s, commits at some 150/s
HOLD_S = 5.0  # an association that is alive holds its study this much longer at each tick, should the listener die
LEASE_S = 60.0  # a job belongs to a process this long, and is renewed each third of it
BEAT_S = 5.0  # a process says that it lives
BEAT_OLD_S = 30.0  # after this it counts as dead
BACKOFF_S, LONGEST_BACKOFF_S = 5.0, 900.0  # doubled each time, ±20 %
COMPUTE_ERRORS = 3  # a step that computes and fails this often fails for good; steps on the network never do
HEADER_BYTES = 64 * 1024 * 1024  # a data set whose header alone is longer is no image
SLICES = 5000  # instances of one study
INSTANCE_BYTES = 700 << 20  # as what is read: a multi-frame scan of 1,300 slices of 512 × 512
INFLIGHT_BYTES = 1 << 30  # of all associations together, in memory
PDU_BYTES = 4 << 20  # the longest that is read: twice what any peer was seen to send with an unlimited size agreed


def free_bytes(folder: Path) -> int:
    """Return how many bytes are free on the disk of a folder."""
    return shutil.disk_usage(folder).free


def is_full(folder: Path, free_gb: float) -> bool:
    """Whether less is free than what the server keeps free."""
    return free_bytes(folder) < free_gb * GB
