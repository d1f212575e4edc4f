"""A batch on a Ray cluster: results as of one process, whatever is killed; nodes that cannot work are named."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path

import pytest

from batch_runs import rows_of, until
from bleedmap.archive import run as batch
from bleedmap.archive.find import find_studies
from bleedmap.archive.ledger import Job, Ledger
from bleedmap.archive.run import Workers, run_batch
from bleedmap.archive.shards import batch_ledger
from bleedmap.archive.workers import Share
from bleedmap.errors import SettingsError
from bleedmap.study.segment import Segmenter
from command_line import run
from ray_load import check, finish, make_archive, run_with_kills, start, turns
from ray_nodes import Nodes, run_nodes
from tiny_network import write_tiny_network


def test_a_node_has_room_for_what_it_has_most_need_of():
    share = Share(2, 1, 10**9)
    assert share.count({"CPU": 8, "GPU": 3, "memory": 9e9}) == 3
    assert share.count({"CPU": 8, "memory": 9e9}) == 0
    assert Share(2, memory=10**9).count({"CPU": 8, "memory": 2.5e9}) == 2


def test_ends_of_processes_are_counted_within_one_run(tmp_path: Path):
    ledger, job = Ledger(tmp_path, ".batch"), Job("one", "digest", {})
    for ends in range(3):
        assert ledger.count_ends(job, "first") == ends
        (ledger.begin(job, "first") / "part").touch()
    assert ledger.count_ends(job, "second") == ledger.count_ends(job, "") == 0
    ledger.finish(job, {})
    assert ledger.count_ends(job, "first") == 0


@pytest.mark.parametrize(
    ("address", "found"),
    [("127.0.0.2:1", "nothing answers"), ("nonsense", "no address"), ("ray://head:10001", "no address"),
     ("head:70000", "nothing answers"), ("auto", "running Ray")],
)  # fmt: skip
def test_where_there_is_no_cluster_it_is_said_at_once(address, found, heads_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert run("batch", heads_folder, "-o", tmp_path / "out", "--ray", address) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert found in told
    assert "needed: a Ray cluster" in told
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def heads_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("heads") / "few", 1)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with run_nodes(0, 1, 1) as found:
        yield found


@pytest.mark.exhaustive
def test_killed_nodes_and_a_killed_driver_lose_nothing(nodes: Nodes, tmp_path: Path):
    count = 20
    archive = make_archive(tmp_path, count)
    kept = run_with_kills(archive, tmp_path / "out", nodes, count)
    finish(archive, tmp_path / "whole", "--processes", 1)
    assert len(list(check(tmp_path / "out", tmp_path / "whole", kept, count))) == 2
    assert len(kept) >= 0.6 * count


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_clean_and_the_next_run_goes_on(number, nodes: Nodes, tmp_path: Path):
    archive, out = make_archive(tmp_path, 24), tmp_path / "out"
    process = start(archive, out, "--ray", nodes.address)
    until(lambda: process.poll() is not None or len(turns(out)) >= 3)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "give the same command again" in told
    assert "Traceback" not in told
    assert (out / "summary.csv").is_file()
    kept = turns(out)
    finish(archive, out, "--processes", 1)  # without the cluster: the test above goes on with it
    assert kept.items() <= turns(out).items()
    assert len(rows_of(out)) == 24


@pytest.mark.exhaustive
def test_a_study_that_kills_its_actor_fails_and_the_others_do_not(nodes: Nodes, tmp_path: Path, monkeypatch):
    from bleedmap.archive.cluster import Cluster, connect

    archive, out, load = make_archive(tmp_path, 7), tmp_path / "out", batch._load_on_node

    def load_deadly(*given):
        do = load(*given)

        class Deadly:
            def segment(self, study, **rest):
                if study.name == "0003_head":
                    os.kill(os.getpid(), signal.SIGKILL)
                return do.args[0].segment(study, **rest)

        return partial(do.func, Deadly())

    monkeypatch.setattr(batch, "_load_on_node", load_deadly)
    workers = Workers(0, str(tmp_path / "tiny.onnx"), precision="fp32", threads=1)
    with connect(nodes.address):
        found = find_studies(archive, out)
        cluster = Cluster(batch_ledger(out).state, [archive])
        summary = run_batch(found, out, Segmenter.load(workers.weights), workers=workers, cluster=cluster)
    rows = {row["name"]: row for row in summary["studies"]}
    failed = rows.pop("0003_head")
    assert failed["status"] == "failed"
    assert "ended 3 times" in failed["error"]
    assert {row["status"] for row in rows.values()} == {"found", "not found"}
    assert len(rows) == 6


@pytest.mark.exhaustive
def test_a_node_with_another_bleedmap_is_named(nodes: Nodes, tmp_path: Path):
    (tmp_path / "other/bleedmap").mkdir(parents=True)
    (tmp_path / "other/bleedmap/__init__.py").write_text('__version__ = "0.0.1"\n')
    archive, out = make_archive(tmp_path, 7), tmp_path / "out"
    nodes.add(env_vars={"PYTHONPATH": str(tmp_path / "other")})
    process = start(archive, out, "--ray", nodes.address)
    _, told = process.communicate(timeout=120)
    nodes.kill(-1)
    assert process.returncode == 2, told
    assert f"node {os.uname().nodename}" in told
    assert "bleedmap 0.0.1" in told
    assert "Traceback" not in told
    assert not turns(out)


@pytest.mark.exhaustive
def test_a_node_that_does_not_see_a_folder_is_named(nodes: Nodes, tmp_path: Path):
    from bleedmap.archive.cluster import Cluster, connect

    with connect(nodes.address), pytest.raises(SettingsError, match="does not see") as told:
        Cluster(tmp_path, [tmp_path / "nowhere"]).run(lambda: abs, [1], lambda actor, result: None, Share())
    assert told.value.subject.startswith(f"node {os.uname().nodename}")
    assert "--shard" in told.value.remedy


@pytest.mark.exhaustive
def test_a_node_that_comes_later_and_cannot_work_is_left_out(nodes: Nodes, tmp_path: Path, monkeypatch):
    """And one whose network is another refuses as well: what decides on results is compared there."""
    from bleedmap.archive import cluster

    warnings, done = list[str](), list[int]()
    (tmp_path / "bleedmap").mkdir()
    (tmp_path / "bleedmap/__init__.py").write_text('__version__ = "0.0.1"\n')
    monkeypatch.setattr(cluster, "_LOOK_S", 0.5)

    def slow():
        return lambda task: time.sleep(0.1) or task

    def note(actor: int, task: int) -> None:
        if not done:
            nodes.add(env_vars={"PYTHONPATH": str(tmp_path)})
        done.append(task)

    with cluster.connect(nodes.address):
        until_warned = takewhile(lambda task: not warnings, range(1, 3001))
        cluster.Cluster(tmp_path, [], warnings.append).run(slow, until_warned, note, Share())
    nodes.kill(-1)
    assert sorted(done) == list(range(1, len(done) + 1))
    assert len(warnings) == 1
    assert "not used: node" in warnings[0]
    assert "bleedmap 0.0.1" in warnings[0]


@pytest.mark.exhaustive
def test_another_network_on_a_node_is_refused_and_named(nodes: Nodes, tmp_path: Path, monkeypatch):
    from bleedmap.archive.cluster import Cluster, connect

    archive, out = make_archive(tmp_path, 1), tmp_path / "out"
    write_tiny_network(tmp_path / "other.onnx")
    workers = Workers(0, str(tmp_path / "other.onnx"), precision="fp32", threads=1)
    segmenter, found = Segmenter.load(str(tmp_path / "tiny.onnx"), precision="fp32"), find_studies(archive, out)
    cluster = Cluster(batch_ledger(out).state, [archive])
    with connect(nodes.address), pytest.raises(SettingsError, match="weights_sha256") as told:
        run_batch(found, out, segmenter, workers=workers, cluster=cluster)
    assert told.value.subject.startswith(f"node {os.uname().nodename}")


def test_the_error_of_a_version_is_explained():
    from bleedmap.archive.cluster import _explain

    error = ConnectionError("Failed to connect to Ray cluster at head:1")
    error.__cause__ = RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.1\n")
    told = _explain("head:1", error)
    assert isinstance(told, SettingsError)
    assert "Ray: 2.1" in told.found
    assert "pip install" in told.remedy


@pytest.mark.exhaustive
def test_a_cluster_of_ones_own_takes_work_by_a_token_and_ends_with_the_command(tmp_path: Path):
    archive = make_archive(tmp_path, 2)
    process = start(archive, tmp_path / "out", "--ray", "local", "--processes", 1)
    servers: dict[int, bytes] = {}  # id -> environment
    until(lambda: servers.update(own_servers(process.pid)) or bool(servers) or process.poll() is not None)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert len(rows_of(tmp_path / "out")) == 2
    assert servers
    assert all(b"RAY_AUTH_MODE=token" in one for one in servers.values())
    until(lambda: not any(Path(f"/proc/{number}").exists() for number in servers))


def own_servers(parent: int) -> dict[int, bytes]:
    """The head's servers among the children of a process, with their environments."""
    found = {}
    for number in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()):
        try:
            if b"gcs_server" in Path(f"/proc/{number}/cmdline").read_bytes():
                found[number] = Path(f"/proc/{number}/environ").read_bytes()
        except OSError:  # it has ended
            continue
    return found
