"""The states of a study and of a job, and the moves that are allowed. Nothing here does anything."""

from enum import StrEnum

from bleedmap.errors import BleedmapError


class StudyState(StrEnum):
    """What has become of one version of a study; `study.waiting` says beside it what its next step waits for."""

    RECEIVING = "receiving"  # slices may still come
    COMPLETE = "complete"  # quiet, or the stated count is there; to be segmented
    SEGMENTED = "segmented"  # the result stands; not yet confirmed by all targets
    DELIVERED = "delivered"  # every target has confirmed every object; without targets, as soon as it is segmented
    REFUSED = "refused"  # by an input check: a result with a reason, sent nowhere
    FAILED = "failed"  # the attempts are used up: a person is asked
    SUPERSEDED = "superseded"  # a later version has a result of its own
    GONE = "gone"  # deleted by age; the row stays


class JobState(StrEnum):
    """Where a job stands; a job that is held by a process has a lease besides."""

    READY = "ready"
    WAITING = "waiting"  # tried; its error says for what it waits, its due when it is tried again
    DONE = "done"
    FAILED = "failed"


class Step(StrEnum):
    """What a job does."""

    SEGMENT = "segment"
    DELIVER = "deliver"
    FETCH = "fetch"


_S = StudyState
MOVES: dict[StudyState, frozenset[StudyState]] = {
    _S.RECEIVING: frozenset({_S.COMPLETE, _S.FAILED}),
    _S.COMPLETE: frozenset({_S.SEGMENTED, _S.REFUSED, _S.FAILED, _S.DELIVERED}),
    _S.SEGMENTED: frozenset({_S.DELIVERED, _S.FAILED, _S.SUPERSEDED, _S.GONE}),
    _S.DELIVERED: frozenset({_S.SEGMENTED, _S.SUPERSEDED, _S.GONE}),  # back: a person sends it once more
    _S.REFUSED: frozenset({_S.SUPERSEDED, _S.GONE}),
    _S.FAILED: frozenset({_S.COMPLETE, _S.SEGMENTED, _S.SUPERSEDED, _S.GONE}),  # a person tries again
    _S.SUPERSEDED: frozenset({_S.GONE}),
    _S.GONE: frozenset(),
}
FINISHED = frozenset({_S.SEGMENTED, _S.DELIVERED, _S.REFUSED, _S.FAILED})  # has an outcome to show


class MoveError(BleedmapError):
    """A state that does not follow on the one before."""

    exit_code = 1


def check_move(study: str, before: str, after: str) -> None:
    """Refuse a move that is not among `MOVES`.

    Raises:
        MoveError: so it is.
    """
    if StudyState(after) not in MOVES[StudyState(before)]:
        raise MoveError(
            f"study {study}", found=f"'{after}' after '{before}'",
            needed=f"one of {', '.join(sorted(MOVES[StudyState(before)])) or 'nothing: it is gone'}",
            remedy="report this: two processes disagree",
        )  # fmt: skip
