"""The program without what POSIX alone has: see `support/other_system/sitecustomize.py`"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny_network
from bleedmap.phantom.dicom import CtOptions, ct_instances, write_series
from bleedmap.phantom.head import PhantomSettings, make_phantom
from dicom_sender import send
from free_port import free_port
from running_server import run_server, spot_settings
from server_studies import scanned

SHIM = Path(__file__).parents[1] / "support/other_system"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run bleedmap there, on a console of code page 1252; its folder is the module's."""
    folder = tmp_path_factory.mktemp("other-system")
    tiny_network.write_spot_network(folder / "tiny.onnx")
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(SHIM), *filter(None, sys.path)]),
        "BLEEDMAP_TEST_FOLDER": str(folder), "PYTHONIOENCODING": "cp1252:strict",
        "PYTHONWARNDEFAULTENCODING": "1", "BLEEDMAP_CACHE": "off",  # whose it is, is asked by platform
    }  # fmt: skip

    def one(*words: object, code: int = 0) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "bleedmap", *map(str, words)], env=environment, cwd=folder, capture_output=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert (ended.returncode, b"Traceback" in ended.stderr) == (code, False), ended.stderr.decode("cp1252")
        return ended.stdout.decode("cp1252")

    one.folder, one.environment = folder, environment  # type: ignore[attr-defined]
    return one


def test_the_shim_takes_away_and_refuses(run: Any) -> None:
    """Else the tests below could not fail."""
    code = (
        "import os, signal, multiprocessing, sys\n"
        "assert multiprocessing.get_start_method() == 'spawn' and not hasattr(os, 'geteuid')\n"
        "assert not hasattr(signal, 'SIGHUP') and sys.stdout.encoding == 'cp1252'\n"
        "for name in ('a:b', 'con.txt', 'end.', 'x' * 241, 'what?'):\n"
        "    try: open(os.path.join(os.environ['BLEEDMAP_TEST_FOLDER'], name), 'w')\n"
        "    except OSError as error: assert 'Windows' in str(error), error\n"
        "    else: raise AssertionError(name)\n"
        "try: import fcntl\n"
        "except ImportError: pass\n"
        "else: raise AssertionError\n"
    )
    environment = {
        **os.environ, "PYTHONPATH": str(SHIM), "BLEEDMAP_TEST_FOLDER": str(run.folder), "PYTHONIOENCODING": "cp1252",
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.exhaustive
def test_studies_are_made_segmented_and_batched(run: Any) -> None:
    weights = ("--weights", run.folder / "tiny.onnx", "--accept", "slice-count")
    size = ("--shape", 12, 64, 64, "--spacing", 10, 3.6, 3.6)
    run("phantom", "-o", run.folder / "studies/of 頭 1/study", "--dicom", "--bleed", "IPH:30", *size)
    head = make_phantom(PhantomSettings(seed=1, shape=(12, 64, 64), spacing_mm=(10.0, 3.6, 3.6))).volume
    for seed, name in enumerate(("con", "Head", "HEAD"), start=1):
        write_series(run.folder / f"studies/of {name}/study", ct_instances(head, options=CtOptions(seed=seed)))
    run("phantom", "-o", run.folder / "studies/Schädel.nii.gz", *size)
    out = run("segment", run.folder / "studies/of 頭 1", "-o", run.folder / "one", *weights)
    assert "report.html" in out
    batch = ("batch", run.folder / "studies", "-o", run.folder / "all", "--processes", 2, *weights)
    told = json.loads(run(*batch, "--json"))
    assert len(told["studies"]) == 5
    results = sorted(path.parent.name for path in (run.folder / "all").glob("*/report.html"))
    assert len({name.casefold() for name in results}) == 5  # no two are one where case does not count
    run(*batch)  # nothing is done again


def test_help_tables_and_errors_fit_the_console(run: Any) -> None:
    for words in (("--help",), ("batch", "--help"), ("models",), ("data", "--help")):
        assert run(*words)
    run("segment", run.folder / "absent 頭", "-o", run.folder / "nothing", code=2)


@pytest.mark.exhaustive
def test_two_shards_and_their_tables(run: Any) -> None:
    weights = ("--weights", run.folder / "tiny.onnx", "--accept", "slice-count")
    for shard in ("1/2", "2/2"):
        run("batch", run.folder / "studies", "-o", run.folder / "shards", "--shard", shard, *weights)
    run("batch", run.folder / "studies", "-o", run.folder / "shards", "--merge")
    lines = (run.folder / "shards/summary.csv").read_text("utf-8-sig").splitlines()
    assert len(lines) == 6


@pytest.mark.exhaustive
def test_a_study_is_served(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in run.environment.items():
        monkeypatch.setenv(name, value)
    port, folder = free_port(), run.folder / "server"
    folder.mkdir()
    with run_server(spot_settings(folder, port), port) as server:
        assert set(send(port, scanned())) == {0}
        (row,) = server.wait(lambda rows: any(one["state"] == "delivered" for one in rows), 120)
        assert row["verdict"] == "bleed marked"
