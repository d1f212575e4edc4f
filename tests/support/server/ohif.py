"""OHIF's own build before a DICOMweb server: the files of its npm package, and a proxy on the same origin."""

import json
import os
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from free_port import free_port

PACKAGE = "@ohif/app@3.12.10"  # 3.13 needs Node 24
# Its default configuration points to a server on the internet.
_SOURCE = {
    "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb", "sourceName": "here",
    "configuration": {
        "friendlyName": "here", "name": "here", "wadoUriRoot": "/dicomweb", "qidoRoot": "/dicomweb",
        "wadoRoot": "/dicomweb", "imageRendering": "wadors", "thumbnailRendering": "wadors",
        "qidoSupportsIncludeField": True, "enableStudyLazyLoad": True, "supportsFuzzyMatching": False,
        "supportsWildcard": True, "omitQuotationForMultipartRequest": True,
    },
}  # fmt: skip
_SETTINGS = {
    "routerBasename": "/", "extensions": [], "modes": [], "showStudyList": True, "maxNumberOfWebWorkers": 2,
    "showCPUFallbackMessage": False, "showLoadingIndicator": True, "strictZSpacingForVolumeViewport": True,
    "defaultDataSourceName": "here", "investigationalUseDialog": {"option": "never"}, "dataSources": [_SOURCE],
}  # fmt: skip
CONFIG = f"window.config = {json.dumps(_SETTINGS)};"


def fetch_ohif(cache: Path) -> Path:
    """The package's `dist`, fetched from the npm registry once."""
    dist = cache / "package/dist"
    if not dist.is_dir():
        if shutil.which("npm") is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("needs npm")
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=cache, check=True, timeout=300)
        with tarfile.open(next(cache.glob("ohif-app-*.tgz"))) as packed:
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not in Python before 3.11.4
            packed.extractall(cache, **safely)  # type: ignore[arg-type]
    return dist


@contextmanager
def serve_ohif(dist: Path, dicomweb: str, headers: dict[str, str]) -> Iterator[str]:
    """Serve OHIF with `dicomweb` (a URL) under /dicomweb; yield its URL."""
    client = httpx.Client(base_url=dicomweb, headers=headers, timeout=60)

    def answer(request: Request) -> Response:
        path = request.path_params["path"]
        if path == "app-config.js":
            return Response(CONFIG, media_type="text/javascript")
        if path.startswith("dicomweb/"):
            query = f"?{request.url.query}" if request.url.query else ""
            accept = {"Accept": request.headers.get("accept", "*/*")}
            back = client.get(f"{path.removeprefix('dicomweb')}{query}", headers=accept)
            return Response(back.content, back.status_code, {"Content-Type": back.headers.get("content-type", "")})
        file = dist / path
        return FileResponse(file if file.is_file() else dist / "index.html")

    app = Starlette(routes=[Route("/{path:path}", answer)])
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
