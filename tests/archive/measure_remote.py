"""Studies a minute from Orthanc's DICOMweb, beside the same from a folder: python measure_remote.py FOLDER [STUDIES].

The network that ships, one process of one thread, 30 slices of 512×512 a study, all results; Orthanc on this machine.
The start of the program and the search are counted in.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).parents[1] / "support/server"))

from bleedmap.phantom.dicom import CtOptions, ct_instances, write_series
from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from orthanc_server import run_orthanc


def main(folder: Path, count: int) -> None:
    """Print a line for each way."""
    head = make_phantom(PhantomSettings(seed=1, shape=(30, 512, 512), bleeds=(Bleed("IPH", 20.0),))).volume
    for number in range(count):
        write_series(folder / f"studies/{number}", ct_instances(head, options=CtOptions(seed=number)))
    with run_orthanc(folder / "orthanc", dicomweb=True) as orthanc:
        for path in (folder / "studies").rglob("*.dcm"):
            orthanc.ask("/instances", path.read_bytes())
        url = f"http://127.0.0.1:{orthanc.http_port}/dicom-web"
        ways = (
            ("folder", folder / "studies", ()), ("DICOMweb", url, ()), ("DICOMweb, results back", url, ("--send", url)),
        )  # fmt: skip
        for name, source, more in ways:
            command = [sys.executable, "-m", "bleedmap", "batch", source, "-o", folder / name, *more]
            started = time.monotonic()
            subprocess.run(
                [*map(str, command), "--processes", "1", "--threads", "1", "--precision", "fp32"], check=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            took_s = time.monotonic() - started
            print(f"{name}: {count} studies in {took_s:.1f} s, {60 * count / took_s:.1f} a minute", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
