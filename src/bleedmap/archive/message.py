"""What a batch's row says of a result, or of an error."""

import traceback
from pathlib import Path
from typing import Any

from bleedmap.archive.ledger import Status
from bleedmap.errors import BleedmapError
from bleedmap.study.result import Result
from bleedmap.study.words import Verdict, verdict

_STATUS: dict[Verdict, Status] = {"bleed marked": "found", "no bleed marked": "not found", "no verdict": "no verdict"}


def told_of_result(result: Result) -> dict[str, Any]:
    """Fields of `Row`, by name."""
    findings, certainty = result.findings, result.certainty
    told: dict[str, Any] = {
        "status": _STATUS[verdict(findings, certainty)],
        "volume_ml": findings.volume_ml,
        "lesions": len(findings.lesions),
        "slices": len(findings.slices),
        "highest_probability": findings.highest_probability,
        "warnings": tuple(one.name for one in result.warnings),
    }
    if certainty is not None:
        told |= {"study_probability": round(certainty.study, 6), "abstained": certainty.abstained}
        if certainty.volume_ml is not None:
            low_ml, high_ml = (round(end, 4) for end in certainty.volume_ml)
            told |= {"volume_low_ml": low_ml, "volume_high_ml": high_ml, "interval_coverage": certainty.coverage}
    return told


def told_of_error(error: BleedmapError) -> str:
    """What was found, is needed and can be done, in text that every file can hold."""
    words = f"{error.found} (needed: {error.needed}; remedy: {error.remedy})"
    return words.encode("utf-8", "backslashreplace").decode("utf-8")


def told_of_fault(error: Exception) -> str:
    """Kind and place alone: the message may quote what the file says of a patient."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if "bleedmap" in Path(one.filename).parts]
    place = f" in {Path(frames[-1].filename).stem}.{frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"unexpected {type(error).__name__}{place}: a fault of the program, please report it"
