"""Programs of Debian packages that judge DICOM files; tests are skipped where they are missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def program(name: str, package: str) -> str:
    """A program's path; without it tests are skipped, but fail where CI is set."""
    own = str(Path(sys.executable).parent)  # pynetdicom's programs there have the names of dcmtk's
    places = [one for one in os.environ.get("PATH", "").split(os.pathsep) if one != own]
    found = shutil.which(name, path=os.pathsep.join([*places, "/usr/sbin"]))
    if found is None:
        reason = f"needs the program {name} of the Debian package {package}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def complaints(path: Path) -> list[str]:
    """What dicom3tools' dciodvfy holds against a file, errors and warnings, a line each."""
    command = [program("dciodvfy", "dicom3tools"), str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600, check=False)
    lines = (ended.stdout + ended.stderr).splitlines()
    assert lines, f"dciodvfy says nothing about {path}"  # it names the IOD at least
    return [line for line in lines if line.startswith(("Error", "Warning"))]
