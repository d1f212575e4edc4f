"""OHIF's own build shows a study and our segmentation on it, from our DICOMweb and from Orthanc's."""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import open_browser
from ohif import fetch_ohif, serve_ohif
from orthanc_server import run_orthanc
from server_studies import add_study, phantom, scanned
from server_web import serve_web, small_settings

pytestmark = pytest.mark.exhaustive  # a package of 48 MB, and a viewer that is slow without a GPU
_LINE = (215, 25, 28)  # the colour that our segmentation asks for


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetch_ohif(tmp_path_factory.mktemp("ohif"))


@pytest.fixture(scope="module")
def dicomweb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, dict[str, str]]]]:
    """Both servers with the same study: name -> its DICOMweb and what it asks for."""
    folder = tmp_path_factory.mktemp("viewed")
    instances = scanned()
    with serve_web(small_settings(folder)) as server, run_orthanc(folder / "orthanc", dicomweb=True) as orthanc:
        uid = instances[0].StudyInstanceUID
        number = add_study(server.place, server.database, instances, phantom().mask.array, uid=uid)
        for path in (*server.place.dicom(number, 1).glob("*.dcm"), *server.place.results(number, 1).rglob("*.dcm")):
            orthanc.ask("/instances", path.read_bytes())
        token = (server.place.root / "keys/dicomweb-token").read_text().strip()
        yield {
            "ours": (f"{server.url}/dicomweb", {"Authorization": f"Bearer {token}"}),
            "orthanc": (f"http://127.0.0.1:{orthanc.http_port}/dicom-web", {}),
        }


@pytest.mark.parametrize("which", ["ours", "orthanc"])
def test_ohif_draws_our_segmentation(
    which: str, dist: Path, dicomweb: dict[str, tuple[str, dict[str, str]]], tmp_path: Path
) -> None:
    first = scanned()[0]
    with serve_ohif(dist, *dicomweb[which]) as url, open_browser(1400, 900, strict=False) as page:
        page.set_default_timeout(240_000)
        page.goto(f"{url}/viewer?StudyInstanceUIDs={first.StudyInstanceUID}")
        page.get_by_text("Skip all").dispatch_event("click")  # the tour of the first visit, which moves for long
        for series in ("Head 5.0", "bleedmap: hemorrhage", "bleedmap: pictures", "bleedmap: bleed marked"):
            page.get_by_text(series).first.wait_for()
        page.get_by_text("SEG", exact=True).first.dispatch_event("dblclick")
        page.get_by_text("Yes", exact=True).first.dispatch_event("click")
        page.get_by_text("Do you want to open this Segmentation?").wait_for(state="hidden")
        page.wait_for_timeout(2000)
        shown = page.locator("canvas.cornerstone-canvas").first
        picture = np.asarray(Image.open(BytesIO(shown.screenshot())).convert("RGB")).astype(int)
        place = re.search(r"I:\s*(\d+)", page.locator("body").inner_text())
    near = np.abs(picture - _LINE).max(axis=2) < 12
    assert near.sum() > 100, near.sum()
    assert place is not None
    marked = {int(scanned()[one].InstanceNumber) for one in np.flatnonzero(phantom().mask.array.any(axis=(1, 2)))}
    assert int(place[1]) in marked
