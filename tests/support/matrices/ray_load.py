"""A batch on a Ray cluster of three nodes on this machine: nodes and driver killed in the middle, and its speed.

Run as a script it prints the table in Markdown: `python tests/support/matrices/ray_load.py FOLDER [STUDIES] [TIMED]`.
FOLDER is made; the first STUDIES are done with kills, TIMED of them for the speed. Give two idle cores.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from batch_runs import begun, files_of, lasting, rows_of, until
from bleedmap.io import nifti
from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from ray_nodes import Nodes, run_nodes
from tiny_network import write_spot_network

os.environ["BLEEDMAP_CACHE"] = "off"
FLAGS = ("--precision", "fp32")


def make_archive(folder: Path, count: int) -> Path:
    """Phantoms of 14 slices of 64×64 in folders of their own, every other one with a bleed; and a tiny network."""
    heads = []
    for bleeds in ((Bleed("IPH", 30.0, "left"),), ()):
        settings = PhantomSettings(seed=1, spacing_mm=(10.0, 3.6, 3.6), shape=(14, 64, 64), bleeds=bleeds)
        heads.append(make_phantom(settings).volume)
    for number in range(count):
        place = folder / f"archive/{number:04}"
        place.mkdir(parents=True)
        nifti.write(place / "head.nii", heads[number % 2])
    write_spot_network(folder / "tiny.onnx")
    return folder / "archive"


def start(archive: Path, out: Path, *flags: object):
    """Begin a batch, as a command."""
    weights = archive.parent / "tiny.onnx"
    return begun(archive, "-o", out, "--weights", weights, *FLAGS, *flags)


def finish(archive: Path, out: Path, *flags: object) -> float:
    """Seconds of a whole batch."""
    began = time.monotonic()
    process = start(archive, out, *flags)
    _, told = process.communicate(timeout=3600)
    assert process.returncode == 0, told
    return time.monotonic() - began


def turns(out: Path) -> dict[str, str]:
    """Record -> which turn made it: another where a study was done again."""
    found = {}
    for path in (out / ".batch/done").glob("[!.]*.json"):
        found[path.name] = json.loads(path.read_text("utf-8"))["turn"]
    return found


def run_with_kills(archive: Path, out: Path, nodes: Nodes, count: int) -> dict[str, str]:
    """A batch whose worker node is killed and replaced, whose driver is killed and begun again, and once more a node.

    Returns:
        The records that were there when the driver was killed, or the second node.
    """
    kept: dict[str, str] = {}

    def wait_for(share: float) -> None:
        until(lambda: process.poll() is not None or len(turns(out)) >= share * count)
        assert process.poll() is None, process.communicate()
        kept.update(turns(out))

    process = start(archive, out, "--ray", nodes.address)
    wait_for(0.2)
    nodes.kill()
    nodes.add()
    wait_for(0.4)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = start(archive, out, "--ray", nodes.address)
    wait_for(0.6)
    nodes.kill()
    nodes.add()
    _, told = process.communicate(timeout=3600)
    assert process.returncode == 0, told
    return kept


def check(out: Path, whole: Path, kept: dict[str, str], count: int) -> Iterator[str]:
    """Yield what was found, in words; an error where a study is missing, doubled or another than in one process."""
    rows, made = rows_of(out), turns(out)
    assert len(rows) == len(made) == count
    assert max(Counter(row["source"] for row in rows.values()).values()) == 1
    assert {name: made[name] for name in kept} == kept  # no finished study was done again
    assert not list((out / ".batch/work").iterdir())
    yield f"{len(rows):,} of {count:,} studies, each once; of {len(kept):,} finished before a kill none again"
    assert lasting(rows) == lasting(rows_of(whole))
    assert files_of(out) == files_of(whole)
    yield f"{len(files_of(out)):,} masks and probabilities with the same bytes as of one process"


def main(folder: Path, count: int, timed: int) -> None:
    """Do all of it, and print the table."""
    archive = make_archive(folder, count)
    alone = finish(archive, folder / "alone", "--processes", 1)
    with run_nodes(0, 1, 1) as nodes:
        began = time.monotonic()
        kept = run_with_kills(archive, folder / "killed", nodes, count)
        seconds = time.monotonic() - began
    print(f"| {count:,} studies, a head and two nodes of one CPU | |\n| --- | --- |")
    for words in check(folder / "killed", folder / "alone", kept, count):
        print(f"| two nodes and the driver killed, {seconds:.0f} s | {words} |")
    print(f"| the same in one process | {alone:.0f} s |")
    few = make_archive(folder / "few", timed)
    with run_nodes(0, 1, 1) as nodes:
        for turn in range(2):
            local = finish(few, folder / f"local-{turn}", "--processes", 2, "--threads", 1)
            ray = finish(few, folder / f"ray-{turn}", "--ray", nodes.address)
            each = 1000 * (ray - local) / timed
            words = f"{local:.1f} and {ray:.1f} s: {local / ray:.2f} ×, {each:+.1f} ms a study, start and end included"
            print(f"| {timed:,} studies, two processes of `batch`, and two actors | {words} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(one) for one in [*sys.argv[2:], "1000", "300"][:2]))
